//! Names of kernel objects.

use skep_sys::abi::{Errno, OBJ_NAME_MAX};

/// Checks a name as `bpf_obj_name_cpy` does: at most 15 letters, digits, underscores and dots.
pub(crate) fn check_name(name: &str) -> Result<(), Errno> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if name.len() <= OBJ_NAME_MAX && name.bytes().all(good) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Whether an object that the kernel knows by `kept` is the one that the user calls `name`, which may be longer than what is kept.
pub(crate) fn is_called(kept: &str, name: &str) -> bool {
    kept == name || kept.len() == OBJ_NAME_MAX && name.starts_with(kept)
}

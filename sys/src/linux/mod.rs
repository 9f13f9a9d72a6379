//! The Linux kernel that this process runs on.

mod mapping;

pub(crate) use mapping::Mapping;

use crate::abi::Errno;

/// The error of the libc call that failed just now on this thread.
fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::EIO, Errno)
}

//! The file system of pins: whether one is mounted, and mounting one.
//!
//! Distributions mount a bpffs at `/sys/fs/bpf`. Containers, initial RAM disks and new mount namespaces may have none, and
//! a mount namespace of its own may have another one than the rest of the machine.

use std::path::Path;

use skep_sys::Kernel;
use skep_sys::abi::Errno;

use crate::error::Error;
use crate::load::pin_all::failed;

/// Whether a path exists and lies on a bpffs, in the mount namespace of the calling thread.
///
/// # Errors
///
/// [`Error::Pin`] when the path cannot be looked at.
pub fn is_mounted(kernel: &Kernel, path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    kernel.backend().is_bpffs(path).map_err(|errno| failed(kernel, path, "look at it", errno))
}

/// Mounts a bpffs at a path if the path is on none (`mount(2)`), as nothing else in skep does by itself. Answers whether it did.
/// The directory is made if it is not there; its parent must be. Its mode is 0700.
///
/// The mount is for the mount namespace of the calling thread, and stays after the process. Every mount is a file system of its own:
/// what is pinned elsewhere is not in it. It needs `CAP_SYS_ADMIN` in the user namespace that the mount namespace belongs
/// to; a bpffs that was mounted in another user namespace than the first gives no rights that the process does not have.
///
/// ```
/// use skep::sim::SimKernel;
/// use skep::{Kernel, bpffs};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kernel = Kernel::new(SimKernel::builder().bpffs(["/sys/fs/bpf"]).build()?);
/// assert!(!bpffs::ensure(&kernel, "/sys/fs/bpf")?); // it is there
/// assert!(bpffs::ensure(&kernel, "/run/skep-example-bpf")?);
/// assert!(bpffs::is_mounted(&kernel, "/run/skep-example-bpf")?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Pin`].
pub fn ensure(kernel: &Kernel, path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    if is_mounted(kernel, path)? {
        return Ok(false);
    }
    kernel.backend().mount_bpffs(path).map(|()| true).map_err(|source| {
        let hint = match source {
            Errno::EPERM => {
                " (the process needs CAP_SYS_ADMIN in the user namespace that its mount namespace belongs to)"
            }
            Errno::ENODEV => " (the kernel is built without a bpffs)",
            Errno::ENOENT => " (its parent directory must exist)",
            Errno::ENOTDIR => " (it is no directory)",
            Errno::EROFS => {
                " (its parent is on a read-only file system: make the directory there, or mount elsewhere)"
            }
            _ => "",
        };
        Error::Pin { path: path.to_owned(), step: "mount a bpffs there", hint: hint.to_owned(), source }
    })
}

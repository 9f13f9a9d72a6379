//! The bpf(2) system call, and what every call goes through.
//!
//! Unsafe code is allowed here because a system call is.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::attr::Attr;
use crate::abi::{Errno, OBJ_NAME_MAX};

/// Descriptors 0 to 2 are standard streams to most programs, and 0 means "none" in many bpf(2) attributes.
const LOWEST_FD: libc::c_int = 3;

/// The error of the libc call that failed just now on this thread.
pub(super) fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::EIO, Errno)
}

/// Makes one call of bpf(2).
///
/// # Safety
/// Every address in `attr` is 0 or points to memory that is valid for what the command does with it, for as many
/// bytes as the attribute says or the command implies.
pub(super) unsafe fn bpf<A: Attr>(command: u32, attr: &mut A) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is exclusively borrowed for `size_of::<A>()` bytes, which is the length that is passed; what it
    // points to is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, libc::c_long::from(command), std::ptr::from_mut(attr), size_of::<A>())
    };
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// Makes one call of bpf(2) that answers a descriptor.
///
/// # Safety
/// As for [`bpf`].
pub(super) unsafe fn bpf_fd<A: Attr>(command: u32, attr: &mut A) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel made this descriptor (close-on-exec) for this call, so nobody else owns it.
    above_streams(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The same object by a descriptor that is no standard stream.
pub(super) fn above_streams(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() >= LOWEST_FD {
        return Ok(fd);
    }
    // SAFETY: fcntl reads no memory here; `fd` is open.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, LOWEST_FD) };
    if copy < 0 {
        return Err(errno());
    }
    // SAFETY: fcntl made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Index of a network device of the current network namespace.
pub(super) fn ifindex(name: &std::ffi::OsStr) -> Result<u32, Errno> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `name` is a NUL-terminated string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(errno()) } else { Ok(index) }
}

/// A descriptor as attributes hold it.
pub(super) fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A descriptor as attributes hold it, 0 for none.
pub(super) fn raw_or_0(fd: Option<BorrowedFd<'_>>) -> u32 {
    fd.map_or(0, raw)
}

/// Address of memory that the kernel reads, 0 when there is none.
pub(super) fn address<T>(memory: &[T]) -> u64 {
    if memory.is_empty() { 0 } else { memory.as_ptr().expose_provenance() as u64 }
}

/// Address of memory that the kernel writes, 0 when there is none.
pub(super) fn address_mut<T>(memory: &mut [T]) -> u64 {
    if memory.is_empty() { 0 } else { memory.as_mut_ptr().expose_provenance() as u64 }
}

/// A length as attributes hold it.
pub(super) fn length(len: usize) -> Result<u32, Errno> {
    u32::try_from(len).map_err(|_| Errno::E2BIG)
}

/// A name as attributes hold it: NUL-terminated in 16 bytes.
pub(super) fn name(name: &str) -> Result<[u8; OBJ_NAME_MAX + 1], Errno> {
    let mut bytes = [0; OBJ_NAME_MAX + 1];
    if name.len() > OBJ_NAME_MAX || name.contains('\0') {
        return Err(Errno::EINVAL);
    }
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Ok(bytes)
}

/// A string that the kernel gives: up to its NUL, with what is no UTF-8 replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A path as the kernel takes it.
pub(super) fn path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

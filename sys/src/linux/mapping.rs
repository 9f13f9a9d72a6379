//! Shared mappings of a map's memory.
//!
//! Unsafe code is allowed here because mmap(2) and munmap(2) are.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use crate::abi::Errno;

/// A shared mapping, unmapped when dropped.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: a mapping belongs to the process; nothing ties it to the thread that made it.
unsafe impl Send for Mapping {}
// SAFETY: this type itself gives no access to the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(fd: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> Result<Mapping, Errno> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // SAFETY: no address is asked for, so the kernel picks one where nothing is mapped; `fd` is open.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if base == libc::MAP_FAILED {
            return Err(super::call::errno());
        }
        // Address 0 is never chosen unless asked for.
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::EFAULT)?;
        Ok(Mapping { base, len, writable })
    }

    /// Start, a multiple of the page size.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap answered, and `self` was the only owner. A failure leaks the
        // mapping, and cannot happen with these arguments.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

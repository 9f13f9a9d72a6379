//! Shared mappings of a map's memory.
//!
//! Unsafe code is allowed here because mmap(2) and munmap(2) are.

#![allow(unsafe_code)]

use std::any::Any;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use crate::abi::Errno;
use crate::request::MapMemory;

/// A shared mapping, unmapped when dropped.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    /// Given back when nothing is mapped any more.
    _only: Option<Box<dyn Any + Send + Sync>>,
}

// SAFETY: a mapping belongs to the process; nothing ties it to the thread that made it.
unsafe impl Send for Mapping {}
// SAFETY: this type itself gives no access to the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(fd: BorrowedFd<'_>, memory: MapMemory) -> Result<Mapping, Errno> {
        let MapMemory { len, writable, .. } = memory;
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(memory.offset).map_err(|_| Errno::EINVAL)?;
        let (address, flags) = match memory.address {
            None => (0, libc::MAP_SHARED),
            Some(0) => return Err(Errno::EINVAL),
            Some(address) => (
                usize::try_from(address).map_err(|_| Errno::EINVAL)?,
                libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
            ),
        };
        let hint = std::ptr::without_provenance_mut::<libc::c_void>(address);
        // SAFETY: without an address the kernel picks one where nothing is mapped, and with one it refuses those where
        // something is (before Linux 4.17 it takes it for a wish); `fd` is open.
        let base = unsafe { libc::mmap(hint, len, protection, flags, fd.as_raw_fd(), offset) };
        if base == libc::MAP_FAILED {
            return Err(super::call::errno());
        }
        // Address 0 is never chosen unless asked for.
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::EFAULT)?;
        let mapping = Mapping { base, len, writable, _only: None };
        if address != 0 && mapping.base.addr().get() != address {
            return Err(Errno::EEXIST);
        }
        Ok(mapping)
    }

    /// The same mapping as the only one of something, which `only` stands for until nothing is mapped any more.
    pub(super) fn only(mut self, only: impl Any + Send + Sync) -> Mapping {
        self._only = Some(Box::new(only));
        self
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

//! Memory that a kernel writes while we read it.
//!
//! Unsafe code is allowed here because the memory is seen through a raw pointer: it belongs to a mapping, or to a
//! shared vector of atomics, and is only ever touched by atomic operations.

#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::TouchedPages;

/// Why memory that is shared with a kernel cannot be accessed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// The access is not inside of the memory.
    #[error("{len} bytes at {offset} are outside of {size} bytes of shared memory")]
    OutOfRange {
        /// Where the access starts.
        offset: usize,
        /// How many bytes it takes.
        len: usize,
        /// Size of the memory in bytes.
        size: usize,
    },
    /// An atomic access has to start at a multiple of its size.
    #[error("atomic access of {len} bytes at {offset} is not aligned")]
    Misaligned {
        /// Where the access starts.
        offset: usize,
        /// How many bytes it takes.
        len: usize,
    },
    /// The memory may only be read.
    #[error("shared memory is read-only")]
    ReadOnly,
}

/// A view of memory that is shared with a kernel or with programs that run in it.
///
/// All access is atomic, so a racing writer gives old or new bytes and never undefined behaviour. Copies are made
/// word by word with relaxed ordering: whoever needs a consistent record orders it by an atomic position, as ring
/// buffers do. It starts at a multiple of 8 bytes.
pub struct SharedMemory {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    /// Keeps `base..base + len` valid.
    owner: Owner,
    /// Is told which pages are accessed.
    touched: Option<Arc<TouchedPages>>,
    _claim: Option<Box<dyn Any + Send + Sync>>,
}

enum Owner {
    Heap {
        _words: Arc<[AtomicU64]>,
    },
    #[cfg(target_os = "linux")]
    Mapping {
        _mapping: crate::linux::Mapping,
    },
}

// SAFETY: `base` points to memory that `owner` keeps valid wherever it is dropped, and all access to its `len` bytes
// is atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Zeroed words for [`heap`](SharedMemory::heap), whose pages take memory when they are touched.
    pub fn zeroed_words(count: usize) -> Arc<[AtomicU64]> {
        // SAFETY: all bytes zero are an `AtomicU64` of 0.
        unsafe { Arc::new_zeroed_slice(count).assume_init() }
    }

    /// A view of words on the heap, for simulated kernels, which keep the other reference.
    pub fn heap(words: Arc<[AtomicU64]>, writable: bool) -> SharedMemory {
        let base = NonNull::from(&*words).cast::<u8>();
        SharedMemory {
            base,
            len: size_of_val(&*words),
            writable,
            owner: Owner::Heap { _words: words },
            touched: None,
            _claim: None,
        }
    }

    /// A view of a part of such words, from a byte on that is a multiple of 8; none where that is not all inside.
    pub fn heap_part(
        words: Arc<[AtomicU64]>,
        start: usize,
        len: usize,
        writable: bool,
    ) -> Option<SharedMemory> {
        let mut memory = SharedMemory::heap(words, writable);
        memory.check(start, len).ok().filter(|()| start.is_multiple_of(8))?;
        // SAFETY: `base + start` is inside of the words that `owner` keeps valid, or right behind them.
        memory.base = unsafe { memory.base.add(start) };
        memory.len = len;
        Some(memory)
    }

    /// A view of a mapping, writable if the mapping is.
    #[cfg(target_os = "linux")]
    pub(crate) fn mapping(mapping: crate::linux::Mapping) -> SharedMemory {
        SharedMemory {
            base: mapping.base(),
            len: mapping.len(),
            writable: mapping.is_writable(),
            owner: Owner::Mapping { _mapping: mapping },
            touched: None,
            _claim: None,
        }
    }

    /// Notes which pages are accessed from now on, by their places in this view.
    #[must_use]
    pub fn with_touched(self, touched: Arc<TouchedPages>) -> SharedMemory {
        SharedMemory { touched: Some(touched), ..self }
    }

    /// Holds something more until the memory is no longer used, by which a simulated kernel knows that it is mapped.
    #[must_use]
    pub fn with_claim(mut self, claim: Box<dyn Any + Send + Sync>) -> SharedMemory {
        self._claim = Some(match self._claim {
            Some(before) => Box::new((before, claim)),
            None => claim,
        });
        self
    }

    /// Size in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address of the first byte in this process, for what keeps pointers to it. It is for no access.
    pub fn address(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Copies the bytes at `offset` to `to`.
    ///
    /// # Errors
    /// [`SharedMemoryError::OutOfRange`].
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), SharedMemoryError> {
        self.check(offset, to.len())?;
        let mut at = offset;
        let (head, rest) = to.split_at_mut(head_len(offset, to.len()));
        for byte in head {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
        let (words, tail) = rest.as_chunks_mut::<8>();
        for word in words {
            *word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            at += 8;
        }
        for byte in tail {
            *byte = self.byte(at).load(Ordering::Relaxed);
            at += 1;
        }
        Ok(())
    }

    /// Whether it is a mapping, which only a kernel shares, and not words that safe code may hold.
    pub(crate) fn is_mapping(&self) -> bool {
        !matches!(self.owner, Owner::Heap { .. })
    }

    /// Copies `from` to the bytes at `offset`.
    ///
    /// # Errors
    /// [`SharedMemoryError::ReadOnly`], [`SharedMemoryError::OutOfRange`].
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), SharedMemoryError> {
        self.check_writable()?;
        self.check(offset, from.len())?;
        let mut at = offset;
        let (head, rest) = from.split_at(head_len(offset, from.len()));
        for byte in head {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            self.word(at).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            at += 8;
        }
        for byte in tail {
            self.byte(at).store(*byte, Ordering::Relaxed);
            at += 1;
        }
        Ok(())
    }

    /// Reads 4 bytes at a multiple of 4 in one access, with acquire ordering.
    ///
    /// # Errors
    /// [`SharedMemoryError::OutOfRange`], [`SharedMemoryError::Misaligned`].
    pub fn load_u32(&self, offset: usize) -> Result<u32, SharedMemoryError> {
        self.check_aligned(offset, 4)?;
        Ok(self.half(offset).load(Ordering::Acquire))
    }

    /// Reads 8 bytes at a multiple of 8 in one access, with acquire ordering.
    ///
    /// # Errors
    /// [`SharedMemoryError::OutOfRange`], [`SharedMemoryError::Misaligned`].
    pub fn load_u64(&self, offset: usize) -> Result<u64, SharedMemoryError> {
        self.check_aligned(offset, 8)?;
        Ok(self.word(offset).load(Ordering::Acquire))
    }

    /// The 4 bytes at a multiple of 4 as an atomic number, in writable memory.
    ///
    /// # Errors
    /// [`SharedMemoryError::ReadOnly`], [`SharedMemoryError::OutOfRange`], [`SharedMemoryError::Misaligned`].
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, SharedMemoryError> {
        self.check_writable()?;
        self.check_aligned(offset, 4)?;
        Ok(self.half(offset))
    }

    /// The 8 bytes at a multiple of 8 as an atomic number, in writable memory.
    ///
    /// # Errors
    /// [`SharedMemoryError::ReadOnly`], [`SharedMemoryError::OutOfRange`], [`SharedMemoryError::Misaligned`].
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, SharedMemoryError> {
        self.check_writable()?;
        self.check_aligned(offset, 8)?;
        Ok(self.word(offset))
    }

    /// The bytes at `offset` themselves, without a copy.
    ///
    /// # Safety
    /// Nothing writes these bytes while they are borrowed: no kernel, no program, no other view.
    #[inline]
    pub(crate) unsafe fn lend(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len && len <= self.len - offset, "callers check the range");
        // SAFETY: `base + offset .. + len` is inside of the `len` bytes that `owner` keeps valid for the life of `self`,
        // and by the caller's promise nothing writes them while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }

    /// The place of the bytes at `offset`, to read them.
    #[inline]
    pub(crate) fn place(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(offset <= self.len && len <= self.len - offset, "callers check the range");
        // SAFETY: `base + offset .. + len` is inside of the `len` bytes that `owner` keeps valid.
        unsafe { self.base.add(offset) }
    }

    /// The start of the bytes at `offset`, to write them.
    pub(crate) fn start_of(&self, offset: usize, len: usize) -> Result<NonNull<u8>, SharedMemoryError> {
        self.check_writable()?;
        self.check(offset, len)?;
        // SAFETY: `base + offset` is inside of the `len` bytes that `owner` keeps valid, or right behind them.
        Ok(unsafe { self.base.add(offset) })
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), SharedMemoryError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {
                if let Some(touched) = &self.touched {
                    touched.touch(offset, len);
                }
                Ok(())
            }
            _ => Err(SharedMemoryError::OutOfRange { offset, len, size: self.len }),
        }
    }

    fn check_aligned(&self, offset: usize, len: usize) -> Result<(), SharedMemoryError> {
        self.check(offset, len)?;
        if offset.is_multiple_of(len) { Ok(()) } else { Err(SharedMemoryError::Misaligned { offset, len }) }
    }

    fn check_writable(&self) -> Result<(), SharedMemoryError> {
        if self.writable { Ok(()) } else { Err(SharedMemoryError::ReadOnly) }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < self.len, "callers check the range");
        // SAFETY: `base + offset` is inside of the `len` bytes that `owner` keeps valid for the life of `self`.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }

    #[inline]
    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "callers check range and alignment");
        // SAFETY: as in `byte`, for 4 bytes; `base` is a multiple of 8 and `offset` of 4. Nothing stores through it
        // unless the memory is writable.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len, "callers check range and alignment");
        // SAFETY: as in `half`, for 8 bytes and multiples of 8.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

/// How many of `len` bytes at `offset` come before the first multiple of 8.
fn head_len(offset: usize, len: usize) -> usize {
    (offset.wrapping_neg() & 7).min(len)
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            Owner::Heap { .. } => "heap",
            #[cfg(target_os = "linux")]
            Owner::Mapping { .. } => "mapping",
        };
        f.debug_struct("SharedMemory")
            .field("len", &self.len)
            .field("writable", &self.writable)
            .field("owner", &owner)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: u64) -> Arc<[AtomicU64]> {
        (0..count).map(|n| AtomicU64::new(u64::from_ne_bytes([n as u8; 8]))).collect()
    }

    #[test]
    fn any_offset_and_length_copies() {
        let words = words(4);
        let memory = SharedMemory::heap(words.clone(), true);
        let expected: Vec<u8> = (0..32).map(|i| (i * 7) as u8).collect();
        memory.write(0, &expected).unwrap();
        for start in 0..=32 {
            for end in start..=32 {
                let mut got = vec![0; end - start];
                memory.read(start, &mut got).unwrap();
                assert_eq!(got, expected[start..end], "{start}..{end}");

                let memory = SharedMemory::heap(self::words(4), true);
                memory.write(0, &[0xaa; 32]).unwrap();
                memory.write(start, &expected[start..end]).unwrap();
                let mut all = [0; 32];
                memory.read(0, &mut all).unwrap();
                for (i, byte) in all.iter().enumerate() {
                    let want = if (start..end).contains(&i) { expected[i] } else { 0xaa };
                    assert_eq!(*byte, want, "{start}..{end} at {i}");
                }
            }
        }
    }

    #[test]
    fn both_sides_see_a_write() {
        let words = words(2);
        let memory = SharedMemory::heap(words.clone(), true);
        words[1].store(0x1122_3344_5566_7788, Ordering::Release);
        assert_eq!(memory.load_u64(8), Ok(0x1122_3344_5566_7788));
        memory.atomic_u64(8).unwrap().fetch_add(1, Ordering::AcqRel);
        assert_eq!(words[1].load(Ordering::Acquire), 0x1122_3344_5566_7789);
        memory.atomic_u32(0).unwrap().store(5, Ordering::Release);
        assert_eq!(memory.load_u32(0), Ok(5));
    }

    #[test]
    fn bounds_alignment_and_rights_are_checked() {
        let memory = SharedMemory::heap(words(2), false);
        let outside = |offset, len| SharedMemoryError::OutOfRange { offset, len, size: 16 };
        assert_eq!(memory.read(9, &mut [0; 8]), Err(outside(9, 8)));
        assert_eq!(memory.read(usize::MAX, &mut [0; 8]), Err(outside(usize::MAX, 8)));
        assert_eq!(memory.read(16, &mut []), Ok(()));
        assert_eq!(memory.load_u64(16), Err(outside(16, 8)));
        assert_eq!(memory.load_u64(4), Err(SharedMemoryError::Misaligned { offset: 4, len: 8 }));
        assert_eq!(memory.load_u32(2), Err(SharedMemoryError::Misaligned { offset: 2, len: 4 }));
        assert_eq!(memory.write(0, &[1]), Err(SharedMemoryError::ReadOnly));
        assert!(memory.atomic_u32(0).is_err() && memory.atomic_u64(0).is_err());
    }
}

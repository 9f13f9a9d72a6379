//! Arrays that user space can map (`BPF_F_MMAPABLE`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;

use super::array::checked_index;
use super::create::PAGE_SIZE;
use super::elements::{Batches, Elements, Resolve, index, next_index};

/// An array whose values are in memory that it shares with its mappings, eight bytes aligned.
#[derive(Debug)]
pub(super) struct SharedArray {
    max_entries: u32,
    /// Words from one value to the next.
    stride: usize,
    words: Arc<[AtomicU64]>,
    /// Mappings that were made read-only since the last time that there was none.
    read_only: usize,
}

impl SharedArray {
    /// `ENOMEM` when the values are too large to be kept in one piece.
    pub(super) fn new(max_entries: u32, value_size: u32) -> Result<Self, Errno> {
        const WORDS_MAX: usize = 1 << 27;

        let stride = (value_size as usize).div_ceil(8);
        let len = stride.checked_mul(max_entries as usize).ok_or(Errno::ENOMEM)?;
        let len = len.checked_next_multiple_of(PAGE_SIZE as usize / 8).ok_or(Errno::ENOMEM)?;
        if len > WORDS_MAX {
            return Err(Errno::ENOMEM);
        }
        let words = (0..len).map(|_| AtomicU64::new(0)).collect();
        Ok(SharedArray { max_entries, stride, words, read_only: 0 })
    }

    /// The words of a value.
    fn value(&self, index: u32) -> Result<&[AtomicU64], Errno> {
        let start = (index as usize).checked_mul(self.stride).ok_or(Errno::ENOENT)?;
        let rest = self.words.get(start..).ok_or(Errno::ENOENT)?;
        rest.get(..self.stride).ok_or(Errno::ENOENT)
    }

    /// Number of mappings.
    fn mappings(&self) -> usize {
        Arc::strong_count(&self.words).saturating_sub(1)
    }
}

impl Elements for SharedArray {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        for (to, word) in value.chunks_mut(8).zip(self.value(index)?) {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            to.copy_from_slice(bytes.get(..to.len()).unwrap_or_default()); // a chunk has at most eight bytes
        }
        Ok(())
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let index = checked_index(key, self.max_entries, flags)?;
        for (from, word) in value.chunks(8).zip(self.value(index)?) {
            let mut bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            for (to, from) in bytes.iter_mut().zip(from) {
                *to = *from;
            }
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn batches(&self) -> Batches {
        Batches::LOOKUP | Batches::UPDATE
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn mmap(&mut self, offset: u64, len: usize, writable: bool) -> Result<SharedMemory, Errno> {
        let size = size_of_val(&*self.words);
        let len = len.checked_next_multiple_of(PAGE_SIZE as usize).ok_or(Errno::EINVAL)?;
        // A view of heap memory starts where the memory starts.
        if offset != 0 || len == 0 || len > size {
            return Err(Errno::EINVAL);
        }
        if self.mappings() == 0 {
            self.read_only = 0;
        }
        if !writable {
            self.read_only = self.read_only.saturating_add(1);
        }
        Ok(SharedMemory::heap(self.words.clone(), writable))
    }

    fn is_mapped_writable(&self) -> bool {
        self.mappings() > self.read_only
    }
}

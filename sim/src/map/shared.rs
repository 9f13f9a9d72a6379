//! Arrays that user space can map (`BPF_F_MMAPABLE`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;
use skep_sys::request::MapMemory;

use super::array::checked_index;
use super::create::PAGE_SIZE;
use super::elements::{Batches, Elements, Resolve, VALUES_MAX, Words, index, next_index};
use super::value::{Form, Value, zeroed};

/// An array whose values are in memory that it shares with its mappings, eight bytes aligned.
#[derive(Clone, Debug)]
pub(super) struct SharedArray {
    max_entries: u32,
    form: Form,
    words: Arc<[AtomicU64]>,
}

impl SharedArray {
    /// `ENOMEM` when the values are too large to be kept in one piece.
    pub(super) fn new(max_entries: u32, form: Form) -> Result<Self, Errno> {
        const SIZE_MAX: usize = 1 << 30;

        let len = form.stride().checked_mul(max_entries as usize).ok_or(Errno::ENOMEM)?;
        let len = len.checked_next_multiple_of(PAGE_SIZE as usize).ok_or(Errno::ENOMEM)?;
        if len > SIZE_MAX {
            return Err(Errno::ENOMEM);
        }
        let array = SharedArray { max_entries, form, words: zeroed(len) };
        if !array.form.fields().is_empty() {
            (0..max_entries)
                .filter_map(|at| array.element(at))
                .for_each(|value| array.form.initialize(&value));
        }
        Ok(array)
    }

    fn element(&self, index: u32) -> Option<Value> {
        if index >= self.max_entries {
            return None;
        }
        Value::within(&self.words, (index as usize).checked_mul(self.form.stride())?, self.form.len())
    }
}

impl Elements for SharedArray {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.element(index(key)?).ok_or(Errno::ENOENT)?.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let index = checked_index(key, self.max_entries, flags)?;
        self.form.overwrite(&self.element(index).ok_or(Errno::E2BIG)?, value);
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

    fn mmap(&mut self, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let MapMemory { offset, len, writable, .. } = memory;
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let whole = len.checked_next_multiple_of(PAGE_SIZE as usize).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(whole).ok_or(Errno::EINVAL)?;
        if !start.is_multiple_of(PAGE_SIZE as usize) || len == 0 || end > size_of_val(&*self.words) {
            return Err(Errno::EINVAL);
        }
        SharedMemory::heap_part(self.words.clone(), start, len, writable).ok_or(Errno::EINVAL)
    }

    fn value(&mut self, key: &[u8], _: u32) -> Result<Option<Value>, Errno> {
        Ok(self.element(index(key)?))
    }

    fn values(&mut self, _: u32) -> Vec<(Arc<[u8]>, Value)> {
        let each = (0..self.max_entries.min(VALUES_MAX))
            .map_while(|index| Some((Arc::from(index.to_ne_bytes()), self.element(index)?)));
        each.collect()
    }

    fn pieces(&self) -> usize {
        size_of_val(&*self.words)
    }

    fn key_of(&mut self, value: &Value, _: u32) -> Option<Arc<[u8]>> {
        let index = value.start().checked_div(self.form.stride())?;
        Some(Arc::from(u32::try_from(index).ok()?.to_ne_bytes()))
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        vec![self.words.clone()]
    }
}

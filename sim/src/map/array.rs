//! Arrays and per-CPU arrays (`BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_PERCPU_ARRAY`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;
use skep_sys::request::MapMemory;

use super::elements::{Batches, Elements, Resolve, VALUES_MAX, Words, index, next_index};
use super::value::{Form, Value, zeroed};
use super::{EXIST, NOEXIST};

/// Elements lie together in chunks of at most so many bytes, or each in one of its own.
const CHUNK: usize = 1 << 20;

/// Values that exist from the start and are zero until written. Only chunks that were written take memory.
#[derive(Clone, Debug)]
pub(super) struct Array {
    max_entries: u32,
    form: Form,
    /// Elements in a chunk: at least one.
    per_chunk: u32,
    chunks: Vec<Option<Arc<[AtomicU64]>>>,
    /// Bytes of those that are there.
    taken: usize,
}

impl Array {
    pub(super) fn new(max_entries: u32, form: Form) -> Self {
        let element = form.len().next_multiple_of(8).max(8); // of what can be made, so far from the end
        let per_chunk = u32::try_from(CHUNK / element).unwrap_or(u32::MAX).clamp(1, max_entries.max(1));
        let count = max_entries.div_ceil(per_chunk) as usize;
        Array { max_entries, form, per_chunk, chunks: vec![None; count], taken: 0 }
    }

    fn element_len(&self) -> usize {
        self.form.len().next_multiple_of(8) // as in `new`
    }

    /// The chunk of an index, and where its element is there.
    fn place(&self, index: u32) -> (usize, usize) {
        let chunk = index / self.per_chunk; // at least one
        let within = (index % self.per_chunk) as usize;
        (chunk as usize, within.saturating_mul(self.element_len()))
    }

    /// An element that was written.
    fn written(&self, index: u32) -> Option<Value> {
        let (chunk, start) = self.place(index);
        Value::within(self.chunks.get(chunk)?.as_ref()?, start, self.form.len())
    }

    /// An element that is to be written, or pointed to.
    fn element(&mut self, index: u32) -> Option<Value> {
        if index >= self.max_entries {
            return None;
        }
        let (chunk, start) = self.place(index);
        let len = self.element_len();
        let count =
            (self.per_chunk as usize).min(self.max_entries as usize - chunk * self.per_chunk as usize); // at least this index
        let form = &self.form;
        let taken = &mut self.taken;
        let words = self.chunks.get_mut(chunk)?.get_or_insert_with(|| {
            let words = zeroed(len.saturating_mul(count));
            *taken += size_of_val(&*words); // of memory that there is
            if !form.fields().is_empty() {
                for element in (0..count).filter_map(|at| Value::within(&words, at * len, form.len())) {
                    form.initialize(&element);
                }
            }
            words
        });
        Value::within(words, start, self.form.len())
    }
}

impl Elements for Array {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        match self.written(index) {
            Some(written) => written.read(0, value),
            None => {
                value.fill(0);
                Ok(())
            }
        }
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let index = checked_index(key, self.max_entries, flags)?;
        let element = self.element(index).ok_or(Errno::E2BIG)?;
        self.form.overwrite(&element, value);
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

    fn mmap(&mut self, _: MapMemory) -> Result<SharedMemory, Errno> {
        Err(Errno::EINVAL)
    }

    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        let index = index(key)?;
        Ok(self.element(index).and_then(|element| self.form.of(&element, cpu)))
    }

    fn program_update(&mut self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        let index = checked_index(key, self.max_entries, flags)?;
        let element = self.element(index).ok_or(Errno::E2BIG)?;
        self.form.overwrite_of(&element, cpu, value);
        Ok(())
    }

    fn values(&mut self, cpu: u32) -> Vec<(Arc<[u8]>, Value)> {
        let each = (0..self.max_entries.min(VALUES_MAX)).map_while(|index| {
            let value = self.element(index).and_then(|element| self.form.of(&element, cpu))?;
            Some((Arc::from(index.to_ne_bytes()), value))
        });
        each.collect()
    }

    fn pieces(&self) -> usize {
        self.taken
    }

    fn piece(&self) -> usize {
        self.element_len().saturating_mul(self.per_chunk as usize)
    }

    fn grows(&self, key: &[u8]) -> bool {
        index(key).is_ok_and(|index| index < self.max_entries && self.written(index).is_none())
    }

    fn key_of(&mut self, value: &Value, _: u32) -> Option<Arc<[u8]>> {
        let here = |chunk: &Option<Arc<[AtomicU64]>>| {
            chunk.as_ref().is_some_and(|words| Arc::ptr_eq(words, value.words()))
        };
        let chunk = self.chunks.iter().position(here)?;
        let within = value.start().checked_div(self.element_len())?;
        let index = chunk.checked_mul(self.per_chunk as usize)?.checked_add(within)?;
        Some(Arc::from(u32::try_from(index).ok()?.to_ne_bytes()))
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.chunks.iter().flatten().cloned().collect()
    }
}

/// The index to update: every element exists already.
pub(super) fn checked_index(key: &[u8], max_entries: u32, flags: u64) -> Result<u32, Errno> {
    if flags > EXIST {
        return Err(Errno::EINVAL);
    }
    let index = index(key)?;
    if index >= max_entries {
        return Err(Errno::E2BIG);
    }
    if flags == NOEXIST {
        return Err(Errno::EEXIST);
    }
    Ok(index)
}

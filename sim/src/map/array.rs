//! Arrays and per-CPU arrays (`BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_PERCPU_ARRAY`).

use std::collections::HashMap;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;

use super::elements::{Batches, Elements, Resolve, copy, index, next_index};
use super::{EXIST, NOEXIST};

/// Values that exist from the start and are zero until written. Only written ones take memory.
#[derive(Debug)]
pub(super) struct Array {
    max_entries: u32,
    written: HashMap<u32, Box<[u8]>>,
    /// Why it cannot be mapped.
    mmap: Errno,
}

impl Array {
    pub(super) fn new(max_entries: u32, mmap: Errno) -> Self {
        Array { max_entries, written: HashMap::new(), mmap }
    }
}

impl Elements for Array {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        match self.written.get(&index) {
            Some(bytes) => copy(value, bytes),
            None => {
                value.fill(0);
                Ok(())
            }
        }
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let index = checked_index(key, self.max_entries, flags)?;
        self.written.insert(index, value.into());
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

    fn mmap(&mut self, _: u64, _: usize, _: bool) -> Result<SharedMemory, Errno> {
        Err(self.mmap)
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

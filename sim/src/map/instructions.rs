//! Places of a program's instructions (`BPF_MAP_TYPE_INSN_ARRAY`).

use std::collections::HashMap;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, copy, index, next_index};
use super::{EXIST, NOEXIST};

/// Size of `struct bpf_insn_array_value`: the index that user space writes, and what the kernel makes of it.
const VALUE: usize = 16;

/// The indexes that user space wrote, those that are not 0.
#[derive(Clone, Debug)]
pub(super) struct Instructions {
    max_entries: u32,
    original: HashMap<u32, u32>,
}

impl Instructions {
    pub(super) fn new(max_entries: u32) -> Self {
        Instructions { max_entries, original: HashMap::new() }
    }
}

impl Elements for Instructions {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        let original = self.original.get(&index).copied().unwrap_or(0);
        let mut found = [0; VALUE];
        found[..4].copy_from_slice(&original.to_ne_bytes()); // of 16 bytes
        copy(value, &found)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags == NOEXIST {
            return Err(Errno::EEXIST);
        }
        let [written, xlated, jitted, _] = *value.as_chunks::<4>().0 else { return Err(Errno::EFAULT) };
        if xlated != [0; 4] || jitted != [0; 4] {
            return Err(Errno::EINVAL);
        }
        self.original.insert(index, u32::from_ne_bytes(written));
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

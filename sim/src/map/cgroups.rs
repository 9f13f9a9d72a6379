//! Arrays of cgroups (`BPF_MAP_TYPE_CGROUP_ARRAY`).

use std::collections::BTreeSet;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, index, next_index};
use crate::outside;

/// The slots that are taken: what they hold cannot be asked for.
#[derive(Debug)]
pub(super) struct Cgroups {
    max_entries: u32,
    slots: BTreeSet<u32>,
}

impl Cgroups {
    pub(super) fn new(max_entries: u32) -> Self {
        Cgroups { max_entries, slots: BTreeSet::new() }
    }

    fn index(&self, key: &[u8]) -> Result<u32, Errno> {
        index(key).and_then(|index| if index < self.max_entries { Ok(index) } else { Err(Errno::E2BIG) })
    }
}

impl Elements for Cgroups {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let index = self.index(key)?;
        let number = value.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EFAULT)?;
        outside::cgroup(number, false)?;
        self.slots.insert(index);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        if self.slots.remove(&self.index(key)?) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }
}

//! Arrays of cgroups (`BPF_MAP_TYPE_CGROUP_ARRAY`).

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, index, next_index};
use crate::object::Object;
use crate::outside;

/// The ids of the groups in the slots that are taken: user space cannot ask what they hold.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    max_entries: u32,
    slots: BTreeMap<u32, u64>,
}

impl Cgroups {
    pub(super) fn new(max_entries: u32) -> Self {
        Cgroups { max_entries, slots: BTreeMap::new() }
    }

    fn index(&self, key: &[u8]) -> Result<u32, Errno> {
        index(key).and_then(|index| if index < self.max_entries { Ok(index) } else { Err(Errno::E2BIG) })
    }
}

impl Elements for Cgroups {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let index = self.index(key)?;
        let number = value.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EFAULT)?;
        let id = match resolve(number) {
            Ok(Object::Cgroup(id)) => id,
            _ => outside::cgroup(number, false)?.number(),
        };
        self.slots.insert(index, id);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.slots.remove(&self.index(key)?).map(drop).ok_or(Errno::ENOENT)
    }

    fn cgroup_id(&self, index: u32) -> Option<u64> {
        self.slots.get(&index).copied()
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

//! Perf events by index (`BPF_MAP_TYPE_PERF_EVENT_ARRAY`).

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, index, next_index};
use crate::object::Object;
use crate::perf::PerfEvent;

/// The events; user space writes a descriptor and reads nothing.
#[derive(Clone, Debug)]
pub(super) struct PerfEvents {
    max_entries: u32,
    slots: BTreeMap<u32, Arc<PerfEvent>>,
}

impl PerfEvents {
    pub(super) fn new(max_entries: u32) -> Self {
        PerfEvents { max_entries, slots: BTreeMap::new() }
    }

    fn checked(&self, key: &[u8]) -> Result<u32, Errno> {
        let index = index(key)?;
        if index < self.max_entries { Ok(index) } else { Err(Errno::E2BIG) }
    }
}

impl Elements for PerfEvents {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let index = self.checked(key)?;
        let fd = value.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EFAULT)?;
        let Ok(Object::Perf(event)) = resolve(fd) else {
            return Err(Errno::EBADF);
        };
        if !event.is_local() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.slots.insert(index, event);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let index = self.checked(key)?;
        self.slots.remove(&index).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn release_held(&mut self) {
        self.slots.clear();
    }

    fn perf_event(&self, index: u32) -> Result<Arc<PerfEvent>, Errno> {
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        self.slots.get(&index).cloned().ok_or(Errno::ENOENT)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.slots.values().cloned().map(Object::Perf).collect()
    }
}

//! Stacks by their numbers (`BPF_MAP_TYPE_STACK_TRACE`).

use std::collections::BTreeMap;

use skep_sys::abi::Errno;

use super::elements::{Elements, Resolve, copy, index};

/// Size of `struct bpf_stack_build_id`.
const BUILD_ID_FRAME: usize = 32;
/// What such a frame is when it holds an address (`BPF_STACK_BUILD_ID_IP`).
const IS_ADDRESS: u32 = 2;

/// Stacks that programs put in. User space reads and removes them.
#[derive(Clone, Debug)]
pub(super) struct Stacks {
    /// Numbers of stacks are below it: the capacity, rounded up to a power of two.
    buckets: u32,
    value_size: usize,
    build_ids: bool,
    stacks: BTreeMap<u32, Box<[u8]>>,
}

impl Stacks {
    pub(super) fn new(buckets: u32, value_size: u32, build_ids: bool) -> Self {
        Stacks { buckets, value_size: value_size as usize, build_ids, stacks: BTreeMap::new() }
    }
}

impl Elements for Stacks {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        copy(value, self.stacks.get(&index(key)?).ok_or(Errno::ENOENT)?)
    }

    fn update(&mut self, _: &[u8], _: &[u8], _: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let id = index(key)?;
        if id >= self.buckets {
            return Err(Errno::E2BIG);
        }
        self.stacks.remove(&id).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        // One past the end begins anew.
        let first = match key.map(index).transpose()? {
            Some(id) if id < self.buckets => id.saturating_add(1),
            _ => 0,
        };
        let (id, _) = self.stacks.range(first..).next().ok_or(Errno::ENOENT)?;
        copy(next, &id.to_ne_bytes())
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let stack = self.stacks.remove(&index(key)?).ok_or(Errno::ENOENT)?;
        copy(value, &stack)
    }

    fn put_stack(&mut self, id: u32, addresses: &[u64]) -> Result<(), Errno> {
        if id >= self.buckets {
            return Err(Errno::E2BIG);
        }
        let mut bytes = Vec::with_capacity(self.value_size);
        for address in addresses {
            if self.build_ids {
                bytes.extend(IS_ADDRESS.to_ne_bytes());
                bytes.resize(bytes.len().next_multiple_of(BUILD_ID_FRAME) - size_of::<u64>(), 0); // 4 bytes of 32 are there
            }
            bytes.extend(address.to_ne_bytes());
        }
        bytes.resize(self.value_size, 0);
        self.stacks.insert(id, bytes.into());
        Ok(())
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

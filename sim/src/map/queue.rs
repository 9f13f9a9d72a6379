//! Queues and stacks (`BPF_MAP_TYPE_QUEUE`, `BPF_MAP_TYPE_STACK`).

use std::collections::VecDeque;

use skep_sys::abi::Errno;

use super::EXIST;
use super::elements::{Elements, Resolve, copy};

/// Values without keys: a lookup peeks, an update pushes, a lookup with deletion pops.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    max_entries: usize,
    /// Whether the value that was pushed last comes first.
    last_first: bool,
    values: VecDeque<Box<[u8]>>,
}

impl Queue {
    pub(super) fn new(max_entries: u32, last_first: bool) -> Self {
        Queue { max_entries: max_entries as usize, last_first, values: VecDeque::new() }
    }
}

impl Elements for Queue {
    fn lookup(&mut self, _: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let front = if self.last_first { self.values.back() } else { self.values.front() };
        copy(value, front.ok_or(Errno::ENOENT)?)
    }

    fn update(&mut self, _: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 && flags != EXIST {
            return Err(Errno::EINVAL);
        }
        if self.values.len() >= self.max_entries {
            // With `BPF_EXIST` the oldest value makes room.
            if flags != EXIST {
                return Err(Errno::E2BIG);
            }
            self.values.pop_front();
        }
        self.values.push_back(value.into());
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn take(&mut self, _: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let front = if self.last_first { self.values.pop_back() } else { self.values.pop_front() };
        copy(value, &front.ok_or(Errno::ENOENT)?)
    }

    fn count(&self) -> usize {
        self.values.len()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

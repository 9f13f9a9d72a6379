//! Kinds that can be created and referred to, and whose elements user space cannot reach through the simulation.

use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, index, next_index};
use super::{EXIST, NOEXIST};

/// Answers as the kernel does for a kind that has no such call, and for elements that cannot be there because what
/// they would hold (perf events, stacks, storage of attached programs) does not exist in a simulated kernel.
#[derive(Debug)]
pub(super) struct Limited {
    kind: MapType,
    max_entries: u32,
}

impl Limited {
    pub(super) fn new(kind: MapType, max_entries: u32) -> Self {
        Limited { kind, max_entries }
    }
}

impl Elements for Limited {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(match self.kind {
            MapType::RINGBUF | MapType::USER_RINGBUF | MapType::PERF_EVENT_ARRAY => Errno::ENOTSUPP,
            _ => Errno::ENOENT,
        })
    }

    fn update(&mut self, key: &[u8], _: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(match self.kind {
            MapType::RINGBUF | MapType::USER_RINGBUF => Errno::ENOTSUPP,
            MapType::STACK_TRACE => Errno::EINVAL,
            MapType::PERF_EVENT_ARRAY => {
                if flags != 0 {
                    Errno::EINVAL
                } else if index(key)? >= self.max_entries {
                    Errno::E2BIG
                } else {
                    // No descriptor can be a perf event of this kernel.
                    Errno::EBADF
                }
            }
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE if flags == NOEXIST => Errno::EINVAL,
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => Errno::ENOENT,
            _ if flags > EXIST => Errno::EINVAL,
            _ => Errno::EOPNOTSUPP,
        })
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        Err(match self.kind {
            MapType::RINGBUF | MapType::USER_RINGBUF => Errno::ENOTSUPP,
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => Errno::EINVAL,
            MapType::STACK_TRACE | MapType::PERF_EVENT_ARRAY if index(key)? >= self.max_entries => {
                Errno::E2BIG
            }
            _ => Errno::ENOENT,
        })
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        match self.kind {
            MapType::RINGBUF | MapType::USER_RINGBUF => Err(Errno::ENOTSUPP),
            MapType::PERF_EVENT_ARRAY => next_index(key, self.max_entries, next),
            _ => Err(Errno::ENOENT),
        }
    }
}

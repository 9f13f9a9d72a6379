//! Kinds that can be created and referred to, and whose elements user space cannot reach through the simulation.

use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve};
use super::{EXIST, NOEXIST};

/// Answers as the kernel does for a kind that has no such call, and for elements that cannot be there because what
/// they would hold (storage of attached programs) does not exist in a simulated kernel.
#[derive(Debug)]
pub(super) struct Limited {
    kind: MapType,
}

impl Limited {
    pub(super) fn new(kind: MapType) -> Self {
        Limited { kind }
    }
}

impl Elements for Limited {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }

    fn update(&mut self, _: &[u8], _: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(match self.kind {
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE if flags == NOEXIST => Errno::EINVAL,
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => Errno::ENOENT,
            _ if flags > EXIST => Errno::EINVAL,
            _ => Errno::EOPNOTSUPP,
        })
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(match self.kind {
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => Errno::EINVAL,
            _ => Errno::ENOENT,
        })
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }
}

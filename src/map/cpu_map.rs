use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::LoadedProgram;
use skep_sys::abi::{ProgId, UpdateFlags};

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::CPU_MAP;

/// CPUs, which XDP programs redirect packets to (`BPF_MAP_TYPE_CPUMAP`, Linux 4.15). Made by [`Map::typed`].
///
/// The index is the CPU's number. An element is the length of the queue in which packets wait for a kernel thread on
/// that CPU, and with values of 8 bytes a program that runs there on each of them (Linux 5.9).
///
/// ```
/// use skep::map::{CpuMap, CpuQueue, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::CPUMAP, 4, 8, kernel.possible_cpus()?))?;
/// let cpus: CpuMap = map.typed()?;
/// cpus.set(0, 2048, UpdateFlags::empty())?;
/// assert_eq!(cpus.get(0)?, Some(CpuQueue { packets: 2048, program: None }));
/// cpus.remove(0)?;
/// assert_eq!(cpus.get(0)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_CPUMAP")]
pub struct CpuMap {
    map: Map,
    types: PhantomData<()>,
}

/// How packets wait for a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuQueue {
    /// How many packets can wait, at most 16384.
    pub packets: u32,
    /// The program that runs on packets that arrive there.
    pub program: Option<ProgId>,
}

descriptor_view!(CpuMap, CPU_MAP, u32, &[4, 8]);

impl CpuMap {
    /// Number of slots. There can be more of them than CPUs.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no slots, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The queue of a CPU; none for one that takes no packets.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, cpu: u32) -> Result<Option<CpuQueue>, MapError> {
        let target = self.map.lookup_target(cpu)?;
        Ok(target.map(|(packets, program)| CpuQueue { packets, program }))
    }

    /// Lets a CPU take packets, of which at most so many wait: 1 to 16384. None (0) ends it.
    ///
    /// Slots count as taken: [`UpdateFlags::NOEXIST`] is always refused, and [`UpdateFlags::EXIST`] says nothing.
    ///
    /// # Errors
    /// [`MapError::Failed`]: [`Errno::ENODEV`](skep_sys::abi::Errno::ENODEV) when there is no such CPU,
    /// [`Errno::EOVERFLOW`](skep_sys::abi::Errno::EOVERFLOW) for a longer queue, of kind
    /// [`Full`](super::MapErrorKind::Full) when the map has no such slot.
    pub fn set(&self, cpu: u32, packets: u32, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_target(cpu, packets, None, flags)
    }

    /// As [`set`](CpuMap::set), with a program that runs on each packet that arrives there (Linux 5.9). It is an XDP
    /// program that was loaded for [`AttachType::XDP_CPUMAP`](skep_sys::abi::AttachType::XDP_CPUMAP).
    ///
    /// # Errors
    /// As [`set`](CpuMap::set); [`Errno::ENOMEM`](skep_sys::abi::Errno::ENOMEM), or on some kernels
    /// [`Errno::EINVAL`](skep_sys::abi::Errno::EINVAL), for another program, and of kind
    /// [`Length`](super::MapErrorKind::Length) when the map's values have no room for one.
    pub fn set_with_program(
        &self,
        cpu: u32,
        packets: u32,
        program: &LoadedProgram,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.map.update_target(cpu, packets, Some(program), flags)
    }

    /// Lets a CPU take no more packets.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when the map has no such slot.
    pub fn remove(&self, cpu: u32) -> Result<(), MapError> {
        self.map.delete(&cpu.to_ne_bytes()).map(drop)
    }

    /// The CPUs that take packets, in order. It ends after the first error.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(u32, CpuQueue), MapError>> {
        self.map.slots(|cpu| self.get(cpu))
    }
}

//! What the kernel demands of a map that is created.

use skep_sys::abi::{Errno, MapFlags, MapType};
use skep_sys::request::MapCreate;

use super::arena::Arena;
use super::array::Array;
use super::bloom::Bloom;
use super::cgroup_storage::CgroupStorage;
use super::cgroups::Cgroups;
use super::elements::Elements;
use super::fields::Fields;
use super::hash::{Hash, Lru};
use super::instructions::Instructions;
use super::lpm::Lpm;
use super::objects::{HashOfMaps, InnerShape, ObjectArray};
use super::perf_events::PerfEvents;
use super::queue::Queue;
use super::redirect::{DeviceHash, Targets};
use super::ring::Ring;
use super::shared::SharedArray;
use super::sockets::{SocketHash, Sockets};
use super::stacks::Stacks;
use super::storage::Storage;
use super::value::Form;

/// What a map is made of, apart from its elements.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: MapFlags,
    pub(crate) map_extra: u64,
    /// Number of possible CPUs.
    pub(crate) cpus: u32,
    /// Whether the kernel knows the flags that choose CPUs.
    pub(crate) cpu_flags: bool,
    /// What of a value is the kernel's.
    pub(crate) fields: Fields,
}

impl Shape {
    /// What a request asks for, on a kernel with so many CPUs.
    pub(crate) fn of(request: &MapCreate<'_>, cpus: u32, cpu_flags: bool) -> Shape {
        Shape {
            kind: request.map_type,
            key_size: request.key_size,
            value_size: request.value_size,
            max_entries: request.max_entries,
            flags: request.flags,
            map_extra: request.map_extra,
            cpus,
            cpu_flags,
            fields: Fields::default(),
        }
    }

    /// Length of a value as user space reads and writes it.
    pub(crate) fn value_len(&self) -> usize {
        match self.kind {
            kind if kind.is_per_cpu() => {
                (self.value_size as usize).next_multiple_of(8).saturating_mul(self.cpus as usize)
            }
            MapType::PROG_ARRAY
            | MapType::PERF_EVENT_ARRAY
            | MapType::CGROUP_ARRAY
            | MapType::ARRAY_OF_MAPS
            | MapType::HASH_OF_MAPS => 4,
            _ => self.value_size as usize,
        }
    }

    /// How values lie in memory.
    pub(super) fn form(&self) -> Form {
        Form::new(self.value_size, self.kind.is_per_cpu().then_some(self.cpus), self.fields.clone())
    }

    /// Memory that a map of this shape is charged with, in bytes: that of all its elements, in whole pages.
    pub(crate) fn memory(&self) -> usize {
        let element = self.value_len().saturating_add((self.key_size as usize).next_multiple_of(8));
        let all = element.saturating_mul(self.max_entries as usize);
        all.div_ceil(PAGE_SIZE as usize).max(1).saturating_mul(PAGE_SIZE as usize)
    }

    /// Whether it is a hash whose keys are longer than a program's stack.
    pub(crate) fn has_long_key(&self) -> bool {
        let is_hash = matches!(
            self.kind,
            MapType::HASH
                | MapType::HASH_OF_MAPS
                | MapType::LRU_HASH
                | MapType::PERCPU_HASH
                | MapType::LRU_PERCPU_HASH
        );
        is_hash && self.key_size > STACK_MAX
    }

    /// The shape as the kernel keeps it: what a descriptor may do is the descriptor's, and where each CPU has elements of its own,
    /// all have the same number of them, and at least one.
    pub(crate) fn kept(mut self) -> Shape {
        self.flags -= MapFlags::RDONLY | MapFlags::WRONLY;
        if self.flags.contains(MapFlags::NO_COMMON_LRU) {
            let rounded = self.max_entries.checked_next_multiple_of(self.cpus);
            self.max_entries = rounded.unwrap_or(self.max_entries - self.max_entries % self.cpus); // there is a CPU
        }
        self
    }

    /// Empty elements of this shape; `devices` are the indexes of the kernel's network devices.
    pub(crate) fn elements(
        &self,
        inner: Option<&InnerShape>,
        devices: &[u32],
    ) -> Result<Box<dyn Elements>, Errno> {
        let max = self.max_entries;
        Ok(match self.kind {
            MapType::ARRAY if self.flags.contains(MapFlags::MMAPABLE) => {
                Box::new(SharedArray::new(max, self.form())?)
            }
            MapType::ARRAY | MapType::PERCPU_ARRAY => Box::new(Array::new(max, self.form())),
            MapType::HASH | MapType::PERCPU_HASH => Box::new(Hash::new(max, self.form())),
            MapType::LRU_HASH | MapType::LRU_PERCPU_HASH => {
                let apart = self.flags.contains(MapFlags::NO_COMMON_LRU);
                Box::new(Lru::new(max, self.form(), apart.then_some(self.cpus)))
            }
            MapType::QUEUE => Box::new(Queue::new(max, false)),
            MapType::STACK => Box::new(Queue::new(max, true)),
            MapType::BLOOM_FILTER => Box::new(Bloom::default()),
            MapType::LPM_TRIE => Box::new(Lpm::new(max, self.key_size, self.form())),
            MapType::PROG_ARRAY => Box::new(ObjectArray::new(max, None)),
            MapType::ARRAY_OF_MAPS => Box::new(ObjectArray::new(max, inner.cloned())),
            MapType::HASH_OF_MAPS => Box::new(HashOfMaps::new(max, inner.cloned().ok_or(Errno::EBADF)?)),
            MapType::DEVMAP => Box::new(Targets::devices(max, devices)),
            MapType::DEVMAP_HASH => Box::new(DeviceHash::new(max, devices)),
            MapType::CPUMAP => Box::new(Targets::cpus(max, self.cpus)),
            MapType::SOCKMAP | MapType::REUSEPORT_SOCKARRAY | MapType::XSKMAP => {
                Box::new(Sockets::new(self.kind, max))
            }
            MapType::SOCKHASH => Box::new(SocketHash::new(max)),
            MapType::CGROUP_ARRAY => Box::new(Cgroups::new(max)),
            MapType::SK_STORAGE | MapType::TASK_STORAGE | MapType::INODE_STORAGE | MapType::CGRP_STORAGE => {
                Box::new(Storage::new(self.kind, self.form()))
            }
            MapType::ARENA => Box::new(Arena::new(max, self.map_extra)),
            MapType::STACK_TRACE => {
                let build_ids = self.flags.contains(MapFlags::STACK_BUILD_ID);
                Box::new(Stacks::new(max.next_power_of_two(), self.value_size, build_ids))
            }
            MapType::INSN_ARRAY => Box::new(Instructions::new(max)),
            MapType::PERF_EVENT_ARRAY => Box::new(PerfEvents::new(max)),
            MapType::RINGBUF | MapType::USER_RINGBUF => {
                let overwrites = self.flags.contains(MapFlags::RB_OVERWRITE);
                Box::new(Ring::new(self.kind == MapType::USER_RINGBUF, max, overwrites)?)
            }
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => {
                Box::new(CgroupStorage::new(self.form()))
            }
            _ => return Err(Errno::EINVAL),
        })
    }
}

/// Longest keys of hashes in kernels that know no longer ones (`MAX_BPF_STACK`).
const STACK_MAX: u32 = 512;
/// Largest allocation for one hash element (`KMALLOC_MAX_SIZE`).
const ELEMENT_MAX: u64 = 4 << 20;
/// Most buckets of a hash, a power of two: as many as 32 bits count of 16 bytes each.
const BUCKETS_MAX: u32 = 1 << 27;
/// Largest per-CPU allocation (`PCPU_MIN_UNIT_SIZE`).
const PER_CPU_MAX: u32 = 32768;
/// Memory for the values of one array. The kernel's bound is the memory of the machine.
const ARRAY_MAX: u64 = 16 << 30;
/// Largest value of local storage: the kernel keeps its size and that of its own header in 16 bits.
const STORAGE_MAX: u32 = 0xffff - 128;
/// Number of CPUs that the simulated kernel is built for.
const NR_CPUS: u32 = crate::builder::CONFIG_CPUS;
/// Most stack entries that a stack map keeps.
const STACK_DEPTH: u32 = 127;
/// Page size of the simulated kernel.
pub(crate) const PAGE_SIZE: u32 = 4096;

fn invalid_unless(condition: bool) -> Result<(), Errno> {
    if condition { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The flags that a kind takes.
fn known_flags(kind: MapType) -> Option<MapFlags> {
    use MapFlags as F;

    let user = F::RDONLY | F::WRONLY;
    let both = user | F::RDONLY_PROG | F::WRONLY_PROG;
    Some(match kind {
        MapType::HASH | MapType::HASH_OF_MAPS => F::NO_PREALLOC | F::NUMA_NODE | F::ZERO_SEED | both,
        MapType::LRU_HASH => F::NO_COMMON_LRU | F::NUMA_NODE | F::ZERO_SEED | both,
        MapType::PERCPU_HASH => F::NO_PREALLOC | F::ZERO_SEED | both,
        MapType::LRU_PERCPU_HASH => F::NO_COMMON_LRU | F::ZERO_SEED | both,
        MapType::ARRAY => F::NUMA_NODE | F::MMAPABLE | F::INNER_MAP | both,
        MapType::PERCPU_ARRAY => both,
        MapType::PROG_ARRAY
        | MapType::CGROUP_ARRAY
        | MapType::ARRAY_OF_MAPS
        | MapType::DEVMAP
        | MapType::DEVMAP_HASH
        | MapType::XSKMAP
        | MapType::SOCKMAP
        | MapType::SOCKHASH => F::NUMA_NODE | user,
        MapType::PERF_EVENT_ARRAY => F::NUMA_NODE | F::PRESERVE_ELEMS | user,
        MapType::STACK_TRACE => F::NUMA_NODE | F::STACK_BUILD_ID | user,
        MapType::LPM_TRIE => F::NO_PREALLOC | F::NUMA_NODE | both,
        MapType::RINGBUF => F::NUMA_NODE | F::RB_OVERWRITE,
        MapType::CPUMAP | MapType::USER_RINGBUF => F::NUMA_NODE,
        MapType::REUSEPORT_SOCKARRAY
        | MapType::QUEUE
        | MapType::STACK
        | MapType::CGROUP_STORAGE
        | MapType::PERCPU_CGROUP_STORAGE => F::NUMA_NODE | both,
        MapType::BLOOM_FILTER => F::NUMA_NODE | F::ZERO_SEED | both,
        MapType::ARENA => F::MMAPABLE | F::SEGV_ON_FAULT | F::NO_USER_CONV,
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            F::NO_PREALLOC | F::CLONE
        }
        MapType::INSN_ARRAY => F::empty(),
        MapType::STRUCT_OPS => F::LINK,
        _ => return None,
    })
}

/// Checks a shape as `map_create` in the kernel and the kind's `map_alloc_check` and `map_alloc` do.
pub(crate) fn check(shape: &Shape) -> Result<(), Errno> {
    use MapFlags as F;

    let &Shape { kind, key_size: key, value_size: value, max_entries: max, flags, map_extra, .. } = shape;
    let known = known_flags(kind).ok_or(Errno::EINVAL)?;
    invalid_unless(!flags.contains(F::RDONLY | F::WRONLY))?;
    invalid_unless(!flags.contains(F::RDONLY_PROG | F::WRONLY_PROG))?;
    invalid_unless(
        kind == MapType::BLOOM_FILTER && map_extra <= 15 || kind == MapType::ARENA || map_extra == 0,
    )?;
    if matches!(kind, MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE) {
        check_cgroup_storage(shape)?;
    }
    let lru = matches!(kind, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
    if lru && (known | F::NO_PREALLOC).contains(flags) && flags.contains(F::NO_PREALLOC) {
        return Err(Errno::ENOTSUPP);
    }
    invalid_unless(known.contains(flags))?;
    invalid_unless(!lru || !flags.contains(F::NO_COMMON_LRU | F::NUMA_NODE))?;

    match kind {
        MapType::HASH
        | MapType::HASH_OF_MAPS
        | MapType::LRU_HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_PERCPU_HASH => {
            invalid_unless(max > 0 && key > 0 && value > 0)?;
            invalid_unless(kind != MapType::HASH_OF_MAPS || value == 4)?;
            let per_cpu = kind.is_per_cpu() && value > PER_CPU_MAX;
            if per_cpu || u64::from(key) + u64::from(value) >= ELEMENT_MAX || max > BUCKETS_MAX {
                return Err(Errno::E2BIG);
            }
            Ok(())
        }
        MapType::ARRAY | MapType::PERCPU_ARRAY => {
            invalid_unless(max > 0 && key == 4 && value > 0)?;
            if value > i32::MAX as u32 || kind.is_per_cpu() && value > PER_CPU_MAX {
                return Err(Errno::E2BIG);
            }
            // Both factors are 32 bits.
            if u64::from(max) * u64::from(value).next_multiple_of(8) > ARRAY_MAX {
                return Err(Errno::ENOMEM);
            }
            Ok(())
        }
        MapType::PROG_ARRAY
        | MapType::CGROUP_ARRAY
        | MapType::PERF_EVENT_ARRAY
        | MapType::ARRAY_OF_MAPS
        | MapType::XSKMAP => invalid_unless(max > 0 && key == 4 && value == 4),
        MapType::DEVMAP | MapType::DEVMAP_HASH | MapType::SOCKMAP | MapType::REUSEPORT_SOCKARRAY => {
            invalid_unless(max > 0 && key == 4 && matches!(value, 4 | 8))
        }
        MapType::CPUMAP => {
            invalid_unless(max > 0 && key == 4 && matches!(value, 4 | 8))?;
            if max > NR_CPUS.max(shape.cpus) { Err(Errno::E2BIG) } else { Ok(()) }
        }
        MapType::SOCKHASH => {
            invalid_unless(max > 0 && key > 0 && matches!(value, 4 | 8))?;
            if key > 512 { Err(Errno::E2BIG) } else { Ok(()) }
        }
        MapType::STACK_TRACE => {
            let entry = if flags.contains(F::STACK_BUILD_ID) { 32 } else { 8 };
            let depth = value / entry;
            invalid_unless(
                max > 0 && key == 4 && value.is_multiple_of(entry) && (1..=STACK_DEPTH).contains(&depth),
            )
        }
        MapType::LPM_TRIE => {
            invalid_unless(max > 0 && (5..=260).contains(&key) && value > 0 && flags.contains(F::NO_PREALLOC))
        }
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => {
            invalid_unless(max > 0 && key == 0 && value > 0)
        }
        MapType::RINGBUF | MapType::USER_RINGBUF => {
            invalid_unless(key == 0 && value == 0 && max.is_power_of_two() && max >= PAGE_SIZE)
        }
        MapType::INSN_ARRAY => invalid_unless(max > 0 && key == 4 && value == 16),
        MapType::STRUCT_OPS => invalid_unless(max == 1 && key == 4),
        MapType::ARENA => {
            invalid_unless(key == 0 && value == 0 && max > 0 && flags.contains(F::MMAPABLE))?;
            invalid_unless(map_extra.is_multiple_of(PAGE_SIZE.into()))?;
            let size = u64::from(max) * u64::from(PAGE_SIZE); // both are 32 bits
            if size > 1 << 32 {
                return Err(Errno::E2BIG);
            }
            // Pointers into it differ in their lower halves only.
            let same_half = map_extra >> 32 == map_extra.wrapping_add(size - 1) >> 32;
            if same_half { Ok(()) } else { Err(Errno::ERANGE) }
        }
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            invalid_unless(max == 0 && key == 4 && value > 0 && flags.contains(F::NO_PREALLOC))?;
            if value > STORAGE_MAX { Err(Errno::E2BIG) } else { Ok(()) }
        }
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => invalid_unless(max == 0),
        _ => Err(Errno::EINVAL),
    }
}

/// What is looked at before the flags.
fn check_cgroup_storage(shape: &Shape) -> Result<(), Errno> {
    invalid_unless(matches!(shape.key_size, 8 | 16) && shape.value_size > 0)?;
    let limit = if shape.kind.is_per_cpu() { PER_CPU_MAX } else { STORAGE_MAX };
    if shape.value_size > limit { Err(Errno::E2BIG) } else { Ok(()) }
}

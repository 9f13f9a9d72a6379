//! Maps: memory that programs and user space share.
//!
//! [`Map`] is an open map of any kind, with keys and values as bytes. A typed view has them as Rust types and checks
//! once, when it is made, that the map's kind, sizes and, where it has any, types are those of the view:
//!
//! | view | kinds of maps | file |
//! |---|---|---|
//! | [`HashMap`] | `BPF_MAP_TYPE_HASH`, `BPF_MAP_TYPE_LRU_HASH` | `hash.rs` |
//! | [`Array`] | `BPF_MAP_TYPE_ARRAY` | `array.rs` |
//! | [`PerCpuHashMap`] | `BPF_MAP_TYPE_PERCPU_HASH`, `BPF_MAP_TYPE_LRU_PERCPU_HASH` | `per_cpu_hash.rs` |
//! | [`PerCpuArray`] | `BPF_MAP_TYPE_PERCPU_ARRAY` | `per_cpu_array.rs` |
//! | [`PerfEventArray`] | `BPF_MAP_TYPE_PERF_EVENT_ARRAY` | `perf_event_array.rs` |
//! | [`DevMap`] | `BPF_MAP_TYPE_DEVMAP` | `dev_map.rs` |
//! | [`DevMapHash`] | `BPF_MAP_TYPE_DEVMAP_HASH` | `dev_map_hash.rs` |
//! | [`CpuMap`] | `BPF_MAP_TYPE_CPUMAP` | `cpu_map.rs` |
//! | [`XskMap`] | `BPF_MAP_TYPE_XSKMAP` | `xsk_map.rs` |
//! | [`SockMap`] | `BPF_MAP_TYPE_SOCKMAP` | `sock_map.rs` |
//! | [`SockHash`] | `BPF_MAP_TYPE_SOCKHASH` | `sock_hash.rs` |
//! | [`ReuseportArray`] | `BPF_MAP_TYPE_REUSEPORT_SOCKARRAY` | `reuseport_array.rs` |
//! | [`CgroupArray`] | `BPF_MAP_TYPE_CGROUP_ARRAY` | `cgroup_array.rs` |
//! | [`SkStorage`] | `BPF_MAP_TYPE_SK_STORAGE` | `sk_storage.rs` |
//! | [`TaskStorage`] | `BPF_MAP_TYPE_TASK_STORAGE` | `task_storage.rs` |
//! | [`InodeStorage`] | `BPF_MAP_TYPE_INODE_STORAGE` | `inode_storage.rs` |
//! | [`CgroupStorage`] | `BPF_MAP_TYPE_CGRP_STORAGE` | `cgroup_storage.rs` |
//! | [`AttachedCgroupStorage`] | `BPF_MAP_TYPE_CGROUP_STORAGE` | `attached_cgroup_storage.rs` |
//! | [`PerCpuAttachedCgroupStorage`] | `BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE` | `per_cpu_attached_cgroup_storage.rs` |
//! | [`LpmTrie`] | `BPF_MAP_TYPE_LPM_TRIE` | `lpm.rs`, `prefix.rs` |
//! | [`Queue`] | `BPF_MAP_TYPE_QUEUE` | `queue.rs` |
//! | [`Stack`] | `BPF_MAP_TYPE_STACK` | `stack.rs` |
//! | [`BloomFilter`] | `BPF_MAP_TYPE_BLOOM_FILTER` | `bloom.rs` |
//! | [`ProgramArray`] | `BPF_MAP_TYPE_PROG_ARRAY` | `program_array.rs` |
//! | [`ArrayOfMaps`] | `BPF_MAP_TYPE_ARRAY_OF_MAPS` | `array_of_maps.rs` |
//! | [`HashOfMaps`] | `BPF_MAP_TYPE_HASH_OF_MAPS` | `hash_of_maps.rs` |
//! | [`InstructionArray`] | `BPF_MAP_TYPE_INSN_ARRAY` | `instruction_array.rs` |
//! | [`StackTraces`] | `BPF_MAP_TYPE_STACK_TRACE` | `stack_traces.rs` |
//! | [`Arena`] | `BPF_MAP_TYPE_ARENA` | `arena.rs` |
//! | [`StructOpsMap`] | `BPF_MAP_TYPE_STRUCT_OPS` | `struct_ops.rs` |
//! | [`RingBuffer`](crate::ring::RingBuffer) | `BPF_MAP_TYPE_RINGBUF` | in [`ring`](crate::ring) |
//! | [`UserRingBuffer`](crate::ring::UserRingBuffer) | `BPF_MAP_TYPE_USER_RINGBUF` | in [`ring`](crate::ring) |
//!
//! ```
//! use skep::map::{HashMap, Map};
//! use skep::sys::abi::{MapType, UpdateFlags};
//! use skep::sys::request::MapCreate;
//!
//! let kernel = skep::sim::kernel();
//! let map = Map::create(&kernel, &MapCreate::new(MapType::HASH, 4, 8, 16))?;
//! let counts: HashMap<u32, u64> = map.typed()?;
//! counts.insert(&7, &1, UpdateFlags::empty())?;
//! assert_eq!(counts.get(&7)?, Some(1));
//! assert_eq!(counts.get(&8)?, None);
//! # Ok::<(), skep::map::MapError>(())
//! ```
//!
//! # Types of keys and values
//! They are plain data: every bit pattern is a value and there is no padding, which [`zerocopy`] proves. Numbers and
//! arrays of numbers are; a `#[repr(C)]` struct is once it derives `FromBytes`, `IntoBytes`, `Immutable`,
//! `KnownLayout` and [`PlainData`], with its padding spelled out as fields (a key with padding would not be found again: the
//! kernel compares all bytes). Where the map has BTF, a view is made only when the types lie as that says
//! ([`Map::typed`] has the rules). A view does not allocate to look up or update one element.
//!
//! # Services without a kernel
//! [`traits`] has what a service asks of its maps as traits, and [`memory`] has maps that need no kernel, for its unit
//! tests.
//!
//! # Where a new kind goes
//! A view for a new kind of map is a file here (`hash.rs` is the model) that names its row in `kinds.rs`, a `mod` and
//! a `pub use` line below, a line in the table above, its traits in `traits/views`, and a conformance body in
//! `tests/map_conformance`.

mod arena;
mod array;
mod array_of_maps;
mod atomic;
mod attached_cgroup_storage;
mod batch;
mod batches;
mod bloom;
mod byte_batches;
mod cgroup_array;
mod cgroup_storage;
mod cpu_map;
mod cpu_select;
mod descriptors;
mod dev_map;
mod dev_map_hash;
mod error;
mod handle;
mod hash;
mod hash_of_maps;
mod hints;
mod inode_storage;
mod instruction_array;
mod keys;
pub(crate) mod kinds;
mod label;
mod layout;
mod lpm;
mod many;
mod mapped;
pub mod memory;
mod per_cpu;
mod per_cpu_array;
mod per_cpu_attached_cgroup_storage;
mod per_cpu_batches;
mod per_cpu_hash;
mod perf_event_array;
mod plain;
mod prefix;
mod program_array;
mod queue;
mod reopen;
mod reuseport_array;
mod sk_storage;
mod sock_hash;
mod sock_map;
mod stack;
mod stack_traces;
mod storage;
mod struct_ops;
mod task_storage;
pub mod traits;
mod usage;
mod xsk_map;

pub use arena::Arena;
pub use array::{Array, ArrayIter};
pub use array_of_maps::{ArrayOfMaps, ArrayOfMapsIter};
pub use atomic::Atomic;
pub use attached_cgroup_storage::{AttachedCgroupKey, AttachedCgroupStorage};
pub(crate) use batch::usual_batch;
pub use batches::{Batch, BatchIter, Batches};
pub use bloom::BloomFilter;
pub use byte_batches::{ByteBatch, ByteBatches, ByteEntries};
pub use cgroup_array::CgroupArray;
pub use cgroup_storage::CgroupStorage;
pub use cpu_map::{CpuMap, CpuQueue};
pub use dev_map::{DevMap, Device};
pub use dev_map_hash::DevMapHash;
pub use error::{MapError, MapErrorKind, MapOperation, MapPart};
pub use handle::{Map, MapTypes};
pub use hash::{HashMap, HashMapIter};
pub use hash_of_maps::{HashOfMaps, HashOfMapsIter};
pub use inode_storage::InodeStorage;
pub use instruction_array::{InstructionArray, InstructionArrayIter, InstructionPlace};
pub use keys::{ByteKeys, Keys};
pub use kinds::{KINDS, ViewKind};
pub use label::MapLabel;
pub use layout::{Field, Layout, LayoutKind, LayoutLine, LayoutMismatch};
pub use lpm::{LpmTrie, LpmTrieIter};
pub use many::ManyError;
pub use mapped::MappedArray;
pub(crate) use mapped::shared_memory;
pub use per_cpu::{PerCpuIter, PerCpuRef, PerCpuValues};
pub use per_cpu_array::{PerCpuArray, PerCpuArrayIter};
pub use per_cpu_attached_cgroup_storage::PerCpuAttachedCgroupStorage;
pub use per_cpu_batches::{PerCpuBatch, PerCpuBatchIter, PerCpuBatches};
pub use per_cpu_hash::{PerCpuHashMap, PerCpuHashMapIter};
pub use perf_event_array::PerfEventArray;
#[doc(hidden)]
pub use plain::Plain;
pub use plain::{Opaque, PlainData};
pub use prefix::{Ipv4Prefix, Ipv6Prefix, Prefix, PrefixError};
pub use program_array::{ProgramArray, ProgramArrayIter};
pub use queue::{Queue, QueueDrain};
pub use reuseport_array::ReuseportArray;
pub use sk_storage::SkStorage;
pub use skep_derive::PlainData;
pub use sock_hash::SockHash;
pub use sock_map::SockMap;
pub use stack::{Stack, StackDrain};
pub use stack_traces::{StackFrame, StackTrace, StackTraces, StackTracesIter};
pub use struct_ops::{StructOpsMap, StructOpsState, StructOpsValue};
pub use task_storage::TaskStorage;
pub use xsk_map::XskMap;

//! Maps in memory, for the unit tests of services that are generic over [`traits`](super::traits).
//!
//! They need no kernel, not even a simulated one, and keep the kernel's rules, since they are made of what the simulated
//! kernel is made of: flags, capacity, what is dropped for want of room, indexes, freezing, errno and so
//! [`MapErrorKind`](super::MapErrorKind). One test body runs on them, on the simulated kernel and on Linux.
//!
//! | map | stands for |
//! |---|---|
//! | [`HashMap`] | [`HashMap`](super::HashMap); [`HashMap::lru`] drops what was least recently used |
//! | [`PerCpuHashMap`] | [`PerCpuHashMap`](super::PerCpuHashMap); [`PerCpuHashMap::lru`] too |
//! | [`Array`], [`PerCpuArray`] | [`Array`](super::Array), [`PerCpuArray`](super::PerCpuArray) |
//! | [`LpmTrie`] | [`LpmTrie`](super::LpmTrie) |
//! | [`Queue`], [`Stack`], [`BloomFilter`] | [`Queue`](super::Queue), [`Stack`](super::Stack), [`BloomFilter`](super::BloomFilter) |
//! | [`Events`] | the reader of a ring or perf buffer; [`EventSender`] is the program |
//!
//! What they do is in the traits; beside these there is what a test needs:
//!
//! ```
//! use skep::map::traits::{MapRead, MapWrite};
//! use skep::map::{MapErrorKind, MapOperation, memory};
//! use skep::sys::abi::{Errno, UpdateFlags};
//!
//! let ports = memory::HashMap::<u16, u64>::new(2)?.named("ports");
//! ports.insert(&80, &1, UpdateFlags::NOEXIST)?;
//! ports.insert(&443, &2, UpdateFlags::NOEXIST)?;
//! let error = ports.insert(&22, &3, UpdateFlags::empty()).unwrap_err();
//! assert_eq!(error.kind(), MapErrorKind::Full);
//! assert_eq!(error.to_string(), "cannot update an element of map `ports`: it is full");
//!
//! // What a map in memory never says by itself can be put into its mouth, once.
//! ports.refuse_next(MapOperation::Lookup, Errno::EBUSY);
//! assert_eq!(ports.get(&80).unwrap_err().kind(), MapErrorKind::Busy);
//! assert_eq!(ports.get(&80)?, Some(1));
//!
//! // Clones are the same map.
//! ports.clone().freeze()?;
//! assert_eq!(ports.insert(&80, &9, UpdateFlags::empty()).unwrap_err().kind(), MapErrorKind::Denied);
//! # Ok::<(), skep::map::MapError>(())
//! ```
//!
//! # What is not as in a kernel
//! - Every call is atomic: no value is seen half written.
//! - Hashes are gone through in the order of insertion, and a walk is of the keys at one moment.
//! - An LRU map drops exactly the least recently used element; the kernel drops some elements early.
//! - A bloom filter never claims what it was not given.

mod arrays;
mod core;
mod events;
mod tables;
mod values;

pub use arrays::{Array, PerCpuArray};
pub use events::{EventSender, Events};
pub use tables::{HashMap, LpmTrie, PerCpuHashMap};
pub use values::{BloomFilter, Queue, Stack};

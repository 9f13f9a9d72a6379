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
//! a `pub use` line below, a line in the table above, and a conformance body in `tests/map_conformance`.

mod array;
mod error;
mod handle;
mod hash;
mod keys;
mod kinds;
mod layout;
pub mod memory;
mod per_cpu;
mod per_cpu_array;
mod per_cpu_hash;
mod plain;
pub mod traits;

pub use array::{Array, ArrayIter};
pub use error::{MapError, MapErrorKind, MapOperation, MapPart};
pub use handle::{Map, MapTypes};
pub use hash::{HashMap, HashMapIter};
pub use keys::{ByteKeys, Keys};
pub use kinds::{KINDS, ViewKind};
pub use layout::{Field, Layout, LayoutKind, LayoutLine, LayoutMismatch};
pub use per_cpu::{PerCpuIter, PerCpuValues};
pub use per_cpu_array::{PerCpuArray, PerCpuArrayIter};
pub use per_cpu_hash::{PerCpuHashMap, PerCpuHashMapIter};
#[doc(hidden)]
pub use plain::Plain;
pub use plain::{Opaque, PlainData};
pub use skep_derive::PlainData;

//! What maps do behind their traits: bodies that run alike on maps in memory, on the simulated kernel and on Linux.

#![allow(clippy::print_stdout)]

pub(crate) mod coverage;
mod kernel;
pub(crate) mod objects;
pub(crate) mod sources;
pub(crate) mod tables;
pub(crate) mod values;

use std::fmt::Debug;

use skep::map::traits::{
    Contains, MapDrain, MapIter, MapRead, MapTable, MapTake, MapWrite, PerCpu, Pop, Push,
};
use skep::map::{Ipv4Prefix, MapError, MapErrorKind, PerCpuValues};
use skep::sys::abi::{Errno, UpdateFlags};

pub(crate) use kernel::KernelMaps;

/// Makes empty maps, called `under_test`, of one sort.
pub(crate) trait Maps {
    type Hash: MapTable<u32, u64> + MapTake<u32, u64> + MapDrain<u32, u64>;
    type Array: MapRead<u32, u64> + MapWrite<u32, u64> + MapIter<u32, u64>;
    type PerCpuHash: MapTable<u32, PerCpuValues<u64>>
        + MapTake<u32, PerCpuValues<u64>>
        + MapDrain<u32, PerCpuValues<u64>>
        + PerCpu;
    type PerCpuArray: MapRead<u32, PerCpuValues<u64>>
        + MapWrite<u32, PerCpuValues<u64>>
        + MapIter<u32, PerCpuValues<u64>>
        + PerCpu;

    type Trie: MapTable<Ipv4Prefix, u64>;
    type Queue: Push<u32> + Pop<u32>;
    type Stack: Push<u32> + Pop<u32>;
    type Bloom: Push<u32> + Contains<u32>;

    fn hash(&self, entries: u32) -> Self::Hash;
    fn lru(&self, entries: u32) -> Self::Hash;
    fn array(&self, entries: u32) -> Self::Array;
    fn per_cpu_hash(&self, entries: u32) -> Self::PerCpuHash;
    fn per_cpu_lru(&self, entries: u32) -> Self::PerCpuHash;
    fn per_cpu_array(&self, entries: u32) -> Self::PerCpuArray;

    fn trie(&self, entries: u32) -> Self::Trie;
    fn queue(&self, entries: u32) -> Self::Queue;
    fn stack(&self, entries: u32) -> Self::Stack;
    /// None where the kernel has none.
    fn bloom(&self, entries: u32) -> Option<Self::Bloom>;

    fn freeze_hash(map: &Self::Hash) -> Result<(), MapError>;
    fn freeze_array(map: &Self::Array) -> Result<(), MapError>;
}

/// One test per body. `$maps` gives what makes the maps, or none where a test cannot run.
macro_rules! tests {
    ($maps:path: $($module:ident::$name:ident)*) => {
        $(
            #[test]
            fn $name() {
                if let Some(maps) = $maps(stringify!($name)) {
                    $crate::trait_conformance::$module::$name(&maps);
                }
            }
        )*
    };
    (objects of $maps:path) => {
        $crate::trait_conformance::tests! { $maps: objects::devices objects::cpus objects::sockets objects::storage_of_sockets
            objects::maps_of_maps objects::programs coverage::every_view }
    };
    ($maps:path) => {
        $crate::trait_conformance::tests! { $maps:
            tables::hash tables::lru tables::full tables::taken tables::drained tables::frozen tables::changed_while_visited
            tables::array tables::per_cpu_hash tables::per_cpu_lru tables::per_cpu_array tables::behind_pointers
            tables::trie values::queue values::stack values::bloom
        }
    };
}
pub(crate) use tests;

const ANY: UpdateFlags = UpdateFlags::empty();

#[track_caller]
fn assert_error<T: Debug>(result: Result<T, MapError>, kind: MapErrorKind, errno: Option<Errno>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.errno(), error.map()), (kind, errno, "under_test"), "{error}");
}

/// What `take` answers, unless the kernel is too old to have it.
fn takes<T>(result: Result<T, MapError>) -> Option<T> {
    match result {
        Err(error) if error.kind() == MapErrorKind::Unsupported => {
            println!("skip: take: {error}");
            None
        }
        result => Some(result.unwrap()),
    }
}

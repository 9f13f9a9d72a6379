use skep::map::{Array, HashMap, Map, MapError, PerCpuArray, PerCpuHashMap};
use skep::sys::Kernel;
use skep::sys::abi::MapType;
use skep::sys::request::MapCreate;

use super::Maps;

/// Maps of a kernel.
pub(crate) struct KernelMaps(pub(crate) Kernel);

impl KernelMaps {
    fn map(&self, map_type: MapType, entries: u32) -> Map {
        let mut request = MapCreate::new(map_type, 4, 8, entries);
        request.name = "under_test";
        Map::create(&self.0, &request).unwrap()
    }
}

impl Maps for KernelMaps {
    type Hash = HashMap<u32, u64>;
    type Array = Array<u64>;
    type PerCpuHash = PerCpuHashMap<u32, u64>;
    type PerCpuArray = PerCpuArray<u64>;

    fn hash(&self, entries: u32) -> Self::Hash {
        self.map(MapType::HASH, entries).typed().unwrap()
    }

    fn lru(&self, entries: u32) -> Self::Hash {
        self.map(MapType::LRU_HASH, entries).typed().unwrap()
    }

    fn array(&self, entries: u32) -> Self::Array {
        self.map(MapType::ARRAY, entries).typed().unwrap()
    }

    fn per_cpu_hash(&self, entries: u32) -> Self::PerCpuHash {
        self.map(MapType::PERCPU_HASH, entries).typed().unwrap()
    }

    fn per_cpu_lru(&self, entries: u32) -> Self::PerCpuHash {
        self.map(MapType::LRU_PERCPU_HASH, entries).typed().unwrap()
    }

    fn per_cpu_array(&self, entries: u32) -> Self::PerCpuArray {
        self.map(MapType::PERCPU_ARRAY, entries).typed().unwrap()
    }

    fn freeze_hash(map: &Self::Hash) -> Result<(), MapError> {
        map.as_map().freeze()
    }

    fn freeze_array(map: &Self::Array) -> Result<(), MapError> {
        map.as_map().freeze()
    }
}

use skep::map::{
    Array, BloomFilter, HashMap, Ipv4Prefix, LpmTrie, Map, MapError, PerCpuArray, PerCpuHashMap, Queue, Stack,
};
use skep::sys::abi::{MapFlags, MapType};
use skep::sys::request::MapCreate;
use skep::sys::{Feature, Kernel};

use super::Maps;

/// Maps of a kernel.
pub(crate) struct KernelMaps(pub(crate) Kernel);

impl KernelMaps {
    fn map(&self, map_type: MapType, entries: u32) -> Map {
        let mut request = MapCreate::new(map_type, 4, 8, entries);
        request.name = "under_test";
        Map::create(&self.0, &request).unwrap()
    }

    fn without_keys(&self, map_type: MapType, entries: u32) -> Result<Map, MapError> {
        let mut request = MapCreate::new(map_type, 0, 4, entries);
        request.name = "under_test";
        Map::create(&self.0, &request)
    }
}

impl Maps for KernelMaps {
    type Hash = HashMap<u32, u64>;
    type Array = Array<u64>;
    type PerCpuHash = PerCpuHashMap<u32, u64>;
    type PerCpuArray = PerCpuArray<u64>;
    type Trie = LpmTrie<Ipv4Prefix, u64>;
    type Queue = Queue<u32>;
    type Stack = Stack<u32>;
    type Bloom = BloomFilter<u32>;

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

    fn trie(&self, entries: u32) -> Self::Trie {
        let mut request = MapCreate::new(MapType::LPM_TRIE, 8, 8, entries);
        request.name = "under_test";
        request.flags = MapFlags::NO_PREALLOC;
        Map::create(&self.0, &request).unwrap().typed().unwrap()
    }

    fn queue(&self, entries: u32) -> Self::Queue {
        self.without_keys(MapType::QUEUE, entries).unwrap().typed().unwrap()
    }

    fn stack(&self, entries: u32) -> Self::Stack {
        self.without_keys(MapType::STACK, entries).unwrap().typed().unwrap()
    }

    fn bloom(&self, entries: u32) -> Option<Self::Bloom> {
        if self.0.has(Feature::MapType(MapType::BLOOM_FILTER)).is_unsupported() {
            println!("skip: bloom: this kernel has no bloom filters");
            return None;
        }
        Some(self.without_keys(MapType::BLOOM_FILTER, entries).unwrap().typed().unwrap())
    }

    fn freeze_hash(map: &Self::Hash) -> Result<(), MapError> {
        map.as_map().freeze()
    }

    fn freeze_array(map: &Self::Array) -> Result<(), MapError> {
        map.as_map().freeze()
    }
}

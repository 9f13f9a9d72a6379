use skep::map::{Ipv4Prefix, MapError, memory};

use crate::trait_conformance::Maps;

/// Maps in memory, as on a machine with so many possible CPUs.
pub(crate) struct MemoryMaps {
    pub(crate) cpus: u32,
}

impl Maps for MemoryMaps {
    type Hash = memory::HashMap<u32, u64>;
    type Array = memory::Array<u64>;
    type PerCpuHash = memory::PerCpuHashMap<u32, u64>;
    type PerCpuArray = memory::PerCpuArray<u64>;
    type Trie = memory::LpmTrie<Ipv4Prefix, u64>;
    type Queue = memory::Queue<u32>;
    type Stack = memory::Stack<u32>;
    type Bloom = memory::BloomFilter<u32>;

    fn hash(&self, entries: u32) -> Self::Hash {
        memory::HashMap::new(entries).unwrap().named("under_test")
    }

    fn lru(&self, entries: u32) -> Self::Hash {
        memory::HashMap::lru(entries).unwrap().named("under_test")
    }

    fn array(&self, entries: u32) -> Self::Array {
        memory::Array::new(entries).unwrap().named("under_test")
    }

    fn per_cpu_hash(&self, entries: u32) -> Self::PerCpuHash {
        memory::PerCpuHashMap::new(entries, self.cpus).unwrap().named("under_test")
    }

    fn per_cpu_lru(&self, entries: u32) -> Self::PerCpuHash {
        memory::PerCpuHashMap::lru(entries, self.cpus).unwrap().named("under_test")
    }

    fn per_cpu_array(&self, entries: u32) -> Self::PerCpuArray {
        memory::PerCpuArray::new(entries, self.cpus).unwrap().named("under_test")
    }

    fn trie(&self, entries: u32) -> Self::Trie {
        memory::LpmTrie::new(entries).unwrap().named("under_test")
    }

    fn queue(&self, entries: u32) -> Self::Queue {
        memory::Queue::new(entries).unwrap().named("under_test")
    }

    fn stack(&self, entries: u32) -> Self::Stack {
        memory::Stack::new(entries).unwrap().named("under_test")
    }

    fn bloom(&self, entries: u32) -> Option<Self::Bloom> {
        Some(memory::BloomFilter::new(entries).unwrap().named("under_test"))
    }

    fn freeze_hash(map: &Self::Hash) -> Result<(), MapError> {
        map.freeze()
    }

    fn freeze_array(map: &Self::Array) -> Result<(), MapError> {
        map.freeze()
    }
}

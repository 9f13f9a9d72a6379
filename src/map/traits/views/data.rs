//! Maps whose values are data.

use std::ops::ControlFlow;

use skep_sys::abi::UpdateFlags;

use super::{read, remove, visit, write};
use crate::map::traits::{
    Contains, MapDrain, MapIter, MapRead, MapRemove, MapTake, MapWrite, PerCpu, Pop, Push,
};
use crate::map::{
    Array, AttachedCgroupStorage, BloomFilter, HashMap, LpmTrie, MapError, PerCpuArray,
    PerCpuAttachedCgroupStorage, PerCpuHashMap, PerCpuValues, PlainData, Queue, Stack, usual_batch,
};

/// Hashes.
macro_rules! hash {
    ($view:ty: $element:ty) => {
        read!([K: PlainData, V: PlainData] $view: K => $element, |map, key| map.get(key));
        write!([K: PlainData, V: PlainData] $view: K => $element, |map, key, value, flags| map.insert(key, value, flags));
        remove!([K: PlainData, V: PlainData] $view: K, |map, key| map.remove(key));
        visit!([K: PlainData, V: PlainData] $view: K => $element, |map| map.iter());

        impl<K: PlainData, V: PlainData> MapTake<K, $element> for $view {
            fn take(&self, key: &K) -> Result<Option<$element>, MapError> {
                self.lookup_and_delete(key)
            }
        }

        impl<K: PlainData, V: PlainData> MapDrain<K, $element> for $view {
            fn drain_all(&self, each: &mut dyn FnMut(K, $element)) -> Result<(), MapError> {
                for element in self.drain(usual_batch(self.as_map())) {
                    let (key, value) = element?;
                    each(key, value);
                }
                Ok(())
            }
        }
    };
}

hash!(HashMap<K, V>: V);
hash!(PerCpuHashMap<K, V>: PerCpuValues<V>);

/// Arrays.
macro_rules! array {
    ($view:ty: $element:ty) => {
        read!([V: PlainData] $view: u32 => $element, |map, index| map.get(*index));
        write!([V: PlainData] $view: u32 => $element, |map, index, value, flags| map.set(*index, value, flags));
        visit!([V: PlainData] $view: u32 => $element, |map| {
            (0..map.len()).zip(map.iter()).map(|(index, value)| Ok::<_, MapError>((index, value?)))
        });
    };
}

array!(Array<V>: V);
array!(PerCpuArray<V>: PerCpuValues<V>);

read!([P: PlainData, V: PlainData] LpmTrie<P, V>: P => V, |map, key| map.longest_match(key));
write!([P: PlainData, V: PlainData] LpmTrie<P, V>: P => V, |map, key, value, flags| map.insert(key, value, flags));
remove!([P: PlainData, V: PlainData] LpmTrie<P, V>: P, |map, key| map.remove(key));
visit!([P: PlainData, V: PlainData] LpmTrie<P, V>: P => V, |map| map.iter());

/// Maps without keys that values come out of again.
macro_rules! ends {
    ($view:ident) => {
        impl<V: PlainData> Push<V> for $view<V> {
            fn push(&self, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
                self.as_map().update(&[], value.as_bytes(), flags)
            }
        }

        impl<V: PlainData> Pop<V> for $view<V> {
            fn pop(&self) -> Result<Option<V>, MapError> {
                $view::pop(self)
            }

            fn peek(&self) -> Result<Option<V>, MapError> {
                $view::peek(self)
            }
        }
    };
}

ends!(Queue);
ends!(Stack);

impl<V: PlainData> Push<V> for BloomFilter<V> {
    fn push(&self, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.as_map().update(&[], value.as_bytes(), flags)
    }
}

impl<V: PlainData> Contains<V> for BloomFilter<V> {
    fn contains(&self, value: &V) -> Result<bool, MapError> {
        self.may_contain(value)
    }
}

/// Storage whose elements come and go with attachments.
macro_rules! attached {
    ($view:ty: $element:ty) => {
        read!([K: PlainData, V: PlainData] $view: K => $element, |map, key| map.get(key));
        write!([K: PlainData, V: PlainData] $view: K => $element, |map, key, value, flags| map.set(key, value, flags));
        visit!([K: PlainData, V: PlainData] $view: K => $element, |map| map.iter());
    };
}

attached!(AttachedCgroupStorage<K, V>: V);
attached!(PerCpuAttachedCgroupStorage<K, V>: PerCpuValues<V>);

macro_rules! per_cpu {
    ($view:ident<$($param:ident),+>) => {
        impl<$($param),+> PerCpu for $view<$($param),+> {
            fn cpus(&self) -> u32 {
                self.as_map().values_per_element()
            }
        }
    };
}

per_cpu!(PerCpuHashMap<K, V>);
per_cpu!(PerCpuArray<V>);
per_cpu!(PerCpuAttachedCgroupStorage<K, V>);

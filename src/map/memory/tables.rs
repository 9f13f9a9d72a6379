use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use skep_sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep_sys::request::MapCreate;

use super::core::{Core, elements, memory, one, per_cpu};
use crate::map::traits::{MapDrain, MapIter, MapRead, MapRemove, MapTake, MapWrite, PerCpu};
use crate::map::{MapError, MapOperation, PerCpuValues, PlainData};

/// What a table of keys and values is asked for as.
fn request<K, V>(map_type: MapType, max_entries: u32) -> MapCreate<'static> {
    // What does not fit is more than a kernel takes.
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    MapCreate::new(map_type, size(size_of::<K>()), size(size_of::<V>()), max_entries)
}

macro_rules! remove {
    ($map:ident) => {
        impl<K: PlainData, V: PlainData> MapRemove<K> for $map<K, V> {
            fn remove(&self, key: &K) -> Result<bool, MapError> {
                self.core.delete(key.as_bytes())
            }
        }
    };
}

macro_rules! take {
    ($map:ident<$value:ident>, $element:ty, $as:ident) => {
        impl<K: PlainData, $value: PlainData> MapTake<K, $element> for $map<K, $value> {
            fn take(&self, key: &K) -> Result<Option<$element>, MapError> {
                let mut value: $element = $as::zeroed(&self.core);
                Ok(self.core.take(key.as_bytes(), $as::bytes_mut(&mut value))?.then_some(value))
            }
        }

        impl<K: PlainData, $value: PlainData> MapDrain<K, $element> for $map<K, $value> {
            fn drain_all(&self, each: &mut dyn FnMut(K, $element)) -> Result<(), MapError> {
                self.core.walk(|key: K| {
                    if let Some(value) = self.take(&key)? {
                        each(key, value);
                    }
                    Ok(ControlFlow::Continue(()))
                })
            }
        }
    };
}

/// A hash table in memory, as [`map::HashMap`](crate::map::HashMap) is one in a kernel. Keys are compared by their bytes.
///
/// ```
/// use skep::map::memory;
/// use skep::map::traits::{MapIter, MapRead, MapTake, MapWrite};
/// use skep::sys::abi::UpdateFlags;
///
/// let recent = memory::HashMap::<u32, u64>::lru(2)?;
/// for key in 1..=3 {
///     recent.insert(&key, &u64::from(key), UpdateFlags::empty())?;
/// }
/// assert_eq!(recent.to_vec()?, [(2, 2), (3, 3)]);
/// assert_eq!(recent.take(&3)?, Some(3));
/// assert_eq!(recent.get(&3)?, None);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct HashMap<K, V> {
    core: Core,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: PlainData, V: PlainData> HashMap<K, V> {
    /// A table that is full with that many elements (`BPF_MAP_TYPE_HASH`).
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for what no kernel creates: no elements, no key or value, or too large ones.
    pub fn new(max_entries: u32) -> Result<HashMap<K, V>, MapError> {
        let core = Core::new(&request::<K, V>(MapType::HASH, max_entries), 1)?;
        Ok(HashMap { core, types: PhantomData })
    }

    /// A table that drops what was least recently used when it is full (`BPF_MAP_TYPE_LRU_HASH`).
    ///
    /// # Errors
    /// As [`new`](HashMap::new).
    pub fn lru(max_entries: u32) -> Result<HashMap<K, V>, MapError> {
        let core = Core::new(&request::<K, V>(MapType::LRU_HASH, max_entries), 1)?;
        Ok(HashMap { core, types: PhantomData })
    }
}

memory!(HashMap<K, V>);
elements!(HashMap<K, V>, K, V, one);
remove!(HashMap);
take!(HashMap<V>, V, one);

/// A hash table in memory with a value per CPU in each element, as
/// [`map::PerCpuHashMap`](crate::map::PerCpuHashMap) is one in a kernel.
///
/// ```
/// use skep::map::traits::{MapRead, MapWrite};
/// use skep::map::{PerCpuValues, memory};
/// use skep::sys::abi::UpdateFlags;
///
/// let packets = memory::PerCpuHashMap::<u16, u64>::new(8, 4)?;
/// packets.insert(&443, &PerCpuValues::from_fn(4, |cpu| u64::from(cpu) * 10), UpdateFlags::empty())?;
/// assert_eq!(packets.get(&443)?.map(|values| values.iter().sum()), Some(60u64));
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct PerCpuHashMap<K, V> {
    core: Core,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: PlainData, V: PlainData> PerCpuHashMap<K, V> {
    /// A table that is full with that many elements (`BPF_MAP_TYPE_PERCPU_HASH`), as on a machine with so many possible
    /// CPUs.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for what no kernel creates: no elements, no key or value, or too large ones.
    pub fn new(max_entries: u32, cpus: u32) -> Result<PerCpuHashMap<K, V>, MapError> {
        let core = Core::new(&request::<K, V>(MapType::PERCPU_HASH, max_entries), cpus)?;
        Ok(PerCpuHashMap { core, types: PhantomData })
    }

    /// A table that drops what was least recently used when it is full (`BPF_MAP_TYPE_LRU_PERCPU_HASH`).
    ///
    /// # Errors
    /// As [`new`](PerCpuHashMap::new).
    pub fn lru(max_entries: u32, cpus: u32) -> Result<PerCpuHashMap<K, V>, MapError> {
        let core = Core::new(&request::<K, V>(MapType::LRU_PERCPU_HASH, max_entries), cpus)?;
        Ok(PerCpuHashMap { core, types: PhantomData })
    }
}

memory!(PerCpuHashMap<K, V>);
elements!(PerCpuHashMap<K, V>, K, PerCpuValues<V>, per_cpu);
remove!(PerCpuHashMap);
take!(PerCpuHashMap<V>, PerCpuValues<V>, per_cpu);

impl<K, V> PerCpu for PerCpuHashMap<K, V> {
    fn cpus(&self) -> u32 {
        self.core.map().values_per_element()
    }
}

/// A trie in memory that finds the longest prefix, as [`map::LpmTrie`](crate::map::LpmTrie) is one in a kernel. A key is a
/// [`Prefix`](crate::map::Prefix), or other data that begin with the length in bits as a native `u32`.
///
/// ```
/// use std::net::Ipv4Addr;
///
/// use skep::map::traits::{MapRead, MapRemove, MapWrite};
/// use skep::map::{Ipv4Prefix, memory};
/// use skep::sys::abi::UpdateFlags;
///
/// let blocked = memory::LpmTrie::<Ipv4Prefix, u32>::new(8)?;
/// blocked.insert(&"10.0.0.0/8".parse()?, &1, UpdateFlags::empty())?;
/// blocked.insert(&"10.1.0.0/16".parse()?, &2, UpdateFlags::empty())?;
/// assert_eq!(blocked.get(&Ipv4Addr::new(10, 1, 2, 3).into())?, Some(2));
/// assert_eq!(blocked.get(&Ipv4Addr::new(10, 2, 2, 3).into())?, Some(1));
/// assert!(!blocked.remove(&"10.1.2.3".parse()?)?);
/// assert!(blocked.remove(&"10.1.0.0/16".parse()?)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LpmTrie<K, V> {
    core: Core,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: PlainData, V: PlainData> LpmTrie<K, V> {
    /// A trie that is full with that many prefixes.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for what no kernel creates: no elements, or keys of other than 5 to 260 bytes.
    pub fn new(max_entries: u32) -> Result<LpmTrie<K, V>, MapError> {
        let mut request = request::<K, V>(MapType::LPM_TRIE, max_entries);
        request.flags = MapFlags::NO_PREALLOC;
        Ok(LpmTrie { core: Core::new(&request, 1)?, types: PhantomData })
    }
}

memory!(LpmTrie<K, V>);
elements!(LpmTrie<K, V>, K, V, one);
remove!(LpmTrie);

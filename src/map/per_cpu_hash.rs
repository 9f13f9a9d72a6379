use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;
use zerocopy::IntoBytes;

use super::batch::Reading;
use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{PER_CPU_HASH, view};
use super::many::ManyError;
use super::per_cpu::{PerCpuValues, insert_many};
use super::per_cpu_batches::{PerCpuBatchIter, PerCpuBatches};
use super::plain::PlainData;

/// A hash table with a value per CPU in each element (`BPF_MAP_TYPE_PERCPU_HASH`, Linux 4.6), or one that drops what
/// was least recently used when it is full (`BPF_MAP_TYPE_LRU_PERCPU_HASH`, Linux 4.10). Made by [`Map::typed`].
///
/// A program sees the value of the CPU that it runs on, user space those of all possible CPUs.
///
/// ```
/// use skep::map::{Map, PerCpuHashMap};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::PERCPU_HASH, 4, 8, 16))?;
/// let packets: PerCpuHashMap<u32, u64> = map.typed()?;
/// let mut values = packets.zeroed_values();
/// values.set(0, &3);
/// values.set(1, &4);
/// packets.insert(&443, &values, UpdateFlags::empty())?;
/// let values = packets.get(&443)?.expect("it was put there");
/// assert_eq!(values.iter().sum::<u64>(), 7);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_PERCPU_HASH")]
#[doc(alias = "BPF_MAP_TYPE_LRU_PERCPU_HASH")]
pub struct PerCpuHashMap<K, V> {
    map: Map,
    types: PhantomData<fn() -> (K, V)>,
}

view!(PerCpuHashMap<K, V>, PER_CPU_HASH, K, V);

impl<K: PlainData, V: PlainData> PerCpuHashMap<K, V> {
    /// Zeroes for every CPU, as many as an element of this map has.
    pub fn zeroed_values(&self) -> PerCpuValues<V> {
        PerCpuValues::zeroed(self.map.values_per_element())
    }

    /// The values at `key`, if there are any, in memory of their own.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, key: &K) -> Result<Option<PerCpuValues<V>>, MapError> {
        let mut values = self.zeroed_values();
        Ok(self.get_into(key, &mut values)?.then_some(values))
    }

    /// Reads the values at `key` into `values`, without allocating. Answers whether there are any; if not, `values`
    /// are as before.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`], [`MapError::Failed`].
    pub fn get_into(&self, key: &K, values: &mut PerCpuValues<V>) -> Result<bool, MapError> {
        values.check(&self.map)?;
        self.map.lookup_into(key.as_bytes(), values.bytes_mut(), UpdateFlags::empty())
    }

    /// Writes the values at `key`: whether or not there are any, unless the flags say otherwise.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`]; [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full);
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn insert(&self, key: &K, values: &PerCpuValues<V>, flags: UpdateFlags) -> Result<(), MapError> {
        values.check(&self.map)?;
        self.map.update(key.as_bytes(), values.as_bytes(), flags)
    }

    /// Removes the element at `key`. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// Removes the element at `key` and answers its values, in one step (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`,
    /// Linux 5.14).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Unsupported`](super::MapErrorKind::Unsupported) on older kernels.
    pub fn lookup_and_delete(&self, key: &K) -> Result<Option<PerCpuValues<V>>, MapError> {
        let mut values = self.zeroed_values();
        let flags = UpdateFlags::empty();
        let found = self.map.lookup_and_delete(key.as_bytes(), values.bytes_mut(), flags)?;
        Ok(found.then_some(values))
    }

    /// As [`lookup_and_delete`](PerCpuHashMap::lookup_and_delete), into `values`, without allocating. Answers whether there was an
    /// element; if not, `values` are as before.
    ///
    /// # Errors
    /// As [`lookup_and_delete`](PerCpuHashMap::lookup_and_delete), and [`MapError::WrongCpuCount`].
    pub fn lookup_and_delete_into(&self, key: &K, values: &mut PerCpuValues<V>) -> Result<bool, MapError> {
        values.check(&self.map)?;
        self.map.lookup_and_delete(key.as_bytes(), values.bytes_mut(), UpdateFlags::empty())
    }

    /// All keys; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All elements, with the guarantees of [`Keys`]; one whose key goes away before it is read is left out.
    pub fn iter(&self) -> PerCpuHashMapIter<'_, K, V> {
        PerCpuHashMapIter { view: self, keys: self.keys() }
    }

    /// The values of all elements, as of [`iter`](PerCpuHashMap::iter).
    pub fn values(&self) -> impl FusedIterator<Item = Result<PerCpuValues<V>, MapError>> {
        self.iter().map(|element| Ok(element?.1))
    }

    /// The elements in batches of about so many, each one call of the kernel, without a copy; see [`Batches`](super::Batches).
    ///
    /// ```
    /// # use skep::map::{Map, PerCpuHashMap, PerCpuValues};
    /// # use skep::sys::abi::{MapType, UpdateFlags};
    /// # use skep::sys::request::MapCreate;
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::LRU_PERCPU_HASH, 4, 8, 100))?;
    /// let flows: PerCpuHashMap<u32, u64> = map.typed()?;
    /// let values = [PerCpuValues::from_fn(2, |cpu| 1 + u64::from(cpu)), PerCpuValues::from_fn(2, |_| 5)];
    /// flows.insert_many(&[7, 8], &values, UpdateFlags::empty())?;
    ///
    /// let mut batches = flows.drain_batches(64);
    /// let mut sums = Vec::new();
    /// while let Some(batch) = batches.next_batch()? {
    ///     sums.extend(batch.iter().map(|(flow, values)| (*flow, values.iter().sum::<u64>())));
    /// }
    /// sums.sort();
    /// assert_eq!(sums, [(7, 3), (8, 10)]);
    /// assert_eq!(flows.iter().count(), 0);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    pub fn batches(&self, size: usize) -> PerCpuBatches<'_, K, V> {
        PerCpuBatches::new(&self.map, Reading::Look, size)
    }

    /// All elements, read in batches of about so many; see [`Batches`](super::Batches) for what holds while the map changes.
    pub fn iter_batched(&self, size: usize) -> PerCpuBatchIter<'_, K, V> {
        PerCpuBatchIter::new(&self.map, Reading::Look, size)
    }

    /// Takes all elements out of the map, in batches of about so many (`BPF_MAP_LOOKUP_AND_DELETE_BATCH`, Linux 5.6; one by
    /// one where the kernel does not have it).
    ///
    /// A program that found an element before it was taken may still write to it, and that is lost: it can be at most what
    /// programs do that run at that moment.
    pub fn drain(&self, size: usize) -> PerCpuBatchIter<'_, K, V> {
        PerCpuBatchIter::new(&self.map, Reading::Take, size)
    }

    /// As [`drain`](PerCpuHashMap::drain), a batch at a time and without a copy.
    pub fn drain_batches(&self, size: usize) -> PerCpuBatches<'_, K, V> {
        PerCpuBatches::new(&self.map, Reading::Take, size)
    }

    /// Writes many elements: the first values at the first key, and so on; see [`Map::insert_many`].
    ///
    /// # Errors
    /// [`ManyError`] says how many were written before the one that failed.
    pub fn insert_many(
        &self,
        keys: &[K],
        values: &[PerCpuValues<V>],
        flags: UpdateFlags,
    ) -> Result<(), ManyError> {
        insert_many(&self.map, keys, values, flags)
    }

    /// Removes many elements. Answers how many there were; see [`Map::remove_many`].
    ///
    /// # Errors
    /// [`ManyError`] says how many keys were dealt with before the one that failed.
    pub fn remove_many(&self, keys: &[K]) -> Result<usize, ManyError> {
        self.map.remove_many(keys.as_bytes())
    }
}

impl<'a, K: PlainData, V: PlainData> IntoIterator for &'a PerCpuHashMap<K, V> {
    type Item = Result<(K, PerCpuValues<V>), MapError>;
    type IntoIter = PerCpuHashMapIter<'a, K, V>;

    fn into_iter(self) -> PerCpuHashMapIter<'a, K, V> {
        self.iter()
    }
}

/// The elements of a [`PerCpuHashMap`], from [`PerCpuHashMap::iter`].
#[derive(Debug)]
pub struct PerCpuHashMapIter<'a, K, V> {
    view: &'a PerCpuHashMap<K, V>,
    keys: Keys<'a, K>,
}

impl<K: PlainData, V: PlainData> Iterator for PerCpuHashMapIter<'_, K, V> {
    type Item = Result<(K, PerCpuValues<V>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.keys.next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            match self.view.get(&key) {
                Ok(Some(values)) => return Some(Ok((key, values))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<K: PlainData, V: PlainData> FusedIterator for PerCpuHashMapIter<'_, K, V> {}

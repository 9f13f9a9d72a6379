use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;
use zerocopy::IntoBytes;

use super::batch::Reading;
use super::batches::{BatchIter, Batches};
use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{HASH, view};
use super::many::ManyError;
use super::plain::PlainData;

/// A hash table (`BPF_MAP_TYPE_HASH`, Linux 3.19), or one that drops what was least recently used when it is full
/// (`BPF_MAP_TYPE_LRU_HASH`, Linux 4.10). Made by [`Map::typed`].
///
/// A value is read without a lock. One that others replace, remove or change in place meanwhile can be read half written,
/// and after its removal can be that of another key, whose element took its place: hashes reuse elements at once unless
/// they were created with [`MapFlags::NO_PREALLOC`](skep_sys::abi::MapFlags::NO_PREALLOC). A spin lock in the value
/// ([`UpdateFlags::LOCK`]) keeps it whole.
///
/// ```
/// use skep::map::{HashMap, Map, MapErrorKind};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 4, 8, 2))?;
/// let ports: HashMap<[u8; 4], u64> = map.typed()?;
/// ports.insert(&[10, 0, 0, 1], &80, UpdateFlags::empty())?;
/// ports.insert(&[10, 0, 0, 2], &443, UpdateFlags::NOEXIST)?;
///
/// let full = ports.insert(&[10, 0, 0, 3], &22, UpdateFlags::empty()).unwrap_err();
/// assert_eq!(full.kind(), MapErrorKind::Full);
///
/// let mut all = ports.iter().collect::<Result<Vec<_>, _>>()?;
/// all.sort();
/// assert_eq!(all, [([10, 0, 0, 1], 80), ([10, 0, 0, 2], 443)]);
/// assert!(ports.remove(&[10, 0, 0, 1])?);
/// assert!(!ports.remove(&[10, 0, 0, 1])?);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_HASH")]
#[doc(alias = "BPF_MAP_TYPE_LRU_HASH")]
pub struct HashMap<K, V> {
    map: Map,
    types: PhantomData<fn() -> (K, V)>,
}

view!(HashMap<K, V>, HASH, K, V);

impl<K: PlainData, V: PlainData> HashMap<K, V> {
    /// The value at `key`, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        self.get_with(key, UpdateFlags::empty())
    }

    /// As [`get`](HashMap::get), with flags: [`UpdateFlags::LOCK`] reads under the value's spin lock (Linux 5.1).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Invalid`](super::MapErrorKind::Invalid) for a value without a lock.
    pub fn get_with(&self, key: &K, flags: UpdateFlags) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup_into(key.as_bytes(), value.as_mut_bytes(), flags)?;
        Ok(found.then_some(value))
    }

    /// Reads the value at `key` into `value`, for values that are too large to be moved. Answers whether there is one;
    /// if not, `value` is as before.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get_into(&self, key: &K, value: &mut V) -> Result<bool, MapError> {
        self.map.lookup_into(key.as_bytes(), value.as_mut_bytes(), UpdateFlags::empty())
    }

    /// Writes the value at `key`: whether or not there is one, unless the flags say otherwise.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full);
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn insert(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update(key.as_bytes(), value.as_bytes(), flags)
    }

    /// Removes the element at `key`. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// Removes the element at `key` and answers its value, in one step (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`,
    /// Linux 5.14).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Unsupported`](super::MapErrorKind::Unsupported) on older kernels.
    pub fn lookup_and_delete(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let flags = UpdateFlags::empty();
        let found = self.map.lookup_and_delete(key.as_bytes(), value.as_mut_bytes(), flags)?;
        Ok(found.then_some(value))
    }

    /// As [`lookup_and_delete`](HashMap::lookup_and_delete), into `value`, and with flags: [`UpdateFlags::LOCK`] reads under the
    /// value's spin lock. Answers whether there was one; if not, `value` is as before.
    ///
    /// # Errors
    /// As [`lookup_and_delete`](HashMap::lookup_and_delete).
    pub fn lookup_and_delete_into(
        &self,
        key: &K,
        value: &mut V,
        flags: UpdateFlags,
    ) -> Result<bool, MapError> {
        self.map.lookup_and_delete(key.as_bytes(), value.as_mut_bytes(), flags)
    }

    /// All keys; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All elements, with the guarantees of [`Keys`]; one whose key goes away before it is read is left out.
    pub fn iter(&self) -> HashMapIter<'_, K, V> {
        HashMapIter { view: self, keys: self.keys() }
    }

    /// All values, as of [`iter`](HashMap::iter).
    pub fn values(&self) -> impl FusedIterator<Item = Result<V, MapError>> {
        self.iter().map(|element| Ok(element?.1))
    }

    /// The elements in batches of about so many, each one call of the kernel, without a copy; see [`Batches`].
    ///
    /// ```
    /// use skep::map::{HashMap, Map};
    /// use skep::sys::abi::{MapType, UpdateFlags};
    /// use skep::sys::request::MapCreate;
    ///
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 4, 8, 10_000))?;
    /// let bytes: HashMap<u32, u64> = map.typed()?;
    /// bytes.insert_many(&[1, 2, 3], &[10, 20, 30], UpdateFlags::empty())?;
    ///
    /// let mut batches = bytes.batches(1024);
    /// let mut total = 0;
    /// while let Some(batch) = batches.next_batch()? {
    ///     total += batch.values().iter().sum::<u64>();
    /// }
    /// assert_eq!(total, 60);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    pub fn batches(&self, size: usize) -> Batches<'_, K, V> {
        self.batches_with(size, UpdateFlags::empty())
    }

    /// As [`batches`](HashMap::batches), with flags: [`UpdateFlags::LOCK`] reads each value under its spin lock.
    pub fn batches_with(&self, size: usize, flags: UpdateFlags) -> Batches<'_, K, V> {
        Batches::new(&self.map, Reading::Look, size, flags)
    }

    /// All elements, read in batches of about so many; see [`Batches`] for what holds while the map changes, which is more
    /// than for [`iter`](HashMap::iter).
    pub fn iter_batched(&self, size: usize) -> BatchIter<'_, K, V> {
        BatchIter::new(&self.map, Reading::Look, size, UpdateFlags::empty())
    }

    /// Takes all elements out of the map, in batches of about so many (`BPF_MAP_LOOKUP_AND_DELETE_BATCH`, Linux 5.6; one by
    /// one where the kernel does not have it). What programs put there meanwhile is taken or stays.
    ///
    /// ```
    /// # use skep::map::{HashMap, Map};
    /// # use skep::sys::abi::{MapType, UpdateFlags};
    /// # use skep::sys::request::MapCreate;
    /// # let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 4, 8, 100))?;
    /// # let bytes: HashMap<u32, u64> = map.typed()?;
    /// bytes.insert_many(&[1, 2, 3], &[10, 20, 30], UpdateFlags::empty())?;
    /// let taken = bytes.drain(64).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(taken.len(), 3);
    /// assert_eq!(bytes.iter().count(), 0);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    pub fn drain(&self, size: usize) -> BatchIter<'_, K, V> {
        BatchIter::new(&self.map, Reading::Take, size, UpdateFlags::empty())
    }

    /// As [`drain`](HashMap::drain), a batch at a time and without a copy.
    pub fn drain_batches(&self, size: usize) -> Batches<'_, K, V> {
        Batches::new(&self.map, Reading::Take, size, UpdateFlags::empty())
    }

    /// Writes many elements: the first value at the first key, and so on; see [`Map::insert_many`].
    ///
    /// # Errors
    /// [`ManyError`] says how many were written before the one that failed; of kind
    /// [`Length`](super::MapErrorKind::Length) when there are not as many keys as values.
    pub fn insert_many(&self, keys: &[K], values: &[V], flags: UpdateFlags) -> Result<(), ManyError> {
        self.map.insert_many(keys.as_bytes(), values.as_bytes(), flags)
    }

    /// Removes many elements. Answers how many there were; see [`Map::remove_many`].
    ///
    /// # Errors
    /// [`ManyError`] says how many keys were dealt with before the one that failed.
    pub fn remove_many(&self, keys: &[K]) -> Result<usize, ManyError> {
        self.map.remove_many(keys.as_bytes())
    }
}

impl<'a, K: PlainData, V: PlainData> IntoIterator for &'a HashMap<K, V> {
    type Item = Result<(K, V), MapError>;
    type IntoIter = HashMapIter<'a, K, V>;

    fn into_iter(self) -> HashMapIter<'a, K, V> {
        self.iter()
    }
}

/// The elements of a [`HashMap`], from [`HashMap::iter`].
#[derive(Debug)]
pub struct HashMapIter<'a, K, V> {
    view: &'a HashMap<K, V>,
    keys: Keys<'a, K>,
}

impl<K: PlainData, V: PlainData> Iterator for HashMapIter<'_, K, V> {
    type Item = Result<(K, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.keys.next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            match self.view.get(&key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<K: PlainData, V: PlainData> FusedIterator for HashMapIter<'_, K, V> {}

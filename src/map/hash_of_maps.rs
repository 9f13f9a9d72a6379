use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::{MapId, UpdateFlags};

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{HASH_OF_MAPS, view};
use super::plain::PlainData;

/// A hash table of maps (`BPF_MAP_TYPE_HASH_OF_MAPS`, Linux 4.12). Made by [`Map::typed`].
///
/// All maps in it are shaped as the one that it was created with: kind, sizes, flags, and for arrays the number of
/// elements. Programs see a map that is put in at once; the one that it replaces lives on while they use it.
///
/// ```
/// use skep::map::{HashMap, HashOfMaps, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
/// use std::os::fd::AsFd;
///
/// let kernel = skep::sim::kernel();
/// let inner = MapCreate::new(MapType::HASH, 4, 8, 16);
/// let first = Map::create(&kernel, &inner)?;
/// let mut outer = MapCreate::new(MapType::HASH_OF_MAPS, 2, 4, 2);
/// outer.inner_map = Some(first.as_fd());
/// let per_port: HashOfMaps<u16> = Map::create(&kernel, &outer)?.typed()?;
///
/// per_port.insert(&443, &first, UpdateFlags::NOEXIST)?;
/// let counts: HashMap<u32, u64> = per_port.get(&443)?.expect("it was put there").typed()?;
/// counts.insert(&1, &7, UpdateFlags::empty())?;
/// assert_eq!(first.typed::<HashMap<u32, u64>>()?.get(&1)?, Some(7));
/// assert!(per_port.get(&80)?.is_none());
/// assert_eq!(per_port.iter().collect::<Result<Vec<_>, _>>()?, [(443, first.id()?)]);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_HASH_OF_MAPS")]
pub struct HashOfMaps<K> {
    map: Map,
    types: PhantomData<fn() -> K>,
}

view!(HashOfMaps<K>, HASH_OF_MAPS, |map| HASH_OF_MAPS.check_fds::<K>(map));

impl<K: PlainData> HashOfMaps<K> {
    /// Puts a map at `key`: whether or not there is one, unless the flags say otherwise.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full);
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Invalid`](super::MapErrorKind::Invalid) when the map has another shape than those that the hash takes; or when it
    /// is another kernel's.
    pub fn insert(&self, key: &K, inner: &Map, flags: UpdateFlags) -> Result<(), MapError> {
        let result = self.map.as_map_fd().update_map(key.as_bytes(), inner.as_map_fd(), flags);
        result.map_err(|error| self.map.failed(MapOperation::Update, error))
    }

    /// Removes the element at `key`. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// The id of the map at `key`, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn id(&self, key: &K) -> Result<Option<MapId>, MapError> {
        let mut id = [0; 4];
        let found = self.map.lookup_into(key.as_bytes(), &mut id, UpdateFlags::empty())?;
        Ok(found.then_some(MapId(u32::from_ne_bytes(id))))
    }

    /// The map at `key`, opened by its id, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`]; [`MapError::Unavailable`] of kind [`Denied`](super::MapErrorKind::Denied) for a process without
    /// `CAP_SYS_ADMIN`.
    pub fn get(&self, key: &K) -> Result<Option<Map>, MapError> {
        match self.id(key)? {
            Some(id) => self.map.inner(id),
            None => Ok(None),
        }
    }

    /// All keys; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All keys with the ids of their maps, with the guarantees of [`Keys`]; one that goes away before it is read is left
    /// out.
    pub fn iter(&self) -> HashOfMapsIter<'_, K> {
        HashOfMapsIter { view: self, keys: self.keys() }
    }
}

impl<'a, K: PlainData> IntoIterator for &'a HashOfMaps<K> {
    type Item = Result<(K, MapId), MapError>;
    type IntoIter = HashOfMapsIter<'a, K>;

    fn into_iter(self) -> HashOfMapsIter<'a, K> {
        self.iter()
    }
}

/// The maps in a [`HashOfMaps`], from [`HashOfMaps::iter`].
#[derive(Debug)]
pub struct HashOfMapsIter<'a, K> {
    view: &'a HashOfMaps<K>,
    keys: Keys<'a, K>,
}

impl<K: PlainData> Iterator for HashOfMapsIter<'_, K> {
    type Item = Result<(K, MapId), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let key = match self.keys.next()? {
                Ok(key) => key,
                Err(error) => return Some(Err(error)),
            };
            match self.view.id(&key) {
                Ok(Some(id)) => return Some(Ok((key, id))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<K: PlainData> FusedIterator for HashOfMapsIter<'_, K> {}

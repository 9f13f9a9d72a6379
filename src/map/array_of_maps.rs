use std::fmt;
use std::iter::FusedIterator;

use skep_sys::abi::{MapId, UpdateFlags};

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::kinds::{ARRAY_OF_MAPS, view};

/// An array of maps (`BPF_MAP_TYPE_ARRAY_OF_MAPS`, Linux 4.12). Made by [`Map::typed`].
///
/// All maps in it are shaped as the one that it was created with: kind, sizes, flags, and for arrays the number of
/// elements. Programs see a map that is put in at once; the one that it replaces lives on while they use it.
///
/// ```
/// use skep::map::{Array, ArrayOfMaps, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
/// use std::os::fd::AsFd;
///
/// let kernel = skep::sim::kernel();
/// let inner = MapCreate::new(MapType::ARRAY, 4, 8, 16);
/// let first = Map::create(&kernel, &inner)?;
/// let mut outer = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 2);
/// outer.inner_map = Some(first.as_fd());
/// let tables: ArrayOfMaps = Map::create(&kernel, &outer)?.typed()?;
///
/// tables.set(0, &first)?;
/// let table: Array<u64> = tables.get(0)?.expect("it was put there").typed()?;
/// table.set(3, &7, UpdateFlags::empty())?;
/// assert_eq!(first.typed::<Array<u64>>()?.get(3)?, Some(7));
/// assert_eq!(tables.id(0)?, Some(first.id()?));
/// assert_eq!(tables.id(1)?, None);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_ARRAY_OF_MAPS")]
pub struct ArrayOfMaps {
    map: Map,
}

view!(ArrayOfMaps, ARRAY_OF_MAPS, |map| ARRAY_OF_MAPS.check_fds::<u32>(map));

impl ArrayOfMaps {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a map at `index`.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array,
    /// [`Invalid`](super::MapErrorKind::Invalid) when the map has another shape than those that the array takes; or when it
    /// is another kernel's.
    pub fn set(&self, index: u32, inner: &Map) -> Result<(), MapError> {
        let (key, flags) = (index.to_ne_bytes(), UpdateFlags::empty());
        let result = self.map.as_map_fd().update_map(&key, inner.as_map_fd(), flags);
        result.map_err(|error| self.map.failed(MapOperation::Update, error))
    }

    /// Empties the element at `index`. Answers whether a map was there.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(&index.to_ne_bytes())
    }

    /// The id of the map at `index`; none for an empty element, and outside of the array.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn id(&self, index: u32) -> Result<Option<MapId>, MapError> {
        let mut id = [0; 4];
        let found = self.map.lookup_into(&index.to_ne_bytes(), &mut id, UpdateFlags::empty())?;
        Ok(found.then_some(MapId(u32::from_ne_bytes(id))))
    }

    /// The map at `index`, opened by its id; none for an empty element, and outside of the array.
    ///
    /// # Errors
    /// [`MapError::Failed`]; [`MapError::Unavailable`] of kind [`Denied`](super::MapErrorKind::Denied) for a process without
    /// `CAP_SYS_ADMIN`.
    pub fn get(&self, index: u32) -> Result<Option<Map>, MapError> {
        match self.id(index)? {
            Some(id) => self.map.inner(id),
            None => Ok(None),
        }
    }

    /// The elements that are not empty: index and id of the map. It ends after the first error.
    pub fn iter(&self) -> ArrayOfMapsIter<'_> {
        ArrayOfMapsIter { view: self, index: 0 }
    }
}

impl<'a> IntoIterator for &'a ArrayOfMaps {
    type Item = Result<(u32, MapId), MapError>;
    type IntoIter = ArrayOfMapsIter<'a>;

    fn into_iter(self) -> ArrayOfMapsIter<'a> {
        self.iter()
    }
}

/// The maps in an [`ArrayOfMaps`], from [`ArrayOfMaps::iter`].
#[derive(Debug)]
pub struct ArrayOfMapsIter<'a> {
    view: &'a ArrayOfMaps,
    index: u32,
}

impl Iterator for ArrayOfMapsIter<'_> {
    type Item = Result<(u32, MapId), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.index < self.view.len() {
            let index = self.index;
            match self.view.id(index) {
                Ok(id) => {
                    self.index += 1; // it is below the length
                    if let Some(id) = id {
                        return Some(Ok((index, id)));
                    }
                }
                Err(error) => {
                    self.index = u32::MAX;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl FusedIterator for ArrayOfMapsIter<'_> {}

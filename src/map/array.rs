use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;
use zerocopy::IntoBytes;

use super::batch::Reading;
use super::batches::{BatchIter, Batches};
use super::error::MapError;
use super::handle::Map;
use super::kinds::{ARRAY, view};
use super::many::ManyError;
use super::plain::PlainData;

/// An array, whose elements always exist (`BPF_MAP_TYPE_ARRAY`, Linux 3.19). Made by [`Map::typed`].
///
/// Values are written in place: a reader can see one half written, unless both sides take its spin lock
/// ([`UpdateFlags::LOCK`]) or it is one machine word.
///
/// ```
/// use skep::map::{Array, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::ARRAY, 4, 8, 3))?;
/// let totals: Array<u64> = map.typed()?;
/// totals.set(1, &20, UpdateFlags::empty())?;
/// assert_eq!(totals.get(1)?, Some(20));
/// assert_eq!(totals.get(3)?, None);
/// assert_eq!(totals.iter().collect::<Result<Vec<_>, _>>()?, [0, 20, 0]);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_ARRAY")]
pub struct Array<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

view!(Array<V>, ARRAY, u32, V);

impl<V> Array<V> {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: PlainData> Array<V> {
    /// The value at `index`; none outside of the array.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, index: u32) -> Result<Option<V>, MapError> {
        self.get_with(index, UpdateFlags::empty())
    }

    /// As [`get`](Array::get), with flags: [`UpdateFlags::LOCK`] reads under the value's spin lock (Linux 5.1).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Invalid`](super::MapErrorKind::Invalid) for a value without a lock.
    pub fn get_with(&self, index: u32, flags: UpdateFlags) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup_into(&index.to_ne_bytes(), value.as_mut_bytes(), flags)?;
        Ok(found.then_some(value))
    }

    /// Reads the value at `index` into `value`, for values that are too large to be moved. Answers whether `index` is
    /// in the array; if not, `value` is as before.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get_into(&self, index: u32, value: &mut V) -> Result<bool, MapError> {
        self.map.lookup_into(&index.to_ne_bytes(), value.as_mut_bytes(), UpdateFlags::empty())
    }

    /// Writes the value at `index`.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array;
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn set(&self, index: u32, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update(&index.to_ne_bytes(), value.as_bytes(), flags)
    }

    /// The elements with their indexes in batches of so many, each one call of the kernel, without a copy; see [`Batches`].
    pub fn batches(&self, size: usize) -> Batches<'_, u32, V> {
        Batches::new(&self.map, Reading::Look, size, UpdateFlags::empty())
    }

    /// All values with their indexes, in order, read in batches of so many.
    ///
    /// ```
    /// # use skep::map::{Array, Map};
    /// # use skep::sys::abi::{MapType, UpdateFlags};
    /// # use skep::sys::request::MapCreate;
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::ARRAY, 4, 8, 4))?;
    /// let totals: Array<u64> = map.typed()?;
    /// totals.set_many(1, &[5, 6], UpdateFlags::empty())?;
    /// let all = totals.iter_batched(3).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(all, [(0, 0), (1, 5), (2, 6), (3, 0)]);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    pub fn iter_batched(&self, size: usize) -> BatchIter<'_, u32, V> {
        BatchIter::new(&self.map, Reading::Look, size, UpdateFlags::empty())
    }

    /// Writes the values at the indexes from `start` on; see [`Map::insert_many`].
    ///
    /// # Errors
    /// [`ManyError`] says how many were written before the one that failed: of kind
    /// [`Full`](super::MapErrorKind::Full) at the end of the array.
    pub fn set_many(&self, start: u32, values: &[V], flags: UpdateFlags) -> Result<(), ManyError> {
        // An index that would be too large is the largest, which no array has.
        let keys: Vec<u32> = (0..values.len())
            .map(|at| u32::try_from(at).ok().and_then(|at| start.checked_add(at)).unwrap_or(u32::MAX))
            .collect();
        self.map.insert_many(keys.as_bytes(), values.as_bytes(), flags)
    }

    /// All values in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> ArrayIter<'_, V> {
        ArrayIter { view: self, index: 0 }
    }
}

impl<'a, V: PlainData> IntoIterator for &'a Array<V> {
    type Item = Result<V, MapError>;
    type IntoIter = ArrayIter<'a, V>;

    fn into_iter(self) -> ArrayIter<'a, V> {
        self.iter()
    }
}

/// The values of an [`Array`], from [`Array::iter`].
#[derive(Debug)]
pub struct ArrayIter<'a, V> {
    view: &'a Array<V>,
    index: u32,
}

impl<V: PlainData> Iterator for ArrayIter<'_, V> {
    type Item = Result<V, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.view.len() {
            return None;
        }
        let value = self.view.get(self.index).transpose();
        self.index = if let Some(Ok(_)) = value { self.index + 1 } else { u32::MAX };
        value
    }
}

impl<V: PlainData> FusedIterator for ArrayIter<'_, V> {}

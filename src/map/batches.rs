use std::fmt;
use std::iter::FusedIterator;
use std::slice;

use skep_sys::abi::UpdateFlags;

use super::batch::{Pages, Reading};
use super::error::MapError;
use super::handle::Map;
use super::plain::PlainData;

/// Batches of a map's elements, from [`HashMap::batches`](super::HashMap::batches) and the like, or elements that are
/// taken out of it, from [`HashMap::drain_batches`](super::HashMap::drain_batches).
///
/// Each batch is one call of the kernel (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6; per-CPU arrays 5.13, maps of maps 6.0), into
/// memory that is used again for the next one: nothing is copied or allocated for an element. Where the kernel, or the kind of
/// map, has no batches, elements are read one by one into the same memory.
///
/// # How large a batch is
/// At most as many elements as were asked for. A hash gives whole buckets: when one has more elements than there is
/// room for, the room grows, up to what the map can hold. No more room is taken than the whole map needs.
///
/// # While others change the map
/// Of a hash:
/// - a key that stays is given out once, whether or not its value changes, and no key twice unless it was removed and put
///   there again meanwhile;
/// - a key that comes or goes meanwhile is given out or not;
/// - a value that a program writes in place can be half old, half new, unless it has a spin lock and the flags ask for
///   it ([`UpdateFlags::LOCK`]); elements that user space or a program replaces as a whole are whole.
/// - Taking out is atomic for each element: what a program writes to it is in the value that is given out, or in a new element,
///   but for programs that hold a pointer to the old value meanwhile and write to it afterwards. Where the kernel has no
///   batches that is so from Linux 5.14 on; before, and in LPM tries, what is written between a lookup and a deletion is
///   lost.
///
/// Of an array all elements are given out, in order. Of an LPM trie, and where elements are read one by one, the guarantees are those of
/// [`Keys`](super::Keys).
pub struct Batches<'a, K, V> {
    pages: Pages<'a, Vec<K>, Vec<V>>,
}

impl<'a, K: PlainData, V: PlainData> Batches<'a, K, V> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize, flags: UpdateFlags) -> Self {
        Batches { pages: Pages::new(map, reading, size, flags) }
    }

    /// Reads the next batch; none at the end, and after an error. What was read, or taken out, before an error is given out
    /// before it.
    ///
    /// # Errors
    /// [`MapError::Failed`]: of kind [`Invalid`](super::MapErrorKind::Invalid) for flags that the map does not know and for elements
    /// that cannot be removed, and [`Busy`](super::MapErrorKind::Busy) when the lock of a bucket is long in coming;
    /// [`MapError::IterationAborted`] where [`Keys`](super::Keys) would.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_, K, V>>, MapError> {
        let len = self.pages.advance()?;
        if len == 0 {
            return Ok(None);
        }
        let keys = self.pages.keys.get(..len).unwrap_or_default(); // there was room for them
        let values = self.pages.values.get(..len).unwrap_or_default(); // as for the keys
        Ok(Some(Batch { keys, values }))
    }
}

impl<K: PlainData, V: PlainData> fmt::Debug for Batches<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("Batches", f)
    }
}

/// Some elements of a map, from [`Batches::next_batch`].
pub struct Batch<'b, K, V> {
    keys: &'b [K],
    values: &'b [V],
}

impl<'b, K, V> Batch<'b, K, V> {
    /// Number of elements; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys.
    pub fn keys(&self) -> &'b [K] {
        self.keys
    }

    /// The values, in the order of the keys.
    pub fn values(&self) -> &'b [V] {
        self.values
    }

    /// Key and value of each element.
    pub fn iter(&self) -> std::iter::Zip<slice::Iter<'b, K>, slice::Iter<'b, V>> {
        self.keys.iter().zip(self.values)
    }
}

impl<K, V> Clone for Batch<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Batch<'_, K, V> {}

impl<'b, K, V> IntoIterator for Batch<'b, K, V> {
    type Item = (&'b K, &'b V);
    type IntoIter = std::iter::Zip<slice::Iter<'b, K>, slice::Iter<'b, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Batch<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The elements of a map, read in batches with the guarantees of [`Batches`], from
/// [`HashMap::iter_batched`](super::HashMap::iter_batched) and [`HashMap::drain`](super::HashMap::drain).
///
/// It ends after the first error. One that takes elements out is a batch ahead of what it gave out: what is left in it when it
/// is dropped is lost.
pub struct BatchIter<'a, K, V> {
    pages: Pages<'a, Vec<K>, Vec<V>>,
    place: usize,
    ended: bool,
}

impl<'a, K: PlainData, V: PlainData> BatchIter<'a, K, V> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize, flags: UpdateFlags) -> Self {
        BatchIter { pages: Pages::new(map, reading, size, flags), place: 0, ended: false }
    }

    #[cold]
    fn more(&mut self) -> Result<bool, MapError> {
        if self.ended {
            return Ok(false);
        }
        self.place = 0;
        let read = self.pages.advance();
        self.ended = !matches!(read, Ok(1..));
        Ok(read? > 0)
    }
}

impl<K: PlainData, V: PlainData> Iterator for BatchIter<'_, K, V> {
    type Item = Result<(K, V), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place >= self.pages.len {
            match self.more() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let (key, value) = (self.pages.keys.get_mut(self.place)?, self.pages.values.get_mut(self.place)?);
        self.place += 1; // below the length
        Some(Ok((std::mem::replace(key, K::new_zeroed()), std::mem::replace(value, V::new_zeroed()))))
    }
}

impl<K: PlainData, V: PlainData> FusedIterator for BatchIter<'_, K, V> {}

impl<K: PlainData, V: PlainData> fmt::Debug for BatchIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("BatchIter", f)
    }
}

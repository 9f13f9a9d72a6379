use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::batch::{Bytes, Pages, Reading};
use super::error::MapError;
use super::handle::Map;
use super::per_cpu::{PerCpuRef, PerCpuValues};
use super::plain::PlainData;

/// Batches of the elements of a per-CPU map, with the guarantees of [`Batches`](super::Batches), from
/// [`PerCpuHashMap::batches`](super::PerCpuHashMap::batches) and the like.
///
/// Programs write to a CPU's value while it is read, so one that is larger than a machine word can be half old, half new.
pub struct PerCpuBatches<'a, K, V> {
    pages: Pages<'a, Vec<K>, Bytes>,
    types: PhantomData<fn() -> V>,
}

impl<'a, K: PlainData, V: PlainData> PerCpuBatches<'a, K, V> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize) -> Self {
        PerCpuBatches { pages: Pages::new(map, reading, size, UpdateFlags::empty()), types: PhantomData }
    }

    /// Reads the next batch; none at the end, and after an error.
    ///
    /// # Errors
    /// As [`Batches::next_batch`](super::Batches::next_batch).
    pub fn next_batch(&mut self) -> Result<Option<PerCpuBatch<'_, K, V>>, MapError> {
        let len = self.pages.advance()?;
        if len == 0 {
            return Ok(None);
        }
        let keys = self.pages.keys.get(..len).unwrap_or_default(); // there was room for them
        let cpus = self.pages.map().values_per_element();
        Ok(Some(PerCpuBatch { keys, values: &self.pages.values, cpus, types: PhantomData }))
    }
}

impl<K: PlainData, V: PlainData> fmt::Debug for PerCpuBatches<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("PerCpuBatches", f)
    }
}

/// Some elements of a per-CPU map, from [`PerCpuBatches::next_batch`].
pub struct PerCpuBatch<'b, K, V> {
    keys: &'b [K],
    values: &'b Bytes,
    cpus: u32,
    types: PhantomData<fn() -> V>,
}

impl<'b, K, V: PlainData> PerCpuBatch<'b, K, V> {
    /// Number of elements; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys.
    pub fn keys(&self) -> &'b [K] {
        self.keys
    }

    /// Key and values of each element.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = (&'b K, PerCpuRef<'b, V>)> + FusedIterator + use<'b, K, V> {
        let (values, cpus) = (self.values, self.cpus);
        self.keys.iter().enumerate().map(move |(place, key)| (key, PerCpuRef::new(values.one(place), cpus)))
    }
}

impl<K: fmt::Debug, V: PlainData + fmt::Debug> fmt::Debug for PerCpuBatch<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The elements of a per-CPU map, read in batches, as [`BatchIter`](super::BatchIter) does.
pub struct PerCpuBatchIter<'a, K, V> {
    pages: Pages<'a, Vec<K>, Bytes>,
    place: usize,
    ended: bool,
    types: PhantomData<fn() -> V>,
}

impl<'a, K: PlainData, V: PlainData> PerCpuBatchIter<'a, K, V> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize) -> Self {
        let pages = Pages::new(map, reading, size, UpdateFlags::empty());
        PerCpuBatchIter { pages, place: 0, ended: false, types: PhantomData }
    }
}

impl<K: PlainData, V: PlainData> Iterator for PerCpuBatchIter<'_, K, V> {
    type Item = Result<(K, PerCpuValues<V>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place >= self.pages.len {
            if self.ended {
                return None;
            }
            self.place = 0;
            let read = self.pages.advance();
            self.ended = !matches!(read, Ok(1..));
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        let cpus = self.pages.map().values_per_element();
        let values = PerCpuRef::new(self.pages.values.one(self.place), cpus).to_values();
        let key = std::mem::replace(self.pages.keys.get_mut(self.place)?, K::new_zeroed());
        self.place += 1; // below the length
        Some(Ok((key, values)))
    }
}

impl<K: PlainData, V: PlainData> FusedIterator for PerCpuBatchIter<'_, K, V> {}

impl<K: PlainData, V: PlainData> fmt::Debug for PerCpuBatchIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("PerCpuBatchIter", f)
    }
}

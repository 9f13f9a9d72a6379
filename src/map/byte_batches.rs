use std::fmt;
use std::iter::FusedIterator;

use skep_sys::abi::UpdateFlags;

use super::batch::{Bytes, Pages, Reading};
use super::error::MapError;
use super::handle::Map;

impl Map {
    /// The elements in batches of about so many, as bytes; see [`Batches`](super::Batches) for what holds while the map
    /// changes, and on kernels and for kinds that have no batches.
    ///
    /// ```
    /// use skep::map::Map;
    /// use skep::sys::abi::{MapType, UpdateFlags};
    /// use skep::sys::request::MapCreate;
    ///
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 1, 2, 100))?;
    /// map.insert_many(b"abc", b"a0b0c0", UpdateFlags::empty())?;
    /// let mut batches = map.batches(64);
    /// let mut seen = 0;
    /// while let Some(batch) = batches.next_batch()? {
    ///     assert!(batch.iter().all(|(key, value)| key[0] == value[0]));
    ///     seen += batch.len();
    /// }
    /// assert_eq!(seen, 3);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    pub fn batches(&self, size: usize) -> ByteBatches<'_> {
        ByteBatches::new(self, Reading::Look, size, UpdateFlags::empty())
    }

    /// All elements as bytes in memory of their own, read in batches of about so many, with the guarantees of
    /// [`Batches`](super::Batches).
    pub fn entries_batched(&self, size: usize) -> ByteEntries<'_> {
        ByteEntries::new(self, Reading::Look, size, UpdateFlags::empty())
    }

    /// As [`batches`](Map::batches), of elements that are removed from the map (`BPF_MAP_LOOKUP_AND_DELETE_BATCH`,
    /// Linux 5.6).
    pub fn drain_batches(&self, size: usize) -> ByteBatches<'_> {
        ByteBatches::new(self, Reading::Take, size, UpdateFlags::empty())
    }

    /// As [`entries_batched`](Map::entries_batched), of elements that are removed from the map. What was read and not
    /// given out when it is dropped is lost.
    pub fn drain(&self, size: usize) -> ByteEntries<'_> {
        ByteEntries::new(self, Reading::Take, size, UpdateFlags::empty())
    }
}

/// Batches of a map's elements as bytes, from [`Map::batches`] and [`Map::drain_batches`], with the guarantees of
/// [`Batches`](super::Batches).
pub struct ByteBatches<'a> {
    pages: Pages<'a, Bytes, Bytes>,
}

impl<'a> ByteBatches<'a> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize, flags: UpdateFlags) -> ByteBatches<'a> {
        ByteBatches { pages: Pages::new(map, reading, size, flags) }
    }

    /// Reads the next batch; none at the end, and after an error.
    ///
    /// # Errors
    /// As [`Batches::next_batch`](super::Batches::next_batch).
    pub fn next_batch(&mut self) -> Result<Option<ByteBatch<'_>>, MapError> {
        let len = self.pages.advance()?;
        let Pages { keys, values, .. } = &self.pages;
        Ok((len > 0).then_some(ByteBatch { keys, values, len }))
    }
}

impl fmt::Debug for ByteBatches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("ByteBatches", f)
    }
}

/// Some elements of a map as bytes, from [`ByteBatches::next_batch`].
#[derive(Clone, Copy)]
pub struct ByteBatch<'b> {
    keys: &'b Bytes,
    values: &'b Bytes,
    len: usize,
}

impl<'b> ByteBatch<'b> {
    /// Number of elements; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The keys, one behind the other.
    pub fn keys(&self) -> &'b [u8] {
        self.keys.first(self.len)
    }

    /// The values as user space takes them (see [`Map::value_len`]), one behind the other.
    pub fn values(&self) -> &'b [u8] {
        self.values.first(self.len)
    }

    /// Key and value of each element.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'b [u8], &'b [u8])> + FusedIterator + use<'b> {
        let ByteBatch { keys, values, len } = *self;
        (0..len).map(move |place| (keys.one(place), values.one(place)))
    }
}

impl fmt::Debug for ByteBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The elements of a map as bytes, read in batches, from [`Map::entries_batched`] and [`Map::drain`].
pub struct ByteEntries<'a> {
    pages: Pages<'a, Bytes, Bytes>,
    place: usize,
    ended: bool,
}

impl<'a> ByteEntries<'a> {
    pub(super) fn new(map: &'a Map, reading: Reading, size: usize, flags: UpdateFlags) -> ByteEntries<'a> {
        ByteEntries { pages: Pages::new(map, reading, size, flags), place: 0, ended: false }
    }
}

impl Iterator for ByteEntries<'_> {
    type Item = Result<(Box<[u8]>, Box<[u8]>), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place >= self.pages.len {
            if self.ended {
                return None;
            }
            self.place = 0;
            match self.pages.advance() {
                Ok(0) => {
                    self.ended = true;
                    return None;
                }
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        let element = (self.pages.keys.one(self.place).into(), self.pages.values.one(self.place).into());
        self.place += 1; // below the length
        Some(Ok(element))
    }
}

impl FusedIterator for ByteEntries<'_> {}

impl fmt::Debug for ByteEntries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pages.debug("ByteEntries", f)
    }
}

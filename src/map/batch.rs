//! Reading many elements in one call, where the kernel can, and one by one where it cannot.

use std::fmt;

use skep_sys::abi::{Errno, UpdateFlags};
use skep_sys::{BatchCursor, Feature};
use zerocopy::IntoBytes;

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::keys::{Walk, capacity};
use super::plain::PlainData;

/// What happens to elements that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// They stay.
    Look,
    /// They are removed.
    Take,
}

/// What one step of reading came to.
enum Step {
    /// So many elements were read.
    Elements(usize),
    /// A bucket has more elements than there is room for.
    TooSmall,
    /// There are no more.
    End,
}

/// A walk over the elements of a map that reads as many at once as there is room for.
struct Reader<'a> {
    map: &'a Map,
    reading: Reading,
    flags: UpdateFlags,
    way: Way<'a>,
    /// An error that came after elements, which are given out first.
    failed: Option<MapError>,
    ended: bool,
    seen: u64,
}

enum Way<'a> {
    /// `BPF_MAP_LOOKUP_BATCH`, or with deletion.
    Calls(BatchCursor),
    /// Key by key.
    Keys {
        walk: Walk<'a, Box<[u8]>>,
        /// Whether a lookup and a deletion are one call, as far as is known.
        in_one: bool,
    },
}

impl<'a> Reader<'a> {
    fn new(map: &'a Map, reading: Reading, flags: UpdateFlags) -> Reader<'a> {
        let way = Way::Calls(BatchCursor::new(map.as_map_fd()));
        Reader { map, reading, flags, way, failed: None, ended: false, seen: 0 }
    }

    /// Reads as many elements as there is room for.
    fn step(&mut self, keys: &mut [u8], values: &mut [u8]) -> Result<Step, MapError> {
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Err(error);
        }
        if self.ended {
            return Ok(Step::End);
        }
        let step = match &mut self.way {
            Way::Calls(_) => self.call(keys, values),
            Way::Keys { .. } => self.one_by_one(keys, values),
        };
        if step.is_err() {
            self.ended = true;
        }
        step
    }

    fn call(&mut self, keys: &mut [u8], values: &mut [u8]) -> Result<Step, MapError> {
        let Way::Calls(cursor) = &mut self.way else { return Ok(Step::End) };
        let before = bucket(self.map, cursor);
        let fd = self.map.as_map_fd();
        let answer = match self.reading {
            Reading::Look => fd.lookup_batch(cursor, keys, values, self.flags),
            Reading::Take => fd.lookup_and_delete_batch(cursor, keys, values, self.flags),
        };
        let (read, end) = match answer {
            Ok(read) => (read, None),
            Err(error) => (error.done, Some(error.error)),
        };
        self.seen = self.seen.saturating_add(u64::from(read));
        let errno = end.as_ref().and_then(skep_sys::MapError::errno);
        match errno {
            None if end.is_none() && read > 0 => {
                // Buckets come in the order of their numbers, so that it ends; keys begin anew when the last one is gone.
                let moved = match (before, bucket(self.map, cursor)) {
                    (Some(before), after) => after > Some(before),
                    (None, Some(_)) => true,
                    (None, None) => self.seen <= capacity(self.map),
                };
                if moved {
                    return Ok(Step::Elements(read as usize));
                }
                let seen = self.seen - u64::from(read); // it was added above
                Err(MapError::IterationAborted { map: self.map.label(), seen })
            }
            None if end.is_none() => Ok(self.end(0)),
            Some(Errno::ENOENT) => Ok(self.end(read as usize)),
            Some(Errno::ENOSPC) if read == 0 => Ok(Step::TooSmall),
            // Before Linux 6.14 an array of maps with an empty slot cannot be read in one go.
            Some(Errno::EINTR) if self.reading == Reading::Look => {
                let after = cursor.position().map(|key| key.get(..fd.key_len()).unwrap_or_default().into());
                self.way = Way::Keys { walk: Walk::after(self.map, after, self.seen), in_one: true };
                if read > 0 { Ok(Step::Elements(read as usize)) } else { self.one_by_one(keys, values) }
            }
            Some(errno) if cursor.position().is_none() && lacks_batches(self.map, errno) => {
                self.way = Way::Keys { walk: Walk::after(self.map, None, 0), in_one: true };
                self.one_by_one(keys, values)
            }
            _ => match end {
                Some(error) => {
                    let error = self.map.failed(self.operation(), error);
                    if read == 0 {
                        return Err(error);
                    }
                    // What was read is given out before it: it may be in no map any more.
                    self.failed = Some(error);
                    Ok(Step::Elements(read as usize))
                }
                None => Ok(self.end(0)),
            },
        }
    }

    fn end(&mut self, read: usize) -> Step {
        self.ended = true;
        if read > 0 { Step::Elements(read) } else { Step::End }
    }

    fn operation(&self) -> MapOperation {
        match self.reading {
            Reading::Look => MapOperation::LookupBatch,
            Reading::Take => MapOperation::LookupAndDeleteBatch,
        }
    }

    fn one_by_one(&mut self, keys: &mut [u8], values: &mut [u8]) -> Result<Step, MapError> {
        let Way::Keys { walk, in_one } = &mut self.way else { return Ok(Step::End) };
        let mut read = 0;
        let (key_len, value_len) = (self.map.key_len(), self.map.as_map_fd().value_len_with(self.flags));
        let places = chunks_mut(keys, key_len).zip(chunks_mut(values, value_len));
        'places: for (place, value) in places {
            loop {
                let found = match walk.next() {
                    None => {
                        self.ended = true;
                        break 'places;
                    }
                    Some(Err(error)) => Err(error),
                    Some(Ok(key)) => match self.reading {
                        Reading::Look => self.map.lookup_into(&key, value, self.flags),
                        Reading::Take => take(self.map, &key, value, self.flags, in_one),
                    }
                    .map(|found| found.then_some(key)),
                };
                match found {
                    Ok(Some(key)) => {
                        for (to, from) in place.iter_mut().zip(&key) {
                            *to = *from;
                        }
                        read += 1; // one for each place
                        break;
                    }
                    // It went away before its turn.
                    Ok(None) => {}
                    Err(error) if read == 0 => return Err(error),
                    Err(error) => {
                        self.failed = Some(error);
                        break 'places;
                    }
                }
            }
        }
        Ok(if read > 0 { Step::Elements(read) } else { Step::End })
    }
}

/// Reads and removes an element: in one call, or in two where the kernel or the kind of map lacks that.
fn take(
    map: &Map,
    key: &[u8],
    value: &mut [u8],
    flags: UpdateFlags,
    in_one: &mut bool,
) -> Result<bool, MapError> {
    if *in_one {
        match map.lookup_and_delete(key, value, flags) {
            Err(error) if error.kind() == super::MapErrorKind::Unsupported => *in_one = false,
            answer => return answer,
        }
    }
    Ok(map.lookup_into(key, value, flags)? && map.delete(key)?)
}

/// Whether a kernel that answers so to the first batch has no batches, at all or for this kind of map.
pub(super) fn lacks_batches(map: &Map, errno: Errno) -> bool {
    match errno {
        Errno::ENOTSUPP | Errno::EOPNOTSUPP | Errno::ENOSYS => true,
        Errno::EINVAL => map.kernel().has(Feature::MapBatch).is_unsupported(),
        _ => false,
    }
}

/// The bucket that a cursor of a hash is at.
fn bucket(map: &Map, cursor: &BatchCursor) -> Option<u32> {
    if !map.map_type().has_bucket_cursor() {
        return None;
    }
    cursor.position()?.try_into().ok().map(u32::from_ne_bytes)
}

/// As `chunks_exact_mut`, of a length that may be 0.
fn chunks_mut(bytes: &mut [u8], len: usize) -> std::slice::ChunksExactMut<'_, u8> {
    bytes.chunks_exact_mut(len.max(1))
}

/// Room for keys or values.
pub(super) trait Room {
    /// Room for so many, each of that length.
    fn new(count: usize, each: usize) -> Self;
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl<T: PlainData> Room for Vec<T> {
    fn new(count: usize, _: usize) -> Self {
        std::iter::repeat_with(T::new_zeroed).take(count).collect()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice().as_mut_bytes()
    }
}

/// Room of which only the length in bytes is known.
pub(super) struct Bytes {
    bytes: Vec<u8>,
    each: usize,
}

impl Bytes {
    /// The bytes of the first so many.
    pub(super) fn first(&self, count: usize) -> &[u8] {
        self.bytes.get(..count.saturating_mul(self.each)).unwrap_or_default()
    }

    /// The bytes of one.
    pub(super) fn one(&self, place: usize) -> &[u8] {
        let start = place.saturating_mul(self.each);
        self.bytes.get(start..start.saturating_add(self.each)).unwrap_or_default()
    }
}

impl Room for Bytes {
    fn new(count: usize, each: usize) -> Self {
        Bytes { bytes: vec![0; count.saturating_mul(each)], each }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Batches of a map's elements, in room that is used again for the next one.
pub(super) struct Pages<'a, K, V> {
    reader: Reader<'a>,
    pub(super) keys: K,
    pub(super) values: V,
    /// How many elements there is room for; none before the first batch.
    room: usize,
    wanted: usize,
    /// How many elements there are.
    pub(super) len: usize,
}

impl<'a, K: Room, V: Room> Pages<'a, K, V> {
    /// Batches of about so many elements. No room is taken yet.
    pub(super) fn new(map: &'a Map, reading: Reading, wanted: usize, flags: UpdateFlags) -> Self {
        let wanted = wanted.clamp(1, most(map));
        let reader = Reader::new(map, reading, flags);
        Pages { reader, keys: K::new(0, 0), values: V::new(0, 0), room: 0, wanted, len: 0 }
    }

    pub(super) fn map(&self) -> &'a Map {
        self.reader.map
    }

    /// Reads the next batch over the last one, and answers how many elements it has: 0 at the end.
    pub(super) fn advance(&mut self) -> Result<usize, MapError> {
        self.len = 0;
        if self.room == 0 {
            self.make_room(self.wanted);
        }
        loop {
            match self.reader.step(self.keys.bytes_mut(), self.values.bytes_mut())? {
                Step::Elements(read) => {
                    self.len = read;
                    return Ok(read);
                }
                Step::End => return Ok(0),
                Step::TooSmall => {
                    // No bucket has more elements than the map.
                    let most = most(self.reader.map);
                    if self.room >= most {
                        self.reader.ended = true;
                        let error = skep_sys::MapError::Kernel { operation: "batch", errno: Errno::ENOSPC };
                        return Err(self.reader.map.failed(self.reader.operation(), error));
                    }
                    self.make_room(self.room.saturating_mul(2).min(most));
                }
            }
        }
    }

    fn make_room(&mut self, count: usize) {
        let map = self.reader.map;
        self.keys = K::new(count, map.key_len());
        self.values = V::new(count, map.as_map_fd().value_len_with(self.reader.flags));
        self.room = count;
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("map", &self.reader.map.name())
            .field("reading", &self.reader.reading)
            .field("seen", &self.reader.seen)
            .finish_non_exhaustive()
    }
}

/// Memory of a batch where nobody says how large it should be.
const USUAL: usize = 256 << 10;

/// How many elements of this map are read at once where nobody says.
pub(crate) fn usual_batch(map: &Map) -> usize {
    (USUAL / map.key_len().saturating_add(map.value_len()).max(1)).clamp(1, 4096)
}

/// How many elements a batch of this map can have at most. There can be a few more than the map was created for while
/// elements are replaced.
fn most(map: &Map) -> usize {
    usize::try_from(capacity(map).saturating_mul(2)).unwrap_or(usize::MAX).clamp(1, u32::MAX as usize)
}

use std::fmt;
use std::iter::FusedIterator;

use skep_sys::abi::MapFlags;

use super::error::MapError;
use super::handle::Map;
use super::plain::PlainData;

/// The keys of a map, in the kernel's order (`BPF_MAP_GET_NEXT_KEY`, Linux 4.12).
///
/// # While others change the map
/// - The key that was given out last may be removed: the iterator is one key ahead. So a loop may empty the map.
/// - A key that stays, and whose element nobody replaces, is given out at least once, but for a rare one in a hash: while
///   the kernel looks for what follows a key, another CPU may remove that key and take the memory of its element for one
///   elsewhere in the map. The kernel goes on from there, and keys between the two places are missed. Where none may be
///   missed, read in batches ([`Batches`](super::Batches)): they go bucket by bucket, each under its lock.
/// - A key that comes or goes meanwhile is given out or not.
/// - A key can be given out twice: a replaced element moves inside a hash, and when the key ahead goes away before its
///   turn the kernel begins anew.
/// - After as many keys as the map can hold the iterator gives [`MapError::IterationAborted`] and ends. So it always
///   ends, however the map is changed.
pub struct Keys<'a, K> {
    walk: Walk<'a, Typed<K>>,
}

impl<'a, K: PlainData> Keys<'a, K> {
    pub(super) fn new(map: &'a Map) -> Keys<'a, K> {
        Keys { walk: Walk::new(map) }
    }
}

impl<K: PlainData> Iterator for Keys<'_, K> {
    type Item = Result<K, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.walk.next()?.map(|key| key.0))
    }
}

impl<K: PlainData> FusedIterator for Keys<'_, K> {}

impl<K> fmt::Debug for Keys<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("map", &self.walk.map.name()).field("seen", &self.walk.seen).finish()
    }
}

/// The keys of a map as bytes, with the guarantees of [`Keys`].
pub struct ByteKeys<'a> {
    walk: Walk<'a, Box<[u8]>>,
}

impl<'a> ByteKeys<'a> {
    pub(super) fn new(map: &'a Map) -> ByteKeys<'a> {
        ByteKeys { walk: Walk::new(map) }
    }
}

impl Iterator for ByteKeys<'_> {
    type Item = Result<Box<[u8]>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next()
    }
}

impl FusedIterator for ByteKeys<'_> {}

impl fmt::Debug for ByteKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteKeys").field("map", &self.walk.map.name()).field("seen", &self.walk.seen).finish()
    }
}

/// Memory for one key.
pub(super) trait Key {
    fn zeroed(len: usize) -> Self;
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// A key of a Rust type, whose size was compared with the map's when the view was made.
struct Typed<K>(K);

impl<K: PlainData> Key for Typed<K> {
    fn zeroed(_: usize) -> Self {
        Typed(K::new_zeroed())
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

impl Key for Box<[u8]> {
    fn zeroed(len: usize) -> Self {
        vec![0; len].into()
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// A walk over keys that is one key ahead of what it gave out.
pub(super) struct Walk<'a, K> {
    map: &'a Map,
    begun: bool,
    /// What is given out next; none at the end.
    ahead: Option<Result<K, MapError>>,
    seen: u64,
}

impl<'a, K: Key> Walk<'a, K> {
    fn new(map: &'a Map) -> Self {
        Walk { map, begun: false, ahead: None, seen: 0 }
    }

    /// A walk that goes on behind `key`, or from the beginning, after so many keys were seen already.
    pub(super) fn after(map: &'a Map, key: Option<K>, seen: u64) -> Self {
        let mut walk = Walk { map, begun: true, ahead: None, seen };
        walk.ahead = walk.key_after(key.as_ref());
        walk
    }

    pub(super) fn next(&mut self) -> Option<Result<K, MapError>> {
        if !self.begun {
            self.begun = true;
            self.ahead = self.key_after(None);
        }
        let current = match self.ahead.take()? {
            Ok(key) => key,
            Err(error) => return Some(Err(error)),
        };
        self.seen += 1;
        self.ahead = self.key_after(Some(&current));
        if let Some(Ok(_)) = self.ahead
            && self.seen >= capacity(self.map)
        {
            let aborted = MapError::IterationAborted { map: self.map.label(), seen: self.seen };
            self.ahead = Some(Err(aborted));
        }
        Some(Ok(current))
    }

    fn key_after(&self, key: Option<&K>) -> Option<Result<K, MapError>> {
        let mut next = K::zeroed(self.map.key_len());
        match self.map.next_key(key.map(K::bytes), next.bytes_mut()) {
            Ok(true) => Some(Ok(next)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// How many keys a map can hold at most.
pub(super) fn capacity(map: &Map) -> u64 {
    let shape = map.shape();
    if shape.max_entries == 0 {
        // Storage of cgroups, which is bounded by their number.
        return u32::MAX.into();
    }
    let mut capacity = u64::from(shape.max_entries);
    if shape.flags.contains(MapFlags::NO_COMMON_LRU) {
        // Linux rounds it to a multiple of the CPUs.
        capacity += u64::from(map.kernel().possible_cpus().unwrap_or(0));
    }
    capacity
}

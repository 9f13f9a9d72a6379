//! Hash tables: plain, per-CPU, LRU and of maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skep_sys::abi::Errno;

use super::elements::{Batches, Elements, Resolve, copy};
use super::{EXIST, NOEXIST};

/// A table of entries by key, iterated in the order of their insertion.
///
/// The kernel's order depends on a random seed; this one is the same in every run.
#[derive(Debug)]
pub(super) struct Table<V> {
    max_entries: usize,
    next_place: u64,
    places: HashMap<Arc<[u8]>, u64>,
    entries: BTreeMap<u64, (Arc<[u8]>, V)>,
    /// The places by bucket, for calls that read whole buckets.
    by_bucket: BTreeSet<(u32, u64)>,
}

impl<V> Table<V> {
    pub(super) fn new(max_entries: u32) -> Self {
        Table {
            max_entries: max_entries as usize,
            next_place: 0,
            places: HashMap::new(),
            entries: BTreeMap::new(),
            by_bucket: BTreeSet::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.max_entries
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let place = self.places.get(key)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Drops the entries whose value is not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        let places = &mut self.places;
        self.entries.retain(|_, (key, value)| {
            let keep = keep(value);
            if !keep {
                places.remove(key);
            }
            keep
        });
    }

    /// Checks what `flags` demand of the key, and answers whether it is there.
    pub(super) fn check_flags(&self, key: &[u8], flags: u64) -> Result<bool, Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let exists = self.places.contains_key(key);
        match flags {
            NOEXIST if exists => Err(Errno::EEXIST),
            EXIST if !exists => Err(Errno::ENOENT),
            _ => Ok(exists),
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: V) -> Result<(), Errno> {
        if let Some(old) = self.get_mut(key) {
            *old = value;
            return Ok(());
        }
        if self.is_full() {
            return Err(Errno::E2BIG);
        }
        let key: Arc<[u8]> = key.into();
        self.by_bucket.insert((self.bucket(&key), self.next_place));
        self.places.insert(key.clone(), self.next_place);
        self.entries.insert(self.next_place, (key, value));
        self.next_place += 1; // a u64 counter does not overflow
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<V, Errno> {
        let place = self.places.remove(key).ok_or(Errno::ENOENT)?;
        self.by_bucket.remove(&(self.bucket(key), place));
        self.entries.remove(&place).map(|(_, value)| value).ok_or(Errno::ENOENT)
    }

    /// Number of buckets: as many as elements, rounded up to a power of two, as in the kernel.
    pub(super) fn buckets(&self) -> u32 {
        u32::try_from(self.max_entries.next_power_of_two()).unwrap_or(u32::MAX)
    }

    /// The bucket of a key: by a hash that is the same in every run (FNV-1a).
    fn bucket(&self, key: &[u8]) -> u32 {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        ((hash ^ hash >> 32) as u32) & (self.buckets() - 1) // there is at least one
    }

    /// The first bucket from `bucket` on that is not empty, with its keys.
    pub(super) fn bucket_from(&self, bucket: u32) -> Option<(u32, Vec<Arc<[u8]>>)> {
        let (found, _) = *self.by_bucket.range((bucket, 0)..).next()?;
        let places = self.by_bucket.range((found, 0)..=(found, u64::MAX)).map(|(_, place)| place);
        let keys = places.filter_map(|place| Some(self.entries.get(place)?.0.clone())).collect();
        Some((found, keys))
    }

    /// The key after `key`, the first one when `key` is none or not there.
    pub(super) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.next_key_where(key, next, |_| true)
    }

    /// As [`next_key`](Table::next_key) among the entries with such a value.
    pub(super) fn next_key_where(
        &self,
        key: Option<&[u8]>,
        next: &mut [u8],
        counts: impl Fn(&V) -> bool,
    ) -> Result<(), Errno> {
        let start = key.and_then(|key| self.places.get(key)).map_or(0, |place| place + 1); // below next_place
        let found = self.entries.range(start..).find(|(_, (_, value))| counts(value));
        let (_, (key, _)) = found.ok_or(Errno::ENOENT)?;
        copy(next, key)
    }
}

/// Hash tables and per-CPU hash tables (`BPF_MAP_TYPE_HASH`, `BPF_MAP_TYPE_PERCPU_HASH`).
#[derive(Debug)]
pub(super) struct Hash(Table<Box<[u8]>>);

impl Hash {
    pub(super) fn new(max_entries: u32) -> Self {
        Hash(Table::new(max_entries))
    }
}

impl Elements for Hash {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        copy(value, self.0.get_mut(key).ok_or(Errno::ENOENT)?)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        self.0.check_flags(key, flags)?;
        self.0.set(key, value.into())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.0.remove(key).map(drop)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.0.next_key(key, next)
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        copy(value, &self.0.remove(key)?)
    }

    fn batches(&self) -> Batches {
        Batches::all()
    }

    fn buckets(&self) -> Option<u32> {
        Some(self.0.buckets())
    }

    fn bucket_from(&self, bucket: u32) -> Option<(u32, Vec<Arc<[u8]>>)> {
        self.0.bucket_from(bucket)
    }
}

/// LRU hash tables (`BPF_MAP_TYPE_LRU_HASH`, `BPF_MAP_TYPE_LRU_PERCPU_HASH`).
///
/// What the kernel promises, not which elements it picks: an update never fails for want of room, there are never
/// more than `max_entries`, and what was just written is there. This one is exact: the element that was not read
/// or written for the longest time goes.
#[derive(Debug)]
pub(super) struct Lru {
    table: Table<(u64, Box<[u8]>)>,
    ticks: u64,
    by_use: BTreeMap<u64, Arc<[u8]>>,
}

impl Lru {
    pub(super) fn new(max_entries: u32) -> Self {
        Lru { table: Table::new(max_entries), ticks: 0, by_use: BTreeMap::new() }
    }

    fn tick(&mut self, key: &[u8]) -> u64 {
        let tick = self.ticks;
        self.ticks += 1; // a u64 counter does not overflow
        self.by_use.insert(tick, key.into());
        tick
    }
}

impl Elements for Lru {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let (used, bytes) = self.table.get_mut(key).ok_or(Errno::ENOENT)?;
        copy(value, bytes)?;
        let before = *used;
        self.by_use.remove(&before);
        let now = self.tick(key);
        if let Some((used, _)) = self.table.get_mut(key) {
            *used = now;
        }
        Ok(())
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let exists = self.table.check_flags(key, flags)?;
        if let Some(&mut (used, _)) = self.table.get_mut(key) {
            self.by_use.remove(&used);
        }
        if !exists
            && self.table.is_full()
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.table.remove(&oldest)?;
        }
        let now = self.tick(key);
        self.table.set(key, (now, value.into()))
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let (used, _) = self.table.remove(key)?;
        self.by_use.remove(&used);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.table.next_key(key, next)
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let (used, bytes) = self.table.remove(key)?;
        self.by_use.remove(&used);
        copy(value, &bytes)
    }

    fn batches(&self) -> Batches {
        Batches::all()
    }

    fn buckets(&self) -> Option<u32> {
        Some(self.table.buckets())
    }

    fn bucket_from(&self, bucket: u32) -> Option<(u32, Vec<Arc<[u8]>>)> {
        self.table.bucket_from(bucket)
    }
}

//! Hash tables: plain, per-CPU, LRU and of maps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skep_sys::abi::Errno;

use super::elements::{Batches, Elements, Resolve, Words, copy};
use super::value::{Form, Value};
use super::{EXIST, NOEXIST};

/// A table of entries by key, iterated in the order of their insertion.
///
/// The kernel's order depends on a random seed; this one is the same in every run.
#[derive(Clone, Debug)]
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

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.max_entries
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        self.entries.get(self.places.get(key)?).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.entry_mut(key).map(|(_, value)| value)
    }

    /// The entry of a key, with the key as the table holds it.
    pub(super) fn entry_mut(&mut self, key: &[u8]) -> Option<(&Arc<[u8]>, &mut V)> {
        let place = self.places.get(key)?;
        self.entries.get_mut(place).map(|(key, value)| (&*key, value))
    }

    /// All entries, in the order of iteration.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &V)> {
        self.entries.values().map(|(key, value)| (key, value))
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
#[derive(Clone, Debug)]
pub(super) struct Hash {
    table: Table<Value>,
    form: Form,
    /// Whether an element that is there is written in place.
    in_place: bool,
}

impl Hash {
    pub(super) fn new(max_entries: u32, form: Form) -> Self {
        let in_place = form.is_per_cpu();
        Hash { table: Table::new(max_entries), form, in_place }
    }
}

impl Elements for Hash {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.table.get(key).ok_or(Errno::ENOENT)?.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        self.table.check_flags(key, flags)?;
        match self.table.get_mut(key) {
            Some(there) if self.in_place => self.form.overwrite(there, value),
            Some(there) => self.form.release(&std::mem::replace(there, self.form.element(value))),
            None => self.table.set(key, self.form.element(value))?,
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.form.release(&self.table.remove(key)?);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.table.next_key(key, next)
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let taken = self.table.remove(key)?;
        taken.read(0, value)?;
        self.form.release(&taken);
        Ok(())
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

    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        Ok(self.table.get(key).and_then(|value| self.form.of(value, cpu)))
    }

    fn program_update(&mut self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        self.table.check_flags(key, flags)?;
        match self.table.get_mut(key) {
            Some(there) if self.in_place => self.form.overwrite_of(there, cpu, value),
            Some(there) => self.form.release(&std::mem::replace(there, self.form.element(value))),
            None => self.table.set(key, self.form.element_of(cpu, value))?,
        }
        Ok(())
    }

    fn values(&mut self, cpu: u32) -> Vec<(Arc<[u8]>, Value)> {
        let each = self.table.iter();
        each.filter_map(|(key, value)| Some((key.clone(), self.form.of(value, cpu)?))).collect()
    }

    fn count(&self) -> usize {
        self.table.len()
    }

    fn grows(&self, key: &[u8]) -> bool {
        self.table.get(key).is_none()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.table.iter().map(|(_, value)| value.words().clone()).collect()
    }
}

/// LRU hash tables (`BPF_MAP_TYPE_LRU_HASH`, `BPF_MAP_TYPE_LRU_PERCPU_HASH`).
///
/// What the kernel promises, not which elements it picks: an update never fails for want of room, there are never
/// more than `max_entries`, and what was just written is there. This one is exact: the element goes that was not written,
/// or looked up by a program, for the longest time. As in the kernel, looking it up from user space does not keep it.
/// User space writes on CPU 0, where that matters.
#[derive(Clone, Debug)]
pub(super) struct Lru {
    table: Table<(Use, Value)>,
    form: Form,
    ticks: u64,
    by_use: BTreeMap<Use, Arc<[u8]>>,
    /// How many elements each CPU may have put in, where they do not share one list (`BPF_F_NO_COMMON_LRU`).
    of_each_cpu: Option<usize>,
    /// How many there are in each list.
    counts: BTreeMap<u32, usize>,
}

/// Whose list an element is in, and when it was used last.
type Use = (u32, u64);

impl Lru {
    pub(super) fn new(max_entries: u32, form: Form, lists: Option<u32>) -> Self {
        let of_each_cpu = lists.map(|cpus| (max_entries / cpus.max(1)).max(1) as usize);
        Lru {
            table: Table::new(max_entries),
            form,
            ticks: 0,
            by_use: BTreeMap::new(),
            of_each_cpu,
            counts: BTreeMap::new(),
        }
    }

    /// Notes that an element is used, and answers it.
    fn touch(&mut self, key: &[u8]) -> Option<&Value> {
        let (key, (used, value)) = self.table.entry_mut(key)?;
        self.by_use.remove(used);
        used.1 = self.ticks;
        self.by_use.insert(*used, key.clone());
        self.ticks += 1; // a u64 counter does not overflow
        Some(value)
    }

    fn remove(&mut self, key: &[u8]) -> Result<Value, Errno> {
        let (used, value) = self.table.remove(key)?;
        self.by_use.remove(&used);
        if let Some(count) = self.counts.get_mut(&used.0) {
            *count = count.saturating_sub(1);
        }
        Ok(value)
    }

    /// Puts an element in on a CPU, in place of the one that was not used for the longest time if need be.
    fn put(&mut self, key: &[u8], value: Value, cpu: u32) -> Result<(), Errno> {
        let list = if self.of_each_cpu.is_some() { cpu } else { 0 };
        if let Some((_, there)) = self.table.get_mut(key) {
            self.form.release(&std::mem::replace(there, value));
            self.touch(key);
            return Ok(());
        }
        let count = self.counts.get(&list).copied().unwrap_or(0);
        let oldest = self.by_use.range((list, 0)..=(list, u64::MAX)).next();
        if self.of_each_cpu.map_or_else(|| self.table.is_full(), |most| count >= most)
            && let Some(key) = oldest.map(|(_, key)| key.clone())
        {
            let value = self.remove(&key)?;
            self.form.release(&value);
        }
        *self.counts.entry(list).or_default() += 1; // at most as many as there are elements
        // No tick is as high, so that nothing is taken for it.
        self.table.set(key, ((list, u64::MAX), value))?;
        self.touch(key);
        Ok(())
    }
}

impl Elements for Lru {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.table.get(key).ok_or(Errno::ENOENT)?.1.read(0, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        let exists = self.table.check_flags(key, flags)?;
        if exists && self.form.is_per_cpu() {
            let there = self.touch(key).ok_or(Errno::ENOENT)?.clone();
            self.form.overwrite(&there, value);
            return Ok(());
        }
        let value = self.form.element(value);
        self.put(key, value, 0)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let value = self.remove(key)?;
        self.form.release(&value);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.table.next_key(key, next)
    }

    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let taken = self.remove(key)?;
        taken.read(0, value)?;
        self.form.release(&taken);
        Ok(())
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

    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        let value = self.touch(key).cloned();
        Ok(value.and_then(|value| self.form.of(&value, cpu)))
    }

    fn program_update(&mut self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        let exists = self.table.check_flags(key, flags)?;
        if exists && self.form.is_per_cpu() {
            let there = self.touch(key).ok_or(Errno::ENOENT)?.clone();
            self.form.overwrite_of(&there, cpu, value);
            return Ok(());
        }
        let value = self.form.element_of(cpu, value);
        self.put(key, value, cpu)
    }

    fn values(&mut self, cpu: u32) -> Vec<(Arc<[u8]>, Value)> {
        let each = self.table.iter();
        each.filter_map(|(key, (_, value))| Some((key.clone(), self.form.of(value, cpu)?))).collect()
    }

    fn count(&self) -> usize {
        self.table.len()
    }

    fn grows(&self, key: &[u8]) -> bool {
        self.table.get(key).is_none() && !self.table.is_full()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.table.iter().map(|(_, (_, value))| value.words().clone()).collect()
    }
}

//! Maps.
//!
//! [`create`] holds the rules of creation, and each family of kinds has a file with its [`Elements`]. What all kinds
//! have in common (access, freezing, flags, lengths, spin locks) is here.

mod arena;
mod array;
mod batch;
mod bloom;
mod cgroup_storage;
mod cgroups;
mod cpus;
mod create;
mod elements;
mod fields;
mod hash;
mod instructions;
mod lpm;
mod meter;
mod objects;
mod perf_events;
mod program;
mod queue;
mod redirect;
mod request;
mod ring;
mod save;
mod shared;
mod sockets;
mod stacks;
mod storage;
mod table;
mod types;
mod value;

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_sys::SharedMemory;
use skep_sys::abi::{BtfObjectId, Errno, MapFlags, MapId, MapType};
use skep_sys::request::{MapInfo, MapMemory, MapUsage};
use skep_sys::ring::RingMemory;

use crate::btf::BtfObject;
use crate::fd::Access;
use crate::perf::PerfEvent;

pub(crate) use arena::{Arena, ArenaPages};
pub(crate) use create::{Shape, check};
pub(crate) use elements::{Elements, Resolve, StackFlags};
pub(crate) use fields::{FieldKind, Fields, check_structures};
pub(crate) use instructions::PlacesHold;
pub(crate) use meter::Meter;
pub(crate) use objects::InnerShape;
pub(crate) use request::create;
pub(crate) use ring::{Ring, Sample, Wake};
pub(crate) use save::SavedMap;
pub(crate) use storage::Owner;
pub(crate) use table::{Layout, READY, Table, table};
use types::check_types;
pub(crate) use value::Value;

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) id: u32,
    pub(crate) shape: Shape,
    pub(crate) name: String,
    pub(crate) btf: Option<MapTypes>,
    /// What the maps in a map of maps look like.
    pub(crate) inner: Option<InnerShape>,
    meter: Arc<Meter>,
    /// What the elements take, as it was last counted.
    counted: AtomicUsize,
    state: Mutex<State>,
}

impl Drop for Map {
    fn drop(&mut self) {
        self.meter.change(*self.counted.get_mut(), 0);
    }
}

/// The BTF types of key and value.
#[derive(Clone, Debug)]
pub(crate) struct MapTypes {
    pub(crate) btf: Arc<BtfObject>,
    pub(crate) key: u32,
    pub(crate) value: u32,
}

#[derive(Debug)]
struct State {
    frozen: bool,
    /// Held by each mapping that can be written.
    writers: Arc<()>,
    /// The hold of one that is never counted as gone: that of an arena.
    lasting: Option<Arc<()>>,
    elements: Box<dyn Elements>,
}

/// Flags of element calls.
const NOEXIST: u64 = 1;
const EXIST: u64 = 2;
pub(crate) const LOCK: u64 = 4;
const CPU: u64 = 8;
const ALL_CPUS: u64 = 16;

impl Map {
    /// A map of a shape that [`check`] has accepted.
    pub(crate) fn new(
        id: u32,
        shape: Shape,
        name: &str,
        btf: Option<MapTypes>,
        inner: Option<InnerShape>,
        elements: Box<dyn Elements>,
        meter: &Arc<Meter>,
    ) -> Map {
        let state = Mutex::new(State { frozen: false, writers: Arc::new(()), lasting: None, elements });
        let (meter, counted) = (meter.clone(), AtomicUsize::new(0));
        let map = Map { id, shape, name: name.to_owned(), btf, inner, meter, counted, state };
        map.settle(&map.state());
        map
    }

    /// `ENOMEM` when there is no memory for an element at `key` that is not there yet.
    fn room(&self, state: &State, key: &[u8]) -> Result<(), Errno> {
        let room = self.meter.admit(self.element_memory().max(state.elements.piece()));
        if room.is_err() && !state.elements.grows(key) { Ok(()) } else { room }
    }

    /// Counts what the elements take now.
    fn settle(&self, state: &State) {
        let now = state
            .elements
            .count()
            .saturating_mul(self.element_memory())
            .saturating_add(state.elements.pieces());
        self.meter.change(self.counted.swap(now, Ordering::Relaxed), now);
    }

    /// What an element takes that is kept by itself.
    fn element_memory(&self) -> usize {
        self.shape.value_len().saturating_add(self.shape.key_size as usize + meter::BESIDE) // a size is 32 bits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn info(&self) -> MapInfo {
        let mut info = MapInfo::default();
        info.map_type = self.shape.kind;
        info.id = MapId(self.id);
        info.key_size = self.shape.key_size;
        info.value_size = self.shape.value_size;
        info.max_entries = self.shape.max_entries;
        info.flags = self.shape.flags;
        if matches!(self.shape.kind, MapType::DEVMAP | MapType::DEVMAP_HASH | MapType::INSN_ARRAY) {
            // Set by the kernel so that programs cannot write the values that they are handed.
            info.flags |= MapFlags::RDONLY_PROG;
        }
        info.name = self.name.clone();
        info.map_extra = self.shape.map_extra;
        if let Some(value_type_id) = self.with_table(|table| table.value_type_id()) {
            info.vmlinux_value_type_id = value_type_id;
        }
        if let Some(types) = &self.btf {
            info.btf_id = BtfObjectId(types.btf.id);
            info.btf_key_type_id = types.key;
            info.btf_value_type_id = types.value;
        }
        info
    }

    /// Whether programs may only read its values.
    pub(crate) fn is_read_only_for_programs(&self) -> bool {
        let devices = matches!(self.shape.kind, MapType::DEVMAP | MapType::DEVMAP_HASH);
        devices || self.shape.flags.contains(MapFlags::RDONLY_PROG)
    }

    /// Whether it is a hash table of values.
    pub(crate) fn is_hash(&self) -> bool {
        let kinds = [MapType::HASH, MapType::PERCPU_HASH, MapType::LRU_HASH, MapType::LRU_PERCPU_HASH];
        kinds.contains(&self.shape.kind)
    }

    pub(crate) fn usage(&self) -> MapUsage {
        let state = self.state();
        let mut usage = MapUsage::default();
        usage.memory = Some(self.shape.memory() as u64);
        usage.frozen = Some(state.frozen);
        usage.owner = state.elements.owner();
        usage
    }

    pub(crate) fn lookup(
        &self,
        access: Access,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        // Kernels without flags of CPUs look at them first.
        if !self.shape.cpu_flags && flags & !LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        if !access.read {
            return Err(Errno::EPERM);
        }
        self.check_flags(flags, LOCK | CPU)?;
        self.check_key(key)?;
        self.check_value(value, flags)?;
        self.read(&mut self.state(), key, value, flags)
    }

    pub(crate) fn update(
        &self,
        access: Access,
        key: &[u8],
        value: &[u8],
        flags: u64,
        resolve: Resolve<'_>,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        self.check_writable(&state, access)?;
        if self.shape.cpu_flags {
            self.check_flags(flags, u64::from(u32::MAX))?;
        } else {
            // What else there may be, each kind looks at when it comes to it; a value for one CPU is no value here.
            let no_lock = flags & LOCK != 0 && self.shape.fields.spin_lock().is_none();
            if no_lock || self.shape.kind.is_per_cpu() && flags & (CPU | ALL_CPUS) != 0 {
                return Err(Errno::EINVAL);
            }
        }
        self.check_key(key)?;
        self.check_value(value, flags)?;
        self.write(&mut state, key, value, flags, resolve)
    }

    /// As [`update`](Map::update) with a descriptor as value.
    pub(crate) fn update_fd(
        &self,
        access: Access,
        key: &[u8],
        value: BorrowedFd<'_>,
        flags: u64,
        resolve: Resolve<'_>,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        self.check_writable(&state, access)?;
        if flags & LOCK != 0 || !matches!(self.shape.value_len(), 4 | 8) {
            return Err(Errno::EINVAL);
        }
        if self.shape.cpu_flags {
            self.check_flags(flags, u64::from(u32::MAX))?;
        }
        self.check_key(key)?;
        self.room(&state, key)?;
        let done = state.elements.update_fd(key, value, flags, resolve);
        self.settle(&state);
        done
    }

    pub(crate) fn delete(&self, access: Access, key: &[u8]) -> Result<(), Errno> {
        let mut state = self.state();
        self.check_writable(&state, access)?;
        self.check_key(key)?;
        let done = state.elements.delete(key);
        self.settle(&state);
        done
    }

    pub(crate) fn next_key(&self, access: Access, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        if !access.read {
            return Err(Errno::EPERM);
        }
        if let Some(key) = key {
            self.check_key(key)?;
        }
        if next.len() != self.shape.key_size as usize {
            return Err(Errno::EFAULT);
        }
        self.state().elements.next_key(key, next)
    }

    /// All keys, as they are at one moment.
    pub(crate) fn keys(&self) -> Result<Vec<Box<[u8]>>, Errno> {
        let state = self.state();
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        loop {
            let mut next = vec![0; self.shape.key_size as usize].into_boxed_slice();
            match state.elements.next_key(keys.last().map(|key| &**key), &mut next) {
                Ok(()) => keys.push(next),
                Err(Errno::ENOENT) => return Ok(keys),
                Err(errno) => return Err(errno),
            }
        }
    }

    pub(crate) fn lookup_and_delete(
        &self,
        access: Access,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if flags & !LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state();
        if !access.read {
            return Err(Errno::EPERM);
        }
        self.check_writable(&state, access)?;
        if flags != 0 && matches!(self.shape.kind, MapType::QUEUE | MapType::STACK) {
            return Err(Errno::EINVAL);
        }
        self.check_flags(flags, LOCK)?;
        self.check_key(key)?;
        self.check_value(value, flags)?;
        state.elements.take(key, value)?;
        self.settle(&state);
        self.shape.fields.hide(value, self.shape.form().stride());
        Ok(())
    }

    /// The error of an operation that the kernel does not have for the kind of map, or of a descriptor that it looks at before.
    pub(crate) fn refusal(&self, access: Access, reads: bool, writes: bool) -> Errno {
        if reads && !access.read {
            return Errno::EPERM;
        }
        let allowed = if writes { self.check_writable(&self.state(), access) } else { Ok(()) };
        allowed.err().unwrap_or(Errno::ENOTSUPP)
    }

    /// Forbids writing from now on. Whether a descriptor has to be one that may write depends on the kernel.
    pub(crate) fn freeze(&self, access: Access, needs_write: bool) -> Result<(), Errno> {
        let mut state = self.state();
        if !self.shape.fields.is_empty() || self.shape.kind == MapType::STRUCT_OPS {
            return Err(Errno::ENOTSUPP);
        }
        if needs_write {
            self.check_writable(&state, access)?;
        }
        if Arc::strong_count(&state.writers) > 1 || state.frozen {
            return Err(Errno::EBUSY);
        }
        state.frozen = true;
        Ok(())
    }

    /// Gives out a view of the values.
    pub(crate) fn mmap(&self, access: Access, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let mut state = self.state();
        state.elements.check_place(memory)?;
        // The descriptor's mode decides, as for any file.
        if !access.read || memory.writable && !access.write {
            return Err(Errno::EACCES);
        }
        let kinds = [MapType::ARRAY, MapType::RINGBUF, MapType::USER_RINGBUF, MapType::ARENA];
        if !kinds.contains(&self.shape.kind) || !self.shape.fields.is_empty() {
            return Err(Errno::ENOTSUPP);
        }
        // A shared mapping of what cannot be written is a private one to Linux, which no map has.
        if !access.write {
            return Err(Errno::EINVAL);
        }
        if memory.writable {
            if state.frozen {
                return Err(Errno::EPERM);
            }
            if self.shape.flags.contains(MapFlags::RDONLY_PROG) {
                return Err(Errno::EACCES);
            }
        }
        let view = state.elements.mmap(memory)?;
        self.settle(&state);
        if self.shape.kind == MapType::ARENA && memory.writable {
            state.lasting = Some(state.writers.clone());
        }
        Ok(if memory.writable { view.with_claim(Box::new(state.writers.clone())) } else { view })
    }

    /// Reads the value of a map of one element that no one can change any more, as the verifier does.
    pub(crate) fn read_constant(&self, offset: usize, len: usize) -> Option<u64> {
        let state = self.state();
        if !state.frozen || !self.shape.flags.contains(MapFlags::RDONLY_PROG) || self.shape.max_entries != 1 {
            return None;
        }
        drop(state);
        let mut value = vec![0; self.shape.value_len()];
        self.state().elements.lookup(&0u32.to_ne_bytes(), &mut value).ok()?;
        let bytes = value.get(offset..offset.checked_add(len)?)?;
        match *bytes {
            [a] => Some(a.into()),
            [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
            [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
            _ => bytes.try_into().ok().map(u64::from_ne_bytes),
        }
    }

    /// The perf event at an index, as a program finds it.
    pub(crate) fn perf_event(&self, index: u32) -> Result<Arc<PerfEvent>, Errno> {
        self.state().elements.perf_event(index)
    }

    /// Whether what the elements hold goes with the last descriptor and, but for perf events, pin.
    pub(crate) fn lets_go(&self) -> bool {
        match self.shape.kind {
            MapType::PROG_ARRAY => true,
            MapType::PERF_EVENT_ARRAY => !self.shape.flags.contains(MapFlags::PRESERVE_ELEMS),
            // Their callbacks are functions of programs that may use the map.
            _ => [FieldKind::Timer, FieldKind::Workqueue]
                .iter()
                .any(|kind| self.shape.fields.of(*kind).is_some()),
        }
    }

    pub(crate) fn add_stack(
        &self,
        addresses: &[u64],
        frames: Vec<u8>,
        flags: StackFlags,
    ) -> Result<u32, Errno> {
        let mut state = self.state();
        self.room(&state, &[])?;
        let added = state.elements.add_stack(addresses, frames, flags);
        self.settle(&state);
        added
    }

    /// The id of the cgroup in a slot.
    pub(crate) fn cgroup_id(&self, index: u32) -> Option<u64> {
        self.state().elements.cgroup_id(index)
    }

    pub(crate) fn put_stack(&self, id: u32, addresses: &[u64]) -> Result<(), Errno> {
        let mut state = self.state();
        self.room(&state, &[])?;
        let put = state.elements.put_stack(id, addresses);
        self.settle(&state);
        put
    }

    /// Does something with the table that the map is, if it is one.
    pub(crate) fn with_table<T>(&self, with: impl FnOnce(&mut Table) -> T) -> Option<T> {
        self.state().elements.table().map(with)
    }

    /// Does something with the arena that the map is, if it is one.
    pub(crate) fn with_arena<T>(&self, with: impl FnOnce(&mut Arena) -> T) -> Option<T> {
        self.state().elements.pages().map(with)
    }

    /// Whether there is memory for so many pages of an arena. They are counted when programs ask for them.
    pub(crate) fn has_room_for_pages(&self, count: u32) -> bool {
        self.meter.admit((count as usize).saturating_mul(create::PAGE_SIZE as usize)).is_ok()
    }

    /// Counts what an arena takes after programs were given pages, or gave some back.
    pub(crate) fn settle_pages(&self) {
        self.settle(&self.state());
    }

    /// Whether it is an arena.
    pub(crate) fn is_arena(&self) -> bool {
        self.shape.kind == MapType::ARENA
    }

    pub(crate) fn is_ring(&self) -> bool {
        matches!(self.shape.kind, MapType::RINGBUF | MapType::USER_RINGBUF)
    }

    /// Does something with the ring that the map is; `EINVAL` for others.
    pub(crate) fn ring<T>(&self, with: impl FnOnce(&mut Ring) -> Result<T, Errno>) -> Result<T, Errno> {
        with(self.state().elements.ring().ok_or(Errno::EINVAL)?)
    }

    /// Gives out the memory of a ring.
    pub(crate) fn map_ring(&self, access: Access) -> Result<RingMemory, Errno> {
        if !access.read || !access.write {
            return Err(Errno::EACCES);
        }
        let memory = self.ring(Ring::share)?;
        Ok(memory.with_claim(Box::new(self.state().writers.clone())))
    }

    /// Drops what the elements hold: done to program arrays when the last descriptor and pin are gone, since an array
    /// may hold a program that uses it.
    pub(crate) fn release_held(&self) {
        let mut state = self.state();
        state.elements.release_held();
        self.settle(&state);
    }

    fn check_writable(&self, state: &State, access: Access) -> Result<(), Errno> {
        if access.write && !state.frozen { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Kinds without keys refuse one; any other length than the map's would be read past its end.
    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        match (key.len(), self.shape.key_size as usize) {
            (len, size) if len == size => Ok(()),
            (_, 0) => Err(Errno::EINVAL),
            _ => Err(Errno::EFAULT),
        }
    }

    fn check_value(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        if value.len() == self.value_len(flags) { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

#[cfg(test)]
mod tests;

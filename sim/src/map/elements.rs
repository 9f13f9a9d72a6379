//! What every kind of map can be asked.

use std::fmt::Debug;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::{Errno, ProgType};
use skep_sys::request::MapMemory;

use super::Map;
use super::arena::Arena;
use super::instructions::Instructions;
use super::ring::Ring;
use super::storage::Owner;
use super::table::Table;
use super::value::Value;
use crate::object::Object;
use crate::outside::Socket;
use crate::perf::PerfEvent;
use crate::prog::Prog;

/// Words that a map, programs and mappings hold together.
pub(super) type Words = Arc<[AtomicU64]>;

/// Most elements of an array that are answered at once: there can be as many as there are numbers.
pub(super) const VALUES_MAX: u32 = 1 << 16;

/// Finds the object that a descriptor number in a map's value stands for.
pub(crate) type Resolve<'a> = &'a dyn Fn(i32) -> Result<Object, Errno>;

bitflags::bitflags! {
    /// Calls with many elements that a kind of map has.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Batches: u8 {
        const LOOKUP = 1;
        const TAKE = 2;
        const UPDATE = 4;
        const DELETE = 8;
    }
}

/// How a program wants a stack to be compared with the one of the same number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackFlags {
    /// The numbers are enough (`BPF_F_FAST_STACK_CMP`).
    pub(crate) fast: bool,
    /// Another one makes room (`BPF_F_REUSE_STACKID`).
    pub(crate) reuse: bool,
}

/// The elements of one map. Keys and values have the lengths that the map demands.
pub(crate) trait Elements: Debug + Send {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno>;

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno>;

    /// Writes a descriptor of the process, of which most kinds only need the number.
    fn update_fd(
        &mut self,
        key: &[u8],
        fd: BorrowedFd<'_>,
        flags: u64,
        resolve: Resolve<'_>,
    ) -> Result<(), Errno> {
        self.update(key, &fd.as_raw_fd().to_ne_bytes(), flags, resolve)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno>;

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno>;

    /// Looks up and deletes.
    fn take(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let _ = (key, value);
        Err(Errno::ENOTSUPP)
    }

    /// What can be done with many elements in one call.
    fn batches(&self) -> Batches {
        Batches::empty()
    }

    /// How many buckets there are, for kinds that are read bucket by bucket.
    fn buckets(&self) -> Option<u32> {
        None
    }

    /// The first bucket from `bucket` on that is not empty, with its keys.
    fn bucket_from(&self, bucket: u32) -> Option<(u32, Vec<Arc<[u8]>>)> {
        let _ = bucket;
        None
    }

    /// Kind of the programs that an array of programs takes, once there was one.
    fn owner(&self) -> Option<ProgType> {
        None
    }

    /// Puts a stack in, as a program does.
    fn put_stack(&mut self, id: u32, addresses: &[u64]) -> Result<(), Errno> {
        let _ = (id, addresses);
        Err(Errno::EINVAL)
    }

    /// Whether a mapping can be where it is wanted, which is looked at before anything else.
    fn check_place(&self, memory: MapMemory) -> Result<(), Errno> {
        let _ = memory;
        Ok(())
    }

    /// Adds a stack that a program walked: its addresses, of which its number follows, and its frames as they are kept.
    /// Answers the number.
    fn add_stack(&mut self, addresses: &[u64], frames: Vec<u8>, flags: StackFlags) -> Result<u32, Errno> {
        let _ = (addresses, frames, flags);
        Err(Errno::EINVAL)
    }

    /// The id of the cgroup in a slot.
    fn cgroup_id(&self, index: u32) -> Option<u64> {
        let _ = index;
        None
    }

    /// A view of the values, for kinds that have them in shared memory.
    fn mmap(&mut self, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let _ = memory;
        Err(Errno::ENOTSUPP)
    }

    /// The ring, for kinds that are one.
    fn ring(&mut self) -> Option<&mut Ring> {
        None
    }

    /// The perf event at an index.
    fn perf_event(&self, index: u32) -> Result<Arc<PerfEvent>, Errno> {
        let _ = index;
        Err(Errno::EINVAL)
    }

    /// Drops the objects that the elements hold.
    fn release_held(&mut self) {}

    // What programs do, beside what user space does.

    /// The value that a program gets a pointer to, on a CPU. A use, for kinds that keep what is used.
    fn value(&mut self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        let _ = (key, cpu);
        Ok(None)
    }

    /// All values of a CPU with their keys, for kinds that a program can go through; of arrays the first [`VALUES_MAX`].
    fn values(&mut self, cpu: u32) -> Vec<(Arc<[u8]>, Value)> {
        let _ = cpu;
        Vec::new()
    }

    /// Writes a value as a program does, which for per-CPU kinds is that of its CPU.
    fn program_update(&mut self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        let _ = cpu;
        // A program has no descriptors.
        self.update(key, value, flags, &|_| Err(Errno::EBADF))
    }

    /// The value that belongs to `owner`, made from `initial` where there is none; for local storage.
    fn owned(&mut self, owner: Owner, initial: Option<&[u8]>) -> Result<Option<Value>, Errno> {
        let _ = (owner, initial);
        Err(Errno::EINVAL)
    }

    /// Writes the value that belongs to `owner`; for local storage.
    fn set_owned(&mut self, owner: Owner, value: &[u8], flags: u64) -> Result<(), Errno> {
        let _ = (owner, value, flags);
        Err(Errno::EINVAL)
    }

    /// Those that have values; for local storage.
    fn owners(&self) -> Vec<Owner> {
        Vec::new()
    }

    /// Removes the value that belongs to `owner`; for local storage.
    fn remove_owned(&mut self, owner: Owner) -> Result<(), Errno> {
        let _ = owner;
        Err(Errno::EINVAL)
    }

    /// The map at a key of a map of maps.
    fn inner_map(&mut self, key: &[u8]) -> Option<Arc<Map>> {
        let _ = key;
        None
    }

    /// The program at an index of an array of programs.
    fn program(&self, index: u32) -> Option<Arc<Prog>> {
        let _ = index;
        None
    }

    /// What a packet is redirected to: the index of a device or the length of a CPU's queue, and the program that
    /// runs there.
    fn target(&self, key: &[u8]) -> Option<(u32, Option<Arc<Prog>>)> {
        let _ = key;
        None
    }

    /// Whether a socket is in it, for maps of sockets.
    fn holds(&self, socket: &Socket) -> bool {
        let _ = socket;
        false
    }

    /// Whether there is an open socket at a key.
    fn has_socket(&self, key: &[u8]) -> bool {
        let _ = key;
        false
    }

    /// The cookie of the socket of the simulated network at a key.
    fn simulated_socket(&self, key: &[u8]) -> Option<u64> {
        let _ = key;
        None
    }

    /// Puts a socket in. A busy one has programs of another map where this one has some, too.
    fn put_socket(&mut self, key: &[u8], socket: &Socket, flags: u64, busy: bool) -> Result<(), Errno> {
        let _ = (key, socket, flags, busy);
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes a socket of the simulated network out, wherever it is.
    fn forget_socket(&mut self, cookie: u64) {
        let _ = cookie;
    }

    // What the elements take.

    /// How many elements are kept each by itself.
    fn count(&self) -> usize {
        0
    }

    /// How many places a lookup may have to look at, where these are many.
    fn steps(&self) -> usize {
        0
    }

    /// Bytes of what is kept together.
    fn pieces(&self) -> usize {
        0
    }

    /// Bytes of the largest piece that one more element can take.
    fn piece(&self) -> usize {
        0
    }

    /// Whether writing at a key takes more memory than before.
    fn grows(&self, key: &[u8]) -> bool {
        let _ = key;
        true
    }

    /// The key of the element that a value of a CPU is.
    fn key_of(&mut self, value: &Value, cpu: u32) -> Option<Arc<[u8]>> {
        self.values(cpu).into_iter().find(|(_, there)| there.is(value)).map(|(key, _)| key)
    }

    // What a snapshot needs.

    /// A copy that shares the words of values with this one.
    fn boxed(&self) -> Box<dyn Elements>;

    /// The words that values are in, for kinds whose values programs and mappings share.
    fn shared_words(&self) -> Vec<Words> {
        Vec::new()
    }

    /// The objects that the elements hold.
    fn held(&self) -> Vec<Object> {
        Vec::new()
    }

    /// The table of programs, for kinds that are one.
    fn table(&mut self) -> Option<&mut Table> {
        None
    }

    /// The places of instructions, for kinds that hold them.
    fn instructions(&mut self) -> Option<&mut Instructions> {
        None
    }

    /// The arena, for kinds that are one.
    fn pages(&mut self) -> Option<&mut Arena> {
        None
    }
}

/// The index that an array's key is.
pub(super) fn index(key: &[u8]) -> Result<u32, Errno> {
    key.try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EFAULT)
}

/// The key after `key` in an array: the first one for none and for one past the end.
pub(super) fn next_index(key: Option<&[u8]>, max: u32, next: &mut [u8]) -> Result<(), Errno> {
    let index = match key.map(index).transpose()? {
        None => 0,
        Some(index) if index >= max => 0,
        Some(index) => index.checked_add(1).filter(|&i| i < max).ok_or(Errno::ENOENT)?,
    };
    copy(next, &index.to_ne_bytes())
}

/// Copies between buffers of the same length.
pub(super) fn copy(to: &mut [u8], from: &[u8]) -> Result<(), Errno> {
    if to.len() != from.len() {
        return Err(Errno::EFAULT);
    }
    to.copy_from_slice(from);
    Ok(())
}

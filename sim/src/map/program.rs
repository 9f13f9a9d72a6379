//! What programs do with maps: what their helpers ask, without the checks of a descriptor.
//!
//! Errors are the kernel's; a helper answers with the negative number. What depends on a CPU is given the number of that
//! on which the program runs.

use std::sync::Arc;

use skep_sys::abi::{Errno, MapType};

use super::fields::Fields;
use super::storage::Owner;
use super::value::Value;
use super::{EXIST, LOCK, Map};
use crate::fd::Access;
use crate::outside::Socket;
use crate::prog::Prog;

impl Map {
    /// What of a value is the kernel's: locks, timers, pointers to kernel objects.
    ///
    /// A map writes zeros to timers, work queues, pointers, lists and trees of a value that is removed or written over: what
    /// they stood for is freed by whoever made it, who finds its own mark gone. Locks and reference counts it does not touch.
    pub(crate) fn fields(&self) -> &Fields {
        &self.shape.fields
    }

    /// The value that a program gets a pointer to (`bpf_map_lookup_elem`, `bpf_map_lookup_percpu_elem`); none for a key
    /// that is not there, and for a CPU that there is not. A use, for LRU maps. It stays readable and writable when the element is
    /// removed, or in hashes replaced.
    ///
    /// In cgroup storage, where the kernel makes values as programs are attached, one that is not there is made.
    pub(crate) fn value(&self, key: &[u8], cpu: u32) -> Result<Option<Value>, Errno> {
        self.check_key(key)?;
        let mut state = self.state();
        if state.elements.piece() > 0 {
            self.room(&state, key)?;
            let value = state.elements.value(key, cpu);
            self.settle(&state);
            return value;
        }
        state.elements.value(key, cpu)
    }

    /// The keys and values as they are now (`bpf_for_each_map_elem`): arrays by index, hashes in the order of iteration.
    pub(crate) fn values(&self, cpu: u32) -> Vec<(Arc<[u8]>, Value)> {
        self.state().elements.values(cpu)
    }

    /// How many elements it has, as far as its kind counts them.
    pub(crate) fn count(&self) -> usize {
        self.state().elements.count()
    }

    /// How many places a lookup may have to look at, where these are many.
    pub(crate) fn steps(&self) -> usize {
        self.state().elements.steps()
    }

    /// The key of the element that a value of a CPU is.
    pub(crate) fn key_of(&self, value: &Value, cpu: u32) -> Option<Arc<[u8]>> {
        self.state().elements.key_of(value, cpu)
    }

    /// The map at a key of a map of maps.
    pub(crate) fn inner_map(&self, key: &[u8]) -> Option<Arc<Map>> {
        self.check_key(key).ok()?;
        self.state().elements.inner_map(key)
    }

    /// The program at an index of an array of programs (`bpf_tail_call`).
    pub(crate) fn program(&self, index: u32) -> Option<Arc<Prog>> {
        self.state().elements.program(index)
    }

    /// What a packet is redirected to (`bpf_redirect_map`) by maps of devices and CPUs: the index of the device or the
    /// length of the CPU's queue, and the program that runs there.
    pub(crate) fn target(&self, key: &[u8]) -> Option<(u32, Option<Arc<Prog>>)> {
        self.check_key(key).ok()?;
        self.state().elements.target(key)
    }

    /// Whether there is an open socket at a key of a map of sockets.
    pub(crate) fn has_socket(&self, key: &[u8]) -> bool {
        self.check_key(key).is_ok() && self.state().elements.has_socket(key)
    }

    /// The cookie of the socket of the simulated network at a key of a map of sockets.
    pub(crate) fn simulated_socket(&self, key: &[u8]) -> Option<u64> {
        self.check_key(key).ok()?;
        self.state().elements.simulated_socket(key)
    }

    /// Puts a socket of the simulated network into a map of sockets, as a program or, with its access, as user space does.
    pub(crate) fn put_socket(
        &self,
        access: Option<Access>,
        key: &[u8],
        socket: &Socket,
        flags: u64,
        busy: bool,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        if let Some(access) = access {
            self.check_writable(&state, access)?;
        }
        self.check_key(key)?;
        state.elements.put_socket(key, socket, flags, busy)
    }

    /// Whether a socket is in it.
    pub(crate) fn holds(&self, socket: &Socket) -> bool {
        self.state().elements.holds(socket)
    }

    /// Takes a socket of the simulated network out, which has gone.
    pub(crate) fn forget_socket(&self, cookie: u64) {
        self.state().elements.forget_socket(cookie);
    }

    /// Whether sockets are put into it.
    pub(crate) fn takes_sockets(&self) -> bool {
        use skep_sys::abi::MapType as M;

        matches!(self.shape.kind, M::SOCKMAP | M::SOCKHASH | M::REUSEPORT_SOCKARRAY | M::XSKMAP)
    }

    /// The value that belongs to a process, socket, file or cgroup (`bpf_task_storage_get`); where there is none, it is made
    /// from `initial` (`BPF_LOCAL_STORAGE_GET_F_CREATE`; zeros for none of the program's own).
    pub(crate) fn storage(&self, owner: Owner, initial: Option<&[u8]>) -> Result<Option<Value>, Errno> {
        if initial.is_some_and(|initial| initial.len() != self.shape.value_size as usize) {
            return Err(Errno::EFAULT);
        }
        let mut state = self.state();
        if initial.is_some() {
            self.room(&state, &[])?;
        }
        let value = state.elements.owned(owner, initial);
        self.settle(&state);
        value
    }

    /// Removes such a value (`bpf_task_storage_delete`).
    pub(crate) fn storage_delete(&self, owner: Owner) -> Result<(), Errno> {
        let mut state = self.state();
        let done = state.elements.remove_owned(owner);
        self.settle(&state);
        done
    }

    /// `bpf_map_update_elem`. The value has the length of one CPU's.
    pub(crate) fn program_update(&self, key: &[u8], value: &[u8], flags: u64, cpu: u32) -> Result<(), Errno> {
        self.check_key(key)?;
        self.check_own(value)?;
        let lock = flags & LOCK != 0;
        if lock && self.fields().spin_lock().is_none() {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state();
        if self.is_keyless() {
            return Err(Errno::EINVAL);
        }
        if flags & !LOCK > EXIST {
            return Err(Errno::EINVAL);
        }
        if lock {
            return self.write(&mut state, key, value, flags, &|_| Err(Errno::EBADF));
        }
        self.room(&state, key)?;
        let done = state.elements.program_update(key, value, flags, cpu);
        self.settle(&state);
        done
    }

    /// `bpf_map_delete_elem`.
    pub(crate) fn program_delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        let mut state = self.state();
        let done = state.elements.delete(key);
        self.settle(&state);
        done
    }

    /// `bpf_map_push_elem`.
    pub(crate) fn program_push(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        self.check_own(value)?;
        if !self.is_keyless() {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state();
        self.room(&state, &[])?;
        let done = state.elements.update(&[], value, flags, &|_| Err(Errno::EBADF));
        self.settle(&state);
        done
    }

    /// `bpf_map_pop_elem`. The value is zero afterwards when there was none.
    pub(crate) fn program_pop(&self, value: &mut [u8]) -> Result<(), Errno> {
        self.check_own(value)?;
        if !matches!(self.shape.kind, MapType::QUEUE | MapType::STACK) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut state = self.state();
        let taken = state.elements.take(&[], value);
        self.settle(&state);
        drop(state);
        if taken.is_err() {
            value.fill(0);
        }
        taken
    }

    /// `bpf_map_peek_elem`: of a queue or stack as [`program_pop`](Map::program_pop), of a bloom filter whether it holds
    /// the value.
    pub(crate) fn program_peek(&self, value: &mut [u8]) -> Result<(), Errno> {
        self.check_own(value)?;
        if !self.is_keyless() {
            return Err(Errno::EOPNOTSUPP);
        }
        let found = self.state().elements.lookup(&[], value);
        if found.is_err() && self.shape.kind != MapType::BLOOM_FILTER {
            value.fill(0);
        }
        found
    }

    fn is_keyless(&self) -> bool {
        matches!(self.shape.kind, MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER)
    }

    /// Whether a value has the length of one CPU's.
    fn check_own(&self, value: &[u8]) -> Result<(), Errno> {
        if value.len() == self.shape.value_size as usize { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

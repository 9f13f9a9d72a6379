use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::abi::{Errno, MapFlags, MapType, UpdateFlags};
use crate::kernel::Kernel;
use crate::program_fd::LoadedProgram;
use crate::request::{MapCreate, MapInfo, MapMemory, MapUsage, Pin};
use crate::ring::RingMemory;
use crate::shared::SharedMemory;

/// The sizes and kind of a map, which decide how long its keys and values are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct MapShape {
    /// Kind.
    pub map_type: MapType,
    /// Size of a key in bytes; 0 for kinds without keys.
    pub key_size: u32,
    /// Size of a value in bytes (of one CPU's value for per-CPU kinds).
    pub value_size: u32,
    /// Capacity; its unit depends on the kind.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: MapFlags,
}

impl MapShape {
    pub(crate) fn of_request(request: &MapCreate<'_>) -> MapShape {
        MapShape {
            map_type: request.map_type,
            key_size: request.key_size,
            value_size: request.value_size,
            max_entries: request.max_entries,
            flags: request.flags,
        }
    }

    pub(crate) fn of_info(info: &MapInfo) -> MapShape {
        MapShape {
            map_type: info.map_type,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
        }
    }
}

/// A borrowed map with the shape that says how long its keys and values are.
///
/// Only [`MapFd`] gives it out, so that a [`Backend`](crate::Backend) can trust it more than a bare descriptor.
#[derive(Clone, Copy, Debug)]
pub struct MapRef<'a> {
    fd: BorrowedFd<'a>,
    shape: MapShape,
    cpus: u32,
}

impl MapRef<'_> {
    /// Kind and sizes.
    pub fn shape(&self) -> MapShape {
        self.shape
    }

    /// Length of a key in bytes.
    pub fn key_len(&self) -> usize {
        self.shape.key_size as usize
    }

    /// Length in bytes of a value as user space passes it with these flags (see [`MapFd::value_len`]).
    pub fn value_len(&self, flags: UpdateFlags) -> usize {
        let size = self.shape.value_size as usize;
        if self.shape.map_type.is_per_cpu() && !flags.intersects(UpdateFlags::CPU | UpdateFlags::ALL_CPUS) {
            // Where this saturates (32-bit machines), no slice is ever that long.
            size.checked_next_multiple_of(8).unwrap_or(usize::MAX).saturating_mul(self.cpus as usize)
        } else {
            size
        }
    }
}

impl AsFd for MapRef<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Why an operation on a map was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A key has another length than the map's keys.
    #[error("key of {got} bytes given to a map whose keys have {want}")]
    KeyLength {
        /// Length that was given.
        got: usize,
        /// Length that the map demands.
        want: usize,
    },
    /// A value has another length than what user space must pass (see [`MapFd::value_len`]).
    #[error("value of {got} bytes given to a map whose values have {want}")]
    ValueLength {
        /// Length that was given.
        got: usize,
        /// Length that the map demands.
        want: usize,
    },
    /// A batch cursor has another length than those of the map (see [`BatchCursor`](crate::BatchCursor)).
    #[error("batch cursor of {got} bytes given to a map whose cursors have {want}")]
    CursorLength {
        /// Length that was given.
        got: usize,
        /// Length that the map demands.
        want: usize,
    },
    /// A handle of one kernel was given to a map of another.
    #[error("handle belongs to another kernel than the map")]
    OtherKernel,
    /// The kernel refused.
    #[error("map {operation}: {errno}")]
    Kernel {
        /// What was tried: `lookup`, `update`, …
        operation: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl MapError {
    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            MapError::Kernel { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// An open map: its descriptor, its kernel, and the shape that says how long keys and values are.
///
/// bpf(2) takes no lengths, so every length is checked here before a call. A value is what user space passes: for
/// per-CPU kinds that is one value for each possible CPU, each padded to a multiple of 8 bytes. Kinds without keys
/// (queue, stack, bloom filter) take the empty slice as key.
///
/// Made by [`Kernel`]; dropping it closes the descriptor.
#[derive(Debug)]
pub struct MapFd {
    fd: OwnedFd,
    kernel: Kernel,
    shape: MapShape,
    /// Possible CPUs for per-CPU kinds, else 1.
    cpus: u32,
}

impl MapFd {
    pub(crate) fn new(fd: OwnedFd, kernel: Kernel, shape: MapShape, cpus: u32) -> MapFd {
        MapFd { fd, kernel, shape, cpus }
    }

    /// The kernel that the map lives in.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Kind and sizes: as asked for when this handle created the map, as the kernel reports them otherwise.
    pub fn shape(&self) -> MapShape {
        self.shape
    }

    /// Kind.
    pub fn map_type(&self) -> MapType {
        self.shape.map_type
    }

    /// Length of a key in bytes.
    pub fn key_len(&self) -> usize {
        self.shape.key_size as usize
    }

    /// Length in bytes of a value as user space passes it: the value size, or for per-CPU kinds
    /// `possible CPUs * value size rounded up to 8`.
    pub fn value_len(&self) -> usize {
        self.value_len_with(UpdateFlags::empty())
    }

    /// As [`value_len`](MapFd::value_len) for a call with these flags: [`UpdateFlags::CPU`] and
    /// [`UpdateFlags::ALL_CPUS`] take one plain value.
    pub fn value_len_with(&self, flags: UpdateFlags) -> usize {
        self.as_map_ref().value_len(flags)
    }

    /// The map as a backend takes it.
    pub fn as_map_ref(&self) -> MapRef<'_> {
        MapRef { fd: self.as_fd(), shape: self.shape, cpus: self.cpus }
    }

    /// Number of values in an element: possible CPUs for per-CPU kinds, else 1.
    pub fn values_per_element(&self) -> u32 {
        self.cpus
    }

    /// Reads the value at `key` (`BPF_MAP_LOOKUP_ELEM`). For a bloom filter `value` is what to look for, and the
    /// answer [`Errno::ENOENT`] that it is not in.
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers, [`Errno::ENOENT`] when there is no such key.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: UpdateFlags) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value, flags)?;
        let result = self.kernel.backend().map_lookup(self.as_map_ref(), key, value, flags.bits());
        result.map_err(failed("lookup"))
    }

    /// Writes the value at `key` (`BPF_MAP_UPDATE_ELEM`).
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers: [`Errno::EEXIST`] and [`Errno::ENOENT`] by the flags,
    /// [`Errno::E2BIG`] when the map is full.
    pub fn update(&self, key: &[u8], value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value, flags)?;
        let result = self.kernel.backend().map_update(self.as_map_ref(), key, value, flags.bits());
        result.map_err(failed("update"))
    }

    /// Puts a map into a map of maps.
    ///
    /// # Errors
    /// As [`update`](MapFd::update), and [`MapError::OtherKernel`].
    pub fn update_map(&self, key: &[u8], inner: &MapFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.update_object(key, inner.kernel(), inner.as_fd(), flags)
    }

    /// Puts a program into a program array.
    ///
    /// # Errors
    /// As [`update`](MapFd::update), and [`MapError::OtherKernel`].
    pub fn update_program(
        &self,
        key: &[u8],
        prog: &LoadedProgram,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.update_object(key, prog.kernel(), prog.as_fd(), flags)
    }

    pub(crate) fn update_object(
        &self,
        key: &[u8],
        kernel: &Kernel,
        fd: BorrowedFd<'_>,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        if !self.kernel.same(kernel) {
            return Err(MapError::OtherKernel);
        }
        self.update(key, &fd.as_raw_fd().to_ne_bytes(), flags)
    }

    /// Removes the element at `key` (`BPF_MAP_DELETE_ELEM`).
    ///
    /// # Errors
    /// A wrong length; what the kernel answers, [`Errno::ENOENT`] when there is no such key.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.check_key(key)?;
        self.kernel.backend().map_delete(self.as_map_ref(), key).map_err(failed("delete"))
    }

    /// Finds the key after `key`, or the first one (`BPF_MAP_GET_NEXT_KEY`). A hash starts anew when `key` is gone.
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers, [`Errno::ENOENT`] at the end.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        self.check_key(next)?;
        self.kernel.backend().map_next_key(self.as_map_ref(), key, next).map_err(failed("next key"))
    }

    /// Reads and removes the element at `key`, or the next one of a queue or stack
    /// (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`, Linux 4.20; hashes 5.14).
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers, [`Errno::ENOENT`] when there is nothing.
    pub fn lookup_and_delete(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.check_key(key)?;
        self.check_value(value, flags)?;
        let result = self.kernel.backend().map_lookup_and_delete(self.as_map_ref(), key, value, flags.bits());
        result.map_err(failed("lookup and delete"))
    }

    /// Maps `len` bytes of the map's memory from `offset` on, both in whole pages.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EPERM`] when it is frozen and `writable` asked for.
    pub fn mmap(&self, offset: u64, len: usize, writable: bool) -> Result<SharedMemory, MapError> {
        let mut memory = MapMemory::new(offset, len);
        memory.writable = writable;
        self.mmap_at(memory)
    }

    /// As [`mmap`](MapFd::mmap), with a say in the address.
    ///
    /// # Errors
    /// As [`mmap`](MapFd::mmap), and [`Errno::EEXIST`] when something is mapped at the address.
    pub fn mmap_at(&self, memory: MapMemory) -> Result<SharedMemory, MapError> {
        self.kernel.backend().map_mmap(self.as_fd(), memory).map_err(failed("mmap"))
    }

    /// Maps the memory of a ring buffer or user ring buffer, for this process's end of it.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::EBUSY`] when it is held in this process already, [`Errno::EINVAL`] when the map
    /// is no ring.
    pub fn ring(&self) -> Result<RingMemory, MapError> {
        self.kernel.backend().map_ring(self.as_fd()).map_err(failed("mmap"))
    }

    /// Forbids user space to write from now on (`BPF_MAP_FREEZE`, Linux 5.2).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EPERM`] when it is frozen already.
    pub fn freeze(&self) -> Result<(), MapError> {
        self.kernel.backend().map_freeze(self.as_fd()).map_err(failed("freeze"))
    }

    /// What the kernel says of the map (`BPF_OBJ_GET_INFO_BY_FD`).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn info(&self) -> Result<MapInfo, MapError> {
        self.kernel.backend().map_info(self.as_fd()).map_err(failed("info"))
    }

    /// What the kernel says of the map's memory, and whether it is frozen (`/proc/self/fdinfo`).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::ENOENT`] without `/proc`.
    pub fn usage(&self) -> Result<MapUsage, MapError> {
        self.kernel.backend().map_usage(self.as_fd()).map_err(failed("usage"))
    }

    /// Pins the map at a path on a bpffs (`BPF_OBJ_PIN`).
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EEXIST`] when the path is taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), MapError> {
        let pin = Pin { fd: self.as_fd(), path: path.as_ref() };
        self.kernel.backend().pin(pin).map_err(failed("pin"))
    }

    /// A second handle of the same map.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<MapFd, MapError> {
        let fd = dup(&self.fd).map_err(failed("duplicate"))?;
        Ok(MapFd { fd, kernel: self.kernel.clone(), shape: self.shape, cpus: self.cpus })
    }

    fn check_key(&self, key: &[u8]) -> Result<(), MapError> {
        let (got, want) = (key.len(), self.key_len());
        if got == want { Ok(()) } else { Err(MapError::KeyLength { got, want }) }
    }

    fn check_value(&self, value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        let (got, want) = (value.len(), self.value_len_with(flags));
        if got == want { Ok(()) } else { Err(MapError::ValueLength { got, want }) }
    }
}

impl AsFd for MapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<MapFd> for OwnedFd {
    fn from(map: MapFd) -> OwnedFd {
        map.fd
    }
}

fn failed(operation: &'static str) -> impl FnOnce(Errno) -> MapError {
    move |errno| MapError::Kernel { operation, errno }
}

/// A second descriptor of the same object, never below 3.
pub(crate) fn dup(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fd.try_clone().map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno))
}

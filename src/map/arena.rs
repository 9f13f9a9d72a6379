use std::fmt;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapFlags};
use skep_sys::request::MapMemory;
use skep_sys::{SharedMemory, SharedMemoryError};

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::kinds::ARENA;
use super::plain::PlainData;

/// Memory that programs and this process share, and in which both follow the same pointers (`BPF_MAP_TYPE_ARENA`,
/// Linux 6.9). Made by [`Map::typed`].
///
/// It is mapped once in a process; that of a loaded object is by the load. A page takes memory when a program allocates it
/// or somebody touches it. Programs write at any time: what takes more than a machine word may be half written, unless both
/// sides have a protocol of atomics ([`SharedMemory::atomic_u64`]).
///
/// Programs keep pointers as the addresses that this process has ([`address`](Arena::address)); those here are offsets from
/// the beginning, which [`offset_of`](Arena::offset_of) makes of a pointer.
///
/// ```
/// use skep::map::{Arena, Map};
/// use skep::sys::abi::{MapFlags, MapType};
/// use skep::sys::request::MapCreate;
///
/// let mut request = MapCreate::new(MapType::ARENA, 0, 0, 4);
/// request.flags = MapFlags::MMAPABLE;
/// let arena: Arena = Map::create(&skep::sim::kernel(), &request)?.typed()?;
/// assert_eq!((arena.pages(), arena.memory().len()), (4, 4 * 4096));
///
/// // A pointer at the beginning, to a number in the second page.
/// arena.write(0, &arena.pointer_to(4096).expect("it is inside"))?;
/// arena.write(4096, &7u32)?;
/// let pointer: u64 = arena.read(0)?;
/// let place = arena.offset_of(pointer).expect("it is inside");
/// assert_eq!(arena.read::<u32>(place)?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_ARENA")]
#[derive(Clone)]
pub struct Arena {
    map: Map,
    memory: Arc<SharedMemory>,
}

impl TryFrom<Map> for Arena {
    type Error = MapError;

    /// Maps the arena into this process, where it is not yet.
    ///
    /// # Errors
    /// [`MapError::WrongType`]; [`MapError::Failed`], among others of kind
    /// [`Unsupported`](super::MapErrorKind::Unsupported) for an arena with
    /// [`MapFlags::SEGV_ON_FAULT`](skep_sys::abi::MapFlags::SEGV_ON_FAULT), where touching a page that no program has
    /// allocated would end the process.
    fn try_from(map: Map) -> Result<Arena, MapError> {
        ARENA.check_kind(&map)?;
        let failed = |error| map.failed(MapOperation::Mmap, error);
        let shape = map.shape();
        if shape.flags.contains(MapFlags::SEGV_ON_FAULT) {
            let errno = Errno::EOPNOTSUPP;
            return Err(failed(skep_sys::MapError::Kernel { operation: "mmap", errno }));
        }
        let memory = map.shared_memory(|| {
            let page = map.kernel().page_size() as usize;
            // Where this saturates (32-bit machines), no kernel maps that much.
            let mut memory = MapMemory::new(0, (shape.max_entries as usize).saturating_mul(page));
            memory.writable = true;
            let address = map.info()?.map_extra;
            memory.address = (address != 0).then_some(address);
            map.as_map_fd().mmap_at(memory).map_err(failed)
        })?;
        Ok(Arena { map, memory })
    }
}

impl From<Arena> for Map {
    fn from(view: Arena) -> Map {
        view.map
    }
}

impl Arena {
    /// The map, of which this is a view.
    pub fn as_map(&self) -> &Map {
        &self.map
    }

    /// All of the memory.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Number of pages that it may have.
    pub fn pages(&self) -> u32 {
        self.map.max_entries()
    }

    /// Where it begins in this process, which is where programs' pointers to it begin.
    pub fn address(&self) -> u64 {
        self.memory.address() as u64
    }

    /// What a program's pointer points to, as an offset from the beginning; none when that is outside.
    pub fn offset_of(&self, pointer: u64) -> Option<usize> {
        let offset = usize::try_from(pointer.checked_sub(self.address())?).ok()?;
        (offset < self.memory.len()).then_some(offset)
    }

    /// The pointer to what is at an offset, for programs to follow; none when that is outside.
    pub fn pointer_to(&self, offset: usize) -> Option<u64> {
        let inside = offset < self.memory.len();
        inside.then(|| self.address().checked_add(offset as u64)).flatten()
    }

    /// Reads what is at an offset.
    ///
    /// # Errors
    /// [`SharedMemoryError::OutOfRange`].
    pub fn read<T: PlainData>(&self, offset: usize) -> Result<T, SharedMemoryError> {
        let mut value = T::new_zeroed();
        self.memory.read(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes to an offset.
    ///
    /// # Errors
    /// [`SharedMemoryError::OutOfRange`].
    pub fn write<T: PlainData>(&self, offset: usize, value: &T) -> Result<(), SharedMemoryError> {
        self.memory.write(offset, value.as_bytes())
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(ARENA.view).field(&self.map).finish()
    }
}

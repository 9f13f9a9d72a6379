use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapFlags};
use skep_sys::{SharedMemory, SharedMemoryError};

use super::array::Array;
use super::atomic::Atomic;
use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::plain::PlainData;

/// The memory of an array in this process, from [`Array::mmap`]: what is read and written is what programs see, without a
/// call of the kernel.
///
/// It is cheap to clone; clones share one mapping, which keeps the map alive. While it can be written, the map cannot be frozen.
///
/// Integers are read and written in one access each ([`load`](MappedArray::load) and the rest). Values of other types are copied, by
/// at most eight bytes at once: one that others change meanwhile can be half old, half new.
///
/// ```
/// use skep::map::{Array, Map};
/// use skep::sys::abi::{MapFlags, MapType};
/// use skep::sys::request::MapCreate;
///
/// let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 4);
/// request.flags = MapFlags::MMAPABLE;
/// let totals: Array<u64> = Map::create(&skep::sim::kernel(), &request)?.typed()?;
/// let memory = totals.mmap()?;
/// memory.fetch_add(1, 5)?;
/// assert_eq!(totals.get(1)?, Some(5));
/// assert_eq!(memory.iter().collect::<Vec<_>>(), [0, 5, 0, 0]);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct MappedArray<V> {
    map: Map,
    memory: Arc<SharedMemory>,
    types: PhantomData<fn() -> V>,
}

impl<V: PlainData> Array<V> {
    /// Maps the array's memory into this process (Linux 5.5), to read and write, or only to read where the map is frozen or
    /// read-only for programs ([`MappedArray::is_writable`] tells).
    ///
    /// # Errors
    /// [`MapError::Unsupported`] for a map that was not made with [`MapFlags::MMAPABLE`]; [`MapError::Failed`], as for one that was
    /// opened for reading or writing only.
    pub fn mmap(&self) -> Result<MappedArray<V>, MapError> {
        self.mapped(shared_memory(self.as_map(), true)?)
    }

    /// As [`mmap`](Array::mmap), to read only: it does not keep the map from being frozen.
    ///
    /// # Errors
    /// As [`mmap`](Array::mmap).
    pub fn mmap_read_only(&self) -> Result<MappedArray<V>, MapError> {
        self.mapped(shared_memory(self.as_map(), false)?)
    }

    fn mapped(&self, memory: SharedMemory) -> Result<MappedArray<V>, MapError> {
        Ok(MappedArray { map: self.as_map().clone(), memory: Arc::new(memory), types: PhantomData })
    }
}

/// Maps all values of an array, writable if that is asked for and allowed.
pub(crate) fn shared_memory(map: &Map, writable: bool) -> Result<SharedMemory, MapError> {
    let shape = map.shape();
    if !shape.flags.contains(MapFlags::MMAPABLE) {
        let why = "it was not made for that (BPF_F_MMAPABLE, which arrays can have since Linux 5.5)";
        return Err(map.unsupported(MapOperation::Mmap, why));
    }
    let fd = map.as_map_fd();
    // Where this saturates (32-bit machines), the kernel has no such map.
    let values = stride(shape.value_size as usize).saturating_mul(shape.max_entries as usize);
    let page = map.kernel().page_size() as usize;
    let len = values.checked_next_multiple_of(page.max(1)).unwrap_or(usize::MAX);
    let answer = match fd.mmap(0, len, writable) {
        // Frozen, or read-only for programs.
        Err(error) if writable && matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES)) => {
            fd.mmap(0, len, false)
        }
        answer => answer,
    };
    answer.map_err(|error| map.failed(MapOperation::Mmap, error))
}

/// Bytes from one value to the next.
fn stride(size: usize) -> usize {
    size.checked_next_multiple_of(8).unwrap_or(usize::MAX)
}

impl<V> MappedArray<V> {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.memory.is_writable()
    }

    /// The map whose memory it is.
    pub fn as_map(&self) -> &Map {
        &self.map
    }

    /// Where an element is.
    fn place(&self, index: u32) -> Result<usize, SharedMemoryError> {
        let stride = stride(size_of::<V>());
        let at = stride.saturating_mul(index as usize);
        if index < self.len() {
            return Ok(at);
        }
        let size = stride.saturating_mul(self.len() as usize);
        Err(SharedMemoryError::OutOfRange { offset: at, len: size_of::<V>(), size })
    }

    fn failed(&self, source: SharedMemoryError) -> MapError {
        MapError::Memory { map: self.map.label(), source }
    }
}

impl<V: PlainData> MappedArray<V> {
    /// A copy of the value at `index`; none outside of the array.
    pub fn get(&self, index: u32) -> Option<V> {
        let mut value = V::new_zeroed();
        self.memory.read(self.place(index).ok()?, value.as_mut_bytes()).ok()?;
        Some(value)
    }

    /// Writes the value at `index`.
    ///
    /// # Errors
    /// [`MapError::Memory`], of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it can only be read.
    pub fn set(&self, index: u32, value: &V) -> Result<(), MapError> {
        let place = self.place(index).map_err(|error| self.failed(error))?;
        self.memory.write(place, value.as_bytes()).map_err(|error| self.failed(error))
    }

    /// Copies of all values in the order of their indexes.
    pub fn iter(&self) -> impl FusedIterator<Item = V> {
        (0..self.len()).map_while(|index| self.get(index)).fuse()
    }
}

impl<V: Atomic> MappedArray<V> {
    /// Reads the number in one access.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn load(&self, index: u32) -> Result<V, MapError> {
        self.access(|memory, at| V::load(memory, at), index)
    }

    /// Writes the number in one access.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn store(&self, index: u32, value: V) -> Result<(), MapError> {
        self.access(|memory, at| value.store(memory, at), index)
    }

    /// Writes the number and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn swap(&self, index: u32, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.swap(memory, at), index)
    }

    /// Adds to the number, which wraps around, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn fetch_add(&self, index: u32, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_add(memory, at), index)
    }

    /// Clears the bits of the number that `value` does not have, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn fetch_and(&self, index: u32, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_and(memory, at), index)
    }

    /// Sets the bits of the number that `value` has, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn fetch_or(&self, index: u32, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_or(memory, at), index)
    }

    /// Writes `new` if `now` is there, in one step. Answers what was there, as an error if it was something else.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`NotFound`](super::MapErrorKind::NotFound) outside of the array, and
    /// [`Denied`](super::MapErrorKind::Denied) where it would have to be written and can only be read.
    pub fn compare_exchange(&self, index: u32, now: V, new: V) -> Result<Result<V, V>, MapError> {
        self.access(|memory, at| now.compare_exchange(new, memory, at), index)
    }

    fn access<T>(
        &self,
        work: impl FnOnce(&SharedMemory, usize) -> Result<T, SharedMemoryError>,
        index: u32,
    ) -> Result<T, MapError> {
        self.place(index).and_then(|at| work(&self.memory, at)).map_err(|error| self.failed(error))
    }
}

impl<V> Clone for MappedArray<V> {
    fn clone(&self) -> Self {
        MappedArray { map: self.map.clone(), memory: self.memory.clone(), types: PhantomData }
    }
}

impl<V> fmt::Debug for MappedArray<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedArray")
            .field("map", &self.map.name())
            .field("writable", &self.is_writable())
            .finish_non_exhaustive()
    }
}

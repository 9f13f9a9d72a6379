use skep_sys::PerfEventFd;
use skep_sys::abi::UpdateFlags;

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::kinds::PERF_EVENT_ARRAY;

/// An array of perf events (`BPF_MAP_TYPE_PERF_EVENT_ARRAY`, Linux 4.3): counters that programs read, or rings that
/// they write to. Made by [`Map::typed`].
///
/// User space puts events in and takes them out; what is in cannot be asked. Events go when the descriptor that they
/// were put in through is closed, unless the map was made with
/// [`PRESERVE_ELEMS`](skep_sys::abi::MapFlags::PRESERVE_ELEMS).
///
/// [`PerfBuffer`](crate::perf::PerfBuffer) reads what programs write, and
/// [`PerfCounters`](crate::perf::PerfCounters) has a counter for each CPU.
///
/// ```
/// use skep::map::{Map, PerfEventArray};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::{MapCreate, PerfEventOpen};
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
/// let array: PerfEventArray = map.typed()?;
/// let event = kernel.perf_event_open(&PerfEventOpen::bpf_output(1))?;
/// array.set(1, &event)?;
/// assert!(array.remove(1)?);
/// assert!(!array.remove(1)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_PERF_EVENT_ARRAY")]
#[derive(Clone, Debug)]
pub struct PerfEventArray {
    map: Map,
}

impl PerfEventArray {
    /// Number of places for events; the kernel's convention is one per CPU, at the CPU's number.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no places, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The map, of which this is a view.
    pub fn as_map(&self) -> &Map {
        &self.map
    }

    /// Puts an event in at `index`, in the place of one that is there.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array,
    /// [`Unsupported`](super::MapErrorKind::Unsupported) for an event that children inherit.
    pub fn set(&self, index: u32, event: &PerfEventFd) -> Result<(), MapError> {
        let fd = self.map.as_map_fd();
        let result = fd.update_perf_event(&index.to_ne_bytes(), event, UpdateFlags::empty());
        result.map_err(|error| self.failed(MapOperation::Update, error))
    }

    /// Takes out what is at `index`. Answers whether there was an event.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(&index.to_ne_bytes())
    }

    /// Takes out `event`, unless another one was put at `index` meanwhile by this process. Answers whether it was there.
    ///
    /// # Errors
    /// As [`remove`](PerfEventArray::remove).
    pub fn remove_event(&self, index: u32, event: &PerfEventFd) -> Result<bool, MapError> {
        let result = self.map.as_map_fd().delete_perf_event(&index.to_ne_bytes(), event);
        result.map_err(|error| self.failed(MapOperation::Delete, error))
    }

    fn failed(&self, operation: MapOperation, error: skep_sys::MapError) -> MapError {
        MapError::failed(&self.map.label(), self.map.map_type(), operation, error)
    }
}

impl TryFrom<Map> for PerfEventArray {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        // Every kernel demands 4 bytes for both of them.
        PERF_EVENT_ARRAY.check_kind(&map)?;
        Ok(PerfEventArray { map })
    }
}

impl From<PerfEventArray> for Map {
    fn from(view: PerfEventArray) -> Map {
        view.map
    }
}

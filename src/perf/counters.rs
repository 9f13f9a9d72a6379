use skep_sys::abi::{Errno, PerfEventKind, PerfReadFormat};
use skep_sys::request::{PerfEventOpen, PerfTarget};
use skep_sys::{PerfCount, PerfEventFd};

use super::error::PerfError;
use crate::map::{Map, PerfEventArray};

/// A counter for each CPU in a map of type `BPF_MAP_TYPE_PERF_EVENT_ARRAY` (Linux 4.3): programs read the one of their CPU
/// with `bpf_perf_event_read_value`, user space reads any.
///
/// ```
/// use skep::map::Map;
/// use skep::perf::PerfCounters;
/// use skep::sys::abi::{MapType, PerfEventKind};
/// use skep::sys::request::MapCreate;
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
/// let clocks = PerfCounters::new(&map, PerfEventKind::CPU_CLOCK)?;
/// let before = clocks.read(1)?.value;
/// assert!(clocks.read(1)?.value > before);
/// for (cpu, count) in clocks.iter() {
///     println!("CPU {cpu}: {} ns", count?.value);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PerfCounters {
    map: PerfEventArray,
    /// By ascending CPU.
    counters: Vec<(u32, PerfEventFd)>,
}

impl PerfCounters {
    /// Opens a counter of all processes on each CPU that is online and below the map's number of elements, and puts it
    /// into the map. They count from now on.
    ///
    /// # Errors
    /// [`PerfError::Map`] when the map is of another kind, [`PerfError::Cpus`], [`PerfError::Open`] without the right or
    /// when the machine does not count this: virtual machines often have only
    /// [`SOFTWARE`](skep_sys::abi::PerfEventType::SOFTWARE) ones.
    pub fn new(map: &Map, kind: PerfEventKind) -> Result<PerfCounters, PerfError> {
        let map: PerfEventArray = map.typed()?;
        let kernel = map.as_map().kernel();
        let mut counters = Vec::new();
        for cpu in kernel.online_cpus().map_err(PerfError::Cpus)? {
            if cpu >= map.len() {
                continue;
            }
            let mut request = PerfEventOpen::new(kind, PerfTarget::Cpu(cpu));
            request.read_format = PerfReadFormat::TOTAL_TIME_ENABLED | PerfReadFormat::TOTAL_TIME_RUNNING;
            match kernel.perf_event_open(&request) {
                Ok(event) => counters.push((cpu, event)),
                // It went offline meanwhile.
                Err(Errno::ENODEV) => {}
                Err(errno) => return Err(PerfError::open(cpu, errno)),
            }
        }
        let counters = PerfCounters { map, counters };
        for (cpu, event) in &counters.counters {
            counters.map.set(*cpu, event)?;
        }
        Ok(counters)
    }

    /// The map.
    pub fn map(&self) -> &Map {
        self.map.as_map()
    }

    /// What was counted on a CPU.
    ///
    /// # Errors
    /// [`PerfError::NoCounter`], [`PerfError::Control`].
    pub fn read(&self, cpu: u32) -> Result<PerfCount, PerfError> {
        read(cpu, self.counter(cpu)?)
    }

    /// What was counted on each CPU.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Result<PerfCount, PerfError>)> {
        self.counters.iter().map(|(cpu, event)| (*cpu, read(*cpu, event)))
    }

    /// The counter of a CPU, to enable, disable or reset it.
    ///
    /// # Errors
    /// [`PerfError::NoCounter`].
    pub fn counter(&self, cpu: u32) -> Result<&PerfEventFd, PerfError> {
        let found = self.counters.iter().find(|(number, _)| *number == cpu);
        found.map(|(_, event)| event).ok_or(PerfError::NoCounter { cpu })
    }
}

fn read(cpu: u32, event: &PerfEventFd) -> Result<PerfCount, PerfError> {
    event.read().map_err(|errno| PerfError::Control { operation: "read", cpu, errno })
}

impl Drop for PerfCounters {
    fn drop(&mut self) {
        // A map that others hold would keep the events.
        for (cpu, event) in &self.counters {
            let _ = self.map.remove_event(*cpu, event);
        }
    }
}

//! What is around the programs of a simulated kernel: time, chance, and what they write where people read.
//!
//! Nothing here moves on its own: the clock goes when a test says so, and random numbers follow from the seed. So a test
//! gives the same result each time.

mod faults;
mod files;
mod keys;
mod objects;
mod random;
mod rstat;
mod task_objects;
mod tasks;
mod timers;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::event::Named;
use crate::image::MemoryImage;
use crate::kernel::SimKernel;
use crate::map::Map;
use crate::net::{Net, Structures};
use crate::vm::Fault;

use faults::Faults;
use files::Files;
use keys::Keys;
use objects::Objects;
pub(crate) use random::Random;
use rstat::Rstat;
pub use tasks::Task;
pub(crate) use tasks::Tasks;
use timers::Timers;
pub(crate) use timers::{Callback, Timer};
pub use trace::TraceLine;
use trace::{Streams, Trace};

/// The part of a kernel that is neither an object nor a descriptor.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Nanoseconds since boot.
    pub(crate) clock: u64,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) net: Net,
    /// The kernel's own structures of what is in the network.
    pub(crate) structures: Structures,
    pub(crate) trace: Trace,
    pub(crate) streams: Streams,
    pub(crate) timers: Timers,
    /// What programs allocated.
    pub(crate) objects: Objects,
    pub(crate) tasks: Tasks,
    /// What tests described of the memory of the kernel and of processes.
    pub(crate) memory: MemoryImage,
    /// What tests say of files.
    pub(crate) files: Files,
    pub(crate) keys: Keys,
    pub(crate) rstat: Rstat,
    /// Settings below `/proc/sys`, each with a newline behind it.
    pub(crate) sysctls: BTreeMap<String, Vec<u8>>,
    /// Tables of programs that are registered without a link, which the kernel keeps.
    pub(crate) tables: Vec<Arc<Map>>,
    /// Places of events that programs were attached to, and those that were found in the types.
    pub(crate) places: BTreeSet<Named>,
}

/// Nanoseconds from one tick of the kernel to the next (`CONFIG_HZ=1000`).
pub(crate) const TICK: u64 = 1_000_000;
/// Ticks when the kernel starts: five minutes before the lower half wraps around (`INITIAL_JIFFIES`).
const JIFFIES_AT_START: u64 = (300_000u32).wrapping_neg() as u64;

/// The kernel's counter of ticks at a time.
pub(crate) fn jiffies(now: u64) -> u64 {
    JIFFIES_AT_START + now / TICK // far from the end of 64 bits
}

/// The time of day when a kernel starts: nanoseconds since 1970 until noon of 1 January 2030.
pub(crate) const WALL_CLOCK: u64 = 1_893_499_200 * 1_000_000_000;

/// When a kernel's clock begins, so that no time is 0.
const START: u64 = 1_000_000_000;

impl World {
    pub(crate) fn new(config: &Builder) -> World {
        World {
            clock: START,
            random: Random::new(config.seed),
            faults: Faults::default(),
            tasks: Tasks::default(),
            memory: MemoryImage::default(),
            files: Files::default(),
            keys: Keys::default(),
            rstat: Rstat::default(),
            net: Net::new(&config.interfaces),
            structures: Structures::default(),
            trace: Trace::default(),
            streams: Streams::default(),
            timers: Timers::default(),
            objects: Objects::default(),
            sysctls: BTreeMap::from([
                ("kernel/ostype".to_owned(), b"Linux\n".to_vec()),
                ("kernel/osrelease".to_owned(), format!("{}\n", config.release).into_bytes()),
            ]),
            tables: Vec::new(),
            places: BTreeSet::new(),
        }
    }
}

impl SimKernel {
    /// Lets time pass: what programs read with `bpf_ktime_get_ns` and its like. It does not pass by itself.
    ///
    /// The callbacks of timers that are due meanwhile run, in order and each at its time, and before them those of work
    /// queues that were started: these need no time to pass. At most 65536 callbacks run in a call; the rest wait for the next
    /// one.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// let before = sim.time();
    /// sim.advance(Duration::from_millis(5));
    /// assert_eq!(sim.time() - before, Duration::from_millis(5));
    /// ```
    pub fn advance(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until = self.0.now().saturating_add(nanoseconds);
        self.run_timers(until);
        let mut world = self.0.world();
        world.clock = world.clock.max(until);
    }

    /// Time since boot, as `bpf_ktime_get_ns` tells it. It begins at one second.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.0.world().clock)
    }

    /// The last programs that were stopped by a fault, oldest first: 64 at most.
    pub fn faults(&self) -> Vec<Fault> {
        self.0.world().faults.all()
    }

    /// The last program that was stopped by a fault.
    pub fn last_fault(&self) -> Option<Fault> {
        self.0.world().faults.last()
    }
}

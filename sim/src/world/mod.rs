//! What is around the programs of a simulated kernel: time, chance, and what they write where people read.
//!
//! Nothing here moves on its own: the clock goes when a test says so, and random numbers follow from the seed. So a test
//! gives the same result each time.

mod faults;
mod random;

use std::time::Duration;

use crate::builder::Builder;
use crate::kernel::SimKernel;
use crate::net::Net;
use crate::vm::Fault;

use faults::Faults;
use random::Random;

/// The part of a kernel that is neither an object nor a descriptor.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Nanoseconds since boot.
    pub(crate) clock: u64,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) net: Net,
}

/// When a kernel's clock begins, so that no time is 0.
const START: u64 = 1_000_000_000;

impl World {
    pub(crate) fn new(config: &Builder) -> World {
        World {
            clock: START,
            random: Random::new(config.seed),
            faults: Faults::default(),
            net: Net::new(&config.interfaces),
        }
    }
}

impl SimKernel {
    /// Lets time pass: what programs read with `bpf_ktime_get_ns` and its like. It does not pass by itself.
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
        let mut world = self.0.world();
        world.clock = world.clock.saturating_add(nanoseconds);
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

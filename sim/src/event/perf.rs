//! Samples of perf events.

use std::sync::Arc;

use super::Event;
use super::attach::PointKind;
use super::call::points;
use super::outcome::{EventError, Runs};
use super::registers::Registers;
use super::scene::{Scene, run_link, scene};
use super::site::Site;
use crate::kernel::SimKernel;
use crate::perf::PerfEvent;
use crate::vm::{Vm, What};

/// A sample of a perf event: the programs that are attached to perf events run, as a profiler's do many times a second.
///
/// ```
/// # let sim = skep_sim::SimKernel::new();
/// use skep_sim::PerfSample;
///
/// let sample = PerfSample::new(0xffff_ffff_8100_0000).kernel_stack([0xffff_ffff_8100_0000, 0xffff_ffff_8100_2000]);
/// assert!(sim.fire(sample)?.is_empty()); // nothing is attached
/// # Ok::<(), skep_sim::EventError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PerfSample {
    regs: Registers,
    period: u64,
    address: u64,
    counter: [u64; 3],
    scene: Scene,
}

scene!(PerfSample);

impl PerfSample {
    /// A sample at an instruction.
    pub fn new(ip: u64) -> PerfSample {
        PerfSample {
            regs: Registers::new().with("rip", ip),
            period: 1,
            address: 0,
            counter: [0; 3],
            scene: Scene::default(),
        }
    }

    /// What the registers hold.
    pub fn registers(mut self, regs: Registers) -> PerfSample {
        self.regs = regs;
        self
    }

    /// After how many events the sample was taken (`sample_period`).
    pub fn period(mut self, period: u64) -> PerfSample {
        self.period = period;
        self
    }

    /// The address that it is about, as of a memory access (`addr`).
    pub fn address(mut self, address: u64) -> PerfSample {
        self.address = address;
        self
    }

    /// What `bpf_perf_prog_read_value` answers: the counter, and for how many nanoseconds it was enabled and ran.
    pub fn counter(mut self, counter: u64, enabled: u64, running: u64) -> PerfSample {
        self.counter = [counter, enabled, running];
        self
    }
}

impl Event for PerfSample {
    type Outcome = Runs;

    fn happen(self, kernel: &SimKernel) -> Result<Runs, EventError> {
        self.scene.check(kernel)?;
        let cpu = self.scene.cpu;
        let here = |event: &Arc<PerfEvent>| event.cpu().is_none_or(|own| own == cpu) && event.counts();
        let found = points(kernel, |kind| match kind {
            PointKind::Perf(event) => event.as_ref().is_none_or(here).then_some(()),
            _ => None,
        });
        let mut runs = Vec::new();
        for (link, (cookie, ())) in found {
            let ip = self.regs.ip();
            let mut site = Site { cookie, counter: Some(self.counter), ..self.scene.site(kernel, Some(ip)) };
            if site.user_stack.is_empty() && ip < crate::image::TASK_SIZE {
                site.user_stack = [ip].into();
                site.kernel_stack = Arc::from([]);
            }
            let mut bytes = self.regs.bytes();
            bytes.extend(self.period.to_ne_bytes());
            bytes.extend(self.address.to_ne_bytes());
            let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
            runs.push(run_link(kernel, &link, cpu, site, context).0);
        }
        Ok(Runs(runs))
    }
}

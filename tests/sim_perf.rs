//! Perf buffers and counters on a simulated kernel.

#![allow(missing_docs)]

mod perf_conformance;

use std::os::fd::AsFd;

use perf_conformance::{Producer, World};
use skep::map::Map;
use skep::sim::SimKernel;
use skep::sys::Kernel;
use skep::sys::abi::Errno;

struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
}

struct Writer {
    sim: SimKernel,
    map: Map,
}

impl World for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn producer(&self, map: &Map) -> Box<dyn Producer> {
        Box::new(Writer { sim: self.sim.clone(), map: map.clone() })
    }

    fn set_online(&self, cpu: u32, online: bool) -> Result<(), String> {
        self.sim.set_online(cpu, online);
        Ok(())
    }
}

impl Producer for Writer {
    fn write_to(&self, index: Option<u32>, cpu: u32, data: &[u8]) -> Result<(), Errno> {
        self.sim.perf_event_output(self.map.as_fd(), index, cpu, data)
    }
}

fn world(_: &str) -> Option<Simulated> {
    let sim = SimKernel::builder().cpus(3).build().ok()?;
    Some(Simulated { kernel: Kernel::new(sim.clone()), sim })
}

perf_conformance::tests! { world: per_cpu sizes wrap_around panics lost one_by_one raw a_source_of_events ordered what_programs_get wakeup_events watermark timeouts in_an_event_loop asked awaited among_threads a_thread_per_cpu overwritable overwritable_sizes pause two_buffers chosen_cpus refused counters }

#[test]
fn cpus_come_and_go() {
    if let Some(world) = world("cpus_come_and_go") {
        perf_conformance::cpus_come_and_go(&world);
    }
}

//! Perf buffers and counters on a simulated kernel.

#![allow(missing_docs)]

mod perf_conformance;
mod support;

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

fn run(name: &str, body: perf_conformance::Body) {
    if let Some(world) = world(name) {
        body(&world);
    }
}

perf_conformance::tests! { run }

#[test]
fn cpus_come_and_go() {
    if let Some(world) = world("cpus_come_and_go") {
        perf_conformance::cpus_come_and_go(&world);
    }
}

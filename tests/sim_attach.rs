//! Programs that are attached without links, on a simulated kernel.

#![allow(missing_docs)]

mod attach_conformance;
mod support;

use attach_conformance::World;
use skep::sim::SimKernel;
use skep::sys::Kernel;

fn run(_: &str, body: attach_conformance::Body) {
    let sim = SimKernel::new();
    let group = |path: &str| {
        sim.add_cgroup(path).unwrap();
        sim.open_cgroup(path).unwrap()
    };
    let netns = || sim.open_netns().unwrap();
    body(&World { kernel: &Kernel::new(sim.clone()), group: &group, netns: &netns });
}

attach_conformance::tests! { run }

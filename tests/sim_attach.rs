//! Programs that are attached without links, on a simulated kernel.

#![allow(missing_docs)]

mod attach_conformance;

use attach_conformance::World;
use skep::sim::SimKernel;
use skep::sys::Kernel;

fn run(name: &str) {
    let sim = SimKernel::new();
    let group = |path: &str| {
        sim.add_cgroup(path).unwrap();
        sim.open_cgroup(path).unwrap()
    };
    let netns = || sim.open_netns().unwrap();
    attach_conformance::run(name, &World { kernel: &Kernel::new(sim.clone()), group: &group, netns: &netns });
}

attach_conformance::tests! {
    run:
    modes several replacing hierarchies going_first anchors beside_links other_kinds socket_maps flow_dissectors devices
}

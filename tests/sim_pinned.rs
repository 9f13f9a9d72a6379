//! Pinned sets on simulated kernels.

#![allow(missing_docs)]

mod pinned_conformance;
mod support;

use pinned_conformance::{World, deaths};
use skep::Kernel;
use skep::sim::SimKernel;

fn world() -> World {
    let sim = SimKernel::builder().interface("d0", 5).interface("d1", 6).build().expect("it has no BTF");
    let kernel = Kernel::new(sim);
    World {
        backend: kernel.backend_arc(),
        kernel,
        dir: "/sys/fs/bpf/set".into(),
        devices: ["d0", "d1", "lo"].map(str::to_owned).to_vec(),
    }
}

#[test]
fn versions_follow_each_other() {
    pinned_conformance::versions_follow_each_other(&world());
}

#[test]
fn what_is_not_committed_goes_back() {
    pinned_conformance::what_is_not_committed_goes_back(&world());
}

#[test]
fn other_things_are_left_alone() {
    pinned_conformance::other_things_are_left_alone(&world());
}

#[test]
fn variables_go_on_where_it_is_said() {
    pinned_conformance::variables_go_on_where_it_is_said(&world());
}

#[test]
fn links_are_replaced_when_they_are_switched() {
    pinned_conformance::links_are_replaced_when_they_are_switched(&world());
}

#[test]
fn death_at_each_call() {
    deaths::at_each_call(&world());
}

#[test]
fn death_at_each_call_once() {
    deaths::at_each_call_once(&world());
}

#[test]
fn each_call_refused() {
    deaths::each_call_refused(&world());
}

#[test]
fn death_while_links_are_replaced() {
    deaths::of_links_that_are_replaced(&world());
}

//! CPUs that go offline and come back under perf buffers. Needs root, and `SKEP_TEST_HOTPLUG=1`: it disturbs everything
//! else that runs. It is a program of its own, so that it disturbs no other test.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

#[allow(dead_code, unused_imports, unused_macros)]
mod perf_conformance;
mod support;

use perf_conformance::running::world;

#[test]
fn cpus_come_and_go() {
    if let Some(world) = world("cpus_come_and_go") {
        perf_conformance::cpus_come_and_go(&world);
    }
}

//! Perf buffers and counters on the running kernel. Needs root, or the capabilities for BPF and perf events.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod perf_conformance;
mod support;

use perf_conformance::running::world;

fn run(name: &str, body: perf_conformance::Body) {
    if let Some(world) = world(name) {
        body(&world);
    }
}

perf_conformance::tests! { run }

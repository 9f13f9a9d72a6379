//! Programs of objects run on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod run_conformance;
mod support;

fn run(name: &str, body: run_conformance::Body) {
    if let Some(kernel) = support::linux(name) {
        body(&kernel);
    }
}

run_conformance::tests! { run }

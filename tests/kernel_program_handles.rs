//! Programs on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod program_conformance;
mod support;

fn run(name: &str, body: program_conformance::Body) {
    if let Some(kernel) = support::linux_with_bpffs(name) {
        body(&kernel);
    }
}

program_conformance::tests! { run }

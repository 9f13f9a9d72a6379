//! Looking up and writing elements allocates nothing on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod allocation_conformance;
mod support;

use support::linux;

#[test]
fn elements() {
    if let Some(kernel) = linux("elements") {
        allocation_conformance::elements(&kernel);
    }
}

#[test]
fn batches() {
    if let Some(kernel) = linux("batches") {
        allocation_conformance::batches(&kernel);
    }
}

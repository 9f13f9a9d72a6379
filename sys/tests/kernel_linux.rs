//! The Linux backend on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "kernel_linux/maps.rs"]
mod maps;
#[path = "kernel_linux/objects.rs"]
mod objects;
#[path = "../../tests/support/pins.rs"]
mod pins;
#[path = "kernel_linux/probes.rs"]
mod probes;
#[path = "kernel_linux/support.rs"]
mod support;

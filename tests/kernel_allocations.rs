//! Looking up and writing elements allocates nothing on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod allocation_conformance;

use skep::Kernel;
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;

fn kernel(name: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => Some(kernel),
        Err(Errno::EPERM) => {
            let reason = "no right to create maps";
            let required = std::env::var_os("SKEP_REQUIRE_KERNEL").is_some_and(|v| v == "1");
            assert!(!required, "skip: {name}: {reason}");
            println!("skip: {name}: {reason}");
            None
        }
        Err(errno) => panic!("cannot create a map: {errno}"),
    }
}

#[test]
fn elements() {
    if let Some(kernel) = kernel("elements") {
        allocation_conformance::elements(&kernel);
    }
}

#[test]
fn batches() {
    if let Some(kernel) = kernel("batches") {
        allocation_conformance::batches(&kernel);
    }
}

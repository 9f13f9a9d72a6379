//! Loads on the running kernel.

#![allow(clippy::print_stdout)] // a skipped test says so

mod load_conformance;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use skep::Kernel;
use skep::sys::abi::MapType;
use skep::sys::{Backend, Feature, LinuxBackend, Probe};

/// Descriptors are counted per process, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The running kernel, or why not.
fn linux(test: &str) -> Option<Arc<dyn Backend>> {
    let kernel = Kernel::linux();
    let tried =
        kernel.map_create(&skep::sys::request::MapCreate::new(skep::sys::abi::MapType::ARRAY, 4, 4, 1));
    match tried {
        Ok(_) => Some(Arc::new(LinuxBackend::new())),
        Err(errno) => {
            skip(test, &format!("this process may not create a map: {errno}"));
            None
        }
    }
}

fn skip(test: &str, reason: &str) {
    println!("skip: {test}: {reason}");
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "{test} was skipped: {reason}");
}

fn pin_root(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(format!("skep_{name}_{}", std::process::id()))
}

#[test]
fn a_failed_load_leaves_nothing() {
    let _one = ONE.lock();
    let Some(backend) = linux("a_failed_load_leaves_nothing") else { return };
    let objects = ["xdp_count.o", "pinned.o", "tp_btf_sock.o", "subprogs.o"];
    load_conformance::a_failed_load_leaves_nothing(&backend, || {}, &pin_root("faults"), &objects);
}

#[test]
fn pinned_maps_are_reused() {
    let _one = ONE.lock();
    let Some(backend) = linux("pinned_maps_are_reused") else { return };
    load_conformance::pinned_maps_are_reused(&backend, &pin_root("reuse"));
}

#[test]
fn globals_are_typed_places() {
    let _one = ONE.lock();
    let Some(backend) = linux("globals_are_typed_places") else { return };
    load_conformance::globals_are_typed_places(&Kernel::from_arc(backend));
}

#[test]
fn parts_are_found_by_name() {
    let _one = ONE.lock();
    let Some(backend) = linux("parts_are_found_by_name") else { return };
    load_conformance::parts_are_found_by_name(&Kernel::from_arc(backend));
}

#[test]
fn maps_can_be_left_out() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_can_be_left_out") else { return };
    load_conformance::maps_can_be_left_out(&Kernel::from_arc(backend));
}

#[test]
fn arena_variables_are_typed_places() {
    let name = "arena_variables_are_typed_places";
    let _one = ONE.lock();
    let Some(backend) = linux(name) else { return };
    let kernel = Kernel::from_arc(backend);
    match kernel.has(Feature::MapType(MapType::ARENA)) {
        Probe::Supported => load_conformance::arena_variables_are_typed_places(&kernel, true),
        other => println!("skip: {name}: arenas (Linux 6.9): {other:?}"),
    }
}

#[test]
fn long_programs_load() {
    let _one = ONE.lock();
    let Some(backend) = linux("long_programs_load") else { return };
    load_conformance::long_programs_load(&Kernel::from_arc(backend), true);
}

//! Programs on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod program_conformance;

use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;

fn skip(name: &str, reason: &str) -> Option<Kernel> {
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "skip: {name}: {reason}");
    println!("skip: {name}: {reason}");
    None
}

fn kernel(name: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => {}
        Err(Errno::EPERM) => return skip(name, "no right to create maps"),
        Err(errno) => panic!("cannot create a map: {errno}"),
    }
    if kernel.backend().is_bpffs("/sys/fs/bpf".as_ref()) != Ok(true) {
        return skip(name, "no bpffs at /sys/fs/bpf");
    }
    Some(kernel)
}

program_conformance::tests! { kernel: built_with_maps built_with_records verifier_errors what_does_not_fit_together what_the_kernel_lacks built_for_a_tracepoint handles pins opening_errors bound_maps information statistics streams dumps_with_source dumps_with_names machine_code queries_of_programs queries_of_the_rest queries_of_pins queries_while_objects_go indirect_jumps }

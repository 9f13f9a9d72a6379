//! Maps behind their traits on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod trait_conformance;

use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;
use trait_conformance::KernelMaps;

fn maps(name: &str) -> Option<KernelMaps> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => Some(KernelMaps(kernel)),
        Err(Errno::EPERM) => {
            let reason = "no right to create maps";
            assert!(
                std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
                "skip: {name}: {reason}"
            );
            println!("skip: {name}: {reason}");
            None
        }
        Err(errno) => panic!("cannot create a map: {errno}"),
    }
}

trait_conformance::tests! { maps }
trait_conformance::tests! { objects of maps }

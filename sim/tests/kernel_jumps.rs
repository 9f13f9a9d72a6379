//! Indirect jumps on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "jumps/mod.rs"]
mod bodies;

use skep_sys::Kernel;
use skep_sys::abi::MapType;
use skep_sys::request::MapCreate;

#[test]
fn indirect_jumps() {
    let kernel = Kernel::linux();
    if let Err(errno) = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        let denied = std::env::var_os("SKEP_REQUIRE_KERNEL").is_some_and(|v| v == "1");
        assert!(!denied, "skip: jumps: {errno}");
        return println!("skip: jumps: {errno}");
    }
    if let Err(reason) = bodies::check(&kernel) {
        println!("skip: jumps: {reason}");
    }
}

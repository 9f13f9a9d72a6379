//! Every instruction with operands at the edges, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod fuzzed;
mod instructions;

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

fn skip(reason: &str) {
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "skip: instructions: {reason}");
    println!("skip: instructions: {reason}");
}

#[test]
fn edges() {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Err(Errno::EPERM) => return skip("no right to create maps"),
        other => drop(other.unwrap()),
    }
    let (count, lacking) = instructions::check(&kernel);
    println!("{count} cases hold");
    for name in lacking {
        println!("skip: instructions: {name}: this kernel has no such instruction");
    }
}

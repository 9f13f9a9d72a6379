//! What helpers of tracing answer, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod tracing;

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

fn skip(reason: &str) {
    assert!(
        std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"),
        "skip: tracing helpers: {reason}"
    );
    println!("skip: tracing helpers: {reason}");
}

#[test]
fn answers() {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        Err(Errno::EPERM) => return skip("no right to create maps"),
        other => drop(other.unwrap()),
    }
    let (differs, lacking) = tracing::check(&kernel).unwrap();
    assert!(differs.is_empty(), "{}", differs.concat());
    for name in lacking {
        println!("skip: {name}: this kernel does not load such a program");
    }
}

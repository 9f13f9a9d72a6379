//! What helpers of tracing answer, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "../../tests/support/kernel.rs"]
mod support;
mod tracing;

#[test]
fn answers() {
    let Some(kernel) = support::linux("tracing helpers") else { return };
    let (differs, lacking) = tracing::check(&kernel).unwrap();
    assert!(differs.is_empty(), "{}", differs.concat());
    for name in lacking {
        println!("skip: {name}: this kernel does not load such a program");
    }
}

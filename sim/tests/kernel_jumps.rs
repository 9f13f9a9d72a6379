//! Indirect jumps on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

#[path = "jumps/mod.rs"]
mod bodies;
#[path = "../../tests/support/kernel.rs"]
mod support;

#[test]
fn indirect_jumps() {
    let Some(kernel) = support::linux("jumps") else { return };
    if let Err(reason) = bodies::check(&kernel) {
        support::skip("jumps", reason);
    }
}

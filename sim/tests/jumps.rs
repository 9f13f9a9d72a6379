//! Indirect jumps on the simulated kernel.

#![allow(missing_docs)]

#[path = "jumps/mod.rs"]
mod bodies;

use skep_sim::{Features, SimKernel};
use skep_sys::Kernel;

#[test]
fn indirect_jumps() {
    let sim = SimKernel::builder().features(Features::default() | Features::INSN_ARRAY).build().unwrap();
    bodies::check(&Kernel::new(sim)).unwrap();
    assert!(bodies::check(&Kernel::new(SimKernel::new())).is_err());
}

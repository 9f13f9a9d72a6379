//! Every instruction with operands at the edges, on the simulated kernel.

#![allow(missing_docs)]

mod fuzzed;
mod instructions;

use skep_sim::SimKernel;
use skep_sys::Kernel;

#[test]
fn edges() {
    let (count, lacking) = instructions::check(&Kernel::new(SimKernel::new()));
    assert!(count > 1000, "{count}");
    assert_eq!(lacking, [""; 0]);
}

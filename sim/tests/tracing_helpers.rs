//! What helpers of tracing answer, on the simulated kernel.

#![allow(missing_docs)]

mod tracing;

use skep_sim::{SimKernel, Task};
use skep_sys::Kernel;

#[test]
fn answers() {
    let sim = SimKernel::new();
    sim.add_task(Task::new(1000).kernel_stack([0xffff_ffff_8100_0000]));
    let (differs, lacking) = tracing::check(&Kernel::new(sim.clone())).unwrap();
    assert!(differs.is_empty(), "{}", differs.concat());
    assert_eq!(lacking, [""; 0]);
    assert_eq!(sim.last_fault(), None);
}

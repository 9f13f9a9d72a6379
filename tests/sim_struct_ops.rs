//! Tables of programs on the simulated kernel.

mod struct_ops_conformance;

use skep::Kernel;
use skep::sim::SimKernel;

#[test]
fn a_congestion_control_is_registered_and_taken_out() {
    let sim =
        SimKernel::builder().btf(include_bytes!("../testdata/btf/6.18.btf").as_slice()).build().unwrap();
    assert!(struct_ops_conformance::registers(&Kernel::new(sim.clone()), "one"));
    assert_eq!(sim.live(), Default::default(), "nothing is left");
}

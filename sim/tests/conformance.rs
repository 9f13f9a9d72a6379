//! The simulated kernel does what was recorded on Linux 6.18.

mod bodies;

use std::path::Path;

use skep_sim::SimKernel;
use skep_sys::Kernel;

const GOLDEN: &str = include_str!("../../testdata/golden/transcript_6.18.txt");

#[test]
fn transcript() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let dir = Path::new("/sys/fs/bpf/skep");
    kernel.backend().create_pin_dir(dir).unwrap();
    let found = bodies::all(&kernel, dir);
    let differences = bodies::differences(&kernel, &found, GOLDEN, |_| false);
    assert!(differences.is_empty(), "{}", differences.concat());

    kernel.backend().remove_pin_dir(dir).unwrap();
    assert_eq!(sim.live(), Default::default(), "nothing is left");
}

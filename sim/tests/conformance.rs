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
    let differences: Vec<String> = found
        .iter()
        .zip(GOLDEN.lines())
        .filter(|(found, expected)| found != expected)
        .map(|(found, expected)| format!("{found}\n    and Linux: {expected}\n"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.concat());
    assert_eq!(found.len(), GOLDEN.lines().count());

    kernel.backend().remove_pin_dir(dir).unwrap();
    assert_eq!(sim.live(), Default::default(), "nothing is left");
}

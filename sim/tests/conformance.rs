//! The simulated kernel does what was recorded on Linux 6.18.

mod bodies;

use std::path::Path;

use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, Linkage, TypeId};
use skep_sim::SimKernel;
use skep_sys::Kernel;

const GOLDEN: &str = include_str!("../../testdata/golden/transcript_6.18.txt");

/// Types of Linux 6.18 and the functions that are called, which the cut of it in testdata lacks.
fn types() -> Vec<u8> {
    let cut = Btf::parse(include_bytes!("../../testdata/btf/6.18.btf").as_slice()).unwrap();
    let mut builder = BtfBuilder::from_btf(&cut);
    let proto = builder.add_func_proto(TypeId(0)).unwrap();
    for name in bodies::structure::KERNEL_FUNCTIONS {
        builder.add_func(name, Linkage::STATIC, proto).unwrap();
    }
    builder.encode(Endian::NATIVE, false)
}

#[test]
fn transcript() {
    let sim = SimKernel::builder().btf(types()).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let dir = Path::new("/sys/fs/bpf/skep");
    kernel.backend().create_pin_dir(dir).unwrap();
    let found = bodies::all(&kernel, dir);
    let differences = bodies::differences(&kernel, &found, GOLDEN, |_| false);
    assert!(differences.is_empty(), "{}", differences.concat());

    kernel.backend().remove_pin_dir(dir).unwrap();
    assert_eq!(sim.live(), Default::default(), "nothing is left");
}

//! Programs of objects run on a simulated kernel.

#![allow(missing_docs)]

mod run_conformance;
mod support;

use std::path::Path;

use skep::Kernel;
use skep::sim::SimKernel;

fn run(_: &str, body: run_conformance::Body) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/btf/6.12.btf");
    let btf = std::fs::read(path).expect("the fixture is in the repository");
    body(&Kernel::new(SimKernel::builder().btf(btf).build().expect("the fixture is BTF")));
}

run_conformance::tests! { run }

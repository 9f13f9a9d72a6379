//! Programs on a simulated kernel.

#![allow(missing_docs)]

mod program_conformance;
mod support;

use skep::sim::{Features, SimKernel};
use skep::sys::Kernel;

/// A kernel with the types of a real one.
fn kernel(_: &str) -> Option<Kernel> {
    let types = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/btf/6.12.btf")).unwrap();
    let features = Features::default() | Features::INSN_ARRAY;
    Some(Kernel::new(SimKernel::builder().btf(types).features(features).build().unwrap()))
}

fn run(name: &str, body: program_conformance::Body) {
    if let Some(kernel) = kernel(name) {
        body(&kernel);
    }
}

program_conformance::tests! { run }

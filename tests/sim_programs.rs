//! Programs on a simulated kernel.

#![allow(missing_docs)]

mod program_conformance;

use skep::sim::{Features, SimKernel};
use skep::sys::Kernel;

/// A kernel with the types of a real one.
fn kernel(_: &str) -> Option<Kernel> {
    let types = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/btf/6.12.btf")).unwrap();
    let features = Features::default() | Features::INSN_ARRAY;
    Some(Kernel::new(SimKernel::builder().btf(types).features(features).build().unwrap()))
}

program_conformance::tests! { kernel: built_with_maps built_with_records verifier_errors what_does_not_fit_together what_the_kernel_lacks built_for_a_tracepoint handles pins opening_errors bound_maps information statistics streams dumps_with_source dumps_with_names machine_code queries_of_programs queries_of_the_rest queries_of_pins queries_while_objects_go indirect_jumps }

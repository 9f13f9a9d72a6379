//! What a small file could ask too much of.

use std::path::Path;

use skep::Spec;
use skep::asm::Insn;
use skep::btf::Btf;
use skep::reloc::{BtfTarget, RelocateError};
use skep::spec::ReferenceTarget;

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn target() -> BtfTarget {
    let bytes = std::fs::read(testdata("btf/6.12.btf")).expect("the fixture is in the repository");
    BtfTarget::new(Btf::parse(bytes).expect("the fixture is BTF"))
}

/// Many programs that share one large function have a copy each: that is bounded.
#[test]
fn programs_together_are_bounded() {
    let mut spec = Spec::open(testdata("subprogs.o")).expect("it is an object");
    let shared = spec.functions.iter().position(|function| function.subprogram).expect("it has sub-programs");
    let program = spec
        .programs
        .iter()
        .find(|program| {
            let references = &spec.functions[program.function.0].references;
            references
                .iter()
                .any(|reference| reference.target == ReferenceTarget::Call(skep::spec::FunctionIndex(shared)))
        })
        .expect("a program calls it")
        .clone();
    spec.functions[shared].insns.resize(900_000, Insn::default());
    spec.programs = vec![program; 60];
    match spec.relocate(&target()) {
        Err(RelocateError::TooLarge { .. }) => {}
        other => panic!("{:?}", other.map(|plan| plan.programs.len())),
    }
    spec.functions[shared].insns.resize(1_000_001, Insn::default());
    spec.programs.truncate(1);
    assert!(matches!(spec.relocate(&target()), Err(RelocateError::TooLong { .. })));
}

/// An edited spec may refer to what is not there: that is an error, not a panic.
#[test]
fn references_to_nothing_are_errors() {
    let spec = Spec::open(testdata("tracer.o")).expect("it is an object");
    for (function, code) in spec.functions.iter().enumerate() {
        for reference in 0..code.references.len() {
            for target_index in [usize::MAX, 1000] {
                let mut broken = spec.clone();
                let refers_to = &mut broken.functions[function].references[reference].target;
                *refers_to = match refers_to {
                    ReferenceTarget::Map(_) => ReferenceTarget::Map(skep::spec::MapIndex(target_index)),
                    ReferenceTarget::MapValue { .. } => ReferenceTarget::MapValue {
                        map: skep::spec::MapIndex(target_index),
                        offset: u32::MAX,
                    },
                    _ => ReferenceTarget::Call(skep::spec::FunctionIndex(target_index)),
                };
                assert!(broken.relocate(&target()).is_err());
            }
            let mut broken = spec.clone();
            broken.functions[function].references[reference].insn = u32::MAX;
            assert!(broken.relocate(&target()).is_err());
        }
    }
    let mut broken = spec.clone();
    broken.programs[0].function = skep::spec::FunctionIndex(usize::MAX);
    assert!(broken.relocate(&target()).is_err());
}

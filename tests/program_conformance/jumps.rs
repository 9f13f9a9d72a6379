//! Indirect jumps that a compiler made.

use std::path::Path;

use skep::sys::abi::MapType;
use skep::sys::request::TestRun;
use skep::sys::{Feature, Kernel};
use skep::{Loader, Spec};

use super::{chain, skip};

/// Programs go where the tables of their object say.
pub(super) fn indirect_jumps(kernel: &Kernel) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/jump_tables.o"));
    let spec = Spec::parse("jump_tables.o", &std::fs::read(path).unwrap()).unwrap();
    if kernel.has(Feature::MapType(MapType::INSN_ARRAY)).is_unsupported() {
        let error = Loader::new(kernel).load(&spec).unwrap_err();
        assert!(chain(&error).contains("compile with -mcpu=v3"), "{}", chain(&error));
        return skip("indirect_jumps", "this kernel has no indirect jumps (Linux 6.19)");
    }
    let object = Loader::new(kernel).load(&spec).unwrap();
    for mark in 0..20u32 {
        // `struct __sk_buff`, as far as the mark.
        let mut ctx = [0; 192];
        ctx[8..12].copy_from_slice(&mark.to_ne_bytes());
        let run = |program: &str| {
            let mut run = TestRun::default();
            (run.data_in, run.ctx_in) = (&[0; 64], &ctx);
            object.program(program).unwrap().test_run(&mut run).unwrap().retval
        };
        let counted = |number: u32| if number < 16 { 2 } else { 1 };
        let priority = if mark < 15 { mark * mark + 1 } else { 1000 };
        assert_eq!(run("choose"), counted(mark) + priority, "mark {mark}");
        assert_eq!(run("only_counts"), counted(mark + 3), "mark {mark}");
    }
    let seen = object.global::<[u64; 16]>("seen").unwrap();
    assert!(seen.iter().filter(|&&number| number > 0).count() > 12, "{seen:?}");
}

//! Leaving out what makes no difference to programs makes none.

mod prune_conformance;

use skep::asm::{Insn, Op, Reg, disassemble, opcode};
use skep::reloc::{BtfTarget, PlacedFunction, PlaceholderValue, Plan, ProgramPlan};
use skep::spec::ProgramIndex;

use crate::prune_conformance::{objects, programs_do_the_same, testdata};

fn kernels() -> Vec<BtfTarget> {
    let open = |kernel: &str| {
        let bytes =
            std::fs::read(testdata().join(format!("btf/{kernel}.btf"))).expect("it is in the repository");
        BtfTarget::new(skep::btf::Btf::parse(bytes).expect("it is BTF"))
    };
    ["5.10", "6.12", "7.2"].map(open).into()
}

/// The parts of a program fit together after instructions went.
fn check(name: &str, plan: &Plan, program: &ProgramPlan) {
    let name = format!("{name} {}", program.name);
    let count = program.insns.len();
    assert!(count > 0, "{name}");
    let mut next = 0;
    for function in &program.functions {
        assert_eq!(function.start, next, "{name}");
        next += function.len;
    }
    assert_eq!(next as usize, count, "{name}");
    let of = |at: usize| program.functions.iter().position(|f| at < (f.start + f.len) as usize);
    for line in disassemble(&program.insns) {
        let (op, _) =
            Op::decode(&program.insns, line.index).unwrap_or_else(|error| panic!("{name}: {error}"));
        let insn = program.insns[line.index];
        if let Some(to) = insn.jump_target(line.index) {
            assert!(to >= 0 && (to as usize) < count, "{name}: {op:?} at {} to {to}", line.index);
            assert_eq!(of(line.index), of(to as usize), "{name}: {op:?} at {}", line.index);
        }
        if let Some(to) = insn.func_target(line.index) {
            assert!(program.functions.iter().any(|f| i64::from(f.start) == to), "{name} at {}", line.index);
        }
    }
    for (info, what) in [(&program.func_info, "func_info"), (&program.line_info, "line_info")] {
        let offsets: Vec<u32> =
            info.iter().map(|r| u32::from_ne_bytes(r[..4].try_into().expect("four bytes"))).collect();
        assert!(offsets.windows(2).all(|two| two[0] < two[1]), "{name} {what}: {offsets:?}");
        assert!(offsets.iter().all(|&offset| (offset as usize) < count), "{name} {what}");
        if !offsets.is_empty() {
            for function in &program.functions {
                assert!(offsets.contains(&function.start), "{name} {what} of {}", function.name);
            }
        }
    }
    for placeholder in &program.placeholders {
        assert!((placeholder.insn as usize) < count, "{name}");
        if let skep::reloc::PlaceholderValue::Map(map) = placeholder.value {
            assert!(program.insns[placeholder.insn as usize].is_ld_imm64(), "{name}");
            assert!(plan.maps[map.0].spec.autocreate, "{name}");
        }
    }
}

#[test]
fn parts_fit_together_afterwards() {
    let kernels = kernels();
    let (mut insns, mut maps) = (0, 0);
    for (name, spec) in objects() {
        for kernel in &kernels {
            for index in 0..spec.programs.len() {
                let mut only = spec.clone();
                only.load_only(ProgramIndex(index));
                let Ok(mut plan) = only.relocate(kernel) else { continue };
                let pruned = plan.prune();
                insns += pruned.insns;
                maps += pruned.maps.len();
                plan.programs.iter().for_each(|program| check(&name, &plan, program));
                assert_eq!(plan.prune().maps, Vec::<String>::new(), "{name}: nothing is left to leave out");
            }
        }
    }
    assert!(insns > 100 && maps > 100, "{insns} instructions and {maps} maps were left out");
}

#[test]
fn programs_do_the_same_on_a_simulated_kernel() {
    assert!(programs_do_the_same(&skep::sim::kernel(), false) > 30);
}

/// Each table is a map: there is none that only instructions refer to which are left out.
#[test]
fn jump_tables_go_with_the_jumps() {
    let spec = skep::Spec::open(testdata().join("jump_tables.o")).expect("it is an object");
    let kernel = &kernels()[0];
    for dead in [&[][..], &[0], &[1], &[0, 1]] {
        let mut plan = spec.relocate(kernel).expect("it asks for nothing");
        let program = plan.programs.iter_mut().find(|program| program.name == "choose").expect("it is there");
        let tables: Vec<_> = program.jump_tables.iter().map(|table| table.table).collect();
        assert_eq!((tables.len(), program.functions.len()), (2, 2), "one for each function");
        for &function in dead {
            // The check of the bounds always leads around the jump.
            let start = program.functions[function].start as usize;
            let is_check = |insn: &Insn| insn.opcode == opcode::CLASS_JMP32 | opcode::JMP_JGT;
            let at = start + program.insns[start..].iter().position(is_check).expect("a switch begins so");
            program.insns[at] = Insn::new(opcode::JA, Reg::R0, Reg::R0, program.insns[at].off, 0);
        }
        plan.prune();
        let program = plan.program("choose").expect("it stays");
        let expected: Vec<_> = tables
            .iter()
            .enumerate()
            .filter(|(nth, _)| !dead.contains(nth))
            .map(|(_, table)| *table)
            .collect();
        let left: Vec<_> = program.jump_tables.iter().map(|table| table.table).collect();
        assert_eq!(left, expected, "without those of {dead:?}");
        let places = program.placeholders.iter().filter_map(|placeholder| match placeholder.value {
            PlaceholderValue::JumpTable(index) => Some((placeholder.insn, index)),
            _ => None,
        });
        let of = |insn: u32| {
            let is_in = |function: &PlacedFunction| insn - function.start < function.len;
            program.functions.iter().filter(|function| function.start <= insn).position(is_in)
        };
        for (insn, index) in places {
            let table = &program.jump_tables[index];
            assert_eq!(tables.iter().position(|known| *known == table.table), of(insn), "{dead:?}");
            assert!(table.targets.iter().all(|&target| of(target) == of(insn)), "{dead:?}");
        }
    }
}

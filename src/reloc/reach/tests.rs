use skep_asm::{Assembler, Cond, Insn, Reg, Size};
use skep_btf::TypeId;
use skep_sys::abi::{AttachType, MapType, ProgFlags, ProgType};

use super::super::TargetError;
use super::super::plan::{MapPlan, PlacedExtern, PlacedFunction, Placeholder, Unknown};
use super::*;
use crate::spec::{AutoAttach, ExternIndex, ExternSpec, InfoRecords, MapSpec, ProgramIndex};

const R0: Reg = Reg::R0;
const R1: Reg = Reg::R1;
const R2: Reg = Reg::R2;
const R6: Reg = Reg::R6;
const R10: Reg = Reg::R10;

/// A program whose places to ask for are loads of 777 and up into r0.
struct Case {
    insns: Vec<Insn>,
    functions: Vec<u32>,
    maps: Vec<MapPlan>,
    externs: Vec<PlacedExtern>,
    unknown: Vec<Unknown>,
}

fn case(write: impl FnOnce(&mut Assembler)) -> Case {
    let mut asm = Assembler::new();
    write(&mut asm);
    let insns = asm.finish().expect("labels are there");
    Case { insns, functions: vec![0], maps: Vec::new(), externs: Vec::new(), unknown: Vec::new() }
}

fn data_map(role: MapRole, contents: &[u8]) -> MapPlan {
    let mut spec = MapSpec::new("data", MapType::ARRAY, 4, 16, 1);
    (spec.role, spec.contents) = (role, contents.to_vec());
    MapPlan { spec, kernel_name: "data".into(), contents_offset: 0, struct_ops: None }
}

impl Case {
    fn functions(mut self, starts: &[u32]) -> Case {
        self.functions = starts.to_vec();
        self
    }

    fn map(mut self, map: MapPlan) -> Case {
        self.maps.push(map);
        self
    }

    fn unknown(mut self, kind: ExternKind) -> Case {
        let spec = ExternSpec { name: "x".into(), weak: true, kind, type_id: TypeId(0), value: None };
        self.unknown.push(Unknown::new(&spec, TargetError::unknown("kernel configuration")));
        self
    }

    fn extern_at(mut self, insn: u32, kind: ExternKind, known: bool) -> Case {
        self.externs.push(PlacedExtern { insn, index: ExternIndex(0), kind, known });
        self
    }

    /// What is found of each place, in their order.
    fn reach(self) -> Vec<Reach> {
        let places: Vec<u32> = (0..self.insns.len() as u32)
            .filter(|&at| self.insns[at as usize].opcode == 0xb7 && self.insns[at as usize].imm >= 777)
            .collect();
        assert!(!places.is_empty(), "the case asks for nothing");
        // Each load of a map value names the first map.
        let placeholders = (0..self.insns.len() as u32)
            .filter(|&at| self.insns[at as usize].is_ld_imm64() && self.insns[at as usize].src_raw() == 2)
            .map(|insn| Placeholder { insn, value: PlaceholderValue::MapValue(MapIndex(0)) })
            .collect();
        let ends = self.functions.iter().skip(1).copied().chain([self.insns.len() as u32]);
        let functions = self
            .functions
            .iter()
            .zip(ends)
            .map(|(&start, end)| PlacedFunction { name: format!("at_{start}"), start, len: end - start })
            .collect();
        let program = ProgramPlan {
            name: "p".into(),
            kernel_name: "p".into(),
            program: ProgramIndex(0),
            section: "socket".into(),
            prog_type: ProgType::SOCKET_FILTER,
            attach_type: AttachType(0),
            attach_type_optional: false,
            attach_to: None,
            auto_attach: AutoAttach::None,
            attach_target: None,
            attach_function: None,
            flags: ProgFlags::empty(),
            insns: self.insns,
            functions,
            placeholders,
            jump_tables: Vec::new(),
            func_info: InfoRecords::default(),
            line_info: InfoRecords::default(),
            decisions: Vec::new(),
            missing: Vec::new(),
            externs: self.externs,
        };
        let plan = Plan {
            modules: Vec::new(),
            name: "o".into(),
            license: "GPL".into(),
            version: None,
            btf: None,
            maps: self.maps,
            programs: Vec::new(),
            notes: Vec::new(),
            unknown: self.unknown,
        };
        analyse(&plan, &program, &places)
    }
}

/// A place, and the end of the program.
fn place(asm: &mut Assembler, number: i32) -> &mut Assembler {
    asm.mov64_imm(R0, number).exit()
}

#[test]
fn a_branch_that_constants_decide_is_followed_on_one_side() {
    // if (r1 == 1) 777 else 778, for r1 in both.
    let one = |value: i32| {
        case(|asm| {
            asm.mov64_imm(R1, value).jmp64_imm(Cond::Eq, R1, 1, "yes");
            place(asm, 778).label("yes");
            place(asm, 777);
        })
        .reach()
    };
    assert_eq!(one(1), [Reach::Guarded, Reach::Reached]);
    assert_eq!(one(0), [Reach::Reached, Reach::Guarded]);
}

#[test]
fn what_is_not_known_is_followed_on_both_sides() {
    let both = case(|asm| {
        asm.ldx(Size::W, R2, R1, 0).jmp64_imm(Cond::Eq, R2, 1, "yes");
        place(asm, 778).label("yes");
        place(asm, 777);
    });
    assert_eq!(both.reach(), [Reach::Reached, Reach::Reached]);
}

#[test]
fn constants_go_through_arithmetic_moves_and_the_stack() {
    let computed = case(|asm| {
        asm.mov64_imm(R1, 6).mov64_reg(R6, R1).add64_imm(R6, -2).lsh64_imm(R6, 1);
        asm.stx(Size::DW, R10, -8, R6).call_helper(14).ldx(Size::DW, R2, R10, -8);
        asm.jmp32_imm(Cond::Ne, R2, 8, "wrong");
        place(asm, 777).label("wrong");
        place(asm, 778);
    });
    assert_eq!(computed.reach(), [Reach::Reached, Reach::Guarded]);
    // A helper that is given an address in the stack may write from there upwards, and not below.
    let written = |given: i32| {
        case(move |asm| {
            asm.mov64_imm(R6, 1).stx(Size::DW, R10, -16, R6);
            asm.mov64_reg(R1, R10).add64_imm(R1, given).call_helper(16);
            asm.ldx(Size::DW, R2, R10, -16).jmp64_imm(Cond::Eq, R2, 1, "kept");
            place(asm, 777).label("kept");
            place(asm, 778);
        })
        .reach()
    };
    assert_eq!(written(-8), [Reach::Guarded, Reach::Reached]);
    assert_eq!(written(-16), [Reach::Reached, Reach::Reached]);
    assert_eq!(written(-32), [Reach::Reached, Reach::Reached]);
}

#[test]
fn older_verifiers_forget_divisions_and_so_does_this() {
    let divided = case(|asm| {
        asm.mov64_imm(R1, 8).div64_imm(R1, 2).jmp64_imm(Cond::Eq, R1, 4, "four");
        place(asm, 777).label("four");
        place(asm, 778);
    });
    assert_eq!(divided.reach(), [Reach::Reached, Reach::Reached]);
}

#[test]
fn ways_that_agree_keep_a_constant_and_others_do_not() {
    let joined = |left: i32, right: i32| {
        case(move |asm| {
            asm.ldx(Size::W, R2, R1, 0).mov64_imm(R6, left).jmp64_imm(Cond::Gt, R2, 9, "meet");
            asm.mov64_imm(R6, right).label("meet").jmp64_imm(Cond::Eq, R6, 3, "three");
            place(asm, 777).label("three");
            place(asm, 778);
        })
        .reach()
    };
    assert_eq!(joined(3, 3), [Reach::Guarded, Reach::Reached]);
    assert_eq!(joined(4, 4), [Reach::Reached, Reach::Guarded]);
    assert_eq!(joined(3, 4), [Reach::Reached, Reach::Reached]);
}

#[test]
fn a_test_for_a_number_makes_it_known() {
    let known = case(|asm| {
        asm.ldx(Size::W, R2, R1, 0).jmp64_imm(Cond::Ne, R2, 5, "end");
        asm.jmp64_imm(Cond::Eq, R2, 5, "five");
        place(asm, 777).label("five");
        place(asm, 778).label("end");
        place(asm, 779);
    });
    assert_eq!(known.reach(), [Reach::Guarded, Reach::Reached, Reach::Reached]);
}

#[test]
fn loops_end() {
    let looped = case(|asm| {
        asm.mov64_imm(R6, 0).label("again").add64_imm(R6, 1).jmp64_imm(Cond::Lt, R6, 100, "again");
        asm.jmp64_imm(Cond::Eq, R10, 0, "never");
        place(asm, 777).label("never");
        place(asm, 778);
    });
    assert_eq!(looped.reach(), [Reach::Reached, Reach::Reached]);
}

#[test]
fn only_data_that_does_not_change_is_known() {
    let load = |role: MapRole| {
        case(|asm| {
            asm.ld_map_value(R1, 0, 4).ldx(Size::W, R2, R1, 0).jmp64_imm(Cond::Eq, R2, 7, "seven");
            place(asm, 777).label("seven");
            place(asm, 778);
        })
        .map(data_map(role, &[0, 0, 0, 0, 7u32.to_ne_bytes()[0], 0, 0, 7u32.to_ne_bytes()[3]]))
        .reach()
    };
    assert_eq!(load(MapRole::Rodata), [Reach::Guarded, Reach::Reached]);
    assert_eq!(load(MapRole::Kconfig), [Reach::Guarded, Reach::Reached]);
    assert_eq!(load(MapRole::Data), [Reach::Reached, Reach::Reached]);
}

#[test]
fn what_depends_on_an_unknown_value_is_left_open() {
    let asked = |meet: bool| {
        case(move |asm| {
            asm.ld_map_value(R1, 0, 0).ldx(Size::W, R2, R1, 0).jmp64_imm(Cond::Gt, R2, 6, "newer");
            asm.mov64_imm(R0, 777);
            if meet {
                asm.ja("meet")
            } else {
                asm.exit()
            };
            asm.label("newer").mov64_imm(R0, 778).label("meet");
            place(asm, 779);
        })
        .map(data_map(MapRole::Kconfig, &[0; 16]))
        .unknown(ExternKind::Kconfig { offset: 0, size: 4 })
        .reach()
    };
    assert_eq!(asked(true), [Reach::Unknown, Reach::Unknown, Reach::Reached]);
    assert_eq!(asked(false), [Reach::Unknown, Reach::Unknown, Reach::Unknown]);
    // A value beside it is known.
    let beside = case(|asm| {
        asm.ld_map_value(R1, 0, 4).ldx(Size::W, R2, R1, 0).jmp64_imm(Cond::Gt, R2, 6, "newer");
        place(asm, 777).label("newer");
        place(asm, 778);
    });
    let beside = beside.map(data_map(MapRole::Kconfig, &[0; 16]));
    assert_eq!(
        beside.unknown(ExternKind::Kconfig { offset: 0, size: 4 }).reach(),
        [Reach::Reached, Reach::Guarded]
    );
}

#[test]
fn a_choice_by_an_unknown_value_stays_open_behind_where_ways_meet() {
    let chosen = case(|asm| {
        asm.ld_map_value(R1, 0, 0).ldx(Size::W, R2, R1, 0).mov64_imm(R6, 0).jmp64_imm(
            Cond::Gt,
            R2,
            6,
            "newer",
        );
        asm.mov64_imm(R6, 1).label("newer").jmp64_imm(Cond::Eq, R6, 0, "none");
        place(asm, 777).label("none");
        place(asm, 778);
    });
    let chosen = chosen.map(data_map(MapRole::Kconfig, &[0; 16]));
    assert_eq!(
        chosen.unknown(ExternKind::Kconfig { offset: 0, size: 4 }).reach(),
        [Reach::Unknown, Reach::Unknown]
    );
}

#[test]
fn addresses_of_kernel_functions_are_not_zero() {
    let tested = |kind, known, missing| {
        case(move |asm| {
            if missing {
                asm.ld_imm64(R1, 0)
            } else {
                asm.ld_btf_id(R1, 7, 0)
            };
            asm.jmp64_imm(Cond::Eq, R1, 0, "none");
            place(asm, 777).label("none");
            place(asm, 778);
        })
        .extern_at(0, kind, known)
        .reach()
    };
    assert_eq!(tested(ExternKind::Function, true, false), [Reach::Reached, Reach::Guarded]);
    assert_eq!(tested(ExternKind::Function, true, true), [Reach::Guarded, Reach::Reached]);
    // Of variables older verifiers do not know that they have an address.
    let variable = ExternKind::Variable { typed: true };
    assert_eq!(tested(variable, true, false), [Reach::Reached, Reach::Reached]);
    let symbol = ExternKind::Variable { typed: false };
    assert_eq!(tested(symbol, false, true), [Reach::Unknown, Reach::Unknown]);
}

#[test]
fn arguments_and_results_of_functions_are_known_where_all_calls_agree() {
    let called = |first: i32, second: i32| {
        let mut case = case(move |asm| {
            asm.mov64_imm(R1, first).call("f").mov64_reg(R6, R0).mov64_imm(R1, second).call("f");
            asm.jmp64_imm(Cond::Eq, R6, 11, "eleven");
            place(asm, 777).label("eleven");
            place(asm, 778).label("f").mov64_reg(R0, R1).add64_imm(R0, 10).exit();
        });
        let start = case.insns.len() as u32 - 3;
        case.functions = vec![0, start];
        case.reach()
    };
    assert_eq!(called(1, 1), [Reach::Guarded, Reach::Reached]);
    assert_eq!(called(1, 2), [Reach::Reached, Reach::Reached]);
}

#[test]
fn a_function_may_write_to_the_stack_that_it_is_shown() {
    let shown = |shown: bool| {
        let mut case = case(move |asm| {
            asm.mov64_imm(R6, 1).stx(Size::DW, R10, -8, R6).mov64_imm(R1, 0);
            if shown {
                asm.mov64_reg(R1, R10);
            }
            asm.call("f").ldx(Size::DW, R2, R10, -8).jmp64_imm(Cond::Eq, R2, 1, "kept");
            place(asm, 777).label("kept");
            place(asm, 778).label("f").mov64_imm(R0, 0).exit();
        });
        let start = case.insns.len() as u32 - 2;
        case.functions = vec![0, start];
        case.reach()
    };
    assert_eq!(shown(false), [Reach::Guarded, Reach::Reached]);
    assert_eq!(shown(true), [Reach::Reached, Reach::Reached]);
}

#[test]
fn callbacks_are_come_to_when_their_address_is() {
    let passed = |reached: i32| {
        case(move |asm| {
            asm.mov64_imm(R6, reached)
                .jmp64_imm(Cond::Eq, R6, 0, "end")
                .ld_func(R2, "callback")
                .call_helper(181);
            asm.label("end").mov64_imm(R0, 0).exit().label("callback");
            place(asm, 777);
        })
        .functions(&[0, 7])
        .reach()
    };
    assert_eq!(passed(1), [Reach::Reached]);
    assert_eq!(passed(0), [Reach::Guarded]);
}

#[test]
fn odd_programs_do_no_harm() {
    let far = [Insn::new(0x05, R0, R0, 100, 0), Insn::new(0xb7, R0, R0, 0, 777)];
    let cut = [Insn::new(0xb7, R0, R0, 0, 777), Insn::new(0x18, R0, R0, 0, 0)];
    let itself = [Insn::new(0xb7, R0, R0, 0, 777), Insn::new(0x85, R0, R1, 0, -1)];
    for insns in [&far[..], &cut, &itself] {
        let (insns, functions) = (insns.to_vec(), vec![0]);
        Case { insns, functions, maps: Vec::new(), externs: Vec::new(), unknown: Vec::new() }.reach();
    }
    // Jumps from everywhere to everywhere, over values that differ on each way.
    let mut insns = Vec::new();
    for nth in 0..3000i16 {
        insns.push(Insn::new(0x07, R6, R0, 0, 1));
        insns.push(Insn::new(0x1d, R6, R1, (nth.wrapping_mul(7919) % 5000) - nth, 0));
    }
    insns.push(Insn::new(0xb7, R0, R0, 0, 777));
    let found =
        Case { insns, functions: vec![0], maps: Vec::new(), externs: Vec::new(), unknown: Vec::new() };
    assert_eq!(found.reach(), [Reach::Reached]);
}

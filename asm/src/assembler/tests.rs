use super::*;
use crate::{disassemble, opcode};

fn text(insns: &[Insn]) -> Vec<String> {
    disassemble(insns).map(|line| line.to_string()).collect()
}

#[test]
fn labels_count_slots() {
    let insns = Assembler::new()
        .label("start")
        .jmp32_reg(Cond::Slt, Reg::R1, Reg::R2, "end")
        .ld_imm64(Reg::R3, u64::MAX)
        .ld_func(Reg::R4, "sub")
        .call("sub")
        .gotol("start")
        .ja("end")
        .may_goto("end")
        .label("end")
        .exit()
        .label("sub")
        .mov64_imm(Reg::R0, 0)
        .exit()
        .finish()
        .unwrap();
    assert_eq!(
        text(&insns),
        [
            "if w1 s< w2 goto +0x8",
            "r3 = -0x1 ll",
            "ld_pseudo r4, 0x4, 0x6",
            "call 0x4",
            "gotol -0x7",
            "goto +0x1",
            "may_goto +0x0",
            "exit",
            "r0 = 0x0",
            "exit",
        ]
    );
    assert_eq!(insns[3].func_target(3), Some(10));
    assert_eq!(insns[5].func_target(5), Some(10));
    assert_eq!(insns[0].jump_target(0), Some(9));
    assert_eq!(insns[6].jump_target(6), Some(0));
}

/// A jump at slot `at` over `gap` instructions to the label, or back over them.
fn far(gap: usize, back: bool, jump: fn(&mut Assembler)) -> Result<Vec<Insn>, AsmError> {
    let mut asm = Assembler::new();
    let filler = vec![Insn::new(opcode::CLASS_ALU64 | opcode::ALU_MOV, Reg::R0, Reg::R0, 0, 0); gap];
    if back {
        asm.label("far").insns(&filler);
        jump(&mut asm);
    } else {
        jump(&mut asm);
        asm.insns(&filler).label("far");
    }
    asm.exit().finish()
}

#[test]
fn distances_are_checked() {
    let ja: fn(&mut Assembler) = |asm| {
        asm.ja("far");
    };
    let out_of_range =
        |index, distance| AsmError::OutOfRange { index, label: "far".to_owned(), distance, bits: 16 };
    assert_eq!(far(32767, false, ja).unwrap()[0].off, 32767);
    assert_eq!(far(32768, false, ja), Err(out_of_range(0, 32768)));
    assert_eq!(far(32767, true, ja).unwrap()[32767].off, -32768);
    assert_eq!(far(32768, true, ja), Err(out_of_range(32768, -32769)));
    assert_eq!(
        far(32768, false, ja).unwrap_err().to_string(),
        "instruction 0 is 32768 slots from label \"far\", which does not fit in 16 bits"
    );
    let conditional: fn(&mut Assembler) = |asm| {
        asm.jmp64_imm(Cond::Eq, Reg::R1, 0, "far");
    };
    assert_eq!(far(32768, false, conditional), Err(out_of_range(0, 32768)));
    let gotol: fn(&mut Assembler) = |asm| {
        asm.gotol("far");
    };
    assert_eq!(far(40000, false, gotol).unwrap()[0].imm, 40000);
    assert_eq!(far(40000, true, gotol).unwrap()[40000].imm, -40001);
}

#[test]
fn mistakes_are_reported_by_finish() {
    let missing = Assembler::new().exit().ja("nowhere").finish();
    assert_eq!(missing, Err(AsmError::UndefinedLabel { index: 1, label: "nowhere".to_owned() }));

    let twice = Assembler::new().label("a").exit().label("a").exit().finish();
    assert_eq!(twice, Err(AsmError::DuplicateLabel { label: "a".to_owned(), first: 0, second: 1 }));

    let atomic = Assembler::new().exit().atomic(AtomicOp::Add, Size::B, Reg::R1, 0, Reg::R2).finish();
    assert!(matches!(atomic, Err(AsmError::Invalid(DecodeError::Variant { index: 1, opcode: 0xd3, .. }))));

    let r11 = Reg::new(11).unwrap();
    let first = Assembler::new().mov64_reg(Reg::R1, r11).movsx32(Size::W, Reg::R1, Reg::R2).finish();
    assert!(matches!(first, Err(AsmError::Invalid(DecodeError::Register { index: 0, register: 11, .. }))));
}

#[test]
fn finish_can_be_repeated() {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 1).exit();
    let short = asm.finish().unwrap();
    assert_eq!((asm.here(), short.len()), (2, 2));
    assert_eq!(asm.exit().finish().unwrap().len(), 3);
}

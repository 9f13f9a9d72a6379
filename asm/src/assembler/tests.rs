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

/// Appends with each method named and compares with the text of the same instruction.
macro_rules! each {
    ($($method:ident($($argument:expr),*) $text:literal;)*) => {$(
        let insns = Assembler::new().$method($($argument),*).label("l").finish().unwrap();
        assert_eq!(text(&insns), [$text], stringify!($method));
    )*};
}

#[test]
fn every_method() {
    let (a, b) = (Reg::R1, Reg::R2);
    each! {
        add64_imm(a, 5) "r1 += 0x5";
        add64_reg(a, b) "r1 += r2";
        add32_imm(a, 5) "w1 += 0x5";
        add32_reg(a, b) "w1 += w2";
        sub64_imm(a, 5) "r1 -= 0x5";
        sub32_reg(a, b) "w1 -= w2";
        mul64_imm(a, 5) "r1 *= 0x5";
        mul32_reg(a, b) "w1 *= w2";
        div64_imm(a, 5) "r1 /= 0x5";
        div32_reg(a, b) "w1 /= w2";
        sdiv64_imm(a, 5) "r1 s/= 0x5";
        sdiv32_reg(a, b) "w1 s/= w2";
        mod64_imm(a, 5) "r1 %= 0x5";
        mod32_reg(a, b) "w1 %= w2";
        smod64_imm(a, 5) "r1 s%= 0x5";
        smod32_reg(a, b) "w1 s%= w2";
        or64_imm(a, 5) "r1 |= 0x5";
        or32_reg(a, b) "w1 |= w2";
        and64_imm(a, 5) "r1 &= 0x5";
        and32_reg(a, b) "w1 &= w2";
        xor64_imm(a, 5) "r1 ^= 0x5";
        xor32_reg(a, b) "w1 ^= w2";
        lsh64_imm(a, 5) "r1 <<= 0x5";
        lsh32_reg(a, b) "w1 <<= w2";
        rsh64_imm(a, 5) "r1 >>= 0x5";
        rsh32_reg(a, b) "w1 >>= w2";
        arsh64_imm(a, 5) "r1 s>>= 0x5";
        arsh32_reg(a, b) "w1 s>>= w2";
        alu(Width::W32, AluOp::Xor, a, -1) "w1 ^= -0x1";
        mov64_imm(a, -1) "r1 = -0x1";
        mov64_reg(a, b) "r1 = r2";
        mov32_imm(a, -1) "w1 = -0x1";
        mov32_reg(a, b) "w1 = w2";
        movsx64(Size::W, a, b) "r1 = (s32)r2";
        movsx32(Size::B, a, b) "w1 = (s8)w2";
        neg64(a) "r1 = -r1";
        neg32(a) "w1 = -w1";
        to_le(SwapWidth::B64, a) "r1 = le64 r1";
        to_be(SwapWidth::B16, a) "r1 = be16 r1";
        bswap(SwapWidth::B32, a) "r1 = bswap32 r1";
        addr_space_cast(a, b, 0, 1) "r1 = addr_space_cast(r2, 0x0, 0x1)";
        ld_imm64(a, 1 << 32) "r1 = 0x100000000 ll";
        ld_map_fd(a, 7) "ld_pseudo r1, 0x1, 0x7";
        ld_map_value(a, 7, 8) "ld_pseudo r1, 0x2, 0x7, 0x8";
        ld_btf_id(a, 7, 8) "ld_pseudo r1, 0x3, 0x7, 0x8";
        ld_func(a, "l") "ld_pseudo r1, 0x4, 0x1";
        ld_map_idx(a, 7) "ld_pseudo r1, 0x5, 0x7";
        ld_map_idx_value(a, 7, 8) "ld_pseudo r1, 0x6, 0x7, 0x8";
        ld_abs(Size::H, 12) "r0 = *(u16 *)skb[0xc]";
        ld_ind(Size::H, b, 12) "r0 = *(u16 *)skb[r2 + 0xc]";
        ldx(Size::W, a, b, 4) "w1 = *(u32 *)(r2 + 0x4)";
        ldsx(Size::W, a, b, 4) "r1 = *(s32 *)(r2 + 0x4)";
        stx(Size::DW, a, -8, b) "*(u64 *)(r1 - 0x8) = r2";
        st(Size::B, a, -8, 3) "*(u8 *)(r1 - 0x8) = 0x3";
        atomic(AtomicOp::Xchg, Size::DW, a, 8, b) "r2 = xchg_64(r1 + 0x8, r2)";
        load_acquire(Size::W, a, b, 8) "w1 = load_acquire((u32 *)(r2 + 0x8))";
        store_release(Size::W, a, 8, b) "store_release((u32 *)(r1 + 0x8), w2)";
        ja("l") "goto +0x0";
        gotol("l") "gotol +0x0";
        gotox(a) "gotox r1";
        may_goto("l") "may_goto +0x0";
        jmp64_imm(Cond::Set, a, 1, "l") "if r1 & 0x1 goto +0x0";
        jmp64_reg(Cond::Sge, a, b, "l") "if r1 s>= r2 goto +0x0";
        jmp32_imm(Cond::Le, a, 1, "l") "if w1 <= 0x1 goto +0x0";
        jmp32_reg(Cond::Ne, a, b, "l") "if w1 != w2 goto +0x0";
        jmp(Width::W32, Cond::Eq, a, b, "l") "if w1 == w2 goto +0x0";
        call_helper(6) "call 0x6";
        call("l") "call 0x0";
        call_kfunc(0x123, 1) "call 0x123";
        callx(a) "callx r1";
        exit() "exit";
        op(Op::Exit) "exit";
        insns(&[Insn::default()]) "<unknown>";
    }
}

use super::*;
use crate::{DecodeError, Field, encode, opcode};

const R1: Reg = Reg::R1;
const R2: Reg = Reg::R2;
const R7: Reg = Reg::R7;
const R10: Reg = Reg::R10;

fn alu(width: Width, op: AluOp, src: impl Into<Operand>) -> Op {
    Op::Alu { width, op, dst: R1, src: src.into() }
}

fn jump(width: Width, cond: Cond, src: impl Into<Operand>, off: i16) -> Op {
    Op::JumpIf { width, cond, dst: R1, src: src.into(), off }
}

fn atomic(op: AtomicOp, size: Size) -> Op {
    Op::Atomic { op, size, base: R1, off: 8, src: R2 }
}

fn load(imm: Imm64) -> Op {
    Op::LdImm64 { dst: R1, imm }
}

/// Every form: the operation, its bytes for a little-endian machine, its text.
fn table() -> Vec<(Op, &'static str, &'static str)> {
    use Width::{W32, W64};
    vec![
        (alu(W64, AluOp::Add, 5), "0701000005000000", "r1 += 0x5"),
        (alu(W64, AluOp::Add, -5), "07010000fbffffff", "r1 += -0x5"),
        (alu(W64, AluOp::Add, R2), "0f21000000000000", "r1 += r2"),
        (alu(W32, AluOp::Add, i32::MIN), "0401000000000080", "w1 += -0x80000000"),
        (alu(W32, AluOp::Add, R2), "0c21000000000000", "w1 += w2"),
        (alu(W64, AluOp::Sub, R2), "1f21000000000000", "r1 -= r2"),
        (alu(W64, AluOp::Mul, R2), "2f21000000000000", "r1 *= r2"),
        (alu(W64, AluOp::Div, R2), "3f21000000000000", "r1 /= r2"),
        (alu(W64, AluOp::Sdiv, R2), "3f21010000000000", "r1 s/= r2"),
        (alu(W64, AluOp::Sdiv, 3), "3701010003000000", "r1 s/= 0x3"),
        (alu(W32, AluOp::Sdiv, R2), "3c21010000000000", "w1 s/= w2"),
        (alu(W64, AluOp::Or, R2), "4f21000000000000", "r1 |= r2"),
        (alu(W64, AluOp::And, R2), "5f21000000000000", "r1 &= r2"),
        (alu(W64, AluOp::Lsh, R2), "6f21000000000000", "r1 <<= r2"),
        (alu(W64, AluOp::Rsh, 32), "7701000020000000", "r1 >>= 0x20"),
        (alu(W64, AluOp::Mod, R2), "9f21000000000000", "r1 %= r2"),
        (alu(W64, AluOp::Smod, R2), "9f21010000000000", "r1 s%= r2"),
        (alu(W32, AluOp::Smod, 7), "9401010007000000", "w1 s%= 0x7"),
        (alu(W64, AluOp::Xor, R2), "af21000000000000", "r1 ^= r2"),
        (alu(W64, AluOp::Arsh, R2), "cf21000000000000", "r1 s>>= r2"),
        (alu(W32, AluOp::Arsh, 3), "c401000003000000", "w1 s>>= 0x3"),
        (Op::Mov { width: W64, dst: R1, src: (-5).into() }, "b7010000fbffffff", "r1 = -0x5"),
        (Op::Mov { width: W64, dst: R1, src: R2.into() }, "bf21000000000000", "r1 = r2"),
        (Op::Mov { width: W32, dst: R1, src: 5.into() }, "b401000005000000", "w1 = 0x5"),
        (Op::Mov { width: W32, dst: R1, src: R2.into() }, "bc21000000000000", "w1 = w2"),
        (Op::MovSx { width: W64, from: Size::B, dst: R1, src: R2 }, "bf21080000000000", "r1 = (s8)r2"),
        (Op::MovSx { width: W64, from: Size::H, dst: R1, src: R2 }, "bf21100000000000", "r1 = (s16)r2"),
        (Op::MovSx { width: W64, from: Size::W, dst: R1, src: R2 }, "bf21200000000000", "r1 = (s32)r2"),
        (Op::MovSx { width: W32, from: Size::B, dst: R1, src: R2 }, "bc21080000000000", "w1 = (s8)w2"),
        (Op::MovSx { width: W32, from: Size::H, dst: R1, src: R2 }, "bc21100000000000", "w1 = (s16)w2"),
        (Op::Neg { width: W64, dst: R1 }, "8701000000000000", "r1 = -r1"),
        (Op::Neg { width: W32, dst: R1 }, "8401000000000000", "w1 = -w1"),
        (to_endian(Endian::Little, SwapWidth::B16), "d401000010000000", "r1 = le16 r1"),
        (to_endian(Endian::Little, SwapWidth::B64), "d401000040000000", "r1 = le64 r1"),
        (to_endian(Endian::Big, SwapWidth::B32), "dc01000020000000", "r1 = be32 r1"),
        (Op::Bswap { bits: SwapWidth::B16, dst: R1 }, "d701000010000000", "r1 = bswap16 r1"),
        (Op::Bswap { bits: SwapWidth::B64, dst: R1 }, "d701000040000000", "r1 = bswap64 r1"),
        (
            Op::AddrSpaceCast { dst: R1, src: R2, to: 3, from: 0x10 },
            "bf21010010000300",
            "r1 = addr_space_cast(r2, 0x3, 0x10)",
        ),
        (load(Imm64::Value(5)), "18010000050000000000000000000000", "r1 = 0x5 ll"),
        (
            load(Imm64::Value(0x8765_4321_0fed_cba9)),
            "18010000a9cbed0f0000000021436587",
            "r1 = -0x789abcdef0123457 ll",
        ),
        (load(Imm64::Value(1 << 63)), "18010000000000000000000000000080", "r1 = -0x8000000000000000 ll"),
        (load(Imm64::MapFd(7)), "18110000070000000000000000000000", "ld_pseudo r1, 0x1, 0x7"),
        (
            load(Imm64::MapValue { fd: 7, off: 16 }),
            "18210000070000000000000010000000",
            "ld_pseudo r1, 0x2, 0x7, 0x10",
        ),
        (
            load(Imm64::BtfId { btf_id: 9, btf_fd: 0 }),
            "18310000090000000000000000000000",
            "ld_pseudo r1, 0x3, 0x9",
        ),
        (load(Imm64::Func { distance: 4 }), "18410000040000000000000000000000", "ld_pseudo r1, 0x4, 0x4"),
        (load(Imm64::MapIdx(2)), "18510000020000000000000000000000", "ld_pseudo r1, 0x5, 0x2"),
        (
            load(Imm64::MapIdxValue { index: 2, off: 1 }),
            "18610000020000000000000001000000",
            "ld_pseudo r1, 0x6, 0x2, 0x1",
        ),
        (Op::LoadAbs { size: Size::B, off: 5 }, "3000000005000000", "r0 = *(u8 *)skb[0x5]"),
        (Op::LoadAbs { size: Size::H, off: -5 }, "28000000fbffffff", "r0 = *(u16 *)skb[-0x5]"),
        (Op::LoadInd { size: Size::W, index: R7, off: 0 }, "4070000000000000", "r0 = *(u32 *)skb[r7]"),
        (Op::LoadInd { size: Size::B, index: R7, off: -1 }, "50700000ffffffff", "r0 = *(u8 *)skb[r7 - 0x1]"),
        (Op::Load { size: Size::B, dst: R1, base: R2, off: 3 }, "7121030000000000", "w1 = *(u8 *)(r2 + 0x3)"),
        (
            Op::Load { size: Size::DW, dst: R1, base: R2, off: i16::MIN },
            "7921008000000000",
            "r1 = *(u64 *)(r2 - 0x8000)",
        ),
        (
            Op::LoadSx { size: Size::B, dst: R1, base: R2, off: 3 },
            "9121030000000000",
            "r1 = *(s8 *)(r2 + 0x3)",
        ),
        (
            Op::LoadSx { size: Size::H, dst: R1, base: R2, off: 3 },
            "8921030000000000",
            "r1 = *(s16 *)(r2 + 0x3)",
        ),
        (
            Op::LoadSx { size: Size::W, dst: R1, base: R2, off: 0 },
            "8121000000000000",
            "r1 = *(s32 *)(r2 + 0x0)",
        ),
        (
            Op::Store { size: Size::DW, base: R10, off: -8, src: R1.into() },
            "7b1af8ff00000000",
            "*(u64 *)(r10 - 0x8) = r1",
        ),
        (
            Op::Store { size: Size::H, base: R10, off: -8, src: R1.into() },
            "6b1af8ff00000000",
            "*(u16 *)(r10 - 0x8) = w1",
        ),
        (
            Op::Store { size: Size::W, base: R10, off: -8, src: (-5).into() },
            "620af8fffbffffff",
            "*(u32 *)(r10 - 0x8) = -0x5",
        ),
        (atomic(AtomicOp::Add, Size::DW), "db21080000000000", "lock *(u64 *)(r1 + 0x8) += r2"),
        (atomic(AtomicOp::Or, Size::W), "c321080040000000", "lock *(u32 *)(r1 + 0x8) |= w2"),
        (atomic(AtomicOp::And, Size::DW), "db21080050000000", "lock *(u64 *)(r1 + 0x8) &= r2"),
        (atomic(AtomicOp::Xor, Size::W), "c3210800a0000000", "lock *(u32 *)(r1 + 0x8) ^= w2"),
        (
            atomic(AtomicOp::FetchAdd, Size::DW),
            "db21080001000000",
            "r2 = atomic_fetch_add((u64 *)(r1 + 0x8), r2)",
        ),
        (
            atomic(AtomicOp::FetchOr, Size::W),
            "c321080041000000",
            "w2 = atomic_fetch_or((u32 *)(r1 + 0x8), w2)",
        ),
        (
            atomic(AtomicOp::FetchAnd, Size::DW),
            "db21080051000000",
            "r2 = atomic_fetch_and((u64 *)(r1 + 0x8), r2)",
        ),
        (
            atomic(AtomicOp::FetchXor, Size::W),
            "c3210800a1000000",
            "w2 = atomic_fetch_xor((u32 *)(r1 + 0x8), w2)",
        ),
        (atomic(AtomicOp::Xchg, Size::DW), "db210800e1000000", "r2 = xchg_64(r1 + 0x8, r2)"),
        (atomic(AtomicOp::Xchg, Size::W), "c3210800e1000000", "w2 = xchg32_32(r1 + 0x8, w2)"),
        (atomic(AtomicOp::CmpXchg, Size::DW), "db210800f1000000", "r0 = cmpxchg_64(r1 + 0x8, r0, r2)"),
        (atomic(AtomicOp::CmpXchg, Size::W), "c3210800f1000000", "w0 = cmpxchg32_32(r1 + 0x8, w0, w2)"),
        (
            Op::LoadAcquire { size: Size::B, dst: R1, base: R2, off: -1 },
            "d321ffff00010000",
            "w1 = load_acquire((u8 *)(r2 - 0x1))",
        ),
        (
            Op::LoadAcquire { size: Size::DW, dst: R1, base: R2, off: 0 },
            "db21000000010000",
            "r1 = load_acquire((u64 *)(r2 + 0x0))",
        ),
        (
            Op::StoreRelease { size: Size::H, base: R1, off: 8, src: R2 },
            "cb21080010010000",
            "store_release((u16 *)(r1 + 0x8), w2)",
        ),
        (Op::Jump { off: 3 }, "0500030000000000", "goto +0x3"),
        (Op::Jump { off: -1 }, "0500ffff00000000", "goto -0x1"),
        (Op::JumpLong { distance: -200 }, "0600000038ffffff", "gotol -0xc8"),
        (Op::JumpReg { target: R2 }, "0d02000000000000", "gotox r2"),
        (Op::MayGoto { off: 3 }, "e500030000000000", "may_goto +0x3"),
        (jump(W64, Cond::Eq, R2, 2), "1d21020000000000", "if r1 == r2 goto +0x2"),
        (jump(W64, Cond::Gt, 2, 0), "2501000002000000", "if r1 > 0x2 goto +0x0"),
        (jump(W64, Cond::Ge, R2, 2), "3d21020000000000", "if r1 >= r2 goto +0x2"),
        (jump(W64, Cond::Set, R2, 2), "4d21020000000000", "if r1 & r2 goto +0x2"),
        (jump(W32, Cond::Ne, -5, -2), "5601fefffbffffff", "if w1 != -0x5 goto -0x2"),
        (jump(W64, Cond::Sgt, 2, 3), "6501030002000000", "if r1 s> 0x2 goto +0x3"),
        (jump(W64, Cond::Sge, R2, 2), "7d21020000000000", "if r1 s>= r2 goto +0x2"),
        (jump(W64, Cond::Lt, R2, 2), "ad21020000000000", "if r1 < r2 goto +0x2"),
        (jump(W64, Cond::Le, R2, 2), "bd21020000000000", "if r1 <= r2 goto +0x2"),
        (jump(W64, Cond::Slt, R2, 2), "cd21020000000000", "if r1 s< r2 goto +0x2"),
        (jump(W32, Cond::Sle, R2, 2), "de21020000000000", "if w1 s<= w2 goto +0x2"),
        (Op::CallHelper { id: 5 }, "8500000005000000", "call 0x5"),
        (Op::CallFunc { distance: -1 }, "85100000ffffffff", "call -0x1"),
        (Op::CallKfunc { btf_id: 0x1234, fd_index: 2 }, "8520020034120000", "call 0x1234"),
        (Op::CallReg { target: R2 }, "8d02000000000000", "callx r2"),
        (Op::Exit, "9500000000000000", "exit"),
    ]
}

fn to_endian(order: Endian, bits: SwapWidth) -> Op {
    Op::ToEndian { order, bits, dst: R1 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a big-endian machine holds for these little-endian slots.
fn swapped(little: &str) -> String {
    let slot = |s: &str| {
        let byte = |i: usize| &s[2 * i..2 * i + 2];
        let regs: String = byte(1).chars().rev().collect();
        [byte(0), &regs, byte(3), byte(2), byte(7), byte(6), byte(5), byte(4)].concat()
    };
    little.as_bytes().chunks(16).map(|s| slot(std::str::from_utf8(s).unwrap())).collect()
}

#[test]
fn every_form() {
    for (op, bytes, text) in table() {
        let slots = op.encode();
        assert_eq!(hex(&encode(&slots, Endian::Little)), bytes, "{text}");
        assert_eq!(hex(&encode(&slots, Endian::Big)), swapped(bytes), "{text}");
        assert_eq!(Op::decode(&slots, 0), Ok((op, bytes.len() / 16)), "{text}");
        assert_eq!(op.to_string(), text);
    }
}

/// The values of a field that might be treated apart from others.
fn interesting_imm() -> Vec<i32> {
    let mut imm = vec![0, 1, -1, 8, 24, i32::MIN, i32::MAX, 0x0001_0000];
    imm.extend([16, 32, 64, 0xe0, 0xe1, 0xf0, 0xf1, 0x100, 0x101, 0x110, 0x111]);
    imm.extend((0..=0xf).flat_map(|op| [op << 4, op << 4 | 1]));
    imm
}

#[test]
fn decode_is_total_and_reversible() {
    let mut accepted = std::collections::BTreeSet::new();
    for opcode in 0..=u8::MAX {
        for regs in 0..=u8::MAX {
            let (dst, src) = (Reg::new(regs & 0xf).unwrap(), Reg::new(regs >> 4).unwrap());
            for off in [0, 1, 2, 8, 16, 32, -1, i16::MIN, i16::MAX] {
                for imm in interesting_imm() {
                    let insns = [Insn::new(opcode, dst, src, off, imm), Insn::default()];
                    let Ok((op, slots)) = Op::decode(&insns, 0) else { continue };
                    accepted.insert(opcode);
                    assert_eq!(*op.encode(), insns[..slots], "{op:?}");
                    assert_eq!(slots, insns[0].slots());
                    assert!(dst.is_valid() && (src.is_valid()));
                }
            }
        }
    }
    // 11 * 2 * 2 arithmetic, mov 4, neg 2, swaps 3; 22 * 2 compares, 4 jumps, 2 calls, exit; 6 packet loads, imm64,
    // 4 + 3 loads, 8 stores, and 4 sizes of atomics
    assert_eq!(accepted.len(), 44 + 4 + 2 + 3 + 44 + 4 + 2 + 1 + 6 + 1 + 7 + 8 + 4);
}

#[test]
fn second_slot_is_checked() {
    let first = Insn::new(opcode::LD_IMM64, R1, Reg::R0, 0, 1);
    let reject = |second: Insn| Op::decode(&[first, second], 0).unwrap_err();
    let reserved = |opcode, field, value| DecodeError::Reserved { index: 1, opcode, field, value };
    assert_eq!(reject(Insn::new(0x95, Reg::R0, Reg::R0, 0, 0)), reserved(0x95, Field::Opcode, 0x95));
    assert_eq!(reject(Insn::new(0, R1, Reg::R0, 0, 0)), reserved(0, Field::Dst, 1));
    assert_eq!(reject(Insn::new(0, Reg::R0, R2, 0, 0)), reserved(0, Field::Src, 2));
    assert_eq!(reject(Insn::new(0, Reg::R0, Reg::R0, 3, 0)), reserved(0, Field::Off, 3));

    let map = Insn::new(opcode::LD_IMM64, R1, R1, 0, 7);
    let high = Insn::new(0, Reg::R0, Reg::R0, 0, 1);
    assert_eq!(Op::decode(&[map, high], 0), Err(reserved(0, Field::Imm, 1)));
    assert_eq!(Op::decode(&[high, map], 1), Err(DecodeError::Truncated { index: 1 }));
    assert_eq!(Op::decode(&[high, map], 0), Err(DecodeError::Opcode { index: 0, opcode: 0 }));
    assert_eq!(Op::decode(&[high, map], 2), Err(DecodeError::End { index: 2, len: 2 }));
    assert_eq!(Op::decode(&[], usize::MAX), Err(DecodeError::End { index: usize::MAX, len: 0 }));
}

#[test]
fn errors_say_what_and_where() {
    let error = |insn: Insn| Op::decode(&[Insn::default(), insn], 1).unwrap_err().to_string();
    let r11 = Reg::new(11).unwrap();
    assert_eq!(error(Insn::new(0xbf, R1, R2, 4, 0)), "instruction 1 (opcode 0xbf) has no variant 4 (offset)",);
    assert_eq!(
        error(Insn::new(0x95, Reg::R0, Reg::R0, 0, -1)),
        "instruction 1 (opcode 0x95) has -1 in its unused immediate",
    );
    assert_eq!(
        error(Insn::new(0x79, R1, r11, 0, 0)),
        "instruction 1 (opcode 0x79) names register r11 as source register, the last one is r10",
    );
    assert_eq!(error(Insn::new(0xff, R1, R2, 0, 0)), "instruction 1 has the unknown opcode 0xff");
    assert_eq!(
        error(Insn::new(0x18, R1, R2, 0, 0)),
        "instruction 1 is a 64-bit immediate load and lacks its second slot"
    );
    assert_eq!(
        error(Insn::new(0xc3, R1, R2, 0, 0x30)),
        "instruction 1 (opcode 0xc3) has no variant 48 (immediate)",
    );
    // atomics of one byte exist only as load-acquire and store-release
    assert!(Op::try_from(Insn::new(0xd3, R1, R2, 0, 0)).is_err());
    assert!(Op::try_from(Insn::new(0xd3, R1, R2, 0, 0x100)).is_ok());
}

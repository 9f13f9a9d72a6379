//! From [`Op`] to slots.

use std::ops::Deref;

use super::{Imm64, Op, Operand, Size, Width};
use crate::{Insn, Reg, opcode, pseudo};

/// The one or two slots of an encoded instruction, used as a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slots {
    /// Every instruction but a 64-bit immediate load.
    One([Insn; 1]),
    /// A 64-bit immediate load.
    Two([Insn; 2]),
}

impl Deref for Slots {
    type Target = [Insn];

    fn deref(&self) -> &[Insn] {
        match self {
            Slots::One(slots) => slots,
            Slots::Two(slots) => slots,
        }
    }
}

impl Op {
    /// Encodes it into one slot, or two for a 64-bit immediate load.
    ///
    /// It never fails. Parts that no instruction combines, such as an atomic of one byte, give slots that
    /// [`Op::decode`] rejects.
    pub const fn encode(&self) -> Slots {
        let none = Reg::R0;
        let insn = match *self {
            Op::Alu { width, op, dst, src } => {
                let (bits, off) = op.code();
                with_operand(alu_class(width) | bits, dst, src, off)
            }
            Op::Mov { width, dst, src } => with_operand(alu_class(width) | opcode::ALU_MOV, dst, src, 0),
            Op::MovSx { width, from, dst, src } => {
                let opcode = alu_class(width) | opcode::ALU_MOV | opcode::SRC_X;
                Insn::new(opcode, dst, src, from.bits() as i16, 0)
            }
            Op::Neg { width, dst } => Insn::new(alu_class(width) | opcode::ALU_NEG, dst, none, 0, 0),
            Op::ToEndian { order, bits, dst } => {
                let order = if order.is_little() { opcode::SRC_K } else { opcode::SRC_X };
                let opcode = opcode::CLASS_ALU | opcode::ALU_END | order;
                Insn::new(opcode, dst, none, 0, bits.bits() as i32)
            }
            Op::Bswap { bits, dst } => {
                Insn::new(opcode::CLASS_ALU64 | opcode::ALU_END, dst, none, 0, bits.bits() as i32)
            }
            Op::AddrSpaceCast { dst, src, to, from } => {
                let opcode = opcode::CLASS_ALU64 | opcode::ALU_MOV | opcode::SRC_X;
                Insn::new(opcode, dst, src, 1, ((to as u32) << 16 | from as u32) as i32)
            }
            Op::LdImm64 { dst, imm } => return ld_imm64(dst, imm),
            Op::LoadAbs { size, off } => {
                Insn::new(opcode::CLASS_LD | opcode::MODE_ABS | size.code(), none, none, 0, off)
            }
            Op::LoadInd { size, index, off } => {
                Insn::new(opcode::CLASS_LD | opcode::MODE_IND | size.code(), none, index, 0, off)
            }
            Op::Load { size, dst, base, off } => {
                Insn::new(opcode::CLASS_LDX | opcode::MODE_MEM | size.code(), dst, base, off, 0)
            }
            Op::LoadSx { size, dst, base, off } => {
                Insn::new(opcode::CLASS_LDX | opcode::MODE_MEMSX | size.code(), dst, base, off, 0)
            }
            Op::Store { size, base, off, src } => {
                let mode = opcode::MODE_MEM | size.code();
                match src {
                    Operand::Reg(src) => Insn::new(opcode::CLASS_STX | mode, base, src, off, 0),
                    Operand::Imm(imm) => Insn::new(opcode::CLASS_ST | mode, base, none, off, imm),
                }
            }
            Op::Atomic { op, size, base, off, src } => atomic(size, base, src, off, op.code()),
            Op::LoadAcquire { size, dst, base, off } => atomic(size, dst, base, off, opcode::ATOMIC_LOAD_ACQ),
            Op::StoreRelease { size, base, off, src } => {
                atomic(size, base, src, off, opcode::ATOMIC_STORE_REL)
            }
            Op::Jump { off } => Insn::new(opcode::JA, none, none, off, 0),
            Op::JumpLong { distance } => Insn::new(opcode::GOTOL, none, none, 0, distance),
            Op::JumpReg { target } => Insn::new(opcode::GOTOX, target, none, 0, 0),
            Op::JumpIf { width, cond, dst, src, off } => {
                let class = match width {
                    Width::W32 => opcode::CLASS_JMP32,
                    Width::W64 => opcode::CLASS_JMP,
                };
                with_operand(class | cond.code(), dst, src, off)
            }
            Op::MayGoto { off } => Insn::new(opcode::MAY_GOTO, none, none, off, 0),
            Op::CallHelper { id } => call(0, 0, id),
            Op::CallFunc { distance } => call(pseudo::CALL, 0, distance),
            Op::CallKfunc { btf_id, fd_index } => call(pseudo::KFUNC_CALL, fd_index, btf_id),
            Op::CallReg { target } => Insn::new(opcode::CALLX, target, none, 0, 0),
            Op::Exit => Insn::new(opcode::EXIT, none, none, 0, 0),
        };
        Slots::One([insn])
    }
}

const fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => opcode::CLASS_ALU,
        Width::W64 => opcode::CLASS_ALU64,
    }
}

const fn with_operand(opcode: u8, dst: Reg, src: Operand, off: i16) -> Insn {
    match src {
        Operand::Reg(src) => Insn::new(opcode | opcode::SRC_X, dst, src, off, 0),
        Operand::Imm(imm) => Insn::new(opcode | opcode::SRC_K, dst, Reg::R0, off, imm),
    }
}

const fn atomic(size: Size, dst: Reg, src: Reg, off: i16, imm: i32) -> Insn {
    Insn::new(opcode::CLASS_STX | opcode::MODE_ATOMIC | size.code(), dst, src, off, imm)
}

const fn call(kind: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode::CALL, Reg::R0, Reg::from_low_bits(kind), off, imm)
}

const fn ld_imm64(dst: Reg, imm: Imm64) -> Slots {
    let (kind, lo, hi) = match imm {
        Imm64::Value(value) => (0, value as u32 as i32, (value >> 32) as u32 as i32),
        Imm64::MapFd(fd) => (pseudo::MAP_FD, fd, 0),
        Imm64::MapValue { fd, off } => (pseudo::MAP_VALUE, fd, off),
        Imm64::BtfId { btf_id, btf_fd } => (pseudo::BTF_ID, btf_id, btf_fd),
        Imm64::Func { distance } => (pseudo::FUNC, distance, 0),
        Imm64::MapIdx(index) => (pseudo::MAP_IDX, index, 0),
        Imm64::MapIdxValue { index, off } => (pseudo::MAP_IDX_VALUE, index, off),
    };
    let first = Insn::new(opcode::LD_IMM64, dst, Reg::from_low_bits(kind), 0, lo);
    Slots::Two([first, Insn::new(0, Reg::R0, Reg::R0, 0, hi)])
}

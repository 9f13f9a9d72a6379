//! From slots to [`Op`].

use super::{AluOp, AtomicOp, Cond, Imm64, Op, Operand, Size, SwapWidth, Width};
use crate::{DecodeError, Endian, Field, Insn, Reg, opcode, pseudo};

type Result<T> = std::result::Result<T, DecodeError>;

impl Op {
    /// Decodes the instruction that starts at slot `index`, and tells how many slots it takes.
    ///
    /// # Errors
    /// Each names the slot: it does not exist or is cut short, its opcode or variant is unknown, a field that it
    /// does not use is not zero, or it names a register above `r10`.
    pub fn decode(insns: &[Insn], index: usize) -> Result<(Op, usize)> {
        let Some(&insn) = insns.get(index) else {
            return Err(DecodeError::End { index, len: insns.len() });
        };
        let slot = Slot { index, insn };
        let op = match insn.class() {
            opcode::CLASS_LD if insn.is_ld_imm64() => {
                let next = index.checked_add(1).and_then(|next| insns.get(next));
                ld_imm64(slot, *next.ok_or(DecodeError::Truncated { index })?)
            }
            opcode::CLASS_LD => packet_load(slot),
            opcode::CLASS_LDX => load(slot),
            opcode::CLASS_ST => store_imm(slot),
            opcode::CLASS_STX => store_reg(slot),
            opcode::CLASS_ALU => alu(slot, Width::W32),
            opcode::CLASS_ALU64 => alu(slot, Width::W64),
            opcode::CLASS_JMP => jump(slot),
            _ => jump32(slot),
        }?;
        Ok((op, op.slots()))
    }
}

/// A slot under examination; methods take its fields apart and check them.
#[derive(Clone, Copy)]
struct Slot {
    index: usize,
    insn: Insn,
}

impl Slot {
    fn op_bits(self) -> u8 {
        self.insn.opcode & opcode::OP_MASK
    }

    fn mode(self) -> u8 {
        self.insn.opcode & opcode::MODE_MASK
    }

    fn size(self) -> Size {
        Size::from_code(self.insn.opcode)
    }

    fn has_reg_operand(self) -> bool {
        self.insn.opcode & opcode::SRC_MASK == opcode::SRC_X
    }

    fn unknown<T>(self) -> Result<T> {
        Err(DecodeError::Opcode { index: self.index, opcode: self.insn.opcode })
    }

    fn variant<T>(self, field: Field, value: impl Into<i32>) -> Result<T> {
        let Slot { index, insn } = self;
        Err(DecodeError::Variant { index, opcode: insn.opcode, field, value: value.into() })
    }

    fn zero(self, field: Field, value: impl Into<i32>) -> Result<()> {
        let Slot { index, insn } = self;
        match value.into() {
            0 => Ok(()),
            value => Err(DecodeError::Reserved { index, opcode: insn.opcode, field, value }),
        }
    }

    fn no_dst(self) -> Result<()> {
        self.zero(Field::Dst, self.insn.dst_raw())
    }

    fn no_src(self) -> Result<()> {
        self.zero(Field::Src, self.insn.src_raw())
    }

    fn no_off(self) -> Result<()> {
        self.zero(Field::Off, self.insn.off)
    }

    fn no_imm(self) -> Result<()> {
        self.zero(Field::Imm, self.insn.imm)
    }

    fn reg(self, field: Field, reg: Reg) -> Result<Reg> {
        let Slot { index, insn } = self;
        if reg.is_valid() {
            Ok(reg)
        } else {
            Err(DecodeError::Register { index, opcode: insn.opcode, field, register: reg.number() })
        }
    }

    fn dst(self) -> Result<Reg> {
        self.reg(Field::Dst, self.insn.dst())
    }

    fn src(self) -> Result<Reg> {
        self.reg(Field::Src, self.insn.src())
    }

    /// The right operand of arithmetic or a comparison; the field that the other kind would use must be zero.
    fn operand(self) -> Result<Operand> {
        if self.has_reg_operand() {
            self.no_imm()?;
            Ok(Operand::Reg(self.src()?))
        } else {
            self.no_src()?;
            Ok(Operand::Imm(self.insn.imm))
        }
    }
}

fn ld_imm64(slot: Slot, hi: Insn) -> Result<Op> {
    let lo = slot.insn;
    let second = Slot { index: slot.index.saturating_add(1), insn: hi };
    slot.no_off()?;
    second.zero(Field::Opcode, hi.opcode)?;
    second.no_dst()?;
    second.no_src()?;
    second.no_off()?;
    let only_low = || second.no_imm();
    let imm = match lo.src_raw() {
        0 => Imm64::Value(Insn::imm64(&lo, &hi)),
        pseudo::MAP_FD => {
            only_low()?;
            Imm64::MapFd(lo.imm)
        }
        pseudo::MAP_VALUE => Imm64::MapValue { fd: lo.imm, off: hi.imm },
        pseudo::BTF_ID => Imm64::BtfId { btf_id: lo.imm, btf_fd: hi.imm },
        pseudo::FUNC => {
            only_low()?;
            Imm64::Func { distance: lo.imm }
        }
        pseudo::MAP_IDX => {
            only_low()?;
            Imm64::MapIdx(lo.imm)
        }
        pseudo::MAP_IDX_VALUE => Imm64::MapIdxValue { index: lo.imm, off: hi.imm },
        other => return slot.variant(Field::Src, other),
    };
    Ok(Op::LdImm64 { dst: slot.dst()?, imm })
}

fn packet_load(slot: Slot) -> Result<Op> {
    let size = slot.size();
    let by_index = match slot.mode() {
        opcode::MODE_ABS if size != Size::DW => false,
        opcode::MODE_IND if size != Size::DW => true,
        _ => return slot.unknown(),
    };
    slot.no_dst()?;
    slot.no_off()?;
    let off = slot.insn.imm;
    if by_index {
        return Ok(Op::LoadInd { size, index: slot.src()?, off });
    }
    slot.no_src()?;
    Ok(Op::LoadAbs { size, off })
}

fn load(slot: Slot) -> Result<Op> {
    let size = slot.size();
    let signed = match slot.mode() {
        opcode::MODE_MEM => false,
        opcode::MODE_MEMSX if size != Size::DW => true,
        _ => return slot.unknown(),
    };
    slot.no_imm()?;
    let (dst, base, off) = (slot.dst()?, slot.src()?, slot.insn.off);
    Ok(if signed { Op::LoadSx { size, dst, base, off } } else { Op::Load { size, dst, base, off } })
}

fn store_imm(slot: Slot) -> Result<Op> {
    if slot.mode() != opcode::MODE_MEM {
        return slot.unknown();
    }
    slot.no_src()?;
    let Insn { off, imm, .. } = slot.insn;
    Ok(Op::Store { size: slot.size(), base: slot.dst()?, off, src: Operand::Imm(imm) })
}

fn store_reg(slot: Slot) -> Result<Op> {
    let size = slot.size();
    let Insn { off, imm, .. } = slot.insn;
    match slot.mode() {
        opcode::MODE_MEM => {
            slot.no_imm()?;
            Ok(Op::Store { size, base: slot.dst()?, off, src: Operand::Reg(slot.src()?) })
        }
        opcode::MODE_ATOMIC => match imm {
            opcode::ATOMIC_LOAD_ACQ => Ok(Op::LoadAcquire { size, dst: slot.dst()?, base: slot.src()?, off }),
            opcode::ATOMIC_STORE_REL => {
                Ok(Op::StoreRelease { size, base: slot.dst()?, off, src: slot.src()? })
            }
            _ => match (AtomicOp::from_code(imm), size) {
                (Some(op), Size::W | Size::DW) => {
                    Ok(Op::Atomic { op, size, base: slot.dst()?, off, src: slot.src()? })
                }
                _ => slot.variant(Field::Imm, imm),
            },
        },
        _ => slot.unknown(),
    }
}

fn alu(slot: Slot, width: Width) -> Result<Op> {
    let op = match slot.op_bits() {
        opcode::ALU_ADD => AluOp::Add,
        opcode::ALU_SUB => AluOp::Sub,
        opcode::ALU_MUL => AluOp::Mul,
        opcode::ALU_DIV => signed_by_off(slot, AluOp::Div, AluOp::Sdiv)?,
        opcode::ALU_OR => AluOp::Or,
        opcode::ALU_AND => AluOp::And,
        opcode::ALU_LSH => AluOp::Lsh,
        opcode::ALU_RSH => AluOp::Rsh,
        opcode::ALU_MOD => signed_by_off(slot, AluOp::Mod, AluOp::Smod)?,
        opcode::ALU_XOR => AluOp::Xor,
        opcode::ALU_ARSH => AluOp::Arsh,
        opcode::ALU_MOV => return mov(slot, width),
        opcode::ALU_NEG if !slot.has_reg_operand() => {
            slot.no_src()?;
            slot.no_off()?;
            slot.no_imm()?;
            return Ok(Op::Neg { width, dst: slot.dst()? });
        }
        opcode::ALU_END => return swap(slot, width),
        _ => return slot.unknown(),
    };
    if !matches!(op, AluOp::Sdiv | AluOp::Smod) {
        slot.no_off()?;
    }
    Ok(Op::Alu { width, op, src: slot.operand()?, dst: slot.dst()? })
}

fn signed_by_off(slot: Slot, unsigned: AluOp, signed: AluOp) -> Result<AluOp> {
    match slot.insn.off {
        0 => Ok(unsigned),
        1 => Ok(signed),
        other => slot.variant(Field::Off, other),
    }
}

fn mov(slot: Slot, width: Width) -> Result<Op> {
    let Insn { off, imm, .. } = slot.insn;
    if off == 0 {
        return Ok(Op::Mov { width, src: slot.operand()?, dst: slot.dst()? });
    }
    if !slot.has_reg_operand() {
        slot.no_off()?;
    }
    let from = match (off, width) {
        (8, _) => Size::B,
        (16, _) => Size::H,
        (32, Width::W64) => Size::W,
        (1, Width::W64) => {
            let (to, from) = ((imm as u32 >> 16) as u16, imm as u16);
            return Ok(Op::AddrSpaceCast { dst: slot.dst()?, src: slot.src()?, to, from });
        }
        _ => return slot.variant(Field::Off, off),
    };
    slot.no_imm()?;
    Ok(Op::MovSx { width, from, dst: slot.dst()?, src: slot.src()? })
}

fn swap(slot: Slot, width: Width) -> Result<Op> {
    let order = match (width, slot.has_reg_operand()) {
        (Width::W32, false) => Some(Endian::Little),
        (Width::W32, true) => Some(Endian::Big),
        (Width::W64, false) => None,
        (Width::W64, true) => return slot.unknown(),
    };
    slot.no_src()?;
    slot.no_off()?;
    let bits = match slot.insn.imm {
        16 => SwapWidth::B16,
        32 => SwapWidth::B32,
        64 => SwapWidth::B64,
        other => return slot.variant(Field::Imm, other),
    };
    let dst = slot.dst()?;
    Ok(match order {
        Some(order) => Op::ToEndian { order, bits, dst },
        None => Op::Bswap { bits, dst },
    })
}

fn jump(slot: Slot) -> Result<Op> {
    let Insn { off, imm, .. } = slot.insn;
    match slot.insn.opcode {
        opcode::JA => {
            slot.no_dst()?;
            slot.no_src()?;
            slot.no_imm()?;
            Ok(Op::Jump { off })
        }
        opcode::MAY_GOTO => {
            slot.no_dst()?;
            slot.no_imm()?;
            match slot.insn.src_raw() {
                0 => Ok(Op::MayGoto { off }),
                other => slot.variant(Field::Src, other),
            }
        }
        opcode::CALL => {
            slot.no_dst()?;
            match slot.insn.src_raw() {
                pseudo::KFUNC_CALL => Ok(Op::CallKfunc { btf_id: imm, fd_index: off }),
                0 | pseudo::CALL => {
                    slot.no_off()?;
                    let helper = slot.insn.src_raw() == 0;
                    Ok(if helper { Op::CallHelper { id: imm } } else { Op::CallFunc { distance: imm } })
                }
                other => slot.variant(Field::Src, other),
            }
        }
        opcode::GOTOX | opcode::CALLX => {
            slot.no_src()?;
            slot.no_off()?;
            slot.no_imm()?;
            let target = slot.dst()?;
            let call = slot.insn.opcode == opcode::CALLX;
            Ok(if call { Op::CallReg { target } } else { Op::JumpReg { target } })
        }
        opcode::EXIT => {
            slot.no_dst()?;
            slot.no_src()?;
            slot.no_off()?;
            slot.no_imm()?;
            Ok(Op::Exit)
        }
        _ => jump_if(slot, Width::W64),
    }
}

fn jump32(slot: Slot) -> Result<Op> {
    if slot.insn.opcode == opcode::GOTOL {
        slot.no_dst()?;
        slot.no_src()?;
        slot.no_off()?;
        return Ok(Op::JumpLong { distance: slot.insn.imm });
    }
    jump_if(slot, Width::W32)
}

fn jump_if(slot: Slot, width: Width) -> Result<Op> {
    match Cond::from_code(slot.insn.opcode) {
        Some(cond) => {
            Ok(Op::JumpIf { width, cond, src: slot.operand()?, dst: slot.dst()?, off: slot.insn.off })
        }
        None => slot.unknown(),
    }
}

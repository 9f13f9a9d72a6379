//! Writing a decision into its instruction.

use skep_asm::{Insn, Reg, opcode};

use super::decision::{Decision, Outcome};
use super::error::PatchError;

/// The helper number of the call that takes the place of an instruction that cannot be relocated: 0xbad2310, "bad
/// relo". The verifier says `invalid func unknown#195896080` when it reaches one.
pub const POISON: i32 = 195_896_080;

/// What [`apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// Changed the immediate of an arithmetic instruction.
    Imm {
        /// From this.
        from: i32,
        /// To this.
        to: i32,
    },
    /// Changed the immediate of a 64-bit load.
    Imm64 {
        /// From this.
        from: u64,
        /// To this.
        to: u64,
    },
    /// Changed the offset of a load or store.
    Offset {
        /// From this.
        from: i16,
        /// To this.
        to: i16,
        /// The number of bytes that it now accesses, when that has changed too.
        size: Option<u32>,
    },
    /// Put [`POISON`] in its place, as the target has no such field, type or value.
    Poisoned,
    /// Put [`POISON`] in its place, as the field has another size in the target and its type does not allow to read
    /// it with another one.
    PoisonedBySize,
}

/// Changes instruction `insn` (for a 64-bit load, and the slot after it) as decided.
///
/// # Errors
/// When the instruction is of a kind that holds no relocatable value, does not hold what the compiler should have
/// put there, or cannot hold the new value. It is left as it was.
pub fn apply(insns: &mut [Insn], insn: usize, decision: &Decision) -> Result<Applied, PatchError> {
    let len = insns.len();
    let Some((first, rest)) = insns.get_mut(insn..).and_then(<[Insn]>::split_first_mut) else {
        return Err(PatchError::NoInsn { insn, len });
    };
    let second = rest.first_mut();
    if decision.outcome == Outcome::Poisoned {
        poison(insn, first, second)?;
        return Ok(Applied::Poisoned);
    }
    let value = decision.new_value;
    let check = |found: i64| {
        let expected = decision.local_value;
        if decision.validate && found.cast_unsigned() != expected {
            return Err(PatchError::Unexpected { insn, found, expected });
        }
        Ok(())
    };
    match first.class() {
        opcode::CLASS_ALU | opcode::CLASS_ALU64 => {
            if first.opcode & opcode::SRC_MASK != opcode::SRC_K {
                return Err(PatchError::RegisterOperand { insn });
            }
            check(first.imm.into())?;
            let from = first.imm;
            // The low half, as libbpf: a value that needs more is loaded with a 64-bit load.
            first.imm = value as i32;
            Ok(Applied::Imm { from, to: first.imm })
        }
        opcode::CLASS_LDX | opcode::CLASS_ST | opcode::CLASS_STX => {
            check(first.off.into())?;
            let to = i16::try_from(value).map_err(|_| PatchError::OutOfRange { insn, value })?;
            let change = decision.mem_size.filter(|size| size.local != size.target);
            if change.is_some_and(|size| !size.adjustable) {
                poison(insn, first, second)?;
                return Ok(Applied::PoisonedBySize);
            }
            if let Some(change) = change {
                let found = access_size(first.opcode);
                if found != change.local {
                    return Err(PatchError::AccessSize { insn, found, expected: change.local });
                }
                let size = change.target;
                let bits = size_bits(size).ok_or(PatchError::TargetSize { insn, size })?;
                first.opcode = first.opcode & !opcode::SIZE_MASK | bits;
            }
            let from = first.off;
            first.off = to;
            Ok(Applied::Offset { from, to, size: change.map(|change| change.target) })
        }
        opcode::CLASS_LD => {
            let is_plain = |insn: &Insn| insn.src_raw() == 0 && insn.off == 0;
            let second = second.filter(|high| {
                first.is_ld_imm64()
                    && is_plain(first)
                    && is_plain(high)
                    && high.opcode == 0
                    && high.dst_raw() == 0
            });
            let Some(second) = second else { return Err(PatchError::WideLoad { insn }) };
            let from = Insn::imm64(first, second);
            check(from.cast_signed())?;
            Insn::set_imm64(first, second, value);
            Ok(Applied::Imm64 { from, to: value })
        }
        _ => Err(PatchError::NotRelocatable { insn, opcode: first.opcode }),
    }
}

fn poison(insn: usize, first: &mut Insn, second: Option<&mut Insn>) -> Result<(), PatchError> {
    let call = Insn::new(opcode::CALL, Reg::R0, Reg::R0, 0, POISON);
    if first.is_ld_imm64() {
        // Its second half alone would be refused as an unknown instruction.
        *second.ok_or(PatchError::WideLoad { insn })? = call;
    }
    *first = call;
    Ok(())
}

/// Bytes that a load or store accesses.
fn access_size(code: u8) -> u32 {
    match code & opcode::SIZE_MASK {
        opcode::SIZE_B => 1,
        opcode::SIZE_H => 2,
        opcode::SIZE_W => 4,
        _ => 8, // the only one left of two bits
    }
}

fn size_bits(bytes: u32) -> Option<u8> {
    match bytes {
        1 => Some(opcode::SIZE_B),
        2 => Some(opcode::SIZE_H),
        4 => Some(opcode::SIZE_W),
        8 => Some(opcode::SIZE_DW),
        _ => None,
    }
}

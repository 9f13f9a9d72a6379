//! The instruction slot, and translation to and from bytes.

use std::fmt;

use crate::{DecodeError, Endian, Reg, opcode, pseudo};

/// One 8-byte instruction slot (`struct bpf_insn`).
///
/// Any 8 bytes are an `Insn`; whether they mean something is for [`Op::decode`](crate::Op::decode) to say. A 64-bit
/// immediate load takes two slots, and the second has opcode 0. Distances in jumps, calls, and debug records count
/// slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Insn {
    /// The opcode byte, made of the parts in [`opcode`].
    pub opcode: u8,
    /// Destination register in the low nibble, source register in the high one.
    regs: u8,
    /// Signed offset: of memory in bytes, of a jump in slots; some operations keep a variant number in it.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Insn {
    /// Bytes in a slot.
    pub const SIZE: usize = 8;

    /// An instruction of these parts. None is checked against another.
    pub const fn new(opcode: u8, dst: Reg, src: Reg, off: i16, imm: i32) -> Insn {
        Insn { opcode, regs: dst.number() | src.number() << 4, off, imm }
    }

    /// The destination register.
    pub const fn dst(&self) -> Reg {
        Reg::from_low_bits(self.regs)
    }

    /// The source register. In calls and 64-bit immediate loads it is no register but one of [`pseudo`].
    pub const fn src(&self) -> Reg {
        Reg::from_low_bits(self.regs >> 4)
    }

    /// The destination field as a number, 0 to 15.
    pub const fn dst_raw(&self) -> u8 {
        self.regs & 0xf
    }

    /// The source field as a number, 0 to 15.
    pub const fn src_raw(&self) -> u8 {
        self.regs >> 4
    }

    /// Replaces the destination register.
    pub const fn set_dst(&mut self, dst: Reg) {
        self.regs = self.regs & 0xf0 | dst.number();
    }

    /// Replaces the source register.
    pub const fn set_src(&mut self, src: Reg) {
        self.regs = self.regs & 0x0f | src.number() << 4;
    }

    /// Replaces the source field by the low four bits of a number, such as one of [`pseudo`].
    pub const fn set_src_raw(&mut self, src: u8) {
        self.set_src(Reg::from_low_bits(src));
    }

    /// The class, one of the `CLASS_` constants of [`opcode`].
    pub const fn class(&self) -> u8 {
        self.opcode & opcode::CLASS_MASK
    }

    /// Whether this is the first slot of a 64-bit immediate load.
    pub const fn is_ld_imm64(&self) -> bool {
        self.opcode == opcode::LD_IMM64
    }

    /// Slots that an instruction starting here takes: 2 for a 64-bit immediate load, otherwise 1.
    pub const fn slots(&self) -> usize {
        if self.is_ld_imm64() { 2 } else { 1 }
    }

    /// Whether this is a direct call of any kind (not through a register).
    pub const fn is_call(&self) -> bool {
        self.opcode == opcode::CALL
    }

    /// Whether this calls a sub-program of the same program (`BPF_PSEUDO_CALL`).
    ///
    /// As in libbpf, the destination and offset fields must be zero: anything else is not touched by linking and is
    /// left for the kernel to reject.
    pub const fn is_pseudo_call(&self) -> bool {
        self.is_call() && self.src_raw() == pseudo::CALL && self.dst_raw() == 0 && self.off == 0
    }

    /// Whether this calls a kernel function by its BTF id (`BPF_PSEUDO_KFUNC_CALL`).
    pub const fn is_kfunc_call(&self) -> bool {
        self.is_call() && self.src_raw() == pseudo::KFUNC_CALL
    }

    /// Whether this calls a helper by its number, which is the immediate.
    pub const fn is_helper_call(&self) -> bool {
        self.is_call() && self.src_raw() == 0
    }

    /// Whether this is the first slot of a load of a sub-program's address (`BPF_PSEUDO_FUNC`).
    pub const fn is_pseudo_func(&self) -> bool {
        self.is_ld_imm64() && self.src_raw() == pseudo::FUNC
    }

    /// Whether this ends a function.
    pub const fn is_exit(&self) -> bool {
        self.opcode == opcode::EXIT
    }

    /// The slot that this instruction may jump to when it stands at slot `index`: every conditional and
    /// unconditional jump with a distance in it, `gotol` and `may_goto` included.
    ///
    /// `None` for calls, exits, jumps through a register, and everything that is no jump. The target may lie outside
    /// of the program.
    pub const fn jump_target(&self, index: usize) -> Option<i64> {
        let class = self.class();
        if class != opcode::CLASS_JMP && class != opcode::CLASS_JMP32 {
            return None;
        }
        let distance = match self.opcode & opcode::OP_MASK {
            opcode::JMP_CALL | opcode::JMP_EXIT | 0xf0 => return None,
            opcode::JMP_JA => match self.opcode {
                opcode::JA => self.off as i64,
                opcode::GOTOL => self.imm as i64,
                _ => return None,
            },
            opcode::JMP_JCOND if self.opcode != opcode::MAY_GOTO => return None,
            _ => self.off as i64,
        };
        Some((index as i64).wrapping_add(1).wrapping_add(distance))
    }

    /// The slot of the sub-program that a pseudo call or the load of a sub-program's address refers to when it
    /// stands at slot `index`; `None` for everything else.
    pub const fn func_target(&self, index: usize) -> Option<i64> {
        if self.is_pseudo_call() || self.is_pseudo_func() {
            Some((index as i64).wrapping_add(1).wrapping_add(self.imm as i64))
        } else {
            None
        }
    }

    /// The 64-bit immediate held by the two slots of a 64-bit immediate load.
    pub const fn imm64(lo: &Insn, hi: &Insn) -> u64 {
        lo.imm as u32 as u64 | (hi.imm as u32 as u64) << 32
    }

    /// Replaces the 64-bit immediate held by the two slots of a 64-bit immediate load, and nothing else of them.
    pub const fn set_imm64(lo: &mut Insn, hi: &mut Insn, value: u64) {
        lo.imm = value as u32 as i32;
        hi.imm = (value >> 32) as u32 as i32;
    }

    /// The slot as bytes.
    pub const fn to_bytes(&self, endian: Endian) -> [u8; Insn::SIZE] {
        let (regs, off, imm) = match endian {
            Endian::Little => (self.regs, self.off.to_le_bytes(), self.imm.to_le_bytes()),
            Endian::Big => (self.regs.rotate_left(4), self.off.to_be_bytes(), self.imm.to_be_bytes()),
        };
        [self.opcode, regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3]] // fixed-size arrays
    }

    /// The slot that these bytes are.
    pub const fn from_bytes(endian: Endian, bytes: [u8; Insn::SIZE]) -> Insn {
        let [opcode, regs, o0, o1, i0, i1, i2, i3] = bytes;
        match endian {
            Endian::Little => Insn {
                opcode,
                regs,
                off: i16::from_le_bytes([o0, o1]),
                imm: i32::from_le_bytes([i0, i1, i2, i3]),
            },
            Endian::Big => Insn {
                opcode,
                regs: regs.rotate_left(4),
                off: i16::from_be_bytes([o0, o1]),
                imm: i32::from_be_bytes([i0, i1, i2, i3]),
            },
        }
    }
}

impl fmt::Debug for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Insn({:#04x} dst={} src={} off={} imm={:#x})",
            self.opcode,
            self.dst_raw(),
            self.src_raw(),
            self.off,
            self.imm
        )
    }
}

/// Splits bytes into instruction slots.
///
/// ```
/// use skep_asm::{Endian, decode, encode};
///
/// let bytes = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// let insns = decode(&bytes, Endian::Little)?;
/// assert_eq!(insns.len(), 2);
/// assert_eq!(insns[0].imm, 1);
/// assert_eq!(encode(&insns, Endian::Little), bytes);
/// # Ok::<(), skep_asm::DecodeError>(())
/// ```
///
/// # Errors
/// [`DecodeError::Length`] when the length is not a multiple of 8. Nothing else about the bytes is checked.
pub fn decode(bytes: &[u8], endian: Endian) -> Result<Vec<Insn>, DecodeError> {
    let (slots, rest) = bytes.as_chunks::<{ Insn::SIZE }>();
    if !rest.is_empty() {
        return Err(DecodeError::Length { len: bytes.len() });
    }
    Ok(slots.iter().map(|&slot| Insn::from_bytes(endian, slot)).collect())
}

/// The bytes of these slots, 8 for each; the reverse of [`decode`].
pub fn encode(insns: &[Insn], endian: Endian) -> Vec<u8> {
    insns.iter().flat_map(|insn| insn.to_bytes(endian)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_both_orders() {
        let insn = Insn::new(0x7b, Reg::R10, Reg::R1, -8, 0x0102_0304);
        assert_eq!(insn.to_bytes(Endian::Little), [0x7b, 0x1a, 0xf8, 0xff, 4, 3, 2, 1]);
        assert_eq!(insn.to_bytes(Endian::Big), [0x7b, 0xa1, 0xff, 0xf8, 1, 2, 3, 4]);
        for endian in [Endian::Little, Endian::Big] {
            assert_eq!(Insn::from_bytes(endian, insn.to_bytes(endian)), insn);
        }
    }

    #[test]
    fn any_bytes_round_trip() {
        let bytes: Vec<u8> = (0..8 * 4096u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
        for endian in [Endian::Little, Endian::Big] {
            assert_eq!(encode(&decode(&bytes, endian).unwrap(), endian), bytes);
        }
    }

    #[test]
    fn length_is_checked() {
        assert_eq!(decode(&[], Endian::Little), Ok(Vec::new()));
        for len in [1, 7, 9, 15] {
            assert_eq!(decode(&vec![0; len], Endian::Big), Err(DecodeError::Length { len }));
        }
    }

    #[test]
    fn registers_are_independent() {
        let mut insn = Insn::new(0, Reg::R3, Reg::R4, 0, 0);
        insn.set_dst(Reg::new(15).unwrap());
        assert_eq!((insn.dst_raw(), insn.src()), (15, Reg::R4));
        insn.set_src(Reg::R9);
        assert_eq!((insn.dst_raw(), insn.src()), (15, Reg::R9));
        insn.set_src_raw(pseudo::FUNC);
        assert_eq!(insn.src_raw(), 4);
        assert_eq!(Reg::new(16), None);
    }

    #[test]
    fn calls_are_told_apart() {
        let call = |dst, src, off| Insn::new(opcode::CALL, dst, src, off, -1);
        assert!(call(Reg::R0, Reg::R0, 0).is_helper_call());
        assert!(call(Reg::R0, Reg::R1, 0).is_pseudo_call());
        assert!(!call(Reg::R1, Reg::R1, 0).is_pseudo_call());
        assert!(!call(Reg::R0, Reg::R1, 3).is_pseudo_call());
        assert!(call(Reg::R0, Reg::R2, 3).is_kfunc_call());
        assert!(!Insn::new(opcode::CALLX, Reg::R1, Reg::R1, 0, 0).is_call());
        assert_eq!(call(Reg::R0, Reg::R1, 0).func_target(7), Some(7));
        assert_eq!(call(Reg::R0, Reg::R0, 0).func_target(7), None);
    }

    #[test]
    fn jump_targets() {
        let target = |opcode| Insn::new(opcode, Reg::R1, Reg::R0, -3, 70_000).jump_target(10);
        assert_eq!(target(opcode::JA), Some(8));
        assert_eq!(target(opcode::GOTOL), Some(70_011));
        assert_eq!(target(opcode::MAY_GOTO), Some(8));
        assert_eq!(target(opcode::CLASS_JMP | opcode::JMP_JEQ), Some(8));
        assert_eq!(target(opcode::CLASS_JMP32 | opcode::JMP_JSLE | opcode::SRC_X), Some(8));
        for opcode in [opcode::CALL, opcode::CALLX, opcode::EXIT, opcode::GOTOX, 0xb7, 0xf5, opcode::LD_IMM64]
        {
            assert_eq!(target(opcode), None, "{opcode:#x}");
        }
    }

    #[test]
    fn imm64_is_split() {
        let mut lo = Insn::new(opcode::LD_IMM64, Reg::R1, Reg::R0, 0, 0);
        let mut hi = Insn::default();
        Insn::set_imm64(&mut lo, &mut hi, 0xfedc_ba98_8765_4321);
        assert_eq!((lo.imm as u32, hi.imm as u32), (0x8765_4321, 0xfedc_ba98));
        assert_eq!(Insn::imm64(&lo, &hi), 0xfedc_ba98_8765_4321);
        assert_eq!((lo.slots(), hi.slots()), (2, 1));
    }
}

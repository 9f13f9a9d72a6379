//! The typed view of an instruction.

use crate::{Endian, Insn, Reg};

mod decode;
mod display;
mod encode;
mod kinds;
#[cfg(test)]
mod tests;

pub use encode::Slots;
pub use kinds::{AluOp, AtomicOp, Cond, Imm64, Operand, Size, SwapWidth, Width};

/// A decoded instruction: what it does, with every field that matters and none that does not.
///
/// [`Op::decode`] accepts exactly the encodings that RFC 9669 and the kernel's later additions define, with unused
/// fields zero; [`Op::encode`] gives the same slots back.
///
/// `Display` prints it as `llvm-objdump --mcpu=v4` does, without the symbol behind a jump. What llvm leaves out is shown
/// where there is something to show: the second immediate of a 64-bit load of a map value or kernel variable, and the
/// constant added to the register of an indirect packet load.
///
/// Distances (`off` of jumps, `distance` of calls) count slots from the next instruction.
///
/// ```
/// use skep_asm::{Cond, Insn, Op, Operand, Reg, Width};
///
/// let insns = [Insn::new(0x65, Reg::R1, Reg::R0, 3, 2)];
/// let (op, slots) = Op::decode(&insns, 0)?;
/// assert_eq!(slots, 1);
/// assert_eq!(op, Op::JumpIf { width: Width::W64, cond: Cond::Sgt, dst: Reg::R1, src: Operand::Imm(2), off: 3 });
/// assert_eq!(op.to_string(), "if r1 s> 0x2 goto +0x3");
/// assert_eq!(*op.encode(), insns);
/// # Ok::<(), skep_asm::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// `dst = dst op src`.
    Alu {
        /// Half or whole registers. The 32-bit form clears the upper half of `dst`.
        width: Width,
        /// The operation.
        op: AluOp,
        /// Destination and left operand.
        dst: Reg,
        /// Right operand; an immediate is extended by its sign.
        src: Operand,
    },
    /// `dst = src`.
    Mov {
        /// Half or whole registers. The 32-bit form clears the upper half of `dst`.
        width: Width,
        /// Destination.
        dst: Reg,
        /// Source; an immediate is extended by its sign.
        src: Operand,
    },
    /// `dst = (s8|s16|s32)src`: a move that extends the sign (ISA v4).
    MovSx {
        /// Half or whole destination.
        width: Width,
        /// How much of the source counts: [`Size::B`], [`Size::H`], or, for [`Width::W64`], [`Size::W`].
        from: Size,
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
    },
    /// `dst = -dst`.
    Neg {
        /// Half or whole register.
        width: Width,
        /// The register.
        dst: Reg,
    },
    /// `dst = le16 dst`, `dst = be32 dst` and so on: converts between the machine's order and `order`, and cuts to
    /// the width.
    ToEndian {
        /// The order to convert to (or from, which is the same).
        order: Endian,
        /// How many low bits are converted.
        bits: SwapWidth,
        /// The register.
        dst: Reg,
    },
    /// `dst = bswap16 dst` and so on: swaps bytes on any machine (ISA v4).
    Bswap {
        /// How many low bits are swapped.
        bits: SwapWidth,
        /// The register.
        dst: Reg,
    },
    /// `dst = addr_space_cast(src, to, from)`: converts a pointer between arena address spaces (Linux 6.9).
    AddrSpaceCast {
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Address space to convert to.
        to: u16,
        /// Address space to convert from.
        from: u16,
    },
    /// `dst = imm ll`: loads 64 bits, in two slots.
    LdImm64 {
        /// Destination.
        dst: Reg,
        /// What is loaded.
        imm: Imm64,
    },
    /// `r0 = *(size *)skb[off]`: packet load in network order, of classic BPF.
    LoadAbs {
        /// [`Size::B`], [`Size::H`] or [`Size::W`].
        size: Size,
        /// Position in the packet.
        off: i32,
    },
    /// `r0 = *(size *)skb[index + off]`: packet load in network order, of classic BPF.
    LoadInd {
        /// [`Size::B`], [`Size::H`] or [`Size::W`].
        size: Size,
        /// Holds the position in the packet.
        index: Reg,
        /// Added to the position.
        off: i32,
    },
    /// `dst = *(size *)(base + off)`, filling with zeros.
    Load {
        /// Bytes that are read.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
    },
    /// `dst = *(signed size *)(base + off)`, extending the sign to 64 bits (ISA v4).
    LoadSx {
        /// [`Size::B`], [`Size::H`] or [`Size::W`].
        size: Size,
        /// Destination.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
    },
    /// `*(size *)(base + off) = src`.
    Store {
        /// Bytes that are written.
        size: Size,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
        /// What is written; an immediate is extended by its sign.
        src: Operand,
    },
    /// An atomic read-modify-write of `*(size *)(base + off)`.
    Atomic {
        /// The operation.
        op: AtomicOp,
        /// [`Size::W`] or [`Size::DW`].
        size: Size,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
        /// The operand; receives the old value in fetching forms, except that [`AtomicOp::CmpXchg`] puts it in `r0`.
        src: Reg,
    },
    /// `dst = load_acquire((size *)(base + off))` (Linux 6.15).
    LoadAcquire {
        /// Bytes that are read.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
    },
    /// `store_release((size *)(base + off), src)` (Linux 6.15).
    StoreRelease {
        /// Bytes that are written.
        size: Size,
        /// Address.
        base: Reg,
        /// Added to the address.
        off: i16,
        /// What is written.
        src: Reg,
    },
    /// `goto off`.
    Jump {
        /// Distance.
        off: i16,
    },
    /// `gotol distance`: a jump as far as 32 bits reach (ISA v4).
    JumpLong {
        /// Distance.
        distance: i32,
    },
    /// `gotox target`: a jump to an address loaded from a jump table (Linux 6.19).
    JumpReg {
        /// Holds the address.
        target: Reg,
    },
    /// `if dst cond src goto off`.
    JumpIf {
        /// Whether half or whole registers are compared (`BPF_JMP32` or `BPF_JMP`).
        width: Width,
        /// The comparison.
        cond: Cond,
        /// Left operand.
        dst: Reg,
        /// Right operand; an immediate is extended by its sign.
        src: Operand,
        /// Distance.
        off: i16,
    },
    /// `may_goto off`: jumps once the program has looped long enough (Linux 6.9).
    MayGoto {
        /// Distance.
        off: i16,
    },
    /// `call id`: calls a helper.
    CallHelper {
        /// The helper's number (`BPF_FUNC_*`).
        id: i32,
    },
    /// `call distance`: calls a sub-program (`BPF_PSEUDO_CALL`).
    CallFunc {
        /// Distance to its first slot.
        distance: i32,
    },
    /// `call btf_id`: calls a kernel function (`BPF_PSEUDO_KFUNC_CALL`).
    CallKfunc {
        /// BTF id of the function.
        btf_id: i32,
        /// Index of its module's BTF in the program's `fd_array`, 0 for vmlinux.
        fd_index: i16,
    },
    /// `callx target`: calls through a register. Compilers emit it, the kernel rejects it.
    CallReg {
        /// Holds the address.
        target: Reg,
    },
    /// `exit`: returns `r0`.
    Exit,
}

impl Op {
    /// Slots that it takes: 2 for [`Op::LdImm64`], otherwise 1.
    pub const fn slots(&self) -> usize {
        match self {
            Op::LdImm64 { .. } => 2,
            _ => 1,
        }
    }
}

impl TryFrom<Insn> for Op {
    type Error = crate::DecodeError;

    /// Decodes an instruction of a single slot; a 64-bit immediate load is reported as truncated.
    fn try_from(insn: Insn) -> Result<Op, Self::Error> {
        Op::decode(&[insn], 0).map(|(op, _)| op)
    }
}

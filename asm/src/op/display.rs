//! Printing as `llvm-objdump` does.

use std::fmt;

use super::{AtomicOp, Imm64, Op, Operand, Size, Width};
use crate::{Endian, Reg, pseudo};

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Alu { width, op, dst, src } => {
                write!(f, "{} {} {}", Half(width, dst), op.symbol(), Right(width, src))
            }
            Op::Mov { width, dst, src } => write!(f, "{} = {}", Half(width, dst), Right(width, src)),
            Op::MovSx { width, from, dst, src } => {
                write!(f, "{} = (s{}){}", Half(width, dst), from.bits(), Half(width, src))
            }
            Op::Neg { width, dst } => write!(f, "{0} = -{0}", Half(width, dst)),
            Op::ToEndian { order, bits, dst } => {
                let order = match order {
                    Endian::Little => "le",
                    Endian::Big => "be",
                };
                write!(f, "{dst} = {order}{} {dst}", bits.bits())
            }
            Op::Bswap { bits, dst } => write!(f, "{dst} = bswap{} {dst}", bits.bits()),
            Op::AddrSpaceCast { dst, src, to, from } => {
                write!(f, "{dst} = addr_space_cast({src}, {to:#x}, {from:#x})")
            }
            Op::LdImm64 { dst, imm } => ld_imm64(f, dst, imm),
            Op::LoadAbs { size, off } => write!(f, "r0 = *(u{} *)skb[{}]", size.bits(), Hex(off.into())),
            Op::LoadInd { size, index, off: 0 } => write!(f, "r0 = *(u{} *)skb[{index}]", size.bits()),
            Op::LoadInd { size, index, off } => {
                write!(f, "r0 = *(u{} *)skb[{index} {}]", size.bits(), Plus(off))
            }
            Op::Load { size, dst, base, off } => {
                write!(f, "{} = *(u{} *){}", Moved(size, dst), size.bits(), At(base, off))
            }
            Op::LoadSx { size, dst, base, off } => {
                write!(f, "{dst} = *(s{} *){}", size.bits(), At(base, off))
            }
            Op::Store { size, base, off, src } => {
                let width = if size == Size::DW { Width::W64 } else { Width::W32 };
                write!(f, "*(u{} *){} = {}", size.bits(), At(base, off), Right(width, src))
            }
            Op::Atomic { op, size, base, off, src } => atomic(f, op, size, At(base, off), src),
            Op::LoadAcquire { size, dst, base, off } => {
                write!(f, "{} = load_acquire((u{} *){})", Moved(size, dst), size.bits(), At(base, off))
            }
            Op::StoreRelease { size, base, off, src } => {
                write!(f, "store_release((u{} *){}, {})", size.bits(), At(base, off), Moved(size, src))
            }
            Op::Jump { off } => write!(f, "goto {}", Distance(off.into())),
            Op::JumpLong { distance } => write!(f, "gotol {}", Distance(distance)),
            Op::JumpReg { target } => write!(f, "gotox {target}"),
            Op::JumpIf { width, cond, dst, src, off } => {
                let (dst, src) = (Half(width, dst), Right(width, src));
                write!(f, "if {dst} {} {src} goto {}", cond.symbol(), Distance(off.into()))
            }
            Op::MayGoto { off } => write!(f, "may_goto {}", Distance(off.into())),
            Op::CallHelper { id: imm }
            | Op::CallFunc { distance: imm }
            | Op::CallKfunc { btf_id: imm, .. } => {
                write!(f, "call {}", Hex(imm.into()))
            }
            Op::CallReg { target } => write!(f, "callx {target}"),
            Op::Exit => f.write_str("exit"),
        }
    }
}

fn ld_imm64(f: &mut fmt::Formatter<'_>, dst: Reg, imm: Imm64) -> fmt::Result {
    let (kind, lo, hi) = match imm {
        Imm64::Value(value) => return write!(f, "{dst} = {} ll", Hex(value as i64)),
        Imm64::MapFd(fd) => (pseudo::MAP_FD, fd, 0),
        Imm64::MapValue { fd, off } => (pseudo::MAP_VALUE, fd, off),
        Imm64::BtfId { btf_id, btf_fd } => (pseudo::BTF_ID, btf_id, btf_fd),
        Imm64::Func { distance } => (pseudo::FUNC, distance, 0),
        Imm64::MapIdx(index) => (pseudo::MAP_IDX, index, 0),
        Imm64::MapIdxValue { index, off } => (pseudo::MAP_IDX_VALUE, index, off),
    };
    write!(f, "ld_pseudo {dst}, {kind:#x}, {lo:#x}")?;
    // llvm drops the upper half; it is shown when there is something in it
    if hi == 0 { Ok(()) } else { write!(f, ", {hi:#x}") }
}

fn atomic(f: &mut fmt::Formatter<'_>, op: AtomicOp, size: Size, at: At, src: Reg) -> fmt::Result {
    let (src, r0, bits) = (Moved(size, src), Moved(size, Reg::R0), size.bits());
    let (exchange, call) = match op {
        AtomicOp::Add => return write!(f, "lock *(u{bits} *){at} += {src}"),
        AtomicOp::Or => return write!(f, "lock *(u{bits} *){at} |= {src}"),
        AtomicOp::And => return write!(f, "lock *(u{bits} *){at} &= {src}"),
        AtomicOp::Xor => return write!(f, "lock *(u{bits} *){at} ^= {src}"),
        AtomicOp::FetchAdd => (false, "add"),
        AtomicOp::FetchOr => (false, "or"),
        AtomicOp::FetchAnd => (false, "and"),
        AtomicOp::FetchXor => (false, "xor"),
        AtomicOp::Xchg => (true, "xchg"),
        AtomicOp::CmpXchg => (true, "cmpxchg"),
    };
    if !exchange {
        return write!(f, "{src} = atomic_fetch_{call}((u{bits} *){at}, {src})");
    }
    // llvm spells the access size into the name and leaves the parentheses around the address out
    let name = if size == Size::W { "32_32" } else { "_64" };
    let At(base, off) = at;
    write!(
        f,
        "{} = {call}{name}({base} {}, ",
        if op == AtomicOp::CmpXchg { r0 } else { src },
        Plus(off.into())
    )?;
    if op == AtomicOp::CmpXchg {
        write!(f, "{r0}, ")?;
    }
    write!(f, "{src})")
}

/// A register, as `w` or `r`.
#[derive(Clone, Copy)]
struct Half(Width, Reg);

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.0 == Width::W32 { 'w' } else { 'r' };
        write!(f, "{letter}{}", self.1.number())
    }
}

/// A register moved to or from memory: whole only when all 8 bytes are.
#[derive(Clone, Copy)]
struct Moved(Size, Reg);

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.0 == Size::DW { Width::W64 } else { Width::W32 };
        Half(width, self.1).fmt(f)
    }
}

/// A right operand.
struct Right(Width, Operand);

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Half(self.0, reg).fmt(f),
            Operand::Imm(imm) => Hex(imm.into()).fmt(f),
        }
    }
}

/// Signed hexadecimal with the sign in front.
struct Hex(i64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// A distance in slots: the sign is always there.
struct Distance(i32);

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// Something added to what stands before it: `+ 0x8`, `- 0x8`.
struct Plus(i32);

impl fmt::Display for Plus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign} {:#x}", self.0.unsigned_abs())
    }
}

/// A memory operand.
#[derive(Clone, Copy)]
struct At(Reg, i16);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {})", self.0, Plus(self.1.into()))
    }
}

//! The sets of variants that instructions are made of.

use crate::{Reg, opcode};

/// Whether an operation works on half or whole registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// The lower half, `w0` to `w10`.
    W32,
    /// The whole register, `r0` to `r10`.
    W64,
}

/// Bytes that a memory access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// 1 byte (`BPF_B`).
    B,
    /// 2 bytes (`BPF_H`).
    H,
    /// 4 bytes (`BPF_W`).
    W,
    /// 8 bytes (`BPF_DW`).
    DW,
}

impl Size {
    /// The size in bytes.
    pub const fn bytes(self) -> u8 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::DW => 8,
        }
    }

    /// The size in bits.
    pub const fn bits(self) -> u8 {
        self.bytes() * 8
    }

    /// The size of this many bytes, when there is one.
    pub const fn from_bytes(bytes: u32) -> Option<Size> {
        match bytes {
            1 => Some(Size::B),
            2 => Some(Size::H),
            4 => Some(Size::W),
            8 => Some(Size::DW),
            _ => None,
        }
    }

    /// The size bits of a load or store opcode, one of the `SIZE_` constants of [`opcode`].
    pub const fn code(self) -> u8 {
        match self {
            Size::B => opcode::SIZE_B,
            Size::H => opcode::SIZE_H,
            Size::W => opcode::SIZE_W,
            Size::DW => opcode::SIZE_DW,
        }
    }

    /// The size that a load or store opcode has in it.
    pub const fn from_code(opcode: u8) -> Size {
        match opcode & opcode::SIZE_MASK {
            opcode::SIZE_B => Size::B,
            opcode::SIZE_H => Size::H,
            opcode::SIZE_W => Size::W,
            _ => Size::DW,
        }
    }
}

/// Bits that a byte swap covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapWidth {
    /// 16 bits.
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
}

impl SwapWidth {
    /// The number of bits, which is also the instruction's immediate.
    pub const fn bits(self) -> u8 {
        match self {
            SwapWidth::B16 => 16,
            SwapWidth::B32 => 32,
            SwapWidth::B64 => 64,
        }
    }
}

/// The right operand of arithmetic, comparisons and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register (`BPF_X`).
    Reg(Reg),
    /// A constant, extended by its sign where 64 bits are needed (`BPF_K`).
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Operand {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Operand {
        Operand::Imm(imm)
    }
}

/// Arithmetic of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AluOp {
    /// `+=` (`BPF_ADD`).
    Add,
    /// `-=` (`BPF_SUB`).
    Sub,
    /// `*=` (`BPF_MUL`).
    Mul,
    /// `/=`, unsigned; 0 when the divisor is 0 (`BPF_DIV`).
    Div,
    /// `s/=`, signed (`BPF_DIV` with offset 1, ISA v4).
    Sdiv,
    /// `|=` (`BPF_OR`).
    Or,
    /// `&=` (`BPF_AND`).
    And,
    /// `<<=` (`BPF_LSH`).
    Lsh,
    /// `>>=`, filling with zeros (`BPF_RSH`).
    Rsh,
    /// `%=`, unsigned; unchanged when the divisor is 0 (`BPF_MOD`).
    Mod,
    /// `s%=`, signed (`BPF_MOD` with offset 1, ISA v4).
    Smod,
    /// `^=` (`BPF_XOR`).
    Xor,
    /// `s>>=`, filling with the sign (`BPF_ARSH`).
    Arsh,
}

impl AluOp {
    /// The operation bits of the opcode, and the offset that tells signed division apart.
    pub(crate) const fn code(self) -> (u8, i16) {
        match self {
            AluOp::Add => (opcode::ALU_ADD, 0),
            AluOp::Sub => (opcode::ALU_SUB, 0),
            AluOp::Mul => (opcode::ALU_MUL, 0),
            AluOp::Div => (opcode::ALU_DIV, 0),
            AluOp::Sdiv => (opcode::ALU_DIV, 1),
            AluOp::Or => (opcode::ALU_OR, 0),
            AluOp::And => (opcode::ALU_AND, 0),
            AluOp::Lsh => (opcode::ALU_LSH, 0),
            AluOp::Rsh => (opcode::ALU_RSH, 0),
            AluOp::Mod => (opcode::ALU_MOD, 0),
            AluOp::Smod => (opcode::ALU_MOD, 1),
            AluOp::Xor => (opcode::ALU_XOR, 0),
            AluOp::Arsh => (opcode::ALU_ARSH, 0),
        }
    }

    /// The operator as the disassembly prints it, such as `s>>=`.
    pub const fn symbol(self) -> &'static str {
        match self {
            AluOp::Add => "+=",
            AluOp::Sub => "-=",
            AluOp::Mul => "*=",
            AluOp::Div => "/=",
            AluOp::Sdiv => "s/=",
            AluOp::Or => "|=",
            AluOp::And => "&=",
            AluOp::Lsh => "<<=",
            AluOp::Rsh => ">>=",
            AluOp::Mod => "%=",
            AluOp::Smod => "s%=",
            AluOp::Xor => "^=",
            AluOp::Arsh => "s>>=",
        }
    }
}

/// The comparison of a conditional jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cond {
    /// `==` (`BPF_JEQ`).
    Eq,
    /// `!=` (`BPF_JNE`).
    Ne,
    /// `>`, unsigned (`BPF_JGT`).
    Gt,
    /// `>=`, unsigned (`BPF_JGE`).
    Ge,
    /// `<`, unsigned (`BPF_JLT`).
    Lt,
    /// `<=`, unsigned (`BPF_JLE`).
    Le,
    /// `s>`, signed (`BPF_JSGT`).
    Sgt,
    /// `s>=`, signed (`BPF_JSGE`).
    Sge,
    /// `s<`, signed (`BPF_JSLT`).
    Slt,
    /// `s<=`, signed (`BPF_JSLE`).
    Sle,
    /// `&`: any bit in common (`BPF_JSET`).
    Set,
}

impl Cond {
    /// The operation bits of the opcode, one of the `JMP_` constants of [`opcode`].
    pub const fn code(self) -> u8 {
        match self {
            Cond::Eq => opcode::JMP_JEQ,
            Cond::Ne => opcode::JMP_JNE,
            Cond::Gt => opcode::JMP_JGT,
            Cond::Ge => opcode::JMP_JGE,
            Cond::Lt => opcode::JMP_JLT,
            Cond::Le => opcode::JMP_JLE,
            Cond::Sgt => opcode::JMP_JSGT,
            Cond::Sge => opcode::JMP_JSGE,
            Cond::Slt => opcode::JMP_JSLT,
            Cond::Sle => opcode::JMP_JSLE,
            Cond::Set => opcode::JMP_JSET,
        }
    }

    /// The comparison that a jump opcode has in it.
    pub const fn from_code(opcode: u8) -> Option<Cond> {
        Some(match opcode & opcode::OP_MASK {
            opcode::JMP_JEQ => Cond::Eq,
            opcode::JMP_JNE => Cond::Ne,
            opcode::JMP_JGT => Cond::Gt,
            opcode::JMP_JGE => Cond::Ge,
            opcode::JMP_JLT => Cond::Lt,
            opcode::JMP_JLE => Cond::Le,
            opcode::JMP_JSGT => Cond::Sgt,
            opcode::JMP_JSGE => Cond::Sge,
            opcode::JMP_JSLT => Cond::Slt,
            opcode::JMP_JSLE => Cond::Sle,
            opcode::JMP_JSET => Cond::Set,
            _ => return None,
        })
    }

    /// The operator as the disassembly prints it, such as `s>=`.
    pub const fn symbol(self) -> &'static str {
        match self {
            Cond::Eq => "==",
            Cond::Ne => "!=",
            Cond::Gt => ">",
            Cond::Ge => ">=",
            Cond::Lt => "<",
            Cond::Le => "<=",
            Cond::Sgt => "s>",
            Cond::Sge => "s>=",
            Cond::Slt => "s<",
            Cond::Sle => "s<=",
            Cond::Set => "&",
        }
    }
}

/// An atomic read-modify-write. Fetching forms (Linux 5.12) put the old value in the source register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtomicOp {
    /// `lock … += src`.
    Add,
    /// `lock … |= src`.
    Or,
    /// `lock … &= src`.
    And,
    /// `lock … ^= src`.
    Xor,
    /// `src = atomic_fetch_add(…, src)`.
    FetchAdd,
    /// `src = atomic_fetch_or(…, src)`.
    FetchOr,
    /// `src = atomic_fetch_and(…, src)`.
    FetchAnd,
    /// `src = atomic_fetch_xor(…, src)`.
    FetchXor,
    /// `src = xchg(…, src)`.
    Xchg,
    /// `r0 = cmpxchg(…, r0, src)`: writes `src` when memory equals `r0`; the old value goes to `r0`.
    CmpXchg,
}

impl AtomicOp {
    /// The instruction's immediate, made of the `ATOMIC_` constants of [`opcode`].
    pub const fn code(self) -> i32 {
        match self {
            AtomicOp::Add => opcode::ATOMIC_ADD,
            AtomicOp::Or => opcode::ATOMIC_OR,
            AtomicOp::And => opcode::ATOMIC_AND,
            AtomicOp::Xor => opcode::ATOMIC_XOR,
            AtomicOp::FetchAdd => opcode::ATOMIC_ADD | opcode::ATOMIC_FETCH,
            AtomicOp::FetchOr => opcode::ATOMIC_OR | opcode::ATOMIC_FETCH,
            AtomicOp::FetchAnd => opcode::ATOMIC_AND | opcode::ATOMIC_FETCH,
            AtomicOp::FetchXor => opcode::ATOMIC_XOR | opcode::ATOMIC_FETCH,
            AtomicOp::Xchg => opcode::ATOMIC_XCHG,
            AtomicOp::CmpXchg => opcode::ATOMIC_CMPXCHG,
        }
    }

    /// The read-modify-write that this immediate stands for. Load-acquire and store-release are not among them.
    pub const fn from_code(imm: i32) -> Option<AtomicOp> {
        const FETCH: i32 = opcode::ATOMIC_FETCH;
        const FETCH_OR: i32 = opcode::ATOMIC_OR | FETCH;
        const FETCH_AND: i32 = opcode::ATOMIC_AND | FETCH;
        const FETCH_XOR: i32 = opcode::ATOMIC_XOR | FETCH;
        Some(match imm {
            opcode::ATOMIC_ADD => AtomicOp::Add,
            opcode::ATOMIC_OR => AtomicOp::Or,
            opcode::ATOMIC_AND => AtomicOp::And,
            opcode::ATOMIC_XOR => AtomicOp::Xor,
            FETCH => AtomicOp::FetchAdd,
            FETCH_OR => AtomicOp::FetchOr,
            FETCH_AND => AtomicOp::FetchAnd,
            FETCH_XOR => AtomicOp::FetchXor,
            opcode::ATOMIC_XCHG => AtomicOp::Xchg,
            opcode::ATOMIC_CMPXCHG => AtomicOp::CmpXchg,
            _ => return None,
        })
    }
}

/// What a 64-bit immediate load loads. Every form but [`Imm64::Value`] is replaced by an address when the kernel
/// loads the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Imm64 {
    /// This number.
    Value(u64),
    /// A map (`BPF_PSEUDO_MAP_FD`).
    MapFd(i32),
    /// The address of a map's first value plus an offset (`BPF_PSEUDO_MAP_VALUE`).
    MapValue {
        /// The map's file descriptor.
        fd: i32,
        /// Bytes into the value.
        off: i32,
    },
    /// A kernel variable (`BPF_PSEUDO_BTF_ID`).
    BtfId {
        /// BTF id of the variable.
        btf_id: i32,
        /// File descriptor of its module's BTF, 0 for vmlinux.
        btf_fd: i32,
    },
    /// A sub-program (`BPF_PSEUDO_FUNC`).
    Func {
        /// Slots from the one after this instruction's first to the sub-program's first.
        distance: i32,
    },
    /// A map named by its place in the program's `fd_array` (`BPF_PSEUDO_MAP_IDX`).
    MapIdx(i32),
    /// The address of a value of a map named by its place in the program's `fd_array` (`BPF_PSEUDO_MAP_IDX_VALUE`).
    MapIdxValue {
        /// Index in `fd_array`.
        index: i32,
        /// Bytes into the value.
        off: i32,
    },
}

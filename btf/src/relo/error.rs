//! What can go wrong with a relocation, and where.

use std::fmt;

use crate::{BtfError, CoreReloKind, Kind, TypeId};

/// Why a [`CandidateSource`](super::CandidateSource) has no BTF to look in.
pub type TargetError = Box<dyn std::error::Error + Send + Sync>;

/// A CO-RE relocation that cannot be decided, which makes the object unusable on that target.
///
/// A field or type that the target lacks is not one of these: see [`Outcome`](super::Outcome).
#[derive(Debug, thiserror::Error)]
#[error("CO-RE relocation {index} of instruction {insn}, {access}")]
#[non_exhaustive]
pub struct CoreError {
    /// Number of the relocation, as the caller counts.
    pub index: usize,
    /// Number of the instruction within its section.
    pub insn: u32,
    /// What the relocation asks for, as libbpf prints it.
    pub access: String,
    /// What is wrong.
    #[source]
    pub reason: CoreErrorKind,
}

/// Whose types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The object's.
    Local,
    /// The kernel's, or whatever the object is relocated for.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Local => "object",
            Side::Target => "target",
        })
    }
}

/// Why a relocation cannot be decided.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreErrorKind {
    /// A kind that this crate does not know.
    #[error("unknown relocation kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: CoreReloKind,
    },
    /// The instruction offset is not a multiple of 8.
    #[error("offset {insn_off} is not that of an instruction")]
    Unaligned {
        /// The offset in bytes.
        insn_off: u32,
    },
    /// BTF that is malformed.
    #[error("malformed BTF of the {side}")]
    Btf {
        /// Whose BTF.
        side: Side,
        /// What is wrong with it.
        source: BtfError,
    },
    /// The access string is not what its relocation kind needs.
    #[error("access string `{text}` {problem}")]
    BadAccess {
        /// The string.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An index of the access string leads nowhere.
    #[error("index {index} at position {position} of the access string {problem} ({kind} {id})")]
    BadIndex {
        /// Position within the access string, from 0.
        position: usize,
        /// The index.
        index: u32,
        /// The type that it indexes.
        id: TypeId,
        /// The kind of that type.
        kind: Kind,
        /// What is wrong.
        problem: &'static str,
    },
    /// The relocated type has no name, so nothing can be searched.
    #[error("{kind} {id} is anonymous and cannot be searched in the target")]
    Anonymous {
        /// The type.
        id: TypeId,
        /// Its kind.
        kind: Kind,
    },
    /// An array element has neither signedness nor shifts.
    #[error("{kind} cannot be asked of an array element")]
    ArrayElement {
        /// What was asked.
        kind: CoreReloKind,
    },
    /// No load of up to 8 bytes covers the bit field.
    #[error("bit field of {bits} bits at bit {bit_offset} of the {side} needs more than 8 bytes")]
    WideBitField {
        /// Whose field.
        side: Side,
        /// Its first bit.
        bit_offset: u32,
        /// Its width.
        bits: u32,
    },
    /// A field lies further from the start than an offset can say.
    #[error("offset of the field in the {side} does not fit in 32 bits")]
    OffsetOverflow {
        /// Whose field.
        side: Side,
    },
    /// Two candidates have the field at different places.
    #[error("ambiguous: the field is at bit {first_bit} of {first} and at bit {second_bit} of {second}")]
    AmbiguousOffset {
        /// The candidate that matched first.
        first: TypeId,
        /// Where its field is.
        first_bit: u32,
        /// A later candidate that also matches.
        second: TypeId,
        /// Where its field is.
        second_bit: u32,
    },
    /// Two candidates give different answers.
    #[error("ambiguous: {first} gives {first_value} and {second} gives {second_value}")]
    AmbiguousValue {
        /// The candidate that matched first.
        first: TypeId,
        /// Its answer.
        first_value: u64,
        /// A later candidate that also matches.
        second: TypeId,
        /// Its answer.
        second_value: u64,
    },
    /// Types nest deeper than is followed.
    #[error("types nest deeper than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The relocation, or all of the object together, need more work than any real one.
    #[error("comparing types takes more than {limit} steps")]
    TooMuchWork {
        /// The limit for one relocation.
        limit: u64,
    },
    /// There is nothing to relocate for.
    #[error("no target BTF")]
    NoTarget {
        /// Why there is none.
        source: TargetError,
    },
}

/// Why a decision cannot be written into an instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// There is no such instruction.
    #[error("no instruction {insn}: there are {len}")]
    NoInsn {
        /// Number of the instruction.
        insn: usize,
        /// How many there are.
        len: usize,
    },
    /// The instruction is none that holds a relocatable value.
    #[error("instruction {insn} (opcode {opcode:#04x}) holds nothing to relocate")]
    NotRelocatable {
        /// Number of the instruction.
        insn: usize,
        /// Its opcode.
        opcode: u8,
    },
    /// The instruction takes its operand from a register.
    #[error("instruction {insn} takes its operand from a register")]
    RegisterOperand {
        /// Number of the instruction.
        insn: usize,
    },
    /// A 64-bit load that is cut off or is more than a plain number.
    #[error("instruction {insn} is not a load of a plain 64-bit number")]
    WideLoad {
        /// Number of the instruction.
        insn: usize,
    },
    /// The instruction does not hold what the relocation says that the compiler put there.
    #[error("instruction {insn} holds {found}, but the compiler should have left {expected} there")]
    Unexpected {
        /// Number of the instruction.
        insn: usize,
        /// What it holds.
        found: i64,
        /// What it should hold.
        expected: u64,
    },
    /// The offset does not fit in the instruction.
    #[error("offset {value} does not fit in instruction {insn}")]
    OutOfRange {
        /// Number of the instruction.
        insn: usize,
        /// The offset.
        value: u64,
    },
    /// The instruction does not access as many bytes as its field has.
    #[error("instruction {insn} accesses {found} bytes of a field of {expected}")]
    AccessSize {
        /// Number of the instruction.
        insn: usize,
        /// Bytes that it accesses.
        found: u32,
        /// Size of the object's field.
        expected: u32,
    },
    /// The target's field has a size that no instruction accesses.
    #[error("instruction {insn} cannot access a field of {size} bytes")]
    TargetSize {
        /// Number of the instruction.
        insn: usize,
        /// Size of the target's field.
        size: u32,
    },
}

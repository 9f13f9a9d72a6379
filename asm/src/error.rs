//! Errors.

use std::fmt;

use thiserror::Error;

/// A field of an instruction slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The opcode byte.
    Opcode,
    /// The destination register.
    Dst,
    /// The source register.
    Src,
    /// The 16-bit offset.
    Off,
    /// The 32-bit immediate.
    Imm,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Opcode => "opcode",
            Field::Dst => "destination register",
            Field::Src => "source register",
            Field::Off => "offset",
            Field::Imm => "immediate",
        })
    }
}

/// Why bytes are not a program, or slots not an instruction. Indexes count slots from the first of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The byte length is not a multiple of 8, the size of an instruction slot.
    #[error("{len} bytes of instructions are not a multiple of 8")]
    Length {
        /// The length in bytes.
        len: usize,
    },
    /// The index is beyond the last slot.
    #[error("instruction {index} does not exist, the program has {len}")]
    End {
        /// The slot asked for.
        index: usize,
        /// Slots in the program.
        len: usize,
    },
    /// The program ends after the first slot of a 64-bit immediate load.
    #[error("instruction {index} is a 64-bit immediate load and lacks its second slot")]
    Truncated {
        /// The first slot of the load.
        index: usize,
    },
    /// No instruction has this opcode. Opcode 0, the second slot of a 64-bit immediate load, is none by itself.
    #[error("instruction {index} has the unknown opcode {opcode:#04x}")]
    Opcode {
        /// The slot.
        index: usize,
        /// Its opcode byte.
        opcode: u8,
    },
    /// A field that this instruction does not use is not zero.
    #[error("instruction {index} (opcode {opcode:#04x}) has {value} in its unused {field}")]
    Reserved {
        /// The slot.
        index: usize,
        /// Its opcode byte; 0 for the second slot of a 64-bit immediate load.
        opcode: u8,
        /// The field that should be zero.
        field: Field,
        /// What it holds.
        value: i32,
    },
    /// A field that selects a variant of this instruction holds a number that stands for none.
    #[error("instruction {index} (opcode {opcode:#04x}) has no variant {value} ({field})")]
    Variant {
        /// The slot.
        index: usize,
        /// Its opcode byte.
        opcode: u8,
        /// The field that selects the variant.
        field: Field,
        /// What it holds.
        value: i32,
    },
    /// A register number above 10.
    #[error(
        "instruction {index} (opcode {opcode:#04x}) names register r{register} as {field}, the last one is r10"
    )]
    Register {
        /// The slot.
        index: usize,
        /// Its opcode byte.
        opcode: u8,
        /// Where the register is named.
        field: Field,
        /// Its number, 11 to 15.
        register: u8,
    },
}

/// Why an [`Assembler`](crate::Assembler) cannot finish a program. Indexes count slots.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AsmError {
    /// A label is used and never placed.
    #[error("instruction {index} refers to label {label:?}, which is not placed anywhere")]
    UndefinedLabel {
        /// The first instruction that uses it.
        index: usize,
        /// The label.
        label: String,
    },
    /// A label is placed twice.
    #[error("label {label:?} is placed at instruction {first} and again at {second}")]
    DuplicateLabel {
        /// The label.
        label: String,
        /// Its first place.
        first: usize,
        /// Its second place.
        second: usize,
    },
    /// A label is too far away for the field that holds the distance.
    #[error(
        "instruction {index} is {distance} slots from label {label:?}, which does not fit in {bits} bits"
    )]
    OutOfRange {
        /// The instruction that refers to the label.
        index: usize,
        /// The label.
        label: String,
        /// Slots from the next instruction to the label.
        distance: i64,
        /// Width of the signed field: 16, or 32 for `gotol`, calls and function addresses.
        bits: u32,
    },
    /// An operation was given parts that no instruction has, such as register 11 or an atomic of one byte.
    #[error("what was added is not an instruction")]
    Invalid(#[from] DecodeError),
}

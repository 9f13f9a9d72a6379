//! Registers.

use std::fmt;

/// A register number as an instruction's 4-bit field holds it.
///
/// The machine has [`R0`](Reg::R0) to [`R10`](Reg::R10). Numbers 11 to 15 can be read from a hostile file and are
/// representable, so that every instruction can be held and written back unchanged; the kernel rejects them, and so
/// does [`Op::decode`](crate::Op::decode).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reg(u8);

impl Reg {
    /// Return value of a call and of the program.
    pub const R0: Reg = Reg(0);
    /// First argument; the context when a program starts.
    pub const R1: Reg = Reg(1);
    /// Second argument.
    pub const R2: Reg = Reg(2);
    /// Third argument.
    pub const R3: Reg = Reg(3);
    /// Fourth argument.
    pub const R4: Reg = Reg(4);
    /// Fifth argument.
    pub const R5: Reg = Reg(5);
    /// Kept across calls.
    pub const R6: Reg = Reg(6);
    /// Kept across calls.
    pub const R7: Reg = Reg(7);
    /// Kept across calls.
    pub const R8: Reg = Reg(8);
    /// Kept across calls.
    pub const R9: Reg = Reg(9);
    /// The frame pointer, read-only (`BPF_REG_FP`).
    pub const R10: Reg = Reg(10);

    /// The register with this number, or `None` when it does not fit in 4 bits.
    pub const fn new(number: u8) -> Option<Reg> {
        if number <= 0xf { Some(Reg(number)) } else { None }
    }

    /// The low four bits of `bits`.
    pub(crate) const fn from_low_bits(bits: u8) -> Reg {
        Reg(bits & 0xf)
    }

    /// The register's number, 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the machine has this register: its number is at most 10.
    pub const fn is_valid(self) -> bool {
        self.0 <= Reg::R10.0
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

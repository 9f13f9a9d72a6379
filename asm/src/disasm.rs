//! Disassembly of whole programs.

use std::fmt;

use crate::{DecodeError, Insn, Op};

/// Disassembles a program; the result prints one line per instruction and iterates over the same lines.
///
/// The text is that of `llvm-objdump -d --mcpu=v4` without the symbol behind a jump. Slots that are no instruction
/// print as `<unknown>`, one by one.
///
/// ```
/// use skep_asm::{Assembler, Reg, disassemble};
///
/// let insns = Assembler::new().ld_imm64(Reg::R1, 5).mov32_reg(Reg::R0, Reg::R1).exit().finish()?;
/// assert_eq!(disassemble(&insns).to_string(), "   0: r1 = 0x5 ll\n   2: w0 = w1\n   3: exit\n");
/// # Ok::<(), skep_asm::AsmError>(())
/// ```
pub fn disassemble(insns: &[Insn]) -> Disassembly<'_> {
    Disassembly { insns, next: 0 }
}

/// The lines of a program's disassembly, made by [`disassemble`].
#[derive(Clone, Debug)]
#[must_use = "it does nothing until printed or iterated over"]
pub struct Disassembly<'a> {
    insns: &'a [Insn],
    next: usize,
}

impl Iterator for Disassembly<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.next >= self.insns.len() {
            return None;
        }
        let index = self.next;
        let (op, slots) = match Op::decode(self.insns, index) {
            Ok((op, slots)) => (Ok(op), slots),
            Err(error) => (Err(error), 1),
        };
        self.next = index.saturating_add(slots);
        Some(Line { index, slots, op })
    }
}

impl fmt::Display for Disassembly<'_> {
    /// One line per instruction: its index, a colon, and the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.clone() {
            writeln!(f, "{:>4}: {line}", line.index)?;
        }
        Ok(())
    }
}

/// One line of a [`Disassembly`]. `Display` gives the text without the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The instruction's first slot.
    pub index: usize,
    /// Slots that the line stands for, 1 or 2.
    pub slots: usize,
    /// The instruction, or why there is none.
    pub op: Result<Op, DecodeError>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Ok(op) => op.fmt(f),
            Err(_) => f.write_str("<unknown>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endian, decode};

    #[test]
    fn unknown_slots_are_stepped_over_one_by_one() {
        let mut bytes = [0; 5 * 8];
        for (slot, opcode) in [(0, 0xff), (1, 0x18), (4, 0x18)] {
            bytes[slot * 8] = opcode;
        }
        let insns = decode(&bytes, Endian::Little).unwrap();
        let text = "   0: <unknown>\n   1: r0 = 0x0 ll\n   3: <unknown>\n   4: <unknown>\n";
        assert_eq!(disassemble(&insns).to_string(), text);
        let last = disassemble(&insns).last().unwrap();
        assert_eq!((last.index, last.slots, last.op), (4, 1, Err(DecodeError::Truncated { index: 4 })));
        assert_eq!(disassemble(&[]).to_string(), "");
    }
}

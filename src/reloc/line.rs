//! Where in its source an instruction comes from.

use skep_asm::{Insn, opcode};
use skep_btf::{Btf, StrOffset};

use super::plan::{PlacedFunction, ProgramPlan};

/// Instructions between a relocated constant and its use, at most.
const MAX_SUMS: usize = 4;

/// A line of the program's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Path of the file as the compiler saw it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The text of the line.
    pub text: String,
}

impl ProgramPlan {
    /// The source line of an instruction: that of the last line record at or before it. `btf` is the object's
    /// ([`Plan::btf`](super::Plan::btf)). None when the object has no line records.
    ///
    /// A compiler puts a constant that a CO-RE relocation fills in right before its use, and gives it no record. Of such
    /// an instruction it is the line of its use.
    pub fn source_line(&self, btf: &Btf, index: u32) -> Option<SourceLine> {
        let at = self.use_of_constant(index).unwrap_or(index);
        let record = self.line_record(self.line_records_until(at).checked_sub(1)?)?;
        let text = |offset: u32| {
            btf.str_at(StrOffset(offset)).ok().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let place = word(record, 3)?;
        Some(SourceLine {
            file: text(word(record, 1)?)?,
            text: text(word(record, 2)?)?,
            line: place >> 10,
            column: place & 0x3ff,
        })
    }

    /// The function that an instruction is in.
    pub fn function_at(&self, index: u32) -> Option<&PlacedFunction> {
        let next = self.functions.partition_point(|function| function.start <= index);
        let function = self.functions.get(next.checked_sub(1)?)?;
        (index - function.start < function.len).then_some(function) // partition_point: it starts at or before index
    }

    /// Where a relocated constant is used, when a line begins there and only sums of addresses, which have no records
    /// either, lie between.
    fn use_of_constant(&self, index: u32) -> Option<u32> {
        let is_sum =
            |insn: &Insn| matches!(insn.class(), opcode::CLASS_ALU | opcode::CLASS_ALU64 | opcode::CLASS_LD);
        let placed = self.decisions.binary_search_by_key(&index, |placed| placed.insn).ok()?;
        let original = self.decisions.get(placed)?.original;
        if !is_sum(&original) || self.line_begins(index) {
            return None;
        }
        let function = self.function_at(index)?;
        let mut next = index.checked_add(original.slots() as u32)?;
        for _ in 0..MAX_SUMS {
            if next - function.start >= function.len {
                return None;
            }
            if self.line_begins(next) {
                return Some(next);
            }
            let insn = self.insns.get(next as usize).filter(|insn| is_sum(insn))?;
            next = next.checked_add(insn.slots() as u32)?;
        }
        None
    }

    fn line_begins(&self, index: u32) -> bool {
        let last = self.line_records_until(index).checked_sub(1).and_then(|nth| self.line_record(nth));
        last.and_then(|record| word(record, 0)) == Some(index)
    }

    fn line_record(&self, nth: usize) -> Option<&[u8]> {
        let size = (self.line_info.record_size as usize).max(1);
        let start = nth.checked_mul(size)?;
        self.line_info.bytes.get(start..start.checked_add(size)?)
    }

    /// How many line records stand at or before an instruction. They are ordered, or no kernel would take them.
    fn line_records_until(&self, index: u32) -> usize {
        let size = (self.line_info.record_size as usize).max(1);
        let (mut first, mut end) = (0, self.line_info.bytes.len() / size);
        while first < end {
            let middle = first + (end - first) / 2;
            match self.line_record(middle).and_then(|record| word(record, 0)) {
                Some(at) if at <= index => first = middle + 1,
                _ => end = middle,
            }
        }
        first
    }
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    record.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
}

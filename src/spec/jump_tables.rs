//! Tables of indirect jumps, from section `.jumptables`.

use std::collections::HashMap;

use skep_asm::Endian;

use super::elf::{Budget, Elf, Symbol};
use super::{JumpTableIndex, JumpTableSpec};

/// The section that compilers put tables of indirect jumps into.
pub(super) const SECTION: &str = ".jumptables";
/// Size of an entry in bytes.
const ENTRY: usize = 8;

/// The tables that were referred to so far.
pub(super) struct JumpTables<'e, 'a> {
    elf: &'e Elf<'a>,
    /// Index of the section.
    section: Option<usize>,
    /// By offset and size in the section.
    known: HashMap<(u64, u64), JumpTableIndex>,
    budget: Budget,
    pub(super) tables: Vec<JumpTableSpec>,
}

impl<'e, 'a> JumpTables<'e, 'a> {
    pub(super) fn new(elf: &'e Elf<'a>) -> Self {
        let section = elf.section_named(SECTION).map(|(index, _)| index);
        JumpTables { elf, section, known: HashMap::new(), budget: Budget::new(elf.size), tables: Vec::new() }
    }

    /// Whether a symbol is one of a table.
    pub(super) fn has(&self, symbol: &Symbol<'_>) -> bool {
        self.section == Some(usize::from(symbol.section))
    }

    /// The table that a symbol names.
    pub(super) fn get(&mut self, symbol: &Symbol<'_>) -> Result<JumpTableIndex, String> {
        if let Some(known) = self.known.get(&(symbol.value, symbol.size)) {
            return Ok(*known);
        }
        let data = self
            .section
            .and_then(|index| self.elf.sections.get(index))
            .map_or(&[][..], |section| section.data);
        let place = || format!("its {} bytes at {} of {SECTION}", symbol.size, symbol.value);
        let end = symbol.value.checked_add(symbol.size).filter(|&end| end <= data.len() as u64);
        let Some(end) = end else {
            return Err(format!("{} do not fit the section's {}", place(), data.len()));
        };
        if symbol.size == 0 || !symbol.size.is_multiple_of(8) || !symbol.value.is_multiple_of(8) {
            return Err(format!("{} are not whole entries of {ENTRY}", place()));
        }
        if !self.budget.take(symbol.size) {
            return Err("too many jump tables share their bytes".into());
        }
        let bytes = data.get(symbol.value as usize..end as usize).unwrap_or_default(); // end is within the data
        let mut targets = Vec::with_capacity(bytes.len() / ENTRY);
        for (nth, entry) in bytes.as_chunks::<ENTRY>().0.iter().enumerate() {
            let target = match self.elf.endian {
                Endian::Little => u64::from_le_bytes(*entry),
                Endian::Big => u64::from_be_bytes(*entry),
            };
            let insn = u32::try_from(target / 8).ok().filter(|_| target % 8 == 0);
            targets.push(
                insn.ok_or_else(|| format!("entry {nth} leads to byte {target}, which is no instruction"))?,
            );
        }
        let index = JumpTableIndex(self.tables.len());
        self.tables.push(JumpTableSpec { name: symbol.name.clone().into_owned(), targets });
        self.known.insert((symbol.value, symbol.size), index);
        Ok(index)
    }
}

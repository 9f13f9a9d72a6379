//! Hands the records of `.BTF.ext` to the functions that they belong to.

use std::collections::{HashMap, HashSet};

use skep_btf::{Btf, BtfError, CoreRelo, ExtInfo, ExtRecord, ExtSection, FuncInfo, LineInfo};

use super::code::Code;
use super::elf::Elf;
use super::{FunctionIndex, FunctionSpec, InfoRecords, SpecError};

/// Whether `.BTF.ext` says that it has CO-RE records, as far as that can be told of one that may be damaged. Without
/// them the code would run with the offsets of the kernel that it was compiled for.
pub(super) fn relocates(elf: &Elf<'_>) -> bool {
    const HEADER_WITH_CORE: u32 = 32;
    let Some((_, section)) = elf.section_named(".BTF.ext") else { return false };
    let word = |at: usize| {
        let bytes = section.data.get(at..)?.first_chunk()?;
        Some(super::code::read_u32(*bytes, elf.endian))
    };
    word(4).is_some_and(|len| len >= HEADER_WITH_CORE) && word(28).is_some_and(|core_len| core_len > 0)
}

pub(super) fn read(
    elf: &Elf<'_>,
    btf: &Btf,
    ext: &ExtInfo,
    code: &mut Code,
    notes: &mut Vec<String>,
) -> Result<(), SpecError> {
    let mut sections = HashMap::new();
    for (index, section) in elf.sections.iter().enumerate() {
        sections.entry(section.name.as_bytes()).or_insert(index);
    }
    let section_of = |name: &[u8]| sections.get(name).copied();

    for (what, left) in [
        ("function", hand_out(ext.func_info(), btf, &section_of, code, FUNCTIONS)?),
        ("line", hand_out(ext.line_info(), btf, &section_of, code, LINES)?),
    ] {
        if left > 0 {
            notes.push(format!(
                "{left} {what} records of `.BTF.ext` are left out: there are others for their functions"
            ));
        }
    }

    for block in ext.core_relos().blocks() {
        let name = block.section_name(btf).map_err(of_ext)?;
        if name.is_empty() {
            return Err(SpecError::section(".BTF.ext", "CO-RE records of a section without a name"));
        }
        let Some(section) = section_of(name) else { continue };
        for record in block.records() {
            if record.info.insn_off % 8 != 0 {
                return Err(SpecError::section(
                    ".BTF.ext",
                    format!("a CO-RE record for byte {}, inside an instruction", record.info.insn_off),
                ));
            }
            let Some((function, at)) = place(code, section, record.info.insn_off) else { continue };
            let of = &mut code.functions[function]; // as above
            if of.references.binary_search_by_key(&at, |reference| reference.insn).is_ok() {
                return Err(SpecError::Function {
                    function: of.name.clone(),
                    section: of.section.clone(),
                    reason: format!("instruction {at} has both a relocation and a CO-RE record"),
                });
            }
            of.core_relos.push(CoreRelo { insn_off: at, ..record.info });
            code.core_order.push(FunctionIndex(function));
        }
    }
    Ok(())
}

fn of_ext(source: BtfError) -> SpecError {
    SpecError::Btf { section: ".BTF.ext", source }
}

/// Where a function keeps its records of one kind, and where one of them says that it belongs.
struct Kind<R> {
    of: fn(&mut FunctionSpec) -> &mut InfoRecords,
    byte: fn(&R) -> u32,
}

const FUNCTIONS: Kind<FuncInfo> = Kind { of: |it| &mut it.func_info, byte: |it| it.insn_off };
const LINES: Kind<LineInfo> = Kind { of: |it| &mut it.line_info, byte: |it| it.insn_off };

/// Gives each function its records of one kind, ordered as a kernel demands it. Answers how many are for functions of this
/// object and yet left out.
///
/// libbpf takes those of the first block of a function's section, up to the first one that lies behind the function. That
/// leaves out what is there twice, and also whatever describes a function only later. So where it finds nothing, the first
/// block that says anything of a function counts.
fn hand_out<R: ExtRecord>(
    records: ExtSection<'_, R>,
    btf: &Btf,
    section_of: &impl Fn(&[u8]) -> Option<usize>,
    code: &mut Code,
    kind: Kind<R>,
) -> Result<usize, SpecError> {
    let mut given = 0;
    let mut seen = HashSet::new();
    let mut later = Vec::new();
    for (index, block) in records.blocks().enumerate() {
        let Some(section) = section_of(block.section_name(btf).map_err(of_ext)?) else { continue };
        let first = seen.insert(section);
        let mut highest = 0;
        for record in block.records() {
            let byte = (kind.byte)(&record.info);
            highest = highest.max(byte / 8);
            let Some((function, at)) = place(code, section, byte) else { continue };
            given += 1;
            let of = &mut code.functions[function]; // place answers indexes of this vector
            let behind = u64::from(highest) >= u64::from(of.offset) + of.insns.len() as u64;
            if first && !behind {
                (kind.of)(of).push(records.record_size(), at, &record.to_native(&record.info));
            } else {
                later.push((function, at, index, record));
            }
        }
    }
    later.retain(|(function, ..)| (kind.of)(&mut code.functions[*function]).is_empty()); // as above
    let mut blocks = HashMap::new();
    for (function, at, block, record) in later {
        if *blocks.entry(function).or_insert(block) == block {
            let of = &mut code.functions[function]; // as above
            (kind.of)(of).push(records.record_size(), at, &record.to_native(&record.info));
        }
    }
    let kept: usize = code.functions.iter_mut().map(|function| (kind.of)(function).order()).sum();
    Ok(given - kept)
}

impl InfoRecords {
    fn push(&mut self, record_size: u32, at: u32, record: &[u8]) {
        self.record_size = record_size;
        self.bytes.extend(at.to_ne_bytes());
        self.bytes.extend_from_slice(record.get(4..).unwrap_or_default());
    }

    /// Puts them into the order of their instructions, keeps the first for each, and answers how many these are.
    fn order(&mut self) -> usize {
        let at = |record: &[u8]| record.first_chunk().map(|at| u32::from_ne_bytes(*at));
        if !self.iter().map(at).is_sorted_by(|one, next| one < next) {
            let mut records: Vec<&[u8]> = self.iter().collect();
            records.sort_by_key(|record| at(record));
            records.dedup_by_key(|record| at(record));
            self.bytes = records.concat();
        }
        self.iter().len()
    }
}

/// The function that covers a byte of a section, and the instruction in it.
fn place(code: &Code, section: usize, byte: u32) -> Option<(usize, u32)> {
    let insn = u64::from(byte / 8);
    let function = code.function_at(section, insn)?.0;
    let offset = code.functions.get(function)?.offset;
    Some((function, insn as u32 - offset)) // function_at: the function starts at or before insn
}

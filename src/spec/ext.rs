//! Hands the records of `.BTF.ext` to the functions that they belong to.

use std::collections::HashMap;

use skep_btf::{Btf, CoreRelo, ExtInfo, FuncInfo, LineInfo};

use super::code::Code;
use super::elf::Elf;
use super::{FunctionIndex, SpecError};

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

pub(super) fn read(elf: &Elf<'_>, btf: &Btf, ext: &ExtInfo, code: &mut Code) -> Result<(), SpecError> {
    let of_ext = |source| SpecError::Btf { section: ".BTF.ext", source };
    let mut sections = HashMap::new();
    for (index, section) in elf.sections.iter().enumerate() {
        sections.entry(section.name.as_bytes()).or_insert(index);
    }
    let section_of = |name: &[u8]| sections.get(name).copied();

    let func_size = ext.func_info().record_size();
    for block in ext.func_info().blocks() {
        let Some(section) = section_of(block.section_name(btf).map_err(of_ext)?) else { continue };
        for record in block.records() {
            let Some((function, at)) = place(code, section, record.info.insn_off) else { continue };
            let info = FuncInfo { insn_off: at, ..record.info };
            let records = &mut code.functions[function].func_info; // place answers indexes of this vector
            records.record_size = func_size;
            records.bytes.extend(record.to_native(&info));
        }
    }

    let line_size = ext.line_info().record_size();
    for block in ext.line_info().blocks() {
        let Some(section) = section_of(block.section_name(btf).map_err(of_ext)?) else { continue };
        for record in block.records() {
            let Some((function, at)) = place(code, section, record.info.insn_off) else { continue };
            let info = LineInfo { insn_off: at, ..record.info };
            let records = &mut code.functions[function].line_info; // place answers indexes of this vector
            records.record_size = line_size;
            records.bytes.extend(record.to_native(&info));
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

/// The function that covers a byte of a section, and the instruction in it.
fn place(code: &Code, section: usize, byte: u32) -> Option<(usize, u32)> {
    let insn = u64::from(byte / 8);
    let function = code.function_at(section, insn)?.0;
    let offset = code.functions.get(function)?.offset;
    Some((function, insn as u32 - offset)) // function_at: the function starts at or before insn
}

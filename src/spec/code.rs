//! Functions and programs from the symbols of executable sections.

use std::collections::HashMap;

use object::elf;
use skep_asm::Endian;
use skep_sys::abi::{AttachType, ProgFlags, ProgType};

use super::elf::{Budget, Elf};
use super::sections::{AutoAttach, section_kind};
use super::{FunctionIndex, FunctionSpec, InfoRecords, ProgramSpec, SpecError};

/// The section of sub-programs.
pub(super) const TEXT: &str = ".text";

/// How much of a section its functions may cover together, in multiples of the section's size. Functions that share
/// instructions are accepted, but a file cannot make the loader copy its code without bound.
const MAX_COVER: u64 = 16;

/// The functions, with the index of the ELF section that each is in.
pub(super) struct Code {
    pub(super) functions: Vec<FunctionSpec>,
    pub(super) sections: Vec<usize>,
    /// The function of each CO-RE record, in the order of the records.
    pub(super) core_order: Vec<FunctionIndex>,
}

impl Code {
    /// The function that covers an instruction of a section.
    pub(super) fn function_at(&self, section: usize, insn: u64) -> Option<FunctionIndex> {
        let end = self.sections.partition_point(|&other| other <= section);
        let start = self.sections.partition_point(|&other| other < section);
        let functions = self.functions.get(start..end)?;
        let after = functions.partition_point(|function| u64::from(function.offset) <= insn);
        let index = after.checked_sub(1)?;
        let function = functions.get(index)?;
        (insn - u64::from(function.offset) < function.insns.len() as u64)
            .then_some(FunctionIndex(start + index))
    }

    /// Gives functions that are other names of one (aliases) what their instructions refer to and what records say of them,
    /// which only the last of them was given.
    pub(super) fn share(&mut self) {
        let Code { functions, sections, core_order } = self;
        let mut others = HashMap::new();
        let mut end = functions.len();
        while let Some(last) = end.checked_sub(1) {
            let place = |at: usize| {
                let function = functions.get(at)?;
                Some((sections.get(at)?, function.offset, function.insns.len()))
            };
            let of_last = place(last);
            let start = (0..last).rev().take_while(|at| place(*at) == of_last).last().unwrap_or(last);
            // A file cannot make many copies: what has more names keeps what it has under one.
            if let Some([names @ .., last]) = functions.get_mut(start..end)
                && names.len() < MAX_COVER as usize
            {
                for name in &mut *names {
                    name.references.clone_from(&last.references);
                    name.strays.clone_from(&last.strays);
                    name.core_relos.clone_from(&last.core_relos);
                    name.func_info.clone_from(&last.func_info);
                    name.line_info.clone_from(&last.line_info);
                }
                if !names.is_empty() && !last.core_relos.is_empty() {
                    others.insert(FunctionIndex(end - 1), start..end - 1); // not empty, so end is not 0
                }
            }
            end = start;
        }
        if !others.is_empty() {
            let names = |last: FunctionIndex| others.get(&last).cloned().unwrap_or_default();
            let all = |last| names(last).map(FunctionIndex).chain([last]);
            *core_order = core_order.iter().copied().flat_map(all).collect();
        }
    }
}

/// Whether code is taken from a section.
pub(super) fn is_code(section: &super::elf::Section<'_>) -> bool {
    section.kind == elf::SHT_PROGBITS && section.executable && section.size > 0
}

pub(super) fn read(elf: &Elf<'_>) -> Result<Code, SpecError> {
    let mut found = Vec::new();
    let mut covered = vec![0u64; elf.sections.len()];
    let mut names = Budget::new(elf.size);
    for symbol in &elf.symbols {
        let index = usize::from(symbol.section);
        let Some(section) = elf.sections.get(index) else { continue };
        if symbol.kind != elf::STT_FUNC || index == 0 || !is_code(section) {
            continue;
        }
        let raw_name = section.name.as_ref();
        let fail = |reason: String| SpecError::Function {
            function: symbol.name.clone().into_owned(),
            section: raw_name.to_owned(),
            reason,
        };
        let end = symbol.value.checked_add(symbol.size);
        let Some(end) = end.filter(|&end| end <= section.data.len() as u64) else {
            return Err(fail(format!(
                "its {} bytes from byte {} do not fit the section's {}",
                symbol.size,
                symbol.value,
                section.data.len()
            )));
        };
        if raw_name != TEXT && !symbol.is_global() {
            return Err(fail(if raw_name.starts_with(".text.") {
                "sub-programs are called in .text only: compile without -ffunction-sections".into()
            } else {
                "a static function cannot be an entry program: make it global, or move it to .text".into()
            }));
        }
        if symbol.size == 0 || symbol.size % 8 != 0 || symbol.value % 8 != 0 {
            return Err(fail(format!(
                "its {} bytes from byte {} are not whole instructions",
                symbol.size, symbol.value
            )));
        }
        if let Some(covered) = covered.get_mut(index) {
            *covered += symbol.size;
            if *covered > MAX_COVER * section.size {
                return Err(fail(format!("more than {MAX_COVER} functions share its instructions")));
            }
        }
        if !names.take(raw_name.len() as u64) {
            return Err(fail("too many functions are in a section with a long name".into()));
        }
        let bytes = section.data.get(symbol.value as usize..end as usize).unwrap_or_default();
        let insns = skep_asm::decode(bytes, elf.endian).map_err(|error| fail(error.to_string()))?;
        let name = raw_name.strip_prefix('?').unwrap_or(raw_name);
        found.push((
            index,
            FunctionSpec {
                name: symbol.name.clone().into_owned(),
                section: name.to_owned(),
                offset: (symbol.value / 8) as u32,
                subprogram: raw_name == TEXT,
                global: symbol.is_global(),
                weak: symbol.is_weak(),
                hidden: symbol.is_global() && symbol.is_hidden(),
                insns,
                references: Vec::new(),
                strays: Vec::new(),
                core_relos: Vec::new(),
                func_info: InfoRecords::default(),
                line_info: InfoRecords::default(),
            },
        ));
    }
    found.sort_by_key(|(section, function)| (*section, function.offset));
    let (sections, functions) = found.into_iter().unzip();
    Ok(Code { functions, sections, core_order: Vec::new() })
}

/// The entry programs among the functions, typed by their sections' names.
pub(super) fn programs(elf: &Elf<'_>, code: &Code) -> Vec<ProgramSpec> {
    let entries = code.functions.iter().zip(&code.sections).enumerate();
    entries
        .filter(|(_, (function, _))| !function.subprogram)
        .map(|(index, (function, &section))| {
            let optional = elf.sections.get(section).is_some_and(|section| section.name.starts_with('?'));
            let mut program = ProgramSpec {
                name: function.name.clone(),
                section: function.section.clone(),
                function: FunctionIndex(index),
                prog_type: ProgType::UNSPEC,
                attach_type: AttachType(0),
                attach_type_optional: false,
                attach_to: None,
                attach_btf: false,
                auto_attach: AutoAttach::None,
                flags: ProgFlags::empty(),
                autoload: !optional,
            };
            if let Some((kind, target)) = section_kind(&function.section) {
                program.prog_type = kind.prog_type;
                program.attach_type = kind.attach_type;
                program.attach_type_optional = kind.attach_type_optional;
                program.attach_to = target.map(str::to_owned);
                program.attach_btf = kind.attach_btf;
                program.auto_attach = kind.auto_attach;
                program.flags = kind.flags;
            }
            program
        })
        .collect()
}

/// A 32-bit number of the object.
pub(super) fn read_u32(bytes: [u8; 4], endian: Endian) -> u32 {
    if endian.is_little() { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
}

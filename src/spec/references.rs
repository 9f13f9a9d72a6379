//! What instructions refer to, from the relocations of executable sections.

use object::elf;
use skep_asm::{Insn, pseudo};

use super::code::{Code, TEXT, is_code};
use super::elf::{Elf, Relocation, Symbol};
use super::jump_tables::JumpTables;
use super::legacy::Legacy;
use super::{
    ExternIndex, FunctionIndex, JumpTableSpec, MapIndex, Reference, ReferenceTarget, SpecError, Stray,
};

/// Section number of variables that no section holds yet.
const COMMON: u16 = elf::SHN_COMMON.0;

/// Where maps and externs of the object are, for finding what a symbol means.
pub(super) struct Places<'p> {
    /// Index of the `.maps` section.
    pub(super) maps_section: Option<usize>,
    /// Offset in `.maps` of each declared map, with its index; ordered by offset.
    pub(super) declared: &'p [(u64, MapIndex)],
    /// Maps that are defined without BTF.
    pub(super) legacy: &'p Legacy,
    /// Data map of each section index, ordered by it.
    pub(super) data: &'p [(usize, MapIndex)],
    /// Extern of each symbol index, ordered by it.
    pub(super) externs: &'p [(usize, ExternIndex)],
}

impl Places<'_> {
    fn declared_at(&self, offset: u64) -> Option<MapIndex> {
        let first = self.declared.partition_point(|(at, _)| *at < offset);
        self.declared.get(first).filter(|(at, _)| *at == offset).map(|(_, map)| *map)
    }

    fn data_of(&self, section: usize) -> Option<MapIndex> {
        let at = self.data.binary_search_by_key(&section, |(index, _)| *index).ok()?;
        self.data.get(at).map(|(_, map)| *map)
    }
}

/// What a relocation turns out to be.
enum Found {
    Refers(ReferenceTarget),
    /// Nothing, for a reason that concerns only the programs that reach the instruction.
    Stray(String),
}

/// Fills in the references of functions, and answers the jump tables that they name.
pub(super) fn read(
    elf: &Elf<'_>,
    code: &mut Code,
    places: &Places<'_>,
) -> Result<Vec<JumpTableSpec>, SpecError> {
    let mut tables = JumpTables::new(elf);
    // The last one with code in it, as libbpf takes it: assemblers add empty ones.
    let text = elf.sections.iter().rposition(|section| section.name == TEXT && is_code(section));
    let mut found: Vec<(FunctionIndex, Reference)> = Vec::new();
    let mut strays: Vec<(FunctionIndex, Stray)> = Vec::new();
    for (section_index, section) in elf.sections.iter().enumerate().filter(|(_, section)| section.executable)
    {
        for (index, relocation) in section.relocations.iter().enumerate() {
            let fail = |reason: String| SpecError::Relocation {
                section: section.name.clone().into_owned(),
                index,
                offset: relocation.offset,
                symbol: elf
                    .symbols
                    .get(relocation.symbol)
                    .map_or(String::new(), |s| s.name.clone().into_owned()),
                reason,
            };
            if relocation.offset % 8 != 0 || relocation.offset >= section.size {
                return Err(fail(format!("not an instruction of the section's {} bytes", section.size)));
            }
            symbol(elf, relocation).map_err(fail)?;
            let insn_at = relocation.offset / 8;
            // Code that belongs to no function is what a linker left of an overridden weak function.
            let Some(function) = code.function_at(section_index, insn_at) else { continue };
            let of = &code.functions[function.0]; // function_at answers indexes of this vector
            let at = (insn_at - u64::from(of.offset)) as usize;
            let insn = of.insns[at]; // function_at: the instruction lies in the function
            match target(elf, code, places, text, &mut tables, relocation, insn).map_err(fail)? {
                Found::Refers(target) => {
                    // The upper half of a load; the kernel refuses one that is not zero.
                    let upper = of.insns.get(at + 1).map_or(0, |insn| insn.imm);
                    if upper != 0 && matches!(target, ReferenceTarget::Map(_)) {
                        return Err(fail("a map has no place at an offset from its address".into()));
                    }
                    found.push((function, Reference { insn: at as u32, target }));
                }
                Found::Stray(reason) => strays.push((function, Stray { insn: at as u32, reason })),
            }
        }
    }
    for (function, reference) in found {
        code.functions[function.0].references.push(reference); // indexes of function_at
    }
    for (function, stray) in strays {
        code.functions[function.0].strays.push(stray); // indexes of function_at
    }
    sort(code);
    for function in &code.functions {
        if let Some([twice, _]) = function.references.array_windows().find(|[a, b]| a.insn == b.insn) {
            return Err(SpecError::Function {
                function: function.name.clone(),
                section: function.section.clone(),
                reason: format!("two relocations change its instruction {}", twice.insn),
            });
        }
    }
    unrelocated_calls(code);
    sort(code);
    Ok(tables.tables)
}

fn sort(code: &mut Code) {
    for function in &mut code.functions {
        function.references.sort_by_key(|reference| reference.insn);
    }
}

/// The symbol of a relocation, in a section that there is.
fn symbol<'e>(elf: &'e Elf<'_>, relocation: &Relocation) -> Result<&'e Symbol<'e>, String> {
    let symbol = elf
        .symbols
        .get(relocation.symbol)
        .ok_or_else(|| format!("symbol {} of {} does not exist", relocation.symbol, elf.symbols.len()))?;
    let section_index = usize::from(symbol.section);
    if section_index >= elf.sections.len() {
        return Err(match symbol.section {
            COMMON => {
                "a variable without an initial value and without a section: initialise it, or build with -fno-common"
                    .into()
            }
            _ => format!("the symbol's section {section_index} does not exist"),
        });
    }
    Ok(symbol)
}

fn target(
    elf: &Elf<'_>,
    code: &Code,
    places: &Places<'_>,
    text: Option<usize>,
    tables: &mut JumpTables<'_, '_>,
    relocation: &Relocation,
    insn: Insn,
) -> Result<Found, String> {
    let symbol = symbol(elf, relocation)?;
    let section_index = usize::from(symbol.section);
    if !insn.is_call() && !insn.is_ld_imm64() {
        return Err(format!("instruction {:#04x} is neither a call nor a 64-bit load", insn.opcode));
    }
    if symbol.is_extern() {
        let found = places.externs.binary_search_by_key(&relocation.symbol, |(index, _)| *index);
        let (_, index) = found
            .ok()
            .and_then(|at| places.externs.get(at))
            .ok_or("an undefined symbol that is declared neither __ksym nor __kconfig")?;
        return Ok(as_data(insn, ReferenceTarget::Extern(*index)));
    }
    if insn.is_call() {
        return call_target(code, text, symbol, insn);
    }
    if section_index == 0 {
        return Err("the symbol is in no section: is a global variable declared and not defined?".into());
    }
    if tables.has(symbol) {
        return tables.get(symbol).map(|table| as_data(insn, ReferenceTarget::JumpTable(table)));
    }
    let imm = insn.imm;
    if Some(section_index) == text && names_function(symbol) {
        let at = symbol.value.wrapping_add_signed(i64::from(imm));
        if at % 8 != 0 {
            return Err(format!("the address of byte {at} of .text is not one of an instruction"));
        }
        let index = code.function_at(section_index, at / 8);
        return Ok(match index {
            Some(index) => Found::Refers(ReferenceTarget::FunctionAddress(index)),
            None => Found::Stray(format!("no function of .text is at byte {}", at.cast_signed())),
        });
    }
    if let Some(map) = places.data_of(section_index) {
        let offset = u32::try_from(symbol.value).map_err(|_| "the variable lies beyond 4 GiB")?;
        let offset = offset.wrapping_add_signed(imm);
        return Ok(as_data(insn, ReferenceTarget::MapValue { map, offset }));
    }
    if Some(section_index) == places.maps_section {
        return match places.declared_at(symbol.value) {
            Some(map) => Ok(as_data(insn, ReferenceTarget::Map(map))),
            None => Err(format!("no map is declared at byte {} of .maps", symbol.value)),
        };
    }
    let name = elf.sections.get(section_index).map_or("", |section| &section.name);
    // Static maps are called by their section and an offset. With a map's own symbol the offset means nothing.
    let addend = if symbol.kind == elf::STT_SECTION { i64::from(imm) } else { 0 };
    let offset = symbol.value.wrapping_add_signed(addend);
    if let Some(map) = places.legacy.map_at(section_index, offset) {
        return match map {
            Some(map) => Ok(as_data(insn, ReferenceTarget::Map(map))),
            None => Err(format!("no map is defined at byte {offset} of {name}")),
        };
    }
    Err(format!("the symbol is in section `{name}`, which holds neither maps nor data"))
}

/// A reference to what is no function, unless the instruction is marked as the load of a function's address.
fn as_data(insn: Insn, target: ReferenceTarget) -> Found {
    if insn.is_ld_imm64() && insn.src_raw() == pseudo::FUNC {
        return Found::Stray(
            "a load that is marked as the address of a function is relocated as another one".into(),
        );
    }
    Found::Refers(target)
}

fn names_function(symbol: &Symbol<'_>) -> bool {
    match symbol.kind {
        elf::STT_SECTION => symbol.binding == elf::STB_LOCAL,
        elf::STT_FUNC => symbol.is_global(),
        _ => false,
    }
}

fn call_target(code: &Code, text: Option<usize>, symbol: &Symbol<'_>, insn: Insn) -> Result<Found, String> {
    if insn.src_raw() != pseudo::CALL {
        return Err(format!("a call with source register {} cannot be relocated", insn.src_raw()));
    }
    let section = usize::from(symbol.section);
    if Some(section) != text {
        return Err("only functions in .text can be called: is the called one in a program section?".into());
    }
    if !symbol.value.is_multiple_of(8) {
        return Err(format!("the function starts at byte {}, inside an instruction", symbol.value));
    }
    if !insn.is_pseudo_call() {
        return Ok(Found::Stray("a call with an offset or a destination calls nothing".into()));
    }
    let at = (symbol.value / 8).wrapping_add_signed(i64::from(insn.imm) + 1);
    Ok(match code.function_at(section, at) {
        Some(index) => Found::Refers(ReferenceTarget::Call(index)),
        // GNU's assembler once put the distance in bytes into the instruction, beside the relocation that says it again.
        None if at != 0 && u64::try_from(i64::from(insn.imm) + 1) == Ok(symbol.value) => {
            Found::Stray(format!(
                "no function of .text covers instruction {at}: the call counts in bytes what is counted in instructions, \
             as GNU binutils 2.40 does; build with a newer one or with clang"
            ))
        }
        None => Found::Stray(format!("no function of .text covers instruction {}", at.cast_signed())),
    })
}

/// Calls inside one section that the compiler resolved itself.
fn unrelocated_calls(code: &mut Code) {
    let mut found = Vec::new();
    for (index, (function, &section)) in code.functions.iter().zip(&code.sections).enumerate() {
        for (at, insn) in function.insns.iter().enumerate().filter(|(_, insn)| insn.is_pseudo_call()) {
            if function.references.binary_search_by_key(&(at as u32), |reference| reference.insn).is_ok() {
                continue;
            }
            let called =
                (u64::from(function.offset) + at as u64).wrapping_add_signed(i64::from(insn.imm) + 1);
            if let Some(target) = code.function_at(section, called) {
                found.push((index, Reference { insn: at as u32, target: ReferenceTarget::Call(target) }));
            }
        }
    }
    for (index, reference) in found {
        code.functions[index].references.push(reference); // indexes of the loop above
    }
}

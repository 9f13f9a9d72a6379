//! What an object file says: ELF to [`Spec`].
//!
//! Nothing here asks a kernel: the same bytes make the same [`Spec`] on every machine. libbpf is the model of what an
//! object means.

mod arena;
mod attach_point;
mod code;
mod data;
mod elf;
mod error;
mod ext;
mod externs;
mod globals;
mod jump_tables;
pub(crate) mod kconfig;
mod legacy;
mod maps;
mod model;
mod options;
mod references;
mod sections;
mod show;
mod struct_ops;
mod types;

use std::path::Path;

use skep_btf::{Btf, BtfError, ExtInfo};
use skep_sys::abi::OBJ_NAME_MAX;

pub use attach_point::{AttachPoint, AttachPointError, When};
pub(crate) use data::{kernel_map_name, sanitize};
pub use error::SpecError;
pub use kconfig::KconfigValue;
pub(crate) use maps::round_ring;
pub use model::{
    ExternIndex, ExternKind, ExternSpec, FunctionIndex, FunctionSpec, GlobalSpec, InfoRecords,
    JumpTableIndex, JumpTableSpec, MapIndex, MapRole, MapSpec, Pinning, ProgramIndex, ProgramSpec, Reference,
    ReferenceTarget, Slot, SlotValue, Spec, Stray,
};
pub use options::SpecOptions;
pub use sections::{AutoAttach, SectionKind, section_kind};
pub(crate) use show::{show_bytes, show_pinning, show_records};
pub(crate) use struct_ops::is_function_pointer;

use self::elf::Elf;
use crate::error::Error;

/// Longest license that is kept, as in libbpf.
const LICENSE_MAX: usize = 63;
/// Longest name of a type in BTF. The kernel takes less than 512 bytes.
const NAME_MAX: u64 = 4096;

impl Spec {
    /// Reads an object file. `name` becomes the object's name, up to its first dot and at most 15 bytes of it.
    ///
    /// # Errors
    ///
    /// When the bytes are not an eBPF object, or one whose parts contradict each other. Sections that are not known
    /// are no error: a program in one has no type until it is given one. Nor are map definitions of before BTF, unless
    /// [`SpecOptions`] say so.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Spec, SpecError> {
        SpecOptions::new().parse(name, bytes)
    }

    /// Reads an object file. Its name gives the object's name.
    ///
    /// The file is read, not mapped: one that shrinks meanwhile cannot harm the process.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and those of [`parse`](Self::parse).
    pub fn open(path: impl AsRef<Path>) -> Result<Spec, Error> {
        SpecOptions::new().open(path)
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&ProgramSpec> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The program of this name, to change it.
    pub fn program_mut(&mut self, name: &str) -> Option<&mut ProgramSpec> {
        self.programs.iter_mut().find(|program| program.name == name)
    }

    /// The map of this name. Data maps go by the name of their section, such as `.rodata`.
    pub fn map(&self, name: &str) -> Option<&MapSpec> {
        self.maps.iter().find(|map| map.name == name)
    }

    /// The map of this name, to change it.
    pub fn map_mut(&mut self, name: &str) -> Option<&mut MapSpec> {
        self.maps.iter_mut().find(|map| map.name == name)
    }

    /// Leaves all programs out of the load but one: switches [`ProgramSpec::autoload`] of the others off, and takes them
    /// out of `struct_ops` tables. When all tables that hold the one are not to be created, the first of them is.
    ///
    /// ```
    /// use skep::Spec;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let mut spec = Spec::parse("xdp_count", include_bytes!("../../testdata/xdp_count.o"))?;
    /// let only = spec.program_index("xdp_count").expect("the object has it");
    /// spec.load_only(only);
    /// assert_eq!(spec.programs.iter().filter(|program| program.autoload).count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_only(&mut self, only: ProgramIndex) {
        for (index, program) in self.programs.iter_mut().enumerate() {
            program.autoload = index == only.0;
        }
        let holds = |map: &MapSpec| map.slots.iter().any(|slot| slot.value == SlotValue::Program(only));
        let mut first = None;
        let mut created = false;
        for (index, map) in self.maps.iter_mut().enumerate().filter(|(_, map)| map.role == MapRole::StructOps)
        {
            map.slots.retain(|slot| slot.value == SlotValue::Program(only));
            if holds(map) {
                created |= map.autocreate;
                first = first.or(Some(index));
            }
        }
        if let (false, Some(map)) = (created, first.and_then(|index| self.maps.get_mut(index))) {
            map.autocreate = true;
        }
    }

    /// Where the program of this name is in [`Spec::programs`].
    pub fn program_index(&self, name: &str) -> Option<ProgramIndex> {
        self.programs.iter().position(|program| program.name == name).map(ProgramIndex)
    }

    /// How many CO-RE relocations the object has.
    pub fn core_relocation_count(&self) -> usize {
        self.functions.iter().map(|function| function.core_relos.len()).sum()
    }
}

fn parse(name: &str, bytes: &[u8], options: &SpecOptions) -> Result<Spec, SpecError> {
    let elf = Elf::parse(bytes)?;
    let mut notes = Vec::new();
    let license = license(&elf)?;
    let version = version(&elf)?;
    if options.strict_maps {
        legacy::refuse(&elf)?;
    }
    let mut code = code::read(&elf)?;
    let needs_btf = elf.section_named(maps::MAPS).is_some()
        || elf.sections.iter().any(|section| struct_ops::flags(section).is_some())
        || elf.symbols.iter().any(elf::Symbol::is_extern)
        || ext::relocates(&elf);
    let btf = read_btf(&elf, needs_btf, &mut notes)?;
    let btf = btf.map(|btf| types::place_variables(&elf, &btf)).transpose()?;
    let btf = btf.as_ref();

    let mut declared = maps::read(&elf, btf)?;
    let arena = arena::read(&elf, &mut declared.maps)?;
    let mut legacy = legacy::read(&elf, btf, declared.maps.len(), &mut notes)?;
    let first_data = declared.maps.len() + legacy.maps.len();
    let data_maps = data::read(&elf, btf)?;
    let externs = externs::read(&elf, btf)?;
    let mut globals = data::globals(&elf, btf, &data_maps, first_data)?;
    if let Some((section, map)) = arena {
        globals.extend(data::arena_globals(&elf, btf, section, map)?);
    }
    let mut programs = code::programs(&elf, &code);
    maps::read_slots(&elf, &mut declared, &code, &programs)?;
    legacy::fill_prog_arrays(&mut legacy, &code, &programs);

    let offsets = declared.offsets();
    let mut sections: Vec<_> = data_maps
        .iter()
        .enumerate()
        .map(|(index, data)| (data.section, MapIndex(first_data + index)))
        .chain(arena)
        .collect();
    sections.sort_unstable_by_key(|(section, _)| *section);
    let places = references::Places {
        maps_section: elf.section_named(maps::MAPS).map(|(index, _)| index),
        declared: &offsets,
        legacy: &legacy,
        data: &sections,
        externs: &externs.symbols,
    };
    let jump_tables = references::read(&elf, &mut code, &places)?;
    if let Some(btf) = btf {
        read_ext(&elf, btf, needs_btf, &mut code, &mut notes)?;
    }
    code.share();
    note_sections(&elf, &mut notes);
    let hidden: Vec<&str> = code
        .functions
        .iter()
        .filter(|function| function.subprogram && function.hidden)
        .map(|function| function.name.as_str())
        .collect();
    let kernel_btf = btf
        .map(|btf| types::hide_functions(btf, &hidden).and_then(|btf| types::settle_externs(&btf, &externs)))
        .transpose()?;

    let mut maps = declared.maps;
    maps.extend(legacy.maps);
    legacy::inherit_types(&maps, &code.functions, &mut programs);
    maps.extend(data_maps.into_iter().map(|data| data.map));
    maps.extend(externs.kconfig);
    maps.extend(struct_ops::read(&elf, btf, &code, &programs)?);
    let name: String = name.split('.').next().unwrap_or_default().chars().take(OBJ_NAME_MAX).collect();
    Ok(Spec {
        name,
        endian: elf.endian,
        license,
        version,
        functions: code.functions,
        programs,
        maps,
        globals,
        externs: externs.externs,
        btf: kernel_btf,
        jump_tables,
        core_order: code.core_order,
        notes,
    })
}

fn license(elf: &Elf<'_>) -> Result<String, SpecError> {
    let Some((_, section)) = elf.section_named("license") else { return Ok(String::new()) };
    if section.kind == object::elf::SHT_NOBITS {
        return Err(SpecError::section("license", "has no bytes in the file"));
    }
    let bytes = section.data.get(..LICENSE_MAX).unwrap_or(section.data);
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned())
}

fn version(elf: &Elf<'_>) -> Result<Option<u32>, SpecError> {
    let Some((_, section)) = elf.section_named("version") else { return Ok(None) };
    match <[u8; 4]>::try_from(section.data) {
        Ok(bytes) => Ok(Some(code::read_u32(bytes, elf.endian))),
        Err(_) => Err(SpecError::section("version", format!("{} bytes, not 4", section.data.len()))),
    }
}

fn read_btf(elf: &Elf<'_>, needed: bool, notes: &mut Vec<String>) -> Result<Option<Btf>, SpecError> {
    const BTF: &str = ".BTF";
    let Some((_, section)) = elf.section_named(BTF) else { return Ok(None) };
    if section.kind != object::elf::SHT_PROGBITS {
        return Err(SpecError::section(BTF, "has no bytes in the file"));
    }
    let btf = Btf::parse(section.data.to_vec()).and_then(|btf| {
        btf.check()?;
        short_names(&btf)?;
        Ok(btf)
    });
    match btf {
        Ok(btf) => Ok(Some(btf)),
        Err(source) if needed => Err(SpecError::Btf { section: BTF, source }),
        Err(source) => {
            notes.push(format!("section `{BTF}` is left out: {source}"));
            Ok(None)
        }
    }
}

/// Checks the length of names, since any number of types and of references to them may share a long one.
fn short_names(btf: &Btf) -> Result<(), BtfError> {
    for ty in btf.types() {
        let len = ty.name_bytes().len() as u64;
        if len > NAME_MAX {
            return Err(BtfError::OutOfRange {
                what: "length of a type's name",
                value: len,
                limit: NAME_MAX,
            });
        }
    }
    Ok(())
}

fn read_ext(
    elf: &Elf<'_>,
    btf: &Btf,
    needed: bool,
    code: &mut code::Code,
    notes: &mut Vec<String>,
) -> Result<(), SpecError> {
    const EXT: &str = ".BTF.ext";
    let Some((_, section)) = elf.section_named(EXT) else { return Ok(()) };
    if section.kind != object::elf::SHT_PROGBITS {
        return Err(SpecError::section(EXT, "has no bytes in the file"));
    }
    match ExtInfo::parse(section.data.to_vec()) {
        Ok(info) => ext::read(elf, btf, &info, code, notes),
        Err(source) if needed => Err(SpecError::Btf { section: EXT, source }),
        Err(source) => {
            notes.push(format!("section `{EXT}` is left out: {source}"));
            Ok(())
        }
    }
}

fn note_sections(elf: &Elf<'_>, notes: &mut Vec<String>) {
    let known = ["license", "version", ".BTF", ".BTF.ext", maps::MAPS];
    for section in elf.sections.iter().filter(|section| section.kind == object::elf::SHT_PROGBITS) {
        let name = section.name.as_ref();
        let used = code::is_code(section)
            || data::role(section).is_some()
            || struct_ops::flags(section).is_some()
            || arena::is_data(section)
            || name == jump_tables::SECTION
            || legacy::is_section(name)
            || legacy::is_pair_section(name)
            || known.contains(&name);
        if !used && section.size > 0 && !name.starts_with(".debug") {
            notes.push(format!("section `{name}` is left out: nothing is known of it"));
        }
    }
}

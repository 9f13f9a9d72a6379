//! The sections, symbols and relocations of an eBPF object, checked.

use std::borrow::Cow;
use std::collections::HashMap;

use object::SectionIndex;
use object::elf::{self, FileHeader64};
use object::endian::Endianness;
use object::read::elf::{FileHeader, Rel, SectionHeader, SectionTable, Sym};
use skep_asm::Endian;

use super::SpecError;

/// An eBPF object: a 64-bit relocatable ELF file of either byte order.
pub(super) struct Elf<'a> {
    pub(super) endian: Endian,
    /// By section index; index 0 is the null section.
    pub(super) sections: Vec<Section<'a>>,
    /// By symbol index; index 0 is the null symbol.
    pub(super) symbols: Vec<Symbol<'a>>,
    /// Size of the file in bytes.
    pub(super) size: u64,
    /// The last section of each name, as libbpf takes it.
    by_name: HashMap<Cow<'a, str>, usize>,
}

/// How much more than the file what is copied out of it may be, all names together and all contents together. Names
/// may share their ends and sections their bytes, but a small file cannot ask for memory without bound.
const MAX_SHARING: u64 = 16;

/// What is left of the names, or contents, that may be taken out of a file.
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new(size: u64) -> Budget {
        Budget(size.saturating_mul(MAX_SHARING))
    }

    /// Counts that many bytes; false when they are too many.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

fn too_many_names() -> SpecError {
    SpecError::Elf("too many names share a long one".into())
}

pub(super) struct Section<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) kind: elf::SectionType,
    pub(super) executable: bool,
    pub(super) size: u64,
    /// Empty for sections without bytes in the file.
    pub(super) data: &'a [u8],
    /// Relocations that apply to this section, in the order of the file.
    pub(super) relocations: Vec<Relocation>,
}

#[derive(Clone, Copy)]
pub(super) struct Relocation {
    pub(super) offset: u64,
    pub(super) symbol: usize,
}

pub(super) struct Symbol<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) binding: elf::SymbolBind,
    pub(super) kind: elf::SymbolType,
    pub(super) visibility: elf::SymbolVisibility,
    /// Section index, as it stands: reserved values are not resolved.
    pub(super) section: u16,
    pub(super) value: u64,
    pub(super) size: u64,
}

impl Symbol<'_> {
    pub(super) fn is_global(&self) -> bool {
        matches!(self.binding, elf::STB_GLOBAL | elf::STB_WEAK)
    }

    pub(super) fn is_weak(&self) -> bool {
        self.binding == elf::STB_WEAK
    }

    pub(super) fn is_hidden(&self) -> bool {
        matches!(self.visibility, elf::STV_HIDDEN | elf::STV_INTERNAL)
    }

    pub(super) fn is_undefined(&self) -> bool {
        self.section == elf::SHN_UNDEF.0
    }

    /// Undefined, named and without a type: what the kernel or the user must supply.
    pub(super) fn is_extern(&self) -> bool {
        self.is_undefined() && self.is_global() && self.kind == elf::STT_NOTYPE && !self.name.is_empty()
    }
}

const R_ENTRY_SIZE: u64 = 16;

impl<'a> Elf<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, SpecError> {
        let file = File::open(data)?;
        let mut names = Budget::new(data.len() as u64);
        let (mut sections, symtab) = file.sections(&mut names)?;
        file.relocations(&mut sections)?;
        let symbols = file.symbols(symtab, &mut names)?;
        let endian = if file.e == Endianness::Little { Endian::Little } else { Endian::Big };
        let by_name =
            sections.iter().enumerate().map(|(index, section)| (section.name.clone(), index)).collect();
        Ok(Elf { endian, sections, symbols, size: data.len() as u64, by_name })
    }

    /// The last section of a name, as libbpf takes it.
    pub(super) fn section_named(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.sections.get(index)?))
    }
}

/// The file, once its header is that of an eBPF object.
struct File<'a> {
    data: &'a [u8],
    e: Endianness,
    table: SectionTable<'a, FileHeader64<Endianness>>,
}

fn broken(error: object::read::Error) -> SpecError {
    SpecError::Elf(error.to_string())
}

impl<'a> File<'a> {
    fn open(data: &'a [u8]) -> Result<Self, SpecError> {
        let Some(ident) = data.get(..16) else {
            return Err(SpecError::Elf(format!("{} bytes are too few for an ELF header", data.len())));
        };
        if !ident.starts_with(&elf::ELFMAG) {
            return Err(SpecError::Elf("the first bytes are not the ELF magic".into()));
        }
        if ident.get(4) != Some(&elf::ELFCLASS64.0) {
            return Err(SpecError::NotBpf("not a 64-bit ELF file".into()));
        }
        let header = FileHeader64::<Endianness>::parse(data).map_err(broken)?;
        let e = header.endian().map_err(broken)?;
        let (file_type, machine) = (header.e_type(e), header.e_machine(e));
        // The table of sections is at the end of what a compiler writes.
        let sections = header.e_shoff(e);
        if sections > data.len() as u64 {
            let len = data.len();
            return Err(SpecError::Elf(format!(
                "its table of sections would be at byte {sections}, and it has {len}: it was cut short"
            )));
        }
        if machine != elf::EM_BPF && machine != elf::EM_NONE {
            return Err(SpecError::NotBpf({
                let what = format!("made for machine {machine}, not for BPF (247)");
                format!("{what}: compile it with `clang --target=bpf`")
            }));
        }
        if file_type != elf::ET_REL {
            return Err(SpecError::NotBpf(format!(
                "ELF type {file_type} is not relocatable (1): pass what the compiler wrote, not a linked file"
            )));
        }
        let table = header.sections(e, data).map_err(broken)?;
        Ok(File { data, e, table })
    }

    /// All sections without their relocations, and which of them has the symbols.
    fn sections(&self, names: &mut Budget) -> Result<(Vec<Section<'a>>, SectionIndex), SpecError> {
        let File { data, e, ref table } = *self;
        let mut contents = Budget::new(data.len() as u64);
        let mut sections = Vec::with_capacity(table.len());
        let mut symtab = None;
        for (index, raw) in table.enumerate() {
            let name = table.section_name(e, raw).map_err(broken)?;
            if !names.take(name.len() as u64) {
                return Err(too_many_names());
            }
            let name = String::from_utf8_lossy(name);
            let kind = raw.sh_type(e);
            let bytes = raw.data(e, data).map_err(|error| SpecError::section(&name, error.to_string()))?;
            if !contents.take(bytes.len() as u64) {
                return Err(SpecError::section(&name, "too many sections share their bytes"));
            }
            if kind == elf::SHT_SYMTAB {
                if symtab.replace(index).is_some() {
                    return Err(SpecError::section(&name, "a second symbol table"));
                }
                let (entry, entries) = (raw.sh_entsize(e), raw.sh_size(e));
                if entry != 24 || entries % 24 != 0 {
                    return Err(SpecError::section(
                        &name,
                        format!("{entries} bytes in entries of {entry}, not of 24"),
                    ));
                }
            }
            sections.push(Section {
                name,
                kind,
                executable: raw.sh_flags(e).0 & elf::SHF_EXECINSTR.0 != 0,
                size: raw.sh_size(e),
                data: bytes,
                relocations: Vec::new(),
            });
        }
        let Some(symtab) = symtab else {
            return Err(SpecError::NotBpf("no symbol table: was the file stripped?".into()));
        };
        Ok((sections, symtab))
    }

    /// Gives each section the relocations that apply to it.
    fn relocations(&self, sections: &mut [Section<'a>]) -> Result<(), SpecError> {
        let File { data, e, ref table } = *self;
        for raw in table.iter().filter(|raw| raw.sh_type(e) == elf::SHT_REL) {
            let name = String::from_utf8_lossy(table.section_name(e, raw).map_err(broken)?);
            let target = raw.sh_info(e) as usize;
            if raw.sh_entsize(e) != R_ENTRY_SIZE {
                return Err(SpecError::section(
                    &name,
                    format!("entries of {} bytes, not 16", raw.sh_entsize(e)),
                ));
            }
            let count = sections.len();
            let Some(target) = sections.get_mut(target) else {
                return Err(SpecError::section(&name, format!("applies to section {target} of {count}")));
            };
            // Linkers and libbpf go by the name: one that says something else is about a section that was meant.
            if name.strip_prefix(".rel") == Some(super::maps::MAPS) && target.name != super::maps::MAPS {
                return Err(SpecError::section(&name, format!("applies to section `{}`", target.name)));
            }
            let entries = raw.rel(e, data).map_err(|error| SpecError::section(&name, error.to_string()))?;
            let entries = entries.map_or(&[][..], |(entries, _)| entries);
            target.relocations.extend(
                entries
                    .iter()
                    .map(|entry| Relocation { offset: entry.r_offset(e), symbol: entry.r_sym(e) as usize }),
            );
        }
        Ok(())
    }

    fn symbols(&self, symtab: SectionIndex, names: &mut Budget) -> Result<Vec<Symbol<'a>>, SpecError> {
        let File { data, e, ref table } = *self;
        let raw_symbols = object::read::elf::SymbolTable::parse(
            e,
            data,
            table,
            symtab,
            table.section(symtab).map_err(broken)?,
        )
        .map_err(broken)?;
        let strings = raw_symbols.strings();
        raw_symbols
            .iter()
            .map(|raw| {
                let name = raw.name(e, strings).map_err(broken)?;
                if !names.take(name.len() as u64) {
                    return Err(too_many_names());
                }
                Ok(Symbol {
                    name: String::from_utf8_lossy(name),
                    binding: raw.st_bind(),
                    kind: raw.st_type(),
                    visibility: raw.st_visibility(),
                    section: raw.st_shndx(e).0,
                    value: raw.st_value(e),
                    size: raw.st_size(e),
                })
            })
            .collect()
    }
}

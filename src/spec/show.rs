//! A spec as text: the same for the same bytes, made to be read and compared.

use std::fmt::{self, Display, Formatter};

use skep_asm::disassemble;

use super::{
    AutoAttach, ExternKind, ExternSpec, FunctionSpec, GlobalSpec, InfoRecords, MapRole, MapSpec, Pinning,
    ProgramSpec, ReferenceTarget, SlotValue, Spec,
};

/// How many bytes of contents a line shows.
const BYTES_SHOWN: usize = 32;

impl Display for Spec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let endian = if self.endian.is_little() { "little" } else { "big" };
        writeln!(f, "object {} {endian} license {:?}", self.name, self.license)?;
        if let Some(version) = self.version {
            writeln!(f, "version {version:#x}")?;
        }
        if let Some(btf) = &self.btf {
            writeln!(f, "types {} in {} bytes", btf.len(), btf.bytes().len())?;
        }
        for program in &self.programs {
            show_program(f, self, program)?;
        }
        for map in &self.maps {
            show_map(f, self, map, "")?;
        }
        for global in &self.globals {
            show_global(f, self, global)?;
        }
        for spec in &self.externs {
            show_extern(f, spec)?;
        }
        for table in &self.jump_tables {
            writeln!(f, "jump table {} {:?}", table.name, table.targets)?;
        }
        for function in &self.functions {
            show_function(f, self, function)?;
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        Ok(())
    }
}

fn show_program(f: &mut Formatter<'_>, spec: &Spec, program: &ProgramSpec) -> fmt::Result {
    write!(f, "program {} section {} type {}", program.name, program.section, program.prog_type)?;
    if program.attach_type.0 != 0 {
        write!(f, " attach_type {}", program.attach_type)?;
    }
    if program.attach_type_optional {
        write!(f, " (optional)")?;
    }
    if let Some(target) = &program.attach_to {
        write!(f, " to {target:?}")?;
    }
    if program.attach_btf {
        write!(f, " by_type")?;
    }
    if program.auto_attach != AutoAttach::None {
        write!(f, " attach {:?}", program.auto_attach)?;
    }
    if !program.flags.is_empty() {
        write!(f, " flags {:#x}", program.flags.bits())?;
    }
    if !program.autoload {
        write!(f, " no_autoload")?;
    }
    match spec.functions.get(program.function.0) {
        Some(function) if function.name != program.name => writeln!(f, " function {}", function.name),
        Some(_) => writeln!(f),
        None => writeln!(f, " function ?"),
    }
}

pub(crate) fn show_map(f: &mut Formatter<'_>, spec: &Spec, map: &MapSpec, indent: &str) -> fmt::Result {
    write!(
        f,
        "{indent}map {} {} key {} value {} entries {}",
        map.name, map.map_type, map.key_size, map.value_size, map.max_entries
    )?;
    if !map.flags.is_empty() {
        write!(f, " flags {:#x}", map.flags.bits())?;
    }
    if map.numa_node != 0 {
        write!(f, " numa_node {}", map.numa_node)?;
    }
    if map.map_extra != 0 {
        write!(f, " map_extra {:#x}", map.map_extra)?;
    }
    show_pinning(f, map.pinning)?;
    for (what, id) in [("key_type", map.key_type), ("value_type", map.value_type)] {
        if let Some(id) = id {
            write!(f, " {what} {id}")?;
        }
    }
    if map.role != MapRole::Declared {
        write!(f, " role {:?}", map.role)?;
    }
    if !map.autocreate {
        write!(f, " no_autocreate")?;
    }
    writeln!(f)?;
    if let Some(inner) = &map.inner {
        show_map(f, spec, inner, "  inner ")?;
    }
    for slot in &map.slots {
        let name = match slot.value {
            SlotValue::Map(index) => spec.maps.get(index.0).map(|map| &map.name),
            SlotValue::Program(index) => spec.programs.get(index.0).map(|program| &program.name),
        };
        writeln!(f, "  [{}] = {}", slot.index, name.map_or("?", String::as_str))?;
    }
    show_bytes(f, &map.contents)
}

pub(crate) fn show_pinning(f: &mut Formatter<'_>, pinning: Pinning) -> fmt::Result {
    match pinning {
        Pinning::None => Ok(()),
        Pinning::ByName => write!(f, " pinned"),
        Pinning::TcGlobal => write!(f, " pinned in tc/globals"),
    }
}

/// Bytes in lines; lines of zeros are left out.
pub(crate) fn show_bytes(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for (at, line) in bytes.chunks(BYTES_SHOWN).enumerate() {
        if line.iter().all(|&byte| byte == 0) {
            continue;
        }
        write!(f, "  {:#06x}:", at * BYTES_SHOWN)?;
        for group in line.chunks(4) {
            write!(f, " ")?;
            for byte in group {
                write!(f, "{byte:02x}")?;
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn show_global(f: &mut Formatter<'_>, spec: &Spec, global: &GlobalSpec) -> fmt::Result {
    let map = spec.maps.get(global.map.0).map_or("?", |map| &map.name);
    write!(f, "global {} {map}+{:#x} size {}", global.name, global.offset, global.size)?;
    if let Some(id) = global.type_id {
        write!(f, " type {id}")?;
    }
    writeln!(f, "{}", if global.private { " private" } else { "" })
}

fn show_extern(f: &mut Formatter<'_>, spec: &ExternSpec) -> fmt::Result {
    write!(f, "extern {}{} ", spec.name, if spec.weak { " weak" } else { "" })?;
    match spec.kind {
        ExternKind::Kconfig { offset, size } => write!(f, "kconfig+{offset:#x} size {size}")?,
        ExternKind::Variable { typed } => write!(f, "{}variable", if typed { "typed " } else { "" })?,
        ExternKind::Function => write!(f, "function")?,
    }
    write!(f, " type {}", spec.type_id)?;
    match &spec.value {
        Some(value) => writeln!(f, " = {value}"),
        None => writeln!(f),
    }
}

fn show_function(f: &mut Formatter<'_>, spec: &Spec, function: &FunctionSpec) -> fmt::Result {
    write!(f, "function {} in {} at {}", function.name, function.section, function.offset)?;
    let marks = [
        (function.subprogram, "subprogram"),
        (!function.global, "static"),
        (function.weak, "weak"),
        (function.hidden, "hidden"),
    ];
    for (_, mark) in marks.iter().filter(|(set, _)| *set) {
        write!(f, " {mark}")?;
    }
    writeln!(f)?;
    let mut references = function.references.iter().peekable();
    let mut relos = function.core_relos.iter().peekable();
    let mut strays = function.strays.iter().peekable();
    for line in disassemble(&function.insns) {
        write!(f, "  {:>4}: {line}", line.index)?;
        let end = (line.index + line.slots) as u32;
        while let Some(reference) = references.next_if(|reference| reference.insn < end) {
            write!(f, "  ; {}", name_of(spec, reference.target))?;
        }
        while let Some(stray) = strays.next_if(|stray| stray.insn < end) {
            write!(f, "  ; {}", stray.reason)?;
        }
        while let Some(relo) = relos.next_if(|relo| relo.insn_off < end) {
            let access = spec.btf.as_ref().and_then(|btf| btf.str_at(relo.access_str_off).ok());
            write!(f, "  ; core {} type {} ", relo.kind, relo.type_id)?;
            write!(f, "{}", String::from_utf8_lossy(access.unwrap_or(b"?")))?;
        }
        writeln!(f)?;
    }
    show_records(f, "func_info", &function.func_info, 2)?;
    show_records(f, "line_info", &function.line_info, 4)
}

fn name_of(spec: &Spec, target: ReferenceTarget) -> String {
    let or_unknown = |name: Option<&String>| name.cloned().unwrap_or_else(|| "?".to_owned());
    match target {
        ReferenceTarget::Call(index) => {
            format!("call {}", or_unknown(spec.functions.get(index.0).map(|f| &f.name)))
        }
        ReferenceTarget::FunctionAddress(index) => {
            format!("address of {}", or_unknown(spec.functions.get(index.0).map(|f| &f.name)))
        }
        ReferenceTarget::Map(index) => format!("map {}", or_unknown(spec.maps.get(index.0).map(|m| &m.name))),
        ReferenceTarget::MapValue { map, offset } => {
            format!("{}+{offset:#x}", or_unknown(spec.maps.get(map.0).map(|m| &m.name)))
        }
        ReferenceTarget::Extern(index) => {
            format!("extern {}", or_unknown(spec.externs.get(index.0).map(|e| &e.name)))
        }
        ReferenceTarget::JumpTable(index) => {
            format!("jump table {}", or_unknown(spec.jump_tables.get(index.0).map(|table| &table.name)))
        }
    }
}

/// Records as numbers: of function records offset and type, of line records offset, file, text, and line:column.
pub(crate) fn show_records(
    f: &mut Formatter<'_>,
    what: &str,
    records: &InfoRecords,
    words: usize,
) -> fmt::Result {
    if records.is_empty() {
        return Ok(());
    }
    write!(f, "  {what} ({} bytes each):", records.record_size)?;
    for record in records.iter() {
        let numbers: Vec<String> = record
            .chunks_exact(4)
            .take(words)
            .enumerate()
            .filter_map(|(at, word)| {
                let word = u32::from_ne_bytes(word.try_into().ok()?);
                Some(if at == 3 { format!("{}:{}", word >> 10, word & 0x3ff) } else { word.to_string() })
            })
            .collect();
        write!(f, " {}", numbers.join(","))?;
    }
    writeln!(f)
}

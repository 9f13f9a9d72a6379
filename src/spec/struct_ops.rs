//! `struct_ops` tables: structures of the kernel whose functions are programs of the object.

use std::collections::HashMap;

use skep_btf::{Btf, BtfError, Kind, Member, Type};
use skep_sys::abi::{MapFlags, MapType, ProgType};

use super::code::Code;
use super::elf::{Budget, Elf, Section};
use super::{MapRole, MapSpec, ProgramIndex, ProgramSpec, Slot, SlotValue, SpecError};

/// Size of a pointer in a table.
const POINTER: u64 = 8;
/// Most tables of an object, and most members of one. The largest of a kernel has some fifty members.
const LIMIT: usize = 1024;

/// Whether a section holds tables, and the flags that its maps get.
pub(super) fn flags(section: &Section<'_>) -> Option<MapFlags> {
    if section.kind != object::elf::SHT_PROGBITS || section.size == 0 || section.executable {
        return None;
    }
    match section.name.strip_prefix('?').unwrap_or(&section.name) {
        ".struct_ops" => Some(MapFlags::empty()),
        ".struct_ops.link" => Some(MapFlags::LINK),
        _ => None,
    }
}

/// A table and where it is in its section.
struct Table<'b> {
    offset: u64,
    structure: Type<'b>,
    map: MapSpec,
}

/// The tables in the order of their sections and of the variables in each.
pub(super) fn read(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    code: &Code,
    programs: &[ProgramSpec],
) -> Result<Vec<MapSpec>, SpecError> {
    let mut maps = Vec::new();
    let mut names = Budget::new(elf.size);
    for section in &elf.sections {
        let Some(flags) = flags(section) else { continue };
        let in_section = |reason: &str| SpecError::section(&section.name, reason);
        let btf = btf.ok_or_else(|| in_section("struct_ops tables need BTF: compile with -g"))?;
        let datasec = btf
            .find_own(section.name.as_bytes(), Kind::DATASEC)
            .ok_or_else(|| in_section("BTF has no data section of that name: compile with -g"))?;
        let datasec = btf.ty(datasec).map_err(in_btf)?;
        let mut tables = Vec::new();
        for entry in datasec.vars() {
            let var = btf.ty(entry.type_id).map_err(in_btf)?;
            if maps.len() + tables.len() >= LIMIT || !names.take(var.name_bytes().len() as u64) {
                return Err(in_section("too many tables"));
            }
            let name = var.name().into_owned();
            let fail = |reason: String| SpecError::map(&name, reason);
            let structure = btf.peel(var.type_id()).map_err(in_btf)?;
            if structure.kind() != Kind::STRUCT || structure.name_bytes().is_empty() {
                return Err(fail(format!(
                    "a struct_ops table is a variable of a named structure, not of a {}",
                    structure.kind()
                )));
            }
            if structure.vlen() as usize > LIMIT {
                return Err(fail(format!("its structure has more than {LIMIT} members")));
            }
            let mut map = MapSpec::new(&name, MapType::STRUCT_OPS, 4, structure.size(), 1);
            map.flags = flags;
            map.role = MapRole::StructOps;
            map.value_type = Some(structure.id());
            map.autocreate = !section.name.starts_with('?');
            tables.push(Table { offset: u64::from(entry.offset), structure, map });
        }
        // Two tables may not share bytes: a program in one would be a stray number in the other.
        tables.sort_by_key(|table| table.offset);
        if tables.array_windows().any(|[a, b]| a.offset + u64::from(a.map.value_size) > b.offset) {
            return Err(in_section("two tables overlap"));
        }
        for table in &mut tables {
            let (offset, size) = (table.offset, u64::from(table.map.value_size));
            let bytes = usize::try_from(offset).ok().zip(usize::try_from(offset + size).ok());
            let Some(contents) = bytes.and_then(|(start, end)| section.data.get(start..end)) else {
                let all = section.data.len();
                let reason = format!("{size} bytes at {offset} do not fit the section's {all}");
                return Err(SpecError::map(&table.map.name, reason));
            };
            table.map.contents = contents.to_vec();
        }
        fill(elf, section, code, programs, &mut tables)?;
        maps.extend(tables.into_iter().map(|table| table.map));
    }
    Ok(maps)
}

/// Puts programs into the members that relocations point at.
fn fill(
    elf: &Elf<'_>,
    section: &Section<'_>,
    code: &Code,
    programs: &[ProgramSpec],
    tables: &mut [Table<'_>],
) -> Result<(), SpecError> {
    let mut members = HashMap::new();
    for (index, relocation) in section.relocations.iter().enumerate() {
        let symbol = elf.symbols.get(relocation.symbol);
        let fail = |reason: String| SpecError::Relocation {
            section: section.name.clone().into_owned(),
            index,
            offset: relocation.offset,
            symbol: symbol.map_or(String::new(), |symbol| symbol.name.clone().into_owned()),
            reason,
        };
        let Some(symbol) = symbol else { return Err(fail("the symbol does not exist".into())) };
        let after = tables.partition_point(|table| table.offset <= relocation.offset);
        let place = after.checked_sub(1).and_then(|at| {
            let table = tables.get_mut(at)?;
            let offset = relocation.offset - table.offset;
            offset
                .checked_add(POINTER)
                .is_some_and(|end| end <= u64::from(table.map.value_size))
                .then_some((offset, table))
        });
        let Some((offset, table)) = place else { return Err(fail("it lies in no table".into())) };
        let structure = table.structure;
        let by_offset = members.entry(structure.id()).or_insert_with(|| {
            // Of members that share an offset the first one counts.
            let members = (0..).zip(structure.members()).collect::<Vec<(u32, Member<'_>)>>();
            members
                .into_iter()
                .rev()
                .map(|(nth, member)| (u64::from(member.bit_offset), (nth, member)))
                .collect()
        });
        let by_offset: &HashMap<u64, (u32, Member<'_>)> = by_offset;
        let Some(&(nth, member)) = by_offset.get(&(offset * 8)) else {
            return Err(fail(format!("no member of `{}` starts there", table.structure.name())));
        };
        let of_function = is_function_pointer(table.structure.btf(), member.type_id).map_err(in_btf)?;
        if !of_function {
            return Err(fail(format!(
                "member `{}` of `{}` is no pointer to a function",
                member.name(),
                table.structure.name()
            )));
        }
        let program = (symbol.value % 8 == 0)
            .then(|| code.function_at(usize::from(symbol.section), symbol.value / 8))
            .flatten()
            .and_then(|function| programs.binary_search_by_key(&function, |program| program.function).ok());
        let Some((at, program)) = program.and_then(|at| Some((at, programs.get(at)?))) else {
            return Err(fail("it is no entry program of this object".into()));
        };
        if program.prog_type != ProgType::STRUCT_OPS {
            return Err(fail(format!(
                "program `{}` is in section `{}`, not in a struct_ops section",
                program.name, program.section
            )));
        }
        // What stands there is the linker's, and the address of a program is not known before it is loaded.
        let start = offset as usize; // within the table's bytes
        if let Some(bytes) = table.map.contents.get_mut(start..start + POINTER as usize) {
            bytes.fill(0);
        }
        let slot = Slot { index: nth, value: SlotValue::Program(ProgramIndex(at)) };
        match table.map.slots.binary_search_by_key(&slot.index, |slot| slot.index) {
            Ok(known) => table.map.slots[known] = slot, // the last one counts, as in libbpf; found just now
            Err(free) => table.map.slots.insert(free, slot),
        }
    }
    Ok(())
}

/// Whether a member is a pointer to a function.
pub(crate) fn is_function_pointer(btf: &Btf, member: skep_btf::TypeId) -> Result<bool, BtfError> {
    let pointer = btf.peel(member)?;
    Ok(pointer.kind() == Kind::PTR && btf.peel(pointer.type_id())?.kind() == Kind::FUNC_PROTO)
}

fn in_btf(source: BtfError) -> SpecError {
    SpecError::Btf { section: ".BTF", source }
}

//! Map definitions of the `.maps` section.

use std::collections::HashMap;

use object::elf;
use skep_btf::{Btf, BtfError, Kind, Linkage, Member, Type, TypeId};
use skep_sys::abi::{MapFlags, MapType};

use super::code::Code;
use super::elf::{Budget, Elf};
use super::{MapIndex, MapSpec, Pinning, ProgramIndex, ProgramSpec, Slot, SlotValue, SpecError};

/// The section of map definitions.
pub(super) const MAPS: &str = ".maps";

/// Bytes of a pointer in a map definition, and so of an initialised slot.
const POINTER: u64 = 8;

/// Most fields of a definition; there are not half as many different ones.
const MAX_FIELDS: u32 = 32;

/// The declared maps, and where each one's definition is in `.maps`.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) maps: Vec<MapSpec>,
    /// Offset and size of the definition, and where its `values` begin in it.
    places: Vec<Place>,
}

struct Place {
    offset: u64,
    size: u64,
    values: Option<u64>,
}

impl Declared {
    pub(super) fn offsets(&self) -> Vec<(u64, MapIndex)> {
        self.places.iter().enumerate().map(|(index, place)| (place.offset, MapIndex(index))).collect()
    }
}

pub(super) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Declared, SpecError> {
    let Some((section_index, section)) = elf.section_named(MAPS) else { return Ok(Declared::default()) };
    let btf = btf.ok_or_else(|| SpecError::section(MAPS, "map definitions need BTF: compile with -g"))?;
    let datasec = btf
        .find_own(MAPS.as_bytes(), Kind::DATASEC)
        .ok_or_else(|| SpecError::section(MAPS, "BTF has no data section of that name: compile with -g"))?;
    let datasec = btf.ty(datasec).map_err(in_btf)?;

    let mut declared = Declared::default();
    let mut symbols = HashMap::new();
    for symbol in &elf.symbols {
        if usize::from(symbol.section) == section_index && symbol.kind != elf::STT_SECTION {
            symbols.entry(symbol.name.as_ref()).or_insert(symbol.value);
        }
    }
    let mut names = Budget::new(elf.size);
    let mut entries = Vec::new();
    for entry in datasec.vars() {
        let var = btf.ty(entry.type_id).map_err(in_btf)?;
        if !names.take(var.name_bytes().len() as u64) {
            return Err(SpecError::section(MAPS, "too many maps share a long name"));
        }
        let name = var.name().into_owned();
        if name.is_empty() || var.kind() != Kind::VAR {
            return Err(SpecError::map(&name, format!("its entry in BTF is a {} without use", var.kind())));
        }
        // Compilers leave the section's size and the offsets of its entries at zero: the symbol has it. Linkers set both.
        let symbol = symbols.get(name.as_str()).filter(|_| datasec.size() == 0);
        let offset = symbol.copied().unwrap_or(u64::from(entry.offset));
        entries.push((offset, u64::from(entry.size), name, var));
    }
    entries.sort_by_key(|(offset, ..)| *offset);
    for (offset, size, name, var) in entries {
        let fail = |reason: String| SpecError::map(&name, reason);
        if offset.saturating_add(size) > section.size {
            return Err(fail(format!("{size} bytes at {offset} do not fit the section's {}", section.size)));
        }
        if var.linkage() != Some(Linkage::GLOBAL) {
            return Err(fail(
                "its definition is static, hidden or extern: make it a global that others see".into(),
            ));
        }
        let definition = btf.peel(var.type_id()).map_err(|error| fail(error.to_string()))?;
        if definition.kind() != Kind::STRUCT {
            return Err(fail(format!("its definition is a {}, not a struct", definition.kind())));
        }
        if u64::from(definition.size()) > size {
            return Err(fail(format!("its type has {} bytes, its variable {size}", definition.size())));
        }
        let mut definition = Definition::new(btf, &name, false);
        definition.read(btf.peel(var.type_id()).map_err(|error| fail(error.to_string()))?).map_err(fail)?;
        declared.places.push(Place { offset, size, values: definition.values });
        declared.maps.push(definition.map);
    }
    Ok(declared)
}

fn in_btf(source: BtfError) -> SpecError {
    SpecError::Btf { section: ".BTF", source }
}

/// A definition being read.
struct Definition<'b> {
    btf: &'b Btf,
    map: MapSpec,
    inner: bool,
    has_key_size: bool,
    has_value_size: bool,
    values: Option<u64>,
}

impl<'b> Definition<'b> {
    fn new(btf: &'b Btf, name: &str, inner: bool) -> Self {
        Definition {
            btf,
            map: MapSpec::new(name, MapType::UNSPEC, 0, 0, 0),
            inner,
            has_key_size: false,
            has_value_size: false,
            values: None,
        }
    }

    fn read(&mut self, definition: Type<'b>) -> Result<(), String> {
        let count = definition.vlen();
        if count > MAX_FIELDS {
            return Err(format!("its definition has {count} fields, more than {MAX_FIELDS}"));
        }
        for (index, member) in definition.members().enumerate() {
            let name = member.name();
            let last = index as u32 + 1 == count;
            self.field(&name, member, last).map_err(|reason| format!("field `{name}`: {reason}"))?;
        }
        if self.map.map_type == MapType::UNSPEC {
            return Err("its definition names no type: add __uint(type, BPF_MAP_TYPE_…)".into());
        }
        if matches!(self.map.map_type, MapType::RINGBUF | MapType::USER_RINGBUF) {
            self.map.max_entries = round_ring(self.map.max_entries, PAGE);
        }
        Ok(())
    }

    fn field(&mut self, name: &str, member: Member<'b>, last: bool) -> Result<(), String> {
        match name {
            "type" => self.map.map_type = MapType(self.number(member.type_id)?),
            "max_entries" => self.map.max_entries = self.number(member.type_id)?,
            "map_flags" => self.map.flags = MapFlags::from_bits_retain(self.number(member.type_id)?),
            "numa_node" => self.map.numa_node = self.number(member.type_id)?,
            "key_size" => {
                let size = self.number(member.type_id)?;
                self.set_key_size(size)?;
            }
            "value_size" => {
                let size = self.number(member.type_id)?;
                self.set_value_size(size)?;
            }
            "key" => {
                let (id, size) = self.pointee(member.type_id)?;
                self.set_key_size(size)?;
                self.map.key_type = Some(id);
            }
            "value" => {
                let (id, size) = self.pointee(member.type_id)?;
                self.set_value_size(size)?;
                self.map.value_type = Some(id);
            }
            "values" => self.read_values(member, last)?,
            "pinning" if self.inner => return Err("an inner map cannot be pinned".into()),
            "pinning" => {
                self.map.pinning = match self.number(member.type_id)? {
                    0 => Pinning::None,
                    1 => Pinning::ByName,
                    other => return Err(format!("{other} is neither 0 (none) nor 1 (by name)")),
                }
            }
            "map_extra" => self.map.map_extra = self.wide_number(member.type_id)?,
            _ => return Err("not a field of a map definition".into()),
        }
        Ok(())
    }

    /// `__uint(name, N)`: a pointer to an array of N elements.
    fn number(&self, id: TypeId) -> Result<u32, String> {
        let shape = || "is not declared with __uint".to_owned();
        let pointer = self.btf.peel(id).map_err(text)?;
        if pointer.kind() != Kind::PTR {
            return Err(shape());
        }
        let array = self.btf.peel(pointer.type_id()).map_err(text)?.array().ok_or_else(shape)?;
        Ok(array.len)
    }

    /// `__ulong(name, N)`: an enumeration whose only value is N; or as [`number`](Self::number).
    fn wide_number(&self, id: TypeId) -> Result<u64, String> {
        let ty = self.btf.peel(id).map_err(text)?;
        if !ty.kind().is_enum() {
            return self.number(id).map(u64::from);
        }
        let mut values = ty.enumerators();
        match (values.next(), values.next()) {
            (Some(only), None) => Ok(only.value.cast_unsigned()),
            _ => Err(format!("is an enumeration of {} values, not of one", ty.vlen())),
        }
    }

    /// `__type(name, T)`: a pointer to the type.
    fn pointee(&self, id: TypeId) -> Result<(TypeId, u32), String> {
        let pointer = self.btf.ty(id).map_err(text)?;
        if pointer.kind() != Kind::PTR {
            return Err("is not declared with __type".into());
        }
        let size = self.btf.resolve_size(pointer.type_id()).map_err(text)?;
        Ok((pointer.type_id(), size))
    }

    fn set_key_size(&mut self, size: u32) -> Result<(), String> {
        if self.has_key_size && self.map.key_size != 0 && self.map.key_size != size {
            return Err(format!("says {size} bytes, an earlier field says {}", self.map.key_size));
        }
        self.has_key_size = true;
        self.map.key_size = size;
        Ok(())
    }

    fn set_value_size(&mut self, size: u32) -> Result<(), String> {
        if self.has_value_size && self.map.value_size != 0 && self.map.value_size != size {
            return Err(format!("says {size} bytes, an earlier field says {}", self.map.value_size));
        }
        self.has_value_size = true;
        self.map.value_size = size;
        Ok(())
    }

    /// `__array(values, …)`: what a map of maps or programs holds.
    fn read_values(&mut self, member: Member<'b>, last: bool) -> Result<(), String> {
        let of_maps = matches!(self.map.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
        if self.inner {
            return Err("an inner map cannot hold maps of its own".into());
        }
        if !last {
            return Err("must be the last field".into());
        }
        if !of_maps && self.map.map_type != MapType::PROG_ARRAY {
            return Err(format!(
                "a map of type {} has none (and `type` must come before it)",
                self.map.map_type
            ));
        }
        self.set_value_size(4)?;
        let shape = || "is not declared with __array".to_owned();
        let array = self.btf.peel(member.type_id).map_err(text)?.array().ok_or_else(shape)?;
        if array.len != 0 {
            return Err("its array must have no length".into());
        }
        let element = self.btf.peel(array.element).map_err(text)?;
        if element.kind() != Kind::PTR {
            return Err("its elements are not pointers".into());
        }
        let held = self.btf.peel(element.type_id()).map_err(text)?;
        self.values = Some(u64::from(member.bit_offset / 8));
        if of_maps {
            if held.kind() != Kind::STRUCT {
                return Err(format!("its elements point to a {}, not to a map definition", held.kind()));
            }
            let mut inner = Definition::new(self.btf, &format!("{}.inner", self.map.name), true);
            inner.read(held)?;
            self.map.inner = Some(Box::new(inner.map));
        } else if held.kind() != Kind::FUNC_PROTO {
            return Err(format!("its elements point to a {}, not to a function", held.kind()));
        }
        Ok(())
    }
}

fn text(error: BtfError) -> String {
    error.to_string()
}

/// Size of a page where no kernel can be asked: ring sizes are rounded again when the map is created.
pub(super) const PAGE: u32 = 4096;

/// The size that a ring gets: a power of two of pages, at least what was asked for; 0 and what does not fit stay.
pub(crate) fn round_ring(size: u32, page: u32) -> u32 {
    if size == 0 || (size.is_multiple_of(page) && (size / page).is_power_of_two()) {
        return size;
    }
    size.max(page).checked_next_power_of_two().unwrap_or(size)
}

/// The elements that definitions initialise, from the relocations of `.maps`.
pub(super) fn read_slots(
    elf: &Elf<'_>,
    declared: &mut Declared,
    code: &Code,
    programs: &[ProgramSpec],
) -> Result<(), SpecError> {
    let Some((section_index, section)) = elf.section_named(MAPS) else { return Ok(()) };
    let by_offset = declared.offsets();
    for (index, relocation) in section.relocations.iter().enumerate() {
        let symbol = elf.symbols.get(relocation.symbol);
        let fail = |reason: String| SpecError::Relocation {
            section: MAPS.into(),
            index,
            offset: relocation.offset,
            symbol: symbol.map_or(String::new(), |symbol| symbol.name.clone().into_owned()),
            reason,
        };
        let Some(symbol) = symbol else { return Err(fail("the symbol does not exist".into())) };
        let offset = relocation.offset;
        let after = declared.places.partition_point(|place| place.offset <= offset);
        let place = after.checked_sub(1).and_then(|at| {
            let place = declared.places.get(at).filter(|place| {
                offset.checked_add(POINTER).is_some_and(|end| end <= place.offset + place.size)
            })?;
            Some((place, declared.maps.get_mut(at)?))
        });
        let Some((place, map)) = place else { return Err(fail("it lies in no map's definition".into())) };
        let Some(values) = place.values else {
            return Err(fail(format!(
                "map `{}` of type {} holds nothing that can be initialised",
                map.name, map.map_type
            )));
        };
        let Some(into) = (offset - place.offset).checked_sub(values).filter(|into| into % POINTER == 0)
        else {
            return Err(fail(format!("it does not point at an element of map `{}`", map.name)));
        };
        let value = if map.map_type == MapType::PROG_ARRAY {
            let function = (symbol.value % 8 == 0)
                .then(|| code.function_at(usize::from(symbol.section), symbol.value / 8))
                .flatten();
            let program = function
                .and_then(|function| {
                    programs.binary_search_by_key(&function, |program| program.function).ok()
                })
                .filter(|&at| programs.get(at).is_some_and(|program| program.name == symbol.name));
            SlotValue::Program(ProgramIndex(
                program.ok_or_else(|| fail("it is no entry program of this object".into()))?,
            ))
        } else {
            if map.map_type == MapType::HASH_OF_MAPS && map.key_size != 4 {
                return Err(fail(format!(
                    "map `{}` has keys of {} bytes, elements are numbered by 4",
                    map.name, map.key_size
                )));
            }
            // An offset from the section's start would stand in the slot's bytes, and a static map has no name.
            if symbol.kind == object::elf::STT_SECTION {
                return Err(fail("it names the section, and no map in it".into()));
            }
            let found = (usize::from(symbol.section) == section_index)
                .then(|| by_offset.get(by_offset.partition_point(|(at, _)| *at < symbol.value)))
                .flatten()
                .filter(|(at, _)| *at == symbol.value);
            SlotValue::Map(found.ok_or_else(|| fail("it is no map of this object".into()))?.1)
        };
        map.slots.push(Slot { index: (into / POINTER) as u32, value });
    }
    for map in &mut declared.maps {
        map.slots.sort_by_key(|slot| slot.index);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PAGE, round_ring};

    #[test]
    fn ring_sizes_are_powers_of_two_of_pages() {
        let cases = [
            (0, 0),
            (1, 4096),
            (4096, 4096),
            (4097, 8192),
            (12288, 16384),
            (1 << 20, 1 << 20),
            (u32::MAX, u32::MAX),
        ];
        for (asked, given) in cases {
            assert_eq!(round_ring(asked, PAGE), given, "{asked}");
        }
    }
}

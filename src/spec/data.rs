//! Data sections: the maps that hold them, and the global variables in them.

use std::borrow::Cow;
use std::collections::HashMap;

use object::elf;
use skep_btf::{Btf, Kind, Linkage, TypeId};
use skep_sys::abi::{MapFlags, MapType, OBJ_NAME_MAX};

use super::elf::{Elf, Section, Symbol};
use super::{GlobalSpec, MapIndex, MapRole, MapSpec, SpecError};

/// A data section and the map made of it.
pub(super) struct DataMap {
    pub(super) section: usize,
    pub(super) map: MapSpec,
}

/// What a section's name and kind make of it.
pub(super) fn role(section: &Section<'_>) -> Option<MapRole> {
    let of = |base: &str| {
        section.name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    match section.kind {
        elf::SHT_PROGBITS if section.size == 0 || section.executable => None,
        elf::SHT_PROGBITS if of(".data") => Some(MapRole::Data),
        elf::SHT_PROGBITS if of(".rodata") => Some(MapRole::Rodata),
        elf::SHT_NOBITS if of(".bss") && section.size > 0 => Some(MapRole::Bss),
        _ => None,
    }
}

pub(super) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<DataMap>, SpecError> {
    let mut maps = Vec::new();
    let mut shared = HashMap::new();
    for (index, section) in elf.sections.iter().enumerate() {
        let Some(role) = role(section) else { continue };
        let size = u32::try_from(section.size).map_err(|_| {
            SpecError::section(&section.name, format!("{} bytes do not fit a map's value", section.size))
        })?;
        let mut map = MapSpec::new(&section.name, MapType::ARRAY, 4, size, 1);
        if role.is_read_only() {
            map.flags |= MapFlags::RDONLY_PROG;
        }
        if role != MapRole::Bss {
            map.contents = section.data.to_vec();
        }
        if let Some(btf) = btf {
            map.value_type = btf.find_any(section.name.as_bytes());
            let mut is_shared = |id| *shared.entry(id).or_insert_with(|| has_shared_variable(btf, id));
            if map.value_type.is_some_and(&mut is_shared) {
                map.flags |= MapFlags::MMAPABLE;
            }
        }
        map.role = role;
        maps.push(DataMap { section: index, map });
    }
    Ok(maps)
}

/// Whether user space is meant to see a variable of the section: only then is its map made mappable.
fn has_shared_variable(btf: &Btf, datasec: TypeId) -> bool {
    let Ok(datasec) = btf.ty(datasec) else { return false };
    datasec.kind() == Kind::DATASEC
        && datasec
            .vars()
            .filter_map(|entry| btf.ty(entry.type_id).ok())
            .any(|var| var.kind() == Kind::VAR && var.linkage() != Some(Linkage::STATIC))
}

/// The variables of the data maps. `first` is the index of the first of them in the object's maps.
pub(super) fn globals(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    maps: &[DataMap],
    first: usize,
) -> Result<Vec<GlobalSpec>, SpecError> {
    let mut globals = Vec::new();
    let mut known_types = HashMap::new();
    let mut by_section: HashMap<usize, Vec<&Symbol<'_>>> = HashMap::new();
    for symbol in variables(elf) {
        by_section.entry(usize::from(symbol.section)).or_default().push(symbol);
    }
    for (position, data) in maps.iter().enumerate() {
        let map = MapIndex(first + position);
        let value_type = data.map.value_type;
        let types: &Vec<_> = known_types
            .entry(value_type)
            .or_insert_with(|| btf.map(|btf| types_of(btf, value_type)).unwrap_or_default());
        let symbols = by_section.get(&data.section).into_iter().flatten().copied();
        let place = Place { map, section: &data.map.name, size: data.map.value_size, types };
        globals.extend(place.globals(symbols)?);
    }
    Ok(globals)
}

/// The variables of the arena that has the contents of a section.
pub(super) fn arena_globals(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    section_index: usize,
    map: MapIndex,
) -> Result<Vec<GlobalSpec>, SpecError> {
    let Some(section) = elf.sections.get(section_index) else { return Ok(Vec::new()) };
    let datasec = btf.and_then(|btf| btf.find_any(section.name.as_bytes()));
    let types = btf.map(|btf| types_of(btf, datasec)).unwrap_or_default();
    let size = u32::try_from(section.size).map_err(|_| {
        SpecError::section(&section.name, format!("{} bytes do not fit an arena", section.size))
    })?;
    let symbols = variables(elf).filter(|symbol| usize::from(symbol.section) == section_index);
    Place { map, section: &section.name, size, types: &types }.globals(symbols)
}

fn variables<'e, 'a>(elf: &'e Elf<'a>) -> impl Iterator<Item = &'e Symbol<'a>> {
    elf.symbols.iter().filter(|symbol| symbol.kind == elf::STT_OBJECT && !symbol.name.is_empty())
}

/// Where variables are.
struct Place<'p> {
    map: MapIndex,
    section: &'p str,
    size: u32,
    /// Ordered by name.
    types: &'p [(Cow<'p, str>, TypeId)],
}

impl Place<'_> {
    /// The variables of the symbols, by offset.
    fn globals<'e, 'a: 'e>(
        &self,
        symbols: impl Iterator<Item = &'e Symbol<'a>>,
    ) -> Result<Vec<GlobalSpec>, SpecError> {
        let mut globals = Vec::new();
        for symbol in symbols {
            let end = symbol.value.checked_add(symbol.size);
            if end.is_none_or(|end| end > u64::from(self.size)) {
                return Err(SpecError::Variable {
                    variable: symbol.name.clone().into_owned(),
                    section: self.section.to_owned(),
                    reason: format!(
                        "its {} bytes at {} do not fit the section's {}",
                        symbol.size, symbol.value, self.size
                    ),
                });
            }
            let known = self.types.binary_search_by(|(name, _)| name.cmp(&symbol.name)).ok();
            globals.push(GlobalSpec {
                name: symbol.name.clone().into_owned(),
                map: self.map,
                offset: symbol.value as u32, // fits: the end does not pass the size
                size: symbol.size as u32,
                type_id: known.and_then(|index| self.types.get(index)).map(|(_, id)| *id),
                private: !symbol.is_global() || symbol.is_hidden(),
            });
        }
        globals.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        Ok(globals)
    }
}

/// Names and types of a data section's variables, ordered by name.
fn types_of(btf: &Btf, datasec: Option<TypeId>) -> Vec<(Cow<'_, str>, TypeId)> {
    let Some(datasec) = datasec.and_then(|id| btf.ty(id).ok()).filter(|ty| ty.kind() == Kind::DATASEC) else {
        return Vec::new();
    };
    let vars = datasec.vars().filter_map(|entry| btf.ty(entry.type_id).ok());
    let vars = vars.filter(|var| var.kind() == Kind::VAR);
    let mut types: Vec<_> = vars.map(|var| (var.name(), var.type_id())).collect();
    types.sort();
    types
}

/// The name that the kernel gets for a data map: the object's name, as much of it as fits, then the section's.
///
/// Sections with a second dot, such as `.data.config`, go without the object's name.
pub(crate) fn kernel_map_name(object: &str, section: &str) -> String {
    const SUFFIX_MIN: usize = 7;
    let suffix = section.len().min(OBJ_NAME_MAX);
    let prefix = if section.get(1..).is_some_and(|rest| rest.contains('.')) {
        0
    } else {
        OBJ_NAME_MAX - suffix.max(SUFFIX_MIN)
    };
    sanitized(object.bytes().take(prefix).chain(section.bytes()))
}

/// A name as the kernel accepts it: at most 15 letters, digits, underscores and dots; other bytes become underscores.
pub(crate) fn sanitize(name: &str) -> String {
    sanitized(name.bytes())
}

fn sanitized(name: impl Iterator<Item = u8>) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    name.map(|byte| if allowed(byte) { char::from(byte) } else { '_' }).take(OBJ_NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::kernel_map_name;

    #[test]
    fn data_maps_are_named_as_libbpf_names_them() {
        let cases = [
            ("my_object", ".rodata", "my_objec.rodata"),
            ("my_object", ".bss", "my_objec.bss"),
            ("my_object", ".kconfig", "my_obje.kconfig"),
            ("my_object", ".rodata.abracadabra", ".rodata.abracad"),
            ("x", ".data", "x.data"),
            ("a-b", ".data", "a_b.data"),
            ("é", ".data", "__.data"),
            ("vierundé", ".data", "vierund_.data"),
        ];
        for (object, section, name) in cases {
            assert_eq!(kernel_map_name(object, section), name);
        }
    }
}

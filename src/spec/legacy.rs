//! Map definitions of before BTF: structs of numbers in section `maps`, or each in a section `maps/NAME`.
//!
//! libbpf has refused them since 1.0; cilium/ebpf, aya and iproute2 (tc) take them. All forms begin with five numbers:
//! type, key size, value size, capacity, flags. What follows differs, and nothing in the bytes says which form it is:
//!
//! | form | bytes | what follows |
//! |---|---|---|
//! | libbpf, cilium/ebpf | 20 | |
//! | aya | 28 | `id`, `pinning` (1: by name) |
//! | iproute2 | 28, then 36 | `id`, `pinning` (1: for this object, 2: for all), `inner_id`, `inner_idx` |
//! | the kernel's samples | 28 | `inner_map_idx`, `numa_node` |
//!
//! Where BTF describes the variable, its members' names decide. Otherwise the length does; of the forms of 28 bytes,
//! that of the samples is the only one that can describe a map of maps or a NUMA node, and only iproute2 has a pinning
//! of 2. Any number that no form accounts for must be zero, as it is in the longer definitions of gobpf.

mod fields;
mod tail;

use std::collections::HashMap;

use object::elf;
use skep_btf::{Btf, Kind, TypeId};
use skep_sys::abi::MapType;

use self::fields::{Definition, Layout};
use super::elf::{Budget, Elf, Section, Symbol};
use super::maps::{PAGE, round_ring};
use super::{MapIndex, MapSpec, Slot, SlotValue, SpecError};

pub(super) use tail::{fill_prog_arrays, inherit_types};

/// The section, and with a slash the beginning of the names of the sections with one map each.
const SECTION: &str = "maps";
/// Beginning of the names of structs that give a map's key and value types.
const PAIR: &str = "____btf_map_";
/// Beginning of the names of the sections that variables of such structs are in.
const PAIR_SECTION: &str = ".maps.";

/// Most elements that all maps of an object may declare for maps of maps by the maps' numbers: as one number may belong
/// to many maps on both sides, a small file could ask for any amount.
const MAX_SLOTS: usize = 1 << 16;

/// Whether a section of this name holds definitions.
pub(super) fn is_section(name: &str) -> bool {
    name.strip_prefix(SECTION).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a section of this name holds nothing but what makes the compiler describe key and value types.
pub(super) fn is_pair_section(name: &str) -> bool {
    name.starts_with(PAIR_SECTION)
}

/// Refuses what libbpf refuses.
pub(super) fn refuse(elf: &Elf<'_>) -> Result<(), SpecError> {
    match elf.sections.iter().find(|section| is_section(&section.name)) {
        Some(section) => Err(SpecError::section(
            &section.name,
            "legacy map definitions: declare the maps with BTF in section .maps",
        )),
        None => Ok(()),
    }
}

/// The maps, and where each one's definition is.
#[derive(Default)]
pub(super) struct Legacy {
    pub(super) maps: Vec<MapSpec>,
    /// Section and offset of each definition, ascending.
    places: Vec<(usize, u64)>,
    definitions: Vec<Definition>,
    /// Index of the first of them among the object's maps.
    first: usize,
}

impl Legacy {
    /// The map that is defined at a place; `None` within when the section holds definitions and none is there.
    pub(super) fn map_at(&self, section: usize, offset: u64) -> Option<Option<MapIndex>> {
        let after = self.places.partition_point(|(other, _)| *other < section);
        self.places.get(after).filter(|(other, _)| *other == section)?;
        Some(self.places.binary_search(&(section, offset)).ok().map(|at| MapIndex(self.first + at)))
    }
}

/// Reads the definitions. `first` is how many maps come before them.
pub(super) fn read(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    first: usize,
    notes: &mut Vec<String>,
) -> Result<Legacy, SpecError> {
    let mut legacy = Legacy { first, ..Legacy::default() };
    if !elf.sections.iter().any(|section| is_section(&section.name)) {
        return Ok(legacy);
    }
    let described = btf.map(Described::read).unwrap_or_default();
    let mut by_section: HashMap<usize, Vec<&Symbol<'_>>> = HashMap::new();
    for symbol in elf.symbols.iter().filter(|symbol| names_variable(symbol)) {
        by_section.entry(usize::from(symbol.section)).or_default().push(symbol);
    }
    let mut names = Budget::new(elf.size);
    for (index, section) in elf.sections.iter().enumerate().filter(|(_, s)| is_section(&s.name)) {
        let mut symbols = by_section.remove(&index).unwrap_or_default();
        symbols.sort_by_key(|symbol| symbol.value);
        for (symbol, bytes) in symbols.iter().zip(definitions(section, &symbols)?) {
            if !names.take(symbol.name.len() as u64) {
                return Err(SpecError::section(&section.name, "too many maps share a long name"));
            }
            let fail = |reason: String| SpecError::map(&symbol.name, reason);
            let variable = described.variables.get(symbol.name.as_bytes());
            let layout = match btf.zip(variable).and_then(|(btf, &id)| Layout::described(btf, id)) {
                Some(layout) => layout,
                None => Layout::guessed(bytes, elf.endian),
            };
            let (definition, mut map) =
                fields::read(bytes, elf.endian, &layout, &symbol.name, notes).map_err(fail)?;
            if matches!(map.map_type, MapType::RINGBUF | MapType::USER_RINGBUF) {
                map.max_entries = round_ring(map.max_entries, PAGE);
            }
            if let Some((btf, &pair)) = btf.zip(described.pairs.get(symbol.name.as_bytes()))
                && let Err(reason) = set_types(&mut map, btf, pair)
            {
                notes.push(format!("types of map `{}` are left out: {reason}", map.name));
            }
            legacy.places.push((index, symbol.value));
            legacy.definitions.push(definition);
            legacy.maps.push(map);
        }
    }
    find_inner(&mut legacy)?;
    fill_outer(&mut legacy)?;
    Ok(legacy)
}

/// Whether a symbol can be that of a map. Compilers of long ago gave variables neither type nor size.
fn names_variable(symbol: &Symbol<'_>) -> bool {
    match symbol.kind {
        elf::STT_OBJECT => true,
        elf::STT_NOTYPE => !symbol.name.is_empty() && !symbol.name.starts_with(".L"),
        _ => false,
    }
}

/// The bytes of each symbol's definition. The symbols are those of the section, by their offsets.
fn definitions<'a>(section: &Section<'a>, symbols: &[&Symbol<'_>]) -> Result<Vec<&'a [u8]>, SpecError> {
    let fail = |reason: String| SpecError::section(&section.name, reason);
    if section.size == 0 && symbols.is_empty() {
        return Ok(Vec::new());
    }
    if section.kind != elf::SHT_PROGBITS {
        return Err(fail("has no bytes in the file".into()));
    }
    if section.executable {
        return Err(fail("map definitions in an executable section".into()));
    }
    if !section.relocations.is_empty() {
        return Err(fail("relocations in map definitions, which hold numbers only".into()));
    }
    if symbols.is_empty() {
        return Err(fail(format!("no symbol names a map in its {} bytes", section.size)));
    }
    let len = section.data.len() as u64;
    // Without sizes, definitions are told from each other by being of one length.
    let count = symbols.len() as u64;
    let one = symbols.iter().any(|symbol| symbol.size == 0).then_some(len / count);
    if one.is_some_and(|one| !len.is_multiple_of(count) || one == 0) {
        return Err(fail(format!("its {len} bytes are not {count} definitions of one length")));
    }
    let mut found = Vec::with_capacity(symbols.len());
    let mut before: Option<(&str, u64)> = None;
    for (nth, symbol) in symbols.iter().enumerate() {
        if symbol.name.is_empty() {
            return Err(fail(format!("the map at byte {} has no name", symbol.value)));
        }
        let fail = |reason: String| SpecError::map(&symbol.name, reason);
        let size = one.unwrap_or(symbol.size);
        if let Some(one) = one
            && symbol.value != nth as u64 * one
        {
            return Err(fail(format!(
                "its definition is at byte {}, not {}: those in section `{}` are not of one length, and have no sizes",
                symbol.value,
                nth as u64 * one,
                section.name
            )));
        }
        let Some(end) = symbol.value.checked_add(size).filter(|&end| end <= len) else {
            return Err(fail(format!("{size} bytes at {} do not fit the section's {len}", symbol.value)));
        };
        if let Some((other, at)) = before
            && at > symbol.value
        {
            return Err(fail(format!("its definition overlaps that of map `{other}`")));
        }
        before = Some((&symbol.name, end));
        found.push(section.data.get(symbol.value as usize..end as usize).unwrap_or_default());
    }
    Ok(found)
}

/// What BTF says of the maps of these sections.
#[derive(Default)]
struct Described<'b> {
    /// Type of each variable that holds a definition, by its name.
    variables: HashMap<&'b [u8], TypeId>,
    /// Structs of a key and a value, by the names of the maps that they are for.
    pairs: HashMap<&'b [u8], TypeId>,
}

impl<'b> Described<'b> {
    fn read(btf: &'b Btf) -> Self {
        let mut described = Described::default();
        for ty in btf.types() {
            match ty.kind() {
                Kind::STRUCT => {
                    if let Some(map) = ty.name_bytes().strip_prefix(PAIR.as_bytes()) {
                        described.pairs.entry(map).or_insert(ty.id());
                    }
                }
                Kind::DATASEC if is_section(&ty.name()) => {
                    let vars = ty.vars().filter_map(|entry| btf.ty(entry.type_id).ok());
                    for var in vars.filter(|var| var.kind() == Kind::VAR) {
                        described.variables.entry(var.name_bytes()).or_insert(var.type_id());
                    }
                }
                _ => {}
            }
        }
        described
    }
}

/// Takes key and value types from a struct that says which they are (`BPF_ANNOTATE_KV_PAIR`).
fn set_types(map: &mut MapSpec, btf: &Btf, pair: TypeId) -> Result<(), String> {
    let text = |error: skep_btf::BtfError| error.to_string();
    let pair = btf.ty(pair).map_err(text)?;
    let mut members = pair.members();
    let (Some(key), Some(value)) = (members.next(), members.next()) else {
        return Err(format!("struct `{}` has no key and value", pair.name()));
    };
    if &*key.name() != "key" || &*value.name() != "value" {
        return Err(format!("struct `{}` does not begin with `key` and `value`", pair.name()));
    }
    let sizes = [("key", key.type_id, map.key_size), ("value", value.type_id, map.value_size)];
    for (what, id, size) in sizes {
        let typed = btf.resolve_size(id).map_err(text)?;
        if typed != size {
            return Err(format!(
                "the {what} in struct `{}` has {typed} bytes, the map's {size}",
                pair.name()
            ));
        }
    }
    (map.key_type, map.value_type) = (Some(key.type_id), Some(value.type_id));
    Ok(())
}

fn holds_maps(map: &MapSpec) -> bool {
    matches!(map.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS)
}

/// Gives maps of maps their prototypes, which definitions name by number or by position.
fn find_inner(legacy: &mut Legacy) -> Result<(), SpecError> {
    let mut by_id = HashMap::new();
    for (index, definition) in legacy.definitions.iter().enumerate() {
        by_id.entry(definition.id).or_insert(index);
    }
    for outer in 0..legacy.maps.len() {
        let (map, definition) = (&legacy.maps[outer], &legacy.definitions[outer]); // of one length
        if !holds_maps(map) {
            continue;
        }
        let fail = |reason: String| SpecError::map(&map.name, reason);
        let inner = match (definition.inner_id, definition.inner_position) {
            (0, None) => continue,
            (0, Some(position)) => usize::try_from(position).ok().filter(|&at| at < legacy.maps.len()),
            (id, _) => by_id.get(&id).copied(),
        };
        let Some(inner) = inner.and_then(|inner| legacy.maps.get(inner)) else {
            return Err(fail(match definition.inner_position {
                Some(position) => format!("its inner map is to be number {position}, which does not exist"),
                None => format!("no map has the id {} that its inner map is to have", definition.inner_id),
            }));
        };
        if holds_maps(inner) {
            return Err(fail(format!("its inner map `{}` cannot hold maps of its own", inner.name)));
        }
        let mut prototype = MapSpec::new(
            &format!("{}.inner", map.name),
            inner.map_type,
            inner.key_size,
            inner.value_size,
            inner.max_entries,
        );
        prototype.flags = inner.flags;
        prototype.numa_node = inner.numa_node;
        (prototype.key_type, prototype.value_type) = (inner.key_type, inner.value_type);
        legacy.maps[outer].inner = Some(Box::new(prototype)); // outer is below the length
    }
    Ok(())
}

/// Puts maps into the maps of maps whose inner number is theirs, at the index that each one states.
fn fill_outer(legacy: &mut Legacy) -> Result<(), SpecError> {
    let mut outers: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, definition) in legacy.definitions.iter().enumerate() {
        if definition.inner_id != 0 && legacy.maps.get(index).is_some_and(holds_maps) {
            outers.entry(definition.inner_id).or_default().push(index);
        }
    }
    let mut count = 0;
    for (held, definition) in legacy.definitions.iter().enumerate() {
        if definition.id == 0 || definition.inner_id != 0 {
            continue;
        }
        let Some(index) = definition.inner_index else { continue };
        for &outer in outers.get(&definition.id).into_iter().flatten() {
            let map = &mut legacy.maps[outer]; // an index of the loop above
            let fail = |reason: String| SpecError::map(&map.name, reason);
            if map.map_type == MapType::HASH_OF_MAPS && map.key_size != 4 {
                return Err(fail(format!("keys of {} bytes, elements are numbered by 4", map.key_size)));
            }
            count += 1;
            if count > MAX_SLOTS {
                return Err(fail(format!("more than {MAX_SLOTS} elements are declared by the maps in it")));
            }
            let value = SlotValue::Map(MapIndex(legacy.first + held));
            map.slots.push(Slot { index, value });
        }
    }
    for map in &mut legacy.maps {
        map.slots.sort_by_key(|slot| slot.index);
    }
    Ok(())
}

//! The numbers of one definition.

use skep_asm::Endian;
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_sys::abi::{MapFlags, MapType};

use crate::spec::code::read_u32;
use crate::spec::{MapSpec, Pinning};

/// Bytes of a number.
const WORD: usize = 4;
/// Bytes of the five numbers that all forms begin with.
const COMMON: usize = 5 * WORD;
/// Fewest bytes of a definition: old ones have no flags.
const SHORTEST: usize = COMMON - WORD;
/// Most members of a struct that is looked at for their names.
const MAX_MEMBERS: u32 = 32;
/// How deep a definition may be wrapped in structs, as Rust's types wrap it.
const MAX_WRAPS: usize = 8;

/// Lengths of the forms that are told by their length.
const AYA: usize = 28;
const IPROUTE: usize = 36;

/// Offsets of the fields behind the common ones, as far as a definition has them.
#[derive(Default)]
pub(super) struct Layout {
    id: Option<usize>,
    pinning: Option<usize>,
    inner_id: Option<usize>,
    inner_index: Option<usize>,
    inner_position: Option<usize>,
    numa_node: Option<usize>,
    /// Whether pinning is by iproute2's numbers.
    iproute: bool,
}

impl Layout {
    /// By the names of the struct's members. None when the type is not one of numbers that begin with a type.
    pub(super) fn described(btf: &Btf, variable: TypeId) -> Option<Layout> {
        let definition = unwrap(btf, variable)?;
        let mut layout = Layout::default();
        for member in definition.members() {
            let at = usize::try_from(member.bit_offset / 8).ok()?;
            let name = member.name();
            if matches!(&*name, "size_key" | "size_value" | "max_elem") {
                layout.iproute = true;
            }
            let is_number = btf.resolve_size(member.type_id).is_ok_and(|size| size as usize == WORD);
            if at < COMMON || !at.is_multiple_of(WORD) || !is_number {
                continue;
            }
            match &*name {
                "id" => layout.id = Some(at),
                "pinning" => layout.pinning = Some(at),
                "inner_id" => layout.inner_id = Some(at),
                "inner_idx" => layout.inner_index = Some(at),
                "inner_map_idx" => layout.inner_position = Some(at),
                "numa_node" => layout.numa_node = Some(at),
                _ => {}
            }
        }
        Some(layout)
    }

    /// By the definition's length, and by what only one form can say.
    pub(super) fn guessed(bytes: &[u8], endian: Endian) -> Layout {
        let word = |at: usize| word(bytes, at * WORD, endian);
        match bytes.len() {
            AYA => {
                let of_maps = matches!(MapType(word(0)), MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
                if of_maps || MapFlags::from_bits_retain(word(4)).contains(MapFlags::NUMA_NODE) {
                    return Layout {
                        inner_position: Some(5 * WORD),
                        numa_node: Some(6 * WORD),
                        ..Layout::default()
                    };
                }
                Layout {
                    id: Some(5 * WORD),
                    pinning: Some(6 * WORD),
                    iproute: word(6) == PIN_GLOBAL,
                    ..Layout::default()
                }
            }
            IPROUTE => Layout {
                id: Some(5 * WORD),
                pinning: Some(6 * WORD),
                inner_id: Some(7 * WORD),
                inner_index: Some(8 * WORD),
                iproute: true,
                ..Layout::default()
            },
            _ => Layout::default(),
        }
    }

    fn has(&self, at: usize) -> bool {
        [self.id, self.pinning, self.inner_id, self.inner_index, self.inner_position, self.numa_node]
            .contains(&Some(at))
    }
}

/// The struct of numbers in a variable's type, which may be wrapped in structs that hold nothing else.
fn unwrap(btf: &Btf, variable: TypeId) -> Option<Type<'_>> {
    let mut ty = btf.peel(variable).ok()?;
    for _ in 0..MAX_WRAPS {
        if ty.kind() != Kind::STRUCT || ty.vlen() > MAX_MEMBERS {
            return None;
        }
        let starts_with_type = ty.members().next().is_some_and(|first| {
            // Rust has a keyword of that name.
            matches!(&*first.name(), "type" | "type_" | "map_type") && first.bit_offset == 0
        });
        if starts_with_type {
            return Some(ty);
        }
        ty = ty.members().find_map(|member| {
            let inner = btf.peel(member.type_id).ok()?;
            (inner.kind() == Kind::STRUCT && inner.size() == ty.size()).then_some(inner)
        })?;
    }
    None
}

/// What a definition says beyond a [`MapSpec`].
#[derive(Default)]
pub(super) struct Definition {
    /// Number that other maps and program sections call it by; 0 is none.
    pub(super) id: u32,
    /// Number of the map that is its inner map's prototype; 0 is none.
    pub(super) inner_id: u32,
    /// Index that it has in the maps of maps whose inner number is its own.
    pub(super) inner_index: Option<u32>,
    /// Position of the map that is its inner map's prototype.
    pub(super) inner_position: Option<u32>,
}

/// iproute2's pinning: under a directory that is named by a hash of the object file.
const PIN_OBJECT: u32 = 1;
/// iproute2's pinning: under the directory for all objects.
const PIN_GLOBAL: u32 = 2;
/// aya's pinning, and libbpf's.
const PIN_BY_NAME: u32 = 1;

pub(super) fn read(
    bytes: &[u8],
    endian: Endian,
    layout: &Layout,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(Definition, MapSpec), String> {
    let len = bytes.len();
    if len < SHORTEST || !len.is_multiple_of(WORD) {
        return Err(format!("its definition has {len} bytes: at least 4 numbers of 4 bytes are needed"));
    }
    let word = |at: usize| word(bytes, at, endian);
    let unknown = (COMMON..len).step_by(WORD).find(|&at| word(at) != 0 && !layout.has(at));
    if let Some(at) = unknown {
        return Err(format!(
            "byte {at} of the {len} of its definition begins {:#x}, and no known form has a field there",
            word(at)
        ));
    }
    let map_type = MapType(word(0));
    if map_type == MapType::UNSPEC {
        return Err("its definition names no type".into());
    }
    let field = |at: Option<usize>| at.map_or(0, word);
    let mut map = MapSpec::new(name, map_type, word(WORD), word(2 * WORD), word(3 * WORD));
    map.flags = MapFlags::from_bits_retain(word(4 * WORD));
    map.numa_node = field(layout.numa_node);
    map.pinning = match (field(layout.pinning), layout.iproute) {
        (0, _) => Pinning::None,
        (PIN_BY_NAME, false) => Pinning::ByName,
        (PIN_GLOBAL, _) => Pinning::TcGlobal,
        // What it is for is that programs which tc loads one by one share maps. Here they are loaded at once.
        (PIN_OBJECT, true) => {
            notes.push(format!(
                "map `{name}` is not pinned: tc pins it for this object file only, whose programs share it anyway"
            ));
            Pinning::None
        }
        (other, true) => {
            notes.push(format!(
                "map `{name}` is not pinned: its pinning {other} stands for what /etc/iproute2/bpf_pinning says"
            ));
            Pinning::None
        }
        (other, false) => return Err(format!("pinning {other} is neither 0 (none) nor 1 (by name)")),
    };
    let definition = Definition {
        id: field(layout.id),
        inner_id: field(layout.inner_id),
        // All ones is iproute2's none. Definitions without the field have 0 there.
        inner_index: layout.iproute.then(|| field(layout.inner_index)).filter(|&index| index != u32::MAX),
        inner_position: layout.inner_position.map(word),
    };
    Ok((definition, map))
}

/// The number at a byte, 0 beyond the end.
fn word(bytes: &[u8], at: usize, endian: Endian) -> u32 {
    let there = bytes.get(at..).and_then(|rest| rest.first_chunk());
    there.map_or(0, |word| read_u32(*word, endian))
}

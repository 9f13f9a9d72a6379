//! Variables in an arena, from section `.addr_space.1`.

use skep_sys::abi::MapType;

use super::elf::{Elf, Section};
use super::maps::MAPS;
use super::{MapIndex, MapSpec, SpecError};

/// The section that compilers put variables of an arena into.
pub(super) const ARENA: &str = ".addr_space.1";

pub(super) fn is_data(section: &Section<'_>) -> bool {
    section.kind == object::elf::SHT_PROGBITS
        && !section.executable
        && section.size > 0
        && section.name == ARENA
}

/// Gives the arena its first variables. Answers the section that they are in, and the arena.
pub(super) fn read(elf: &Elf<'_>, maps: &mut [MapSpec]) -> Result<Option<(usize, MapIndex)>, SpecError> {
    let mut arenas = (0..).zip(maps).filter(|(_, map)| map.map_type == MapType::ARENA);
    let arena = arenas.next();
    if let Some((_, second)) = arenas.next() {
        return Err(SpecError::map(&second.name, "a second arena: an object can have one"));
    }
    let Some((index, section)) = elf.section_named(ARENA).filter(|(_, section)| is_data(section)) else {
        return Ok(None);
    };
    let Some((map_index, map)) = arena else {
        // As libbpf: an object without any declared map has variables that nothing can use.
        if elf.section_named(MAPS).is_none() {
            return Ok(None);
        }
        return Err(SpecError::section(ARENA, "variables of an arena, and no map of type arena is declared"));
    };
    map.contents = section.data.to_vec();
    Ok(Some((index, MapIndex(map_index))))
}

//! Programs in prog arrays by their sections' names: section `ID/KEY` holds the program for element KEY of the prog array
//! whose definition has that id (iproute2's `__section_tail(ID, KEY)`).

use std::collections::HashMap;

use skep_sys::abi::{MapType, ProgType};

use super::Legacy;
use crate::spec::code::Code;
use crate::spec::{
    FunctionSpec, MapIndex, MapSpec, ProgramIndex, ProgramSpec, ReferenceTarget, Slot, SlotValue,
};

/// Declares the elements that section names say.
pub(in crate::spec) fn fill_prog_arrays(legacy: &mut Legacy, code: &Code, programs: &[ProgramSpec]) {
    let mut arrays = HashMap::new();
    for (index, (map, definition)) in legacy.maps.iter().zip(&legacy.definitions).enumerate() {
        if map.map_type == MapType::PROG_ARRAY {
            arrays.entry(definition.id).or_insert(index);
        }
    }
    for (index, program) in programs.iter().enumerate() {
        let Some((id, key)) = tail_section(&program.section) else { continue };
        // A section is one program to iproute2, from its first instruction on.
        let first = code.functions.get(program.function.0).is_some_and(|function| function.offset == 0);
        let Some(map) = arrays.get(&id).filter(|_| first).and_then(|&at| legacy.maps.get_mut(at)) else {
            continue;
        };
        map.slots.push(Slot { index: key, value: SlotValue::Program(ProgramIndex(index)) });
    }
    for map in legacy.maps.iter_mut().filter(|map| map.map_type == MapType::PROG_ARRAY) {
        map.slots.sort_by_key(|slot| slot.index);
    }
}

/// Gives programs in such sections the type of the programs that jump to them, since a kernel lets no other in.
pub(in crate::spec) fn inherit_types(
    maps: &[MapSpec],
    functions: &[FunctionSpec],
    programs: &mut [ProgramSpec],
) {
    let mut held: HashMap<MapIndex, Vec<usize>> = HashMap::new();
    for (index, map) in maps.iter().enumerate() {
        for slot in &map.slots {
            let SlotValue::Program(ProgramIndex(program)) = slot.value else { continue };
            if programs.get(program).is_some_and(|program| tail_section(&program.section).is_some()) {
                held.entry(MapIndex(index)).or_default().push(program);
            }
        }
    }
    let has_type = |program: &ProgramSpec| program.prog_type != ProgType::UNSPEC;
    let mut typed: Vec<usize> = Vec::new();
    typed.extend(programs.iter().enumerate().rev().filter(|(_, p)| has_type(p)).map(|(index, _)| index));
    while let Some(index) = typed.pop() {
        let Some(caller) = programs.get(index).cloned() else { continue };
        let references = functions.get(caller.function.0).map_or(&[][..], |function| &function.references);
        for reference in references {
            let ReferenceTarget::Map(map) = reference.target else { continue };
            // Taken out: the first who jumps there decides.
            for called in held.remove(&map).unwrap_or_default() {
                let Some(program) = programs.get_mut(called).filter(|program| !has_type(program)) else {
                    continue;
                };
                program.prog_type = caller.prog_type;
                program.attach_type = caller.attach_type;
                program.attach_type_optional = caller.attach_type_optional;
                program.flags = caller.flags;
                typed.push(called);
            }
        }
    }
}

/// The numbers of a section `ID/KEY`, each as C writes them: decimal, hexadecimal after `0x`, octal after `0`.
fn tail_section(name: &str) -> Option<(u32, u32)> {
    let (id, key) = name.split_once('/')?;
    Some((number(id)?, number(key)?))
}

fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // A sign is no digit, and from_str_radix takes one.
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::tail_section;

    #[test]
    fn tail_sections_are_two_numbers_of_c() {
        assert_eq!(tail_section("0/1"), Some((0, 1)));
        assert_eq!(tail_section("0xabccba/0"), Some((0xab_ccba, 0)));
        assert_eq!(tail_section("42/0x10"), Some((42, 16)));
        assert_eq!(tail_section("010/2"), Some((8, 2)));
        assert_eq!(tail_section("4294967295/0"), Some((u32::MAX, 0)));
        for other in
            ["", "1", "1/", "/1", "1/2/3", "+1/2", "-1/2", "08/1", "0x/1", "4294967296/0", "1 /2", "xdp/1"]
        {
            assert_eq!(tail_section(other), None, "{other:?}");
        }
    }
}

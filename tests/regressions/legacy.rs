//! Map definitions of before BTF that are wrong, or small for what they ask for.

use super::{CODE, DATA, FUNC, OBJECT, Object, read};

const NOTYPE: u8 = 1 << 4;
const LOCAL_SECTION: u8 = 3;
/// Numbers of a definition.
fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

const HASH: [u32; 5] = [1, 4, 8, 16, 0];

/// One section of these bytes with symbols: name, info, offset and size.
fn section(bytes: Vec<u8>, symbols: &[(&str, u8, u64, u64)]) -> Object {
    let mut object = Object::new();
    let maps = object.section("maps", DATA, bytes);
    for (name, info, value, size) in symbols {
        let name = if name.is_empty() { 0 } else { object.name(name) };
        object.symbol(name, *info, maps, *value, *size);
    }
    object
}

#[test]
fn what_is_wrong_with_a_definition_is_said() {
    let two = || [words(&HASH), words(&HASH)].concat();
    let one = |numbers: &[u32]| section(words(numbers), &[("m", OBJECT, 0, numbers.len() as u64 * 4)]);
    let cases = [
        ("no symbol", section(words(&HASH), &[]), "no symbol names a map in its 20 bytes"),
        ("a label", section(words(&HASH), &[(".L1", NOTYPE, 0, 0)]), "no symbol names a map"),
        ("no name", section(words(&HASH), &[("", OBJECT, 0, 20)]), "the map at byte 0 has no name"),
        ("too short", one(&[1, 4, 8]), "has 12 bytes: at least 4 numbers"),
        ("odd", section(words(&HASH), &[("m", OBJECT, 0, 19)]), "has 19 bytes: at least 4 numbers"),
        ("beyond the end", section(words(&HASH), &[("m", OBJECT, 4, 20)]), "20 bytes at 4 do not fit"),
        ("far beyond", section(words(&HASH), &[("m", OBJECT, u64::MAX, 20)]), "do not fit the section's 20"),
        (
            "overlapping",
            section(two(), &[("a", OBJECT, 0, 20), ("b", OBJECT, 16, 20)]),
            "map `b`: its definition overlaps that of map `a`",
        ),
        (
            "at one place",
            section(two(), &[("a", OBJECT, 20, 20), ("b", OBJECT, 20, 20)]),
            "map `b`: its definition overlaps that of map `a`",
        ),
        (
            "no sizes, of two lengths",
            section(two(), &[("a", NOTYPE, 0, 0), ("b", NOTYPE, 24, 0)]),
            "is at byte 24, not 20",
        ),
        (
            "no sizes, a rest",
            section(words(&[1; 11]), &[("a", NOTYPE, 0, 0), ("b", NOTYPE, 20, 0), ("c", NOTYPE, 40, 0)]),
            "44 bytes are not 3 definitions of one length",
        ),
        ("no type", one(&[0, 4, 8, 16, 0]), "names no type"),
        ("a number too many", one(&[1, 4, 8, 16, 0, 0, 0, 0, 3]), "inner_"),
        ("unknown at the end", one(&[1, 4, 8, 16, 0, 0, 0, 0, 0, 9]), "byte 36 of the 40"),
        ("pinning", one(&[1, 4, 8, 16, 0, 0, 9]), "pinning 9 is neither"),
        ("inner map", one(&[12, 4, 4, 16, 0, 0, 0, 5, 0]), "no map has the id 5"),
        ("inner position", one(&[12, 4, 4, 16, 0, 1, 0]), "to be number 1, which does not exist"),
        ("itself", one(&[12, 4, 4, 16, 0, 5, 0, 5, 0]), "`m` cannot hold maps of its own"),
    ];
    for (what, object, expected) in cases {
        match read(what, object) {
            Err(error) => assert!(error.contains(expected), "{what}: {error}"),
            // The only number that may be anything: an index for when a map of maps asks for it.
            Ok(spec) => assert!(expected == "inner_" && spec.maps[0].slots.is_empty(), "{what}: {spec}"),
        }
    }
}

#[test]
fn a_section_must_hold_numbers_in_the_file() {
    let mut bss = section(words(&HASH), &[("m", OBJECT, 0, 20)]);
    bss.sections[0].kind = 8;
    let error = read("nobits", bss).unwrap_err();
    assert_eq!(error, "section `maps`: has no bytes in the file");

    let mut code = section(words(&[1, 4, 8, 16, 0, 0]), &[("m", OBJECT, 0, 20)]);
    code.sections[0].flags = CODE;
    assert!(read("code", code).unwrap_err().contains("executable"));

    let mut related = section(words(&HASH), &[("m", OBJECT, 0, 20)]);
    related.relocations(1, &[(0, 1)]);
    assert!(read("relocations", related).unwrap_err().contains("hold numbers only"));

    let empty = read("empty", section(Vec::new(), &[])).expect("there is nothing in it");
    assert!(empty.maps.is_empty());
}

/// Compilers of long ago gave neither types nor sizes, and static maps go by their section.
#[test]
fn references_by_section_and_offset() {
    let insn = |offset: u32| [words(&[0x0118, offset]), words(&[0, 0])].concat();
    let reach = |offset: u32| {
        let mut object =
            section([words(&HASH), words(&HASH)].concat(), &[("a", NOTYPE, 0, 0), ("b", NOTYPE, 20, 0)]);
        let symbol = object.symbol(0, LOCAL_SECTION, 1, 0, 0);
        let code = object.section("xdp", CODE, [insn(offset), super::EXIT.to_vec()].concat());
        let name = object.name("main");
        object.symbol(name, FUNC, code, 0, 24);
        object.relocations(code, &[(0, symbol)]);
        read("references", object)
    };
    for (offset, index) in [(0, 0), (20, 1)] {
        let spec = reach(offset).expect("a map is there");
        assert_eq!(
            spec.functions[0].references[0].target,
            skep::spec::ReferenceTarget::Map(skep::spec::MapIndex(index))
        );
    }
    for offset in [4, 40, u32::MAX] {
        let error = reach(offset).unwrap_err();
        assert!(error.contains("no map is defined at byte"), "{error}");
    }
}

#[test]
fn many_definitions() {
    let count = 50_000;
    let mut object = Object::new();
    let maps = object.section("maps", DATA, words(&HASH).repeat(count));
    for nth in (0..count as u64).rev() {
        let name = object.name(&format!("m{nth}"));
        object.symbol(name, OBJECT, maps, nth * 20, 20);
    }
    let spec = read("definitions", object).expect("they are in order");
    assert_eq!(spec.maps.len(), count);
    assert_eq!(spec.maps[count - 1].name, format!("m{}", count - 1));
}

#[test]
fn many_sections_of_one_definition() {
    let mut object = Object::new();
    for nth in 0..20_000 {
        let section = object.section(&format!("maps/{nth}"), DATA, words(&HASH));
        let name = object.name(&format!("m{nth}"));
        object.symbol(name, OBJECT, section, 0, 20);
    }
    assert_eq!(read("sections of definitions", object).expect("one each").maps.len(), 20_000);
}

#[test]
fn a_long_name_of_many_definitions() {
    let mut object = Object::new();
    let maps = object.section("maps", DATA, words(&HASH).repeat(10_000));
    let name = object.name(&super::long());
    for nth in 0..10_000 {
        object.symbol(name, OBJECT, maps, nth * 20, 20);
    }
    let error = read("definitions with a long name", object).unwrap_err();
    assert!(error.contains("long name") || error.contains("share a long one"), "{error}");
}

/// Every map in every map of maps would be a table of the square of the file.
#[test]
fn many_maps_in_many_maps() {
    let mut object = Object::new();
    let inner = words(&[2, 4, 8, 1, 0, 7, 0, 0, 0]).repeat(3_000);
    let outer = words(&[12, 4, 4, 1, 0, 0, 0, 7, u32::MAX]).repeat(3_000);
    let maps = object.section("maps", DATA, [inner, outer].concat());
    for nth in 0..6_000 {
        let name = object.name(&format!("m{nth}"));
        object.symbol(name, OBJECT, maps, nth * 36, 36);
    }
    let error = read("maps in maps", object).unwrap_err();
    assert!(error.contains("more than 65536 elements"), "{error}");
}

/// All programs in one prog array, and all of them jump there.
#[test]
fn many_programs_in_one_array() {
    let count = 30_000u64;
    let mut object = section(words(&[3, 4, 4, 1, 0, 1, 0, 0, 0]), &[("jumps", OBJECT, 0, 36)]);
    let body = [words(&[0x0118, 0, 0, 0]).repeat(4), super::EXIT.to_vec()].concat();
    for nth in 0..count {
        let section = if nth == 0 { "xdp".into() } else { format!("1/{nth}") };
        let code = object.section(&section, CODE, body.clone());
        let name = object.name(&format!("p{nth}"));
        object.symbol(name, FUNC, code, 0, 72);
        object.relocations(code, &[0, 16, 32, 48].map(|at| (at, 1)));
    }
    let spec = read("programs in an array", object).expect("a slot each");
    assert_eq!(spec.maps[0].slots.len() as u64, count - 1);
    assert!(spec.programs.iter().all(|program| program.prog_type == skep::sys::abi::ProgType::XDP));
}

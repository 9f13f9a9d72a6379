//! Sizes, alignments and what aliases stand for.

use skep_btf::{Btf, BtfBuilder, BtfError, IntEncoding, Kind, Linkage, SectionVar, TypeId};

use crate::{Raw, build, info};

fn said<T>(result: Result<T, BtfError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

#[test]
fn sizes_and_alignments() {
    let mut b = BtfBuilder::new();
    // Adds a type and says what is expected of it: its size, then its alignment.
    let mut expected: Vec<(&str, TypeId, Option<u32>, Option<u32>)> = Vec::new();
    let mut build = || -> Result<(), BtfError> {
        let mut row = |what, id, size, align| expected.push((what, id, size, align));
        let int = b.add_int("int", 4, IntEncoding::SIGNED)?;
        let char_ = b.add_int("char", 1, IntEncoding::CHAR)?;
        let wide = b.add_int("__int128", 16, IntEncoding::NONE)?;
        row("int", int, Some(4), Some(4));
        row("wide", wide, Some(16), Some(8));
        let ptr = b.add_ptr(TypeId::VOID)?;
        row("pointer", ptr, Some(8), Some(8));
        let array = b.add_array(int, int, 3)?;
        row("array", array, Some(12), Some(4));
        let nested = b.add_array(array, int, 5)?;
        row("array of arrays", nested, Some(60), Some(4));
        row("flexible array", b.add_array(nested, int, 0)?, Some(0), Some(4));
        let alias = b.add_typedef("alias", array)?;
        let constant = b.add_modifier(Kind::CONST, alias)?;
        row("const alias", constant, Some(12), Some(4));
        let tagged = b.add_type_tag("tag", constant, false)?;
        row("tagged", tagged, Some(12), Some(4));
        let var = b.add_var("var", Linkage::GLOBAL, tagged)?;
        row("variable", var, Some(12), Some(4));
        row("tag on a variable", b.add_decl_tag("tag", var, None, false)?, Some(12), Some(4));
        let section = b.add_datasec(".data", 99)?;
        b.add_section_var(SectionVar { type_id: var, offset: 0, size: 12 })?;
        row("section", section, Some(99), None);
        row("enum", b.add_enum("e", 2, false)?, Some(2), Some(2));
        row("enum64", b.add_enum64("e", 8, false)?, Some(8), Some(8));
        row("long double", b.add_float("ld", 16)?, Some(16), Some(8));
        row("declared", b.add_fwd("f", false)?, None, None);
        let proto = b.add_func_proto(int)?;
        row("prototype", proto, None, None);
        row("function", b.add_func("f", Linkage::GLOBAL, proto)?, None, None);
        row("void", TypeId::VOID, None, None);
        row("const void", b.add_modifier(Kind::CONST, TypeId::VOID)?, None, None);
        let plain = b.add_struct("plain", 8)?;
        b.add_member("c", char_, 0, 0)?;
        b.add_member("i", int, 32, 0)?;
        row("struct", plain, Some(8), Some(4));
        let packed = b.add_struct("packed", 5)?;
        b.add_member("c", char_, 0, 0)?;
        b.add_member("i", int, 8, 0)?;
        row("packed by offset", packed, Some(5), Some(1));
        let short = b.add_struct("short", 5)?;
        b.add_member("i", int, 0, 0)?;
        b.add_member("c", char_, 32, 0)?;
        row("packed by size", short, Some(5), Some(1));
        let bits = b.add_struct("bits", 4)?;
        b.add_member("a", int, 0, 3)?;
        b.add_member("b", int, 3, 5)?;
        row("bit fields do not pack", bits, Some(4), Some(4));
        let outer = b.add_union("outer", 8)?;
        b.add_member("p", packed, 0, 0)?;
        b.add_member("q", plain, 0, 0)?;
        row("strictest member", outer, Some(8), Some(4));
        row("empty", b.add_struct("empty", 0)?, Some(0), Some(1));
        let unsized_ = b.add_struct("unsized", 4)?;
        b.add_member("f", proto, 0, 0)?;
        row("member without size", unsized_, Some(4), None);
        Ok(())
    };
    build().expect("the builder takes it");
    let btf = b.finish().expect("it parses");
    for (what, id, size, align) in expected {
        assert_eq!(btf.resolve_size(id).ok(), size, "size of {what}");
        assert_eq!(btf.align_of(id).ok(), align, "alignment of {what}");
    }
}

#[test]
fn sizes_end_at_32_bits() {
    let btf = build(|b| {
        let int = b.add_int("int", 4, IntEncoding::NONE)?;
        b.add_array(int, int, 1 << 30)?; // 2
        b.add_array(int, int, (1 << 30) - 1)?; // 3
        b.add_array(int, int, 1 << 16)?; // 4
        b.add_array(TypeId(4), int, 1 << 16).map(drop) // 5
    });
    assert_eq!(said(btf.resolve_size(TypeId(2))), Err("size of type [2] does not fit in 32 bits".into()));
    assert_eq!(btf.resolve_size(TypeId(3)), Ok(u32::MAX - 3));
    assert_eq!(said(btf.resolve_size(TypeId(5))), Err("size of type [5] does not fit in 32 bits".into()));
}

fn chain(len: u32) -> Btf {
    build(|b| {
        for n in 1..=len {
            b.add_typedef("t", TypeId(n + 1))?;
        }
        b.add_int("int", 4, IntEncoding::NONE).map(drop)
    })
}

#[test]
fn chains_end_at_their_limits() {
    assert_eq!(chain(31).resolve_size(TypeId(1)), Ok(4));
    assert_eq!(said(chain(32).resolve_size(TypeId(1))), Err("type [1] nests deeper than 32 levels".into()));
    assert_eq!(chain(31).align_of(TypeId(1)), Ok(4));
    assert!(chain(32).align_of(TypeId(1)).is_err());
    assert_eq!(chain(255).peel(TypeId(1)).map(|ty| ty.kind()), Ok(Kind::INT));
    assert_eq!(
        said(chain(256).peel(TypeId(1))).map(drop),
        Err("type [1] nests deeper than 256 levels".into())
    );
}

#[test]
fn cycles_end() {
    let cycle = Raw::new(&[1, info(8, 0), 2, 0, info(10, 0), 1, 0, info(9, 0), 1], "\0t\0").parse();
    let cycle = cycle.expect("parsing does not follow");
    assert_eq!(said(cycle.peel(TypeId(1))).map(drop), Err("type [1] contains or aliases itself".into()));
    assert!(cycle.peel(TypeId(3)).is_err(), "a cycle that does not come back to the start");
    assert!(cycle.resolve_size(TypeId(1)).is_err() && cycle.align_of(TypeId(3)).is_err());
    let inside = Raw::new(&[1, info(4, 2), 4, 1, 1, 0, 1, 1, 0], "\0s\0").parse().expect("it parses");
    assert!(inside.align_of(TypeId(1)).is_err());
}

#[test]
fn pointers_are_as_wide_as_long() {
    for (name, size, expected) in
        [("long", 4, 4), ("long unsigned int", 4, 4), ("long int", 8, 8), ("long", 2, 8), ("int", 4, 8)]
    {
        let btf = build(|b| {
            b.add_int(name, size, IntEncoding::NONE)?;
            b.add_ptr(TypeId(1)).map(drop)
        });
        assert_eq!(
            (btf.pointer_size(), btf.resolve_size(TypeId(2))),
            (expected, Ok(expected)),
            "{name} {size}"
        );
        let mut split = BtfBuilder::split(&btf);
        split.add_int("long", 8, IntEncoding::NONE).expect("it fits");
        assert_eq!(split.finish().map(|btf| btf.pointer_size()), Ok(expected), "over {name} {size}");
    }
}

#[test]
fn peeling_stops_at_the_first_real_type() {
    let btf = build(|b| {
        b.add_ptr(TypeId::VOID)?; // 1
        b.add_modifier(Kind::CONST, TypeId(1))?;
        b.add_modifier(Kind::VOLATILE, TypeId(2))?;
        b.add_modifier(Kind::RESTRICT, TypeId(3))?;
        b.add_type_tag("tag", TypeId(4), false)?;
        b.add_typedef("alias", TypeId(5))?; // 6
        b.add_modifier(Kind::CONST, TypeId::VOID).map(drop) // 7
    });
    assert_eq!(btf.peel(TypeId(6)).map(|ty| ty.id()), Ok(TypeId(1)));
    assert_eq!(btf.peel(TypeId(7)).map(|ty| ty.id()), Ok(TypeId::VOID));
    assert!(btf.peel(TypeId(8)).is_err());
}

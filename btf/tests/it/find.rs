//! Names.

use skep_btf::{Btf, BtfBuilder, BtfError, IntEncoding, Kind, Linkage, TypeId, essential_name};

use crate::{BOTH, Raw, build, info};

#[test]
fn essential_names() {
    for (name, expected) in [
        ("task_struct", "task_struct"),
        ("task_struct___old", "task_struct"),
        ("n___x___loc", "n___x"),
        ("a___b", "a"),
        ("___b", "___b"),
        ("a___", "a___"),
        ("a____b", "a____b"),
        ("_a___b", "_a"),
        ("a__b", "a__b"),
        ("a___b_", "a"),
        ("a___b____c", "a"),
        ("a_____", "a_____"),
        ("", ""),
    ] {
        assert_eq!(essential_name(name.as_bytes()), expected.as_bytes(), "{name}");
    }
}

fn ids(ids: &[u32]) -> Vec<TypeId> {
    ids.iter().copied().map(TypeId).collect()
}

#[test]
fn candidates_are_all_types_of_an_essential_name() -> Result<(), BtfError> {
    let btf = build(|b| {
        let int = b.add_int("int", 4, IntEncoding::NONE)?; // 1
        b.add_struct("s", 4)?; // 2
        b.add_struct("s___one", 4)?; // 3
        b.add_struct("s___one___two", 4)?; // 4: of s___one
        b.add_fwd("s", false)?; // 5
        b.add_typedef("s", int)?; // 6
        b.add_struct("sock_common", 4)?; // 7
        b.add_struct("sock_common___x", 4)?; // 8
        b.add_struct("sock_commo", 4)?; // 9
        let proto = b.add_func_proto(int)?; // 10
        b.add_func("s", Linkage::GLOBAL, proto)?; // 11: not a type
        b.add_struct("", 4)?; // 12
        b.add_union("s", 4).map(drop) // 13
    });
    let names: &[&[u8]] = &[b"s", b"sock_common", b"nothing", b"", b"s___one", b"s", b"int"];
    let expected = [&[2, 3, 5, 6, 13][..], &[7, 8], &[], &[], &[4], &[2, 3, 5, 6, 13], &[1]];
    let builder = BtfBuilder::from_btf(&btf);
    for endian in BOTH {
        let btf = Btf::parse(builder.encode(endian, false))?;
        let found = btf.candidates(names)?;
        assert_eq!(found, expected.map(ids), "{endian}");
    }
    assert_eq!(btf.candidates(&[])?, Vec::<Vec<TypeId>>::new());
    Ok(())
}

#[test]
fn candidates_are_own_types() -> Result<(), BtfError> {
    let base = build(|b| b.add_struct("s", 4).map(drop));
    let mut split = BtfBuilder::split(&base);
    split.add_struct("s___module", 8)?;
    let split = split.finish()?;
    assert_eq!(split.candidates(&[b"s"])?, [ids(&[2])]);
    Ok(())
}

#[test]
fn names_may_be_stored_twice_and_share_their_ends() -> Result<(), BtfError> {
    // 1 my_struct, 4 struct (the end of it), 11 struct again, 18 struct___f
    let strings = "\0my_struct\0struct\0struct___f\0";
    let at = |n: u32| [n, info(4, 0), 0];
    let types = [at(1), at(4), at(11), at(18), at(0)].concat();
    let btf = Raw::new(&types, strings).parse()?;
    assert_eq!(btf.candidates(&[b"struct", b"my_struct"])?, [ids(&[2, 3, 4]), ids(&[1])]);
    assert_eq!(btf.find(b"struct", Kind::STRUCT), Some(TypeId(2)));
    Ok(())
}

#[test]
fn names_out_of_bounds_are_nobodys() -> Result<(), BtfError> {
    let btf = Raw::new(&[77, info(4, 0), 0, u32::MAX, info(4, 0), 0, 1, info(4, 0), 0], "\0a\0").parse()?;
    assert_eq!(btf.candidates(&[b"a"])?, [ids(&[3])]);
    assert_eq!(btf.ty(TypeId(1))?.name_bytes(), b"");
    assert_eq!(btf.find(b"a", Kind::STRUCT), Some(TypeId(3)));
    Ok(())
}

#[test]
fn the_lowest_id_is_found_and_the_base_comes_first() -> Result<(), BtfError> {
    let base = build(|b| {
        b.add_int("int", 4, IntEncoding::NONE)?; // 1
        b.add_struct("a", 4)?; // 2
        b.add_struct("a", 8)?; // 3
        b.add_union("a", 4).map(drop) // 4
    });
    let mut split = BtfBuilder::split(&base);
    split.add_typedef("own", TypeId(1))?; // 5
    split.add_struct("a", 4)?; // 6
    let split = split.finish()?;
    assert_eq!(base.find(b"a", Kind::STRUCT), Some(TypeId(2)));
    assert_eq!(base.find(b"a", Kind::UNION), Some(TypeId(4)));
    assert_eq!(base.find(b"a", Kind::ENUM), None);
    assert_eq!(split.find(b"a", Kind::STRUCT), Some(TypeId(2)));
    assert_eq!(split.find_own(b"a", Kind::STRUCT), Some(TypeId(6)));
    assert_eq!(split.find(b"own", Kind::TYPEDEF), Some(TypeId(5)));
    assert_eq!((split.find_any(b"a"), split.find_any(b"own")), (Some(TypeId(2)), Some(TypeId(5))));
    assert_eq!(split.find_any(b"none"), None);
    assert_eq!(base.named(b"a").map(|ty| ty.id()).collect::<Vec<_>>(), ids(&[2, 3, 4]));
    assert_eq!(
        (base.find(b"void", Kind::INT), base.find(b"x", Kind::VOID)),
        (Some(TypeId(0)), Some(TypeId(0)))
    );
    Ok(())
}

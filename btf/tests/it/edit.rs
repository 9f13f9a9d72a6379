//! Changes in place.

use skep_btf::{Btf, BtfBuilder, BtfEdit, BtfError, IntEncoding, Linkage, SectionVar, StrOffset, TypeId};

use crate::{BOTH, build};

fn sample() -> Btf {
    build(|b| {
        let int = b.add_int("int", 4, IntEncoding::SIGNED)?; // 1
        let long = b.add_int("long", 8, IntEncoding::SIGNED)?; // 2
        b.add_var("a", Linkage::GLOBAL, int)?; // 3
        b.add_var("b", Linkage::GLOBAL, long)?; // 4
        b.add_datasec(".bss", 0)?; // 5
        b.add_section_var(SectionVar { type_id: TypeId(3), offset: 0, size: 4 })?;
        b.add_section_var(SectionVar { type_id: TypeId(4), offset: 0, size: 8 })?;
        b.add_func_proto(int)?; // 6
        b.add_param("", int)?;
        b.add_func("f", Linkage::EXTERN, TypeId(6))?; // 7
        b.add_array(int, int, 1).map(drop) // 8
    })
}

#[test]
fn words_change_in_both_byte_orders() -> Result<(), BtfError> {
    let builder = BtfBuilder::from_btf(&sample());
    for endian in BOTH {
        let btf = Btf::parse(builder.encode(endian, true))?;
        let mut edit = BtfEdit::new(&btf);
        let vars =
            [(4, 0, 8), (3, 8, 4)].map(|(id, offset, size)| SectionVar { type_id: TypeId(id), offset, size });
        edit.set_datasec(TypeId(5), 12, &vars)?;
        edit.set_linkage(TypeId(3), Linkage::STATIC)?;
        edit.set_linkage(TypeId(7), Linkage::GLOBAL)?;
        edit.set_type(TypeId(4), TypeId(1))?;
        edit.set_size(TypeId(2), 16)?;
        edit.set_array_len(TypeId(8), 99)?;
        edit.set_name(TypeId(7), StrOffset(1))?;
        edit.set_param_name(TypeId(6), 0, StrOffset(1))?;
        assert!(edit.original().same(&btf));
        let new = edit.finish()?;
        assert_eq!((new.endian(), new.bytes().len()), (endian, btf.bytes().len()));
        let ty = |id| new.ty(TypeId(id));
        assert_eq!(ty(5)?.vars().collect::<Vec<_>>(), vars);
        assert_eq!((ty(5)?.size(), ty(2)?.size(), ty(4)?.type_id()), (12, 16, TypeId(1)));
        assert_eq!((ty(3)?.linkage(), ty(4)?.linkage()), (Some(Linkage::STATIC), Some(Linkage::GLOBAL)));
        assert_eq!((ty(7)?.linkage(), ty(7)?.type_id()), (Some(Linkage::GLOBAL), TypeId(6)));
        assert_eq!(ty(8)?.array().map(|array| array.len), Some(99));
        assert_eq!(
            (ty(7)?.name_bytes(), ty(6)?.params().next().map(|p| p.name_bytes())),
            (&b"int"[..], Some(&b"int"[..]))
        );
        assert_eq!(new.check(), Ok(()));
        // The original is as it was.
        assert_eq!(btf.ty(TypeId(5))?.size(), 0);
    }
    Ok(())
}

#[test]
fn without_a_change_it_is_the_original() -> Result<(), BtfError> {
    let btf = sample();
    let mut edit = BtfEdit::new(&btf);
    edit.set_linkage(TypeId(7), Linkage::EXTERN)?;
    assert!(edit.finish()?.same(&btf));
    Ok(())
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let btf = sample();
    let mut edit = BtfEdit::new(&btf);
    let said = |result: Result<(), BtfError>| result.expect_err("it cannot be").to_string();
    assert_eq!(said(edit.set_size(TypeId(9), 1)), "no type [9]: ids end at [9]");
    assert_eq!(said(edit.set_size(TypeId::VOID, 1)), "type [0] is VOID, not a type of its own");
    assert_eq!(said(edit.set_size(TypeId(3), 1)), "type [3] is VAR, not a kind with a size");
    assert_eq!(
        said(edit.set_type(TypeId(1), TypeId(1))),
        "type [1] is INT, not a kind that refers to a type"
    );
    assert_eq!(said(edit.set_type(TypeId(3), TypeId(50))), "no type [50]: ids end at [9]");
    assert_eq!(said(edit.set_linkage(TypeId(1), Linkage::STATIC)), "type [1] is INT, not FUNC or VAR");
    assert_eq!(
        said(edit.set_linkage(TypeId(7), Linkage(1 << 24))),
        "linkage 16777216 does not fit: the most is 16777215"
    );
    assert_eq!(said(edit.set_datasec(TypeId(5), 1, &[])), "type [5] has 2 elements, no element 0");
    assert_eq!(
        said(edit.set_param_name(TypeId(6), 1, StrOffset::EMPTY)),
        "type [6] has 1 elements, no element 1"
    );
    assert!(edit.set_name(TypeId(1), StrOffset(1 << 20)).is_err());
    assert!(edit.set_array_len(TypeId(1), 1).is_err());
    assert!(edit.finish().is_ok_and(|new| new.same(&btf)));
}

#[test]
fn types_of_the_base_stay() -> Result<(), BtfError> {
    let base = sample();
    let mut split = BtfBuilder::split(&base);
    let own = split.add_var("own", Linkage::GLOBAL, TypeId(1))?;
    let split = split.finish()?;
    let mut edit = BtfEdit::new(&split);
    assert!(edit.set_linkage(TypeId(3), Linkage::STATIC).is_err());
    edit.set_linkage(own, Linkage::STATIC)?;
    let new = edit.finish()?;
    assert_eq!(new.ty(own)?.linkage(), Some(Linkage::STATIC));
    assert!(new.base().is_some_and(|kept| kept.same(&base)));
    Ok(())
}

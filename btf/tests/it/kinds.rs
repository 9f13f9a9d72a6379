//! Every kind, in both byte orders.

use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, BtfError, IntEncoding, Kind, Linkage, SectionVar, TypeId};

use crate::{BOTH, Raw, exercise, info};

fn all_kinds() -> Result<BtfBuilder, BtfError> {
    let mut b = BtfBuilder::new();
    let int = b.add_int("int", 4, IntEncoding::SIGNED)?; // 1
    b.add_ptr(int)?;
    b.add_array(int, int, 7)?;
    b.add_struct("plain", 8)?; // 4
    b.add_member("x", int, 0, 0)?;
    b.add_member("y", int, 32, 0)?;
    b.add_struct("bits", 4)?;
    b.add_member("low", int, 0, 3)?;
    b.add_member("", int, 3, 0)?;
    b.add_union("either", 4)?; // 6
    b.add_member("x", int, 0, 0)?;
    b.add_enum("sign", 4, true)?;
    b.add_enumerator("MINUS", -1)?;
    b.add_enumerator("PLUS", 1)?;
    b.add_enum("nosign", 4, false)?; // 8
    b.add_enumerator("TOP", 0xffff_ffff)?;
    b.add_fwd("later", false)?;
    b.add_fwd("later_union", true)?; // 10
    b.add_typedef("int_t", int)?;
    b.add_modifier(Kind::VOLATILE, int)?; // 12
    b.add_modifier(Kind::CONST, int)?;
    b.add_modifier(Kind::RESTRICT, TypeId(2))?; // 14
    let proto = b.add_func_proto(int)?;
    b.add_param("a", int)?;
    b.add_param("", TypeId::VOID)?;
    b.add_func("main", Linkage::GLOBAL, proto)?; // 16
    let var = b.add_var("count", Linkage::STATIC, int)?;
    b.add_datasec(".bss", 4)?; // 18
    b.add_section_var(SectionVar { type_id: var, offset: 0, size: 4 })?;
    b.add_float("double", 8)?;
    b.add_decl_tag("whole", TypeId(4), None, false)?; // 20
    b.add_decl_tag("second", TypeId(4), Some(1), true)?;
    b.add_type_tag("user", int, false)?; // 22
    b.add_enum64("wide", 8, false)?;
    b.add_enumerator("HUGE", -1)?;
    b.add_enum64("wide_signed", 8, true)?; // 24
    b.add_enumerator("TINY", i64::MIN)?;
    Ok(b)
}

/// What every accessor says, one line for each type.
fn describe(btf: &Btf) -> String {
    let mut out = String::new();
    for ty in btf.types() {
        out += &format!("{:?} flag={} vlen={}", ty, u8::from(ty.kind_flag()), ty.vlen());
        out += &format!(" size={} type={}", ty.size(), ty.type_id().0);
        for m in ty.members() {
            out += &format!(" .{}:{}@{}/{}", m.name(), m.type_id.0, m.bit_offset, m.bitfield_size);
        }
        for p in ty.params() {
            out += &format!(" ({}:{}{})", p.name(), p.type_id.0, if p.is_vararg() { "..." } else { "" });
        }
        for e in ty.enumerators() {
            out += &format!(" {}={}/{}", e.name(), e.value, e.c_value());
        }
        for v in ty.vars() {
            out += &format!(" <{}@{}+{}>", v.type_id.0, v.offset, v.size);
        }
        out += &ty.array().map(|a| format!(" [{};{};{}]", a.element.0, a.index.0, a.len)).unwrap_or_default();
        let int = |i: skep_btf::Int| format!(" {}bits+{} enc={}", i.bits, i.offset, i.encoding.0);
        out += &ty.int().map(int).unwrap_or_default();
        out += &ty.linkage().map(|l| format!(" {l}")).unwrap_or_default();
        out += &ty.component_index().map(|c| format!(" component={c}")).unwrap_or_default();
        out += "\n";
    }
    out
}

const EXPECTED: &str = "\
[1] INT 'int' flag=0 vlen=0 size=4 type=0 32bits+0 enc=1
[2] PTR '' flag=0 vlen=0 size=0 type=1
[3] ARRAY '' flag=0 vlen=0 size=0 type=0 [1;1;7]
[4] STRUCT 'plain' flag=0 vlen=2 size=8 type=0 .x:1@0/0 .y:1@32/0
[5] STRUCT 'bits' flag=1 vlen=2 size=4 type=0 .low:1@0/3 .:1@3/0
[6] UNION 'either' flag=0 vlen=1 size=4 type=0 .x:1@0/0
[7] ENUM 'sign' flag=1 vlen=2 size=4 type=0 MINUS=-1/-1 PLUS=1/1
[8] ENUM 'nosign' flag=0 vlen=1 size=4 type=0 TOP=-1/4294967295
[9] FWD 'later' flag=0 vlen=0 size=0 type=0
[10] FWD 'later_union' flag=1 vlen=0 size=0 type=0
[11] TYPEDEF 'int_t' flag=0 vlen=0 size=0 type=1
[12] VOLATILE '' flag=0 vlen=0 size=0 type=1
[13] CONST '' flag=0 vlen=0 size=0 type=1
[14] RESTRICT '' flag=0 vlen=0 size=0 type=2
[15] FUNC_PROTO '' flag=0 vlen=2 size=0 type=1 (a:1) (:0...)
[16] FUNC 'main' flag=0 vlen=1 size=0 type=15 global
[17] VAR 'count' flag=0 vlen=0 size=0 type=1 static
[18] DATASEC '.bss' flag=0 vlen=1 size=4 type=0 <17@0+4>
[19] FLOAT 'double' flag=0 vlen=0 size=8 type=0
[20] DECL_TAG 'whole' flag=0 vlen=0 size=0 type=4 component=-1
[21] DECL_TAG 'second' flag=1 vlen=0 size=0 type=4 component=1
[22] TYPE_TAG 'user' flag=0 vlen=0 size=0 type=1
[23] ENUM64 'wide' flag=0 vlen=1 size=8 type=0 HUGE=-1/18446744073709551615
[24] ENUM64 'wide_signed' flag=1 vlen=1 size=8 type=0 TINY=-9223372036854775808/-9223372036854775808
";

#[test]
fn every_kind_reads_back_in_both_byte_orders() {
    let builder = all_kinds().expect("the builder takes them");
    for endian in BOTH {
        for layout in [false, true] {
            let bytes = builder.encode(endian, layout);
            let btf = Btf::parse(bytes.clone()).expect("what was encoded parses");
            assert_eq!(btf.endian(), endian);
            assert_eq!(btf.check(), Ok(()));
            assert_eq!(describe(&btf), EXPECTED, "{endian} layout={layout}");
            let again = BtfBuilder::from_btf(&btf).encode(endian, layout);
            assert_eq!(again, bytes, "{endian} layout={layout}");
            exercise(btf.types());
        }
    }
}

#[test]
fn iterators_know_their_length_and_jump() {
    let btf = all_kinds().and_then(|b| b.finish()).expect("the builder takes them");
    let plain = btf.ty(TypeId(4)).expect("it is there");
    assert_eq!(plain.members().len(), 2);
    assert_eq!(plain.member(1).map(|m| m.bit_offset), Some(32));
    assert!(plain.member(2).is_none() && plain.member(u32::MAX).is_none());
    let sign = btf.ty(TypeId(7)).expect("it is there");
    assert_eq!(sign.enumerators().nth(1).map(|e| e.value), Some(1));
    assert_eq!(btf.types().len(), btf.len());
    assert_eq!(btf.types().nth(23).map(|ty| ty.id()), Some(TypeId(24)));
    // Accessors of other kinds give nothing.
    assert_eq!((plain.params().len(), plain.vars().len(), plain.enumerators().len()), (0, 0, 0));
    assert!(plain.array().is_none() && plain.int().is_none() && plain.linkage().is_none());
}

#[test]
fn void_is_a_view_without_anything() {
    let btf = all_kinds().and_then(|b| b.finish()).expect("the builder takes them");
    let void = btf.ty(TypeId::VOID).expect("it is always there");
    assert_eq!((void.kind(), void.name_bytes(), void.record()), (Kind::VOID, &b""[..], &b""[..]));
    assert_eq!(format!("{void:?}"), "[0] VOID ''");
}

#[test]
fn numbers_that_a_kind_may_not_have_are_kept() {
    // A variable with linkage 77, an integer of 255 bits in an unknown encoding.
    let btf = Raw::new(&[1, info(14, 0), 2, 77, 3, info(1, 0), 4, 0x0fff_00ff], "\0v\0i\0").parse();
    let btf = btf.expect("parsing does not judge values");
    assert_eq!(btf.ty(TypeId(1)).map(|ty| ty.linkage()), Ok(Some(Linkage(77))));
    assert_eq!(format!("{} {}", Linkage(77), Kind(99)), "linkage 77 kind 99");
    let int = btf.ty(TypeId(2)).expect("it is there").int().expect("it is one");
    assert_eq!((int.bits, int.offset, int.encoding.0), (255, 255, 15));
    exercise(btf.types());
}

#[test]
fn a_count_uses_24_bits() {
    let members = 70_000;
    let mut types = vec![1, info(1, 0), 4, 32, 0, info(4, members), members * 4];
    types.extend((0..members).flat_map(|n| [1, 1, n * 32]));
    let btf = Raw::new(&types, "\0i\0").parse().expect("more than 16 bits are fine");
    assert_eq!(btf.len(), 2);
    let ty = btf.ty(TypeId(2)).expect("it is there");
    assert_eq!(ty.vlen(), members);
    assert_eq!(ty.members().last().map(|m| m.bit_offset), Some((members - 1) * 32));
    assert_eq!(btf.check(), Ok(()));
    assert_eq!(btf.align_of(TypeId(2)), Ok(4));
}

#[test]
fn the_builder_refuses_what_does_not_fit() {
    let mut b = BtfBuilder::new();
    let says = |result: Result<TypeId, BtfError>| result.expect_err("it does not fit").to_string();
    assert_eq!(says(b.add_int("i", 3, IntEncoding::NONE)), "integer size 3 does not fit: the most is 16");
    assert_eq!(says(b.add_float("f", 5)), "float size 5 does not fit: the most is 16");
    assert!(b.add_struct("with\0nul", 0).is_err());
    assert!(b.add_modifier(Kind::PTR, TypeId::VOID).is_err());
    assert!(b.add_func("f", Linkage(1 << 24), TypeId::VOID).is_err());
    assert!(b.add_decl_tag("t", TypeId::VOID, Some(1 << 31), false).is_err());
    let int = b.add_int("int", 4, IntEncoding::NONE).expect("it fits");
    assert_eq!(
        b.add_member("m", int, 0, 0).map_err(|e| e.to_string()),
        Err("type [1] is INT, not STRUCT or UNION".into())
    );
    assert!(b.add_enumerator("e", 0).is_err() && b.add_param("p", int).is_err());
    b.add_enum("e", 4, false).expect("it fits");
    assert!(b.add_enumerator("big", 1 << 32).is_err());
    b.add_struct("s", 1 << 24).expect("it fits");
    b.add_member("far", int, 1 << 25, 0).expect("it fits");
    assert!(b.add_member("bit", int, 0, 1).is_err(), "the far one does not fit beside a bit field");
    // What was refused left nothing behind.
    assert_eq!(b.finish().and_then(|btf| btf.check()), Ok(()));
}

#[test]
fn equal_strings_are_stored_once() {
    let mut b = BtfBuilder::new();
    let one = b.add_str("name").expect("it fits");
    assert_eq!(b.add_str("name"), Ok(one));
    let btf = b.finish().expect("it parses");
    let mut more = BtfBuilder::from_btf(&btf);
    assert_eq!(more.add_str("name"), Ok(one));
    assert_ne!(more.add_str("other"), Ok(one));
    assert_eq!(more.encode(Endian::Little, false).iter().filter(|&&byte| byte == b'n').count(), 1);
}

#[test]
fn a_type_is_copied_with_its_names() {
    let from = all_kinds().and_then(|b| b.finish()).expect("the builder takes them");
    for endian in BOTH {
        let from = Btf::parse(BtfBuilder::from_btf(&from).encode(endian, false)).expect("it parses");
        let mut to = BtfBuilder::new();
        to.add_str("something else").expect("it fits");
        for ty in from.types() {
            assert_eq!(to.add_copy(&ty, Ok), Ok(ty.id()));
        }
        assert_eq!(to.finish().map(|btf| describe(&btf)), Ok(EXPECTED.into()));
    }
}

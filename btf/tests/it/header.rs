//! Headers, layouts and split BTF: what is taken and what is refused.

use skep_asm::Endian;
use skep_btf::{Btf, BtfBuilder, IntEncoding, Kind, StrOffset, TypeId};

use crate::{BOTH, Raw, build, exercise, info};

const INT: [u32; 4] = [1, 1 << 24, 4, 32];

fn int() -> Raw {
    Raw::new(&INT, "\0int\0")
}

/// The blob with words of its header replaced.
fn with(raw: &Raw, words: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = raw.bytes();
    for &(at, value) in words {
        bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn refusal(bytes: Vec<u8>) -> String {
    Btf::parse(bytes).map(|btf| format!("parsed {btf:?}")).unwrap_or_else(|error| error.to_string())
}

#[test]
fn header_fields_are_checked() {
    let (hdr_len, type_off, type_len, str_off, str_len) = (4, 8, 12, 16, 20);
    let raw = int();
    let cases: &[(&[(usize, u32)], &str)] = &[
        (&[(hdr_len, 23)], "header length 23 is impossible: it is less than 24"),
        (&[(hdr_len, 46)], "header length 46 is impossible: it is more than there are bytes"),
        (&[(str_len, 6)], "string section (6 bytes at 16) runs past the end of the data"),
        (&[(str_off, u32::MAX)], "string section (5 bytes at 4294967295) runs past the end of the data"),
        (&[(type_len, 20)], "type section (20 bytes at 0) overlaps the string section"),
        (
            &[(type_len, u32::MAX), (type_off, 4)],
            "type section (4294967295 bytes at 4) overlaps the string section",
        ),
        (&[(type_off, 1), (type_len, 12)], "type section (12 bytes at 1) is not 4-byte aligned"),
        (&[(str_len, 0)], "string section (0 bytes at 16) is empty"),
        (&[(str_len, 4)], "string section (4 bytes at 16) does not end with NUL"),
        (
            &[(str_off, 17), (str_len, 4)],
            "string section (4 bytes at 17) does not start with an empty string",
        ),
        (&[(type_len, 12)], "type [1] at offset 0 of the type section runs past its end"),
        (&[(type_len, 8)], "type [1] at offset 0 of the type section runs past its end"),
        (&[(type_len, 15)], "type [1] at offset 0 of the type section runs past its end"),
    ];
    for (words, expected) in cases {
        assert_eq!(refusal(with(&raw, words)), *expected, "{words:?}");
    }
    assert_eq!(
        refusal(raw.bytes()),
        "parsed Btf { bytes: 45, endian: ".to_owned()
            + &format!("{:?}, ids: 1..2, split: false }}", Endian::NATIVE)
    );
}

#[test]
fn magic_and_length_are_checked() {
    let bytes = int().bytes();
    for len in 0..24 {
        assert_eq!(
            refusal(bytes[..len].to_vec()),
            format!("{len} bytes are too few for a header of 24 bytes")
        );
    }
    for len in 24..bytes.len() {
        assert!(Btf::parse(bytes[..len].to_vec()).is_err(), "cut to {len}");
    }
    for at in 0..2 {
        let mut bytes = bytes.clone();
        bytes[at] = 0;
        assert!(refusal(bytes).ends_with("is not the BTF magic 0xeb9f"));
    }
    // Version and flags are for the kernel to judge.
    let mut bytes = bytes;
    bytes[2..4].copy_from_slice(&[9, 9]);
    let btf = Btf::parse(bytes).expect("whatever they are");
    assert_eq!(BtfBuilder::from_btf(&btf).encode(Endian::NATIVE, false)[2..4], [9, 9]);
}

#[test]
fn leftovers_behind_the_last_record_are_refused() {
    let raw = Raw::new(&[&INT[..], &[0, 0]].concat(), "\0int\0");
    assert_eq!(refusal(raw.bytes()), "type [2] at offset 16 of the type section runs past its end");
}

#[test]
fn longer_headers_and_gaps_are_taken() {
    for header in [24, 28, 32, 36, 256] {
        let mut raw = int();
        raw.header = header;
        let btf = raw.parse().expect("its length is its own matter");
        assert_eq!(btf.find(b"int", Kind::INT), Some(TypeId(1)), "{header}");
        let encoded = BtfBuilder::from_btf(&btf).encode(Endian::NATIVE, header >= 32);
        assert_eq!(Btf::parse(encoded).map(|btf| btf.len()), Ok(1));
    }
    // Sections need not touch.
    let mut bytes = int().bytes();
    bytes.splice(40..40, [7; 8]);
    bytes[16..20].copy_from_slice(&24u32.to_ne_bytes());
    assert_eq!(Btf::parse(bytes).map(|btf| btf.find(b"int", Kind::INT)), Ok(Some(TypeId(1))));
}

#[test]
fn a_layout_says_how_long_unknown_kinds_are() {
    let unknown = [1, info(42, 2), 0, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];
    let types = [&unknown[..], &INT].concat();
    for endian in BOTH {
        let mut raw = Raw::new(&types, "\0int\0");
        raw.endian = endian;
        assert_eq!(refusal(raw.bytes()), "type [1] is of kind 42, which is unknown and has no layout entry");
        let raw = raw.layout(&[(42, 4, 8)]);
        let btf = raw.parse().expect("the layout describes it");
        assert_eq!(btf.find(b"int", Kind::INT), Some(TypeId(2)));
        let ty = btf.ty(TypeId(1)).expect("it is there");
        assert_eq!((ty.kind(), ty.record().len(), ty.name_bytes()), (Kind(42), 32, &b"int"[..]));
        exercise(btf.types());
        // It stays readable when it is written again.
        let again = BtfBuilder::from_btf(&btf).encode(endian, false);
        assert_eq!(Btf::parse(again).map(|btf| btf.find(b"int", Kind::INT)), Ok(Some(TypeId(2))));
    }
    for (info_size, elem_size) in [(5, 8), (4, 7)] {
        let raw = Raw::new(&types, "\0int\0").layout(&[(42, info_size, elem_size)]);
        let expected =
            format!("layout of kind 42 has sizes {info_size} and {elem_size}, which are not multiples of 4");
        assert_eq!(refusal(raw.bytes()), expected);
    }
    // A known kind is what it is, whatever a layout says.
    let raw = Raw::new(&INT, "\0int\0").layout(&[(1, 64, 64)]);
    assert_eq!(raw.parse().map(|btf| btf.len()), Ok(1));
}

#[test]
fn the_largest_unknown_record_is_only_too_long() {
    // 12 + 252 + 0xffffff * 252 bytes: more than 32 signed bits hold.
    let raw = Raw::new(&[0, info(127, 0x00ff_ffff), 0], "\0").layout(&[(127, 252, 252)]);
    assert_eq!(refusal(raw.bytes()), "type [1] at offset 0 of the type section runs past its end");
}

#[test]
fn a_layout_has_its_place() {
    let raw = int().layout(&[]);
    let (layout_off, layout_len) = (24, 28);
    let cases: &[(&[(usize, u32)], &str)] = &[
        (&[(layout_off, 18)], "is not 4-byte aligned"),
        (&[(layout_off, 12)], "overlaps the type section"),
        (&[(layout_off, 20)], "overlaps the string section"),
        (&[(layout_len, u32::MAX)], "overlaps the string section"),
        (&[(layout_len, 6)], "has a length that is not a multiple of 4"),
    ];
    for (words, expected) in cases {
        let said = refusal(with(&raw, words));
        assert!(said.starts_with("layout section") && said.ends_with(expected), "{words:?}: {said}");
    }
}

#[test]
fn kind_zero_is_never_stored() {
    assert_eq!(
        refusal(Raw::new(&[0, 0, 0], "\0").bytes()),
        "type [1] is of VOID, which is unknown and has no layout entry"
    );
}

#[test]
fn split_btf_goes_on_where_its_base_ends() {
    let base = build(|b| b.add_int("int", 4, IntEncoding::SIGNED).map(drop));
    let mut b = BtfBuilder::split(&base);
    assert_eq!(b.next_id(), TypeId(2));
    let own = b.add_typedef("own", TypeId(1)).expect("it fits");
    let bytes = b.encode(Endian::NATIVE, false);
    let split = Btf::parse_split(bytes.clone(), &base).expect("it parses");
    assert_eq!((split.start_id(), split.end_id(), split.len()), (TypeId(2), TypeId(3), 1));
    assert_eq!((split.start_str(), split.end_str()), (StrOffset(5), StrOffset(9)));
    assert_eq!(split.ty(own).map(|ty| ty.name().into_owned()), Ok("own".into()));
    assert_eq!(split.ty(TypeId(1)).map(|ty| ty.name().into_owned()), Ok("int".into()));
    assert!(split.ty(TypeId(1)).expect("it is there").btf().same(&base));
    assert_eq!(split.resolve_size(own), Ok(4));
    assert_eq!(split.check(), Ok(()));
    assert_eq!(split.str_at(StrOffset(1)), Ok(&b"int"[..]));
    assert!(split.str_at(StrOffset(9)).is_err());
    exercise(split.types());
    // A second level.
    let mut b = BtfBuilder::split(&split);
    let top = b.add_ptr(own).expect("it fits");
    let top_btf = b.finish().expect("it parses: it needs no strings");
    assert_eq!(top_btf.ty(top).map(|ty| ty.type_id()), Ok(own));
    assert_eq!(top_btf.find(b"own", Kind::TYPEDEF), Some(own));
    assert_eq!(top_btf.str_at(StrOffset(5)), Ok(&b"own"[..]));
    // Alone it has no empty string to start with.
    assert!(Btf::parse(bytes).is_err());
    // A name may be one of the base.
    let named = Raw::new(&[1, info(8, 0), 1], "");
    let named = Btf::parse_split(named.bytes(), &base).expect("it parses");
    assert_eq!(named.find(b"int", Kind::TYPEDEF), Some(TypeId(2)));
    // Both have one byte order.
    let other = if Endian::NATIVE.is_little() { Endian::Big } else { Endian::Little };
    let foreign = BtfBuilder::split(&base).encode(other, false);
    let said = Btf::parse_split(foreign, &base).map(drop).map_err(|error| error.to_string());
    assert_eq!(said, Err(format!("split BTF is {other}-endian, its base is not")));
}

#[test]
fn ids_and_offsets_outside_are_errors() {
    let btf = int().parse().expect("it parses");
    let said = |error: skep_btf::BtfError| error.to_string();
    assert_eq!(btf.ty(TypeId(2)).map(drop).map_err(said), Err("no type [2]: ids end at [2]".into()));
    assert!(btf.ty(TypeId(u32::MAX)).is_err());
    assert_eq!(
        btf.str_at(StrOffset(5)).map(drop).map_err(said),
        Err("string offset 5 is outside the string section, which ends at 5".into())
    );
    assert_eq!(btf.str_at(StrOffset(2)), Ok(&b"nt"[..]));
    assert_eq!(btf.str_at(StrOffset(4)), Ok(&b""[..]));
}

#[test]
fn names_need_not_be_text() {
    let mut raw = int();
    raw.strings = b"\0\xff\xfet\0".to_vec();
    let btf = raw.parse().expect("it parses");
    let ty = btf.ty(TypeId(1)).expect("it is there");
    assert_eq!((ty.name_bytes(), &*ty.name()), (&b"\xff\xfet"[..], "\u{fffd}\u{fffd}t"));
}

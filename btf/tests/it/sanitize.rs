//! What older kernels are given.

use skep_asm::Endian;
use skep_btf::{
    Btf, BtfBuilder, BtfError, IntEncoding, KernelBtfFeatures, Kind, Linkage, SectionVar, TypeId, sanitize,
};

use crate::{BOTH, Raw, build};

fn sample() -> Btf {
    build(|b| {
        let int = b.add_int("int", 4, IntEncoding::SIGNED)?; // 1
        b.add_var("count", Linkage::GLOBAL, int)?; // 2
        b.add_datasec("?.data.x", 8)?; // 3
        b.add_section_var(SectionVar { type_id: TypeId(2), offset: 4, size: 4 })?;
        b.add_func_proto(int)?; // 4
        b.add_param("arg", int)?;
        b.add_func("f", Linkage::GLOBAL, TypeId(4))?; // 5
        b.add_float("double", 8)?; // 6
        b.add_decl_tag("tag", TypeId(2), None, false)?; // 7
        b.add_type_tag("user", int, false)?; // 8
        b.add_enum("signed", 4, true)?; // 9
        b.add_enumerator("A", -1)?;
        b.add_enum64("wide", 8, true)?; // 10
        b.add_enumerator("B", 1 << 40)?;
        b.add_enumerator("C", -1).map(drop)
    })
}

/// One line for a type that differs from the sample.
fn line(btf: &Btf, id: u32) -> Result<String, BtfError> {
    let ty = btf.ty(TypeId(id))?;
    let mut out =
        format!("{ty:?} flag={} vlen={} word={}", u8::from(ty.kind_flag()), ty.vlen(), ty.size_or_type());
    for m in ty.members() {
        out += &format!(" .{}:{}@{}", m.name(), m.type_id.0, m.bit_offset);
    }
    for e in ty.enumerators() {
        out += &format!(" {}={}", e.name(), e.value);
    }
    out += &ty.int().map(|int| format!(" {} bits", int.bits)).unwrap_or_default();
    Ok(out)
}

/// Sections of one map each have names with a slash, which kernels take as late as those with a question mark.
#[test]
fn names_of_sections_are_made_plain() -> Result<(), BtfError> {
    let named = |name: &str| {
        build(|b| {
            let int = b.add_int("int", 4, IntEncoding::SIGNED)?;
            let var = b.add_var("count", Linkage::GLOBAL, int)?;
            b.add_datasec(name, 4)?;
            b.add_section_var(SectionVar { type_id: var, offset: 0, size: 4 })
        })
    };
    let mut old = KernelBtfFeatures::ALL;
    old.qmark_datasec = false;
    let after = |name: &str| match sanitize(&named(name), &old) {
        Ok(Some(bytes)) => Btf::parse(bytes).and_then(|btf| Ok(btf.ty(TypeId(3))?.name().into_owned())),
        Ok(None) => Ok("as it was".into()),
        Err(error) => Err(error),
    };
    assert_eq!(after("maps/flows")?, "maps_flows");
    assert_eq!(after("?.data")?, "_.data");
    assert_eq!(after(".maps.flows_2")?, "as it was");
    old.datasec = false;
    let bytes = sanitize(&named("maps/flows.x"), &old)?.expect("it has a section");
    assert_eq!(Btf::parse(bytes)?.ty(TypeId(3))?.name(), "maps_flows_x");
    assert_eq!(sanitize(&named("maps/flows"), &KernelBtfFeatures::ALL)?, None);
    Ok(())
}

#[test]
fn each_missing_feature_is_replaced() -> Result<(), BtfError> {
    let all = KernelBtfFeatures::ALL;
    let with = |f: fn(&mut KernelBtfFeatures)| {
        let mut features = all;
        f(&mut features);
        features
    };
    let cases: &[(KernelBtfFeatures, &[(u32, &str)])] = &[
        (
            with(|f| f.datasec = false),
            &[
                (2, "[2] INT 'count' flag=0 vlen=0 word=1 8 bits"),
                (3, "[3] STRUCT '__data_x' flag=0 vlen=1 word=8 .count:2@32"),
            ],
        ),
        (with(|f| f.qmark_datasec = false), &[(3, "[3] DATASEC '_.data.x' flag=0 vlen=1 word=8")]),
        (
            with(|f| f.func = false),
            &[(4, "[4] ENUM '' flag=0 vlen=1 word=4 arg=1"), (5, "[5] TYPEDEF 'f' flag=0 vlen=0 word=4")],
        ),
        (with(|f| f.global_func = false), &[(5, "[5] FUNC 'f' flag=0 vlen=0 word=4")]),
        (with(|f| f.float = false), &[(6, "[6] STRUCT '' flag=0 vlen=0 word=8")]),
        (with(|f| f.decl_tag = false), &[(7, "[7] INT 'tag' flag=0 vlen=0 word=1 8 bits")]),
        (with(|f| f.type_tag = false), &[(8, "[8] CONST '' flag=0 vlen=0 word=1")]),
        (
            with(|f| f.enum64 = false),
            &[
                (9, "[9] ENUM 'signed' flag=0 vlen=1 word=4 A=-1"),
                (10, "[10] UNION 'wide' flag=0 vlen=2 word=8 .B:11@0 .C:11@0"),
                (11, "[11] INT 'enum64_placeholder' flag=0 vlen=0 word=1 8 bits"),
            ],
        ),
    ];
    let original = sample();
    let builder = BtfBuilder::from_btf(&original);
    for endian in BOTH {
        let btf = Btf::parse(builder.encode(endian, false))?;
        for (features, expected) in cases {
            let new = Btf::parse(sanitize(&btf, features)?.expect("it has to change"))?;
            assert_eq!(new.endian(), Endian::NATIVE);
            assert_eq!(new.check(), Ok(()), "{features:?}");
            for (id, line_expected) in *expected {
                assert_eq!(line(&new, *id)?, *line_expected, "{features:?}");
            }
            for id in (1..=10).filter(|id| !expected.iter().any(|(changed, _)| changed == id)) {
                assert_eq!(line(&new, id)?, line(&original, id)?, "{features:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_kernel_that_understands_gets_it_as_it_is() -> Result<(), BtfError> {
    let btf = sample();
    assert_eq!(sanitize(&btf, &KernelBtfFeatures::ALL)?, None);
    let plain = build(|b| b.add_int("int", 4, IntEncoding::NONE).map(drop));
    assert_eq!(sanitize(&plain, &KernelBtfFeatures::NONE)?, None);
    // What is there in a form that the kernel knows is no reason.
    let known = build(|b| {
        let int = b.add_int("int", 4, IntEncoding::NONE)?;
        b.add_enum("unsigned", 4, false)?;
        b.add_datasec(".data", 0)?;
        let proto = b.add_func_proto(int)?;
        b.add_func("f", Linkage::STATIC, proto).map(drop)
    });
    let mut old = KernelBtfFeatures::NONE;
    (old.func, old.datasec) = (true, true);
    assert_eq!(sanitize(&known, &old)?, None);
    // Another byte order has to be changed for any kernel.
    let other = BOTH.into_iter().find(|endian| !endian.is_native()).expect("there are two");
    let foreign = Btf::parse(BtfBuilder::from_btf(&btf).encode(other, false))?;
    assert_eq!(sanitize(&foreign, &KernelBtfFeatures::ALL)?.as_deref(), Some(&btf.bytes()[..]));
    Ok(())
}

#[test]
fn everything_at_once_leaves_what_the_first_kernels_know() -> Result<(), BtfError> {
    let new = Btf::parse(sanitize(&sample(), &KernelBtfFeatures::NONE)?.expect("it has to change"))?;
    assert_eq!(new.check(), Ok(()));
    assert!(new.types().all(|ty| ty.kind() <= Kind::RESTRICT && !ty.kind_flag()));
    Ok(())
}

#[test]
fn a_layout_is_left_out_where_it_is_not_known() -> Result<(), BtfError> {
    let builder = BtfBuilder::from_btf(&build(|b| b.add_int("int", 4, IntEncoding::NONE).map(drop)));
    let btf = Btf::parse(builder.encode(Endian::NATIVE, true))?;
    assert_eq!(sanitize(&btf, &KernelBtfFeatures::ALL)?, None);
    let plain = sanitize(&btf, &KernelBtfFeatures::NONE)?;
    assert_eq!(plain, Some(builder.encode(Endian::NATIVE, false)));
    Ok(())
}

#[test]
fn a_section_that_names_nothing_is_refused() {
    let types = [1, crate::info(15, 1), 8, 99, 0, 4];
    let btf = Raw::new(&types, "\0.bss\0").parse().expect("it parses");
    assert!(sanitize(&btf, &KernelBtfFeatures::NONE).is_err());
    let types = [99, crate::info(15, 0), 8];
    let btf = Raw::new(&types, "\0.bss\0").parse().expect("it parses");
    assert!(sanitize(&btf, &KernelBtfFeatures::NONE).is_err());
}

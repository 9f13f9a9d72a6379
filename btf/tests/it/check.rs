//! The check of everything.

use skep_btf::{BtfError, IntEncoding, Kind, TypeId};

use crate::{BOTH, Raw, build, exercise, info};

const STRINGS: &str = "\0name\0";
const BAD: u32 = 100;

#[test]
fn every_reference_is_checked() {
    let bad_name: &[&[u32]] = &[
        &[BAD, info(1, 0), 4, 32],
        &[0, info(4, 1), 4, BAD, 0, 0],
        &[0, info(5, 1), 4, BAD, 0, 0],
        &[0, info(6, 1), 4, BAD, 0],
        &[0, info(13, 1), 0, BAD, 0],
        &[0, info(19, 1), 8, BAD, 0, 0],
        &[6, info(7, 0), 0],
    ];
    let bad_type: &[&[u32]] = &[
        &[0, info(2, 0), BAD],
        &[0, info(3, 0), 0, BAD, 0, 1],
        &[0, info(3, 0), 0, 0, BAD, 1],
        &[0, info(4, 1), 4, 0, BAD, 0],
        &[0, info(5, 1), 4, 0, BAD, 0],
        &[1, info(8, 0), BAD],
        &[0, info(9, 0), BAD],
        &[0, info(10, 0), BAD],
        &[0, info(11, 0), BAD],
        &[1, info(12, 0), BAD],
        &[0, info(13, 0), BAD],
        &[0, info(13, 1), 0, 0, BAD],
        &[1, info(14, 0), BAD, 0],
        &[1, info(15, 1), 4, BAD, 0, 4],
        &[1, info(17, 0), BAD, 0],
        &[1, info(18, 0), BAD],
        &[0, info(2, 0), 2], // one past the last
    ];
    for endian in BOTH {
        for (table, name) in [(bad_name, true), (bad_type, false)] {
            for types in table {
                let mut raw = Raw::new(types, STRINGS);
                raw.endian = endian;
                let btf = raw.parse().expect("parsing does not follow");
                exercise(btf.types());
                match btf.check() {
                    Err(BtfError::BadName { id: TypeId(1), .. }) if name => {}
                    Err(BtfError::BadReference { id: TypeId(1), .. }) if !name => {}
                    other => panic!("{types:?}: {other:?}"),
                }
            }
        }
    }
    let said = Raw::new(&[0, info(2, 0), BAD], STRINGS).parse().and_then(|btf| btf.check());
    assert_eq!(
        said.map_err(|error| error.to_string()),
        Err("type [1] (PTR) refers to type [100]: there is no such type".into())
    );
}

#[test]
fn a_function_has_a_prototype() {
    for target in [0, 2] {
        let btf = Raw::new(&[1, info(12, 0), target, 1, info(1, 0), 4, 32], STRINGS).parse();
        let said = btf.and_then(|btf| btf.check()).map_err(|error| error.to_string());
        let expected = format!("type [1] (FUNC) refers to type [{target}]: a function needs a prototype");
        assert_eq!(said, Err(expected));
    }
}

#[test]
fn nothing_contains_or_aliases_itself() {
    let cycles: &[(&str, &[u32])] = &[
        ("typedef of itself", &[1, info(8, 0), 1]),
        ("const and volatile", &[0, info(10, 0), 2, 0, info(9, 0), 1]),
        ("three modifiers", &[0, info(10, 0), 2, 0, info(11, 0), 3, 1, info(18, 0), 1]),
        ("into a cycle", &[1, info(8, 0), 2, 0, info(10, 0), 2]),
        ("struct in itself", &[0, info(4, 1), 4, 1, 1, 0]),
        ("by an alias", &[0, info(4, 1), 4, 1, 2, 0, 1, info(8, 0), 1]),
        ("by an array", &[0, info(5, 1), 4, 1, 2, 0, 0, info(3, 0), 0, 1, 1, 1]),
        ("array of itself", &[0, info(3, 0), 0, 1, 1, 1]),
        ("variable of itself", &[1, info(14, 0), 1, 0]),
        ("section in itself", &[1, info(15, 1), 4, 1, 0, 4]),
        ("tag on itself", &[1, info(17, 0), 1, u32::MAX]),
        ("pointer to itself", &[0, info(2, 0), 1]),
        ("pointers to pointers", &[0, info(2, 0), 2, 0, info(10, 0), 3, 0, info(2, 0), 1]),
        ("pointer and its alias", &[0, info(2, 0), 2, 1, info(8, 0), 1]),
    ];
    for (what, types) in cycles {
        let btf = Raw::new(types, STRINGS).parse().expect("parsing does not follow");
        exercise(btf.types());
        assert!(matches!(btf.check(), Err(BtfError::Cycle { .. })), "{what}: {:?}", btf.check());
    }
}

#[test]
fn pointers_to_what_holds_them_are_fine() {
    let btf = build(|b| {
        b.add_struct("node", 16)?; // 1
        b.add_member("next", TypeId(2), 0, 0)?;
        b.add_member("call", TypeId(4), 64, 0)?;
        b.add_ptr(TypeId(3))?; // 2
        b.add_typedef("node_t", TypeId(1))?; // 3
        b.add_ptr(TypeId(5))?; // 4
        b.add_func_proto(TypeId(4))?; // 5
        b.add_param("self", TypeId(2))?;
        b.add_param("again", TypeId(4))
    });
    assert_eq!(btf.check(), Ok(()));
    assert_eq!(btf.resolve_size(TypeId(3)), Ok(16));
}

#[test]
fn long_and_wide_btf_takes_no_stack_and_little_time() {
    // Each alias of the next; each structure with the next as both members: 2^50,000 paths.
    let chain = 100_000;
    let aliases = build(|b| {
        for n in 1..chain {
            b.add_typedef("t", TypeId(n + 1))?;
        }
        b.add_int("int", 4, IntEncoding::NONE).map(drop)
    });
    assert_eq!(aliases.check(), Ok(()));
    assert!(matches!(aliases.peel(TypeId(1)), Err(BtfError::TooDeep { .. })));
    assert_eq!(aliases.peel(TypeId(chain - 200)).map(|ty| ty.kind()), Ok(Kind::INT));

    let doubled = build(|b| {
        for n in 1..50_000 {
            b.add_struct("s", 4)?;
            b.add_member("a", TypeId(n + 1), 0, 0)?;
            b.add_member("b", TypeId(n + 1), 0, 0)?;
        }
        b.add_int("int", 4, IntEncoding::NONE).map(drop)
    });
    assert_eq!(doubled.check(), Ok(()));
    assert!(matches!(doubled.align_of(TypeId(1)), Err(BtfError::TooDeep { .. })));
    assert_eq!(doubled.align_of(TypeId(50_000 - 30)), Ok(4));
}

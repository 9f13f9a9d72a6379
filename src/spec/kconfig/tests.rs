use skep_btf::{BtfBuilder, IntEncoding, Kind};

use super::*;

const LITTLE: Endian = Endian::Little;

fn write(shape: Shape, value: impl Into<KconfigValue>, endian: Endian) -> Result<Vec<u8>, String> {
    let mut place = vec![0xaa; shape.size() as usize];
    shape.write(&value.into(), endian, &mut place).map(|()| place)
}

#[test]
fn lines_are_read_by_name_and_the_first_counts() {
    let text = "# CONFIG_A is not set\nCONFIG_A=y\nCONFIG_A=n\nCONFIG_AB=m\nnonsense\n\nCONFIG_B=x=y\r\n";
    let config =
        Config::parse(text, &BTreeSet::from(["CONFIG_A", "CONFIG_B"])).expect("each option has a value");
    assert_eq!(config.lines, HashMap::from([("CONFIG_A", "y"), ("CONFIG_B", "x=y")]));
    for broken in ["CONFIG_A", "CONFIG_A=", "CONFIG_A=y\nCONFIG_OTHER", "CONFIG_"] {
        let reason = Config::parse(broken, &BTreeSet::from(["CONFIG_A"])).err();
        assert!(reason.is_some_and(|reason| reason.contains("line ")), "{broken}");
    }
}

#[test]
fn values_lie_in_the_byte_order_of_the_object() {
    let int = |size, signed| Shape::Int { size, signed };
    assert_eq!(write(int(4, false), 6, LITTLE), Ok(vec![6, 0, 0, 0]));
    assert_eq!(write(int(4, false), 6, Endian::Big), Ok(vec![0, 0, 0, 6]));
    assert_eq!(write(int(2, true), -2, Endian::Big), Ok(vec![0xff, 0xfe]));
    assert_eq!(write(int(8, false), 1u64 << 63, Endian::Big), Ok(vec![0x80, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(write(Shape::Tristate { size: 4 }, KconfigValue::Module, Endian::Big), Ok(vec![0, 0, 0, 2]));
    assert_eq!(write(Shape::Text { len: 4 }, "abcdef", Endian::Big), Ok(b"abc\0".to_vec()));
    assert_eq!(write(Shape::Text { len: 1 }, "a", LITTLE), Ok(vec![0]));
    assert_eq!(write(Shape::Char { signed: true }, KconfigValue::Module, LITTLE), Ok(vec![b'm']));
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_do() {
    let int = |size, signed| Shape::Int { size, signed };
    for (shape, value, part) in [
        (int(2, true), KconfigValue::from(40_000), "does not fit 2 bytes with a sign"),
        (int(2, true), KconfigValue::from(-40_000), "value -40000"),
        (int(4, false), KconfigValue::from(-1), "without a sign"),
        (int(4, false), KconfigValue::from(true), "bool"),
        (Shape::Bool, KconfigValue::Module, "`m`"),
        (Shape::Bool, KconfigValue::from(2), "neither 0 nor 1"),
        (Shape::Bool, KconfigValue::from("y"), "array of char"),
        (Shape::Tristate { size: 4 }, KconfigValue::from(1), "integer"),
        (Shape::Text { len: 4 }, KconfigValue::from(1), "integer"),
        (Shape::Text { len: 4 }, KconfigValue::Yes, "quotes"),
    ] {
        let reason = write(shape, value.clone(), LITTLE).expect_err("it does not fit");
        assert!(reason.contains(part), "{shape:?} {value}: {reason}");
    }
    // All 64 bits are there, whatever they mean.
    assert_eq!(write(int(8, false), -1, LITTLE), Ok(vec![0xff; 8]));
    assert_eq!(write(int(8, true), u64::MAX, LITTLE), Ok(vec![0xff; 8]));
}

#[test]
fn types_hold_values_as_in_libbpf() {
    let mut btf = BtfBuilder::new();
    let mut expected = Vec::new();
    {
        let mut case = |id: Result<TypeId, skep_btf::BtfError>, shape: Option<Shape>| {
            let id = id.expect("a good type");
            expected.push((id, shape));
            id
        };
        let (signed, bool, none) = (IntEncoding::SIGNED, IntEncoding::BOOL, IntEncoding::default());
        let char = case(btf.add_int("char", 1, none), Some(Shape::Char { signed: false }));
        let flag = case(btf.add_int("bool", 1, bool), Some(Shape::Bool));
        case(btf.add_int("signed char", 1, signed), Some(Shape::Char { signed: true }));
        case(btf.add_int("wide bool", 4, bool), None);
        for size in [2, 4, 8] {
            case(btf.add_int("int", size, signed), Some(Shape::Int { size, signed: true }));
        }
        case(btf.add_int("__int128", 16, none), None);
        case(btf.add_enum("libbpf_tristate", 4, false), Some(Shape::Tristate { size: 4 }));
        case(btf.add_enum("libbpf_tristate", 1, false), None);
        case(btf.add_enum64("libbpf_tristate", 8, false), Some(Shape::Tristate { size: 8 }));
        case(btf.add_enum("tristate", 4, false), None);
        case(btf.add_array(char, char, 3), Some(Shape::Text { len: 3 }));
        case(btf.add_array(char, char, 0), None);
        case(btf.add_array(flag, char, 3), None);
        case(btf.add_ptr(char), None);
        case(btf.add_struct("s", 1), None);
        case(btf.add_float("float", 4), None);
        let typedef = case(btf.add_typedef("letter", char), Some(Shape::Char { signed: false }));
        case(btf.add_modifier(Kind::CONST, typedef), Some(Shape::Char { signed: false }));
        case(btf.add_array(typedef, char, 2), Some(Shape::Text { len: 2 }));
    }
    let btf = btf.finish().expect("what skep writes, it reads");
    for (id, shape) in expected {
        let found = Shape::of(&btf, id);
        assert_eq!(found.as_ref().ok(), shape.as_ref(), "{:?}: {found:?}", btf.ty(id));
        assert!(found.is_ok() || found.is_err_and(|reason| reason.contains("declare it as")));
    }
}

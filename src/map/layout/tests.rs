use skep_btf::{Btf, BtfBuilder, IntEncoding, Kind, SectionVar, TypeId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{LayoutMismatch, compare};
use crate::map::{Opaque, PlainData};

/// C types to compare with.
struct C {
    builder: BtfBuilder,
    char: TypeId,
    u8: TypeId,
    u16: TypeId,
    u32: TypeId,
    i32: TypeId,
    u64: TypeId,
}

/// A member: name, type, offset in bytes.
type Part<'a> = (&'a str, TypeId, u32);

impl C {
    fn new() -> C {
        let mut builder = BtfBuilder::new();
        let mut int = |name: &str, size, encoding| builder.add_int(name, size, encoding).unwrap();
        let char = int("char", 1, IntEncoding::SIGNED);
        let u8 = int("unsigned char", 1, IntEncoding::NONE);
        let u16 = int("unsigned short", 2, IntEncoding::NONE);
        let u32 = int("unsigned int", 4, IntEncoding::NONE);
        let i32 = int("int", 4, IntEncoding::SIGNED);
        let u64 = int("unsigned long", 8, IntEncoding::NONE);
        C { builder, char, u8, u16, u32, i32, u64 }
    }

    fn array(&mut self, of: TypeId, len: u32) -> TypeId {
        self.builder.add_array(of, self.u32, len).unwrap()
    }

    fn structure(&mut self, name: &str, size: u32, parts: &[Part<'_>]) -> TypeId {
        let id = self.builder.add_struct(name, size).unwrap();
        self.parts(parts);
        id
    }

    fn union(&mut self, name: &str, size: u32, parts: &[Part<'_>]) -> TypeId {
        let id = self.builder.add_union(name, size).unwrap();
        self.parts(parts);
        id
    }

    fn parts(&mut self, parts: &[Part<'_>]) {
        for &(name, ty, offset) in parts {
            self.builder.add_member(name, ty, offset * 8, 0).unwrap();
        }
    }

    fn btf(&self) -> Btf {
        self.builder.finish().unwrap()
    }

    fn compare<T: PlainData>(&self, id: TypeId) -> Result<(), LayoutMismatch> {
        compare(&self.btf(), id, T::SHAPE)
    }

    #[track_caller]
    fn takes<T: PlainData>(&self, id: TypeId) {
        if let Err(mismatch) = self.compare::<T>(id) {
            panic!("{mismatch}");
        }
    }

    #[track_caller]
    fn refuses<T: PlainData>(&self, id: TypeId, at: usize, reason: &str) {
        let mismatch = self.compare::<T>(id).unwrap_err();
        assert_eq!((mismatch.offset, mismatch.reason.as_str()), (at, reason), "{mismatch}");
        assert!(mismatch.lines.iter().any(|line| line.differs), "{mismatch}");
    }
}

macro_rules! plain {
    ($($name:ident { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
        #[repr(C)]
        struct $name {
            $($field: $ty),*
        }
    )*};
}

plain! {
    Flow { source: [u8; 4], destination: u32, port: u16, _pad: u16, hits: u32 }
    Half { low: u32, high: u32 }
    Quarters { a: u16, b: u16, c: u32 }
    Nested { half: Half, tail: [Half; 2] }
    Flat { a: u32, b: u32, c: [u32; 4] }
    Wrapped { only: u64 }
    Holes { a: u8, b: [u8; 3], c: u32 }
    Signed { a: i32, b: u32 }
    Mixed { flags: zerocopy::byteorder::little_endian::U64, e: u32 }
    Tagged { kind: u32, v4: u32, rest: [u8; 12] }
    Untidy { kind: u32, v4: u32, rest: [u32; 3] }
}

/// With a parameter, and without a name for its field.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(transparent)]
struct Id<T>(T);

#[test]
fn numbers() {
    let mut c = C::new();
    let float = c.builder.add_float("float", 4).unwrap();
    let state = c.builder.add_enum("state", 4, false).unwrap();
    let boolean = c.builder.add_int("_Bool", 1, IntEncoding::BOOL).unwrap();
    let pointer = c.builder.add_ptr(c.u8).unwrap();
    let alias = c.builder.add_typedef("__u32", c.u32).unwrap();
    let alias = c.builder.add_modifier(Kind::VOLATILE, alias).unwrap();

    c.takes::<u32>(alias);
    c.takes::<zerocopy::byteorder::big_endian::U32>(alias);
    c.takes::<[u8; 4]>(alias);
    c.takes::<Opaque<f32>>(alias);
    c.takes::<i32>(c.i32);
    c.takes::<f32>(float);
    c.takes::<u32>(state);
    c.takes::<i32>(state);
    c.takes::<u8>(boolean);
    c.takes::<u8>(c.char);
    c.takes::<i8>(c.char);
    c.takes::<u64>(pointer);
    c.takes::<Wrapped>(c.u64);
    c.takes::<Id<u32>>(alias);
    c.refuses::<Id<i32>>(alias, 0, "`__u32` is unsigned, and `i32` is not");

    c.refuses::<i32>(alias, 0, "`__u32` is unsigned, and `i32` is not");
    c.refuses::<u32>(c.i32, 0, "`int` is signed, and `u32` is not");
    c.refuses::<f32>(c.u32, 0, "`unsigned int` is not like `f32`");
    c.refuses::<u32>(float, 0, "`float` is not like `u32`");
    c.refuses::<i64>(pointer, 0, "`unsigned char *` is not like `i64`");
    c.refuses::<u64>(alias, 0, "`__u32` has 4 bytes, and `u64` has 8");
    c.refuses::<Half>(c.u64, 0, "`unsigned long` is not like `Half`");
    c.refuses::<u32>(TypeId::VOID, 0, "`void` has 0 bytes, and `u32` has 4");
}

#[test]
fn members() {
    let mut c = C::new();
    let address = c.array(c.u8, 4);
    let parts = [("src", address, 0), ("dst", c.u32, 4), ("port", c.u16, 8), ("hits", c.u32, 12)];
    let flow = c.structure("flow", 16, &parts);
    c.takes::<Flow>(flow);
    c.takes::<[u8; 16]>(flow);

    let (u16, u32) = (c.u16, c.u32);
    let moved =
        c.structure("flow", 16, &[("src", address, 0), ("dst", u32, 4), ("hits", u32, 8), ("port", u16, 12)]);
    c.refuses::<Flow>(moved, 8, "`unsigned int hits` is longer than `port: u16`");
    let lacking = c.structure("flow", 16, &[("src", address, 0), ("dst", u32, 4), ("port", u16, 8)]);
    c.refuses::<Flow>(lacking, 12, "nothing is there, where Rust has `hits`");
    let shorter = c.structure("flow", 12, &[("src", address, 0), ("port", u16, 4), ("dst", u32, 8)]);
    c.refuses::<Flow>(shorter, 4, "`struct flow` has 12 bytes, and `Flow` has 16");
    let longer = c.structure("flow", 20, &[parts[0], parts[1], parts[2], parts[3], ("new", u32, 16)]);
    c.refuses::<Flow>(longer, 16, "`struct flow` has 20 bytes, and `Flow` has 16");

    let packed = c.structure("", 8, &[("a", c.u8, 0), ("b", c.u32, 1), ("c", c.u16, 5), ("d", c.u8, 7)]);
    c.refuses::<Holes>(packed, 1, "`unsigned int b` is longer than `b: [u8; 3]`");
    let one = c.structure("one", 8, &[("only", c.u64, 0)]);
    c.takes::<u64>(one);
    let signed = c.structure("", 8, &[("a", c.u32, 0), ("b", c.u32, 4)]);
    c.refuses::<Signed>(signed, 0, "`unsigned int` is unsigned, and `i32` is not");
}

#[test]
fn flat_and_nested() {
    let mut c = C::new();
    let half = c.structure("half", 8, &[("low", c.u32, 0), ("high", c.u32, 4)]);
    let pair = c.array(half, 2);
    let nested = c.structure("nested", 24, &[("half", half, 0), ("tail", pair, 8)]);
    let six = c.array(c.u32, 6);
    let grid = c.array(c.u32, 3);
    let grid = c.array(grid, 2);
    let three = c.array(half, 3);
    for id in [nested, six, grid, three] {
        c.takes::<Nested>(id);
        c.takes::<Flat>(id);
        c.takes::<[u32; 6]>(id);
        c.takes::<[[u32; 2]; 3]>(id);
        c.takes::<[Half; 3]>(id);
        c.refuses::<[u64; 3]>(id, 0, c.compare::<[u64; 3]>(id).unwrap_err().reason.as_str());
        c.refuses::<[i32; 6]>(id, 0, "`unsigned int` is unsigned, and `i32` is not");
    }
}

#[test]
fn bit_fields() {
    let mut c = C::new();
    let flags = c.builder.add_struct("flags", 8).unwrap();
    for (name, at, bits) in [("a", 0, 3), ("b", 3, 13), ("c", 16, 16)] {
        c.builder.add_member(name, c.u32, at, bits).unwrap();
    }
    c.builder.add_member("d", c.u32, 32, 0).unwrap();
    c.takes::<Half>(flags);
    c.takes::<Quarters>(flags);
    c.refuses::<Holes>(flags, 0, "`b` lies across the end of `a`");
    c.refuses::<Wrapped>(flags, 0, "`struct flags` is not like `u64`");
    let mixed = c.structure("mixed", 12, &[("flags", flags, 0), ("e", c.u32, 8)]);
    c.refuses::<Mixed>(mixed, 0, "`struct flags` is not like `U64<LittleEndian>`");
    let only = c.builder.add_struct("only", 4).unwrap();
    c.builder.add_member("a", c.u32, 0, 30).unwrap();
    c.takes::<u32>(only);
    c.takes::<i32>(only);
    c.refuses::<f32>(only, 0, "`struct only` is not like `f32`");
    let text = c.compare::<Wrapped>(flags).unwrap_err().to_string();
    assert!(text.contains("unsigned int b:13"), "{text}");
}

#[test]
fn unions() {
    let mut c = C::new();
    let bytes = c.array(c.u8, 16);
    let words = c.array(c.u32, 4);
    let address = c.union("address", 16, &[("v4", c.u32, 0), ("v6", bytes, 0)]);
    let tagged = c.structure("tagged", 20, &[("kind", c.u32, 0), ("", address, 4)]);
    c.takes::<Tagged>(tagged);
    c.takes::<[u8; 16]>(address);
    c.refuses::<Untidy>(tagged, 4, "the fields fit no arm of the union");
    c.refuses::<[u64; 2]>(address, 0, "the fields fit no arm of the union");
    let address = c.union("address", 16, &[("v4", c.u32, 0), ("v6", words, 0)]);
    let tagged = c.structure("tagged", 20, &[("kind", c.u32, 0), ("", address, 4)]);
    c.takes::<Tagged>(tagged);
    c.takes::<Untidy>(tagged);
    c.takes::<[u32; 4]>(address);
}

#[test]
fn sections() {
    let mut c = C::new();
    let global = skep_btf::Linkage::GLOBAL;
    let low = c.builder.add_var("low", global, c.u32).unwrap();
    let high = c.builder.add_var("high", global, c.u32).unwrap();
    let section = c.builder.add_datasec(".bss", 8).unwrap();
    for (type_id, offset) in [(low, 0), (high, 4)] {
        c.builder.add_section_var(SectionVar { type_id, offset, size: 4 }).unwrap();
    }
    c.takes::<Half>(section);
    c.refuses::<Signed>(section, 0, "`unsigned int` is unsigned, and `i32` is not");
}

#[test]
fn a_table_shows_both() {
    let mut c = C::new();
    let half = c.structure("half", 8, &[("low", c.u32, 0), ("high", c.i32, 4)]);
    let tail = c.array(half, 2);
    let nested = c.structure("nested", 24, &[("first", half, 0), ("rest", tail, 8)]);
    let text = c.compare::<Nested>(nested).unwrap_err().to_string();
    assert_eq!(
        text,
        "\
at offset 4, `int` is signed, and `u32` is not
    offset  size  struct nested             size  Nested
         0     4  unsigned int first.low       4  half.low: u32
  >      4     4  int first.high               4  half.high: u32
         8    16  struct half[2] rest         16  tail: [Half; 2]
         8     4  unsigned int rest[0].low     4  tail[0].low: u32
        12     4  int rest[0].high             4  tail[0].high: u32"
    );
}

/// Types of a file: damaged ones, deep ones, ones that multiply.
#[test]
fn bounds() {
    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
    #[repr(C)]
    struct Big {
        words: [[u16; 1 << 10]; 1 << 10],
    }

    // Arms of arms of arms: two to the power of 40 of them.
    let mut c = C::new();
    let mut id = c.i32;
    for _ in 0..40 {
        id = c.union("", 4, &[("a", id, 0), ("b", id, 0)]);
    }
    c.compare::<u32>(id).unwrap_err();
    // A structure that lies in itself.
    let next = c.builder.next_id();
    let own = c.structure("own", 8, &[("a", next, 0)]);
    assert_eq!(own, next);
    c.compare::<u64>(own).unwrap_err();
    c.compare::<Half>(own).unwrap_err();
    // What does not exist, an alias of itself, elements without end.
    let alias = c.builder.next_id();
    let alias = c.builder.add_typedef("alias", alias).unwrap();
    let nothing = c.structure("nothing", 4, &[("a", TypeId(9999), 0)]);
    let many = c.array(c.u16, 1 << 20);
    let unlike = c.array(c.u32, 1 << 19);
    for id in [TypeId(9999), alias, nothing] {
        c.compare::<u32>(id).unwrap_err();
    }
    c.takes::<Big>(many);
    let text = c.compare::<Big>(unlike).unwrap_err().to_string();
    assert!(text.lines().count() < 60, "{text}");
    // Very many members.
    let parts: Vec<Part<'_>> = (0..60_000).map(|nth| ("m", c.u32, nth * 4)).collect();
    let wide = c.structure("wide", 240_000, &parts);
    c.takes::<[u32; 60_000]>(wide);
    assert!(c.compare::<[i32; 60_000]>(wide).unwrap_err().to_string().lines().count() < 60);
}

#[test]
fn names_of_a_file_are_printed_with_care() {
    let mut c = C::new();
    let long = "x".repeat(1000);
    let odd = c.structure("a\n\u{1b}[31mb", 8, &[(&long, c.u32, 0), ("b", c.i32, 4)]);
    let text = c.compare::<Half>(odd).unwrap_err().to_string();
    assert!(text.contains("struct a[31mb") && !text.contains(&"x".repeat(65)), "{text}");
    assert_eq!(text.lines().count(), 4);
}

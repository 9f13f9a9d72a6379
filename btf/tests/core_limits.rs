//! Malformed and hostile BTF: a clear error in bounded time, never a panic.

mod core_support;

use std::time::{Duration, Instant};

use core_support::{Subject, btf, build, load_btf, testdata};
use object::{Object, ObjectSection};
use skep_asm::{Endian, decode};
use skep_btf::relo::{Access, CoreErrorKind, Decision, Resolver, Side, apply};
use skep_btf::{Btf, BtfError, CoreRelo, CoreReloKind, ExtInfo, StrOffset, TypeId};

const EXISTS: CoreReloKind = CoreReloKind::FIELD_EXISTS;

/// Resolves one relocation of little-endian BTF from text.
fn resolve(
    local: &str,
    target: &str,
    id: u32,
    access: &str,
    kind: CoreReloKind,
) -> Result<Decision, CoreErrorKind> {
    let (local, strings) = build(local, &[access], Endian::Little);
    let relo = CoreRelo { insn_off: 0, type_id: TypeId(id), access_str_off: StrOffset(strings[0]), kind };
    let mut resolver = Resolver::new(&Btf::parse(local).unwrap(), btf(target));
    resolver.resolve(0, &relo).map_err(|error| error.reason)
}

const S: &str = "int i 4; struct s 8 a:1@0 b:1@32";

#[test]
fn access_strings_that_libbpf_did_not_always_refuse() {
    let long = "0:".repeat(400) + "0";
    for text in ["0:-1", "0: 1", "0 1", "+0", "0:4294967296", "0:2147483648", "0:99999999999999999999", &long]
    {
        let result = resolve(S, S, 2, text, EXISTS);
        assert!(matches!(result, Err(CoreErrorKind::BadAccess { .. })), "{text}: {result:?}");
    }
}

#[test]
fn offsets_do_not_wrap() {
    let result = resolve(S, S, 2, "2147483647:0", EXISTS);
    assert!(matches!(result, Err(CoreErrorKind::OffsetOverflow { side: Side::Local })), "{result:?}");
    let large = "int i 4; struct s 4294967295 b:1@4294967264";
    let result = resolve("int i 4; struct s 8 b:1@32", large, 2, "0:0", CoreReloKind::FIELD_BYTE_OFFSET);
    assert_eq!(result.unwrap().new_value, 536_870_908);
    let result = resolve("int i 4; struct s 8 b:1@32", large, 2, "1:0", CoreReloKind::FIELD_BYTE_OFFSET);
    assert!(matches!(result, Err(CoreErrorKind::OffsetOverflow { side: Side::Target })), "{result:?}");
}

#[test]
fn cycles_end() {
    let loops = [
        "int i 4; struct s 8 a:3@0; typedef t 4; const 3",
        "int i 4; struct s 8 a:3@0; array 3 2",
        "int i 4; struct s 8 _:2@0",
        "int i 4; struct s 8 _:3@0; union _ 8 _:2@0 _:3@0",
        "int i 4; struct s 8 a:3@0; ptr 3",
        "int i 4; struct s 8 a:3@0; ptr 4; proto 3 p:3",
        "int i 4; struct s 8 a:2@0",
    ];
    let kinds = [EXISTS, CoreReloKind::FIELD_BYTE_OFFSET, CoreReloKind::FIELD_LSHIFT_U64];
    let type_kinds = [CoreReloKind::TYPE_EXISTS, CoreReloKind::TYPE_MATCHES, CoreReloKind::TYPE_SIZE];
    for a in loops.iter().chain([&S]) {
        for b in loops.iter().chain([&S]) {
            for kind in kinds {
                for access in ["0:0", "0:0:0", "0:0:0:0:0"] {
                    let _ = resolve(a, b, 2, access, kind);
                }
            }
            for kind in type_kinds {
                let _ = resolve(a, b, 2, "0", kind);
            }
        }
    }
    let too_deep = |result: Result<Decision, CoreErrorKind>| match result {
        Err(CoreErrorKind::TooDeep { .. }) => {}
        Err(CoreErrorKind::Btf { source: BtfError::TooDeep { .. } | BtfError::Cycle { .. }, .. }) => {}
        other => panic!("{other:?}"),
    };
    too_deep(resolve(S, loops[2], 2, "0:1", EXISTS));
    too_deep(resolve(loops[0], S, 2, "0:0", EXISTS));
    too_deep(resolve(loops[4], loops[4], 2, "0:0", CoreReloKind::FIELD_BYTE_SIZE).and_then(|_| {
        // Pointers have a size whatever they point to; what they point to is looked at for a match only.
        resolve(
            "int i 4; typedef t 3; ptr 3",
            "int i 4; typedef t 3; ptr 3",
            2,
            "0",
            CoreReloKind::TYPE_MATCHES,
        )
    }));
}

#[test]
fn doubling_types_do_not_take_for_ever() {
    // Each level holds the next one twice: 2^40 ways down, and one that ends them all is sought.
    let mut target = String::from("int i 4; struct s 8 _:3@0 _:3@0;");
    for id in 4..44 {
        target += &format!("struct _ 8 _:{id}@0 _:{id}@0;");
    }
    target += "struct _ 4 z:1@0";
    let start = Instant::now();
    let result = resolve(S, &target, 2, "0:0", EXISTS);
    assert!(matches!(result, Err(CoreErrorKind::TooMuchWork { .. })), "{result:?}");

    let mut types = String::from("int i 4; typedef t 3;");
    for id in 4..32 {
        types += &format!("proto 1 a:{id} b:{id} c:{id};");
    }
    types += "proto 1 a:1";
    for kind in [CoreReloKind::TYPE_EXISTS, CoreReloKind::TYPE_MATCHES] {
        let result = resolve(&types, &types, 2, "0", kind);
        assert!(matches!(result, Err(CoreErrorKind::TooMuchWork { .. })), "{result:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn names_out_of_bounds_and_missing_types() {
    let (mut local, strings) = build(S, &["0:0"], Endian::Little);
    let relo =
        CoreRelo { insn_off: 0, type_id: TypeId(2), access_str_off: StrOffset(strings[0]), kind: EXISTS };
    let good = Btf::parse(local.clone()).unwrap();
    let far = CoreRelo { access_str_off: StrOffset(u32::MAX), ..relo };
    assert!(matches!(
        Access::parse(&good, &far),
        Err(CoreErrorKind::Btf { side: Side::Local, source: BtfError::NoSuchString { .. } })
    ));
    let far = CoreRelo { type_id: TypeId(77), ..relo };
    let error = Resolver::new(&good, btf(S)).resolve(5, &far).unwrap_err();
    assert_eq!((error.index, error.insn), (5, 0));
    let odd = CoreRelo { insn_off: 12, ..relo };
    let error = Resolver::new(&good, btf(S)).resolve(0, &odd).unwrap_err();
    assert!(matches!(error.reason, CoreErrorKind::Unaligned { insn_off: 12 }));
    // The name of the first member, 24 bytes of header, 16 of the integer and 12 of the struct before it.
    local[52..56].copy_from_slice(&u32::MAX.to_le_bytes());
    if let Ok(local) = Btf::parse(local) {
        let result = Access::parse(&local, &relo);
        assert!(matches!(result, Err(CoreErrorKind::BadIndex { position: 1, .. })), "{result:?}");
    }
}

/// A small deterministic generator (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Relocates with whatever is left of the bytes, and prints everything when asked to.
fn exercise(local: Vec<u8>, ext: Vec<u8>, target: Vec<u8>, insns: &[u8], print: bool) -> usize {
    let (Ok(local), Ok(ext), Ok(target)) = (Btf::parse(local), ExtInfo::parse(ext), Btf::parse(target))
    else {
        return 0;
    };
    let relos: Vec<CoreRelo> =
        ext.core_relos().blocks().flat_map(|block| block.records().map(|record| record.info)).collect();
    let mut insns = decode(insns, local.endian()).unwrap();
    let mut resolver = Resolver::new(&local, target);
    let _ = resolver.prepare(&relos);
    let mut decided = 0;
    for (index, relo) in relos.iter().enumerate() {
        match resolver.resolve(index, relo) {
            Ok(decision) => {
                decided += 1;
                assert!(!print || !decision.to_string().is_empty());
                let _ = apply(&mut insns, relo.insn_off as usize / 8, &decision);
            }
            Err(error) => assert!(!print || !format!("{error}: {}", error.reason).is_empty()),
        }
    }
    decided
}

#[test]
fn flipped_bytes_never_panic() {
    const ROUNDS: usize = 30_000;
    let objects = ["core_enums", "core_types", "core_fields", "core_flavors", "core_errors", "core_direct"];
    let mut cases = Vec::new();
    for (nth, name) in objects.iter().chain(["core_synthetic"; 2].iter()).enumerate() {
        let suffix = if nth % 2 == 0 { ".o" } else { ".eb.o" };
        let file = std::fs::read(testdata(&format!("{name}{suffix}"))).unwrap();
        let file = object::File::parse(&*file).unwrap();
        let section = |name: &str| file.section_by_name(name).unwrap().data().unwrap().to_vec();
        let code = file.sections().find(|section| section.kind() == object::SectionKind::Text);
        let insns = code.unwrap().data().unwrap().to_vec();
        // The object's own types are a target that has everything.
        let target = match *name {
            "core_synthetic" => load_btf("targets/skep__v12_flavours.o").bytes().to_vec(),
            _ => section(".BTF"),
        };
        cases.push((section(".BTF"), section(".BTF.ext"), target, insns));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut decided = 0;
    for round in 0..ROUNDS {
        let (mut local, mut ext, mut target, insns) = cases[round % cases.len()].clone();
        for _ in 0..=random.below(3) {
            let blob = match random.below(5) {
                0 | 1 => &mut local,
                2 | 3 => &mut target,
                _ => &mut ext,
            };
            // Mostly where types are: a changed name is only another name.
            let end = if random.below(4) == 0 { blob.len() } else { blob.len() * 2 / 3 };
            let at = random.below(end);
            blob[at] =
                if random.below(2) == 0 { blob[at] ^ 1 << random.below(8) } else { random.below(256) as u8 };
        }
        decided += exercise(local, ext, target, &insns, round % 4 == 0);
    }
    assert!(decided > ROUNDS, "only {decided} relocations were reached");
}

#[test]
fn bit_fields_of_both_byte_orders() {
    // The big-endian object and target have the same declarations; the compiler puts the bits at the other end.
    for (suffix, expected) in [(".o", [61, 54, 49, 9, 56]), (".eb.o", [32, 35, 42, 15, 56])] {
        let object = Subject::load(&format!("core_synthetic{suffix}"));
        let mut resolver = Resolver::new(&object.btf, load_btf(&format!("targets/skep__v0{suffix}")));
        let lshift: Vec<u64> = object
            .relos()
            .enumerate()
            .filter(|(_, relo)| relo.kind == CoreReloKind::FIELD_LSHIFT_U64)
            .map(|(index, relo)| resolver.resolve(index, relo).unwrap())
            .map(|decision| {
                assert_eq!(decision.local_value, decision.new_value, "{decision}");
                decision.new_value
            })
            .collect();
        assert_eq!(lshift, expected, "{suffix}");
    }
}

//! What is kept of a decision, what it prints, and which BTF is asked for when.

mod core_support;

use core_support::{Subject, btf, build, load_btf};
use skep_asm::{Endian, Insn, Reg, opcode};
use skep_btf::relo::{
    Access, Applied, CandidateSource, CoreErrorKind, Decision, Mismatch, Outcome, POISON, PatchError,
    Resolver, TargetError, TargetModule, Targets, apply,
};
use skep_btf::{Btf, CoreRelo, CoreReloKind, StrOffset, TypeId};

const OFF: CoreReloKind = CoreReloKind::FIELD_BYTE_OFFSET;

/// An object's BTF, and a relocation of it.
fn object(types: &str, id: u32, access: &str, kind: CoreReloKind) -> (Btf, CoreRelo) {
    let (bytes, strings) = build(types, &[access], Endian::Little);
    let relo = CoreRelo { insn_off: 16, type_id: TypeId(id), access_str_off: StrOffset(strings[0]), kind };
    (Btf::parse(bytes).unwrap(), relo)
}

fn decide(types: &str, id: u32, access: &str, kind: CoreReloKind, target: &str) -> Decision {
    let (btf_, relo) = object(types, id, access, kind);
    Resolver::new(&btf_, btf(target)).resolve(7, &relo).unwrap()
}

#[test]
fn accesses_print_as_libbpf_prints_them() {
    let types = "int i 4; struct in 8 x:1@0 b:1@35+3; array 2 4; union _ 32 arr:3@0 w:1@0; struct s 40 a:1@0 _:4@64; \
        enum e 4 A=4294967295 B=1; enum e2 4 signed C=-1; enum64 e3 8 D=18446744073709551615; enum64 e4 8 signed E=-2; typedef t 5";
    let print = |id, access, kind| {
        let (btf, relo) = object(types, id, access, kind);
        Access::parse(&btf, &relo).unwrap().to_string()
    };
    assert_eq!(print(5, "0:1:0:3:1", OFF), "<byte_off> [5] struct s.arr[3].b (0:1:0:3:1 @ offset 36.3)");
    assert_eq!(
        print(10, "2:0", CoreReloKind::FIELD_RSHIFT_U64),
        "<rshift_u64> [10] typedef t[2].a (2:0 @ offset 80)"
    );
    assert_eq!(print(6, "0", CoreReloKind::ENUMVAL_VALUE), "<enumval_value> [6] enum e::A = 4294967295");
    assert_eq!(print(7, "0", CoreReloKind::ENUMVAL_EXISTS), "<enumval_exists> [7] enum e2::C = -1");
    assert_eq!(
        print(8, "0", CoreReloKind::ENUMVAL_VALUE),
        "<enumval_value> [8] enum64 e3::D = 18446744073709551615"
    );
    assert_eq!(print(9, "0", CoreReloKind::ENUMVAL_VALUE), "<enumval_value> [9] enum64 e4::E = -2");
    assert_eq!(print(4, "0", CoreReloKind::TYPE_SIZE), "<type_size> [4] union <anon>");
    assert_eq!(print(1, "0", CoreReloKind::TYPE_MATCHES), "<type_matches> [1] int i");
}

#[test]
fn accesses_keep_what_means_something() {
    let (btf, relo) = object("int i 4; struct _ 4 a:1@0; struct s 8 x:1@0 _:2@32", 3, "0:1:0", OFF);
    let access = Access::parse(&btf, &relo).unwrap();
    assert_eq!(access.indexes(), [0, 1, 0]);
    assert_eq!(access.bit_offset(), 32);
    let names: Vec<&[u8]> = access.accessors().iter().map(|accessor| access.name_of(accessor)).collect();
    assert_eq!(names, [&b""[..], b"a"]);
}

#[test]
fn reasons_name_the_field_and_the_candidates() {
    let why = |types, id, access, kind, target| {
        decide(types, id, access, kind, target).why().map(|why| why.to_string())
    };
    let s = "int i 4; struct task_struct 8 pid:1@0 foo:1@32";
    assert_eq!(why(s, 2, "0:0", OFF, "int i 4; struct task_struct 4 pid:1@0"), None);
    assert_eq!(
        why(
            s,
            2,
            "0:1",
            OFF,
            "int i 4; struct x 1; struct task_struct 4 pid:1@0; struct task_struct___2 4 pid:1@0"
        )
        .unwrap(),
        "struct task_struct has no field `foo`: candidates [3] task_struct, [4] task_struct___2"
    );
    assert_eq!(why(s, 2, "0:1", OFF, "int i 4").unwrap(), "the target has no struct task_struct");
    assert_eq!(
        why(s, 2, "0:1", OFF, "int i 4; ptr 0; struct task_struct 4 foo:2@0").unwrap(),
        "field `foo` is ptr <anon> there, not int i: candidates [3] task_struct"
    );
    let arrays = "int i 4; array 1 8; struct s 32 a:2@0";
    assert_eq!(
        why(arrays, 3, "0:0:5", OFF, "int i 4; array 1 4; struct s 16 a:2@0").unwrap(),
        "an array of 4 has no element 5: candidates [3] s"
    );
    let e = "enum e 4 A=1";
    assert_eq!(
        why(e, 1, "0", CoreReloKind::ENUMVAL_EXISTS, "enum e 4 B=1").unwrap(),
        "enum e has no `A`: candidates [1] e"
    );
    assert_eq!(
        why(s, 2, "0", CoreReloKind::TYPE_MATCHES, "int i 4 signed; struct task_struct 8 pid:1@0 foo:1@32")
            .unwrap(),
        "int i and int i there differ in size or sign: candidates [2] task_struct"
    );
    // Names are bytes of a file.
    let odd = decide("int i 4; struct a\u{7}b 4 x\u{1b}:1@0", 2, "0:0", OFF, "int i 4");
    assert_eq!(odd.why().unwrap().to_string(), r"the target has no struct a\x07b");
}

#[test]
fn decisions_print_on_one_line() {
    let s = "int i 4; struct s 8 a:1@0 b:1@32";
    assert_eq!(
        decide(s, 2, "0:1", OFF, "struct s___x 12 b:2@64; int i 4").to_string(),
        "<byte_off> [2] struct s.b (0:1 @ offset 4) -> [1] struct s___x.b (0:0 @ offset 8): 4 -> 8"
    );
    assert_eq!(
        decide(s, 2, "0", CoreReloKind::TYPE_SIZE, "int i 4").to_string(),
        "<type_size> [2] struct s: 8 -> 0, the target has no struct s"
    );
    assert_eq!(
        decide(s, 2, "0:1", OFF, "int i 4").to_string(),
        "<byte_off> [2] struct s.b (0:1 @ offset 4): poisoned, the target has no struct s"
    );
    assert_eq!(
        decide(s, 2, "0", CoreReloKind::TYPE_ID_LOCAL, "int i 4").to_string(),
        "<local_type_id> [2] struct s: 2"
    );
}

#[test]
fn errors_say_where() {
    let (object, relo) = object("int i 4; struct s 8 a:1@0 b:1@32", 2, "0:1", OFF);
    let target = btf("int i 4; struct s 8 b:1@0; struct s 8 b:1@32");
    let error = Resolver::new(&object, target).resolve(3, &relo).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CO-RE relocation 3 of instruction 2, <byte_off> [2] struct s.b (0:1 @ offset 4)"
    );
    assert_eq!(error.reason.to_string(), "ambiguous: the field is at bit 0 of [2] and at bit 32 of [3]");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), error.reason.to_string());
}

/// Module BTF split from `base`; types count on from those of the base.
fn module(name: &str, types: &str, base: &Btf) -> TargetModule {
    let (mut bytes, _) = build(types, &[], Endian::Little);
    // String offsets count on from those of the base too.
    let types_len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    shift_names(&mut bytes[24..24 + types_len], base.end_str().0);
    TargetModule { name: name.into(), btf: Btf::parse_split(bytes, base).unwrap() }
}

/// Moves the names of structs, which is all that modules have here.
fn shift_names(types: &mut [u8], shift: u32) {
    let mut at = 0;
    let word = |types: &[u8], at: usize| u32::from_le_bytes(types[at..at + 4].try_into().unwrap());
    while at < types.len() {
        let info = word(types, at + 4);
        let name = word(types, at) + shift;
        types[at..at + 4].copy_from_slice(&name.to_le_bytes());
        at += 12;
        assert_eq!(info >> 24 & 0x7f, 4, "only structs");
        for _ in 0..info & 0xffff {
            let name = word(types, at) + shift;
            types[at..at + 4].copy_from_slice(&name.to_le_bytes());
            at += 12;
        }
    }
}

/// Counts what is asked for.
struct Counting {
    targets: Targets,
    vmlinux: usize,
    modules: usize,
}

impl CandidateSource for Counting {
    fn vmlinux(&mut self) -> Result<Btf, TargetError> {
        self.vmlinux += 1;
        self.targets.vmlinux()
    }

    fn modules(&mut self) -> Result<Vec<TargetModule>, TargetError> {
        self.modules += 1;
        self.targets.modules()
    }
}

#[test]
fn modules_are_asked_only_for_what_vmlinux_lacks() {
    let vmlinux = btf("int i 4; struct both 4 a:1@0");
    let modules = vec![
        module("first", "struct both 8 a:1@32; struct mine 12 x:1@0 a:1@64", &vmlinux),
        module("second", "struct other 4 a:1@0", &vmlinux),
    ];
    let mut source = Counting { targets: Targets { vmlinux, modules }, vmlinux: 0, modules: 0 };
    let types = "int i 4; struct both 4 a:1@0; struct mine 4 a:1@0; struct none 4 a:1@0";
    let (object, relo) = object(types, 2, "0:0", OFF);
    let of = |id| CoreRelo { type_id: TypeId(id), ..relo };

    // A local id needs no target at all.
    let local_id = CoreRelo { kind: CoreReloKind::TYPE_ID_LOCAL, access_str_off: StrOffset(0), ..relo };
    let mut resolver = Resolver::new(&object, &mut source);
    assert!(resolver.resolve(0, &local_id).is_err(), "an empty access string");
    resolver.prepare([&local_id]).unwrap();
    drop(resolver);
    assert_eq!((source.vmlinux, source.modules), (0, 0));

    let mut resolver = Resolver::new(&object, &mut source);
    let both = resolver.resolve(0, &of(2)).unwrap();
    assert_eq!((both.new_value, both.target.unwrap().module), (0, None));
    drop(resolver);
    assert_eq!((source.vmlinux, source.modules), (1, 0));

    let mut resolver = Resolver::new(&object, &mut source);
    resolver.prepare([&of(2), &of(3), &of(4), &local_id]).unwrap();
    let mine = resolver.resolve(0, &of(3)).unwrap();
    assert_eq!(
        mine.to_string(),
        "<byte_off> [3] struct mine.a (0:0 @ offset 0) -> [4] struct mine.a (0:1 @ offset 8) in first: 0 -> 8"
    );
    assert_eq!(resolver.resolve(0, &of(4)).unwrap().outcome, Outcome::Poisoned);
    assert!(resolver.skipped_modules().is_empty());
    drop(resolver);
    assert_eq!((source.vmlinux, source.modules), (2, 1));

    // A BTF alone is all of the target.
    let alone = source.targets.vmlinux.clone();
    assert_eq!(Resolver::new(&object, alone).resolve(0, &of(3)).unwrap().outcome, Outcome::Poisoned);
    // Split BTF alone is searched with its base.
    let alone = source.targets.modules[0].btf.clone();
    let mut resolver = Resolver::new(&object, alone);
    assert_eq!(resolver.resolve(0, &of(3)).unwrap().new_value, 8);
    assert!(matches!(
        resolver.resolve(0, &of(2)).unwrap_err().reason,
        CoreErrorKind::AmbiguousOffset { first: TypeId(2), second: TypeId(3), .. }
    ));
}

struct Nothing;

impl CandidateSource for Nothing {
    fn vmlinux(&mut self) -> Result<Btf, TargetError> {
        Err("the kernel has no BTF".into())
    }
}

#[test]
fn no_target_is_an_error_only_where_one_is_needed() {
    let (object, relo) = object("int i 4; struct s 4 a:1@0", 2, "0", CoreReloKind::TYPE_ID_LOCAL);
    let mut resolver = Resolver::new(&object, Nothing);
    resolver.prepare([&relo]).unwrap();
    assert_eq!(resolver.resolve(0, &relo).unwrap().new_value, 2);
    let relo = CoreRelo { kind: CoreReloKind::TYPE_EXISTS, ..relo };
    assert!(matches!(resolver.prepare([&relo]), Err(CoreErrorKind::NoTarget { .. })));
    let error = resolver.resolve(0, &relo).unwrap_err();
    assert_eq!(std::error::Error::source(&error.reason).unwrap().to_string(), "the kernel has no BTF");
}

#[test]
fn preparing_changes_nothing_but_time() {
    for name in ["core_fields.o", "core_types.o", "core_flavors.o", "core_enums.o"] {
        let object = Subject::load(name);
        for target in ["btf/5.10.btf", "btf/7.2.btf"] {
            let decide = |prepare: bool| -> Vec<String> {
                let mut resolver = Resolver::new(&object.btf, load_btf(target));
                if prepare {
                    resolver.prepare(object.relos()).unwrap();
                }
                let line = |(index, relo)| match resolver.resolve(index, relo) {
                    Ok(decision) => decision.to_string(),
                    Err(error) => format!("{error}: {}", error.reason),
                };
                object.relos().enumerate().map(line).collect()
            };
            assert_eq!(decide(true), decide(false), "{name} {target}");
        }
    }
}

#[test]
fn rejections_are_kept_up_to_a_limit() {
    let mut target = String::from("int i 4;");
    for _ in 0..40 {
        target += "struct s 4 a:1@0;";
    }
    let decision = decide("int i 4; struct s 4 z:1@0", 2, "0:0", OFF, &target);
    assert_eq!((decision.candidates, decision.rejected.len()), (40, 16));
    assert!(matches!(decision.rejected[0].mismatch, Mismatch::NoMember { accessor: 1, type_id: TypeId(2) }));
    assert!(decision.why().unwrap().to_string().ends_with(", [17] s and 24 more"));
}

#[test]
fn patches_stay_within_the_program() {
    let s = "int i 4; struct s 8 a:1@0 b:1@32";
    let moved = decide(s, 2, "0:1", OFF, "int i 4; struct s 8 b:1@0");
    let poisoned = decide(s, 2, "0:1", OFF, "int i 4");
    let wide = Insn::new(opcode::LD_IMM64, Reg::R1, Reg::R0, 0, 4);
    let mov = Insn::new(opcode::CLASS_ALU64 | opcode::ALU_MOV, Reg::R1, Reg::R0, 0, 4);
    for decision in [&moved, &poisoned] {
        assert_eq!(apply(&mut [], 0, decision), Err(PatchError::NoInsn { insn: 0, len: 0 }));
        assert_eq!(apply(&mut [mov], 1, decision), Err(PatchError::NoInsn { insn: 1, len: 1 }));
        assert_eq!(
            apply(&mut [mov], usize::MAX, decision),
            Err(PatchError::NoInsn { insn: usize::MAX, len: 1 })
        );
        assert_eq!(apply(&mut [mov, wide], 1, decision), Err(PatchError::WideLoad { insn: 1 }));
    }
    let mut insns = [mov, wide, Insn::default(), mov];
    assert_eq!(apply(&mut insns, 1, &poisoned), Ok(Applied::Poisoned));
    assert_eq!([insns[1].imm, insns[2].imm], [POISON; 2]);
    assert_eq!([insns[0], insns[3]], [mov; 2]);
    let mut insns = [mov, mov];
    assert_eq!(apply(&mut insns, 1, &moved), Ok(Applied::Imm { from: 4, to: 0 }));
    assert_eq!(apply(&mut insns, 1, &moved), Err(PatchError::Unexpected { insn: 1, found: 0, expected: 4 }));
    assert_eq!(insns[0], mov);
}

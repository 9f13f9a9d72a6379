//! The rules of CO-RE one by one, on BTF made by hand, against what libbpf answers (`testdata/core/table.json`).
//!
//! With `SKEP_CORE_CASES` set to a file name the test writes the cases there for `testdata/core/oracle.c`, which makes
//! the answers.

mod core_support;

use std::fmt::Write as _;

use core_support::{build, testdata};
use skep_asm::{Endian, Insn, Reg, encode, opcode};
use skep_btf::relo::{Applied, Resolver, apply};
use skep_btf::{Btf, CoreRelo, CoreReloKind, StrOffset, TypeId};

const OFF: CoreReloKind = CoreReloKind::FIELD_BYTE_OFFSET;
const SIZE: CoreReloKind = CoreReloKind::FIELD_BYTE_SIZE;
const EXISTS: CoreReloKind = CoreReloKind::FIELD_EXISTS;
const SIGNED: CoreReloKind = CoreReloKind::FIELD_SIGNED;
const LSHIFT: CoreReloKind = CoreReloKind::FIELD_LSHIFT_U64;
const RSHIFT: CoreReloKind = CoreReloKind::FIELD_RSHIFT_U64;
const LOCAL_ID: CoreReloKind = CoreReloKind::TYPE_ID_LOCAL;
const TARGET_ID: CoreReloKind = CoreReloKind::TYPE_ID_TARGET;
const TYPE_EXISTS: CoreReloKind = CoreReloKind::TYPE_EXISTS;
const TYPE_SIZE: CoreReloKind = CoreReloKind::TYPE_SIZE;
const MATCHES: CoreReloKind = CoreReloKind::TYPE_MATCHES;
const VALUE_EXISTS: CoreReloKind = CoreReloKind::ENUMVAL_EXISTS;
const VALUE: CoreReloKind = CoreReloKind::ENUMVAL_VALUE;

/// Types of the object, types of the target, and relocations: type, access string, kind, instruction.
struct Case(
    &'static str,
    &'static str,
    &'static str,
    &'static [(u32, &'static str, CoreReloKind, &'static str)],
);

include!("core_support/cases.rs");
include!("core_support/match_cases.rs");

fn cases() -> impl Iterator<Item = &'static Case> {
    ACCESS_CASES.iter().chain(MATCH_CASES)
}

/// An instruction from text such as `mov 4`, `ldx4 8` (bytes, offset) or `imm64 7`.
fn assemble(text: &str) -> Vec<Insn> {
    let (name, number) = text.split_once(' ').unwrap_or((text, "0"));
    let number: i64 = number.parse().unwrap();
    let (r1, r2) = (Reg::R1, Reg::R2);
    let imm = |code: u8| vec![Insn::new(code, r1, Reg::R0, 0, number as i32)];
    let memory = |class: u8, mode: u8, bytes: &str| {
        let size = match bytes {
            "1" => opcode::SIZE_B,
            "2" => opcode::SIZE_H,
            "4" => opcode::SIZE_W,
            "8" => opcode::SIZE_DW,
            _ => panic!("{text}"),
        };
        vec![Insn::new(class | mode | size, r1, r2, number as i16, 0)]
    };
    let wide = |high: Insn| vec![Insn::new(opcode::LD_IMM64, r1, Reg::R0, 0, number as i32), high];
    match name {
        "mov" => imm(opcode::CLASS_ALU64 | opcode::ALU_MOV),
        "mov32" => imm(opcode::CLASS_ALU | opcode::ALU_MOV),
        "add" => imm(opcode::CLASS_ALU64 | opcode::ALU_ADD),
        "lsh" => imm(opcode::CLASS_ALU64 | opcode::ALU_LSH),
        "movx" => {
            vec![Insn::new(opcode::CLASS_ALU64 | opcode::ALU_MOV | opcode::SRC_X, r1, r2, 0, number as i32)]
        }
        "jeq" => imm(opcode::CLASS_JMP | opcode::JMP_JEQ),
        "jeq32" => imm(opcode::CLASS_JMP32 | opcode::JMP_JEQ),
        "call" => imm(opcode::CALL),
        "abs" => imm(opcode::CLASS_LD | opcode::MODE_ABS),
        "imm64" => wide(Insn::new(0, Reg::R0, Reg::R0, 0, (number >> 32) as i32)),
        "imm64_bad" => wide(Insn::new(0, Reg::R0, Reg::R0, 1, 0)),
        "imm64_map" => {
            let mut insns = wide(Insn::default());
            insns[0].set_src_raw(skep_asm::pseudo::MAP_FD);
            insns
        }
        _ if name.starts_with("ldxs") => memory(opcode::CLASS_LDX, opcode::MODE_MEMSX, &name[4..]),
        _ if name.starts_with("ldx") => memory(opcode::CLASS_LDX, opcode::MODE_MEM, &name[3..]),
        _ if name.starts_with("stx") => memory(opcode::CLASS_STX, opcode::MODE_MEM, &name[3..]),
        _ if name.starts_with("st") => memory(opcode::CLASS_ST, opcode::MODE_MEM, &name[2..]),
        _ if name.starts_with("atomic") => memory(opcode::CLASS_STX, opcode::MODE_ATOMIC, &name[6..]),
        _ => panic!("{text}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The relocations of a case, and the object's and target's BTF.
fn parts(case: &Case) -> (Vec<u8>, Vec<u8>, Vec<CoreRelo>) {
    let strings: Vec<&str> = case.3.iter().map(|relo| relo.1).collect();
    let (local, offsets) = build(case.1, &strings, Endian::Little);
    let (target, _) = build(case.2, &[], Endian::Little);
    let relo = |(&(id, _, kind, _), &at): (&(u32, &str, CoreReloKind, &str), &u32)| CoreRelo {
        insn_off: 0,
        type_id: TypeId(id),
        access_str_off: StrOffset(at),
        kind,
    };
    let relos = case.3.iter().zip(&offsets).map(relo).collect();
    (local, target, relos)
}

/// What the engine says, in the words of the oracle; a failure is not told apart from others.
fn answers(case: &Case) -> Vec<String> {
    let (local, target, relos) = parts(case);
    let (local, target) = match (Btf::parse(local), Btf::parse(target)) {
        (Ok(local), Ok(target)) => (local, target),
        _ => return vec!["bad BTF".into(); relos.len()],
    };
    let mut resolver = Resolver::new(&local, target);
    let mut all = Vec::new();
    for (index, (relo, &(_, _, _, insn))) in relos.iter().zip(case.3).enumerate() {
        let Ok(decision) = resolver.resolve(index, relo) else {
            all.push("fails".to_owned());
            continue;
        };
        let mut insns = assemble(insn);
        let applied = apply(&mut insns, 0, &decision);
        let mut text = if decision.outcome == skep_btf::relo::Outcome::Poisoned {
            assert_eq!(applied, Ok(Applied::Poisoned));
            "poison".to_owned()
        } else {
            let checked = if decision.validate { " checked" } else { "" };
            format!("{} -> {}{checked}", decision.local_value, decision.new_value)
        };
        if let Some(size) = decision.mem_size.filter(|size| size.local != size.target) {
            let adjustable = if size.adjustable { "" } else { " not adjustable" };
            write!(text, " size {}:{}{adjustable}", size.local, size.target).unwrap();
        }
        match applied {
            Ok(_) => write!(text, " | {}", hex(&encode(&insns, Endian::Little))).unwrap(),
            Err(_) => {
                assert_eq!(insns, assemble(insn), "{}: a refused instruction was changed", case.0);
                text.push_str(" | refused");
            }
        }
        all.push(text);
    }
    all
}

/// The oracle names the error; the engine's errors are its own.
fn without_errno(line: &str) -> String {
    let words = ["fails ", "refused "];
    match words.iter().find_map(|word| line.rfind(word).map(|at| at + word.len() - 1)) {
        Some(end) => line[..end].to_owned(),
        None => line.to_owned(),
    }
}

#[test]
fn as_libbpf_answers() {
    if let Some(path) = std::env::var_os("SKEP_CORE_CASES") {
        std::fs::write(path, for_oracle()).unwrap();
        return;
    }
    let text = std::fs::read_to_string(testdata("core/table.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let golden = golden["cases"].as_object().unwrap();
    let mut differences = String::new();
    for case in cases() {
        let expected: Vec<String> = golden
            .get(case.0)
            .unwrap_or_else(|| panic!("no answer for {}: make table.json again", case.0))
            .as_array()
            .unwrap()
            .iter()
            .map(|line| without_errno(line.as_str().unwrap()))
            .collect();
        let found = answers(case);
        for (relo, (found, expected)) in case.3.iter().zip(found.iter().zip(&expected)) {
            if found != expected {
                writeln!(differences, "{}: {relo:?}\n  libbpf {expected}\n  skep   {found}", case.0).unwrap();
            }
        }
        assert_eq!(found.len(), expected.len(), "{}", case.0);
    }
    assert!(differences.is_empty(), "{differences}");
    assert_eq!(golden.len(), cases().count());
}

fn for_oracle() -> String {
    let mut text = String::new();
    for case in cases() {
        let (local, target, relos) = parts(case);
        writeln!(text, "case {}\nlocal {}\ntarget {}", case.0, hex(&local), hex(&target)).unwrap();
        for (relo, &(_, _, _, insn)) in relos.iter().zip(case.3) {
            let insns = hex(&encode(&assemble(insn), Endian::Little));
            writeln!(text, "relo {} {} {} {insns}", relo.type_id.0, relo.access_str_off.0, relo.kind.0)
                .unwrap();
        }
    }
    text
}

//! Compares with LLVM: what it disassembles from the test objects, and what it assembles from our text.
//!
//! Beside `testdata/disasm/NAME.o.objdump` for each `testdata/NAME.o`, `testdata/asm/forms.s` holds every form of
//! instruction. `UPDATE_GOLDEN=1` runs llvm-objdump (`LLVM_OBJDUMP`, default `llvm-objdump-19`) and writes the goldens
//! anew; without it no part of LLVM is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use object::elf::SHF_EXECINSTR;
use object::{Object, ObjectSection, SectionFlags};
use skep_asm::{Endian, Insn, Op, Reg, decode, disassemble, encode};

const OBJDUMP_ARGS: [&str; 4] = ["-d", "-z", "--mcpu=v4", "--no-show-raw-insn"];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// Names of the files in a folder that end in `suffix`, sorted.
fn names(folder: &Path, suffix: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}

/// Name and instructions of each non-empty executable section, in file order.
fn code(path: &Path) -> Vec<(String, Vec<Insn>)> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = object::File::parse(&*bytes).unwrap();
    let endian = Endian::from_is_little(file.is_little_endian());
    let mut sections = Vec::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { panic!("not ELF") };
        if sh_flags.0 & SHF_EXECINSTR.0 != 0 && section.size() != 0 {
            let bytes = section.data().unwrap();
            let insns = decode(bytes, endian).unwrap();
            assert_eq!(encode(&insns, endian), bytes, "{}", path.display());
            sections.push((section.name().unwrap().to_owned(), insns));
        }
    }
    sections
}

/// Section, index and text of each instruction that llvm-objdump printed.
fn parse_golden(golden: &str) -> Vec<(String, usize, String)> {
    let mut section = "";
    let mut lines = Vec::new();
    for line in golden.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':');
        } else if let Some((index, text)) = line.split_once(":\t")
            && let Ok(index) = index.trim_start().parse()
        {
            lines.push((section.to_owned(), index, normalise(text)));
        }
    }
    lines
}

/// llvm's text without the symbol that it appends to a jump's distance (` <name+0x8>`).
fn normalise(text: &str) -> String {
    let mut text = text;
    if let Some(at) = text.rfind(" <")
        && text.contains("goto")
        && text.ends_with('>')
    {
        text = &text[..at];
    }
    text.replace('\t', " ")
}

fn update(folder: &Path, name: &str, golden: &Path) {
    let program = env::var("LLVM_OBJDUMP").unwrap_or_else(|_| "llvm-objdump-19".to_owned());
    let output = Command::new(&program).current_dir(folder).args(OBJDUMP_ARGS).arg(name).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {name}: {}", String::from_utf8_lossy(&output.stderr));
    fs::create_dir_all(golden.parent().unwrap()).unwrap();
    fs::write(golden, output.stdout).unwrap();
}

/// Compares the disassembly of `folder/name` with its golden. Gives the number of instructions, or what is wrong.
fn compare(folder: &Path, name: &str, golden: &Path) -> Result<usize, String> {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        update(folder, name, golden);
    }
    let theirs = fs::read_to_string(golden).map_err(|error| {
        format!("{name}: {}: {error}; UPDATE_GOLDEN=1 with llvm-objdump-19 writes it", golden.display())
    })?;
    let theirs = parse_golden(&theirs);
    let mut ours = Vec::new();
    for (section, insns) in code(&folder.join(name)) {
        for line in disassemble(&insns) {
            ours.push((section.clone(), line.index, line.to_string()));
        }
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours != theirs {
            return Err(format!("{name}: we print {ours:?}, llvm-objdump {theirs:?}"));
        }
    }
    if ours.len() == theirs.len() {
        Ok(ours.len())
    } else {
        Err(format!("{name}: we print {} lines, llvm-objdump {}", ours.len(), theirs.len()))
    }
}

#[test]
fn all_test_objects() {
    let (objects, goldens) = (testdata(), testdata().join("disasm"));
    let names_of_objects = names(&objects, ".o");
    let mut instructions = 0;
    let mut wrong = Vec::new();
    for name in &names_of_objects {
        match compare(&objects, name, &goldens.join(format!("{name}.objdump"))) {
            Ok(count) => instructions += count,
            Err(what) => wrong.push(what),
        }
    }
    for golden in names(&goldens, "") {
        let object = golden.strip_suffix(".objdump").unwrap_or(&golden);
        if !names_of_objects.iter().any(|name| name == object) {
            wrong.push(format!("{golden}: there is no such object, delete the golden"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // guards against a comparison of nothing with nothing
    assert!(names_of_objects.len() > 50 && instructions > 1000, "{instructions} instructions");
}

#[test]
fn every_form_as_objdump() {
    let folder = testdata().join("asm");
    for name in ["forms.o", "forms.eb.o"] {
        let count = compare(&folder, name, &folder.join(format!("{name}.objdump")));
        assert!(count.as_ref().is_ok_and(|&count| count > 250), "{count:?}");
    }
}

/// Our text is what LLVM's assembler reads, and what it makes of that are the bytes that we encode.
#[test]
fn every_form_as_assembled() {
    let folder = testdata().join("asm");
    for name in ["forms", "later"] {
        let source = fs::read_to_string(folder.join(format!("{name}.s"))).unwrap();
        let source: Vec<_> =
            source.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        for suffix in ["o", "eb.o"] {
            let [(_, insns)] = code(&folder.join(format!("{name}.{suffix}"))).try_into().unwrap();
            let mut lines = disassemble(&insns);
            for &text in &source {
                let line = lines.next().unwrap();
                assert_eq!(line.to_string(), text, "{name}.{suffix}");
                let slots = line.op.unwrap().encode();
                assert_eq!(*slots, insns[line.index..][..line.slots], "{name}.{suffix}: {text}");
            }
            assert_eq!(lines.next(), None, "{name}.{suffix}");
        }
    }
}

/// What tells two forms of instruction apart: the opcode and the fields that select a variant of it.
fn form(insn: &Insn) -> (u8, u8, i16, i32) {
    let op = Op::decode(&[*insn, Insn::default()], 0).unwrap().0;
    let (mut src, mut off, mut imm) = (0, 0, 0);
    match op {
        Op::LdImm64 { .. } | Op::CallHelper { .. } | Op::CallFunc { .. } | Op::CallKfunc { .. } => {
            src = insn.src_raw()
        }
        Op::MovSx { .. } | Op::Alu { .. } => off = insn.off,
        Op::AddrSpaceCast { .. } => off = insn.off,
        Op::ToEndian { .. } | Op::Bswap { .. } | Op::Atomic { .. } => imm = insn.imm,
        Op::LoadAcquire { .. } | Op::StoreRelease { .. } => imm = insn.imm,
        _ => {}
    }
    (insn.opcode, src, off, imm)
}

/// The two sources leave no form out that decoding accepts, except the calls that only a loader makes.
#[test]
fn sources_hold_every_form() {
    let mut known = BTreeSet::new();
    for opcode in 0..=u8::MAX {
        for src in 0..=7 {
            for off in [-1, 0, 1, 8, 16, 32] {
                for imm in -1..=0x120 {
                    let insn = Insn::new(opcode, Reg::R0, Reg::new(src).unwrap(), off, imm);
                    if Op::decode(&[insn, Insn::default()], 0).is_ok() {
                        known.insert(form(&insn));
                    }
                }
            }
        }
    }
    for name in ["forms.o", "later.o"] {
        for (_, insns) in code(&testdata().join("asm").join(name)) {
            for line in disassemble(&insns) {
                known.remove(&form(&insns[line.index]));
            }
        }
    }
    let loader_calls = [(0x85, 1, 0, 0), (0x85, 2, 0, 0)];
    assert!(known.iter().eq(&loader_calls), "{known:x?}");
}

//! Programs of the test objects with one instruction that is not as it should be: what the running kernel refuses for how
//! programs are put together, the simulated one refuses with the same errno and the same words.
//!
//! `SKEP_FUZZ_MUTANTS` says how many (1000), `SKEP_FUZZ_SEED` where to begin (1).

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod mutation;
mod support;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use skep::asm::{Insn, Reg};
use skep::reloc::{BtfTarget, PlaceholderValue, ProgramPlan};
use skep::sys::abi::{Errno, ProgFlags, ProgType};
use skep::sys::request::{LogBuffer, ProgLoad, Records};
use skep::{Kernel, Loader, Object, Spec};

use mutation::{Random, number};

/// An object in two kernels, and what its programs are made of.
struct Subject {
    license: String,
    programs: Vec<ProgramPlan>,
    maps: Vec<String>,
    objects: [Object; 2],
}

/// A program to be loaded.
#[derive(Clone)]
struct Mutant {
    insns: Vec<Insn>,
    prog_type: ProgType,
    license: String,
    func_info: Vec<u8>,
    line_info: Vec<u8>,
    flags: ProgFlags,
    level: u32,
}

impl Subject {
    fn new(path: &str, kernels: [&Kernel; 2]) -> Option<Subject> {
        let spec = Spec::open(path).ok()?;
        let plan = spec.relocate(&BtfTarget::new(kernels[0].btf().ok()?.clone())).ok()?;
        let [first, second] = kernels.map(|kernel| Loader::new(kernel).load(&spec).ok());
        let mut subject = Subject {
            license: plan.license.clone(),
            programs: Vec::new(),
            maps: plan.maps.iter().map(|map| map.spec.name.clone()).collect(),
            objects: [first?, second?],
        };
        for program in plan.programs {
            let plain = program.attach_target.is_none() && program.attach_function.is_none();
            let filled = program.placeholders.iter().all(|placeholder| {
                matches!(placeholder.value, PlaceholderValue::Map(_) | PlaceholderValue::MapValue(_))
            });
            let mutant = subject.original(&program);
            if plain && filled && (0..2).all(|kernel| subject.load(kernel, &program, &mutant).0.is_ok()) {
                subject.programs.push(program);
            }
        }
        (!subject.programs.is_empty()).then_some(subject)
    }

    fn original(&self, program: &ProgramPlan) -> Mutant {
        Mutant {
            insns: program.insns.clone(),
            prog_type: program.prog_type,
            license: self.license.clone(),
            func_info: program.func_info.bytes.clone(),
            line_info: program.line_info.bytes.clone(),
            flags: program.flags,
            level: 1,
        }
    }

    /// Loads a mutant of a program with a kernel's maps.
    fn load(&self, kernel: usize, program: &ProgramPlan, mutant: &Mutant) -> (Result<(), Errno>, String) {
        let object = &self.objects[kernel];
        let mut insns = mutant.insns.clone();
        for placeholder in &program.placeholders {
            let (PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map)) = placeholder.value else {
                continue;
            };
            let place = placeholder.insn as usize;
            // What was made to be something else stays so.
            if insns.get(place) == Some(&program.insns[place]) {
                insns[place].imm = object.map(&self.maps[map.0]).unwrap().as_fd().as_raw_fd();
            }
        }
        let mut request = ProgLoad::new(mutant.prog_type, &insns, &mutant.license);
        request.expected_attach_type = program.attach_type;
        request.flags = mutant.flags;
        request.kern_version = 0x0006_1200;
        if let Some(btf) = object.btf() {
            request.btf = Some(btf.as_fd());
            request.func_info =
                Records { record_size: program.func_info.record_size, bytes: &mutant.func_info };
            request.line_info =
                Records { record_size: program.line_info.record_size, bytes: &mutant.line_info };
        }
        let mut log = LogBuffer::new(mutant.level, 1 << 20);
        let result = object.kernel().prog_load(&request, Some(&mut log)).map(drop);
        (result, log.text().into_owned())
    }
}

/// The last words of a log, without statistics and descriptors.
fn last(log: &str) -> String {
    let of_program = |line: &&str| {
        !["processed ", "verification ", "stack depth "].iter().any(|words| line.starts_with(words))
    };
    let line = log.lines().rfind(of_program);
    line.unwrap_or_default().to_owned()
}

fn with(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, Reg::new(dst).unwrap(), Reg::new(src).unwrap(), off, imm)
}

/// Changes one thing.
fn mutate(mutant: &mut Mutant, random: &mut Random) {
    let place = random.below(mutant.insns.len());
    let insn = mutant.insns[place];
    let (opcode, dst, src) = (insn.opcode, insn.dst_raw(), insn.src_raw());
    let (off, imm) = (insn.off, insn.imm);
    let register = |random: &mut Random| random.below(16) as u8;
    let edge = |random: &mut Random| {
        random.pick(&[0, 1, -1, 2, 8, 16, 17, 32, 64, 100, 1 << 20, i32::MAX, i32::MIN, 255])
    };
    mutant.insns[place] = match random.below(22) {
        0 => with(random.next() as u8, dst, src, off, imm),
        1 => with(opcode ^ (1 << random.below(8)), dst, src, off, imm),
        2 => with(opcode, register(random), src, off, imm),
        3 => with(opcode, dst, register(random), off, imm),
        4 => with(opcode, dst, src, edge(random) as i16, imm),
        5 => with(opcode, dst, src, off ^ (1 << random.below(16)) as i16, imm),
        6 => with(opcode, dst, src, off, edge(random)),
        7 => with(opcode, dst, src, off, imm ^ (1 << random.below(32))),
        8 => with(0x85, 0, 0, 0, random.below(230) as i32),
        9 => with(0x85, 0, 1, 0, random.below(40) as i32 - 20),
        10 => with(0x85, 0, 2, 0, random.below(1000) as i32),
        11 => with(0x05, 0, 0, random.below(60) as i16 - 30, 0),
        12 => with(0x06, 0, 0, 0, random.below(60) as i32 - 30),
        13 => with(0x95, 0, 0, 0, 0),
        14 => with(0x18, dst, random.below(8) as u8, 0, edge(random)),
        15 => {
            mutant.insns.truncate(place);
            return;
        }
        16 => {
            // Those left out may be denied, or not be built into a kernel.
            let kind = ProgType(random.below(34) as u32);
            if !matches!(kind, ProgType::EXT | ProgType::TRACING | ProgType::LSM | ProgType::LIRC_MODE2) {
                mutant.prog_type = kind;
            }
            return;
        }
        17 => {
            let licenses = ["GPL", "MIT", "", "Dual BSD/GPL", "Proprietary", "GPL v3", "Dual MPL/GPL"];
            mutant.license = random.pick(&licenses).to_owned();
            return;
        }
        18 | 19 => {
            let info = if random.below(2) == 0 { &mut mutant.func_info } else { &mut mutant.line_info };
            let place = 4 * random.below(info.len() / 4);
            if let Some(word) = info.get_mut(place..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
                let old = u32::from_ne_bytes(*word);
                let new = [old + 1, old.wrapping_sub(1), 0, old ^ 1 << random.below(32), 99];
                *word = random.pick(&new).to_ne_bytes();
            }
            return;
        }
        20 => {
            mutant.flags = ProgFlags::from_bits_retain(1 << random.below(10));
            return;
        }
        _ => {
            mutant.level = random.pick(&[2, 4, 8, 16]);
            with(opcode, register(random), src, off, edge(random))
        }
    };
}

/// What the kernel says of how a program is put together, and not of what its registers hold.
fn is_structural(log: &str) -> bool {
    const OF_DATA: &[&str] = &[
        "!read_ok",
        "invalid access",
        "R0 ",
        "R1 ",
        "R2 ",
        "R3 ",
        "R4 ",
        "R5 ",
        "R6 ",
        "R7 ",
        "R8 ",
        "R9 ",
        "R10 ",
        "infinite loop",
        "min value",
        "misaligned",
        "invalid mem",
        "leak",
        "unbounded",
        "indirect",
        "type=",
        "back-edge",
        "stack",
        "expected",
        "arg#",
        "pointer",
        "too large",
        "too many",
        "Unreleased",
        "reference",
        "the sequence of",
        "invalid bpf_context",
        "must",
        "At program exit",
        "math between",
        "cannot pass map_type",
        "write into map",
        "sleepable",
        "lock",
        "processed",
        "kernel subsystem",
        "helper access",
        "combined stack",
        "verifier bug",
        "global function",
        "attach",
        "arguments",
        "loop",
        "prohibited",
        "is too complex",
        "Caller passes",
        "old state",
        "fd ",
        "module BTF object",
        "holding a lock",
        "invalid size of register",
        "zero-sized",
        "directly by",
        "only read from",
    ];
    !OF_DATA.iter().any(|words| log.contains(words))
}

#[test]
fn programs_are_judged_alike() {
    let Some(linux) = support::linux("programs_are_judged_alike") else { return };
    // The simulated kernel says what 6.18 does.
    if linux.version_code().is_ok_and(|version| version >> 8 != 0x0612) {
        return println!("mutated programs: compared on 6.18 only");
    }
    let Ok(types) = linux.btf() else { return println!("skip: mutated programs: the kernel has no types") };
    let sim = skep::sim::SimKernel::builder().btf(types.bytes().clone()).build().unwrap();
    let sim = Kernel::new(sim);
    let objects = [
        "callbacks",
        "cgroup",
        "globals",
        "isa_v1",
        "isa_v4",
        "map_values",
        "maps_btf",
        "raw_tp",
        "socket_filter",
        "subprogs",
        "syscall_prog",
        "tc",
        "xdp_count",
        "kfunc",
        "tracepoint",
        "sections",
    ];
    let paths = objects.iter().map(|name| format!("testdata/{name}.o"));
    let paths = paths
        .chain(["packet_counter", "flow_counter", "blocklist"].map(|name| format!("examples/{name}.bpf.o")));
    let subjects: Vec<Subject> = paths.filter_map(|path| Subject::new(&path, [&linux, &sim])).collect();
    let (count, first) = (number("SKEP_FUZZ_MUTANTS", 1000), number("SKEP_FUZZ_SEED", 1));
    let (mut structural, mut refused) = (0, 0);
    let mut differences: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let subject = &subjects[random.below(subjects.len())];
        let program = &subject.programs[random.below(subject.programs.len())];
        let mut mutant = subject.original(program);
        mutate(&mut mutant, &mut random);
        let [expected, found] = [0, 1].map(|kernel| subject.load(kernel, program, &mutant));
        refused += usize::from(expected.0.is_err());
        let (words, said) = (last(&expected.1), last(&found.1));
        let counts = match (&expected.0, &found.0) {
            (Ok(()), _) => true,
            // Whether code is dead that divides by nothing may need ranges of numbers to tell.
            (Err(_), Ok(())) => is_structural(&words) && words != "div by zero",
            (Err(_), Err(_)) => is_structural(&words),
        };
        structural += usize::from(counts && expected.0.is_err());
        let same = expected.0 == found.0 && (expected.0.is_ok() || words == said);
        if counts && !same {
            let digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "N");
            let class = format!("{:?} {} / {:?} {}", expected.0, digits(&words), found.0, digits(&said));
            let lines = skep::asm::disassemble(&mutant.insns).map(|line| format!("{}: {line}", line.index));
            let listing = lines.collect::<Vec<_>>().join("\n");
            let text = format!(
                "seed {seed} {} {:?}:\n{words}\n---\n{said}\n{listing}",
                program.name, mutant.prog_type
            );
            differences.entry(class).or_insert((0, text)).0 += 1;
        }
    }
    for (class, (times, text)) in &differences {
        println!("{times:5} {class}\n      {}", text.lines().next().unwrap_or_default());
    }
    println!(
        "{} programs; {refused} of {count} mutants were refused, {structural} for their structure",
        subjects.iter().map(|s| s.programs.len()).sum::<usize>()
    );
    if let Some((class, (_, text))) = differences.first_key_value() {
        panic!("{} classes differ, as {class}:\n{text}", differences.len());
    }
}

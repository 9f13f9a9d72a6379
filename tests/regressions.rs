//! Bytes that are wrong: what the fuzz targets found once, and objects with bits flipped.

#![allow(clippy::print_stdout, reason = "what took how long is shown with --nocapture")]

#[path = "regressions/hostile.rs"]
mod hostile;
#[allow(unreachable_pub, unused_imports, reason = "the fuzz targets see them from another crate")]
#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use properties::Targets;
use skep::asm::{Endian, Insn, Reg, encode};
use skep::btf::{Btf, BtfBuilder};
use skep::spec::Spec;

type Property = fn(&[u8]);

/// Each file of `tests/regressions/<target>/` once broke the property of that target.
#[test]
fn findings_stay_fixed() {
    let properties: [(&str, Property); 9] = [
        ("btf", properties::btf),
        ("ext_info", properties::ext_info),
        ("insn_decode", properties::insn_decode),
        ("interp", properties::interp),
        ("kallsyms", properties::kallsyms),
        ("kconfig", properties::kconfig),
        ("relocate", properties::relocate),
        ("relocate_target", properties::relocate_target),
        ("spec", properties::spec),
    ];
    let folder = root().join("tests/regressions");
    let known: Vec<_> = properties.iter().map(|(target, _)| folder.join(target)).collect();
    for target in entries(&folder).into_iter().filter(|path| path.is_dir()) {
        assert!(known.contains(&target), "{} belongs to no target", target.display());
    }
    for (target, property) in properties {
        for input in entries(&folder.join(target)) {
            let bytes = fs::read(&input).expect("a readable input");
            let start = Instant::now();
            property(&bytes);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(60), "{} took {took:?}", input.display());
        }
    }
}

/// Programs of testdata with wrong bytes, as every kind, and programs of nothing but calls and accesses of memory.
#[test]
fn programs_of_any_bytes_end() {
    let rounds: usize = if cfg!(debug_assertions) { 3_000 } else { 30_000 };
    let objects = ["maps_btf", "subprogs", "globals", "xdp_count", "tracer", "tc_legacy"];
    let mut programs: Vec<Vec<Insn>> = Vec::new();
    for name in objects {
        let Ok(spec) = Spec::open(root().join(format!("testdata/{name}.o"))) else { continue };
        programs.extend(spec.functions.iter().map(|function| function.insns.clone()));
    }
    assert!(programs.len() > 5);
    let mut random = Random(0x1f2e);
    for round in 0..rounds {
        let mut insns = match round % 2 {
            0 => programs[random.below(programs.len())].clone(),
            _ => made_up(&mut random),
        };
        for _ in 0..random.below(4) {
            let at = random.below(insns.len());
            let mut bytes = insns[at].to_bytes(Endian::Little);
            bytes[random.below(8)] = random.below(256) as u8;
            insns[at] = Insn::from_bytes(Endian::Little, bytes);
        }
        let len = random.below(128) as u8;
        let mut data = vec![random.below(256) as u8, len];
        data.extend((0..len).map(|_| random.below(256) as u8));
        data.extend(encode(&insns, Endian::Little));
        properties::interp(&data);
    }
}

/// Instructions that are likely to be loaded: helpers with maps, the stack and numbers as arguments.
fn made_up(random: &mut Random) -> Vec<Insn> {
    let i = |opcode, dst, src, off, imm| {
        Insn::new(opcode, Reg::new(dst).expect("below 11"), Reg::new(src).expect("below 11"), off, imm)
    };
    let mut insns = vec![i(0xbf, 6, 1, 0, 0)];
    for _ in 0..1 + random.below(20) {
        let dst = random.below(6) as u8;
        match random.below(10) {
            0 | 1 => insns.extend([
                i(0x18, dst, 1 + random.below(2) as u8, 0, random.below(13) as i32),
                Insn::default(),
            ]),
            2 => insns.push(i(0xbf, dst, [6, 10, 0][random.below(3)], 0, 0)),
            3 => insns.push(i(0x07, dst, 0, 0, -(8 * random.below(64) as i32))),
            4 => insns.push(i(0xb7, dst, 0, 0, [0, 1, 8, 16, -1, 1 << 30, i32::MIN][random.below(7)])),
            5 => insns.push(i(0x79, dst, random.below(7) as u8, random.below(64) as i16, 0)),
            6 => insns.push(i(0x7b, random.below(7) as u8, dst, random.below(64) as i16, 0)),
            7 => insns.push(i(0x55, dst, 0, -(random.below(3) as i16), 0)),
            _ => insns.push(i(0x85, 0, 0, 0, random.below(212) as i32)),
        }
    }
    insns.extend([i(0xb7, 0, 0, 0, 0), i(0x95, 0, 0, 0, 0)]);
    insns
}

/// Objects with one to eight wrong bytes are read and relocated, or refused.
#[test]
fn flipped_bytes_are_read_or_refused() {
    let flips: usize = if cfg!(debug_assertions) { 4_000 } else { 30_000 };
    let objects = [
        "core_fields",
        "core_synthetic",
        "globals",
        "kfunc",
        "maps_btf",
        "maps_legacy",
        "struct_ops",
        "subprogs",
        "tc_legacy",
    ]
    .iter()
    .flat_map(|name| ["o", "eb.o"].map(|order| root().join(format!("testdata/{name}.{order}"))))
    .map(|path| fs::read(path).expect("testdata"))
    .collect::<Vec<_>>();
    let kernels = entries(&root().join("testdata/btf"));
    assert!(!kernels.is_empty());
    let targets = kernels
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "btf"))
        .map(|path| Btf::parse(fs::read(path).expect("testdata")).expect("testdata"))
        .map(|btf| Targets::new([btf]))
        .collect::<Vec<_>>();
    let mut random = Random(0x5eed);
    let start = Instant::now();
    for (nth, object) in (0..flips).zip(objects.iter().cycle()) {
        let mut bytes = object.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        let target = &targets[nth / objects.len() % targets.len()];
        properties::flip(&bytes, target);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(600), "{flips} flips took {took:?}");
}

/// Objects are relocated, or refused, for kernels whose types have one to eight wrong bytes, in the kernel or a module.
#[test]
fn kernels_with_flipped_bytes_are_relocated_for_or_refused() {
    let flips: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let kernel = fs::read(root().join("testdata/btf/6.12.btf")).expect("testdata");
    let base = BtfBuilder::new().encode(Endian::Little, false);
    let mut random = Random(0x5eed);
    let start = Instant::now();
    for nth in 0..flips {
        let mut types = kernel.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(types.len());
            types[at] ^= 1 << random.below(8);
        }
        let object = nth % properties::OBJECTS.len();
        // What may be missing does not hide what comes after it.
        let optional = if nth % 4 == 0 { 0 } else { 0x10 };
        let input = match nth % 8 {
            7 => properties::target_input(object as u8, optional, &base, &types),
            _ => properties::target_input(object as u8, optional, &types, &[]),
        };
        properties::relocate_target(&input);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(600), "{flips} flips took {took:?}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// The same numbers in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

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
use skep::asm::Endian;
use skep::btf::{Btf, BtfBuilder};

type Property = fn(&[u8]);

/// Each file of `tests/regressions/<target>/` once broke the property of that target.
#[test]
fn findings_stay_fixed() {
    let properties: [(&str, Property); 8] = [
        ("btf", properties::btf),
        ("ext_info", properties::ext_info),
        ("insn_decode", properties::insn_decode),
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
            assert!(took < Duration::from_secs(10), "{} took {took:?}", input.display());
        }
    }
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
    assert!(took < Duration::from_secs(120), "{flips} flips took {took:?}");
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
    assert!(took < Duration::from_secs(120), "{flips} flips took {took:?}");
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

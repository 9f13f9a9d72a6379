//! Records what the running kernel answers to operations that a seed makes: `cargo xtask record`. Without that, the recorded
//! operations are played on it, and differences are counted: they are drift on another kernel than the one they were recorded on.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod ops;
#[path = "../../tests/support/kernel.rs"]
mod support;

use ops::generate::{KINDS, Maker, Random, doubtful, spec};
use ops::play::{NOT_HERE, play};
use ops::{Op, Recorded};
use skep_sys::Kernel;

const RECORDED: &str = include_str!("../../testdata/golden/recorded_6.18.txt");

/// Maps of each kind, operations on each of them, and maps that are only tried to be made.
const MAPS: u64 = 8;
const OPS: u32 = 28;
const CREATIONS: u64 = 24;

fn run(kernel: &Kernel, spec: ops::Spec, ops: Vec<Op>) -> Option<Recorded> {
    let (created, results) = play(kernel, &spec, &ops);
    // What comes out otherwise the second time is no fact.
    if play(kernel, &spec, &ops) != (created.clone(), results.clone()) || created == NOT_HERE {
        return None;
    }
    Some(Recorded { spec, created, ops: ops.into_iter().zip(results).collect() })
}

fn record(kernel: &Kernel, seed: u64) -> String {
    let mut all = Vec::new();
    for kind in KINDS {
        let random = |at: u64| Random::new(seed.wrapping_add(at) ^ u64::from(kind.0) << 32);
        for at in 0..MAPS {
            let mut random = random(at);
            let spec = spec(kind, &mut random);
            let count = OPS / 2 + random.below(OPS);
            let ops = Maker::new(&spec, &mut random).ops(count as usize);
            all.extend(run(kernel, spec, ops));
        }
        all.extend(
            (0..CREATIONS).filter_map(|at| run(kernel, doubtful(kind, &mut random(1000 + at)), Vec::new())),
        );
    }
    let release = kernel.backend().release().unwrap_or_default();
    let release = release.split('-').next().unwrap_or_default();
    let cpus = kernel.possible_cpus().unwrap();
    format!("# Linux {release} cpus={cpus} seed={seed}; `cargo xtask record` writes it\n{}", ops::write(&all))
}

#[test]
fn recorded() {
    let Some(kernel) = support::linux("recorded") else { return };
    if let Ok(path) = std::env::var("SKEP_RECORD") {
        let seed = std::env::var("SKEP_FUZZ_SEED").map_or(1, |text| text.parse().expect("a number"));
        let text = record(&kernel, seed);
        // A guest has no files of the host, but an output.
        if path == "-" {
            println!("{text}");
        } else {
            std::fs::write(&path, text).unwrap();
        }
        return;
    }
    let (mut count, mut differ) = (0, Vec::new());
    for Recorded { spec, created, ops } in ops::read(RECORDED) {
        let tried: Vec<Op> = ops.iter().map(|(op, _)| op.clone()).collect();
        let (found, results) = play(&kernel, &spec, &tried);
        count += 1 + results.len();
        if found != created && found != NOT_HERE {
            differ.push(format!("== {spec}: {found}, and Linux 6.18 {created}"));
        }
        for ((op, expected), found) in ops.iter().zip(results) {
            if found != *expected && found != NOT_HERE {
                differ.push(format!("== {spec}: {op}: {found}, and Linux 6.18 {expected}"));
            }
        }
    }
    println!("{} of {count} recorded rows differ on this kernel", differ.len());
    println!("{}", differ.join("\n"));
    let code = kernel.version_code().unwrap();
    let cpus = format!(" cpus={} ", kernel.possible_cpus().unwrap());
    let is_recorded =
        code >> 8 == 6 << 8 | 18 && RECORDED.lines().next().is_some_and(|line| line.contains(&cpus));
    assert!(!is_recorded || differ.is_empty(), "rows differ on the kernel that they were recorded on");
}

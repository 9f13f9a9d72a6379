//! Random programs give the same on the simulated kernel as on the running one, to the last bit.
//!
//! `SKEP_FUZZ_PROGRAMS` says how many (300), `SKEP_FUZZ_SEED` where to begin (1).

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod fuzzed;
#[path = "../../tests/support/kernel.rs"]
mod support;

use std::fmt::Write;

use fuzzed::{Outcome, Program, Random, Refused};
use skep_asm::disassemble;
use skep_sim::SimKernel;
use skep_sys::Kernel;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What a kernel can do beyond the first version of the instruction set: found by trying.
fn shape(kernel: &Kernel) -> fuzzed::Shape {
    let loads = |body: &[skep_asm::Insn]| fuzzed::loads(kernel, body);
    let isa = [fuzzed::V4, fuzzed::V3, fuzzed::V2].iter().position(|probe| loads(probe));
    fuzzed::Shape {
        isa: isa.map_or(1, |place| 4 - place as u8),
        ordered: loads(fuzzed::ORDERED),
        may_goto: loads(fuzzed::MAY_GOTO),
        loops: fuzzed::has_loop(kernel),
    }
}

fn simulated(programs: &[Program], seed: u64) -> (Result<Outcome, Refused>, String) {
    let sim = SimKernel::new();
    let outcome = fuzzed::run(&Kernel::new(sim.clone()), programs, seed);
    let faults = sim.faults().iter().map(|fault| format!("{fault}\n")).collect();
    (outcome, faults)
}

/// Whether a program that the running kernel loads does something else on the simulated one.
fn differs(kernel: &Kernel, programs: &[Program], seed: u64) -> bool {
    let Ok(expected) = fuzzed::run(kernel, programs, seed) else { return false };
    simulated(programs, seed).0.map_or(true, |found| found != expected)
}

fn report(kernel: &Kernel, programs: Vec<Program>, seed: u64) -> String {
    let small = fuzzed::shrink(programs, &|programs| differs(kernel, programs, seed));
    let mut text = format!("seed {seed} differs:\n");
    for (number, program) in small.iter().enumerate() {
        writeln!(text, "program {number}:").unwrap();
        let insns = program.emit(&[0, 1, 2, 3, 4]).insns;
        for line in disassemble(&insns) {
            writeln!(text, "  {}: {line}", line.index).unwrap();
        }
    }
    let expected = fuzzed::run(kernel, &small, seed).unwrap();
    let (found, faults) = simulated(&small, seed);
    match found {
        Ok(found) => write!(text, "the kernel:\n{expected:?}\nsimulated:\n{found:?}\n{faults}").unwrap(),
        Err(refused) => write!(text, "simulated: {}: {}", refused.errno, refused.log).unwrap(),
    }
    text
}

#[test]
fn programs_do_the_same() {
    let Some(kernel) = support::linux("fuzzed") else { return };
    let best = shape(&kernel);
    let (count, first) = (number("SKEP_FUZZ_PROGRAMS", 300), number("SKEP_FUZZ_SEED", 1));
    let (mut refused, mut insns) = (Vec::new(), 0);
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let isa = 1 + random.below(best.isa.into()) as u8;
        let programs = fuzzed::make(&mut random, fuzzed::Shape { isa, ..best });
        insns += programs.iter().map(|program| program.emit(&[0; 5]).insns.len()).sum::<usize>();
        let expected = match fuzzed::run(&kernel, &programs, seed) {
            Ok(expected) => expected,
            Err(why) => {
                refused.push((seed, why));
                continue;
            }
        };
        let same = simulated(&programs, seed).0.is_ok_and(|found| found == expected);
        assert!(same, "{}", report(&kernel, programs, seed));
    }
    let accepted = count - refused.len() as u64;
    println!("{accepted} of {count} programs were loaded, {insns} instructions, {best:?}");
    if std::env::var_os("SKEP_FUZZ_REFUSED").is_some() {
        for (seed, Refused { errno, log }) in &refused {
            let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with("processed")).collect();
            println!("seed {seed}: {errno}: {}", lines[lines.len().saturating_sub(3)..].join(" / "));
        }
    }
    assert!(accepted * 10 >= count * 8, "the verifier refuses too many: {accepted} of {count}");
}

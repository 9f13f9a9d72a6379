//! Programs do to packets on the simulated kernel what they do on the running one.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod packet_bodies;
#[path = "../../tests/support/kernel.rs"]
mod support;

use packet_bodies::Case;
use skep_asm::kernel_text;
use skep_sim::SimKernel;
use skep_sys::Kernel;

/// Whether the kernel is of the version that the simulated one is like: others differ in what they check.
fn is_like_simulated(kernel: &Kernel) -> bool {
    kernel.version_code().is_ok_and(|code| code >> 8 == 6 << 8 | 18)
}

/// Runs cases on both kernels. Answers what the running one said, and what differs.
fn compare(linux: &Kernel, cases: impl Iterator<Item = Case>) -> (Vec<String>, Vec<String>) {
    let sim = Kernel::new(SimKernel::new());
    let (mut lines, mut different) = (Vec::new(), Vec::new());
    for case in cases {
        // What the verifier refuses, the simulated kernel need not.
        let Some(prog) = case.load(linux) else { continue };
        let expected = case.run(&prog);
        match case.load(&sim).map(|prog| case.run(&prog)) {
            Some(found) if found == expected => {}
            found => {
                let insns: Vec<String> = case.insns.iter().map(|insn| kernel_text(insn, None, &())).collect();
                different.push(format!("{found:?}\n and Linux: {expected}\n{}", insns.join("\n")));
            }
        }
        lines.push(expected);
    }
    (lines, different)
}

#[test]
fn programs_on_packets() {
    let Some(kernel) = support::linux("programs_on_packets") else { return };
    let (lines, different) = compare(&kernel, packet_bodies::all().into_iter());
    println!("{} of {} differ\n{}", different.len(), lines.len(), different.join("\n"));
    if is_like_simulated(&kernel) {
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/golden/packets_6.18.txt");
            std::fs::write(path, lines.join("\n") + "\n").unwrap();
        }
        assert!(different.is_empty(), "{} of {} differ", different.len(), lines.len());
    }
}

#[test]
fn random_loads_of_old_filters() {
    let Some(kernel) = support::linux("random_loads_of_old_filters") else { return };
    let (lines, different) = compare(&kernel, (0..4000).map(packet_bodies::random_loads));
    let zeros = lines.iter().filter(|line| line.contains("| 0 ")).count();
    println!("{} programs ran, {zeros} of which answer 0, {} differ", lines.len(), different.len());
    println!("{}", different.iter().take(20).cloned().collect::<Vec<_>>().join("\n"));
    assert_eq!(lines.len(), 4000, "the verifier refuses some");
    assert!(zeros < 2000, "most fail at once");
    if is_like_simulated(&kernel) {
        assert!(different.is_empty(), "{} of {} differ", different.len(), lines.len());
    }
}

#[test]
fn random_programs_on_packets() {
    let Some(kernel) = support::linux("random_programs_on_packets") else { return };
    let count = std::env::var("SKEP_PACKET_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(1500);
    let (lines, different) = compare(&kernel, (0..count).map(packet_bodies::random));
    let first = different.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    println!("{} of {} programs ran, {} differ\n{first}", lines.len(), count, different.len());
    if is_like_simulated(&kernel) {
        assert!(lines.len() as u64 > count / 2, "the verifier refuses most of them");
        assert!(different.is_empty(), "{} of {} differ", different.len(), lines.len());
    }
}

//! The running kernel does what was recorded on Linux 6.18, or what is known of other kernels.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod bodies;
#[path = "../../tests/support/pins.rs"]
mod pins;
#[path = "../../tests/support/kernel.rs"]
mod support;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use pins::PinDir;

const GOLDEN: &str = include_str!("../../testdata/golden/transcript_6.18.txt");

/// Rows that other kernels answer otherwise, by their first and last version, beside those below.
const OTHERS: &str = include_str!("../../testdata/golden/transcript_others.txt");

type Version = (u32, u32);

/// The rows of [`OTHERS`] for a version.
fn others(version: Version) -> BTreeSet<&'static str> {
    let number = |text: &str| -> Version {
        let (major, minor) = text.split_once('.').expect("a version");
        (major.parse().expect("a number"), minor.parse().expect("a number"))
    };
    let mut applies = false;
    let rows = OTHERS.lines().filter(|line| {
        if let Some(versions) = line.strip_prefix("== ") {
            let (first, last) = versions.split_once(' ').expect("two versions");
            applies = (number(first)..=number(last)).contains(&version);
        }
        applies && line.contains(" | ")
    });
    rows.collect()
}

/// What other kernels answer, rows as a whole: from the first version to the last, as far as it was looked at.
const OTHERWISE: &[(RangeInclusive<Version>, &[&str])] = &[
    // Tags are SHA-1 before 6.18, and some more was other in 6.1.
    (
        (0, 0)..=(6, 17),
        &[
            "program | tag 0 | ok:a04f5eef06a7f555",
            "program | tag 1 | ok:24f7b6700923568d",
            "program | tag 2 | ok:9213175723f581b6",
            "program | tag 3 | ok:8b5b5dc766ad3390",
            "program | tag 4 | ok:5a737521f223c716",
            "hash | freeze again | EBUSY",
            "hash(NO_PREALLOC) | freeze again | EBUSY",
            "percpu_hash | freeze again | EBUSY",
            "hash(RDONLY) | freeze | ok",
            "types | hash+spinlock freeze | ok",
            "types | array+spinlock freeze | ok",
            "types | lru_hash+spinlock | ENOTSUPP",
            "types | percpu_hash+spinlock | ENOTSUPP",
            "program | helper 0 | EINVAL: 0: (85) call bpf_unspec#0 / unknown func bpf_unspec#0",
            "program | helper of others | EINVAL: 1: (85) call bpf_skb_load_bytes#26 / unknown func bpf_skb_load_bytes#26",
            "program | sleepable xdp | EINVAL: Only fentry/fexit/fmod_ret, lsm, and kprobe/uprobe programs can be sleepable",
            "link | twice | EEXIST",
        ],
    ),
    // Seen on 5.10: hashes cannot look up and delete, per-CPU arrays and tries have no batches, tries do not look at flags, fewer kinds have batches, the log does
    // not show the instruction.
    (
        (0, 0)..=(6, 0),
        &[
            "hash | lookup_and_delete missing | ENOTSUPP",
            "hash | present | ENOTSUPP",
            "hash | lookup after it | ok:1400000000000000",
            "hash(NO_PREALLOC) | lookup_and_delete missing | ENOTSUPP",
            "hash(NO_PREALLOC) | present | ENOTSUPP",
            "hash(NO_PREALLOC) | lookup after it | ok:1400000000000000",
            "percpu_hash | lookup_and_delete missing | ENOTSUPP",
            "percpu_hash | present | ENOTSUPP",
            "percpu_hash | lookup after it | ok:14000000000000001500000000000000",
            "lru_hash | taken | ENOTSUPP",
            "lru_hash | lookup after it | ok:0700000000000000",
            "lru_percpu_hash | taken | ENOTSUPP",
            "lru_percpu_hash | lookup after it | ok:07000000000000000800000000000000",
            "lpm_trie | update /8 (unmasked host bits, same prefix) NOEXIST | ok",
            "lpm_trie | update EXIST missing /16 | ok",
            "batches of percpu_array | update 2 | ENOTSUPP:0",
            "batches of percpu_array | update past the end | ENOTSUPP:0",
            "batches of percpu_array | update elem_flags=1 | ENOTSUPP:0",
            "batches of percpu_array | lookup by 2 | ENOTSUPP:0",
            "batches of percpu_array | keys | ok:",
            "batches of percpu_array | lookup all | ENOTSUPP:0",
            "batches of percpu_array | lookup more | ENOTSUPP:0",
            "batches of percpu_array | lookup no elements | ENOTSUPP:0",
            "batches of percpu_array | lookup from past the end | ENOTSUPP:0",
            "batches of percpu_array | lookup elem_flags=4 | ENOTSUPP:0",
            "batches of lpm_trie | update 3 of which one is wrong | ENOTSUPP:0",
            "batches of lpm_trie | lookup | ENOTSUPP:0",
            "batches of lpm_trie | delete | ENOTSUPP:0",
            "batches of lpm_trie | delete again | ENOTSUPP:0",
            "lpm_trie | update existing when full | ENOSPC",
            "lpm_trie | iteration | ok:0a010200/24 ok:0a010000/16 ok:0a090909/8 ok:00000000/0",
            "types | task_storage | EINVAL",
            "array | create max_entries=2^32-1 | E2BIG",
            "program | helper | EINVAL: invalid func unknown#9999",
            "program | poison | EINVAL: invalid func unknown#195896080",
            "program | helper 0 | EINVAL: unknown func bpf_unspec#0",
            "program | helper of others | EINVAL: unknown func bpf_skb_load_bytes#26",
            "program | div 0 | EINVAL: div by zero",
            "program | shift | EINVAL: invalid shift 64",
            "program | shift 32 | EINVAL: invalid shift 32",
            "program | frame pointer | EACCES: frame pointer is read only",
            "program | atomic | EINVAL: BPF_STX uses reserved fields",
            "program | imm64 middle | EINVAL: invalid BPF_LD_IMM insn",
            "program | r11 | EINVAL: R11 is invalid",
            "program | source r11 | EINVAL: R11 is invalid",
            "program | load r12 | EINVAL: R12 is invalid",
            "program | mov reserved | EINVAL: BPF_MOV uses reserved fields",
            "program | alu reserved | EINVAL: BPF_ALU uses reserved fields",
            "program | end reserved | EINVAL: BPF_END uses reserved fields",
            "program | neg reserved | EINVAL: BPF_NEG uses reserved fields",
            "program | ja reserved | EINVAL: BPF_JA uses reserved fields",
            "program | exit reserved | EINVAL: BPF_EXIT uses reserved fields",
            "program | jmp reserved | EINVAL: BPF_JMP/JMP32 uses reserved fields",
            "program | stx reserved | EINVAL: BPF_STX uses reserved fields",
            "program | st reserved | EINVAL: BPF_ST uses reserved fields",
            "program | call reserved | EINVAL: BPF_CALL uses reserved fields",
            "program | ld_abs | EINVAL: BPF_LD_[ABS|IND] instructions not allowed for this program type",
            "program | func outside | EINVAL: unrecognized bpf_ld_imm64 insn",
            "program | printk in MIT | EINVAL: cannot call GPL-restricted function from non-GPL compatible program",
            "program | sleepable xdp | EINVAL: Only fentry/fexit/fmod_ret and lsm programs can be sleepable",
            "program | syscall | EINVAL: ",
            "program | sleepable syscall | EINVAL: ",
            "program | constant one | EINVAL: invalid func unknown#195896080",
            "program | constant loaded | EINVAL: invalid func unknown#195896080",
            "program | constant upper half | EINVAL: invalid func unknown#195896080",
            "program | constant frozen 1 | EINVAL: invalid func unknown#195896080",
            "program | constant not frozen | EINVAL: invalid func unknown#195896080",
            "program | line_info in the log | EINVAL: invalid func unknown#9999",
        ],
    ),
    // Seen on 7.2: per-CPU maps take flags for one value, and instructions are checked before they are walked through.
    (
        (6, 19)..=(u32::MAX, 0),
        &[
            "percpu_hash | update flags=0x3 | ok",
            "percpu_hash | lookup present | ok:05000000000000000600000000000000",
            "percpu_array | update flags=0x3 | ok",
            "percpu_array | value | ok:0100000000000000",
            "percpu_hash | value_size=5: lookup is the same | False",
            "percpu_array | value_size=5: lookup is the same | False",
            "cpumap | update with plain xdp prog | EINVAL",
            "program | r11 | EINVAL: R11 is invalid",
            "program | source r11 | EINVAL: R11 is invalid",
            "program | load r12 | EINVAL: R12 is invalid",
            "program | mov reserved | EINVAL: BPF_MOV uses reserved fields",
            "program | alu reserved | EINVAL: BPF_ALU uses reserved fields",
            "program | end reserved | EINVAL: BPF_END uses reserved fields",
            "program | neg reserved | EINVAL: BPF_NEG uses reserved fields",
            "program | ja reserved | EINVAL: BPF_JA uses reserved fields",
            "program | exit reserved | EINVAL: BPF_EXIT uses reserved fields",
            "program | jmp reserved | EINVAL: BPF_JMP/JMP32 uses reserved fields",
            "program | stx reserved | EINVAL: BPF_STX uses reserved fields",
            "program | st reserved | EINVAL: BPF_ST uses reserved fields",
            "program | call reserved | EINVAL: BPF_CALL uses reserved fields",
            "program | sleepable xdp | EINVAL: Program of this type cannot be sleepable",
        ],
    ),
];

#[test]
fn transcript() {
    let Some(kernel) = support::linux_with_bpffs("transcript") else { return };
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return support::denied("transcript", format_args!("no network namespace: {errno}"));
    }
    let dir = PinDir::new(&kernel, "transcript");
    let found = bodies::all(&kernel, dir.path());
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/transcript_6.18.txt");
        std::fs::write(path, found.join("\n") + "\n").unwrap();
        return;
    }
    for subject in GOLDEN.lines().filter_map(|row| row.split(" |").next()).collect::<BTreeSet<_>>() {
        if bodies::lacks(&kernel, subject) {
            println!("skip: transcript: {subject}: this kernel has none");
        }
    }
    let code = kernel.version_code().unwrap();
    let version = (code >> 16, code >> 8 & 0xff);
    let groups = || OTHERWISE.iter().filter(|(versions, _)| versions.contains(&version));
    let others = others(version);
    let known = |found: &str| others.contains(found) || groups().any(|(_, rows)| rows.contains(&found));
    let differences = bodies::differences(&kernel, &found, GOLDEN, known);
    assert!(differences.is_empty(), "{}", differences.concat());
}

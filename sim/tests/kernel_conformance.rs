//! The running kernel does what was recorded on Linux 6.18, or what is known of other kernels.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod bodies;

use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

const GOLDEN: &str = include_str!("../../testdata/golden/transcript_6.18.txt");

/// What other kernels answer, and since when they do as 6.18: rows as a whole.
const OTHERWISE: &[&str] = &[
    // Tags are SHA-1 before 6.18.
    "program | tag 0 | ok:a04f5eef06a7f555",
    "program | tag 1 | ok:24f7b6700923568d",
    "program | tag 2 | ok:9213175723f581b6",
    "program | tag 3 | ok:8b5b5dc766ad3390",
    "program | tag 4 | ok:5a737521f223c716",
    // Linux 6.1.
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
];

fn skip(reason: &str) {
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "skip: transcript: {reason}");
    println!("skip: transcript: {reason}");
}

/// A directory that goes with everything in it.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn transcript() {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Err(Errno::EPERM) => return skip("no right to create maps"),
        other => drop(other.unwrap()),
    }
    let root = Path::new("/sys/fs/bpf");
    if kernel.backend().is_bpffs(root) != Ok(true) {
        return skip("no bpffs at /sys/fs/bpf");
    }
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return skip(&format!("no network namespace: {errno}"));
    }
    let dir = Dir(root.join(format!("skep-sim-{}", std::process::id())));
    kernel.backend().create_pin_dir(&dir.0).unwrap();
    let found = bodies::all(&kernel, &dir.0);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/transcript_6.18.txt");
        std::fs::write(path, found.join("\n") + "\n").unwrap();
        return;
    }
    let differences: Vec<String> = found
        .iter()
        .zip(GOLDEN.lines())
        .filter(|(found, expected)| found != expected && !OTHERWISE.contains(&found.as_str()))
        .map(|(found, expected)| format!("{found}\n    and Linux 6.18: {expected}\n"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.concat());
    assert_eq!(found.len(), GOLDEN.lines().count());
}

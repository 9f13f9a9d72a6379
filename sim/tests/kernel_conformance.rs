//! The running kernel does what was recorded on Linux 6.18, or what is known of other kernels.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod bodies;

use std::path::{Path, PathBuf};

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

const GOLDEN: &str = include_str!("../../testdata/golden/transcript_6.18.txt");

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
    let dir = Dir(root.join(format!("skep-sim-{}", std::process::id())));
    kernel.backend().create_pin_dir(&dir.0).unwrap();
    let found = bodies::all(&kernel, &dir.0);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/golden/transcript_6.18.txt");
        std::fs::write(path, found.join("\n") + "\n").unwrap();
        return;
    }
    for (found, expected) in found.iter().zip(GOLDEN.lines()).filter(|(a, b)| a != b) {
        println!("{found}\n    and 6.18: {expected}");
    }
    assert_eq!(found, GOLDEN.lines().collect::<Vec<_>>());
}

//! Links on the running kernel. Needs root.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`, unless it is the
//! kernel that lacks something.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod conformance;
#[path = "../../tests/support/pins.rs"]
mod pins;
#[path = "../../tests/support/kernel.rs"]
mod support;

use std::process::Command;
use std::sync::Mutex;

use conformance::Bench;
use nix::sched::{CloneFlags, unshare};
use pins::PinDir;

/// One at a time: a process that one of them starts has the links of the others too until it executes its program, and a
/// place is free only when nobody has its link any more.
static ONE: Mutex<()> = Mutex::new(());

fn run(name: &str) {
    let _one = ONE.lock();
    let Some(kernel) = support::linux_with_bpffs(name) else { return };
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return support::denied(name, format_args!("no network namespace: {errno}"));
    }
    // Where this fails, no packet comes and the test says so.
    let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();

    let dir = PinDir::new(&kernel, name);
    let bench = Bench { kernel: &kernel, dir: dir.path(), live: true };
    for reason in conformance::run(&bench, conformance::case(name)) {
        support::skip(name, reason.trim_end().replace('\n', " "));
    }
}

#[test]
fn xdp() {
    run("xdp");
}

#[test]
fn raw_tracepoints() {
    run("raw_tracepoint");
}

#[test]
fn btf_tracepoints() {
    run("btf_tracepoint");
}

#[test]
fn fentry() {
    run("fentry");
}

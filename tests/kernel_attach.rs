//! Programs that are attached without links, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // a skipped test says so

mod attach_conformance;
mod support;

use std::fs::File;

use attach_conformance::World;
use nix::sched::{CloneFlags, unshare};
use support::groups::Groups;
use support::{denied, linux};

fn run(name: &str, body: attach_conformance::Body) {
    let Some(kernel) = linux(name) else { return };
    let Some(groups) = Groups::new(name) else {
        return denied(name, "no control groups of the second version are mounted where they can be made");
    };
    let group = |path: &str| groups.make(path);
    // Each test is a thread, which gets a network of its own.
    let netns = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    };
    body(&World { kernel: &kernel, group: &group, netns: &netns });
}

attach_conformance::tests! { run }

//! Programs that are attached without links, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // a skipped test says so

mod attach_conformance;

use std::fs::{self, File};
use std::path::PathBuf;

use attach_conformance::World;
use nix::sched::{CloneFlags, unshare};
use skep::sys::Kernel;
use skep::sys::abi::MapType;
use skep::sys::request::MapCreate;

/// Control groups of a test, which go with it.
struct Groups(PathBuf);

impl Groups {
    /// In the hierarchy of the second version, if there is one that may be written.
    fn new(name: &str) -> Option<Groups> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mut groups = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then_some(path)
        });
        let path = PathBuf::from(groups.next()?).join(format!("skep-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Groups(path))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        fn remove(path: &PathBuf) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // Nothing depends on it.
            let _ = fs::remove_dir(path);
        }
        remove(&self.0);
    }
}

fn run(name: &str) {
    let skip = |why: &str| {
        println!("skip: {name}: {why}");
        assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "{name} was skipped");
    };
    let kernel = Kernel::linux();
    if let Err(errno) = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)) {
        return skip(&format!("this process may not create a map: {errno}"));
    }
    let Some(groups) = Groups::new(name) else {
        return skip("no control groups of the second version are mounted where they can be made");
    };
    let group = |path: &str| {
        let path = groups.0.join(path);
        fs::create_dir(&path).unwrap();
        File::open(&path).unwrap().into()
    };
    // Each test is a thread, which gets a network of its own.
    let netns = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    };
    attach_conformance::run(name, &World { kernel: &kernel, group: &group, netns: &netns });
}

attach_conformance::tests! {
    run:
    modes several replacing hierarchies going_first anchors beside_links other_kinds socket_maps flow_dissectors devices
}

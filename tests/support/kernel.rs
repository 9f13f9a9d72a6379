//! How a test says that it cannot run, and the running kernel where it can. Tests of every package use it.

#![allow(dead_code, clippy::print_stdout)] // each binary uses a part of it

use std::fmt::Display;
use std::path::Path;

use skep_sys::Kernel;
use skep_sys::abi::MapType;
use skep_sys::request::MapCreate;

/// Says that a test, or a part of it, cannot run here since something is missing that not every kernel has.
pub(crate) fn skip(test: &str, reason: impl Display) {
    println!("skip: {test}: {reason}");
}

/// Says that a test cannot run for what this process may not do, or what the machine lacks. Where tests have to run
/// (`SKEP_REQUIRE_KERNEL=1`), it fails.
#[track_caller]
pub(crate) fn denied(test: &str, reason: impl Display) {
    let required = std::env::var_os("SKEP_REQUIRE_KERNEL").is_some_and(|value| value == "1");
    assert!(!required, "skip: {test}: {reason}");
    skip(test, reason);
}

/// The running kernel, if this process may make maps in it.
#[track_caller]
pub(crate) fn linux(test: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => Some(kernel),
        Err(errno) => {
            denied(test, format_args!("this process may not make maps: {errno}"));
            None
        }
    }
}

/// As [`linux`], with a bpffs at its usual place.
#[track_caller]
pub(crate) fn linux_with_bpffs(test: &str) -> Option<Kernel> {
    let kernel = linux(test)?;
    if kernel.backend().is_bpffs(Path::new("/sys/fs/bpf")) != Ok(true) {
        denied(test, "no bpffs at /sys/fs/bpf");
        return None;
    }
    Some(kernel)
}

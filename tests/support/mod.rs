//! What test binaries share: how a test says that it cannot run, the running kernel, and tests made of bodies.

#![allow(dead_code, unused_imports, unused_macros, clippy::print_stdout)] // each binary uses a part of it

pub(crate) mod groups;

use std::fmt::Display;
use std::path::Path;

use skep_sys::Kernel;
use skep_sys::abi::{Errno, MapType};
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

/// An error and what it came from, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Names the bodies of a module, which run on any kernel and have its type `Body`: in `BODIES`, and in a macro `tests` that
/// makes a test of each. `tests! { run }` leaves it to `run(name, body)` to find a kernel and run the body there.
macro_rules! bodies {
    (($d:tt) $module:ident; $($name:ident: $body:expr,)*) => {
        pub(crate) const BODIES: &[(&str, Body)] = &[$((stringify!($name), $body)),*];

        macro_rules! tests {
            ($d run:path) => {
                $(
                    #[test]
                    fn $name() {
                        let name = stringify!($name);
                        let (_, body) = crate::$module::BODIES.iter().find(|(body, _)| *body == name).unwrap();
                        $d run(name, *body);
                    }
                )*
            };
        }
        pub(crate) use tests;
    };
}
pub(crate) use bodies;

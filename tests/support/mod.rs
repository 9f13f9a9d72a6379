//! What test binaries share: how a test says that it cannot run, the running kernel, and tests made of bodies.

#![allow(dead_code, unused_imports, unused_macros)] // each binary uses a part of it

pub(crate) mod groups;
mod kernel;
pub(crate) mod notes;
pub(crate) mod time;

use std::path::{Path, PathBuf};

use skep::{Kernel, Spec};

pub(crate) use kernel::{denied, linux, linux_with_bpffs, skip};

/// A path on the bpffs that no other process has, with nothing there.
pub(crate) fn pin_path(kernel: &Kernel, name: &str) -> PathBuf {
    let path = Path::new("/sys/fs/bpf").join(format!("skep_{name}_{}", std::process::id()));
    // Of a process of before that had the number, and was ended in the middle.
    if kernel.backend().name() == "linux" {
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
    }
    path
}

/// An object of `testdata/`.
#[track_caller]
pub(crate) fn open(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    Spec::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

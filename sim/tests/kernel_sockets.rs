//! Programs of sockets do on the simulated kernel what they do on the running one.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod socket_bodies;
#[path = "../../tests/support/kernel.rs"]
mod support;

use skep_sys::Kernel;
use socket_bodies::linux::Linux;
use socket_bodies::simulated::Simulated;
use socket_bodies::{Body, Network};

/// Whether the kernel is of the version that the simulated one is like.
fn is_like_simulated(kernel: &Kernel) -> bool {
    kernel.version_code().is_ok_and(|code| code >> 8 == 6 << 8 | 18)
}

/// The running kernel and the process in a control group of its own; they share it, so it is one test.
fn linux(test: &str) -> Option<Linux> {
    match Linux::new(support::linux(test)?) {
        Ok(linux) => Some(linux),
        Err(reason) => {
            support::skip(test, &reason);
            None
        }
    }
}

/// How often what Linux does otherwise is tried again: as often as it takes where the kernels are to do the same, since the last
/// tries wait for seconds.
fn tries(kernel: &Kernel) -> u32 {
    if is_like_simulated(kernel) { 20 } else { 1 }
}

/// The lines of both kernels, with what differs printed. Nothing where one has no such links.
fn compare<'l>(
    linux: &'l Linux,
    bodies: &'l [Body<Linux>],
    same: &'l [Body<Simulated>],
) -> impl Iterator<Item = (bool, String)> + 'l {
    bodies.iter().zip(same).filter_map(|((name, body), (_, simulated))| {
        let Some(mut expected) = body(linux) else {
            support::skip(name, "its programs cannot be loaded, or attached by links");
            return None;
        };
        let found = simulated(&Simulated::new()).unwrap();
        // Linux moves bytes from socket to socket by a worker of its own, which a busy machine lets wait.
        for _ in 0..tries(linux.kernel()) {
            if expected == found {
                break;
            }
            linux.wait_longer();
            expected = body(linux).unwrap_or(expected);
        }
        linux.wait_shortly();
        if expected != found {
            println!("{name}: Linux\n{}\nsimulated\n{}", expected.join("\n"), found.join("\n"));
        }
        Some((expected == found, format!("{name}\n{}\n", expected.join("\n"))))
    })
}

#[test]
fn sockets() {
    let Some(linux) = linux("sockets") else { return };
    let (bodies, same) = (socket_bodies::all(), socket_bodies::all());
    let results: Vec<_> = compare(&linux, &bodies, &same).collect();
    if !is_like_simulated(linux.kernel()) {
        return;
    }
    assert_eq!(results.len(), bodies.len(), "some could not be tried");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/golden/sockets_6.18.txt");
        let lines: Vec<String> = results.iter().map(|(_, lines)| lines.clone()).collect();
        std::fs::write(path, lines.join("\n")).unwrap();
    }
    let different = results.iter().filter(|(same, _)| !same).count();
    assert_eq!(different, 0, "of {}", results.len());
}

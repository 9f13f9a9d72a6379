//! The running kernel against what was recorded on Linux 6.18: on another one the differences are counted, not held
//! against it.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod bodies;
#[path = "../../tests/support/pins.rs"]
mod pins;
mod rows;
#[path = "../../tests/support/kernel.rs"]
mod support;

use nix::sched::{CloneFlags, unshare};
use pins::PinDir;

#[test]
fn drift() {
    let Some(kernel) = support::linux_with_bpffs("rows") else { return };
    let code = kernel.version_code().unwrap();
    let is_recorded = code >> 8 == 6 << 8 | 18;
    let mut transcript = rows::Transcript::default();
    transcript.play_sockets(&kernel);
    // Of this thread alone, so that no device of the machine is touched.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        return support::denied("rows", format_args!("no network namespace: {errno}"));
    }
    let dir = PinDir::new(&kernel, "rows");
    transcript.play_rest(&kernel, dir.path());
    let played = rows::compare(&transcript.lines);
    println!("{}", rows::counts(&played));
    let drifted: Vec<String> = played
        .iter()
        .filter(|row| !row.holds())
        .map(|row| match &row.found {
            Some(found) => format!("{}: {found}, and Linux 6.18 {}", row.name(), row.row.result),
            None => format!("{}: not asked here", row.name()),
        })
        .collect();
    println!("{} of {} rows differ on this kernel", drifted.len(), played.len());
    println!("{}", drifted.join("\n"));
    for part in &transcript.stopped {
        println!("skip: rows: the rest of {part}: this kernel lacks what it needs");
    }
    let asked = played.iter().filter(|row| row.found.is_some() && !row.holds()).count();
    assert!(!is_recorded || transcript.stopped.is_empty(), "stopped: {:?}", transcript.stopped);
    assert!(!is_recorded || asked == 0, "{asked} rows differ on the kernel that they were recorded on");
}

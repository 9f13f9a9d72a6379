//! Helpers and kernel functions of the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // a skipped test says so

mod helper_conformance;
mod helper_rows;
mod support;

use helper_conformance::World;
use support::linux;

fn run(name: &str, body: helper_conformance::Body) {
    if let Some(kernel) = linux(name) {
        body(&World { kernel: &kernel, wait: &std::thread::sleep });
    }
}

/// On another kernel than the one that was recorded, differences are drift and no failure.
#[test]
fn recorded_rows_hold() {
    let Some(kernel) = linux("recorded_rows_hold") else { return };
    let played = helper_rows::play(&kernel);
    for program in &played.skipped {
        println!("skip: recorded_rows_hold: {program}");
    }
    println!(
        "{} of {} rows differ on this kernel:\n{}",
        played.differ.len(),
        played.rows,
        played.differ.join("\n")
    );
    let is_recorded = kernel.version_code().unwrap() >> 8 == 6 << 8 | 18;
    assert!(!is_recorded || played.differ.is_empty() && played.skipped.is_empty(), "{played:?}");
}

helper_conformance::tests! { run }

//! The simulated kernel answers what was recorded on Linux 6.18, all but the rows of a list, which has to be right.

#![allow(missing_docs, clippy::print_stdout)]

mod bodies;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use skep_sim::SimKernel;
use skep_sys::Kernel;

const DIFFERENT: &str = "testdata/golden/rows_simulated.txt";

#[test]
fn rows_hold_but_for_those_that_are_known() {
    let kernel = Kernel::new(SimKernel::new());
    let dir = Path::new("/sys/fs/bpf/skep");
    kernel.backend().create_pin_dir(dir).unwrap();
    let mut transcript = rows::Transcript::default();
    transcript.play_sockets(&kernel);
    transcript.play_rest(&kernel, dir);
    assert!(transcript.stopped.is_empty(), "stopped: {:?}", transcript.stopped);
    let played = rows::compare(&transcript.lines);
    println!("{}", rows::counts(&played));

    // Rows that nobody asked are those whose means are missing where the test runs, such as a cgroup.
    let differ = played.iter().filter(|row| row.found.is_some() && !row.holds());
    let found: BTreeSet<String> = differ.map(rows::Played::name).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DIFFERENT);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let header = "# Rows of rows_6.18.txt that the simulated kernel answers otherwise; `UPDATE_GOLDEN=1` rewrites it.\n";
        let text: Vec<&str> = found.iter().map(String::as_str).collect();
        std::fs::write(&path, format!("{header}{}\n", text.join("\n"))).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let known: BTreeSet<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let new = played.iter().filter(|row| found.contains(&row.name()) && !known.contains(&*row.name()));
    let new: Vec<String> =
        new.map(|row| format!("{}: {:?}, and Linux {}", row.name(), row.found, row.row.result)).collect();
    assert!(new.is_empty(), "these differ, and are not in {DIFFERENT}:\n{}", new.join("\n"));
    let held: Vec<String> = played
        .iter()
        .filter(|row| row.holds())
        .map(rows::Played::name)
        .filter(|n| known.contains(&**n))
        .collect();
    assert!(held.is_empty(), "these hold now: take them out of {DIFFERENT}:\n{}", held.join("\n"));
    let names: BTreeSet<String> = played.iter().map(rows::Played::name).collect();
    let stale: Vec<&&str> = known.iter().filter(|name| !names.contains(**name)).collect();
    assert!(stale.is_empty(), "these were not recorded: {stale:?}");
}

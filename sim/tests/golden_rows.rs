//! The simulated kernel answers what was recorded on Linux 6.18, all but the rows of a list, which has to be right.

#![allow(missing_docs, clippy::print_stdout)]

mod bodies;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use skep_sim::SimKernel;
use skep_sys::Kernel;
use skep_sys::abi::MapType;

const DIFFERENT: &str = "testdata/golden/rows_simulated.txt";
/// Of each kind and each group at least so many rows hold.
const PERCENT: usize = 95;
/// Rows that cannot be asked everywhere: those with a cgroup of the first version, or a socket of XDP.
const UNASKED: usize = 10;

/// Why rows differ: what their names have in them, and the reason.
const REASONS: [(&[&str], &str); 3] = [
    (
        &["poll("],
        "A simulated descriptor of a map is never in error, and one of a user ring buffer never ready to write.",
    ),
    (
        &["NULL deref", "(eth dst=0xff", "data_end-data"],
        "The verifier finds them by an analysis of data flow, which the simulated kernel does not make.",
    ),
    (&["lirc_mode2"], "The kernel that was recorded is built without that kind of programs."),
];

fn reason(row: &str) -> Option<&'static str> {
    let found = REASONS.iter().find(|(parts, _)| parts.iter().any(|part| row.contains(part)));
    found.map(|(_, why)| *why)
}

#[test]
fn rows_hold_but_for_those_that_are_known() {
    let types = include_bytes!("../../testdata/btf/6.18.btf");
    let sim = SimKernel::builder().cpus(2).btf(types.as_slice()).build().unwrap();
    let kernel = Kernel::new(sim);
    let dir = Path::new("/sys/fs/bpf/skep");
    kernel.backend().create_pin_dir(dir).unwrap();
    let mut transcript = rows::Transcript::default();
    transcript.play_sockets(&kernel);
    transcript.play_rest(&kernel, dir);
    assert!(transcript.stopped.is_empty(), "stopped: {:?}", transcript.stopped);
    let played = rows::compare(&transcript.lines);
    let asked = played.iter().filter(|row| row.found.is_some()).count();
    assert!(asked + UNASKED >= played.len(), "only {asked} of {} rows were asked", played.len());

    // Rows that nobody asked are those whose means are missing where the test runs, such as a cgroup.
    let differ = played.iter().filter(|row| row.found.is_some() && !row.holds());
    let found: BTreeSet<String> = differ.map(rows::Played::name).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DIFFERENT);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let mut text =
            "# Rows of rows_6.18.txt that the simulated kernel answers otherwise; `UPDATE_GOLDEN=1` rewrites it.\n"
                .to_owned();
        for (_, why) in REASONS {
            let rows = found.iter().filter(|row| reason(row) == Some(why));
            text += &format!("\n# {why}\n{}", rows.map(|row| format!("{row}\n")).collect::<String>());
        }
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let known: BTreeSet<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let unexplained: Vec<&String> = found.iter().filter(|row| reason(row).is_none()).collect();
    assert!(unexplained.is_empty(), "these differ for no known reason: {unexplained:?}");
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
    let mut low = Vec::new();
    for (name, (holds, all)) in rows::shares(&played) {
        println!("{name:32} {holds:5} of {all:5}  {:5.1} %", holds as f64 * 100.0 / all as f64);
        // Kinds of programs are not counted alone.
        let counts =
            name.starts_with("group ") || MapType::from_name(name.trim_start_matches("kind ")).is_some();
        if counts && holds * 100 < all * PERCENT {
            low.push(name);
        }
    }
    assert_eq!(low, Vec::<String>::new(), "of these fewer than {PERCENT} % hold");
}

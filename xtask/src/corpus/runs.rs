//! Runs programs of the corpus on the running and on a simulated kernel, and compares.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::compare::explain;
use super::compare::known::{Difference, Known};
use super::deep::inside;
use super::manifest::Manifest;
use super::run::{objects, skep_command};

/// The arguments of `corpus runs`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The command to run (default: built from this tree).
    #[arg(long)]
    skep: Option<PathBuf>,
    /// Seconds for each object.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Compare what was run before, without running it again.
    #[arg(long)]
    again: bool,
    /// How many groups of differences to print.
    #[arg(long, default_value_t = 40)]
    groups: usize,
}

/// `corpus runs`.
pub(super) fn run(dir: &Path, manifest: &Manifest, known: &Path, args: &Args) -> Result<u8> {
    let output = dir.join("runs.jsonl");
    if !args.again {
        let skep = skep_command(args.skep.clone())?;
        let part = dir.join("runs.part");
        let mut out = File::create(&part).with_context(|| format!("create {}", part.display()))?;
        for object in objects(dir, manifest)? {
            run_object(&skep, &object, Duration::from_secs(args.timeout), &mut out)?;
        }
        fs::rename(part, &output)?;
    }
    let text = fs::read_to_string(&output).with_context(|| format!("read {}", output.display()))?;
    let Compared { table, causes, events, differences } = compare(&text)?;
    println!("programs that the running kernel runs by themselves, on both kernels");
    println!("{:<24}{:>8}{:>8}{:>8}{:>8}{:>8}", "type", "ran", "equal", "varies", "differ", "inputs");
    for (kind, counts) in &table {
        let Counts { ran, equal, varies, differ, inputs } = counts;
        println!("{kind:<24}{ran:>8}{equal:>8}{varies:>8}{differ:>8}{inputs:>8}");
    }
    println!("\nvaries: everything is equal but bytes that are not the same twice, by");
    for (cause, programs) in &causes {
        println!("{programs:>8}  {cause}");
    }
    println!("\nprograms that it does not, on events of the simulated kernel");
    let header = ["type", "all", "refused", "unfit", "no event", "to the end", "faults"];
    println!(
        "{:<24}{:>8}{:>10}{:>8}{:>10}{:>12}{:>8}",
        header[0], header[1], header[2], header[3], header[4], header[5], header[6]
    );
    for (kind, counts) in &events {
        let Events { all, refused, unfit, without, ended, faults } = counts;
        println!("{kind:<24}{all:>8}{refused:>10}{unfit:>8}{without:>10}{ended:>12}{faults:>8}");
    }
    println!(
        "refused: the running kernel's verifier does not take it, so it may fault; unfit: the simulated kernel does not either\n"
    );
    Ok(if explain(&Known::read(known)?, &differences, args.groups) { 0 } else { 1 })
}

/// Runs the programs of one object in a process of its own, which is ended when it takes too long.
fn run_object(skep: &Path, object: &Path, limit: Duration, out: &mut File) -> Result<()> {
    let mut child = Command::new(skep)
        .arg("run-both")
        .arg(object)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {}", skep.display()))?;
    let start = Instant::now();
    let why = loop {
        match child.try_wait()? {
            // 1: something differed. 2: the object does not open, which other commands say.
            Some(status) if matches!(status.code(), Some(0..=2)) => return Ok(()),
            Some(status) => break format!("the process died: {status}"),
            None if start.elapsed() > limit => {
                child.kill()?;
                child.wait()?;
                break "it took too long".to_owned();
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let line = serde_json::json!({
        "file": object, "program": "", "section": "", "type": "", "inputs": 1, "equal": false, "why": why, "varies": [],
    });
    writeln!(out, "{line}")?;
    Ok(())
}

/// A line of `skep run-both`.
#[derive(Deserialize)]
struct Line {
    file: String,
    program: String,
    #[serde(rename = "type")]
    kind: String,
    inputs: usize,
    equal: bool,
    why: Option<String>,
    varies: Vec<String>,
    events: Option<Fired>,
}

/// What became of a program on events.
#[derive(Deserialize)]
struct Fired {
    loaded: bool,
    ended: usize,
    faulted: bool,
    why: Option<String>,
}

impl Line {
    /// Whether the running kernel's verifier found something wrong with it. What it lacks the right for it does not look at.
    fn is_refused(&self) -> bool {
        let why = self.why.as_deref().unwrap_or_default();
        why.starts_with("not loaded") && !why.contains("EPERM")
    }
}

/// Programs of a type that no test run reaches.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Events {
    all: usize,
    /// The running kernel's verifier does not take it.
    refused: usize,
    /// The simulated kernel does not load it.
    unfit: usize,
    /// Nothing happened that it was waiting for.
    without: usize,
    ended: usize,
    /// It was stopped, though no verifier had something against it.
    faults: usize,
}

/// All that was found.
struct Compared {
    table: BTreeMap<String, Counts>,
    /// Programs by what their answers depend on.
    causes: BTreeMap<String, usize>,
    events: BTreeMap<String, Events>,
    differences: Vec<Difference>,
}

/// What became of the programs of a type.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counts {
    ran: usize,
    /// Results and maps were the same.
    equal: usize,
    /// Ran on both, but the results are those of a moment or a machine.
    varies: usize,
    differ: usize,
    inputs: usize,
}

fn compare(text: &str) -> Result<Compared> {
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    let (mut causes, mut events) = (BTreeMap::new(), BTreeMap::new());
    let mut differences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let difference = |what: &str, error: Option<String>| Difference {
            what: what.to_owned(),
            file: inside(&line.file),
            program: line.program.clone(),
            kind: line.kind.clone(),
            error: error.unwrap_or_default(),
            ..Difference::default()
        };
        if line.inputs == 0 {
            let Some(fired) = &line.events else { continue };
            let counts: &mut Events = events.entry(line.kind.clone()).or_default();
            counts.all += 1;
            match (fired.loaded, fired.faulted) {
                _ if line.is_refused() => counts.refused += 1,
                (false, _) => counts.unfit += 1,
                (true, true) => {
                    counts.faults += 1;
                    differences.push(difference("events", fired.why.clone()));
                }
                (true, false) if fired.ended == 0 => counts.without += 1,
                (true, false) => counts.ended += 1,
            }
            continue;
        }
        let counts = table.entry(line.kind.clone()).or_default();
        counts.ran += 1;
        counts.inputs += line.inputs;
        match (line.equal, line.varies.is_empty()) {
            (true, true) => counts.equal += 1,
            (true, false) => {
                counts.varies += 1;
                *causes.entry(line.varies.join(", ")).or_default() += 1;
            }
            (false, _) => {
                counts.differ += 1;
                differences.push(difference("runs", line.why.clone()));
            }
        }
    }
    Ok(Compared { table, causes, events, differences })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_type() {
        let line = |program: &str, inputs: usize, equal: bool, varies: &str| {
            format!(
                r#"{{"file":"/c/objects/a/b.o","program":"{program}","section":"xdp","type":"xdp","inputs":{inputs},"equal":{equal},"why":"w","varies":[{varies}]}}"#
            )
        };
        let lines = [
            line("a", 3, true, ""),
            line("b", 3, true, "\"x\""),
            line("c", 1, false, ""),
            line("d", 0, true, ""),
        ];
        let Compared { table, causes, differences, .. } = compare(&lines.join("\n")).unwrap();
        assert_eq!(causes["x"], 1);
        assert_eq!(table["xdp"], Counts { ran: 3, equal: 1, varies: 1, differ: 1, inputs: 7 });
        assert_eq!(differences.len(), 1);
        assert_eq!((&*differences[0].program, &*differences[0].error), ("c", "w"));
    }

    #[test]
    fn only_programs_that_are_right_must_not_fault() {
        let line = |why: &str, loaded: bool, ended: usize, faulted: bool| {
            format!(
                r#"{{"file":"b.o","program":"a","section":"lsm","type":"lsm","inputs":0,"equal":false,"why":"{why}","varies":[],"events":{{"loaded":{loaded},"ended":{ended},"faulted":{faulted},"why":"f"}}}}"#
            )
        };
        let lines = [
            line("not loaded: bad (EACCES)", true, 0, true),
            line("not loaded: no right (EPERM)", true, 2, false),
            line("not run by kernels", true, 1, true),
            line("not run by kernels", true, 0, false),
            line("not run by kernels", false, 0, false),
        ];
        let Compared { events, differences, .. } = compare(&lines.join("\n")).unwrap();
        let expected = Events { all: 5, refused: 1, unfit: 1, without: 1, ended: 1, faults: 1 };
        assert_eq!(events["lsm"], expected);
        assert_eq!((differences.len(), &*differences[0].what), (1, "events"));
    }
}

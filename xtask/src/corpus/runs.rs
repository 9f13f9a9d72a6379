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
    let (table, differences) = compare(&text)?;
    println!("{:<24}{:>8}{:>8}{:>8}{:>8}{:>8}", "type", "ran", "equal", "varies", "differ", "inputs");
    for (kind, counts) in &table {
        let Counts { ran, equal, varies, differ, inputs } = counts;
        println!("{kind:<24}{ran:>8}{equal:>8}{varies:>8}{differ:>8}{inputs:>8}");
    }
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

fn compare(text: &str) -> Result<(BTreeMap<String, Counts>, Vec<Difference>)> {
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    let mut differences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        if line.inputs == 0 {
            continue;
        }
        let counts = table.entry(line.kind.clone()).or_default();
        counts.ran += 1;
        counts.inputs += line.inputs;
        match (line.equal, line.varies.is_empty()) {
            (true, true) => counts.equal += 1,
            (true, false) => counts.varies += 1,
            (false, _) => {
                counts.differ += 1;
                differences.push(Difference {
                    what: "runs".to_owned(),
                    file: inside(&line.file),
                    program: line.program,
                    kind: line.kind,
                    error: line.why.unwrap_or_default(),
                    ..Difference::default()
                });
            }
        }
    }
    Ok((table, differences))
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
        let (table, differences) = compare(&lines.join("\n")).unwrap();
        assert_eq!(table["xdp"], Counts { ran: 3, equal: 1, varies: 1, differ: 1, inputs: 7 });
        assert_eq!(differences.len(), 1);
        assert_eq!((&*differences[0].program, &*differences[0].error), ("c", "w"));
    }
}

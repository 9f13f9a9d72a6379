//! Compares what skep and libbpf say of objects that have something wrong in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::compare::explain;
use super::compare::known::{Difference, Known};
use super::deep::{Found, ask, inside, testdata_objects};
use super::manifest::Manifest;
use super::run::objects;

/// The arguments of `corpus malformed`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many mutants of each object.
    #[arg(long, default_value_t = 100)]
    each: u64,
    /// How many objects of the corpus are mutated, beside those of `testdata`.
    #[arg(long, default_value_t = 48)]
    objects: usize,
    /// Seconds for each mutant.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
    /// Compare what was asked before, without asking again.
    #[arg(long)]
    again: bool,
    /// How many groups of differences to print.
    #[arg(long, default_value_t = 40)]
    groups: usize,
}

/// `corpus malformed`.
pub(super) fn run(dir: &Path, manifest: &Manifest, known: &Path, args: &Args) -> Result<u8> {
    let output = dir.join("malformed.jsonl");
    if !args.again {
        let numbers =
            ["--timeout".to_owned(), args.timeout.to_string(), "--each".to_owned(), args.each.to_string()];
        let arguments = [&["mutants".to_owned()][..], &numbers].concat();
        ask(&arguments, &bases(dir, manifest, args.objects)?, dir, &output)?;
    }
    let text = fs::read_to_string(&output).with_context(|| format!("read {}", output.display()))?;
    let (counts, differences) = compare(&text)?;
    for (what, count) in &counts {
        println!("{what:<28}{count}");
    }
    Ok(if explain(&Known::read(known)?, &differences, args.groups) { 0 } else { 1 })
}

/// The objects of `testdata`, and some of the corpus, from all over it.
fn bases(dir: &Path, manifest: &Manifest, most: usize) -> Result<Vec<PathBuf>> {
    let mut all = testdata_objects()?;
    if most > 0 {
        let objects = objects(dir, manifest)?;
        let step = objects.len().div_ceil(most).max(1);
        all.extend(objects.into_iter().step_by(step));
    }
    Ok(all)
}

/// What both said of one mutant: `ok`, or `open: …` or `load: …`.
#[derive(Deserialize)]
struct Line {
    file: String,
    /// What was changed.
    what: String,
    libbpf: String,
    skep: String,
    #[serde(default)]
    differences: Vec<Found>,
}

fn compare(text: &str) -> Result<(BTreeMap<&'static str, usize>, Vec<Difference>)> {
    let mut counts = BTreeMap::new();
    let mut differences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let difference = |what: &str, error: String| Difference {
            what: what.to_owned(),
            file: inside(&line.file),
            program: line.what.clone(),
            error,
            ..Difference::default()
        };
        let died = |said: &str| said.starts_with("died: ");
        let outcome = match (&*line.libbpf, &*line.skep) {
            (_, skep) if died(skep) => {
                differences.push(difference("died", format!("skep: {skep}")));
                "skep died"
            }
            (libbpf, _) if died(libbpf) => "libbpf died",
            ("ok", "ok") if line.differences.is_empty() => "accepted, asking the same",
            ("ok", "ok") => "accepted, asking otherwise",
            ("ok", skep) => {
                differences.push(difference("refused", format!("skep: {skep}")));
                "refused by skep only"
            }
            (libbpf, "ok") => {
                differences.push(difference("accepted", format!("libbpf: {libbpf}")));
                "refused by libbpf only"
            }
            _ => "refused by both",
        };
        *counts.entry("mutants").or_default() += 1;
        *counts.entry(outcome).or_default() += 1;
        let found = line.differences.into_iter().map(|found| found.difference(&line.file, &line.what));
        differences.extend(found);
    }
    Ok((counts, differences))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"file":"/t/testdata/x.o","number":0,"what":"symbol 1 size","libbpf":"ok","skep":"ok","differences":[]}
{"file":"/t/testdata/x.o","number":1,"what":"symbol 2 size","libbpf":"ok","skep":"open: too large"}
{"file":"/t/testdata/x.o","number":2,"what":"symbol 3 size","libbpf":"open: no","skep":"ok"}
{"file":"/t/testdata/x.o","number":3,"what":"symbol 4 size","libbpf":"open: no","skep":"load: no"}
{"file":"/t/testdata/x.o","number":4,"what":".BTF","libbpf":"died: signal: 8","skep":"open: no"}
{"file":"/t/testdata/x.o","number":5,"what":".BTF","libbpf":"not asked","skep":"died: signal: 6"}
{"file":"/t/testdata/x.o","number":6,"what":"symbol 5","libbpf":"ok","skep":"ok","differences":[{"what":"programs made insns","item":"0 p at 1","libbpf":"b7","skep":"95"}]}
"#;

    #[test]
    fn only_what_one_of_them_takes_differs() {
        let (counts, differences) = compare(LINES).unwrap();
        assert_eq!(counts["mutants"], 7);
        assert_eq!(counts["refused by both"], 1);
        assert_eq!(counts["libbpf died"], 1);
        let found: Vec<_> =
            differences.iter().map(|d| (&*d.what, &*d.program, &*d.kind, &*d.error)).collect();
        assert_eq!(
            found,
            [
                ("refused", "symbol 2 size", "", "skep: open: too large"),
                ("accepted", "symbol 3 size", "", "libbpf: open: no"),
                ("died", ".BTF", "", "skep: died: signal: 6"),
                ("programs made insns", "0 p at 1", "symbol 5", "libbpf: b7; skep: 95"),
            ]
        );
        assert_eq!(differences[0].file, "testdata/x.o");
    }
}

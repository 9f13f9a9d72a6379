//! `cargo xtask record`: writes down what a kernel answers to operations on maps that a seed makes.
//!
//! The test `kernel_recorded` of `skep-sim` makes and plays them; here it is built and run, on this kernel or on one under qemu.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// What was recorded on the kernel that the simulated one is like by default.
const BASE: &str = "testdata/golden/recorded_6.18.txt";
/// What other kernels answered otherwise.
const OTHERS: &str = "testdata/golden/recorded_others.txt";
const HEADER: &str = "# What other kernels answer otherwise than recorded_6.18.txt says: `cargo xtask record --kernel K` writes it. A heading is the
# kernel; then a line for each row, by the place of its map there (from 0), and of the operation on it (from 1; 0 is its creation).
# `absent` is a map that was not recorded there: the kernel lacks what its elements are, or did not answer the same twice.
";

/// Write down what a kernel answers to operations on maps that a seed makes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the operations follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A kernel that `cargo xtask vm` knows, instead of the running one. What it answers otherwise than the golden is put into
    /// the golden of other kernels.
    #[arg(long)]
    kernel: Option<String>,
    /// Write what was recorded to that file, and leave the goldens as they are.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs `cargo xtask record`.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = workspace::root()?;
    let mut command = workspace::cargo()?;
    command.args(["test", "--package", "skep-sim", "--test", "kernel_recorded", "--", "--nocapture"]);
    command.env("SKEP_FUZZ_SEED", args.seed.to_string()).env("SKEP_RECORD", "-");
    if let Some(kernel) = &args.kernel {
        let program = std::env::current_exe().context("find this program")?;
        // The guest has an environment of its own.
        let seed = args.seed;
        let runner =
            format!("{} vm {kernel} --env SKEP_RECORD=- --env SKEP_FUZZ_SEED={seed} --", program.display());
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner);
    }
    let done = command.stderr(Stdio::inherit()).output().context("run cargo test")?;
    let text = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "the test failed:\n{text}");
    let start = text.find("# Linux ").context("nothing was recorded: may this process make maps?")?;
    let recorded = text.get(start..).unwrap_or_default();
    let end = recorded.find("\ntest recorded").unwrap_or(recorded.len());
    let recorded = recorded.get(..end).unwrap_or_default().trim_end();
    let lines = recorded.lines().count();
    if args.output.is_none() && args.kernel.is_some() {
        return other(&root, recorded);
    }
    let output = args.output.as_ref().map_or_else(|| Ok(root.join(BASE)), std::path::absolute)?;
    fs::write(&output, format!("{recorded}\n")).with_context(|| format!("write {}", output.display()))?;
    println!("{}: {lines} lines", output.display());
    Ok(0)
}

/// Puts into the golden of other kernels what one of them answers otherwise.
fn other(root: &Path, recorded: &str) -> Result<u8> {
    let base = fs::read_to_string(root.join(BASE)).with_context(|| format!("read {BASE}"))?;
    let version = version(recorded).context("a header that names the kernel")?;
    let (differences, rows) = differences(&maps(&base), &maps(recorded));
    let path = root.join(OTHERS);
    let old = fs::read_to_string(&path).unwrap_or_default();
    let mut sections = BTreeMap::new();
    for section in old.split("\n== ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap_or((section, ""));
        sections.insert(numbers(name), (name.to_owned(), body.trim_end().to_owned()));
    }
    let count = differences.lines().count();
    sections.insert(numbers(&version), (version.clone(), differences.trim_end().to_owned()));
    let mut text = HEADER.to_owned();
    for (name, body) in sections.values() {
        write!(text, "\n== {name}\n{body}\n").context("write to a string")?;
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    println!("{OTHERS}: {count} lines of Linux {version}, of {rows} rows");
    Ok(0)
}

/// The first two numbers of the kernel in the header of what was recorded: `5.10`.
fn version(recorded: &str) -> Option<String> {
    let release = recorded.strip_prefix("# Linux ")?.split([' ', '-']).next()?;
    let mut parts = release.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// The numbers of a version, to sort by.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// A map, what came of its creation, and operations with their results.
struct Map<'a> {
    spec: &'a str,
    rows: Vec<(&'a str, &'a str)>,
}

fn maps(text: &str) -> Vec<Map<'_>> {
    let mut maps: Vec<Map<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((tried, result)) = line.rsplit_once(" -> ") else { continue };
        match (tried.strip_prefix("== "), maps.last_mut()) {
            (Some(spec), _) => maps.push(Map { spec, rows: vec![("create", result)] }),
            (None, Some(map)) => map.rows.push((tried, result)),
            (None, None) => {}
        }
    }
    maps
}

/// What was answered otherwise, as lines, and the number of rows that were compared.
fn differences(base: &[Map<'_>], other: &[Map<'_>]) -> (String, usize) {
    // A map may be there several times: the first is compared with the first.
    let mut places = HashMap::<&str, std::vec::IntoIter<&Map<'_>>>::new();
    for map in other {
        if !places.contains_key(map.spec) {
            let same: Vec<&Map<'_>> = other.iter().filter(|other| other.spec == map.spec).collect();
            places.insert(map.spec, same.into_iter());
        }
    }
    let (mut text, mut compared) = (String::new(), 0);
    for (at, map) in base.iter().enumerate() {
        let Some(found) = places.get_mut(map.spec).and_then(Iterator::next) else {
            text += &format!("{at} absent\n");
            continue;
        };
        for (place, ((tried, expected), (same, result))) in map.rows.iter().zip(&found.rows).enumerate() {
            compared += usize::from(tried == same);
            if tried == same && expected != result {
                text += &format!("{at}.{place} {tried} -> {result}\n");
            }
        }
    }
    (text, compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_by_place() {
        let base = maps(
            "# Linux 6.18\n\n== hash max=1 -> ok\nfreeze -> ok\n\n== hash max=1 -> ok\n\n== queue -> ok\n",
        );
        let other = maps("# Linux 5.10\n\n== hash max=1 -> ok\nfreeze -> EPERM\n\n== queue -> EINVAL\n");
        let expected = "0.1 freeze -> EPERM\n1 absent\n2.0 create -> EINVAL\n";
        assert_eq!(differences(&base, &other), (expected.to_owned(), 3));
        assert_eq!(version("# Linux 6.12.117+deb13 cpus=2"), Some("6.12".to_owned()));
    }
}

//! `cargo xtask fuzz`: runs a fuzz target and says when it last came to code where it had not been.
//!
//! libFuzzer counts edges of everything that is compiled with the target. Among them are the hash tables of the standard
//! library, whose keys are drawn anew in each process, so that some edge of theirs is found now and then for as long as
//! one looks. Edges are therefore told apart by the source file that they are in.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Names of the program that tells where an address is in the source.
const SYMBOLIZERS: [&str; 4] =
    ["llvm-symbolizer", "llvm-symbolizer-22", "llvm-symbolizer-20", "llvm-symbolizer-19"];

/// Run a fuzz target and say when it last came to new code.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The target: a file of fuzz/fuzz_targets.
    target: String,
    /// Longest input in bytes.
    #[arg(long, default_value_t = 4096)]
    max_len: u32,
    /// End after that many executions (0: never).
    #[arg(long, default_value_t = 5_000_000)]
    runs: u64,
    /// End after that many seconds (0: never).
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Run what is built already.
    #[arg(long)]
    no_build: bool,
    /// Further arguments for libFuzzer.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs `cargo xtask fuzz`.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?;
    let fuzz = root.join("fuzz");
    if !args.no_build {
        let mut build = Command::new("cargo");
        build.args(["+nightly", "fuzz", "build", "-s", "none", &args.target]).current_dir(root);
        ensure!(build.status().context("run cargo fuzz")?.success(), "the target does not build");
    }
    let program = fuzz.join("target/x86_64-unknown-linux-gnu/release").join(&args.target);
    ensure!(program.exists(), "{} is not there", program.display());
    let corpus = fuzz.join("corpus").join(&args.target);
    fs::create_dir_all(&corpus)?;
    let found = watch(&program, &corpus, args)?;
    let places = places(root, &program, &found.edges)?;
    report(&found, &places);
    Ok(u8::from(!found.ended_well))
}

/// What a run found.
#[derive(Default)]
struct Found {
    executions: u64,
    coverage: u64,
    last_new: u64,
    /// New edges: by which execution they were there, and their offset in the program.
    edges: Vec<(u64, u64)>,
    ended_well: bool,
}

/// Runs the target and reads what libFuzzer says.
fn watch(program: &Path, corpus: &Path, args: &Args) -> Result<Found> {
    let mut child = Command::new(program)
        .arg(corpus)
        .arg(format!("-max_len={}", args.max_len))
        .arg(format!("-runs={}", if args.runs == 0 { -1 } else { i64::try_from(args.runs)? }))
        .arg(format!("-max_total_time={}", args.seconds))
        .args(["-print_pcs=1", "-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"])
        .args(&args.more)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let mut found = Found::default();
    let (mut base, mut begun) = (None, false);
    // Edges are printed before the line that says how many executions it took.
    let mut new = Vec::new();
    let said = BufReader::new(child.stderr.take().context("stderr is piped")?);
    for line in said.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if base.is_none() {
            base = start_of(child.id(), program)?;
        }
        if let Some(event) = Event::of(&line) {
            if begun && event.coverage > found.coverage {
                found.last_new = event.executions;
            }
            begun |= event.name == "INITED";
            (found.executions, found.coverage) = (event.executions, found.coverage.max(event.coverage));
            found.edges.extend(new.drain(..).map(|edge| (event.executions, edge)));
        } else if let Some(address) = line.trim().strip_prefix("NEW_PC: 0x") {
            let digits = address.split_whitespace().next().unwrap_or_default();
            let (address, base) = (u64::from_str_radix(digits, 16)?, base.context("where the program is")?);
            // The address is that of what follows the edge's counter.
            new.push(address.wrapping_sub(base).wrapping_sub(1));
            continue;
        } else if let Some(executions) = line.strip_prefix("stat::number_of_executed_units:") {
            found.executions = executions.trim().parse()?;
        }
        println!("{line}");
    }
    found.edges.extend(new.drain(..).map(|edge| (found.executions, edge)));
    found.ended_well = child.wait()?.success();
    Ok(found)
}

/// A line that says how far libFuzzer is: `#1234 NEW cov: 5 ft: …`.
struct Event<'l> {
    executions: u64,
    name: &'l str,
    coverage: u64,
}

impl Event<'_> {
    fn of(line: &str) -> Option<Event<'_>> {
        let mut words = line.strip_prefix('#')?.split_whitespace();
        let (executions, name) = (words.next()?.parse().ok()?, words.next()?);
        (words.next()? == "cov:").then_some(())?;
        Some(Event { executions, name, coverage: words.next()?.parse().ok()? })
    }
}

/// Where the program's file begins in the memory of its process.
fn start_of(process: u32, program: &Path) -> Result<Option<u64>> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{process}/maps")) else { return Ok(None) };
    let name = program.to_string_lossy();
    let line = maps.lines().find(|line| line.ends_with(&*name));
    let Some((start, _)) = line.and_then(|line| line.split_once('-')) else { return Ok(None) };
    Ok(Some(u64::from_str_radix(start, 16)?))
}

/// The file and line of each edge, as far as it is skep's own code: not the standard library's, that of dependencies or
/// of the target itself.
fn places(root: &Path, program: &Path, edges: &[(u64, u64)]) -> Result<Vec<Option<String>>> {
    let symbolizer = SYMBOLIZERS.iter().find(|name| here(name));
    let Some(symbolizer) = symbolizer else { bail!("llvm-symbolizer is not installed") };
    let mut child = Command::new(symbolizer)
        .arg("--obj")
        .arg(program)
        .args(["--inlines", "--functions=none"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {symbolizer}"))?;
    let asked: String = edges.iter().map(|(_, offset)| format!("{offset:#x}\n")).collect();
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    let asking = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let answer = child.wait_with_output()?;
    asking.join().map_err(|_| anyhow::anyhow!("{symbolizer} was not asked"))??;
    let answer = String::from_utf8_lossy(&answer.stdout);
    let mut places: Vec<Option<String>> =
        answer.split("\n\n").map(|frames| own(root, frames.lines().find(|line| !line.is_empty())?)).collect();
    places.resize(edges.len(), None);
    Ok(places)
}

fn here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir: PathBuf| dir.join(program).exists())
}

/// `file:line` below the root, when the place is in a crate of the workspace.
fn own(root: &Path, place: &str) -> Option<String> {
    let below = Path::new(place).strip_prefix(root).ok()?;
    let below = below.to_str().filter(|path| !path.starts_with("fuzz/") && !path.contains("/target/"))?;
    below.rsplit_once(':').map(|(line, _column)| line.to_owned())
}

fn report(found: &Found, places: &[Option<String>]) {
    let mut own: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for ((at, _), place) in found.edges.iter().zip(places) {
        if let Some(place) = place {
            own.entry(*at).or_default().push(place);
        }
    }
    println!("\nexecutions                    {}", found.executions);
    println!("coverage (edges)              {}", found.coverage);
    println!("last new edge at              {}", found.last_new);
    println!("last new edge in own code at  {}", own.keys().last().copied().unwrap_or(0));
    for (at, places) in own.iter().rev().take(10) {
        println!("  {at:>10}  {}", places.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libfuzzer() {
        let event = Event::of("#2097152\tpulse  cov: 9552 ft: 40311 corp: 4338/38Mb lim: 16384").unwrap();
        assert_eq!((event.executions, event.name, event.coverage), (2_097_152, "pulse", 9552));
        assert!(Event::of("#0\tREAD units: 12").is_none() && Event::of("INFO: Seed: 1").is_none());
    }

    #[test]
    fn own_code_is_below_the_root() {
        let root = Path::new("/w/skep");
        assert_eq!(own(root, "/w/skep/src/spec/maps.rs:7:3").as_deref(), Some("src/spec/maps.rs:7"));
        for other in ["/w/skep/fuzz/src/heap.rs:1:1", "/rustc/1/library/core/src/str.rs:1:1", "??:0:0"] {
            assert_eq!(own(root, other), None, "{other}");
        }
    }
}

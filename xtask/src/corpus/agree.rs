//! `corpus agree`: whether what `skep check` says of kernels that are not here is what `skep verify` then finds on them.
//!
//! `check` gets a kernel's types and configuration out of its package, and the symbols that the objects ask for;
//! `verify` runs in a virtual machine with that kernel. They agree on a program when both find nothing missing, or when
//! the kernel refuses it for what `check` says is missing. What else a kernel refuses, a check of relocations cannot
//! know; that is listed by the kernel's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::compare::shape;
use super::fetch::object_path;
use super::manifest::Manifest;
use super::{archive, root};
use crate::vm;

/// The arguments of `corpus agree`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Kernels to ask.
    #[arg(long, value_delimiter = ',', default_value = "5.10,6.1,6.12,new")]
    kernels: Vec<String>,
    /// Sources of the manifest whose objects are taken, beside those of this tree.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "libbpf-tools-bookworm,libbpf-tools-trixie,libbpf-tools-sid"
    )]
    sources: Vec<String>,
    /// The command to run (default: built from this tree).
    #[arg(long)]
    skep: Option<PathBuf>,
    /// Seconds for each program in the guest.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// How many groups of other refusals to print for each kernel.
    #[arg(long, default_value_t = 12)]
    groups: usize,
}

/// A line of `skep check --json`.
#[derive(Deserialize)]
struct Checked {
    file: String,
    error: Option<String>,
    unknown: Vec<NotKnown>,
    programs: Vec<CheckedProgram>,
}

#[derive(Deserialize)]
struct NotKnown {
    name: String,
    needs: String,
}

#[derive(Deserialize)]
struct CheckedProgram {
    name: String,
    verdict: String,
    error: Option<String>,
    missing: Vec<Missing>,
}

#[derive(Deserialize)]
struct Missing {
    kind: String,
    what: String,
    guarded: Option<bool>,
}

/// A line of `skep verify --json`.
#[derive(Deserialize)]
struct Verified {
    file: String,
    open: Opened,
    programs: Vec<VerifiedProgram>,
}

#[derive(Deserialize)]
struct Opened {
    ok: bool,
}

#[derive(Deserialize)]
struct VerifiedProgram {
    name: String,
    section: String,
    ok: bool,
    error: Option<String>,
}

/// How a program comes out on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Nothing is missing, and the kernel takes it.
    BothTake,
    /// The kernel refuses it for what `check` says is missing.
    SameReason,
    /// Nothing is missing, and the kernel refuses it for something else.
    RefusedOtherwise,
    /// Something is missing, and the kernel refuses it for something else that it comes to first.
    RefusedEarlier,
    /// `check` cannot tell.
    Unknown,
    /// Something is missing, and the kernel takes it.
    WrongAlarm,
    /// The kernel refuses it for what is missing, and `check` does not say so.
    Overlooked,
}

/// `corpus agree`.
pub(super) fn run(dir: &Path, manifest: &Manifest, args: &Args) -> Result<u8> {
    let skep = match &args.skep {
        Some(skep) => std::path::absolute(skep)?,
        None => build()?,
    };
    let objects = objects(dir, manifest, &args.sources)?;
    println!("{} objects", objects.len());
    let mut wrong = 0;
    for kernel in &args.kernels {
        wrong += compare(&skep, &objects, kernel, args)?;
    }
    Ok(if wrong == 0 { 0 } else { 1 })
}

/// The command, optimised: it runs in an emulated machine.
fn build() -> Result<PathBuf> {
    let mut build = Command::new("cargo");
    archive::run(build.args(["build", "--release", "-p", "skep-cli"]).current_dir(root()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    Ok(target.join("release/skep"))
}

/// The little-endian objects of this tree, and those of the sources.
fn objects(dir: &Path, manifest: &Manifest, sources: &[String]) -> Result<Vec<PathBuf>> {
    let mut objects = Vec::new();
    for directory in ["testdata", "examples"] {
        let directory = root().join(directory);
        for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".o") && !name.ends_with(".eb.o") {
                objects.push(path);
            }
        }
    }
    objects.sort();
    for name in sources {
        let source = manifest.source(name)?;
        let found: Vec<_> = source
            .objects
            .keys()
            .map(|key| object_path(dir, source, key))
            .filter(|path| path.exists())
            .collect();
        ensure!(!found.is_empty(), "no objects of {name}: run `cargo xtask corpus fetch {name}`");
        objects.extend(found);
    }
    Ok(objects)
}

/// Compares for one kernel; answers how many programs they disagree on.
fn compare(skep: &Path, objects: &[PathBuf], kernel: &str, args: &Args) -> Result<usize> {
    let scratch = std::env::temp_dir().join(format!("skep-agree-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let done = compare_in(&scratch, skep, objects, kernel, args);
    fs::remove_dir_all(&scratch)?;
    done
}

fn compare_in(scratch: &Path, skep: &Path, objects: &[PathBuf], kernel: &str, args: &Args) -> Result<usize> {
    let described = vm::describe(kernel)?;
    let mut check = Command::new(skep);
    check.args(["check", "--json", "--btf"]).arg(&described.image);
    check.arg("--kconfig").arg(&described.config);
    for (name, bytes) in &described.modules {
        let path = scratch.join(format!("{name}.ko"));
        fs::write(&path, bytes)?;
        check.arg("--module").arg(path);
    }
    check.args(objects);
    // Once to see which symbols are asked for, and once more with them.
    let first: Vec<Checked> = lines(&output(&mut check)?)?;
    let asked: BTreeSet<&str> = first
        .iter()
        .flat_map(|checked| &checked.unknown)
        .filter(|unknown| unknown.needs == "kernel symbols")
        .map(|unknown| unknown.name.as_str())
        .collect();
    let guest = guest(scratch, skep, objects, kernel, &asked, args)?;
    let (symbols, verified): (Vec<&str>, Vec<&str>) = guest.lines().partition(|line| !line.starts_with('{'));
    let kallsyms = scratch.join("kallsyms");
    fs::write(&kallsyms, symbols.join("\n"))?;
    let checked: Vec<Checked> = lines(&output(check.arg("--kallsyms").arg(&kallsyms))?)?;
    let verified: Vec<Verified> = lines(&verified.join("\n"))?;
    ensure!(
        verified.len() == objects.len() && checked.len() == objects.len(),
        "{kernel}: {} of {} objects were verified",
        verified.len(),
        objects.len()
    );
    Ok(report(kernel, &described.version, &checked, &verified, args.groups))
}

/// Runs `skep verify` in the guest, after printing the symbols that are asked for.
fn guest(
    scratch: &Path,
    skep: &Path,
    objects: &[PathBuf],
    kernel: &str,
    symbols: &BTreeSet<&str>,
    args: &Args,
) -> Result<String> {
    // The list is too long for a command line of the guest's init.
    let list = scratch.join("objects");
    fs::write(&list, objects.iter().map(|path| format!("{}\n", path.display())).collect::<String>())?;
    let mut words: Vec<String> =
        ["vm", kernel, "--timeout", "3600", "--memory", "3072"].map(str::to_owned).into();
    for path in objects.iter().chain([&list, &skep.to_owned()]) {
        words.extend(["--file".to_owned(), path.display().to_string()]);
    }
    let names: Vec<&str> = symbols.iter().copied().collect();
    let script = format!(
        "grep -wE '{}' /proc/kallsyms; xargs {} verify --json --timeout {} <{}; true",
        if names.is_empty() { "^$".to_owned() } else { names.join("|") },
        skep.display(),
        args.timeout,
        list.display()
    );
    words.extend(["--", "sh", "-c"].map(str::to_owned));
    words.push(script);
    let mut bytes = Vec::new();
    let status = vm::run_with(&vm::Args::try_parse_from(words)?, &mut |more| bytes.extend_from_slice(more))?;
    ensure!(status == 0, "{kernel}: the guest ended with status {status}");
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    // 1: something is missing.
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "skep check: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    let line = |line: &str| serde_json::from_str(line).with_context(|| format!("read {line}"));
    text.lines().filter(|line| !line.trim().is_empty()).map(line).collect()
}

fn report(kernel: &str, version: &str, checked: &[Checked], verified: &[Verified], groups: usize) -> usize {
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut others: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (checked, verified) in checked.iter().zip(verified) {
        for (at, found) in verified.programs.iter().enumerate().filter(|_| verified.open.ok) {
            let program = checked.programs.get(at).filter(|program| program.name == found.name);
            let outcome = outcome(checked, program, found);
            *counts.entry(outcome).or_default() += 1;
            let name = || format!("{} {} ({})", verified.file, found.name, found.section);
            let error = found.error.as_deref().unwrap_or_default();
            match outcome {
                Outcome::WrongAlarm | Outcome::Overlooked => {
                    let says = program.map_or("names no such program".to_owned(), says);
                    wrong.push(format!("{outcome:?}: {}: check: {says}; kernel: {error}", name()));
                }
                Outcome::RefusedOtherwise | Outcome::RefusedEarlier => {
                    let reason = error.rsplit_once("did not take it").map_or(error, |(_, reason)| reason);
                    others.entry(shape(reason)).or_insert((0, name())).0 += 1;
                }
                _ => {}
            }
        }
        debug_assert_eq!(checked.file, verified.file);
    }
    let of = |outcome| counts.get(&outcome).copied().unwrap_or(0);
    let agreed = of(Outcome::BothTake) + of(Outcome::SameReason);
    println!("{kernel} ({version}): {} programs", counts.values().sum::<usize>());
    println!("  agree                        {agreed}");
    println!("    nothing missing, taken     {}", of(Outcome::BothTake));
    println!("    refused for what is missing {}", of(Outcome::SameReason));
    println!("  disagree                     {}", wrong.len());
    println!("  check cannot tell            {}", of(Outcome::Unknown));
    println!("  refused for other reasons    {}", of(Outcome::RefusedOtherwise));
    println!("    before what is missing     {}", of(Outcome::RefusedEarlier));
    wrong.iter().for_each(|line| println!("  {line}"));
    let mut others: Vec<_> = others.into_iter().collect();
    others.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (reason, (count, example)) in others.iter().take(groups) {
        println!("  {count:5} {}\n        e.g. {example}", reason.trim_start_matches([':', ' ']));
    }
    wrong.len()
}

fn says(program: &CheckedProgram) -> String {
    let missing: Vec<String> = program
        .missing
        .iter()
        .map(|missing| format!("{} {} guarded {:?}", missing.kind, missing.what, missing.guarded))
        .collect();
    format!("{} {:?} {}", program.verdict, program.error, missing.join(", "))
}

fn outcome(checked: &Checked, program: Option<&CheckedProgram>, found: &VerifiedProgram) -> Outcome {
    let verdict = program.map_or("fails", |program| program.verdict.as_str());
    let missing = match &found.error {
        Some(error) => for_missing(error),
        None => false,
    };
    match (verdict, found.ok) {
        ("ok", true) => Outcome::BothTake,
        ("unknown", _) => Outcome::Unknown,
        ("ok", false) if missing => Outcome::Overlooked,
        ("ok", false) => Outcome::RefusedOtherwise,
        (_, true) => Outcome::WrongAlarm,
        (_, false) if missing && same(checked, program, found) => Outcome::SameReason,
        (_, false) if missing => Outcome::Overlooked,
        (_, false) => Outcome::RefusedEarlier,
    }
}

/// Whether an error of `verify` is about what the kernel lacks: of relocation, or of an instruction that it poisoned.
fn for_missing(error: &str) -> bool {
    let poisoned = [
        "a CO-RE relocation found nothing in this kernel",
        "a field has another size in this kernel",
        "this kernel has no function",
        "is used and was not created",
    ];
    error.contains("does not fit this kernel") || poisoned.iter().any(|text| error.contains(text))
}

/// Whether what the kernel lacks is what `check` says.
fn same(checked: &Checked, program: Option<&CheckedProgram>, found: &VerifiedProgram) -> bool {
    let error = found.error.as_deref().unwrap_or_default();
    let within = |ours: &Option<String>| ours.as_ref().is_some_and(|ours| error.contains(ours.as_str()));
    let named = |program: &CheckedProgram| {
        let unguarded = program.missing.iter().filter(|missing| missing.guarded != Some(true));
        unguarded.into_iter().any(|missing| error.contains(&missing.what))
    };
    within(&checked.error) || program.is_some_and(|program| within(&program.error) || named(program))
}

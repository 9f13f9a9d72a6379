//! The steps, in the order in which they run: what is quick and fails often comes first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use super::{Run, Step};
use crate::results::Reader;
use crate::workspace::{self, KernelTest, KernelTests, Workspace, cargo};
use crate::{tidy, vm};

/// Built when the machine has no cargo-fuzz.
const CARGO_FUZZ: &str = "0.13.1";
/// The one that the sanitizer's libraries are for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(super) const ALL: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "tidy", about: "the rules that cargo does not know", run: |_| tidy::check() },
    Step { name: "clippy", about: "no warnings in any target", run: clippy },
    Step { name: "features", about: "each feature alone, none and all of them", run: features },
    Step { name: "docs", about: "no warnings in the documentation", run: docs },
    Step {
        name: "test",
        about: "tests that need no kernel, as a user who may not call bpf(2), and doctests",
        run: test,
    },
    Step { name: "kernel", about: "kernel tests on the running kernel", run: kernel },
    Step { name: "vm", about: "kernel tests on other kernels, under qemu", run: virtual_machines },
    Step {
        name: "asan",
        about: "unit tests and tests of system calls and maps under AddressSanitizer",
        run: asan,
    },
    Step { name: "fuzz", about: "each fuzz target for a while", run: fuzz },
    Step {
        name: "benches",
        about: "the comparisons with other libraries compile, and their tests pass",
        run: benches,
    },
    Step { name: "readme", about: "the commands that README.md shows", run: readme },
];

fn fmt(run: &mut Run<'_>) -> Result<()> {
    run.command(cargo()?.args(["fmt", "--all", "--check"]))
}

fn clippy(run: &mut Run<'_>) -> Result<()> {
    let what = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    run.command(cargo()?.args(what))
}

fn features(run: &mut Run<'_>) -> Result<()> {
    let workspace = Workspace::read()?;
    let mut check = |package: &str, choice: &[&str]| {
        run.command(
            cargo()?.args(["clippy", "--package", package]).args(choice).args(["--", "-D", "warnings"]),
        )
    };
    for package in workspace.packages.iter().filter(|package| !package.features.is_empty()) {
        check(&package.name, &["--no-default-features"])?;
        for feature in &package.features {
            check(&package.name, &["--no-default-features", "--features", feature])?;
        }
        check(&package.name, &["--all-features"])?;
    }
    Ok(())
}

fn docs(run: &mut Run<'_>) -> Result<()> {
    let what = ["doc", "--workspace", "--no-deps", "--all-features"];
    run.command(cargo()?.args(what).env("RUSTDOCFLAGS", "-D warnings"))
}

/// The crate of procedural macros.
const MACROS: &str = "skep-derive";

fn test(run: &mut Run<'_>) -> Result<()> {
    let workspace = Workspace::read()?;
    let mut command = cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--examples"]);
    // Tests of procedural macros need the compiler's own library, which may be closed to other users.
    command.args(["--exclude", MACROS]);
    command.args(workspace.tests(false).iter().flat_map(|name| ["--test", name]));
    // Each of them as an ordinary user who may not call bpf(2).
    let this = std::env::current_exe().context("find this program")?;
    command.arg("--config").arg(format!("target.'cfg(unix)'.runner = [{this:?}, \"unprivileged\", \"--\"]"));
    let units = run.command(&mut command);
    let macros = run.command(cargo()?.args(["test", "--package", MACROS, "--lib"]));
    let docs = run.command(cargo()?.args(["test", "--workspace", "--no-fail-fast", "--doc"]));
    units.and(macros).and(docs)
}

fn kernel(run: &mut Run<'_>) -> Result<()> {
    let built = KernelTests::build(&Workspace::read()?)?;
    let root = is_root();
    if !root {
        run.missing("kernel tests need root to load programs");
    }
    let mut all = Ok(());
    for test in &built.tests {
        super::say(&test.title());
        let mut command = Command::new(&test.executable);
        command.args(KernelTest::arguments()).current_dir(&test.package_dir).envs(test.environment());
        if root {
            command.env("SKEP_REQUIRE_KERNEL", "1");
        }
        all = all.and(run.command(&mut command));
    }
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    run.kernels.push((format!("{} (running)", version.trim()), run.results.clone()));
    all
}

fn virtual_machines(run: &mut Run<'_>) -> Result<()> {
    if Workspace::read()?.tests(true).is_empty() {
        return Ok(());
    }
    let kernels = &run.args.kernels;
    for kernel in kernels {
        ensure!(vm::is_known(kernel), "no kernel `{kernel}`: `cargo xtask vm --list` lists them");
    }
    // Kernels come from the archives of a distribution, which let go of old ones at times: that is no reason not to test
    // on the others.
    let mut there = Vec::new();
    for kernel in kernels {
        match vm::fetch(kernel) {
            Ok(()) => there.push(kernel),
            Err(error) => run.withheld.push(format!("kernel {kernel} cannot be had: {error:#}")),
        }
    }
    ensure!(!there.is_empty(), "none of the kernels can be had: {}", run.withheld.join("; "));
    let mut all = Ok(());
    for kernel in there {
        let args = vm::Args::try_parse_from(["vm", kernel.as_str(), "--time"])?;
        let mut reader = Reader::default();
        let status = vm::run_with(&args, &mut |bytes| {
            super::pass_on(bytes);
            reader.bytes(bytes);
        })?;
        let results = reader.finish();
        run.results += &results;
        run.kernels.push((format!("{kernel} (qemu)"), results));
        if status != 0 {
            all = Err(anyhow::anyhow!("the guest with kernel {kernel} ended with status {status}"));
        }
    }
    all
}

fn asan(run: &mut Run<'_>) -> Result<()> {
    if !has_nightly() {
        run.missing(NO_NIGHTLY);
        return Ok(());
    }
    let workspace = Workspace::read()?;
    let tests = |package: &str| {
        let package = workspace.packages.iter().find(|found| found.name == package);
        package.map(|package| package.tests.as_slice()).context("a package that every workspace has")
    };
    // Those of the system calls, and those of maps, which try to make the kernel write where it should not.
    let maps = tests("skep")?.iter().filter(|name| name.ends_with("_maps"));
    let mut command = nightly("cargo")?;
    command.args(["test", "--workspace", "--exclude", "xtask", "--no-fail-fast", "--lib"]);
    command.args(tests("skep-sys")?.iter().chain(maps).flat_map(|name| ["--test", name]));
    // With a target of their own, build scripts and macros are built without the sanitizer.
    command.args(["--target", TARGET, "--target-dir", "target/asan"]);
    run.command(command.env("RUSTFLAGS", "-Zsanitizer=address"))
}

fn fuzz(run: &mut Run<'_>) -> Result<()> {
    if !has_nightly() {
        run.missing(NO_NIGHTLY);
        return Ok(());
    }
    let program = cargo_fuzz(run)?;
    let output = nightly(&program)?.args(["fuzz", "list"]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "cargo fuzz list failed");
    run.command(nightly(&program)?.args(["fuzz", "build"]))?;
    let seed = ["run", "--manifest-path", "fuzz/Cargo.toml", "--example", "seed"];
    run.command(nightly("cargo")?.args(seed))?;
    let mut all = Ok(());
    for target in String::from_utf8_lossy(&output.stdout).lines() {
        let mut command = nightly(&program)?;
        command.args([
            "fuzz",
            "run",
            target,
            "--",
            "-rss_limit_mb=512",
            "-malloc_limit_mb=256",
            "-timeout=10",
        ]);
        command.arg(format!("-max_total_time={}", run.args.fuzz_seconds));
        all = all.and(run.command(&mut command));
    }
    all
}

fn benches(run: &mut Run<'_>) -> Result<()> {
    let manifest = "benches/peers/Cargo.toml";
    run.command(cargo()?.args(["build", "--all-targets", "--manifest-path", manifest]))?;
    run.command(cargo()?.args(["test", "--manifest-path", manifest]))
}

fn readme(run: &mut Run<'_>) -> Result<()> {
    let text = fs::read_to_string(workspace::root()?.join("README.md")).context("read README.md")?;
    let commands = readme_commands(&text);
    if commands.is_empty() {
        bail!("README.md shows no `cargo run` command");
    }
    if !is_root() {
        run.missing(format!("root is needed for: {}", commands.join("; ")));
        return Ok(());
    }
    for command in commands {
        run.command(Command::new("sh").args(["-ec", command]).current_dir(workspace::root()?))?;
    }
    Ok(())
}

/// The lines of the README's shell blocks that run something of the project. Its other command is this one.
fn readme_commands(text: &str) -> Vec<&str> {
    let mut shell = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            shell = !shell && ["sh", "bash", "console", "shell"].contains(&language.trim());
            continue;
        }
        let command = line.trim_start_matches(['$', '#', ' ']);
        let command = command.strip_prefix("sudo ").unwrap_or(command);
        if shell && command.starts_with("cargo run") {
            commands.push(command);
        }
    }
    commands
}

const NO_NIGHTLY: &str = "no nightly toolchain: rustup toolchain install nightly";

/// `program` with the nightly toolchain.
fn nightly(program: impl AsRef<Path>) -> Result<Command> {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).arg(program.as_ref()).current_dir(workspace::root()?);
    // Those are of the toolchain that runs us.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").stdin(Stdio::null());
    Ok(command)
}

fn has_nightly() -> bool {
    let probe = || Some(nightly("rustc").ok()?.arg("--version").output().ok()?.status.success());
    probe().unwrap_or(false)
}

/// The machine's cargo-fuzz, or one that is built under `target/` for the purpose.
fn cargo_fuzz(run: &mut Run<'_>) -> Result<PathBuf> {
    let installed = Command::new("cargo-fuzz").arg("--version").output();
    if installed.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-fuzz".into());
    }
    let tools = workspace::root()?.join("target/tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.exists() {
        let what = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"];
        run.command(cargo()?.args(what).arg(&tools))?;
    }
    Ok(program)
}

/// A process's entry in /proc belongs to its user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_from_shell_blocks() {
        let text = "text\n```rust\ncargo run --no\n```\ncargo run --no\n```sh\nsudo cargo run --example a\ncargo xtask ci\n\
                    cargo add skep\n```\n```console\n$ cargo run -p skep-cli -- inspect x.o\nok\n```\n";
        assert_eq!(readme_commands(text), ["cargo run --example a", "cargo run -p skep-cli -- inspect x.o"]);
    }

    #[test]
    fn contributing_says_what_each_step_checks() {
        let text = include_str!("../../../CONTRIBUTING.md");
        let table = text.split_once("| step | checks |").map_or("", |(_, table)| table);
        let rows = table
            .lines()
            .take_while(|line| !line.starts_with("A step"))
            .filter(|line| line.starts_with("| `"));
        let rows: Vec<_> = rows.flat_map(|row| row.split('|').nth(1)).collect();
        for step in ALL {
            assert!(
                rows.iter().any(|row| row.contains(&format!("`{}`", step.name))),
                "no row for {}",
                step.name
            );
        }
        let named: usize = rows.iter().map(|row| row.matches('`').count() / 2).sum();
        assert_eq!(named, ALL.len(), "a row for a step that is no more");
    }

    #[test]
    fn names_of_steps_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}

//! `cargo xtask record`: writes down what a kernel answers to operations on maps that a seed makes.
//!
//! The test `kernel_recorded` of `skep-sim` makes and plays them; here it is built and run, on this kernel or on one under qemu.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Write down what a kernel answers to operations on maps that a seed makes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the operations follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A kernel that `cargo xtask vm` knows, instead of the running one.
    #[arg(long)]
    kernel: Option<String>,
    /// Where to write it: the golden that the simulated kernel is held to, unless another kernel is named.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs `cargo xtask record`.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let root = workspace::root()?;
    let output = match (&args.output, &args.kernel) {
        (Some(path), _) => std::path::absolute(path)?,
        (None, None) => root.join("testdata/golden/recorded_6.18.txt"),
        (None, Some(kernel)) => root.join(format!("target/recorded_{kernel}.txt")),
    };
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
    fs::write(&output, format!("{recorded}\n")).with_context(|| format!("write {}", output.display()))?;
    println!("{}: {} lines", output.display(), recorded.lines().count());
    Ok(0)
}

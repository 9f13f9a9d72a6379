//! `cargo xtask ci`: everything that the project checks, step by step, with a table at the end.

mod steps;
mod table;

use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::results::{Reader, Results};

/// Run all checks and tests of the project, as CI does.
#[derive(Parser)]
pub(crate) struct Args {
    /// Run only these steps
    #[arg(long, value_delimiter = ',', value_name = "STEP,…")]
    only: Vec<String>,
    /// Leave these steps out
    #[arg(long, value_delimiter = ',', value_name = "STEP,…")]
    skip: Vec<String>,
    /// List the steps
    #[arg(long)]
    list: bool,
    /// Kernels to boot for the `vm` step
    #[arg(long, value_delimiter = ',', default_value = "5.10,6.1,6.12,new", value_name = "KERNEL,…")]
    kernels: Vec<String>,
    /// Seconds for each fuzz target
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    fuzz_seconds: u32,
}

/// One check.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Run<'_>) -> Result<()>,
}

/// A step that runs, and what it found.
struct Run<'a> {
    args: &'a Args,
    results: Results,
    /// Why all or some of it could not be done here.
    missing: Vec<String>,
    /// What of it others did not give, such as a mirror that has a file no more: said, and no failure of the project.
    withheld: Vec<String>,
    /// The kernel tests that it ran: on which kernel, and how they ended.
    kernels: Vec<(String, Results)>,
}

/// A step that ran.
struct Report {
    name: &'static str,
    outcome: Outcome,
    time: Duration,
    results: Results,
    missing: Vec<String>,
    kernels: Vec<(String, Results)>,
}

enum Outcome {
    Ok,
    Failed(String),
}

pub(crate) fn run(args: &Args) -> Result<u8> {
    if args.list {
        for step in steps::ALL {
            say(&format!("{:<9} {}", step.name, step.about));
        }
        return Ok(0);
    }
    for name in args.only.iter().chain(&args.skip) {
        if !steps::ALL.iter().any(|step| step.name == name) {
            bail!("unknown step `{name}`: `cargo xtask ci --list` lists them");
        }
    }
    let chosen = steps::ALL.iter().filter(|step| {
        (args.only.is_empty() || args.only.iter().any(|name| name == step.name))
            && !args.skip.iter().any(|name| name == step.name)
    });
    let mut reports = Vec::new();
    for step in chosen {
        say(&format!("\n==> {}: {}", step.name, step.about));
        let report = step.report(args);
        let time = report.time.as_secs_f64();
        match &report.outcome {
            Outcome::Ok => say(&format!("==> {}: ok in {time:.1} s", step.name)),
            Outcome::Failed(why) => say(&format!("==> {}: FAILED in {time:.1} s: {why}", step.name)),
        }
        reports.push(report);
    }
    pass_on(table::format(&reports).as_bytes());
    Ok(u8::from(reports.iter().any(|report| matches!(report.outcome, Outcome::Failed(_)))))
}

impl Step {
    fn report(&self, args: &Args) -> Report {
        let start = Instant::now();
        let mut run = Run {
            args,
            results: Results::default(),
            missing: Vec::new(),
            withheld: Vec::new(),
            kernels: Vec::new(),
        };
        let mut outcome = match (self.run)(&mut run) {
            Ok(()) => Outcome::Ok,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        // On a developer's machine something may be missing; where everything must run nothing may.
        if matches!(outcome, Outcome::Ok) && !run.missing.is_empty() && std::env::var_os("CI").is_some() {
            outcome = Outcome::Failed("part of it could not run".into());
        }
        let Run { results, mut missing, withheld, kernels, .. } = run;
        missing.extend(withheld);
        Report { name: self.name, outcome, time: start.elapsed(), results, missing, kernels }
    }
}

impl Run<'_> {
    /// Runs a command, passing its output on and counting the results of tests in it. Its failure is the step's.
    fn command(&mut self, command: &mut Command) -> Result<()> {
        let shown = show(command);
        say(&format!("$ {shown}"));
        if std::io::stdout().is_terminal() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        let (mut output, input) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let mut child = command.spawn().with_context(|| format!("run {shown}"))?;
        // The command holds the other end of the pipe: without it the output ends with the child.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut reader = Reader::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = output.read(&mut buffer)?;
            let bytes = &buffer[..n]; // n is at most the buffer's length
            if bytes.is_empty() {
                break;
            }
            pass_on(bytes);
            reader.bytes(bytes);
        }
        self.results += &reader.finish();
        let status = child.wait()?;
        ensure!(status.success(), "`{shown}`: {status}");
        Ok(())
    }

    /// Takes note that something could not be done here.
    fn missing(&mut self, what: impl Into<String>) {
        self.missing.push(what.into());
    }
}

/// Writes output of a command to ours. Who closed ours does not want it; the outcome still counts.
fn pass_on(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).ok();
}

/// Writes a line of our own.
fn say(line: &str) {
    pass_on(format!("{line}\n").as_bytes());
}

/// A command as one would type it.
fn show(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut shown = String::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value.filter(|_| key != "CARGO_MANIFEST_DIR") {
            shown += &format!("{}={:?} ", key.display(), value.display().to_string());
        }
    }
    shown += &name.to_string_lossy();
    for arg in command.get_args() {
        shown.push(' ');
        shown += &arg.to_string_lossy();
    }
    shown
}

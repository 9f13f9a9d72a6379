//! `skep`: what an eBPF object says, which kernels it fits, whether a kernel takes it, and loading it.

mod both;
mod check;
mod inspect;
mod load;
mod out;
mod run;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Inspect, check, verify and load eBPF objects.
#[derive(Parser)]
#[command(name = "skep", version, about, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what object files say: programs, maps, globals, externs, types. Asks no kernel.
    Inspect(inspect::Args),
    /// Say whether objects fit kernels that are not here, given the types of those kernels. Asks no kernel.
    Check(check::Args),
    /// Load each program into the running kernel without attaching it, and say what the kernel says.
    Verify(verify::Args),
    /// Run a program on packets or a context, in a simulated kernel or the running one, without attaching it.
    Run(run::Args),
    /// Load an object into the running kernel, pin it, attach it.
    Load(load::Args),
    /// Run the programs of an object on packets of many kinds, on the running and on a simulated kernel, and print what differs.
    #[command(hide = true)]
    RunBoth(both::Args),
    /// One object's part of `verify`, in a process that can be ended.
    #[command(hide = true)]
    VerifyWorker(verify::WorkerArgs),
}

impl Command {
    /// Whether the output is JSON, and the one object that the command is about.
    fn json(&self) -> (bool, Option<&Path>) {
        match self {
            Command::Inspect(args) => (args.json, None),
            Command::Check(args) => (args.json, None),
            Command::Verify(args) => (args.json, None),
            Command::Run(args) => (args.json, Some(&args.object)),
            Command::Load(args) => (args.json, Some(&args.object)),
            Command::RunBoth(_) | Command::VerifyWorker(_) => (false, None),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse().command;
    let done = match &args {
        Command::Inspect(args) => inspect::run(args),
        Command::Check(args) => check::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Run(args) => run::run(args),
        Command::Load(args) => load::run(args),
        Command::RunBoth(args) => both::run(args),
        Command::VerifyWorker(args) => verify::work(args),
    };
    match done {
        Ok(code) => code,
        // Whoever reads the output may have read enough.
        Err(error) if out::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let (as_json, file) = args.json();
            out::failed(as_json, file, &error);
            ExitCode::from(if error.is::<out::Usage>() { 2 } else { 1 })
        }
    }
}

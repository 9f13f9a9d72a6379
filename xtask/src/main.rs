//! The project's own commands: `cargo xtask help` lists them. One file for each.

#![allow(clippy::print_stdout, reason = "commands print")]

mod ci;
mod corpus;
mod fuzz;
mod record;
mod results;
mod tidy;
mod unprivileged;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
enum Xtask {
    Ci(ci::Args),
    /// Check the rules that cargo does not know
    Tidy,
    Vm(vm::Args),
    Corpus(corpus::Args),
    Fuzz(fuzz::Args),
    Record(record::Args),
    Unprivileged(unprivileged::Args),
}

fn main() -> ExitCode {
    let status = match Xtask::parse() {
        Xtask::Ci(args) => ci::run(&args),
        Xtask::Tidy => tidy::check().map(|()| 0),
        Xtask::Vm(args) => vm::run(&args),
        Xtask::Corpus(args) => corpus::run(args),
        Xtask::Fuzz(args) => fuzz::run(&args),
        Xtask::Record(args) => record::run(&args),
        Xtask::Unprivileged(args) => unprivileged::run(&args),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

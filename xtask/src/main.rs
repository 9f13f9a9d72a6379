//! The project's own commands: `cargo xtask help` lists them. One file for each.

#![allow(clippy::print_stdout, reason = "commands print")]

mod corpus;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
enum Xtask {
    Vm(vm::Args),
    Corpus(corpus::Args),
}

fn main() -> ExitCode {
    let status = match Xtask::parse() {
        Xtask::Vm(args) => vm::run(&args),
        Xtask::Corpus(args) => corpus::run(args),
    };
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

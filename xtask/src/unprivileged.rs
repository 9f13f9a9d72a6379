//! `cargo xtask unprivileged -- PROGRAM…`: runs a program as an ordinary user would who may not call bpf(2).
//!
//! What needs no kernel has to do without one: the `test` step runs all tests that are not kernel tests in this way, so
//! one that asks the running kernel for something after all fails, also where root runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Run a program without privilege and without bpf(2)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program, with its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The user and group that own nothing.
const NOBODY: u32 = 65534;

/// Becomes the program. Answers only when that cannot be done.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let (program, rest) = args.command.split_first().context("no program given")?;
    let program = std::path::absolute(program)?;
    let here = std::env::current_dir()?;
    if Uid::effective().is_root() {
        if is_open(&program) && is_open(&here) {
            setgroups(&[]).context("leave all groups")?;
            setgid(Gid::from_raw(NOBODY)).context("change the group")?;
            setuid(Uid::from_raw(NOBODY)).context("change the user")?;
        } else {
            eprintln!(
                "unprivileged: {} is closed to other users: this stays root, without bpf(2)",
                here.display()
            );
        }
    }
    forbid().context("forbid bpf(2)")?;
    Err(Command::new(&program).args(rest).exec()).with_context(|| format!("run {}", program.display()))
}

/// Whether everyone may read or enter a file and all directories that lead to it.
fn is_open(path: &Path) -> bool {
    let may = |path: &Path, bits: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bits == bits)
    };
    may(path, 0o005) && path.ancestors().skip(1).all(|directory| may(directory, 0o001))
}

/// Makes bpf(2) and `perf_event_open` answer `EPERM` from now on, here and in what is started from here.
fn forbid() -> Result<()> {
    let calls = [nix::libc::SYS_bpf, nix::libc::SYS_perf_event_open];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(Errno::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

//! Watches what is executed on the machine: loads `exec_watch.bpf.o`, fits it to the running kernel (CO-RE), attaches it
//! to a tracepoint, starts a few processes, and prints what its maps hold.
//!
//! Needs root, Linux 5.12 or newer and kernel BTF. As root: `cargo run --example exec_watch -- --seconds 10`

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use skep::map::{Array, HashMap, PlainData};
use skep::{Kernel, Loader, Object, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Print which programs are executed.
#[derive(Parser)]
pub(crate) struct Args {
    /// How long to watch
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Watch only executions by the user with this id
    #[arg(long)]
    uid: Option<u32>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds".into()),
    }
}

/// `struct execution` of `exec_watch.bpf.c`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Execution {
    at_ns: u64,
    pid: i32,
    tgid: i32,
    parent_tgid: i32,
    uid: u32,
    comm: [u8; 16],
    filename: [u8; 128],
}

/// How often to look for executions: far less time than it takes to fill the ring of 64 with them.
const POLL: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    run(&Kernel::linux(), &Args::parse(), &mut std::io::stdout())
}

/// Watches, and writes what it sees.
pub(crate) fn run(kernel: &Kernel, args: &Args, out: &mut impl Write) -> Result<()> {
    // What the file says. Nothing is asked of the kernel yet, and everything can still be changed.
    let mut spec = Spec::parse("exec_watch", include_bytes!("exec_watch.bpf.o"))?;
    if let Some(uid) = args.uid {
        spec.set_global("only_uid", &uid)?;
    }
    // Relocates it for this kernel, makes its maps, loads its programs: all or nothing.
    let object = Loader::new(kernel).load(&spec)?;
    let program = object.program("watch_exec")?;
    writeln!(
        out,
        "loaded: program {} of {} instructions, id {}, with {} CO-RE relocations",
        program.name(),
        program.instruction_count(),
        program.info()?.id,
        spec.core_relocation_count(),
    )?;
    write!(out, "{}", object.report())?;

    // Its section name, tp_btf/sched_process_exec, says where. It is detached when the link is dropped.
    let _link = program.attach()?;
    writeln!(out, "attached to {}; starting a few processes\n", program.section())?;
    make_events()?;

    let mut shown = 0;
    writeln!(out, "{:>8} {:>8} {:>6}  {:<16} FILE", "PID", "PARENT", "UID", "COMMAND")?;
    let deadline = Instant::now() + Duration::from_secs_f64(args.seconds);
    loop {
        show_new(&object, &mut shown, out)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(POLL));
    }
    show_totals(&object, out)
}

fn make_events() -> Result<()> {
    for _ in 0..3 {
        Command::new("true").status().context("start `true`")?;
    }
    Command::new("uname").output().context("start `uname`")?;
    Ok(())
}

/// Prints the executions from number `shown` on.
fn show_new(object: &Object, shown: &mut u64, out: &mut impl Write) -> Result<()> {
    let recent: Array<Execution> = object.map("recent")?.typed()?;
    let size = u64::from(recent.len());
    let executions: u64 = object.global("executions")?;
    if executions - *shown > size {
        writeln!(out, "    ... {} executions came too fast", executions - *shown - size)?;
        *shown = executions - size;
    }
    while *shown < executions {
        let slot = u32::try_from(*shown % size)?;
        let it = recent.get(slot)?.context("the ring has its size")?;
        let (command, file) = (text(&it.comm), text(&it.filename));
        // The program counts before it writes: this one may come with the next look.
        if it.at_ns == 0 {
            break;
        }
        writeln!(out, "{:>8} {:>8} {:>6}  {command:<16} {file}", it.pid, it.parent_tgid, it.uid)?;
        *shown += 1;
    }
    Ok(())
}

fn show_totals(object: &Object, out: &mut impl Write) -> Result<()> {
    let by_name: HashMap<[u8; 16], u64> = object.map("by_name")?.typed()?;
    let mut totals = by_name.iter().collect::<Result<Vec<_>, _>>()?;
    totals.sort_by_key(|(command, times)| (std::cmp::Reverse(*times), *command));
    writeln!(out, "\n{:<16} TIMES", "COMMAND")?;
    for (command, times) in totals {
        writeln!(out, "{:<16} {times:>5}", text(&command))?;
    }
    let (seen, ignored): (u64, u64) = (object.global("executions")?, object.global("ignored")?);
    Ok(writeln!(out, "\n{seen} executions seen, {ignored} ignored")?)
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

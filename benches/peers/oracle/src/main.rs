//! Asks libbpf what it does with object files: opens each, loads it whole as its autoload flags say, then tries each
//! program alone in a fresh open. Nothing is attached and nothing is pinned. One JSON line per file.
//!
//! Each file is handled by a child process that can be ended: a crash or a program on which the verifier chews for
//! longer than the timeout is reported as such and the next program is tried by the next child.

mod libbpf;
mod report;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use crate::libbpf::Object;
use crate::report::{Event, File as Report, Program, Step};

#[derive(Parser)]
#[command(about = "What libbpf does with BPF object files, one JSON line per file")]
struct Args {
    /// Seconds for each step: open, whole load, and each program.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
    /// Where to write (default: standard output).
    #[arg(long)]
    output: Option<PathBuf>,
    /// A file that names object files, one a line, in addition to those given.
    #[arg(long)]
    list: Option<PathBuf>,
    /// Internal: handle one file in this process, beginning with this step.
    #[arg(long, hide = true)]
    child_from: Option<usize>,
    objects: Vec<String>,
}

fn main() -> Result<()> {
    let mut args = Args::parse();
    if let Some(list) = &args.list {
        let text = std::fs::read_to_string(list).with_context(|| format!("read {}", list.display()))?;
        args.objects.extend(text.lines().map(str::to_owned));
    }
    if let Some(from) = args.child_from {
        let path = args.objects.first().context("no object named")?;
        return child(path, from);
    }
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).with_context(|| format!("create {}", path.display()))?,
        )),
        None => Box::new(io::stdout().lock()),
    };
    for path in &args.objects {
        let report = ask(path, Duration::from_secs(args.timeout))?;
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// Step 0 is the open, step 1 the whole load, step 2 + n program n.
fn child(path: &str, from: usize) -> Result<()> {
    libbpf::collect_warnings();
    let mut out = io::stdout().lock();
    let mut tell = |event: &Event| -> Result<()> {
        serde_json::to_writer(&mut out, event)?;
        writeln!(out)?;
        Ok(out.flush()?)
    };
    let (object, step) = Object::open(path);
    let rows = object.as_ref().map(Object::programs).unwrap_or_default();
    if from == 0 {
        tell(&Event::Opened { step, programs: rows.clone() })?;
    }
    let Some(object) = object else { return Ok(()) };
    if from <= 1 {
        tell(&Event::Loaded(object.load()))?;
    }
    drop(object);
    for (index, mut row) in rows.into_iter().enumerate().skip(from.saturating_sub(2)) {
        match Object::open(path) {
            (Some(object), _) => object.load_alone(index, &mut row),
            (None, step) => (row.errno, row.error) = (step.errno, step.error),
        }
        tell(&Event::Tried { index, program: row })?;
    }
    Ok(())
}

/// How a child ended before it had told everything.
enum End {
    Died(String),
    TimedOut,
}

fn ask(path: &str, timeout: Duration) -> Result<Report> {
    let mut report = Report { file: path.to_owned(), libbpf: libbpf::version(), ..Report::default() };
    let mut step = 0;
    loop {
        let (mut process, events) = start(path, step)?;
        let end = loop {
            match events.recv_timeout(timeout) {
                Ok(Event::Opened { step: open, programs }) => {
                    report.open = open;
                    report.programs = programs;
                    step = 1;
                }
                Ok(Event::Loaded(load)) => {
                    report.load = load;
                    step = 2;
                }
                Ok(Event::Tried { index, program }) => {
                    if let Some(row) = report.programs.get_mut(index) {
                        *row = program;
                    }
                    step = index + 3;
                }
                Err(RecvTimeoutError::Timeout) => break End::TimedOut,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = process.wait()?;
                    break End::Died(status.to_string());
                }
            }
            let finished = step >= 1 && !report.open.ok || step >= report.programs.len() + 2;
            if finished {
                process.wait()?;
                return Ok(report);
            }
        };
        let why = match end {
            End::TimedOut => format!("timed out after {} s", timeout.as_secs()),
            End::Died(status) => format!("libbpf's process died: {status}"),
        };
        let _ = process.kill();
        process.wait()?;
        match step {
            0 => {
                report.open = Step { error: Some(why), ..Step::default() };
                return Ok(report);
            }
            1 => report.load = Step { error: Some(why), ..Step::default() },
            _ => {
                if let Some(row) = report.programs.get_mut(step - 2) {
                    *row = Program { error: Some(why), ..row.clone() };
                }
            }
        }
        step += 1;
        if step >= report.programs.len() + 2 {
            return Ok(report);
        }
    }
}

fn start(path: &str, step: usize) -> Result<(Child, Receiver<Event>)> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--child-from", &step.to_string(), "--", path])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = process.stdout.take().context("the child has no standard output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str(&line) else { break };
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    Ok((process, receiver))
}

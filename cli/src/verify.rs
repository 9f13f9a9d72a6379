//! `skep verify`: each object in a process of its own, which can crash or be ended without harm to the others.

mod worker;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{inspect, out};

pub(crate) use worker::{WorkerArgs, work};

/// Arguments of `skep verify`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object per file, as soon as the file is done.
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds that one program, or the object as a whole, may take.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", value_parser = seconds)]
    timeout: f64,
    /// Print the verifier's whole log of programs that do not load.
    #[arg(long, conflicts_with = "json")]
    log: bool,
    #[command(flatten)]
    reading: out::OpenArgs,
    /// Object files.
    #[arg(required = true)]
    objects: Vec<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86400.0 => Ok(seconds),
        _ => Err("give seconds between 0 and 86400".into()),
    }
}

/// What is known of a file.
#[derive(Serialize, Default)]
struct File {
    file: String,
    open: Open,
    load: Load,
    programs: Vec<Program>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
struct Open {
    ok: bool,
    us: u64,
    error: Option<String>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
struct Load {
    ok: bool,
    us: u64,
    errno: Option<i32>,
    error: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
struct Program {
    name: String,
    section: String,
    #[serde(rename = "type")]
    prog_type: String,
    autoload: bool,
    ok: bool,
    errno: Option<i32>,
    error: Option<String>,
    instructions: Option<u64>,
    verified_instructions: Option<u32>,
    tag: Option<String>,
    us: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    log: Option<String>,
}

/// A line that a worker prints.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// The object was opened, or not; then these are its programs, not yet tried.
    Opened(Open, Vec<Program>),
    /// The whole object was loaded, or not.
    Loaded(Load),
    /// One program was tried.
    Tried(Program),
}

const TIMED_OUT: i32 = 110;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut all = true;
    for path in &args.objects {
        let file = verify(path, args)?;
        all &= file.open.ok && file.load.ok && file.programs.iter().all(|program| program.ok);
        if args.json {
            out::json(&file)?;
        } else {
            out::text(&page(&file))?;
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Drives workers until every step of the object has a result.
fn verify(path: &Path, args: &Args) -> anyhow::Result<File> {
    let limit = Duration::from_secs_f64(args.timeout);
    let mut file = File { file: inspect::name(path), ..File::default() };
    // Step 0 is the whole object, step n+1 the n-th program.
    let mut step = 0;
    let mut opened = false;
    let mut pending: VecDeque<Program> = VecDeque::new();
    loop {
        let mut worker = Worker::start(path, step, args)?;
        let ended = loop {
            match worker.next(limit) {
                Ok(Event::Opened(open, programs)) => {
                    if !opened {
                        opened = true;
                        pending = programs.into();
                        file.open = open;
                    }
                }
                Ok(Event::Loaded(load)) => {
                    file.load = load;
                    step += 1;
                }
                Ok(Event::Tried(program)) => {
                    file.programs.push(program);
                    pending.pop_front();
                    step += 1;
                }
                Err(end) => break end,
            }
        };
        let what = worker.finish(&ended, if opened { "the verifier" } else { "reading the file" });
        if !opened {
            file.open.error = Some(what.clone());
        }
        if !file.open.ok {
            file.load.error = file.open.error.clone();
            return Ok(file);
        }
        if step > 0 && pending.is_empty() {
            return Ok(file);
        }
        // The worker ended in the middle of a step: note it, and let another go on behind it.
        let errno = matches!(ended, End::TimedOut).then_some(TIMED_OUT);
        if step == 0 {
            file.load = Load { errno, error: Some(what), us: limit_us(&ended, limit), ..Load::default() };
        } else if let Some(mut program) = pending.pop_front() {
            (program.errno, program.error, program.us) = (errno, Some(what), limit_us(&ended, limit));
            file.programs.push(program);
        }
        step += 1;
        if pending.is_empty() && step > 0 {
            return Ok(file);
        }
    }
}

fn limit_us(ended: &End, limit: Duration) -> u64 {
    if matches!(ended, End::TimedOut) { limit.as_micros() as u64 } else { 0 }
}

/// Why no further line comes from a worker.
enum End {
    TimedOut,
    Closed,
    Garbled(String),
}

struct Worker {
    child: Child,
    lines: Receiver<std::io::Result<String>>,
}

impl Worker {
    fn start(path: &Path, step: usize, args: &Args) -> anyhow::Result<Worker> {
        let me = std::env::current_exe().context("find the skep program itself")?;
        let mut command = Command::new(me);
        command.arg("verify-worker").arg("--from").arg(step.to_string());
        if args.log {
            command.arg("--log");
        }
        if args.reading.strict {
            command.arg("--strict");
        }
        command.arg("--").arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start a process to load in")?;
        let stdout: ChildStdout = child.stdout.take().context("read what the process says")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { child, lines })
    }

    fn next(&mut self, limit: Duration) -> Result<Event, End> {
        match self.lines.recv_timeout(limit) {
            Ok(Ok(line)) => serde_json::from_str(&line).map_err(|error| End::Garbled(error.to_string())),
            Ok(Err(error)) => Err(End::Garbled(error.to_string())),
            Err(RecvTimeoutError::Timeout) => Err(End::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(End::Closed),
        }
    }

    /// Ends the worker, which did `what`, and says what became of it.
    fn finish(mut self, ended: &End, what: &str) -> String {
        if !matches!(ended, End::Closed) {
            // It may have ended by itself meanwhile.
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        match (ended, status) {
            (End::TimedOut, _) => format!("timed out: {what} took longer than --timeout allows"),
            (End::Garbled(why), _) => format!("the loading process said nonsense: {why}"),
            (End::Closed, Ok(status)) if status.success() => "the loading process said nothing".into(),
            (End::Closed, Ok(status)) => format!("the loading process ended with {status}"),
            (End::Closed, Err(error)) => format!("the loading process was lost: {error}"),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The first line of an error, without the program that the row names already.
fn about<'e>(program: &Program, error: &'e str) -> &'e str {
    let line = first_line(error);
    let named = format!("program `{}` ({}): ", program.name, program.prog_type);
    line.split_once(&named).map_or(line, |(_, rest)| rest)
}

fn page(file: &File) -> String {
    let mut page = match &file.open.error {
        Some(error) => return format!("{}: {error}\n", file.file),
        None => format!("{}: opened in {} µs, ", file.file, file.open.us),
    };
    match &file.load.error {
        None => page.push_str(&format!("loaded as a whole in {} µs\n", file.load.us)),
        Some(error) => page.push_str(&format!("does not load as a whole: {}\n", first_line(error))),
    }
    let rows: Vec<Vec<String>> = file
        .programs
        .iter()
        .map(|program| {
            vec![
                if program.ok { "ok" } else { "FAILED" }.to_owned(),
                program.name.clone(),
                program.section.clone(),
                program.prog_type.clone(),
                match (&program.error, program.instructions) {
                    (Some(error), _) => about(program, error).to_owned(),
                    (None, instructions) => format!(
                        "{} instructions, {} verified, {} µs",
                        instructions.unwrap_or(0),
                        program.verified_instructions.unwrap_or(0),
                        program.us
                    ),
                },
            ]
        })
        .collect();
    page.push_str(&out::columns(&rows));
    for program in file.programs.iter().filter(|program| !program.ok) {
        let more: Vec<&str> = program.error.iter().flat_map(|error| error.lines().skip(1)).collect();
        if !more.is_empty() || program.log.is_some() {
            page.push_str(&format!("{}:\n", program.name));
            more.iter().for_each(|line| page.push_str(&format!("  {}\n", line.trim_start())));
            program.log.iter().for_each(|log| page.push_str(log));
        }
    }
    page
}

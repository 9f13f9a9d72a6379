//! What libbpf and skep ask of the kernel for BPF objects, side by side, as JSON lines.
//!
//! Both make their calls of bpf(2) through one function, which notes them, so the two are written down by the same hand.
//! `pages` loads objects with both; `mutants` gives both objects with something wrong in them.

mod attr;
mod child;
mod differences;
mod mutate;
mod ours;
mod page;
mod tap;
mod tape;
mod theirs;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::child::Loader;
use crate::differences::{Counts, Difference};

#[derive(Parser)]
#[command(about = "What libbpf and skep ask of the kernel for BPF objects, side by side")]
struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Loads objects with both and writes what each asked for. Whole, into the running kernel; where it or a loader
    /// refuses that, with nobody to refuse; and where a loader does, program by program.
    Pages(Common),
    /// Gives both mutants of objects and writes what each says. Nothing reaches the kernel.
    Mutants {
        #[command(flatten)]
        common: Common,
        /// How many of each object.
        #[arg(long, default_value_t = 50)]
        each: u64,
    },
    /// Prints what one of them asks for: what differs can be looked at as a whole.
    Load {
        #[arg(long)]
        loader: Loader,
        /// Of the running kernel; otherwise nobody refuses.
        #[arg(long)]
        running: bool,
        /// The number of a program to load alone.
        #[arg(long)]
        only: Option<usize>,
        object: String,
    },
    #[command(hide = true)]
    Programs {
        #[arg(long)]
        loader: Loader,
        object: String,
    },
    #[command(hide = true)]
    Mutate {
        #[arg(long)]
        from: u64,
        #[arg(long)]
        to: u64,
        object: String,
    },
}

#[derive(clap::Args)]
struct Common {
    /// A file that names object files, one a line.
    #[arg(long)]
    list: PathBuf,
    /// Where to write.
    #[arg(long)]
    output: PathBuf,
    /// Seconds for each step.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
}

impl Common {
    fn objects(&self) -> Result<Vec<String>> {
        let text =
            std::fs::read_to_string(&self.list).with_context(|| format!("read {}", self.list.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn output(&self) -> Result<BufWriter<File>> {
        let file = File::create(&self.output).with_context(|| format!("create {}", self.output.display()))?;
        Ok(BufWriter::new(file))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn main() -> Result<()> {
    match Args::parse().command {
        Action::Pages(common) => {
            let mut out = common.output()?;
            for object in common.objects()? {
                for line in pages(&object, common.timeout())? {
                    serde_json::to_writer(&mut out, &line)?;
                    writeln!(out)?;
                }
            }
            Ok(out.flush()?)
        }
        Action::Mutants { common, each } => {
            let mut out = common.output()?;
            for object in common.objects()? {
                mutants(&object, each, common.timeout(), &mut out)?;
            }
            Ok(out.flush()?)
        }
        Action::Load { loader, running, only, object } => child::load(loader, running, only, &object),
        Action::Programs { loader, object } => child::programs(loader, &object),
        Action::Mutate { from, to, object } => child::mutants(&object, from..to),
    }
}

/// The two loaders' answers to one question.
struct Both {
    libbpf: Value,
    skep: Value,
}

impl Both {
    fn ask(arguments: &[&str], object: &str, timeout: Duration) -> Result<Both> {
        let start = |loader: &str| {
            let mut arguments = arguments.to_vec();
            arguments.extend(["--loader", loader, "--", object]);
            Worker::start(&arguments)
        };
        let (libbpf, skep) = (start("libbpf")?, start("skep")?);
        let end = |mut worker: Worker| -> Result<Value> {
            let answer = worker.next(timeout);
            let died = worker.end()?;
            Ok(answer.unwrap_or_else(|| json!({ "error": died })))
        };
        Ok(Both { libbpf: end(libbpf)?, skep: end(skep)? })
    }

    /// Whether both have something to show.
    fn complete(&self) -> bool {
        [&self.libbpf, &self.skep].iter().all(|answer| answer.get("page").is_some())
    }

    fn names(answer: &Value) -> Vec<String> {
        let names = answer["page"]["names"].as_array();
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// What was compared, and what differs.
    fn line(&self, object: &str, how: &str) -> Result<Value> {
        let said = |answer: &Value| answer["error"].as_str().map(str::to_owned);
        let (counts, differences) = match (&self.libbpf["page"], &self.skep["page"]) {
            (Value::Null, Value::Null) => (Counts::default(), Vec::new()),
            (Value::Null, _) | (_, Value::Null) => {
                let said = |answer| said(answer).unwrap_or_else(|| "ok".to_owned());
                let difference = Difference {
                    what: "refusal".to_owned(),
                    item: how.to_owned(),
                    libbpf: said(&self.libbpf),
                    skep: said(&self.skep),
                };
                (Counts::default(), vec![difference])
            }
            (libbpf, skep) => (Counts::of(libbpf), differences::between(libbpf, skep)),
        };
        Ok(json!({
            "file": object,
            "how": how,
            "counts": counts,
            "differences": differences,
            "refused": { "libbpf": said(&self.libbpf), "skep": said(&self.skep) },
        }))
    }
}

fn pages(object: &str, timeout: Duration) -> Result<Vec<Value>> {
    let whole = Both::ask(&["load", "--running"], object, timeout)?;
    if whole.complete() {
        return Ok(vec![whole.line(object, "loaded")?]);
    }
    let whole = Both::ask(&["load"], object, timeout)?;
    let mut lines = vec![whole.line(object, "accepted")?];
    if whole.complete() {
        return Ok(lines);
    }
    let names = Both::ask(&["programs"], object, timeout)?;
    let (theirs, ours) = (Both::names(&names.libbpf), Both::names(&names.skep));
    let same = names.complete() && theirs == ours;
    lines.push(names.line(object, "opened")?);
    if same {
        for (at, name) in ours.iter().enumerate() {
            let alone = Both::ask(&["load", "--only", &at.to_string()], object, timeout)?;
            lines.push(alone.line(object, &format!("alone {name}"))?);
        }
    }
    Ok(lines)
}

fn mutants(object: &str, each: u64, timeout: Duration, out: &mut impl Write) -> Result<()> {
    let mut from = 0;
    while from < each {
        let mut worker =
            Worker::start(&["mutate", "--from", &from.to_string(), "--to", &each.to_string(), object])?;
        let mut pending: Option<Value> = None;
        while let Some(event) = worker.next(timeout) {
            let line = pending.get_or_insert_with(|| json!({ "file": object }));
            for (key, value) in event.as_object().into_iter().flatten() {
                line[key] = value.clone();
            }
            if line.get("libbpf").is_some() {
                from = line["number"].as_u64().unwrap_or(from) + 1;
                serde_json::to_writer(&mut *out, line)?;
                writeln!(out)?;
                pending = None;
            }
        }
        let died = worker.end()?;
        // Without one that was begun, there are no more.
        let Some(mut line) = pending else { break };
        from = line["number"].as_u64().unwrap_or(from) + 1;
        let who = if line.get("skep").is_some() { "libbpf" } else { "skep" };
        line[who] = json!(format!("died: {died}"));
        if who == "skep" {
            line["libbpf"] = json!("not asked");
        }
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    Ok(())
}

/// A child that prints a JSON value a line.
struct Worker {
    process: Child,
    values: Receiver<Value>,
    late: bool,
}

impl Worker {
    fn start(arguments: &[&str]) -> Result<Worker> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = process.stdout.take().context("the child has no standard output")?;
        let (sender, values) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else { break };
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { process, values, late: false })
    }

    /// The next value, unless the child ended or is late.
    fn next(&mut self, timeout: Duration) -> Option<Value> {
        let next = self.values.recv_timeout(timeout);
        self.late = matches!(next, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
        next.ok()
    }

    /// Ends the child, and says how it ended.
    fn end(&mut self) -> Result<String> {
        if self.late {
            let _ = self.process.kill();
            self.process.wait()?;
            return Ok("took too long".to_owned());
        }
        Ok(self.process.wait()?.to_string())
    }
}

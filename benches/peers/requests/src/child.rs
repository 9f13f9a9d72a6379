//! What a process of its own does: a loader may crash on what it is given.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::tap::Kernel;
use crate::{differences, mutate, ours, tap, theirs};

/// Who loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Loader {
    Libbpf,
    Skep,
}

/// One answer of a child.
pub(crate) fn answer<T: Serialize>(result: Result<T, String>) -> Result<Value> {
    Ok(match result {
        Ok(page) => json!({ "page": serde_json::to_value(page)? }),
        Err(error) => json!({ "error": error }),
    })
}

fn tell(value: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Loads one object and prints what was asked for it.
pub(crate) fn load(loader: Loader, running: bool, only: Option<usize>, path: &str) -> Result<()> {
    theirs::collect_warnings();
    tap::ask(if running { Kernel::Running } else { Kernel::Nobody });
    let page = match loader {
        Loader::Libbpf => theirs::load(path, only),
        Loader::Skep => ours::load(path, only),
    };
    tell(&answer(page)?)
}

/// Prints the names of an object's programs.
pub(crate) fn programs(loader: Loader, path: &str) -> Result<()> {
    theirs::collect_warnings();
    let names = match loader {
        Loader::Libbpf => theirs::programs(path),
        Loader::Skep => ours::programs(path),
    };
    tell(&answer(names.map(|names| json!({ "names": names })))?)
}

/// Gives mutants of an object to both loaders. Before each step it says which one it is about to try.
pub(crate) fn mutants(path: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    theirs::collect_warnings();
    // What a file asks for may be more than there is.
    let most = libc::rlimit { rlim_cur: 8 << 30, rlim_max: 8 << 30 };
    // SAFETY: `most` outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const most) };
    let base = std::fs::read(path).with_context(|| format!("read {path}"))?;
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    for number in numbers {
        let Some((bytes, what)) = mutate::mutant(&base, number) else { break };
        tell(&json!({ "number": number, "what": what }))?;
        tap::ask(Kernel::Nobody);
        let ours = match ours::parse(name, &bytes) {
            Ok(spec) => ours::load_spec(spec, None).map_err(|error| format!("load: {error}")),
            Err(error) => Err(format!("open: {error}")),
        };
        tell(&json!({ "number": number, "skep": outcome(&ours) }))?;
        tap::ask(Kernel::Nobody);
        let theirs = match theirs::Object::parse(name, &bytes) {
            Ok(object) => object.load_all(None).map_err(|error| format!("load: {error}")),
            Err(error) => Err(format!("open: {error}")),
        };
        let mut line = json!({ "number": number, "libbpf": outcome(&theirs) });
        if let (Ok(theirs), Ok(ours)) = (&theirs, &ours) {
            let found = differences::between(&serde_json::to_value(theirs)?, &serde_json::to_value(ours)?);
            line["differences"] = serde_json::to_value(found)?;
        }
        tell(&line)?;
    }
    Ok(())
}

/// What went wrong, or that nothing did.
fn outcome<T>(result: &Result<T, String>) -> &str {
    result.as_ref().err().map_or("ok", String::as_str)
}

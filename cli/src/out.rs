//! Output: lines of text and of JSON.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use skep::Spec;
use skep::spec::SpecOptions;

/// Prints one JSON object on a line of its own, and sends it on its way.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    write(&line)
}

fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("write the standard output")
}

/// Prints text.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    write(text.as_bytes())
}

/// An error as a program reads it.
#[derive(Serialize)]
struct Failed<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'e str>,
    ok: bool,
    error: &'e str,
}

/// Tells of an error where it is read: in JSON of who asked for that, and else as text.
pub(crate) fn failed(as_json: bool, file: Option<&Path>, error: &anyhow::Error) {
    let text = format!("{error:#}");
    let file = file.map(Path::to_string_lossy);
    let told = as_json && json(&Failed { file: file.as_deref(), ok: false, error: &text }).is_ok();
    if !told {
        complain(&text);
    }
}

/// Tells people of an error.
pub(crate) fn complain(text: &str) {
    // Who closed this does not want to know.
    let _ = writeln!(io::stderr(), "skep: {text}");
}

/// A command line that cannot be followed, and how to mend it.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why an object was not opened, for who has told which it is.
pub(crate) fn reason(error: &skep::Error) -> String {
    match error {
        skep::Error::ParseFile { source, .. } => chain(source),
        skep::Error::Read { source, .. } => format!("cannot be read: {source}"),
        other => chain(other),
    }
}

/// Whether the reader of the output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// How object files are read.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct OpenArgs {
    /// Refuse what libbpf refuses: map definitions of before BTF, in sections `maps` and `maps/NAME`.
    #[arg(long)]
    pub(crate) strict: bool,
}

impl OpenArgs {
    /// Reads an object file.
    pub(crate) fn open(self, path: &Path) -> Result<Spec, skep::Error> {
        SpecOptions::new().strict_maps(self.strict).open(path)
    }
}

/// A title over rows in columns; nothing when there are none.
pub(crate) fn part(title: &str, rows: &[Vec<String>]) -> String {
    if rows.is_empty() { String::new() } else { format!("{title}\n{}", columns(rows)) }
}

/// Text in columns, each as wide as its widest cell; the last is not padded.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        text.push_str("  ");
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if at + 1 < row.len() {
                let pad = width - cell.chars().count(); // width is that of the widest cell
                text.extend(std::iter::repeat_n(' ', pad + 2));
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

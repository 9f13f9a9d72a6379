//! Compares what skep asks of the kernel with what libbpf asks, byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::compare::explain;
use super::compare::known::{Difference, Known};
use super::fetch::object_path;
use super::manifest::Manifest;
use super::run::peer;
use super::{archive, root};

/// The arguments of `corpus deep`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Look at each n-th object of sources that have more than a hundred, and at all of the others.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Seconds for each load.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
    /// Compare what was asked before, without asking again.
    #[arg(long)]
    again: bool,
    /// How many groups of differences to print.
    #[arg(long, default_value_t = 40)]
    groups: usize,
}

/// Sources with more objects than this are sampled.
const LARGE: usize = 100;

/// `corpus deep`.
pub(super) fn run(dir: &Path, manifest: &Manifest, known: &Path, args: &Args) -> Result<u8> {
    let output = dir.join("deep.jsonl");
    if !args.again {
        let mut sample = testdata_objects()?;
        sample.extend(sampled(dir, manifest, args.every.max(1)));
        let arguments = ["pages", "--timeout", &args.timeout.to_string()].map(str::to_owned);
        ask(&arguments, &sample, dir, &output)?;
    }
    let text = fs::read_to_string(&output).with_context(|| format!("read {}", output.display()))?;
    let Compared { ways, counts, differences } = compare(&text)?;
    println!("objects     {}", ways.objects);
    println!("  loaded by both as a whole        {}", ways.loaded);
    println!("  made by both, nobody refusing    {}", ways.accepted);
    println!("  compared program by program      {}", ways.objects - ways.loaded - ways.accepted);
    println!("    programs that both make        {}", ways.alone);
    println!("    programs that both refuse      {}", ways.refused);
    for (what, count) in &counts {
        println!("{:<12}{count} compared", what.replace('_', " "));
    }
    Ok(if explain(&Known::read(known)?, &differences, args.groups) { 0 } else { 1 })
}

/// Every n-th object of the large sources, and all of the small ones.
fn sampled(dir: &Path, manifest: &Manifest, every: usize) -> Vec<PathBuf> {
    let of = |source| -> Vec<PathBuf> {
        let source: &super::manifest::Source = source;
        let step = if source.objects.len() > LARGE { every } else { 1 };
        source.objects.keys().step_by(step).map(|key| object_path(dir, source, key)).collect()
    };
    let mut all: Vec<PathBuf> = manifest.sources.iter().flat_map(of).collect();
    all.retain(|path| path.exists());
    all
}

/// The little-endian objects of `testdata`.
pub(super) fn testdata_objects() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root().join("testdata"))?;
    let mut all: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    all.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".o") && !name.ends_with(".eb.o")
    });
    all.sort();
    Ok(all)
}

/// Runs the program that asks both loaders. The result of the last time stays until this one is complete.
pub(super) fn ask(arguments: &[String], objects: &[PathBuf], dir: &Path, output: &Path) -> Result<()> {
    let program = peer("kernel-requests")?;
    let (list, part) = (dir.join("requests.list"), output.with_extension("part"));
    let lines: Vec<String> = objects.iter().map(|path| format!("{}\n", path.display())).collect();
    fs::create_dir_all(dir)?;
    fs::write(&list, lines.concat())?;
    let mut ask = Command::new(program);
    ask.args(arguments).arg("--list").arg(list).arg("--output").arg(&part);
    archive::run(&mut ask)?;
    fs::rename(part, output)?;
    println!("{} objects: {}", objects.len(), output.display());
    Ok(())
}

/// The path of an object inside the corpus, or inside this tree.
pub(super) fn inside(path: &str) -> String {
    let inside = |part| path.split_once(part).map(|(_, rest)| rest);
    match (inside("/objects/"), inside("/testdata/")) {
        (Some(key), _) => key.to_owned(),
        (None, Some(key)) => format!("testdata/{key}"),
        (None, None) => path.to_owned(),
    }
}

/// A line of what was asked.
#[derive(Deserialize)]
struct Line {
    file: String,
    how: String,
    counts: BTreeMap<String, usize>,
    differences: Vec<Found>,
    refused: Refused,
}

#[derive(Deserialize)]
struct Refused {
    libbpf: Option<String>,
    skep: Option<String>,
}

/// Something that differs, as it is written.
#[derive(Deserialize)]
pub(super) struct Found {
    what: String,
    item: String,
    libbpf: String,
    skep: String,
}

impl Found {
    /// As the list of reasons knows it: the item is the program, how it was loaded the type.
    pub(super) fn difference(self, file: &str, how: &str) -> Difference {
        Difference {
            what: self.what,
            file: inside(file),
            program: self.item,
            section: String::new(),
            kind: how.to_owned(),
            error: format!("libbpf: {}; skep: {}", self.libbpf, self.skep),
        }
    }
}

/// How many objects and programs were compared in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ways {
    objects: usize,
    loaded: usize,
    accepted: usize,
    alone: usize,
    refused: usize,
}

struct Compared {
    ways: Ways,
    counts: BTreeMap<String, usize>,
    differences: Vec<Difference>,
}

fn compare(text: &str) -> Result<Compared> {
    let mut compared = Compared { ways: Ways::default(), counts: BTreeMap::new(), differences: Vec::new() };
    let mut last = String::new();
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let ways = &mut compared.ways;
        if line.file != last {
            ways.objects += 1;
            last.clone_from(&line.file);
        }
        let both = line.refused.libbpf.is_none() && line.refused.skep.is_none();
        let neither = line.refused.libbpf.is_some() && line.refused.skep.is_some();
        match &*line.how {
            "loaded" => ways.loaded += usize::from(both),
            "accepted" => ways.accepted += usize::from(both),
            "opened" => {}
            _ => {
                ways.alone += usize::from(both);
                ways.refused += usize::from(neither);
            }
        }
        for (what, count) in line.counts {
            *compared.counts.entry(what).or_default() += count;
        }
        let found = line.differences.into_iter().map(|found| found.difference(&line.file, &line.how));
        compared.differences.extend(found);
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"file":"/c/objects/s/x.o","how":"loaded","counts":{"maps":2,"instructions":9},"differences":[{"what":"maps made flags","item":"1 .kconfig","libbpf":"1152","skep":"128"}],"refused":{"libbpf":null,"skep":null}}
{"file":"/c/objects/s/y.o","how":"accepted","counts":{},"differences":[],"refused":{"libbpf":"no","skep":"no"}}
{"file":"/c/objects/s/y.o","how":"opened","counts":{},"differences":[],"refused":{"libbpf":null,"skep":null}}
{"file":"/c/objects/s/y.o","how":"alone p","counts":{"maps":1,"instructions":2},"differences":[],"refused":{"libbpf":null,"skep":null}}
{"file":"/c/objects/s/y.o","how":"alone q","counts":{},"differences":[],"refused":{"libbpf":"no","skep":"no"}}
{"file":"/c/objects/s/y.o","how":"alone r","counts":{},"differences":[{"what":"refusal","item":"alone r","libbpf":"ok","skep":"no such map"}],"refused":{"libbpf":null,"skep":"no such map"}}
"#;

    #[test]
    fn counts_what_was_compared() {
        let compared = compare(LINES).unwrap();
        let expected = Ways { objects: 2, loaded: 1, accepted: 0, alone: 1, refused: 1 };
        assert_eq!(compared.ways, expected);
        assert_eq!(compared.counts["maps"], 3);
        assert_eq!(compared.counts["instructions"], 11);
    }

    #[test]
    fn a_difference_needs_a_reason() {
        let differences = compare(LINES).unwrap().differences;
        let found: Vec<_> = differences.iter().map(|d| (&*d.what, &*d.file, &*d.program)).collect();
        assert_eq!(found, [("maps made flags", "s/x.o", "1 .kconfig"), ("refusal", "s/y.o", "alone r")]);
        let list = r#"[{"why": "not yet", "what": "refusal", "error": "libbpf: ok; skep: no such map"}]"#;
        let (unexplained, stale) = Known::parse(list).unwrap().explain(&differences);
        assert_eq!(unexplained, [&differences[0]]);
        assert_eq!(stale, Vec::<String>::new());
    }
}

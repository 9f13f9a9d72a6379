//! Compares what skep loads with what libbpf loads.

pub(super) mod known;
mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::known::{Difference, Known};
use self::lines::{File, Program};

/// The arguments of `corpus compare`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What libbpf did (default: DIR/oracle.jsonl).
    #[arg(long)]
    oracle: Option<PathBuf>,
    /// What skep did (default: DIR/skep.jsonl).
    #[arg(long)]
    skep: Option<PathBuf>,
    /// The least share, in percent, of the programs that libbpf loads which skep must load too.
    #[arg(long, default_value_t = 99.0)]
    at_least: f64,
    /// How many groups of reasons to print.
    #[arg(long, default_value_t = 40)]
    groups: usize,
}

/// How many of what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    files: usize,
    files_libbpf_opens: usize,
    files_both_open: usize,
    files_skep_opens: usize,
    whole_libbpf: usize,
    whole_both: usize,
    both: usize,
    same_tag: usize,
    libbpf_only: usize,
    skep_only: usize,
    neither: usize,
}

/// `corpus compare`.
pub(super) fn run(dir: &Path, known: &Path, args: &Args) -> Result<u8> {
    let read =
        |given: &Option<PathBuf>, default: &str| lines::read(given.as_deref().unwrap_or(&dir.join(default)));
    let (oracle, skep) = (read(&args.oracle, "oracle.jsonl")?, read(&args.skep, "skep.jsonl")?);
    let known = Known::read(known)?;
    let Compared { counts, differences, ahead } = compare(&oracle, &skep);
    print(&counts);
    print_groups(&ahead.iter().collect::<Vec<_>>(), args.groups);

    let explained = explain(&known, &differences, args.groups);
    let loaded = counts.both + counts.libbpf_only;
    let share = percent(counts.both, loaded);
    let enough = share >= args.at_least && loaded > 0;
    if !enough {
        println!("skep loads {share:.1}% of what libbpf loads; at least {:.1}% are asked for", args.at_least);
    }
    Ok(if enough && explained { 0 } else { 1 })
}

/// Prints what no line of the list explains, and lines that explain nothing. Answers whether there was neither.
pub(super) fn explain(known: &Known, differences: &[Difference], most: usize) -> bool {
    let (unexplained, stale) = known.explain(differences);
    println!("{} differences, {} unexplained", differences.len(), unexplained.len());
    print_groups(&unexplained, most);
    for entry in &stale {
        println!("stale, matches nothing: {entry}");
    }
    unexplained.is_empty() && stale.is_empty()
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn print(counts: &Counts) {
    let c = counts;
    let loaded = c.both + c.libbpf_only;
    println!("files                      {}", c.files);
    println!("  libbpf opens             {}", c.files_libbpf_opens);
    println!("  skep opens               {} ({} of libbpf's)", c.files_skep_opens, c.files_both_open);
    println!("  libbpf loads whole       {}", c.whole_libbpf);
    println!("  of which skep too        {} ({:.1}%)", c.whole_both, percent(c.whole_both, c.whole_libbpf));
    println!("programs                   {}", loaded + c.skep_only + c.neither);
    println!("  libbpf loads             {loaded}");
    println!("  of which skep too        {} ({:.1}%)", c.both, percent(c.both, loaded));
    println!("    with the same tag      {} ({:.1}%)", c.same_tag, percent(c.same_tag, c.both));
    println!("  libbpf only              {}", c.libbpf_only);
    println!("  skep only                {}", c.skep_only);
    println!("  neither                  {}", c.neither);
}

/// The result of a comparison.
struct Compared {
    counts: Counts,
    /// Everything in which skep falls short of libbpf.
    differences: Vec<Difference>,
    /// What only skep loads, with libbpf's error.
    ahead: Vec<Difference>,
}

fn compare(oracle: &BTreeMap<String, File>, skep: &BTreeMap<String, File>) -> Compared {
    let mut counts = Counts::default();
    let (mut differences, mut ahead) = (Vec::new(), Vec::new());
    for (path, theirs) in oracle {
        counts.files += 1;
        counts.files_libbpf_opens += usize::from(theirs.open.ok);
        counts.whole_libbpf += usize::from(theirs.load.ok);
        let nothing = File::missing();
        let ours = skep.get(path).unwrap_or(&nothing);
        counts.files_skep_opens += usize::from(ours.open.ok);
        counts.files_both_open += usize::from(ours.open.ok && theirs.open.ok);
        counts.whole_both += usize::from(ours.load.ok && theirs.load.ok);
        if theirs.open.ok && !ours.open.ok {
            differences.push(Difference {
                what: "open".to_owned(),
                file: path.clone(),
                error: ours.open.error(),
                ..Difference::default()
            });
        } else if theirs.load.ok && !ours.load.ok {
            differences.push(Difference {
                what: "whole".to_owned(),
                file: path.clone(),
                error: ours.load.error(),
                ..Difference::default()
            });
        }
        let mut ours_by_name: BTreeMap<(&str, &str), Vec<&Program>> = BTreeMap::new();
        for program in ours.programs.iter().rev() {
            ours_by_name.entry((&program.section, &program.name)).or_default().push(program);
        }
        for theirs in &theirs.programs {
            let found = ours_by_name.get_mut(&(&*theirs.section, &*theirs.name)).and_then(Vec::pop);
            let difference = |what: &str, error: String| Difference {
                what: what.to_owned(),
                file: path.clone(),
                program: theirs.name.clone(),
                section: theirs.section.clone(),
                kind: theirs.kind.clone(),
                error,
            };
            match (theirs.ok, found) {
                (true, Some(found)) if found.ok => {
                    counts.both += 1;
                    if found.tag == theirs.tag {
                        counts.same_tag += 1;
                    } else {
                        let tags = format!("tag {:?}, libbpf's is {:?}", found.tag, theirs.tag);
                        differences.push(difference("tag", tags));
                    }
                }
                (true, found) => {
                    counts.libbpf_only += 1;
                    let error = match found {
                        Some(found) => found.error(),
                        None if ours.open.ok => "skep names no such program".to_owned(),
                        None => format!("open: {}", ours.open.error()),
                    };
                    differences.push(difference("load", error));
                }
                (false, Some(found)) if found.ok => {
                    counts.skep_only += 1;
                    ahead.push(difference("skep only", theirs.error()));
                }
                (false, _) => counts.neither += 1,
            }
        }
        let unknown_to_libbpf = ours_by_name.values().flatten();
        for program in unknown_to_libbpf {
            if program.ok {
                counts.skep_only += 1;
                ahead.push(Difference {
                    what: "skep only".to_owned(),
                    file: path.clone(),
                    program: program.name.clone(),
                    section: program.section.clone(),
                    kind: program.kind.clone(),
                    error: theirs.open.error(),
                });
            } else {
                counts.neither += 1;
            }
        }
    }
    Compared { counts, differences, ahead }
}

fn print_groups(differences: &[&Difference], most: usize) {
    for (shape, (count, example)) in groups(differences).into_iter().take(most) {
        println!(
            "{count:6}  {shape}\n        e.g. {} {} ({})",
            example.file, example.program, example.section
        );
    }
}

/// Differences whose errors are alike, the largest group first.
fn groups<'a>(differences: &[&'a Difference]) -> Vec<(String, (usize, &'a Difference))> {
    let mut groups: BTreeMap<String, (usize, &Difference)> = BTreeMap::new();
    for difference in differences {
        let shape = format!("{}: {}", difference.what, shape(&difference.error));
        groups.entry(shape).or_insert((0, difference)).0 += 1;
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    groups
}

/// An error without what differs from program to program: quoted names, numbers, and how it goes on after a while.
pub(super) fn shape(error: &str) -> String {
    let mut shape = String::new();
    let mut quote = None;
    for c in error.lines().next().unwrap_or_default().chars().take(300) {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => continue,
            None if matches!(c, '`' | '\'' | '"') => {
                quote = Some(c);
                shape.push('…');
                continue;
            }
            None if c.is_ascii_digit() => {
                if !shape.ends_with('#') {
                    shape.push('#');
                }
            }
            None => shape.push(c),
        }
    }
    shape.chars().take(160).collect()
}

#[cfg(test)]
mod tests;

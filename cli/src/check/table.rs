//! The page for people: objects in rows, kernels with the same outcome in one column.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::pair::{Missing, Pair, Verdict};
use crate::out;

/// Columns that stand side by side.
const COLUMNS: usize = 12;
/// Kernels of a column that are named.
const NAMES: usize = 8;

/// Kernels for which every object comes out the same.
struct Class<'c> {
    label: String,
    kernels: Vec<&'c str>,
    pairs: &'c [Pair],
}

pub(super) fn page(columns: &[Vec<Pair>], guarded: bool) -> String {
    let classes = classes(columns);
    let mut page = String::from("kernels\n");
    let prefix = common_directory(columns.iter().filter_map(|column| Some(column.first()?.btf.as_str())));
    let files = common_directory(columns.first().into_iter().flatten().map(|pair| pair.file.as_str()));
    let rows: Vec<Vec<String>> = classes
        .iter()
        .map(|class| vec![class.label.clone(), count(class.kernels.len()), names(&class.kernels, &prefix)])
        .collect();
    page.push_str(&out::columns(&rows));
    let objects = classes.first().map_or(0, |class| class.pairs.len());
    for block in classes.chunks(COLUMNS) {
        let mut rows = vec![
            std::iter::once(String::new()).chain(block.iter().map(|class| class.label.clone())).collect(),
        ];
        for at in 0..objects {
            let mut row: Vec<String> = Vec::new();
            for pair in block.iter().filter_map(|class| class.pairs.get(at)) {
                if row.is_empty() {
                    row.push(pair.file.strip_prefix(&files).unwrap_or(&pair.file).to_owned());
                }
                row.push(cell(pair));
            }
            rows.push(row);
        }
        let title = if files.is_empty() { "objects".into() } else { format!("objects in {files}") };
        page.push_str(&out::part(&title, &rows));
    }
    for at in 0..objects {
        details(&mut page, &classes, at, guarded);
    }
    page
}

fn count(kernels: usize) -> String {
    if kernels == 1 { "1 kernel".into() } else { format!("{kernels} kernels") }
}

/// `A` to `Z`, then `AA` and so on.
fn label(mut nth: usize) -> String {
    let mut label = String::new();
    loop {
        label.insert(0, char::from(b'A' + (nth % 26) as u8)); // less than 26
        match (nth / 26).checked_sub(1) {
            Some(rest) => nth = rest,
            None => return label,
        }
    }
}

/// Puts kernels together, in the order of the first of each.
fn classes(columns: &[Vec<Pair>]) -> Vec<Class<'_>> {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut classes: Vec<Class<'_>> = Vec::new();
    for column in columns {
        let outcome: String = column.iter().map(outcome).collect();
        let name = column.first().map_or("", |pair| pair.btf.as_str());
        let nth = *known.entry(outcome).or_insert(classes.len());
        match classes.get_mut(nth) {
            Some(class) => class.kernels.push(name),
            None => classes.push(Class { label: label(nth), kernels: vec![name], pairs: column }),
        }
    }
    classes
}

/// What tells one outcome from another: names, not ids, which differ from kernel to kernel.
fn outcome(pair: &Pair) -> String {
    let mut text = format!("{:?} {:?} {:?}\n", pair.verdict, pair.error, pair.unknown);
    for program in &pair.programs {
        let other = program.error.as_ref().filter(|_| program.missing.is_empty());
        text.push_str(&format!("{} {:?} {other:?}\n", program.name, program.verdict));
        for missing in &program.missing {
            text.push_str(&format!("{} {:?} {:?}\n", missing.what, missing.instruction, missing.guarded));
        }
    }
    text
}

fn cell(pair: &Pair) -> String {
    let of = |verdict| pair.programs.iter().filter(|program| program.verdict == verdict).count();
    match pair.verdict {
        Verdict::Ok => "ok".into(),
        Verdict::Unknown => "?".into(),
        Verdict::Fails if pair.programs.is_empty() => "FAILS".into(),
        Verdict::Fails => format!("FAILS {}/{}", of(Verdict::Fails), pair.programs.len()),
    }
}

/// What all names begin with, up to a slash.
fn common_directory<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let parent = |name: &str| name.rfind('/').map_or(String::new(), |slash| name[..=slash].to_owned()); // a slash is one byte
    let Some(first) = names.next() else { return String::new() };
    let mut prefix = parent(first);
    for name in names {
        while !name.starts_with(&prefix) {
            prefix.pop();
            prefix = parent(&prefix);
        }
    }
    prefix
}

fn names(kernels: &[&str], prefix: &str) -> String {
    let short = |name: &&str| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        name.strip_suffix(".btf").unwrap_or(name).to_owned()
    };
    let mut names: Vec<String> = kernels.iter().take(NAMES).map(short).collect();
    if let Some(more) = kernels.len().checked_sub(NAMES).filter(|&more| more > 0) {
        names.push(format!("and {more} more, the last {}", kernels.last().map_or(String::new(), short)));
    }
    names.join(", ")
}

/// What an object lacks, each thing once with the columns that lack it.
fn details(page: &mut String, classes: &[Class<'_>], at: usize, guarded: bool) {
    // By program and text, in the order of the first column that has it.
    let mut lines: Vec<(String, String, Vec<&str>)> = Vec::new();
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    for class in classes {
        let Some(pair) = class.pairs.get(at) else { continue };
        let mut add = |program: String, text: String| {
            let nth = *known.entry((program.clone(), text.clone())).or_insert(lines.len());
            match lines.get_mut(nth) {
                Some((_, _, labels)) if labels.last() != Some(&class.label.as_str()) => {
                    labels.push(&class.label);
                }
                Some(_) => {}
                None => lines.push((program, text, vec![&class.label])),
            }
        };
        if pair.programs.is_empty() || pair.programs.iter().all(|program| program.error == pair.error) {
            pair.error.iter().for_each(|error| add(String::new(), error.clone()));
        }
        for (reason, names) in &pair.unknown_by_reason() {
            add(String::new(), format!("{reason}: {}", names.join(", ")));
        }
        for program in &pair.programs {
            let name = || format!("{} ({})", program.name, program.section);
            let listed = program.missing.iter().filter(|missing| guarded || missing.guarded != Some(true));
            for missing in listed {
                add(name(), line(missing));
            }
            if program.missing.is_empty() && program.error != pair.error {
                program.error.iter().for_each(|error| add(name(), error.clone()));
            }
        }
    }
    let file = classes.first().and_then(|class| class.pairs.get(at)).map_or("", |pair| pair.file.as_str());
    if lines.is_empty() {
        return;
    }
    page.push_str(&format!("{file}\n"));
    // What concerns the whole object first.
    lines.sort_by_key(|(program, ..)| !program.is_empty());
    let mut last = String::new();
    for (program, text, labels) in lines_by_program(lines) {
        if program != last {
            page.push_str(&format!("  {program}\n"));
            last.clone_from(&program);
        }
        let indent = if program.is_empty() { "  " } else { "    " };
        page.push_str(&format!("{indent}{}: {text}\n", labels.join(" ")));
    }
}

/// Lines of one program together, programs in the order of their first line.
fn lines_by_program<L>(lines: Vec<(String, String, L)>) -> Vec<(String, String, L)> {
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    for (program, ..) in &lines {
        let next = order.len();
        order.entry(program.clone()).or_insert(next);
    }
    let mut lines = lines;
    lines.sort_by_key(|(program, ..)| order.get(program).copied());
    lines
}

fn line(missing: &Missing) -> String {
    let kind = match missing.kind {
        "field_size" => "size of field",
        "enum_value" => "enum value",
        "attach_target" => "attach target",
        kind => kind,
    };
    let mut line = match missing.kind {
        "field_size" => format!("{kind} {} differs", missing.what),
        _ => format!("no {kind} {}", missing.what),
    };
    match missing.guarded {
        Some(true) => line.push_str(", guarded"),
        Some(false) => {}
        None => line.push_str(", perhaps guarded by what is not known"),
    }
    if let Some(source) = &missing.source {
        let file = Path::new(&source.file).file_name().unwrap_or_default().to_string_lossy();
        line.push_str(&format!(", wanted at {file}:{}:{}: {}", source.line, source.column, source.text));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_go_on_behind_z() {
        let labels = [0, 1, 25, 26, 27, 51, 52, 701, 702].map(label);
        assert_eq!(labels, ["A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]);
    }
}

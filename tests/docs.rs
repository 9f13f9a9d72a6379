//! What the documents say of the tree is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "testdata/README.md",
    "testdata/corpus/README.md",
    "fuzz/README.md",
    "benches/peers/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text between backquotes in prose and tables; blocks of code are left out.
fn code_spans(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
    }
    spans
}

/// Whether a piece of code is meant as a path from the root of the repository.
fn is_path(span: &str, folders: &BTreeSet<String>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let first = span.split('/').next().unwrap_or_default();
    // Made while testing, not kept.
    let made = span.starts_with("fuzz/corpus");
    span.contains('/') && span.chars().all(plain) && folders.contains(first) && !made && !has_name(span)
}

/// Whether a part of it stands for names, as in `fuzz/seeds/TARGET` or `foo/tests.rs`.
fn has_name(span: &str) -> bool {
    span.split(['/', '.']).any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()))
}

/// The directories at the root, of what is kept in git.
fn folders() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).expect("the repository can be read");
    entries
        .map(|entry| entry.expect("the repository can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect()
}

/// The rows of the table whose header begins with `header`: the text between backquotes of each of their cells.
fn table<'t>(text: &'t str, header: &str) -> Vec<Vec<Vec<&'t str>>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.split('|').skip(1).map(|cell| cell.split('`').skip(1).step_by(2).collect()).collect()
        })
        .collect()
}

/// The name and the skep crates that a manifest's `[dependencies]` have.
fn manifest(folder: &str) -> (String, BTreeSet<String>) {
    let text = read(&format!("{folder}/Cargo.toml"));
    let section = |header: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| *line != header).skip(1);
        lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
    };
    let name = section("[package]").iter().find_map(|line| {
        let name = line.strip_prefix("name = \"")?;
        Some(name.trim_end_matches('"').to_owned())
    });
    let ours = section("[dependencies]").into_iter().filter_map(|line| {
        let name = line.split(['.', ' ', '=']).next()?;
        (name == "skep" || name.starts_with("skep-")).then(|| name.to_owned())
    });
    (name.unwrap_or_else(|| panic!("{folder} has no name")), ours.collect())
}

/// The strings of a list in the workspace's manifest.
fn list(name: &str) -> BTreeSet<String> {
    let text = read("Cargo.toml");
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name} = ["))).expect("the manifest has it");
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the headings of a document are linked by.
fn anchors(document: &str) -> BTreeSet<String> {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
    headings.map(anchor).collect()
}

#[test]
fn paths_exist() {
    let folders = folders();
    let mut found = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let spans = code_spans(&text);
        for span in spans.iter().filter(|span| is_path(span, &folders)) {
            found += 1;
            assert!(root().join(span).exists(), "{document}: `{span}` is not there");
        }
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { document } else { file };
            let there = link.starts_with("https:") || root().join(file).exists();
            assert!(there, "{document}: {link} is not there");
            assert!(place.is_empty() || anchors(file).contains(place), "{document}: {link} is not there");
        }
    }
    assert!(found > 30, "only {found} paths");
}

#[test]
fn the_map_of_folders_is_the_tree() {
    let readme = read("README.md");
    let rows = table(&readme, "| folder |");
    let named = |cell: &[&str]| cell.first().map_or("", |name| name.trim_end_matches('/')).to_owned();
    let listed: BTreeSet<String> = rows.iter().map(|row| named(&row[0])).collect();
    assert_eq!(listed, folders());

    let crates: BTreeMap<String, String> = rows.iter().map(|row| (named(&row[0]), named(&row[1]))).collect();
    assert_eq!(crates["src"], "skep");
    for member in list("members") {
        let (name, _) = manifest(&member);
        assert!(crates[&member] == name || member == "xtask", "{member} is {name}");
    }
}

#[test]
fn the_arrows_are_those_of_the_manifests() {
    let architecture = read("ARCHITECTURE.md");
    let mut drawn = BTreeMap::new();
    for row in table(&architecture, "| crate |") {
        let to: BTreeSet<String> = row[1].iter().map(|&name| name.to_owned()).collect();
        drawn.insert(row[0][0].to_owned(), to);
    }
    let mut there: BTreeMap<_, _> = list("members").iter().map(|member| manifest(member)).collect();
    there.extend([manifest(".")]);
    assert_eq!(drawn, there);
}

#[test]
fn the_examples_are_named() {
    let readme = read("README.md");
    for entry in fs::read_dir(root().join("examples")).expect("there are examples") {
        let name = entry.expect("examples can be read").file_name().to_string_lossy().into_owned();
        if let Some(example) = name.strip_suffix(".rs") {
            assert!(readme.contains(&format!("cargo run --example {example}")), "{example}");
        }
    }
}

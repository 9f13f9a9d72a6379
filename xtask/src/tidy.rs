//! `cargo xtask tidy`: the rules of the project that cargo does not know.

mod rust;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// Lines that a source file may have; its tests stand beside it.
const LONGEST: usize = 600;
/// Files that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];
/// Sources that no object is made of, each with its reason.
const NO_OBJECT: &[(&str, &str)] = &[
    ("testdata/oracle/oracle.c", "a program that asks libbpf"),
    ("testdata/core/oracle.c", "a program that asks libbpf's CO-RE engine"),
];
/// Directories of the machines that people and CI work on: the first component of a path.
const MACHINE: &[&str] = &["work", "farm", "root"];

/// A file that git knows, or would take.
struct File {
    name: String,
    bytes: Vec<u8>,
}

/// Checks every rule on every file; all that is wrong is printed.
pub(crate) fn check() -> Result<()> {
    let files = files()?;
    let mut wrong = Vec::new();
    for file in &files {
        wrong.extend(machine_paths(file));
        if file.name.ends_with(".rs") {
            wrong.extend(length(file));
            let text = String::from_utf8_lossy(&file.bytes);
            let rules = rust::check(&file.name, &text).with_context(|| format!("read {}", file.name))?;
            wrong.extend(rules.into_iter().map(|rule| format!("{}:{rule}", file.name)));
        }
        if file.name.ends_with("Cargo.lock") || file.name.starts_with(".cargo/") {
            wrong.extend(registries(file));
        }
    }
    wrong.extend(objects(&files));
    for line in &wrong {
        println!("{line}");
    }
    match wrong.len() {
        0 => Ok(()),
        1 => bail!("one thing is not tidy"),
        n => bail!("{n} things are not tidy"),
    }
}

fn files() -> Result<Vec<File>> {
    let root = workspace::root()?;
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .current_dir(&root)
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let mut files = Vec::new();
    for name in String::from_utf8(output.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // A deleted file is listed until the deletion is committed.
        if path.is_file() {
            files.push(File { name: name.to_owned(), bytes: fs::read(path)? });
        }
    }
    Ok(files)
}

/// Whether a Rust file holds tests only.
fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.split('/').any(|part| part == "tests")
}

fn length(file: &File) -> Option<String> {
    let lines = file.bytes.iter().filter(|&&byte| byte == b'\n').count();
    let listed = LONGER.iter().any(|(name, _)| *name == file.name);
    if lines > LONGEST && !is_test(&file.name) && !listed {
        return Some(format!("{}: {lines} lines, more than {LONGEST}: divide it", file.name));
    }
    (lines <= LONGEST && listed)
        .then(|| format!("{}: is no longer too long: take it off the list", file.name))
}

/// Absolute paths of someone's machine, also inside of objects.
fn machine_paths(file: &File) -> Option<String> {
    let found = MACHINE.iter().find_map(|dir| {
        let path = format!("/{dir}/");
        memchr::memmem::find_iter(&file.bytes, path.as_bytes())
            .find(|&at| {
                let before = at.checked_sub(1).and_then(|before| file.bytes.get(before));
                before.is_none_or(|&byte| !byte.is_ascii_alphanumeric() && !b"_.-/}".contains(&byte))
            })
            .map(|at| (at, path))
    });
    let (at, path) = found?;
    let line = file.bytes.iter().take(at).filter(|&&byte| byte == b'\n').count() + 1;
    Some(format!("{}:{line}: `{path}` is a path of one machine", file.name))
}

/// Sources of crates other than crates.io.
fn registries(file: &File) -> Vec<String> {
    const CRATES_IO: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";
    let text = String::from_utf8_lossy(&file.bytes);
    let wrong = |line: &str| match line.strip_prefix("source = ") {
        Some(source) => source != CRATES_IO,
        None => ["[source", "[registr", "replace-with"].iter().any(|start| line.starts_with(start)),
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| wrong(line))
        .map(|(at, line)| format!("{}:{}: not crates.io: {line}", file.name, at + 1))
        .collect()
}

/// Each C source of a BPF object says what it is for and lies beside its object, and each object beside its source.
fn objects(files: &[File]) -> Vec<String> {
    let exists = |name: &str| files.iter().any(|file| file.name == name);
    let mut wrong = Vec::new();
    for file in
        files.iter().filter(|file| file.name.starts_with("testdata/") || file.name.starts_with("examples/"))
    {
        if let Some(stem) = file.name.strip_suffix(".c") {
            if !file.bytes.starts_with(b"//") && !file.bytes.starts_with(b"/*") {
                wrong.push(format!("{}:1: the first line is to say why the file exists", file.name));
            }
            // Several sources linked into one object are a directory of its name.
            let linked =
                Path::new(stem).parent().map(|dir| format!("{}.o", dir.display())).unwrap_or_default();
            let listed = NO_OBJECT.iter().any(|(name, _)| *name == file.name);
            if !listed && !exists(&format!("{stem}.o")) && !exists(&linked) {
                wrong.push(format!("{}: its object {stem}.o is missing", file.name));
            }
        } else if let Some(stem) = file.name.strip_suffix(".o") {
            let stem = stem.strip_suffix(".eb").unwrap_or(stem);
            let source = |ending: &str| exists(&format!("{stem}.{ending}"));
            let linked = files
                .iter()
                .any(|other| other.name.starts_with(&format!("{stem}/")) && other.name.ends_with(".c"));
            if !source("c") && !source("s") && !linked {
                wrong.push(format!("{}: its source is missing", file.name));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> File {
        File { name: name.into(), bytes: text.into() }
    }

    #[test]
    fn long_files_are_found_but_not_long_tests() {
        let long = "\n".repeat(LONGEST + 1);
        assert!(length(&file("src/a.rs", &long)).is_some());
        assert!(length(&file("src/a.rs", &long[1..])).is_none());
        assert!(length(&file("src/a/tests.rs", &long)).is_none());
        assert!(length(&file("tests/golden.rs", &long)).is_none());
    }

    #[test]
    fn paths_of_machines_are_found() {
        let dir = MACHINE[0];
        for bad in [format!("/{dir}/main"), format!("x\n\"/{dir}/x\""), format!("\0/{dir}/x")] {
            assert!(machine_paths(&file("a", &bad)).is_some(), "{bad}");
        }
        for good in [format!("https://a.b/{dir}/x"), format!("./{dir}/x"), format!("/{dir}ing/x")] {
            assert!(machine_paths(&file("a", &good)).is_none(), "{good}");
        }
    }

    #[test]
    fn only_crates_io_is_a_registry() {
        let good = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert!(registries(&file("Cargo.lock", good)).is_empty());
        assert_eq!(registries(&file("Cargo.lock", "source = \"sparse+https://mirror.example/\"\n")).len(), 1);
        assert_eq!(
            registries(&file(".cargo/config.toml", "[source.crates-io]\nreplace-with = \"x\"\n")).len(),
            2
        );
    }

    #[test]
    fn objects_and_sources_belong_together() {
        let source = |name: &str| file(name, "// why\n");
        let good = [source("testdata/a.c"), file("testdata/a.o", ""), file("testdata/a.eb.o", "")];
        assert!(objects(&good).is_empty());
        let linked = [source("testdata/l/one.c"), source("testdata/l/two.c"), file("testdata/l.o", "")];
        assert!(objects(&linked).is_empty());
        assert_eq!(objects(&[source("testdata/a.c")]).len(), 1);
        assert_eq!(objects(&[file("testdata/a.eb.o", "")]).len(), 1);
        assert_eq!(objects(&[file("testdata/a.c", "int x;"), file("testdata/a.o", "")]).len(), 1);
    }
}

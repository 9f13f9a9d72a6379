//! Compiles C files of a package into objects.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use super::archive;
use super::manifest::{Compile, Kind, Source};

/// The compiler. Its full version is in the manifest, since other versions make other bytes.
const CLANG: &str = "clang-19";

/// What the compiler here says of itself; `None` when there is none.
pub(super) fn compiler() -> Option<String> {
    let out = Command::new(CLANG).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    out.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Unpacks what the compiler reads of `package` into `trees/NAME`, once.
pub(super) fn unpack(source: &Source, package: &Path, trees: &Path) -> Result<()> {
    let tree = trees.join(&source.name);
    // The name says which package it is, so that a new version is unpacked anew.
    let done = trees.join(format!("{}.{}.done", source.name, source.sha256));
    if done.exists() {
        return Ok(());
    }
    for dir in [&tree, &trees.join(format!("{}.package", source.name))] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    match source.compile.as_ref().filter(|compile| !compile.tar.is_empty()) {
        None => archive::unpack(source.kind, package, &tree)?,
        Some(compile) => {
            let outer = trees.join(format!("{}.package", source.name));
            archive::unpack(source.kind, package, &outer)?;
            fs::create_dir_all(&tree)?;
            let tar = outer.join(&compile.tar);
            let mut command = Command::new("tar");
            archive::run(command.arg("-xf").arg(tar).arg("-C").arg(&tree).args(&compile.members))?;
            fs::remove_dir_all(outer)?;
        }
    }
    fs::write(done, "")?;
    Ok(())
}

/// Compiles into `out`. `wanted` are the objects to make (all when empty, and then a file that does not compile is
/// passed over). Returns how many were made and how many files did not compile.
pub(super) fn compile(
    source: &Source,
    recipe: &Compile,
    trees: &Path,
    wanted: &BTreeMap<String, String>,
    out: &Path,
) -> Result<(usize, usize)> {
    let mut cwd = trees.join(&source.name);
    if source.kind == Kind::Crate {
        cwd.push(format!("{}-{}", source.package, source.version));
    }
    cwd.push(&recipe.cwd);
    let ups = cwd.strip_prefix(trees)?.components().count();
    let flags: Vec<String> = recipe
        .flags
        .iter()
        .map(|flag| {
            recipe.needs.iter().fold(flag.clone(), |flag, need| {
                flag.replace(&format!("{{{need}}}"), &format!("{}{need}", "../".repeat(ups)))
            })
        })
        .collect();
    let files = sources(&cwd, recipe)?;
    let jobs: Vec<(&PathBuf, String)> = files
        .iter()
        .map(|file| (file, object_name(file, &recipe.suffix)))
        .filter(|(_, object)| wanted.is_empty() || wanted.contains_key(object))
        .collect();
    ensure!(!jobs.is_empty(), "{}: nothing to compile in {}", source.name, cwd.display());
    fs::create_dir_all(out)?;
    let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(None);
    let work = || -> Result<()> {
        while let Some((file, object)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let status = Command::new("nice")
                .args(["-n", "10", CLANG, "--target=bpf", "-g", "-O2", "-fdebug-compilation-dir=."])
                .args(&flags)
                .arg("-c")
                .arg(file)
                .arg("-o")
                .arg(out.join(object))
                .current_dir(&cwd)
                .stderr(Stdio::null())
                .status()
                .context("run clang")?;
            if status.success() {
                made.fetch_add(1, Ordering::Relaxed);
            } else {
                ensure!(wanted.is_empty(), "{}: {} does not compile", source.name, file.display());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                if let (Err(error), Ok(mut failed)) = (work(), failed.lock()) {
                    *failed = Some(error);
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let made = made.into_inner();
    Ok((made, jobs.len().saturating_sub(made)))
}

/// The files to compile, relative to `cwd`, sorted.
fn sources(cwd: &Path, recipe: &Compile) -> Result<Vec<PathBuf>> {
    let dir = cwd.join(&recipe.files);
    let mut files = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(&recipe.suffix)) {
            files.push(Path::new(&recipe.files).join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn object_name(file: &Path, suffix: &str) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!("{}.o", name.strip_suffix(suffix).unwrap_or(&name))
}

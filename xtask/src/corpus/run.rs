//! Runs the two loaders over the corpus.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::fetch::object_path;
use super::manifest::Manifest;
use super::{archive, root};

/// Builds a program of `benches/peers`, the only place where libbpf is compiled.
pub(super) fn peer(package: &str) -> Result<PathBuf> {
    let peers = root().join("benches/peers");
    let mut build = Command::new("cargo");
    archive::run(build.args(["build", "--release", "-p", package]).current_dir(&peers))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(peers.join("target"), PathBuf::from);
    Ok(target.join("release").join(package))
}

/// Every object of the manifest that is here, in the manifest's order.
pub(super) fn objects(dir: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let of = |source| -> Vec<PathBuf> {
        let source: &super::manifest::Source = source;
        source.objects.keys().map(|key| object_path(dir, source, key)).collect()
    };
    let mut all: Vec<PathBuf> = manifest.sources.iter().flat_map(of).collect();
    all.retain(|path| path.exists());
    ensure!(!all.is_empty(), "no objects in {}: run `cargo xtask corpus fetch`", dir.display());
    Ok(all)
}

/// `corpus list`.
pub(super) fn list(dir: &Path, manifest: &Manifest) -> Result<u8> {
    for path in objects(dir, manifest)? {
        println!("{}", path.display());
    }
    Ok(0)
}

/// `corpus oracle`.
pub(super) fn oracle(dir: &Path, manifest: &Manifest, timeout: u64) -> Result<u8> {
    let program = peer("libbpf-oracle")?;
    // Beside the old result, which stays until this one is complete.
    let (list, part, output) = (dir.join("objects.list"), dir.join("oracle.part"), dir.join("oracle.jsonl"));
    let objects = objects(dir, manifest)?;
    let lines: Vec<String> = objects.iter().map(|path| format!("{}\n", path.display())).collect();
    fs::write(&list, lines.concat())?;
    let mut ask = Command::new(program);
    ask.args(["--timeout", &timeout.to_string()]).arg("--list").arg(list).arg("--output").arg(&part);
    archive::run(&mut ask)?;
    fs::rename(part, &output)?;
    println!("{} objects: {}", objects.len(), output.display());
    Ok(0)
}

/// The `skep` that was given, or the one of this tree.
pub(super) fn skep_command(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(skep) = given {
        return Ok(skep);
    }
    let mut build = Command::new("cargo");
    archive::run(build.args(["build", "-p", "skep-cli"]).current_dir(root()))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    Ok(target.join("debug/skep"))
}

/// `corpus verify`.
pub(super) fn verify(dir: &Path, manifest: &Manifest, skep: Option<PathBuf>, timeout: u64) -> Result<u8> {
    let skep = skep_command(skep)?;
    let objects = objects(dir, manifest)?;
    let (part, output) = (dir.join("skep.part"), dir.join("skep.jsonl"));
    let out = File::create(&part).with_context(|| format!("create {}", part.display()))?;
    // In parts, since there is a limit to what fits on a command line.
    for some in objects.chunks(500) {
        let status = Command::new(&skep)
            .args(["verify", "--json", "--timeout", &timeout.to_string()])
            .args(some)
            .stdout(out.try_clone()?)
            .status()
            .with_context(|| format!("run {}", skep.display()))?;
        // 1: something did not load.
        ensure!(matches!(status.code(), Some(0 | 1)), "skep verify: {status}");
    }
    fs::rename(part, &output)?;
    println!("{} objects: {}", objects.len(), output.display());
    Ok(0)
}

/// `corpus tools`.
pub(super) fn tools(dir: &Path) -> Result<u8> {
    let mut test = Command::new("cargo");
    test.args(["test", "-p", "skep", "--test", "corpus_tools"]).current_dir(root());
    archive::run(test.env("SKEP_CORPUS_DIR", dir).env("SKEP_REQUIRE_CORPUS", "1"))?;
    Ok(0)
}

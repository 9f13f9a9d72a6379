//! Gets packages, each with its own registry's client, and unpacks them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::manifest::{Kind, Source};

/// A package that was asked for.
pub(super) enum Got {
    Package(PathBuf),
    /// The registry does not have it (any more).
    Gone,
}

/// Downloads `source` into `dir` unless it is there already, and checks its hash if the manifest knows it.
pub(super) fn get(source: &Source, dir: &Path) -> Result<Got> {
    fs::create_dir_all(dir)?;
    let path = dir.join(file_name(source)?);
    if path.exists() && (source.sha256.is_empty() || sha256(&[&path])?.concat() == source.sha256) {
        return Ok(Got::Package(path));
    }
    let there = match source.kind {
        Kind::Deb => get_deb(source, &path)?,
        Kind::Crate => get_crate(source, &path)?,
        Kind::Wheel => get_wheel(source, dir)?,
    };
    if !there {
        return Ok(Got::Gone);
    }
    let hash = sha256(&[&path])?.concat();
    ensure!(
        source.sha256.is_empty() || source.sha256 == hash,
        "{}: {} has SHA-256 {hash}, the manifest says {}",
        source.name,
        path.display(),
        source.sha256
    );
    Ok(Got::Package(path))
}

fn file_name(source: &Source) -> Result<String> {
    if source.kind == Kind::Crate {
        return Ok(format!("{}-{}.crate", source.package, source.version));
    }
    let name = Path::new(&source.path).file_name().and_then(OsStr::to_str);
    Ok(name.with_context(|| format!("{}: no path in the manifest", source.name))?.to_owned())
}

fn get_deb(source: &Source, path: &Path) -> Result<bool> {
    let part = path.with_extension("part");
    for mirror in mirrors()? {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), source.path.replace('+', "%2B"));
        let mut status = download(&url, &part)?;
        if status == Some(HTTP_ERROR) && part.exists() {
            // What was there was no part of this file, or all of it.
            fs::remove_file(&part)?;
            status = download(&url, &part)?;
        }
        match status {
            Some(0) => {
                fs::rename(&part, path)?;
                return Ok(true);
            }
            Some(HTTP_ERROR) => {}
            _ => bail!("curl failed for {}: {status:?}", source.path),
        }
    }
    Ok(false)
}

/// curl's exit code when the server answered with an error.
const HTTP_ERROR: i32 = 22;

/// Downloads a file, going on where an earlier download stopped.
fn download(url: &str, part: &Path) -> Result<Option<i32>> {
    let mut curl = Command::new("curl");
    curl.args(["-fsSL", "--retry", "3", "-C", "-", "-o"]).arg(part).arg(url);
    Ok(curl.stderr(Stdio::null()).status().context("run curl")?.code())
}

/// The Debian archives to ask: `SKEP_DEBIAN_MIRRORS` (separated by spaces), else the one that apt is set up with.
fn mirrors() -> Result<Vec<String>> {
    if let Ok(mirrors) = std::env::var("SKEP_DEBIAN_MIRRORS") {
        return Ok(mirrors.split_whitespace().map(str::to_owned).collect());
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let deb822 = read("/etc/apt/sources.list.d/debian.sources");
    let mut from_deb822 =
        deb822.lines().filter_map(|line| line.strip_prefix("URIs:")?.split_whitespace().next());
    let list = read("/etc/apt/sources.list");
    let mut from_list = list
        .lines()
        .filter(|line| line.starts_with("deb "))
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with("http")));
    let mirror = from_deb822.next().or_else(|| from_list.next());
    let mirror = mirror.context("apt knows no Debian archive: set SKEP_DEBIAN_MIRRORS to the URL of one")?;
    Ok(vec![mirror.to_owned()])
}

/// `cargo info` downloads a crate and nothing that it depends on.
fn get_crate(source: &Source, path: &Path) -> Result<bool> {
    let spec = format!("{}@{}", source.package, source.version);
    let dir = path.parent().unwrap_or(path);
    let info = Command::new("cargo")
        .args(["info", "--quiet", &spec])
        .current_dir(dir)
        .output()
        .context("run cargo")?;
    if !info.status.success() {
        let said = String::from_utf8_lossy(&info.stderr);
        ensure!(said.contains("could not find"), "cargo info {spec}: {said}");
        return Ok(false);
    }
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("no home directory")?;
    let file = path.file_name().unwrap_or_default();
    for registry in fs::read_dir(home.join("registry/cache"))? {
        let cached = registry?.path().join(file);
        if cached.exists() {
            fs::copy(cached, path)?;
            return Ok(true);
        }
    }
    bail!("cargo has no {} in its cache after `cargo info {spec}`", file.display())
}

fn get_wheel(source: &Source, dir: &Path) -> Result<bool> {
    let stem = source.path.strip_suffix(".whl").context("not a wheel")?;
    let platform = stem.rsplit('-').next().and_then(|tags| tags.split('.').next()).unwrap_or("any");
    let pip = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--platform",
            platform,
            "-d",
        ])
        .arg(dir)
        .arg(format!("{}=={}", source.package, source.version))
        .output()
        .context("run pip")?;
    if !pip.status.success() {
        let said = String::from_utf8_lossy(&pip.stderr);
        ensure!(said.contains("No matching distribution"), "{}: {said}", source.name);
        return Ok(false);
    }
    Ok(true)
}

/// Unpacks a package into `dir`, which must not exist yet.
pub(super) fn unpack(kind: Kind, package: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut command = match kind {
        Kind::Deb => Command::new("dpkg-deb"),
        Kind::Crate => Command::new("tar"),
        Kind::Wheel => Command::new("python3"),
    };
    match kind {
        Kind::Deb => command.arg("-x").arg(package).arg(dir),
        Kind::Crate => command.arg("-xzf").arg(package).arg("-C").arg(dir),
        Kind::Wheel => command.args(["-m", "zipfile", "-e"]).arg(package).arg(dir),
    };
    run(&mut command)
}

/// Runs a command that must succeed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?} failed: {status}", command.get_program());
    Ok(())
}

/// The SHA-256 of each file, in hexadecimal.
pub(super) fn sha256<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<String>> {
    let mut hashes = Vec::new();
    for some in paths.chunks(256) {
        let out = Command::new("sha256sum")
            .arg("-z")
            .args(some.iter().map(AsRef::as_ref))
            .output()
            .context("run sha256sum")?;
        ensure!(out.status.success(), "sha256sum: {}", String::from_utf8_lossy(&out.stderr));
        let lines = out.stdout.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        hashes.extend(lines.map(|line| String::from_utf8_lossy(line).chars().take(64).collect::<String>()));
    }
    ensure!(hashes.len() == paths.len(), "sha256sum named {} of {} files", hashes.len(), paths.len());
    Ok(hashes)
}

/// Every regular file below `dir`, sorted, without following links.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

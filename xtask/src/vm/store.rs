//! The cache of kernels and tools: Debian packages, fetched with apt and unpacked without installing anything.
//!
//! apt runs with a state of its own for each suite, so that neither the machine's package lists nor its installed
//! packages matter, no privilege is needed, and what arrives is checked as apt always does: the release's signature,
//! then the SHA256 of each package.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::kernel::{Kernel, Release};

/// Part of every path in the cache: a new number leaves old layouts alone.
const LAYOUT: &str = "v1";
/// The suite that the tools below come from.
const TOOLS_SUITE: &str = "trixie";
/// Packages whose dependencies are unpacked with them, so that they run on any x86-64 Linux.
const TOOLS: &[&str] = &["qemu-system-x86", "busybox-static", "lz4", "xz-utils", "zstd"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The cache directory. While it lives, other processes wait before they change the cache.
pub(super) struct Store {
    root: PathBuf,
}

/// The tools, unpacked. They run with the loader and libraries of their own distribution.
pub(super) struct Tools {
    root: PathBuf,
}

impl Store {
    /// Opens `SKEP_VM_DIR`, or `skep-vm` in the user's cache directory.
    pub(super) fn open() -> Result<Self> {
        ensure!(
            cfg!(all(target_arch = "x86_64", target_os = "linux")),
            "virtual machines are set up for x86-64 Linux hosts only"
        );
        let base = match std::env::var_os("SKEP_VM_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => match std::env::var_os("XDG_CACHE_HOME") {
                Some(dir) => PathBuf::from(dir).join("skep-vm"),
                None => {
                    PathBuf::from(std::env::var_os("HOME").context("neither SKEP_VM_DIR nor HOME is set")?)
                        .join(".cache/skep-vm")
                }
            },
        };
        let root = std::path::absolute(base)?.join(LAYOUT);
        fs::create_dir_all(&root)
            .with_context(|| format!("create the cache directory {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where things are kept.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The tools, fetched when they are not there.
    pub(super) fn tools(&self) -> Result<Tools> {
        let root = self.once("tools", |into| {
            let apt = Apt::update(&self.root, TOOLS_SUITE)?;
            apt.unpack_with_dependencies(TOOLS, into)
        })?;
        Ok(Tools { root })
    }

    /// The kernel of a release, fetched when it is not there.
    pub(super) fn kernel(&self, release: &Release, tools: &Tools) -> Result<Kernel> {
        let root = self.once(&format!("kernel-{}", release.name), |into| {
            let apt = Apt::update(&self.root, release.suite)?;
            let version = apt.newest(release.packages[0])?;
            let names: Vec<String> = release.packages.iter().map(|p| p.replace('*', &version)).collect();
            apt.unpack(&names, into)?;
            Kernel::prepare(into, tools)
        })?;
        Kernel::open(&root)
    }

    /// What a release's directory holds, if it was fetched.
    pub(super) fn fetched(&self, release: &Release) -> Option<Kernel> {
        Kernel::open(&self.root.join(format!("kernel-{}", release.name))).ok()
    }

    /// The directory `name`, which `fill` makes when it is missing. It appears under its name only when it is whole.
    fn once(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let done = self.root.join(name);
        if done.exists() {
            return Ok(done);
        }
        let lock = File::create(self.root.join("lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("vm: waiting for another process to fill the cache");
            lock.lock().context("lock the cache")?;
        }
        if done.exists() {
            return Ok(done);
        }
        eprintln!("vm: fetching {name} into {}", self.root.display());
        let partial = self.root.join(format!("{name}.partial"));
        remove_dir(&partial)?;
        fs::create_dir_all(&partial)?;
        fill(&partial).with_context(|| format!("fetch {name}"))?;
        fs::rename(&partial, &done)?;
        Ok(done)
    }
}

impl Tools {
    /// A command that runs the unpacked program `name`.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.loader());
        command.args(self.loader_arguments(name));
        command
    }

    /// The dynamic loader of the tools' own distribution.
    pub(super) fn loader(&self) -> PathBuf {
        self.root.join("usr/lib64/ld-linux-x86-64.so.2")
    }

    /// What the loader is given to run `name`.
    pub(super) fn loader_arguments(&self, name: &str) -> [PathBuf; 3] {
        [
            "--library-path".into(),
            self.root.join("usr/lib/x86_64-linux-gnu"),
            self.root.join("usr/bin").join(name),
        ]
    }

    /// A path inside the unpacked packages.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// Runs `name` as a filter over `input`.
    pub(super) fn filter(&self, name: &str, args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut child = self
            .command(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {name}"))?;
        let mut stdin = child.stdin.take().context("a piped stdin")?;
        let output = std::thread::scope(|scope| {
            // A filter that stops reading early shows in its exit status.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output()
        })?;
        ensure!(output.status.success(), "{name} failed: {}", output.status);
        Ok(output.stdout)
    }
}

/// apt with package lists of its own for one suite.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn update(cache: &Path, suite: &str) -> Result<Self> {
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install Debian's package debian-archive-keyring"
        );
        let apt = Self { home: cache.join("apt").join(suite) };
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.home.join(dir))?;
        }
        let mut failed = None;
        for archive in archives()? {
            let line = format!("deb [arch=amd64 signed-by={KEYRING}] {archive} {suite} main\n");
            fs::write(apt.home.join("sources.list"), line)?;
            match apt.run("apt-get", ["update", "--error-on=any"]) {
                Ok(_) => return Ok(apt),
                // The first one says why best: it is the one that should have it.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.context("no archive to ask")?)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_remove("APT_CONFIG").env("LC_ALL", "C").stdin(Stdio::null());
        let home = self.home.display();
        for option in [
            format!("Dir::State={home}/state"),
            "Dir::State::status=/dev/null".into(),
            format!("Dir::Cache={home}/cache"),
            format!("Dir::Etc::sourcelist={home}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "APT::Sandbox::User=".into(),
            "APT::Install-Recommends=false".into(),
            "APT::Get::Assume-Yes=true".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            // A frozen mirror keeps its old dates; the signature and the hashes still hold.
            "Acquire::Check-Valid-Until=false".into(),
            "Debug::NoLocking=true".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
        let output = self.command(program).args(args).output().with_context(|| {
            format!("run {program}: kernels come from the Debian archive, which needs Debian's package apt")
        })?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `*` stands for in the newest package that matches `pattern`.
    fn newest(&self, pattern: &str) -> Result<String> {
        let (prefix, suffix) = pattern.split_once('*').context("a package pattern has a star")?;
        self.run("apt-cache", ["pkgnames", prefix])?
            .lines()
            .filter_map(|name| name.strip_prefix(prefix)?.strip_suffix(suffix))
            .filter(|version| !version.contains('-'))
            .max_by_key(|version| numbers(version))
            .map(str::to_owned)
            .with_context(|| format!("the archive has no package {pattern}"))
    }

    /// Downloads the packages and unpacks them into one tree.
    fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let debs = into.join("debs");
        fs::create_dir(&debs)?;
        let status = self
            .command("apt-get")
            .args(["download", "-qq"])
            .args(packages)
            .current_dir(&debs)
            .status()
            .context("run apt-get")?;
        ensure!(status.success(), "apt-get download {} failed", packages.join(" "));
        unpack_all(&debs, into)?;
        remove_dir(&debs)
    }

    /// Downloads the packages with all that they depend on and unpacks them into one tree.
    fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        self.run("apt-get", ["install", "-qq", "--download-only"].iter().chain(packages))?;
        let archives = self.home.join("cache/archives");
        unpack_all(&archives, into)?;
        remove_dir(&archives)
    }
}

/// Where suites go that are no longer supported.
const OLD_SUITES: &str = "http://archive.debian.org/debian";

/// The Debian archives to ask, one after the other: those of `SKEP_DEBIAN_MIRRORS` (separated by spaces), else the one
/// that this machine's apt uses and the one of old suites.
fn archives() -> Result<Vec<String>> {
    let named = std::env::var("SKEP_DEBIAN_MIRRORS").unwrap_or_default();
    let named: Vec<String> =
        named.split_whitespace().map(|mirror| mirror.trim_end_matches('/').to_owned()).collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let targets = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output();
    let targets = targets.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mirror = targets.lines().map(|uri| uri.trim_end_matches('/')).find(|uri| uri.ends_with("/debian"));
    let mirror =
        mirror.context("apt on this machine uses no Debian archive: name one in SKEP_DEBIAN_MIRRORS")?;
    Ok(vec![mirror.to_owned(), OLD_SUITES.to_owned()])
}

fn unpack_all(debs: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(debs)? {
        let deb = entry?.path();
        if deb.extension() == Some(OsStr::new("deb")) {
            let status =
                Command::new("dpkg-deb").arg("-x").arg(&deb).arg(into).status().context("run dpkg-deb")?;
            ensure!(status.success(), "dpkg-deb could not unpack {}", deb.display());
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The numbers in a version, which order it well enough among builds of one kernel.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(numbers("107+deb13") > numbers("94+deb13"));
        assert!(numbers("7.2.10+deb14") > numbers("7.2.9+deb14"));
        assert!(numbers("7.10+deb14") > numbers("7.9.3+deb14"));
    }
}

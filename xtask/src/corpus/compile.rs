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

/// Its absolute path, since it runs without `PATH`.
fn compiler_path() -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(CLANG)).find(|path| path.exists());
    let found = found.with_context(|| format!("{CLANG} is not installed"))?;
    found.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
}

/// Where packages are unpacked for the compiler, until this is dropped.
///
/// clang 19 orders some BTF types by the addresses of its own data, and these depend on how long the paths are that it
/// works with. So this directory's path has the same length always, and the compiler gets no others and an empty
/// environment: then it makes the same bytes on the next machine too, as a rule.
pub(super) struct Trees(PathBuf);

impl Trees {
    pub(super) fn new() -> Result<Self> {
        let root = PathBuf::from(format!("/tmp/skep-corpus-{:010}", std::process::id()));
        fs::create_dir(&root).with_context(|| format!("create {}", root.display()))?;
        Ok(Trees(root))
    }

    /// Unpacks what the compiler reads of `package` into a directory named after its source, once.
    pub(super) fn unpack(&self, source: &Source, package: &Path) -> Result<()> {
        let tree = self.0.join(&source.name);
        if tree.exists() {
            return Ok(());
        }
        let Some(compile) = source.compile.as_ref().filter(|compile| !compile.tar.is_empty()) else {
            return archive::unpack(source.kind, package, &tree);
        };
        let outer = self.0.join("package");
        archive::unpack(source.kind, package, &outer)?;
        fs::create_dir(&tree)?;
        let mut tar = Command::new("tar");
        archive::run(
            tar.arg("-xf").arg(outer.join(&compile.tar)).arg("-C").arg(&tree).args(&compile.members),
        )?;
        Ok(fs::remove_dir_all(outer)?)
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        // What is left is only waste.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compiles into `out`. `wanted` are the objects to make (all when empty, and then a file that does not compile is
/// passed over). Returns how many were made and how many files did not compile.
pub(super) fn compile(
    source: &Source,
    recipe: &Compile,
    trees: &Trees,
    wanted: &BTreeMap<String, String>,
    out: &Path,
) -> Result<(usize, usize)> {
    let mut cwd = trees.0.join(&source.name);
    if source.kind == Kind::Crate {
        cwd.push(format!("{}-{}", source.package, source.version));
    }
    cwd.push(&recipe.cwd);
    let ups = cwd.strip_prefix(&trees.0)?.components().count();
    let up = |name: &str| format!("{}{name}", "../".repeat(ups));
    let flags: Vec<String> = recipe
        .flags
        .iter()
        .map(|flag| {
            recipe
                .needs
                .iter()
                .fold(flag.clone(), |flag, need| flag.replace(&format!("{{{need}}}"), &up(need)))
        })
        .collect();
    let files = sources(&cwd, recipe)?;
    let jobs: Vec<(&PathBuf, String)> = files
        .iter()
        .map(|file| (file, object_name(file, &recipe.suffix)))
        .filter(|(_, object)| wanted.is_empty() || wanted.contains_key(object))
        .collect();
    ensure!(!jobs.is_empty(), "{}: nothing to compile in {}", source.name, cwd.display());
    let made_here = trees.0.join("out");
    fs::create_dir_all(&made_here)?;
    let clang = compiler_path()?;
    let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(None);
    let work = || -> Result<()> {
        while let Some((file, object)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let status = Command::new("nice")
                .args(["-n", "10", &clang, "--target=bpf", "-g", "-O2", "-fdebug-compilation-dir=."])
                .args(&flags)
                .arg("-c")
                .arg(file)
                .arg("-o")
                .arg(up(&format!("out/{object}")))
                .current_dir(&cwd)
                .env_clear()
                .stderr(Stdio::null())
                .status()
                .context("run clang")?;
            if status.success() {
                let object_here = made_here.join(object);
                fs::copy(&object_here, out.join(object))?;
                fs::remove_file(object_here)?;
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

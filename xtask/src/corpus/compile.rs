//! Compiles C files of a package into objects.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use super::archive;
use super::manifest::{Compile, Kind, Source};

/// What the compiler says of itself; `None` when it is not here.
pub(super) fn compiler(recipe: &Compile, trees: &Trees) -> Result<Option<String>> {
    let [name, arguments @ ..] = &*recipe.command else { return Ok(None) };
    let Some(program) = program(name, trees) else { return Ok(None) };
    // Those that are one command among several of a program come with its name.
    let command = arguments.iter().take_while(|argument| !argument.starts_with('-'));
    let out = trees.quiet(&program).args(command).arg("--version").output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(out.status.success().then(|| text.lines().next().unwrap_or_default().to_owned()))
}

/// Its absolute path, since it runs without `PATH`.
fn program(name: &str, trees: &Trees) -> Option<PathBuf> {
    if let Some((package, path)) = name.strip_prefix('{').and_then(|name| name.split_once("}/")) {
        return Some(trees.0.join(package).join(path)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.exists())
}

/// Where packages are unpacked for the compiler, until this is dropped.
///
/// clang orders some BTF types by the addresses of its own data, and these depend on how long the paths are that it
/// works with. So this directory's path has the same length always, and the compiler gets no others and an empty
/// environment: then it makes the same bytes on the next machine too, as a rule.
pub(super) struct Trees(PathBuf);

impl Trees {
    pub(super) fn new() -> Result<Self> {
        let root = PathBuf::from(format!("/tmp/skep-corpus-{:010}", std::process::id()));
        fs::create_dir(&root).with_context(|| format!("create {}", root.display()))?;
        Ok(Trees(root))
    }

    /// A command with nothing in its environment but where it may keep what it likes to.
    fn quiet(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        for cache in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
            command.env(cache, self.0.join("cache"));
        }
        command
    }

    fn tree(&self, source: &Source) -> PathBuf {
        let other = source.compile.as_ref().map(|compile| &compile.tree).filter(|tree| !tree.is_empty());
        self.0.join(other.unwrap_or(&source.name))
    }

    /// Unpacks what the compiler reads of `package` into a directory named after its source, once.
    pub(super) fn unpack(&self, source: &Source, package: &Path) -> Result<()> {
        let tree = self.tree(source);
        if tree.exists() {
            return Ok(());
        }
        let Some(compile) = source.compile.as_ref().filter(|compile| !compile.tar.is_empty()) else {
            archive::unpack(source.kind, package, &tree)?;
            return runnable(source.kind, &tree);
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

/// Lets the programs of a wheel run: who unpacks it leaves out that they may.
fn runnable(kind: Kind, tree: &Path) -> Result<()> {
    if kind == Kind::Wheel {
        for file in archive::files(tree)?.iter().filter(|file| file.extension().is_none()) {
            fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
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
    let mut cwd = trees.tree(source);
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
    let (name, arguments) = recipe.command.split_first().context("no compiler is named")?;
    let program = program(name, trees).with_context(|| format!("{name} is not here"))?;
    let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(None);
    let work = || -> Result<()> {
        while let Some((file, object)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let status = trees
                .quiet(Path::new("/usr/bin/nice"))
                .args(["-n", "10"])
                .arg(&program)
                .args(arguments)
                .args(&flags)
                .arg("-c")
                .arg(file)
                .arg("-o")
                .arg(up(&format!("out/{object}")))
                .current_dir(&cwd)
                .stderr(Stdio::null())
                .status()
                .with_context(|| format!("run {name}"))?;
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
    let wanted = |stem: &str| recipe.only.is_empty() || recipe.only.iter().any(|only| only == stem);
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let name = entry?.file_name();
        if name.to_str().and_then(|name| name.strip_suffix(&*recipe.suffix)).is_some_and(wanted) {
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

//! Brings the corpus here, or writes down what a new source holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::archive::{self, Got};
use super::carve;
use super::compile::{self, Trees};
use super::manifest::{Manifest, Source};

/// The exit code when the archive no longer has some packages and everything else is here.
const GONE: u8 = 3;

/// How it went with one source.
enum Outcome {
    /// Its objects were here already.
    Kept,
    Fetched,
    /// These packages are no longer to be had.
    Gone(Vec<String>),
    /// It needs this compiler, which is not here.
    NoCompiler(String),
    /// It was compiled here, and this many objects have other bytes than the manifest's. The sources are the same.
    OtherBytes(usize),
}

/// `corpus fetch`.
pub(super) fn fetch(dir: &Path, manifest: &Manifest, only: &[String]) -> Result<u8> {
    let (mut gone, mut failed, mut objects) = (Vec::new(), Vec::new(), BTreeSet::new());
    let (mut named, mut trees) = (0, None);
    for source in chosen(manifest, only, |source| !source.objects.is_empty())? {
        let count = source.objects.len();
        let said = match fetch_source(dir, manifest, source, &mut trees) {
            Err(error) => {
                failed.push(source.name.clone());
                format!("failed: {error:#}")
            }
            Ok(outcome) => match outcome {
                Outcome::Kept => format!("{count} objects (here already)"),
                Outcome::Fetched => format!("{count} objects"),
                Outcome::NoCompiler(name) => format!("left out: {name} is not installed"),
                Outcome::OtherBytes(other) => {
                    format!("{count} objects; here the compiler makes other bytes of {other} of them")
                }
                Outcome::Gone(packages) => {
                    gone.push(source.name.clone());
                    format!("the archive has no {} any more", packages.join(" or "))
                }
            },
        };
        println!("{:30} {said}", source.name);
        named += source.objects.len();
        let here = source.objects.iter().filter(|(key, _)| object_path(dir, source, key).exists());
        objects.extend(here.map(|(_, hash)| hash.clone()));
    }
    println!("{} of {named} objects are in {}", objects.len(), dir.join("objects").display());
    if !gone.is_empty() {
        println!("gone from the archive: {}", gone.join(", "));
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(if gone.is_empty() { 0 } else { GONE })
}

/// `corpus pin`.
pub(super) fn pin(dir: &Path, manifest_path: &Path, only: &[String]) -> Result<u8> {
    let mut manifest = Manifest::read(manifest_path)?;
    let unpinned = |source: &Source| source.sha256.is_empty() || source.objects.is_empty() && !source.headers;
    let names: Vec<String> =
        chosen(&manifest, only, unpinned)?.iter().map(|source| source.name.clone()).collect();
    let mut trees = None;
    for name in names {
        let at = manifest.sources.iter().position(|source| source.name == name).context("no such source")?;
        let earlier: BTreeSet<String> =
            manifest.sources.iter().take(at).flat_map(|source| source.objects.values().cloned()).collect();
        let source = manifest.source(&name)?;
        let Got::Package(package) = archive::get(source, &dir.join("packages"))? else {
            bail!("{name}: there is no such package")
        };
        let hash = archive::sha256(&[&package])?.concat();
        manifest.sources[at].sha256 = hash; // `at` is a position in it
        let source = manifest.source(&name)?;
        if source.headers {
            manifest.write(manifest_path)?;
            println!("{name}: pinned");
            continue;
        }
        let (stage, passed_over) =
            match extract(dir, &manifest, source, &package, &BTreeMap::new(), &mut trees)? {
                Extracted::Into(stage, passed_over) => (stage, passed_over),
                Extracted::Gone(packages) => bail!("{name}: there is no {}", packages.join(" or ")),
                Extracted::NoCompiler(compiler) => bail!("{name}: {compiler} is not installed"),
            };
        let mut found = hashes(&stage)?;
        let all = found.len();
        let mut seen = earlier;
        found.retain(|_, hash| seen.insert(hash.clone()));
        println!("{name}: {all} objects, {} of them new", found.len());
        if passed_over > 0 {
            println!("{name}: {passed_over} files do not compile");
        }
        install(dir, source, &stage, &found)?;
        let source = &mut manifest.sources[at]; // as above
        source.objects = found;
        if let (Some(recipe), Some(trees)) = (&mut source.compile, &trees) {
            recipe.compiler = compile::compiler(recipe, trees)?.unwrap_or_default();
        }
        manifest.write(manifest_path)?;
    }
    Ok(0)
}

/// Where an object of the manifest is.
pub(super) fn object_path(dir: &Path, source: &Source, key: &str) -> PathBuf {
    dir.join("objects").join(&source.name).join(key)
}

fn chosen<'a>(
    manifest: &'a Manifest,
    only: &[String],
    or: impl Fn(&Source) -> bool,
) -> Result<Vec<&'a Source>> {
    if only.is_empty() {
        return Ok(manifest.sources.iter().filter(|source| or(source)).collect());
    }
    only.iter().map(|name| manifest.source(name)).collect()
}

fn fetch_source(
    dir: &Path,
    manifest: &Manifest,
    source: &Source,
    trees: &mut Option<Trees>,
) -> Result<Outcome> {
    let compiled = source.compile.is_some();
    let objects: Vec<PathBuf> = source.objects.keys().map(|key| object_path(dir, source, key)).collect();
    if objects.iter().all(|path| path.exists()) {
        let hashes = archive::sha256(&objects)?;
        let differ = hashes.iter().zip(source.objects.values()).filter(|(a, b)| a != b).count();
        match differ {
            0 => return Ok(Outcome::Kept),
            _ if compiled => return Ok(Outcome::OtherBytes(differ)),
            _ => {}
        }
    }
    let Got::Package(package) = archive::get(source, &dir.join("packages"))? else {
        return Ok(Outcome::Gone(vec![format!("{} {}", source.package, source.version)]));
    };
    let stage = match extract(dir, manifest, source, &package, &source.objects, trees)? {
        Extracted::Into(stage, _) => stage,
        Extracted::Gone(packages) => return Ok(Outcome::Gone(packages)),
        Extracted::NoCompiler(name) => return Ok(Outcome::NoCompiler(name)),
    };
    let found = hashes(&stage)?;
    let mut differ = 0;
    for (key, hash) in &source.objects {
        match found.get(key) {
            Some(found) if found == hash => {}
            Some(_) if compiled => differ += 1,
            Some(found) => bail!("object {key} has SHA-256 {found}, the manifest says {hash}"),
            None => bail!("the package has no object {key}"),
        }
    }
    install(dir, source, &stage, &source.objects)?;
    Ok(if differ > 0 { Outcome::OtherBytes(differ) } else { Outcome::Fetched })
}

enum Extracted {
    /// All objects are below this directory; this many files did not compile.
    Into(PathBuf, usize),
    Gone(Vec<String>),
    NoCompiler(String),
}

fn extract(
    dir: &Path,
    manifest: &Manifest,
    source: &Source,
    package: &Path,
    wanted: &BTreeMap<String, String>,
    trees: &mut Option<Trees>,
) -> Result<Extracted> {
    let stage = dir.join("stage").join(&source.name);
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let out = stage.join("objects");
    fs::create_dir_all(&out)?;
    let Some(recipe) = &source.compile else {
        let tree = stage.join("package");
        archive::unpack(source.kind, package, &tree)?;
        for file in archive::files(&tree)? {
            let key = file.strip_prefix(&tree)?.to_string_lossy().into_owned();
            carve_file(&file, &key, &out)?;
        }
        fs::remove_dir_all(tree)?;
        return Ok(Extracted::Into(out, 0));
    };
    let trees = match trees {
        Some(trees) => trees,
        None => trees.insert(Trees::new()?),
    };
    let mut gone = Vec::new();
    for need in &recipe.needs {
        let need = manifest.source(need)?;
        match archive::get(need, &dir.join("packages"))? {
            Got::Package(package) => trees.unpack(need, &package)?,
            Got::Gone => gone.push(format!("{} {}", need.package, need.version)),
        }
    }
    if !gone.is_empty() {
        return Ok(Extracted::Gone(gone));
    }
    if compile::compiler(recipe, trees)?.is_none() {
        return Ok(Extracted::NoCompiler(recipe.command.first().cloned().unwrap_or_default()));
    }
    trees.unpack(source, package)?;
    let (_, failed) = compile::compile(source, recipe, trees, wanted, &out)?;
    Ok(Extracted::Into(out, failed))
}

fn carve_file(file: &Path, key: &str, out: &Path) -> Result<()> {
    let data = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    for found in carve::carve(&data) {
        let whole = found.bytes.len() == data.len();
        let name = if whole { key.to_owned() } else { format!("{key}@{:x}.o", found.offset) };
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        fs::write(path, found.bytes)?;
    }
    Ok(())
}

/// The hash of each file below `dir`, by its path there.
fn hashes(dir: &Path) -> Result<BTreeMap<String, String>> {
    let files = archive::files(dir)?;
    let hashes = archive::sha256(&files)?;
    let entry =
        |(file, hash): (&PathBuf, String)| Ok((file.strip_prefix(dir)?.to_string_lossy().into_owned(), hash));
    files.iter().zip(hashes).map(entry).collect()
}

/// Moves the staged objects that are `wanted` to where the corpus has them, and forgets the others.
fn install(dir: &Path, source: &Source, stage: &Path, wanted: &BTreeMap<String, String>) -> Result<()> {
    for file in archive::files(stage)? {
        if !wanted.contains_key(&*file.strip_prefix(stage)?.to_string_lossy()) {
            fs::remove_file(file)?;
        }
    }
    let place = dir.join("objects").join(&source.name);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(dir.join("objects"))?;
    fs::rename(stage, &place)?;
    let left = stage.parent().context("a stage has a parent")?;
    ensure!(left.starts_with(dir.join("stage")), "{} is no stage", left.display());
    Ok(fs::remove_dir_all(left)?)
}

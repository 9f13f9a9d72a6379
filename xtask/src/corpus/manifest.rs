//! The manifest: which packages, which version, which objects are in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// Everything that makes up the corpus.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) sources: Vec<Source>,
}

/// One package, or one set of files that is compiled from packages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// Unique; the objects of this source are in `objects/NAME/`.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) package: String,
    pub(super) version: String,
    /// For a Debian package its path below the archive's root, for a wheel its file name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) path: String,
    /// Of the package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) sha256: String,
    /// How objects come out of it when they are not in it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compile: Option<Compile>,
    /// A package that others compile with and that has no objects itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) headers: bool,
    /// Path below `objects/NAME/` to SHA-256. An object that is embedded in a file has that file's path and its offset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) objects: BTreeMap<String, String>,
}

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A Debian binary package.
    Deb,
    /// A crate, fetched by cargo.
    Crate,
    /// A wheel, fetched by pip.
    Wheel,
}

/// C files that a compiler makes into objects.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compile {
    /// The compiler and its first arguments. It is an installed one, or one that came in a package: `{NAME}/PATH`.
    #[serde(default = "clang_19", skip_serializing_if = "is_clang_19")]
    pub(super) command: Vec<String>,
    /// The first line that this compiler prints when asked for its version. Another one gives other bytes.
    pub(super) compiler: String,
    /// A tar archive inside the package that holds the sources.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) tar: String,
    /// What to unpack of it: paths inside the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) members: Vec<String>,
    /// The source whose unpacked files are used, when another one has them already.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) tree: String,
    /// Names of the sources whose headers are used; they are unpacked beside this one.
    pub(super) needs: Vec<String>,
    /// Where in the unpacked tree the compiler runs.
    pub(super) cwd: String,
    /// The directory (below `cwd`) whose files are compiled, and how their names end.
    pub(super) files: String,
    pub(super) suffix: String,
    /// The names of those that are compiled, without how they end; all of them when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) only: Vec<String>,
    /// Arguments beside `-c FILE -o OBJECT`. Other sources are at `{NAME}`.
    pub(super) flags: Vec<String>,
}

/// What most sources are compiled with.
fn clang_19() -> Vec<String> {
    ["clang-19", "--target=bpf", "-g", "-O2", "-fdebug-compilation-dir=."].map(str::to_owned).into()
}

fn is_clang_19(command: &[String]) -> bool {
    command == clang_19()
}

impl Manifest {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let manifest: Manifest =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        for source in &manifest.sources {
            let plain = |path: &str| !path.starts_with('/') && path.split('/').all(|part| part != "..");
            ensure!(plain(&source.name) && !source.name.contains('/'), "source name `{}`", source.name);
            let odd = source.objects.keys().find(|path| !plain(path));
            ensure!(odd.is_none(), "{}: object path {odd:?} leaves the corpus", source.name);
            let same = manifest.sources.iter().filter(|other| other.name == source.name).count();
            ensure!(same == 1, "{same} sources are called `{}`", source.name);
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    pub(super) fn source(&self, name: &str) -> Result<&Source> {
        self.sources
            .iter()
            .find(|s| s.name == name)
            .with_context(|| format!("no source `{name}` in the manifest"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testdata;
    use super::*;

    #[test]
    fn the_manifest_is_whole() {
        let manifest = Manifest::read(&testdata().join("manifest.json")).unwrap();
        let sha256 = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let mut seen = BTreeSet::new();
        let mut packages = BTreeSet::new();
        for source in &manifest.sources {
            assert!(sha256(&source.sha256), "{} is not pinned", source.name);
            assert_eq!(source.objects.is_empty(), source.headers, "{}", source.name);
            for need in source.compile.iter().flat_map(|compile| &compile.needs) {
                assert!(manifest.source(need).unwrap().headers, "{need}");
            }
            for (path, hash) in &source.objects {
                assert!(sha256(hash), "{}: {path}", source.name);
                assert!(seen.insert(hash), "{}: {path} is there twice", source.name);
                packages.insert(&source.package);
            }
        }
        assert!(seen.len() >= 300 && packages.len() >= 6, "{} objects of {packages:?}", seen.len());
    }

    #[test]
    fn an_object_stays_in_the_corpus() {
        let dir = std::env::temp_dir().join(format!("skep-manifest-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("manifest.json");
        let source = r#"{"name":"a","kind":"crate","package":"a","version":"1","objects":{"x/../../y":""}}"#;
        fs::write(&path, format!("{{\"sources\":[{source}]}}")).unwrap();
        let error = Manifest::read(&path).unwrap_err();
        fs::remove_dir_all(dir).unwrap();
        assert!(error.to_string().contains("leaves the corpus"), "{error}");
    }
}

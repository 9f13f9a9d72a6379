//! The lines that `skep verify --json` and the oracle write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What happened to one object file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct File {
    file: String,
    pub(super) open: Step,
    #[serde(default)]
    pub(super) load: Step,
    #[serde(default)]
    pub(super) programs: Vec<Program>,
}

/// The outcome of opening or loading.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Step {
    pub(super) ok: bool,
    #[serde(default)]
    error: Option<String>,
}

/// One program, tried alone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Program {
    pub(super) name: String,
    #[serde(default)]
    pub(super) section: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    pub(super) ok: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    pub(super) tag: Option<String>,
}

impl File {
    /// Stands for a file of which there is no line.
    pub(super) fn missing() -> Self {
        let open = Step { ok: false, error: Some("no line for this file".to_owned()) };
        File { file: String::new(), open, load: Step::default(), programs: Vec::new() }
    }
}

impl Step {
    pub(super) fn error(&self) -> String {
        self.error.clone().unwrap_or_else(|| "no error given".to_owned())
    }
}

impl Program {
    pub(super) fn error(&self) -> String {
        self.error.clone().unwrap_or_else(|| "no error given".to_owned())
    }
}

/// Reads the lines, by the path of the object inside the corpus.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, File>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

pub(super) fn parse(text: &str) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let file: File = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let key = file.file.split_once("/objects/").map_or(&*file.file, |(_, key)| key).to_owned();
        if files.insert(key, file).is_some() {
            bail!("line {} names a file for the second time", number + 1);
        }
    }
    Ok(files)
}

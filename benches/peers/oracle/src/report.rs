//! The line that is written for one object file. Its shape is that of `skep verify --json`.

use serde::{Deserialize, Serialize};

/// What happened to one object file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct File {
    /// The path as it was given.
    pub(crate) file: String,
    /// The version of libbpf that was asked.
    pub(crate) libbpf: String,
    pub(crate) open: Step,
    /// The whole object, as its own autoload flags say.
    pub(crate) load: Step,
    pub(crate) programs: Vec<Program>,
}

/// The outcome of opening or loading.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) ok: bool,
    pub(crate) us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// One program, tried alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) section: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) autoload: bool,
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errno: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// With its sub-programs when it loads, else as it is in the file.
    pub(crate) instructions: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verified_instructions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    pub(crate) us: u64,
}

/// What a child tells its parent, one JSON line each, as soon as it knows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Opened { step: Step, programs: Vec<Program> },
    Loaded(Step),
    Tried { index: usize, program: Program },
}

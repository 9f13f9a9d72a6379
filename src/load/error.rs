use std::path::PathBuf;

use skep_sys::abi::{Errno, MapType};

use super::verifier::ProgramError;

/// Why a kernel did not take an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The object is of the other byte order than this machine.
    #[error(
        "the object is {object}-endian and this machine is not: compile it with -target bpf, or for the machine it runs on"
    )]
    ByteOrder {
        /// `big` or `little`.
        object: &'static str,
    },
    /// A map could not be made.
    #[error("map `{map}` ({map_type}): {step}{hint}")]
    Map {
        /// Its name.
        map: String,
        /// Its kind.
        map_type: MapType,
        /// What was being done.
        step: String,
        /// What may help, with its own separator; empty when nothing is known.
        hint: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// A map's definition cannot be used.
    #[error("map `{map}`: {reason}")]
    MapDefinition {
        /// Its name.
        map: String,
        /// What is wrong.
        reason: String,
    },
    /// The map that is pinned under a map's name, or that an earlier version of the object had, is another one.
    #[error(
        "map `{map}`: the map {} differs: {}; remove it, adapt the definition, or say by `on_mismatch` what becomes of it",
        path.as_ref().map_or_else(|| "of the version before".to_owned(), |path| format!("pinned at {}", path.display())),
        differences.join(", ")
    )]
    PinnedMapDiffers {
        /// Its name.
        map: String,
        /// Where the pin is; none for a map of an earlier version.
        path: Option<PathBuf>,
        /// What differs, as `what: pinned / wanted`.
        differences: Vec<String>,
    },
    /// A pin could not be made, opened or found.
    #[error("pin {}: {step}{hint}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What may help; empty when nothing is known.
        hint: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// What is in a map could not be brought into the one that takes its place.
    #[error("map `{map}`: bring what is in the old one into the new one")]
    Migrate {
        /// Its name.
        map: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel lacks something that there is no other way for.
    #[error("{subject}: {reason}")]
    Unsupported {
        /// The map or program that needs it.
        subject: String,
        /// What is lacking, and what to do.
        reason: String,
    },
    /// There is no token where one was to be taken from.
    #[error("token of {}: the kernel did not give one{hint}", path.display())]
    Token {
        /// Where the bpffs was expected.
        path: PathBuf,
        /// What may help; empty when nothing is known.
        hint: &'static str,
        /// What the kernel answered.
        source: Errno,
    },
    /// The kernel did not take a program.
    #[error(transparent)]
    Program(Box<ProgramError>),
    /// A program needs what only loading it together with something else gives.
    #[error("program `{program}`: {reason}")]
    Incomplete {
        /// Its name.
        program: String,
        /// What is missing.
        reason: String,
    },
}

impl LoadError {
    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            LoadError::Map { source, .. }
            | LoadError::Pin { source, .. }
            | LoadError::Token { source, .. } => Some(*source),
            LoadError::Program(error) => Some(error.errno()),
            _ => None,
        }
    }
}

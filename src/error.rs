use std::path::PathBuf;

use skep_link::LinkError;
use skep_sys::MapError;
use skep_sys::abi::Errno;

use crate::load::LoadError;
use crate::program::BuildError;
use crate::reloc::RelocateError;
use crate::spec::{GlobalSpec, SpecError};

/// What was being done, to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object file was refused.
    #[error(transparent)]
    Parse(#[from] SpecError),
    /// An object file was refused that was read from a path.
    #[error("object file {}", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SpecError,
    },
    /// An object does not fit the kernel.
    #[error("object `{object}` does not fit this kernel")]
    Relocate {
        /// Name of the object.
        object: String,
        /// Why.
        source: Box<RelocateError>,
    },
    /// The kernel refused an object.
    #[error("load object `{object}`")]
    Load {
        /// Name of the object.
        object: String,
        /// Why.
        source: LoadError,
    },
    /// An object has no such part.
    #[error("object `{object}` has no {what} `{name}`; there are: {}", if there.is_empty() { "none".to_owned() } else { there.join(", ") })]
    NoSuch {
        /// Name of the object.
        object: String,
        /// What kind of part.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// A global variable has another size than the value.
    #[error("global variable `{variable}` of object `{object}` has {size} bytes, the value {given}")]
    GlobalSize {
        /// Name of the object.
        object: String,
        /// The variable.
        variable: String,
        /// Its size in bytes.
        size: u32,
        /// Size of the value in bytes.
        given: usize,
    },
    /// A constant cannot be set once the object is loaded.
    #[error(
        "global variable `{variable}` of object `{object}` is constant: set it before the object is loaded"
    )]
    GlobalReadOnly {
        /// Name of the object.
        object: String,
        /// The variable.
        variable: String,
    },
    /// A configuration value cannot be what it was set to.
    #[error("configuration value `{name}` of object `{object}`: {reason}")]
    Kconfig {
        /// Name of the object.
        object: String,
        /// Name of the value.
        name: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The text of a configuration cannot be read.
    #[error("configuration that was given to object `{object}`: {reason}")]
    KconfigText {
        /// Name of the object.
        object: String,
        /// Which line, and what is wrong.
        reason: String,
    },
    /// An operation on a map failed.
    #[error(transparent)]
    Map(#[from] crate::map::MapError),
    /// The memory of a global variable cannot be mapped.
    #[error("map global variable `{variable}` of object `{object}`")]
    GlobalView {
        /// Name of the object.
        object: String,
        /// Name of the variable.
        variable: String,
        /// Why.
        source: crate::map::MapError,
    },
    /// Something could not be done with perf events.
    #[error(transparent)]
    Perf(#[from] crate::perf::PerfError),
    /// The kernel refused access to a global variable.
    #[error("{step} global variable `{variable}` of object `{object}`")]
    Global {
        /// Name of the object.
        object: String,
        /// The variable.
        variable: String,
        /// What was being done.
        step: &'static str,
        /// Why.
        source: MapError,
    },
    /// A program that was built from instructions could not be loaded.
    #[error("load program {}", called(program))]
    Build {
        /// Name of the program.
        program: String,
        /// Why.
        source: Box<BuildError>,
    },
    /// Something that is in a kernel could not be opened.
    #[error("open {what} {from}{hint}")]
    Open {
        /// What it should be.
        what: &'static str,
        /// Its id, path or the like, with a word before it.
        from: String,
        /// Why, where it is known, with its own separator.
        hint: &'static str,
        /// What the kernel answered.
        source: Errno,
    },
    /// The kernel does not list its objects.
    #[error("list {what} of the kernel{hint}")]
    Query {
        /// What kind of objects.
        what: &'static str,
        /// Why, where it is known, with its own separator.
        hint: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// The kernel does not count.
    #[error("let the kernel count how often and how long programs run{hint}")]
    Stats {
        /// Why, where it is known, with its own separator.
        hint: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// The kernel refused an operation on a program.
    #[error("program {}: {step}", called(program))]
    Program {
        /// Name of the program.
        program: String,
        /// What was being done.
        step: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// A program could not be attached.
    #[error("attach program {}", called(program))]
    Attach {
        /// Name of the program.
        program: String,
        /// Why.
        source: Box<LinkError>,
    },
    /// A pin could not be made, opened or removed.
    #[error("pin {}: {step}{hint}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What may help, with its own separator; empty when nothing is known.
        hint: String,
        /// What the kernel answered.
        source: Errno,
    },
    /// A directory of pinned state cannot be used so.
    #[error("pinned state in {}: {reason}", directory.display())]
    PinnedState {
        /// The directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// A `struct_ops` table could not be registered.
    #[error("register struct_ops table `{map}` of object `{object}`")]
    Register {
        /// Name of the object.
        object: String,
        /// Name of the table.
        map: String,
        /// Why.
        source: Box<LinkError>,
    },
    /// A program cannot be attached by what its section name says.
    #[error("program {}{} cannot attach by itself: {reason}", called(program), in_section(section))]
    NotAttachable {
        /// Name of the program.
        program: String,
        /// Its section, empty for a program that is not of an object.
        section: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// What kind of failure an [`Error`] is, for deciding what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The object file is broken, or says what skep does not understand.
    BadObject,
    /// The object asks for what this kernel lacks.
    Unsupported,
    /// The verifier refused a program.
    Verifier,
    /// The process may not do it.
    PermissionDenied,
    /// Something that was asked for is not there.
    NotFound,
    /// A name or place is taken.
    Exists,
    /// The call was wrong.
    InvalidInput,
    /// Anything else.
    Other,
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse(_) | Error::ParseFile { .. } => ErrorKind::BadObject,
            Error::NoSuch { .. } => ErrorKind::NotFound,
            Error::GlobalSize { .. }
            | Error::GlobalReadOnly { .. }
            | Error::Kconfig { .. }
            | Error::KconfigText { .. }
            | Error::PinnedState { .. }
            | Error::NotAttachable { .. } => ErrorKind::InvalidInput,
            Error::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::Other,
            },
            Error::Relocate { .. } | Error::Load { source: LoadError::Unsupported { .. }, .. } => {
                ErrorKind::Unsupported
            }
            Error::GlobalView { source: crate::map::MapError::Unsupported { .. }, .. } => {
                ErrorKind::Unsupported
            }
            Error::Load { source: LoadError::ByteOrder { .. }, .. } => ErrorKind::BadObject,
            Error::Load { source: LoadError::PinnedMapDiffers { .. }, .. } => ErrorKind::Exists,
            Error::Build { source, .. } => match &**source {
                BuildError::Assemble(_) | BuildError::Map { .. } => ErrorKind::InvalidInput,
                BuildError::Missing { .. } | BuildError::Load(LoadError::Unsupported { .. }) => {
                    ErrorKind::Unsupported
                }
                BuildError::Load(LoadError::Program(error)) if error.errno() != Errno::EPERM => {
                    ErrorKind::Verifier
                }
                _ => self.errno().map_or(ErrorKind::Other, kind_of),
            },
            Error::Load { source: LoadError::Program(error), .. } if error.errno() != Errno::EPERM => {
                ErrorKind::Verifier
            }
            _ => self.errno().map_or(ErrorKind::Other, kind_of),
        }
    }

    /// What the kernel answered, when it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Load { source, .. } => source.errno(),
            Error::Build { source, .. } => match &**source {
                BuildError::Load(source) => source.errno(),
                BuildError::Map { source, .. } => source.errno(),
                _ => None,
            },
            Error::Global { source, .. } => source.errno(),
            Error::Map(source) | Error::GlobalView { source, .. } => source.errno(),
            Error::Perf(source) => source.errno(),
            Error::Program { source, .. }
            | Error::Pin { source, .. }
            | Error::Open { source, .. }
            | Error::Query { source, .. }
            | Error::Stats { source, .. } => Some(*source),
            Error::Attach { source, .. } | Error::Register { source, .. } => source.errno(),
            Error::Read { source, .. } => source.raw_os_error().map(Errno),
            _ => None,
        }
    }

    /// The verifier's whole log, when it refused a program.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Error::Load { source: LoadError::Program(error), .. } => Some(error.log()),
            Error::Build { source, .. } => match &**source {
                BuildError::Load(LoadError::Program(error)) => Some(error.log()),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn global_size(object: &str, global: &GlobalSpec, given: usize) -> Error {
        Error::GlobalSize {
            object: object.to_owned(),
            variable: global.name.clone(),
            size: global.size,
            given,
        }
    }

    pub(crate) fn global_read_only(object: &str, variable: &str) -> Error {
        Error::GlobalReadOnly { object: object.to_owned(), variable: variable.to_owned() }
    }

    pub(crate) fn global_view(object: &str, variable: &str, source: crate::map::MapError) -> Error {
        Error::GlobalView { object: object.to_owned(), variable: variable.to_owned(), source }
    }

    pub(crate) fn global_access(object: &str, variable: &str, step: &'static str, source: MapError) -> Error {
        Error::Global { object: object.to_owned(), variable: variable.to_owned(), step, source }
    }
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::EPERM | Errno::EACCES => ErrorKind::PermissionDenied,
        Errno::ENOENT | Errno::ENODEV => ErrorKind::NotFound,
        Errno::EEXIST | Errno::EBUSY => ErrorKind::Exists,
        Errno::EOPNOTSUPP | Errno::ENOTSUPP | Errno::ENOSYS => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

/// The name of a program in quotation marks, or that it has none.
pub(crate) fn called(program: &str) -> String {
    if program.is_empty() { "without a name".to_owned() } else { format!("`{program}`") }
}

fn in_section(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" (section `{section}`)") }
}

//! What an event did.

use skep_sys::abi::{Errno, LinkId, ProgId};

use crate::image::ImageError;
use crate::name::is_called;
use crate::vm::Fault;

/// Why an event cannot happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// A program was stopped, and the event has no outcome without it.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// What the event names does not exist in this kernel, or has the wrong form.
    #[error("{what}: {errno}")]
    Errno {
        /// What is wrong, as a kernel would say it.
        errno: Errno,
        /// What it is about.
        what: String,
    },
    /// What it says of memory does not fit.
    #[error("{what}")]
    Image {
        /// Of which event, and what part of it.
        what: String,
        /// What is wrong.
        source: Box<ImageError>,
    },
    /// A tracepoint whose fields nothing tells.
    #[error(
        "the fields of tracepoint {name} are not known: the kernel's BTF has no `struct trace_event_raw_{event}`; give the \
         name of the struct or the text of its `format` file"
    )]
    NoLayout {
        /// Category and name.
        name: String,
        /// The name alone.
        event: String,
    },
    /// A field that a tracepoint does not have.
    #[error("tracepoint {name} has no field `{field}`; it has {}", if has.is_empty() { "none".to_owned() } else { has.join(", ") })]
    NoField {
        /// Category and name.
        name: String,
        /// The field.
        field: String,
        /// The fields that there are.
        has: Vec<String>,
    },
    /// A field that cannot hold a value.
    #[error("field `{field}` of tracepoint {name} has {size} bytes, too few for {value}")]
    Field {
        /// Category and name.
        name: String,
        /// The field.
        field: String,
        /// Its size.
        size: usize,
        /// The value.
        value: String,
    },
    /// A place whose name nothing knows: it is not in the kernel's types or symbols, and no program was ever attached to it. An
    /// event at a known place where nothing is attached is no error: then no program runs.
    #[error(
        "no {what} `{name}` is known: neither do the kernel's types have it, nor was a program attached to it{}; if the name is \
         right, {cure}",
        names(near, attached)
    )]
    Unknown {
        /// What it would be.
        what: &'static str,
        /// Its name.
        name: String,
        /// Known names that are similar, the nearest first.
        near: Vec<String>,
        /// Some names of the same kind that programs are or were attached to.
        attached: Vec<String>,
        /// How to make it known.
        cure: &'static str,
    },
    /// A system call of a name that x86-64 does not have.
    #[error("there is no system call `{name}`{}; if the name is right, give its number too", names(near, &[]))]
    NoSyscall {
        /// The name.
        name: String,
        /// Names that are similar, the nearest first.
        near: Vec<String>,
    },
    /// A CPU that the kernel does not have.
    #[error("there is no CPU {cpu}; the kernel has {cpus}")]
    NoCpu {
        /// The CPU.
        cpu: u32,
        /// Number of CPUs.
        cpus: u32,
    },
}

fn names(near: &[String], attached: &[String]) -> String {
    match (near, attached) {
        ([], []) => String::new(),
        ([], attached) => format!("; programs were attached to {}", attached.join(", ")),
        (near, _) => format!("; similar: {}", near.join(", ")),
    }
}

impl EventError {
    /// That something that an event names cannot be found, or has the wrong form; for events of your own.
    pub fn new(errno: Errno, what: impl Into<String>) -> EventError {
        EventError::Errno { errno, what: what.into() }
    }

    /// The errno, when no program is to blame and a kernel would have one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            EventError::Errno { errno, .. } => Some(*errno),
            EventError::Unknown { .. } => Some(Errno::ENOENT),
            EventError::NoSyscall { .. } => Some(Errno::ENOSYS),
            EventError::NoCpu { .. } => Some(Errno::ENXIO),
            _ => None,
        }
    }
}

impl From<Box<Fault>> for EventError {
    fn from(fault: Box<Fault>) -> EventError {
        EventError::Fault(fault)
    }
}

/// What a program did to the world around it, beside its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEffect {
    /// `bpf_send_signal`, `bpf_send_signal_thread`.
    Signal {
        /// The process, or the thread.
        pid: u32,
        /// The signal.
        signal: u32,
        /// Whether it is for the thread only.
        thread: bool,
    },
    /// `bpf_override_return`: the function that is probed does not run, and returns this.
    Override {
        /// The value.
        value: u64,
    },
    /// `bpf_probe_write_user`.
    UserWrite {
        /// The process.
        tgid: u32,
        /// Where.
        address: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// A program that ran because of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Name of the program.
    pub program: String,
    /// Id of the program.
    pub prog_id: ProgId,
    /// The link that it was attached by.
    pub link_id: LinkId,
    /// The cookie that it was attached with.
    pub cookie: u64,
    /// What it returned, or the fault that stopped it.
    pub result: Result<u64, Box<Fault>>,
    /// What it did, in order.
    pub effects: Vec<TraceEffect>,
}

/// The programs that ran because of an event, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it tells whether a program faulted; `ok` makes an error of that"]
pub struct Runs(pub(crate) Vec<Run>);

impl Runs {
    /// Each run.
    pub fn iter(&self) -> std::slice::Iter<'_, Run> {
        self.0.iter()
    }

    /// How many programs ran.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none did: none is attached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first fault, or the runs when there was none.
    ///
    /// # Errors
    /// The fault.
    pub fn ok(self) -> Result<Runs, Box<Fault>> {
        let first = self.faults().next().cloned();
        first.map_or(Ok(self), |fault| Err(Box::new(fault)))
    }

    /// The faults that stopped programs.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter().filter_map(|run| run.result.as_ref().err().map(|fault| &**fault))
    }

    /// Names of the programs that ran.
    pub fn programs(&self) -> Vec<&str> {
        self.0.iter().map(|run| run.program.as_str()).collect()
    }

    /// What the programs returned that were not stopped.
    pub fn values(&self) -> Vec<u64> {
        self.0.iter().filter_map(|run| run.result.as_ref().ok().copied()).collect()
    }

    /// What the program of a name returned, in its first run that was not stopped. Of the name a kernel keeps 15 bytes.
    pub fn value(&self, program: &str) -> Option<u64> {
        let mut theirs = self.0.iter().filter(|run| is_called(&run.program, program));
        theirs.find_map(|run| run.result.as_ref().ok().copied())
    }

    /// What all of them did.
    pub fn effects(&self) -> impl Iterator<Item = &TraceEffect> {
        self.0.iter().flat_map(|run| &run.effects)
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = &'a Run;
    type IntoIter = std::slice::Iter<'a, Run>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

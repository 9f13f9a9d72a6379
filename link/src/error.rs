use skep_sys::abi::{AttachType, Errno, LinkType, MapType, ProgType};

use crate::kinds::Hook;

/// Why a program could not be attached, or something could not be done with a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The hook takes other kinds of programs.
    #[error(
        "program `{program}` of type {prog_type}{} cannot be attached to {hook}",
        attach_type.filter(|at| at.0 != 0).map(|at| format!(" and attach type {at}")).unwrap_or_default()
    )]
    WrongProgram {
        /// The hook.
        hook: Hook,
        /// Name of the program in the kernel.
        program: String,
        /// Its kind.
        prog_type: ProgType,
        /// Its attach type, if known.
        attach_type: Option<AttachType>,
    },
    /// Attaching so needs the program's attach type, which kernels do not tell of opened programs.
    #[error(
        "attach type of program `{program}` is not known: say it with `LoadedProgram::with_attach_type` to attach \
         it with a cookie"
    )]
    UnknownAttachType {
        /// Name of the program in the kernel.
        program: String,
    },
    /// The target cannot be found.
    #[error("no {target}{}", colon(hint))]
    NoTarget {
        /// The hook.
        hook: Hook,
        /// What was asked for, such as `network device eth0`.
        target: String,
        /// What to do about it, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// The kernel refused to attach.
    #[error("cannot attach {hook} program `{program}` to {target}{}", colon(hint))]
    Attach {
        /// The hook.
        hook: Hook,
        /// Name of the program in the kernel.
        program: String,
        /// What it was to be attached to.
        target: String,
        /// Why, and what to do about it, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// A map that holds no table was to be registered.
    #[error("a map of type {map_type} holds no struct_ops table")]
    NotStructOps {
        /// Its kind.
        map_type: MapType,
    },
    /// The kernel refused a `struct_ops` table.
    #[error("cannot {operation} the struct_ops table{}", colon(hint))]
    Register {
        /// What was tried: `write`, `register`, `replace`, `take out`.
        operation: &'static str,
        /// Why, and what to do about it, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// The kernel refused an operation on a link.
    #[error("cannot {operation} {link_type} link{}", colon(hint))]
    Link {
        /// What was tried: `update`, `pin at /sys/fs/bpf/x`, …
        operation: String,
        /// Kind of the link.
        link_type: LinkType,
        /// Why, and what to do about it, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// A link could not be opened.
    #[error("cannot open link {from}{}", colon(hint))]
    Open {
        /// From where: a path, an id.
        from: String,
        /// Why, and what to do about it, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
}

impl LinkError {
    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            LinkError::WrongProgram { .. }
            | LinkError::UnknownAttachType { .. }
            | LinkError::NotStructOps { .. } => None,
            LinkError::NoTarget { errno, .. }
            | LinkError::Register { errno, .. }
            | LinkError::Attach { errno, .. }
            | LinkError::Link { errno, .. }
            | LinkError::Open { errno, .. } => Some(*errno),
        }
    }

    /// Why it was refused and what to do about it, for error numbers whose meaning is known here.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LinkError::WrongProgram { .. }
            | LinkError::UnknownAttachType { .. }
            | LinkError::NotStructOps { .. } => None,
            LinkError::NoTarget { hint, .. }
            | LinkError::Register { hint, .. }
            | LinkError::Attach { hint, .. }
            | LinkError::Link { hint, .. }
            | LinkError::Open { hint, .. } => *hint,
        }
    }
}

fn colon(hint: &Option<&'static str>) -> String {
    hint.map(|hint| format!(": {hint}")).unwrap_or_default()
}

/// The meanings of error numbers at one place.
pub(crate) type Hints = &'static [(Errno, &'static str)];

/// The meaning of `errno` by the first table that has it.
pub(crate) fn meaning(errno: Errno, tables: &[Hints]) -> Option<&'static str> {
    tables.iter().copied().flatten().find(|(number, _)| *number == errno).map(|(_, text)| *text)
}

/// What attaching anything can answer.
pub(crate) const ANY_ATTACH: Hints = &[
    (
        Errno::EPERM,
        "the process needs CAP_BPF, and CAP_NET_ADMIN or CAP_PERFMON by the kind of program, before Linux 5.8 \
         CAP_SYS_ADMIN; a lockdown can forbid it too",
    ),
    (Errno::EACCES, "a security module forbids it"),
    (Errno::EXDEV, "the handles belong to different kernels"),
    (Errno::EMFILE, "the process has no descriptor left (`ulimit -n`)"),
    (Errno::ENFILE, "the system has no descriptor left"),
    (Errno::ENOMEM, "the kernel has no memory left for it"),
];

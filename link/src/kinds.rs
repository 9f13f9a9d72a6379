use std::fmt;

use skep_sys::LoadedProgram;
use skep_sys::abi::{AttachType, LinkType, ProgType};

use crate::error::LinkError;

/// A place in the kernel where programs are attached, as far as this version knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Hook {
    /// A network device's receive path: [`xdp`](crate::xdp).
    Xdp,
    /// A tracepoint with its raw arguments: [`raw_tracepoint`](crate::raw_tracepoint).
    RawTracepoint,
    /// What a program named at load: [`tracing`](crate::tracing).
    Tracing,
}

/// What is known of a hook and its links.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LinkKind {
    /// The hook.
    pub hook: Hook,
    /// Its name in messages.
    pub name: &'static str,
    /// Kinds of links that attaching to it gives. More than one where the program's attach type decides.
    pub link_types: &'static [LinkType],
    /// Kinds of programs that it takes.
    pub prog_types: &'static [ProgType],
    /// Attach types that programs of those kinds may have and that belong to another hook.
    pub not: &'static [AttachType],
    /// Whether the program of a link can be exchanged (`BPF_LINK_UPDATE`).
    pub updates: bool,
    /// Whether a link can be detached while there are handles or pins of it (`BPF_LINK_DETACH`).
    pub detaches: bool,
    /// First Linux version with the hook.
    pub since: &'static str,
}

/// One row per hook.
pub const KINDS: &[LinkKind] = &[
    LinkKind {
        hook: Hook::Xdp,
        name: "xdp",
        link_types: &[LinkType::XDP],
        prog_types: &[ProgType::XDP],
        not: &[AttachType::XDP_DEVMAP, AttachType::XDP_CPUMAP],
        updates: true,
        detaches: true,
        since: "5.9",
    },
    LinkKind {
        hook: Hook::RawTracepoint,
        name: "raw tracepoint",
        link_types: &[LinkType::RAW_TRACEPOINT],
        prog_types: &[ProgType::RAW_TRACEPOINT, ProgType::RAW_TRACEPOINT_WRITABLE],
        not: &[],
        updates: false,
        detaches: false,
        since: "4.17",
    },
    LinkKind {
        hook: Hook::Tracing,
        name: "tracing",
        link_types: &[LinkType::TRACING, LinkType::RAW_TRACEPOINT],
        prog_types: &[ProgType::TRACING, ProgType::LSM, ProgType::EXT],
        not: &[
            AttachType::TRACE_ITER,
            AttachType::LSM_CGROUP,
            AttachType::TRACE_FENTRY_MULTI,
            AttachType::TRACE_FEXIT_MULTI,
            AttachType::TRACE_FSESSION_MULTI,
        ],
        updates: false,
        detaches: false,
        since: "5.5",
    },
];

impl Hook {
    /// The row of the hook in [`KINDS`].
    pub fn kind(self) -> &'static LinkKind {
        match self {
            Hook::Xdp => &KINDS[0],           // a test compares the order
            Hook::RawTracepoint => &KINDS[1], // likewise
            Hook::Tracing => &KINDS[2],       // likewise
        }
    }

    /// The hook that takes such programs, if this version has it.
    ///
    /// ```
    /// use skep_link::Hook;
    /// use skep_sys::abi::{AttachType, ProgType};
    ///
    /// assert_eq!(Hook::of_program(ProgType::TRACING, AttachType::TRACE_FEXIT), Some(Hook::Tracing));
    /// assert_eq!(Hook::of_program(ProgType::TRACING, AttachType::TRACE_ITER), None);
    /// ```
    pub fn of_program(prog_type: ProgType, attach_type: AttachType) -> Option<Hook> {
        let row = KINDS.iter().find(|kind| kind.takes(prog_type, Some(attach_type)));
        row.map(|kind| kind.hook)
    }

    /// Refuses a program that the hook has no use for, before the kernel is asked.
    pub(crate) fn check(self, prog: &LoadedProgram) -> Result<(), LinkError> {
        if self.kind().takes(prog.prog_type(), prog.attach_type()) {
            return Ok(());
        }
        Err(LinkError::WrongProgram {
            hook: self,
            program: prog.name().to_owned(),
            prog_type: prog.prog_type(),
            attach_type: prog.attach_type(),
        })
    }
}

impl LinkKind {
    fn takes(&self, prog_type: ProgType, attach_type: Option<AttachType>) -> bool {
        self.prog_types.contains(&prog_type) && attach_type.is_none_or(|at| !self.not.contains(&at))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_its_row() {
        for row in KINDS {
            assert_eq!(row.hook.kind().hook, row.hook);
        }
    }

    #[test]
    fn no_program_fits_two_hooks() {
        for &prog_type in ProgType::ALL {
            for &attach_type in AttachType::ALL {
                let rows = KINDS.iter().filter(|row| row.takes(prog_type, Some(attach_type)));
                assert!(rows.count() <= 1, "{prog_type} {attach_type}");
            }
        }
        assert_eq!(Hook::of_program(ProgType::XDP, AttachType::XDP), Some(Hook::Xdp));
        assert_eq!(Hook::of_program(ProgType::XDP, AttachType(0)), Some(Hook::Xdp));
        assert_eq!(Hook::of_program(ProgType::XDP, AttachType::XDP_CPUMAP), None);
        assert_eq!(Hook::of_program(ProgType::RAW_TRACEPOINT, AttachType(0)), Some(Hook::RawTracepoint));
        assert_eq!(Hook::of_program(ProgType::LSM, AttachType::LSM_MAC), Some(Hook::Tracing));
        assert_eq!(Hook::of_program(ProgType::LSM, AttachType::LSM_CGROUP), None);
        assert_eq!(Hook::of_program(ProgType::KPROBE, AttachType(0)), None);
    }
}

use std::os::fd::BorrowedFd;

use crate::abi::{AttachFlags, AttachType, LinkId, ProgId};
use crate::request::{LinkAnchor, LinkTarget};

/// `BPF_PROG_ATTACH` (Linux 4.10): attaches a program without a link, until it is detached or the place goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgAttach<'a> {
    /// The program.
    pub prog: BorrowedFd<'a>,
    /// A cgroup, a map of sockets, or a network device; [`LinkTarget::Loaded`] for flow dissectors, which are attached to the
    /// network namespace of the process.
    pub target: LinkTarget<'a>,
    /// Attach point.
    pub attach_type: AttachType,
    /// For cgroups whether others may be attached too ([`AttachFlags::ALLOW_MULTI`], Linux 4.14) or in its place further
    /// inside ([`AttachFlags::ALLOW_OVERRIDE`]), and whether it goes before those of inner cgroups
    /// ([`AttachFlags::PREORDER`], Linux 6.15).
    pub flags: AttachFlags,
    /// The program whose place it takes (`BPF_F_REPLACE`, Linux 5.5), with `ALLOW_MULTI` in cgroups.
    pub replace: Option<BorrowedFd<'a>>,
    /// Where among the programs that are there already: tcx and netkit (Linux 6.6 and 6.7), cgroups (6.17).
    pub anchor: LinkAnchor<'a>,
    /// Number of changes that the order must have seen, 0 when it does not matter.
    pub expected_revision: u64,
}

impl<'a> ProgAttach<'a> {
    /// Without flags.
    pub fn new(prog: BorrowedFd<'a>, target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        ProgAttach {
            prog,
            target,
            attach_type,
            flags: AttachFlags::empty(),
            replace: None,
            anchor: LinkAnchor::Default,
            expected_revision: 0,
        }
    }
}

/// `BPF_PROG_DETACH` (Linux 4.10).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgDetach<'a> {
    /// The program. Cgroups in which only one can be attached do not need it.
    pub prog: Option<BorrowedFd<'a>>,
    /// What it is attached to, as in [`ProgAttach`].
    pub target: LinkTarget<'a>,
    /// Attach point.
    pub attach_type: AttachType,
    /// Which one of a device, in place of a program.
    pub anchor: LinkAnchor<'a>,
    /// Number of changes that the order must have seen, 0 when it does not matter (Linux 6.6, cgroups 6.17).
    pub expected_revision: u64,
}

impl<'a> ProgDetach<'a> {
    /// Detaches a program.
    pub fn new(prog: BorrowedFd<'a>, target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        ProgDetach { prog: Some(prog), ..ProgDetach::any(target, attach_type) }
    }

    /// Detaches whatever is attached to a cgroup that has only one program.
    pub fn any(target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        ProgDetach { prog: None, target, attach_type, anchor: LinkAnchor::Default, expected_revision: 0 }
    }
}

/// `BPF_PROG_QUERY` (Linux 4.15).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgQuery<'a> {
    /// What is asked: as in [`ProgAttach`], but network namespaces by their descriptor.
    pub target: LinkTarget<'a>,
    /// Attach point.
    pub attach_type: AttachType,
    /// In cgroups: the programs that run there, with those of the cgroups around it (`BPF_F_QUERY_EFFECTIVE`).
    pub effective: bool,
}

impl<'a> ProgQuery<'a> {
    /// Asks for what is attached to the place itself.
    pub fn new(target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        ProgQuery { target, attach_type, effective: false }
    }

    /// Asks for all that run there.
    pub fn effective(target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        ProgQuery { target, attach_type, effective: true }
    }
}

/// What is attached to a place, as `BPF_PROG_QUERY` answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachedProgs {
    /// The programs, in the order in which they run.
    pub progs: Vec<AttachedProg>,
    /// How the programs of a cgroup were attached.
    pub flags: AttachFlags,
    /// Number of changes of the order: devices (Linux 6.6), cgroups (6.17). 0 where a kernel does not tell.
    pub revision: u64,
}

impl AttachedProgs {
    /// The ids of the programs, in order.
    pub fn ids(&self) -> Vec<ProgId> {
        self.progs.iter().map(|prog| prog.prog_id).collect()
    }
}

/// A program that is attached somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttachedProg {
    /// The program.
    pub prog_id: ProgId,
    /// The link that attaches it, where a kernel tells: at devices. 0 for none.
    pub link_id: LinkId,
}

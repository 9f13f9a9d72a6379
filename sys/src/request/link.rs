use std::os::fd::BorrowedFd;

use crate::abi::{AttachFlags, AttachType};

/// `BPF_LINK_CREATE`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkCreate<'a> {
    /// The program.
    pub prog: BorrowedFd<'a>,
    /// What to attach to.
    pub target: LinkTarget<'a>,
    /// Attach point.
    pub attach_type: AttachType,
    /// Flags, whose meaning depends on the attach point.
    pub flags: u32,
    /// User value that the program reads with `bpf_get_attach_cookie` (tracing and perf events), else 0.
    pub cookie: u64,
}

impl<'a> LinkCreate<'a> {
    /// A link with no flags.
    pub fn new(prog: BorrowedFd<'a>, target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        LinkCreate { prog, target, attach_type, flags: 0, cookie: 0 }
    }
}

/// What a link attaches to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LinkTarget<'a> {
    /// What the program named at load.
    Loaded,
    /// A network device.
    Ifindex(u32),
    /// A cgroup, network namespace, perf event or map.
    Fd(BorrowedFd<'a>),
}

impl<'a> LinkCreate<'a> {
    /// Registers the table that a `struct_ops` map holds (Linux 6.4). The map's descriptor stands where that of a
    /// program does otherwise.
    pub fn of_struct_ops(map: BorrowedFd<'a>) -> Self {
        LinkCreate::new(map, LinkTarget::Loaded, AttachType::STRUCT_OPS)
    }
}

/// `BPF_LINK_UPDATE`. Links of `struct_ops` take maps where others take programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkUpdate<'a> {
    /// The link.
    pub link: BorrowedFd<'a>,
    /// The program that takes over.
    pub new_prog: BorrowedFd<'a>,
    /// The program that must be the present one, if it matters.
    pub old_prog: Option<BorrowedFd<'a>>,
    /// Further flags.
    pub flags: AttachFlags,
}

impl<'a> LinkUpdate<'a> {
    /// Puts `new_prog` in the link's place whatever it runs now.
    pub fn new(link: BorrowedFd<'a>, new_prog: BorrowedFd<'a>) -> Self {
        LinkUpdate { link, new_prog, old_prog: None, flags: AttachFlags::empty() }
    }
}

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::abi::{AttachFlags, AttachType, LinkId, ProgId};

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
    /// Where among the programs that are there already, at attach points that have an order (tcx and netkit, Linux 6.6 and
    /// 6.7; cgroups, 6.17).
    pub anchor: LinkAnchor<'a>,
    /// Number of changes that the order must have seen, 0 when it does not matter.
    pub expected_revision: u64,
    /// Hook of a netfilter program.
    pub netfilter: Option<NetfilterHook>,
}

/// A place in the order of the programs at an attach point.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum LinkAnchor<'a> {
    /// Where the kernel puts it, which is last.
    #[default]
    Default,
    /// Before all others (`BPF_F_BEFORE`).
    First,
    /// After all others (`BPF_F_AFTER`).
    Last,
    /// Before a program.
    BeforeProg(BorrowedFd<'a>),
    /// After a program.
    AfterProg(BorrowedFd<'a>),
    /// Before the program of a link (`BPF_F_LINK`).
    BeforeLink(BorrowedFd<'a>),
    /// After the program of a link.
    AfterLink(BorrowedFd<'a>),
    /// Before the program with an id (`BPF_F_ID`).
    BeforeProgId(ProgId),
    /// After the program with an id.
    AfterProgId(ProgId),
    /// Before the program of the link with an id.
    BeforeLinkId(LinkId),
    /// After the program of the link with an id.
    AfterLinkId(LinkId),
}

impl LinkAnchor<'_> {
    /// Flags of `BPF_LINK_CREATE`: `BPF_F_BEFORE`, `BPF_F_AFTER`, `BPF_F_ID`, `BPF_F_LINK`.
    pub fn flags(self) -> u32 {
        const BEFORE: u32 = 1 << 3;
        const AFTER: u32 = 1 << 4;
        const ID: u32 = 1 << 5;
        const LINK: u32 = 1 << 13;

        match self {
            LinkAnchor::Default => 0,
            LinkAnchor::First | LinkAnchor::BeforeProg(_) => BEFORE,
            LinkAnchor::Last | LinkAnchor::AfterProg(_) => AFTER,
            LinkAnchor::BeforeLink(_) => BEFORE | LINK,
            LinkAnchor::AfterLink(_) => AFTER | LINK,
            LinkAnchor::BeforeProgId(_) => BEFORE | ID,
            LinkAnchor::AfterProgId(_) => AFTER | ID,
            LinkAnchor::BeforeLinkId(_) => BEFORE | ID | LINK,
            LinkAnchor::AfterLinkId(_) => AFTER | ID | LINK,
        }
    }
}

/// A netfilter hook (`struct bpf_link_create.netfilter`, Linux 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetfilterHook {
    /// Protocol family: 2 for IPv4, 10 for IPv6.
    pub family: u32,
    /// The hook: 0 before routing, 1 local in, 2 forward, 3 local out, 4 after routing.
    pub hook: u32,
    /// Programs with smaller numbers run first.
    pub priority: i32,
    /// `BPF_F_NETFILTER_IP_DEFRAG` (1) puts fragments together first (Linux 6.6).
    pub flags: u32,
}

impl NetfilterHook {
    /// A hook of a protocol family.
    pub fn new(family: u32, hook: u32, priority: i32) -> NetfilterHook {
        NetfilterHook { family, hook, priority, flags: 0 }
    }
}

impl<'a> LinkCreate<'a> {
    /// A link with no flags.
    pub fn new(prog: BorrowedFd<'a>, target: LinkTarget<'a>, attach_type: AttachType) -> Self {
        LinkCreate {
            prog,
            target,
            attach_type,
            flags: 0,
            cookie: 0,
            anchor: LinkAnchor::Default,
            expected_revision: 0,
            netfilter: None,
        }
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
    /// The control groups that an iterator goes through, from the one of a directory on: `BPF_CGROUP_ITER_SELF_ONLY` (1), those
    /// below it before (2) or after (3) those that they are in, or those above it (4).
    Cgroups {
        /// The directory.
        cgroup: BorrowedFd<'a>,
        /// The order.
        order: u32,
    },
    /// The thread that an iterator over tasks goes through (Linux 6.1).
    Thread(u32),
    /// The process whose threads an iterator over tasks goes through (Linux 6.1).
    Process(u32),
    /// Places in a program or library ([`AttachType::TRACE_UPROBE_MULTI`], Linux 6.6).
    Uprobes(Uprobes<'a>),
}

/// Places in one program or library (`struct bpf_link_create.uprobe_multi`, Linux 6.6).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Uprobes<'a> {
    /// The file.
    pub path: &'a Path,
    /// Offsets of instructions in the file, in bytes.
    pub offsets: &'a [u64],
    /// For each offset, the one in the file of a counter of 16 bits that says how many listen (a semaphore of USDT), 0 where
    /// there is none; empty when there are none at all.
    pub counters: &'a [u64],
    /// For each offset the value that the program reads with `bpf_get_attach_cookie`; empty when there are none.
    pub cookies: &'a [u64],
    /// The one process in which the program runs, 0 for all.
    pub pid: u32,
    /// Whether the program runs when the function returns that begins at the offset (`BPF_F_UPROBE_MULTI_RETURN`).
    pub returns: bool,
}

impl<'a> Uprobes<'a> {
    /// Offsets in a file, without counters and cookies, in all processes.
    pub fn new(path: &'a Path, offsets: &'a [u64]) -> Uprobes<'a> {
        Uprobes { path, offsets, counters: &[], cookies: &[], pid: 0, returns: false }
    }
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

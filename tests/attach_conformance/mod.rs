//! Programs that are attached without links, on any kernel: bodies that the test binaries run on theirs.

mod groups;
mod places;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use skep::asm::{Assembler, Reg};
use skep::sys::abi::{AttachFlags, AttachType, Errno, ProgId, ProgType};
use skep::sys::request::{
    AttachedProgs, LinkAnchor, LinkTarget, ProgAttach, ProgDetach, ProgLoad, ProgQuery,
};
use skep::sys::{Kernel, LoadedProgram};

use crate::support::skip;

/// A body: what it does on a kernel.
pub(crate) type Body = fn(&World<'_>);

/// A kernel, and what has to be made beside it.
pub(crate) struct World<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Makes a control group, whose parent is there, and opens it.
    pub(crate) group: &'a dyn Fn(&str) -> OwnedFd,
    /// Opens the network namespace of the test.
    pub(crate) netns: &'a dyn Fn() -> OwnedFd,
}

crate::support::bodies! { ($) attach_conformance;
    modes: groups::modes,
    several: groups::several,
    replacing: groups::replacing,
    hierarchies: groups::hierarchies,
    going_first: groups::going_first,
    anchors: groups::anchors,
    beside_links: groups::beside_links,
    other_kinds: groups::other_kinds,
    socket_maps: places::socket_maps,
    flow_dissectors: places::flow_dissectors,
    devices: places::devices,
}

const NONE: AttachFlags = AttachFlags::empty();
const OVERRIDE: AttachFlags = AttachFlags::ALLOW_OVERRIDE;
const MULTI: AttachFlags = AttachFlags::ALLOW_MULTI;

const CREATE: AttachType = AttachType::CGROUP_INET_SOCK_CREATE;

/// A program that lets everything happen.
fn program(world: &World<'_>, prog_type: ProgType, attach_type: AttachType) -> LoadedProgram {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 1).exit();
    let insns = asm.finish().unwrap();
    let mut request = ProgLoad::new(prog_type, &insns, "GPL");
    request.expected_attach_type = attach_type;
    world.kernel.prog_load(&request, None).unwrap()
}

/// One for new sockets.
fn guard(world: &World<'_>) -> LoadedProgram {
    program(world, ProgType::CGROUP_SOCK, CREATE)
}

fn id(prog: &LoadedProgram) -> ProgId {
    prog.info().unwrap().id
}

/// Attaches a program to a group.
fn attach(world: &World<'_>, group: &OwnedFd, prog: &LoadedProgram, flags: AttachFlags) -> Result<(), Errno> {
    attach_with(world, group, prog, flags, |_| ())
}

fn attach_with<'a>(
    world: &World<'_>,
    group: &'a OwnedFd,
    prog: &'a LoadedProgram,
    flags: AttachFlags,
    change: impl FnOnce(&mut ProgAttach<'a>),
) -> Result<(), Errno> {
    let mut request = ProgAttach::new(prog.as_fd(), LinkTarget::Fd(group.as_fd()), CREATE);
    request.flags = flags;
    change(&mut request);
    world.kernel.prog_attach(&request)
}

fn detach(world: &World<'_>, group: &OwnedFd, prog: impl AsFd) -> Result<(), Errno> {
    world.kernel.prog_detach(&ProgDetach::new(prog.as_fd(), LinkTarget::Fd(group.as_fd()), CREATE))
}

fn detach_any(world: &World<'_>, group: &OwnedFd) -> Result<(), Errno> {
    world.kernel.prog_detach(&ProgDetach::any(LinkTarget::Fd(group.as_fd()), CREATE))
}

fn attached(world: &World<'_>, group: &OwnedFd) -> AttachedProgs {
    world.kernel.prog_query(&ProgQuery::new(LinkTarget::Fd(group.as_fd()), CREATE)).unwrap()
}

fn effective(world: &World<'_>, group: &OwnedFd) -> Vec<ProgId> {
    world.kernel.prog_query(&ProgQuery::effective(LinkTarget::Fd(group.as_fd()), CREATE)).unwrap().ids()
}

/// The ids of programs.
fn ids(progs: &[&LoadedProgram]) -> Vec<ProgId> {
    progs.iter().map(|prog| id(prog)).collect()
}

/// Whether a kernel puts programs before and after others in groups.
fn has_order(world: &World<'_>, test: &str) -> bool {
    let group = (world.group)("probe");
    let prog = guard(world);
    let answer = attach_with(world, &group, &prog, MULTI, |request| request.anchor = LinkAnchor::First);
    if answer.is_err() {
        skip(test, "this kernel has no order in control groups");
    }
    answer.is_ok()
}

fn fd(group: &OwnedFd) -> BorrowedFd<'_> {
    group.as_fd()
}

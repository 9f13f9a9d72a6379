//! Commands that attach programs without links.
//!
//! Unsafe code is allowed here because the kernel reads and writes through addresses in the attributes.

#![allow(unsafe_code)]

use super::attr::{ProgAttachAttr, ProgQueryAttr, cmd};
use super::call::{address_mut, bpf, length, raw, raw_or_0};
use super::object::relative;
use crate::abi::{AttachFlags, AttachType, Errno, LinkId, ProgId};
use crate::request::{AttachedProg, AttachedProgs, LinkTarget, ProgAttach, ProgDetach, ProgQuery};

/// Times that a list of programs is asked for that grows meanwhile.
const QUERIES: usize = 8;

/// `BPF_F_QUERY_EFFECTIVE`.
const QUERY_EFFECTIVE: u32 = 1;

fn target(target: LinkTarget<'_>) -> Result<u32, Errno> {
    Ok(match target {
        LinkTarget::Loaded => 0,
        LinkTarget::Ifindex(index) => index,
        LinkTarget::Fd(fd) => raw(fd),
        // These are attached by links only.
        LinkTarget::Uprobes(_)
        | LinkTarget::Cgroups { .. }
        | LinkTarget::Thread(_)
        | LinkTarget::Process(_) => return Err(Errno::EINVAL),
    })
}

pub(super) fn prog_attach(request: &ProgAttach<'_>) -> Result<(), Errno> {
    let replace = if request.replace.is_some() { AttachFlags::REPLACE } else { AttachFlags::empty() };
    let mut attr = ProgAttachAttr {
        target: target(request.target)?,
        prog_fd: raw(request.prog),
        attach_type: request.attach_type.0,
        flags: (request.flags | replace).bits() | request.anchor.flags(),
        replace_prog_fd: raw_or_0(request.replace),
        relative: relative(request.anchor),
        expected_revision: request.expected_revision,
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::PROG_ATTACH, &mut attr) }.map(drop)
}

pub(super) fn prog_detach(request: &ProgDetach<'_>) -> Result<(), Errno> {
    let mut attr = ProgAttachAttr {
        target: target(request.target)?,
        prog_fd: raw_or_0(request.prog),
        attach_type: request.attach_type.0,
        flags: request.anchor.flags(),
        replace_prog_fd: 0,
        relative: relative(request.anchor),
        expected_revision: request.expected_revision,
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::PROG_DETACH, &mut attr) }.map(drop)
}

/// Whether a kernel tells the links of the programs.
fn has_links(attach_type: AttachType) -> bool {
    matches!(
        attach_type,
        AttachType::TCX_INGRESS
            | AttachType::TCX_EGRESS
            | AttachType::NETKIT_PRIMARY
            | AttachType::NETKIT_PEER
    )
}

pub(super) fn prog_query(request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
    // A kernel answers ENOSPC when there are more than there is room for, and how many there are.
    let mut room = 0;
    for _ in 0..QUERIES {
        let (mut ids, mut links, mut flags) = (vec![0_u32; room], Vec::new(), Vec::new());
        if has_links(request.attach_type) {
            links.resize(room, 0_u32);
        }
        // Those of security hooks may be attached each in its own way, which has to be asked for.
        if request.attach_type == AttachType::LSM_CGROUP && !request.effective {
            flags.resize(room, 0_u32);
        }
        let mut attr = ProgQueryAttr {
            target: target(request.target)?,
            attach_type: request.attach_type.0,
            query_flags: if request.effective { QUERY_EFFECTIVE } else { 0 },
            prog_ids: address_mut(&mut ids),
            count: length(room)?,
            prog_attach_flags: address_mut(&mut flags),
            link_ids: address_mut(&mut links),
            ..ProgQueryAttr::default()
        };
        // SAFETY: each of the addresses is 0 or that of a vector of our own with `count` numbers, which the kernel writes at
        // most.
        let answer = unsafe { bpf(cmd::PROG_QUERY, &mut attr) };
        let count = attr.count as usize;
        match answer {
            Err(Errno::ENOSPC) => room = count.max(room.saturating_mul(2)),
            Err(errno) => return Err(errno),
            Ok(_) if count > room => room = count,
            Ok(_) => {
                let mut links = links.into_iter();
                let prog = |id| AttachedProg {
                    prog_id: ProgId(id),
                    link_id: LinkId(links.next().unwrap_or_default()),
                };
                return Ok(AttachedProgs {
                    progs: ids.into_iter().take(count).map(prog).collect(),
                    flags: AttachFlags::from_bits_retain(attr.attach_flags),
                    revision: attr.revision,
                });
            }
        }
    }
    Err(Errno::EAGAIN)
}

//! Programs that are attached without links (`BPF_PROG_ATTACH`, `BPF_PROG_DETACH`, `BPF_PROG_QUERY`).

use std::sync::Arc;

use skep_sys::abi::{AttachFlags, AttachType, Errno, LinkId, MapType, ProgId, ProgType};
use skep_sys::request::{
    AttachedProg, AttachedProgs, LinkAnchor, LinkTarget, ProgAttach, ProgDetach, ProgQuery,
};

use super::hook::{Hook, PROGS_MAX, check_attach_type, check_revision};
use super::order::{LINK, New, Slot, cgroup_slot, sharing};
use crate::features::Features;
use crate::kernel::Inner;
use crate::link::{Link, Place};
use crate::object::Object;
use crate::prog::Prog;

/// Flags that programs without an order may be attached with.
const BASE: AttachFlags = AttachFlags::ALLOW_OVERRIDE
    .union(AttachFlags::ALLOW_MULTI)
    .union(AttachFlags::REPLACE)
    .union(AttachFlags::PREORDER);
/// Those of places that have one.
const ORDER: AttachFlags = AttachFlags::REPLACE
    .union(AttachFlags::BEFORE)
    .union(AttachFlags::AFTER)
    .union(AttachFlags::ID)
    .union(AttachFlags::from_bits_retain(LINK));
/// The kind of program that is attached as this (`attach_type_to_prog_type`).
fn prog_type(attach_type: AttachType) -> Option<ProgType> {
    use AttachType as A;

    Some(match attach_type {
        A::CGROUP_INET_INGRESS | A::CGROUP_INET_EGRESS => ProgType::CGROUP_SKB,
        A::CGROUP_INET_SOCK_CREATE
        | A::CGROUP_INET_SOCK_RELEASE
        | A::CGROUP_INET4_POST_BIND
        | A::CGROUP_INET6_POST_BIND => ProgType::CGROUP_SOCK,
        A::CGROUP_SOCK_OPS => ProgType::SOCK_OPS,
        A::CGROUP_DEVICE => ProgType::CGROUP_DEVICE,
        A::CGROUP_SYSCTL => ProgType::CGROUP_SYSCTL,
        A::CGROUP_GETSOCKOPT | A::CGROUP_SETSOCKOPT => ProgType::CGROUP_SOCKOPT,
        A::LSM_CGROUP => ProgType::LSM,
        A::FLOW_DISSECTOR => ProgType::FLOW_DISSECTOR,
        A::SK_LOOKUP => ProgType::SK_LOOKUP,
        A::SK_MSG_VERDICT => ProgType::SK_MSG,
        A::SK_SKB_STREAM_PARSER | A::SK_SKB_STREAM_VERDICT | A::SK_SKB_VERDICT => ProgType::SK_SKB,
        A::TCX_INGRESS | A::TCX_EGRESS | A::NETKIT_PRIMARY | A::NETKIT_PEER => ProgType::SCHED_CLS,
        A::XDP => ProgType::XDP,
        A::TRACE_ITER | A::TRACE_RAW_TP | A::TRACE_FENTRY | A::TRACE_FEXIT | A::MODIFY_RETURN => {
            ProgType::TRACING
        }
        A::LSM_MAC => ProgType::LSM,
        _ if attach_type.name().is_some_and(|name| name.starts_with("cgroup_")) => ProgType::CGROUP_SOCK_ADDR,
        _ => return None,
    })
}

/// Whether programs of a kind belong to control groups.
fn is_of_cgroups(kind: ProgType) -> bool {
    matches!(
        kind,
        ProgType::CGROUP_DEVICE
            | ProgType::CGROUP_SOCK
            | ProgType::CGROUP_SOCK_ADDR
            | ProgType::CGROUP_SOCKOPT
            | ProgType::CGROUP_SYSCTL
            | ProgType::CGROUP_SKB
            | ProgType::SOCK_OPS
            | ProgType::LSM
    )
}

/// The type that tells a security hook from others, 0 for other places.
pub(crate) fn hook_type(prog: &Prog, attach_type: AttachType) -> u32 {
    match &prog.target {
        Some(target) if attach_type == AttachType::LSM_CGROUP => target.type_id,
        _ => 0,
    }
}

fn prog_of(kernel: &Inner, fd: std::os::fd::BorrowedFd<'_>, kind: ProgType) -> Result<Arc<Prog>, Errno> {
    let object = kernel.object(fd)?;
    let prog = object.prog()?;
    if prog.prog_type == kind { Ok(prog.clone()) } else { Err(Errno::EINVAL) }
}

fn cgroup(kernel: &Inner, target: LinkTarget<'_>) -> Result<u64, Errno> {
    match target {
        LinkTarget::Fd(fd) => match kernel.object(fd) {
            Ok(Object::Cgroup(id)) => Ok(id),
            _ => Err(Errno::EBADF),
        },
        _ => Err(Errno::EBADF),
    }
}

fn sockmap(kernel: &Inner, target: LinkTarget<'_>) -> Result<u32, Errno> {
    let LinkTarget::Fd(fd) = target else { return Err(Errno::EBADF) };
    let object = kernel.object(fd)?;
    let map = object.map()?;
    match map.shape.kind {
        MapType::SOCKMAP | MapType::SOCKHASH => Ok(map.id),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The order of programs at a device.
fn device(kernel: &Inner, target: LinkTarget<'_>, attach_type: AttachType) -> Result<Hook, Errno> {
    let LinkTarget::Ifindex(ifindex) = target else { return Err(Errno::ENODEV) };
    let world = kernel.world();
    let device = world.net.interfaces.get(&ifindex).ok_or(Errno::ENODEV)?;
    match attach_type {
        AttachType::TCX_INGRESS | AttachType::TCX_EGRESS => Ok(Hook::Tcx { ifindex, attach_type }),
        _ if device.netkit => Ok(Hook::Netkit { ifindex, attach_type }),
        _ => Err(Errno::ENXIO),
    }
}

/// `BPF_PROG_ATTACH`.
pub(crate) fn prog_attach(kernel: &Inner, request: &ProgAttach<'_>) -> Result<(), Errno> {
    let attach_type = request.attach_type;
    let kind = prog_type(attach_type).ok_or(Errno::EINVAL)?;
    let replaces = if request.replace.is_some() { AttachFlags::REPLACE } else { AttachFlags::empty() };
    let flags = request.flags | replaces | AttachFlags::from_bits_retain(request.anchor.flags());
    let has_order = kernel.features().contains(Features::CGROUP_ORDER);
    let allowed = match kind {
        ProgType::SCHED_CLS => ORDER,
        _ if is_of_cgroups(kind) && has_order => BASE | ORDER,
        _ if is_of_cgroups(kind) => BASE,
        _ => BASE,
    };
    let numbered = kind == ProgType::SCHED_CLS || is_of_cgroups(kind);
    if !(flags - allowed).is_empty() || !numbered && request.expected_revision != 0 {
        return Err(Errno::EINVAL);
    }
    let prog = prog_of(kernel, request.prog, kind)?;
    check_attach_type(&prog, attach_type)?;
    match kind {
        ProgType::SK_SKB | ProgType::SK_MSG => attach_to_sockmap(kernel, &prog, request, flags),
        ProgType::FLOW_DISSECTOR => attach_to_netns(kernel, &prog, request, flags),
        ProgType::SCHED_CLS => attach_to_device(kernel, &prog, request, flags),
        _ if is_of_cgroups(kind) => attach_to_cgroup(kernel, &prog, request, flags),
        _ => Err(Errno::EINVAL),
    }
}

/// Puts a program into an order, perhaps in the place of another one.
fn put(kernel: &Inner, prog: &Arc<Prog>, hook: Hook, slot: Slot, flags: AttachFlags) {
    let mut chain = kernel.chain(&hook);
    let link = Arc::new(Link::direct(prog.clone(), Place::Net(hook), flags));
    match slot {
        Slot::Instead(old) => {
            let at = chain.iter().position(|link| Arc::ptr_eq(link, &old)).unwrap_or(chain.len());
            kernel.state().direct.retain(|link| !Arc::ptr_eq(link, &old));
            chain.retain(|link| !Arc::ptr_eq(link, &old));
            chain.insert(at.min(chain.len()), link.clone());
        }
        Slot::At(at) => chain.insert(at.min(chain.len()), link.clone()),
    }
    kernel.state().direct.push(link);
    for (rank, link) in (0..).zip(&chain) {
        link.set_rank(rank);
    }
    kernel.world().net.note_change(&hook);
}

fn attach_to_cgroup(
    kernel: &Inner,
    prog: &Arc<Prog>,
    request: &ProgAttach<'_>,
    flags: AttachFlags,
) -> Result<(), Errno> {
    let attach_type = request.attach_type;
    let id = cgroup(kernel, request.target)?;
    let shares = flags.contains(AttachFlags::ALLOW_MULTI);
    let replace = match request.replace.filter(|_| shares) {
        Some(fd) => Some(prog_of(kernel, fd, prog.prog_type)?),
        None => None,
    };
    let hook = Hook::Cgroup { id, attach_type, target: hook_type(prog, attach_type) };
    let has_order = kernel.features().contains(Features::CGROUP_ORDER);
    let (anchor, revision) = (request.anchor, if has_order { request.expected_revision } else { 0 });
    let slot = cgroup_slot(kernel, &hook, &New { prog, is_link: false, flags, replace, anchor, revision })?;
    put(kernel, prog, hook, slot, flags);
    Ok(())
}

fn attach_to_sockmap(
    kernel: &Inner,
    prog: &Arc<Prog>,
    request: &ProgAttach<'_>,
    flags: AttachFlags,
) -> Result<(), Errno> {
    if !flags.is_empty() {
        return Err(Errno::EINVAL);
    }
    let map = sockmap(kernel, request.target)?;
    let hook = Hook::Sockmap { map, attach_type: request.attach_type };
    let chain = kernel.sockmap_chain(map, request.attach_type)?;
    // A link lets nobody else.
    if chain.iter().any(|link| !link.is_direct()) {
        return Err(Errno::EBUSY);
    }
    let slot = chain.first().cloned().map_or(Slot::At(0), Slot::Instead);
    put(kernel, prog, hook, slot, flags);
    Ok(())
}

fn attach_to_netns(
    kernel: &Inner,
    prog: &Arc<Prog>,
    request: &ProgAttach<'_>,
    flags: AttachFlags,
) -> Result<(), Errno> {
    if !flags.is_empty() || !matches!(request.target, LinkTarget::Loaded) {
        return Err(Errno::EINVAL);
    }
    let hook = Hook::Netns { attach_type: request.attach_type };
    let chain = kernel.chain(&hook);
    let slot = match chain.first() {
        Some(link) if !link.is_direct() => return Err(Errno::EEXIST),
        Some(link) if Arc::ptr_eq(&link.prog(), prog) => return Err(Errno::EINVAL),
        Some(link) => Slot::Instead(link.clone()),
        None => Slot::At(0),
    };
    put(kernel, prog, hook, slot, flags);
    Ok(())
}

/// `bpf_mprog_attach`.
fn attach_to_device(
    kernel: &Inner,
    prog: &Arc<Prog>,
    request: &ProgAttach<'_>,
    flags: AttachFlags,
) -> Result<(), Errno> {
    let hook = device(kernel, request.target, request.attach_type)?;
    let replace = match request.replace {
        Some(fd) => Some(prog_of(kernel, fd, prog.prog_type)?),
        None => None,
    };
    check_revision(kernel, &hook, request.expected_revision)?;
    let chain = kernel.chain(&hook);
    if chain.iter().any(|link| Arc::ptr_eq(&link.prog(), prog)) {
        return Err(Errno::EEXIST);
    }
    let at = super::hook::anchored(kernel, &chain, request.anchor)?;
    let slot = match replace {
        Some(old) => {
            let found = chain.iter().position(|link| Arc::ptr_eq(&link.prog(), &old)).ok_or(Errno::ENOENT)?;
            let there = chain.get(found).ok_or(Errno::ENOENT)?;
            // A link's program is exchanged through the link.
            if !there.is_direct() {
                return Err(Errno::EBUSY);
            }
            let wanted = if flags.contains(AttachFlags::AFTER) { at.checked_sub(1) } else { Some(at) };
            let ordered = flags.intersects(AttachFlags::BEFORE | AttachFlags::AFTER);
            if ordered && wanted != Some(found) {
                return Err(Errno::ERANGE);
            }
            Slot::Instead(there.clone())
        }
        None if chain.len() >= PROGS_MAX => return Err(Errno::ERANGE),
        None => Slot::At(at),
    };
    put(kernel, prog, hook, slot, flags);
    Ok(())
}

/// `BPF_PROG_DETACH`.
pub(crate) fn prog_detach(kernel: &Inner, request: &ProgDetach<'_>) -> Result<(), Errno> {
    let attach_type = request.attach_type;
    let kind = prog_type(attach_type).ok_or(Errno::EINVAL)?;
    let anchored = request.anchor.flags() != 0;
    if kind != ProgType::SCHED_CLS && anchored
        || !is_of_cgroups(kind) && kind != ProgType::SCHED_CLS && request.expected_revision != 0
    {
        return Err(Errno::EINVAL);
    }
    let prog = request.prog.map(|fd| prog_of(kernel, fd, kind)).transpose();
    let given = || prog.clone()?.ok_or(Errno::EBADF);
    let (hook, found) = match kind {
        ProgType::SK_SKB | ProgType::SK_MSG => {
            let map = sockmap(kernel, request.target)?;
            let prog = given()?;
            let chain = kernel.sockmap_chain(map, attach_type)?;
            if chain.iter().any(|link| !link.is_direct()) {
                return Err(Errno::EBUSY);
            }
            let found = chain.into_iter().find(|link| Arc::ptr_eq(&link.prog(), &prog));
            (Hook::Sockmap { map, attach_type }, found)
        }
        ProgType::FLOW_DISSECTOR => {
            if !matches!(request.target, LinkTarget::Loaded) {
                return Err(Errno::EINVAL);
            }
            let prog = given()?;
            let hook = Hook::Netns { attach_type };
            let chain = kernel.chain(&hook);
            if chain.iter().any(|link| !link.is_direct()) {
                return Err(Errno::EINVAL);
            }
            (hook, chain.into_iter().find(|link| Arc::ptr_eq(&link.prog(), &prog)))
        }
        ProgType::SCHED_CLS => {
            let prog = prog?;
            let hook = device(kernel, request.target, attach_type)?;
            check_revision(kernel, &hook, request.expected_revision)?;
            (hook, Some(on_device(kernel, &kernel.chain(&hook), prog.as_ref(), request.anchor)?))
        }
        _ if is_of_cgroups(kind) => {
            let id = cgroup(kernel, request.target)?;
            // A descriptor of something else counts as none.
            let prog = prog.ok().flatten();
            let target = prog.as_ref().map_or(0, |prog| hook_type(prog, attach_type));
            let hook = Hook::Cgroup { id, attach_type, target };
            check_revision(kernel, &hook, request.expected_revision)?;
            let chain = kernel.chain(&hook);
            let found = if !sharing(&chain).contains(AttachFlags::ALLOW_MULTI) {
                chain.into_iter().next()
            } else {
                let prog = prog.ok_or(Errno::EINVAL)?;
                chain.into_iter().find(|link| link.is_direct() && Arc::ptr_eq(&link.prog(), &prog))
            };
            (hook, found)
        }
        _ => return Err(Errno::EINVAL),
    };
    let found = found.ok_or(Errno::ENOENT)?;
    kernel.state().direct.retain(|link| !Arc::ptr_eq(link, &found));
    kernel.world().net.note_change(&hook);
    Ok(())
}

/// The program of a device that is meant (`bpf_mprog_detach`): the first or last one where none is named.
fn on_device(
    kernel: &Inner,
    chain: &[Arc<Link>],
    prog: Option<&Arc<Prog>>,
    anchor: LinkAnchor<'_>,
) -> Result<Arc<Link>, Errno> {
    let (before, after) =
        (anchor.flags() & AttachFlags::BEFORE.bits() != 0, anchor.flags() & AttachFlags::AFTER.bits() != 0);
    let found = match prog {
        Some(prog) => chain.iter().position(|link| Arc::ptr_eq(&link.prog(), prog)).ok_or(Errno::ENOENT)?,
        None if chain.is_empty() => return Err(Errno::ENOENT),
        None => match anchor {
            LinkAnchor::First => 0,
            LinkAnchor::Last => chain.len() - 1, // it is not empty
            // One before or after another one.
            LinkAnchor::Default => return Err(Errno::EINVAL),
            named => {
                let at = super::hook::anchored(kernel, chain, named)?;
                let at = if before { at.checked_sub(1) } else { Some(at) };
                at.filter(|at| *at < chain.len()).ok_or(Errno::ERANGE)?
            }
        },
    };
    if prog.is_some() && (before || after) {
        let at = super::hook::anchored(kernel, chain, anchor)?;
        let wanted = match anchor {
            LinkAnchor::First => Some(0),
            LinkAnchor::Last => chain.len().checked_sub(1),
            _ if before => at.checked_sub(1),
            _ => Some(at),
        };
        if wanted != Some(found) {
            return Err(Errno::ERANGE);
        }
    }
    let link = chain.get(found).ok_or(Errno::ENOENT)?;
    if link.is_direct() { Ok(link.clone()) } else { Err(Errno::EBUSY) }
}

/// `BPF_PROG_QUERY`.
pub(crate) fn prog_query(kernel: &Inner, request: &ProgQuery<'_>) -> Result<AttachedProgs, Errno> {
    let attach_type = request.attach_type;
    let kind = prog_type(attach_type).ok_or(Errno::EINVAL)?;
    let mut answer = AttachedProgs::default();
    let chain = match kind {
        ProgType::SK_SKB | ProgType::SK_MSG if request.effective => return Err(Errno::EINVAL),
        ProgType::SK_SKB | ProgType::SK_MSG => {
            let map = sockmap(kernel, request.target)?;
            kernel.sockmap_chain(map, attach_type)?
        }
        ProgType::FLOW_DISSECTOR | ProgType::SK_LOOKUP if request.effective => return Err(Errno::EINVAL),
        ProgType::FLOW_DISSECTOR | ProgType::SK_LOOKUP => {
            let LinkTarget::Fd(fd) = request.target else { return Err(Errno::EBADF) };
            match kernel.object(fd).map_err(|_| Errno::EBADF)? {
                Object::Netns => kernel.chain(&Hook::Netns { attach_type }),
                _ => return Err(Errno::EINVAL),
            }
        }
        ProgType::SCHED_CLS if request.effective => return Err(Errno::EINVAL),
        ProgType::SCHED_CLS => {
            let hook = device(kernel, request.target, attach_type)?;
            answer.revision = kernel.world().net.revision(&hook);
            kernel.chain(&hook)
        }
        _ if attach_type != AttachType::LSM_MAC && is_of_cgroups(kind) => {
            let id = cgroup(kernel, request.target)?;
            let targets = kernel.hook_types(attach_type);
            if !request.effective {
                let hook = Hook::Cgroup { id, attach_type, target: 0 };
                if attach_type != AttachType::LSM_CGROUP {
                    answer.revision = kernel.world().net.revision(&hook);
                    answer.flags = sharing(&kernel.chain(&hook));
                }
                targets
                    .into_iter()
                    .flat_map(|target| kernel.chain(&Hook::Cgroup { id, attach_type, target }))
                    .collect()
            } else {
                targets.into_iter().flat_map(|target| kernel.effective(id, attach_type, target)).collect()
            }
        }
        _ => return Err(Errno::EINVAL),
    };
    answer.progs = chain
        .iter()
        .map(|link| {
            let mut prog = AttachedProg::default();
            prog.prog_id = ProgId(link.prog().id);
            prog.link_id = LinkId(if kind == ProgType::SCHED_CLS { link.id } else { 0 });
            prog
        })
        .collect();
    Ok(answer)
}

impl Inner {
    /// The program of a map of sockets: `EBUSY` where one of another kind is in its place.
    fn sockmap_chain(&self, map: u32, attach_type: AttachType) -> Result<Vec<Arc<Link>>, Errno> {
        let other = match attach_type {
            AttachType::SK_SKB_STREAM_VERDICT => Some(AttachType::SK_SKB_VERDICT),
            AttachType::SK_SKB_VERDICT => Some(AttachType::SK_SKB_STREAM_VERDICT),
            _ => None,
        };
        if let Some(attach_type) = other
            && !self.chain(&Hook::Sockmap { map, attach_type }).is_empty()
        {
            return Err(Errno::EBUSY);
        }
        Ok(self.chain(&Hook::Sockmap { map, attach_type }))
    }
}

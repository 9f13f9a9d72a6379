//! Attaching programs: what makes the links of the simulated kernel.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, MapType, ProgType};
use skep_sys::request::{LinkCreate, LinkTarget};

use crate::event::{Code, Named, Point, PointKind};
use crate::fd::Access;
use crate::features::Features;
use crate::kernel::Inner;
use crate::link::{IterOf, Link, Place};
use crate::net::{is_net, link_net};
use crate::object::Object;
use crate::prog::Prog;
use crate::tables;

/// Modes of XDP that a link may ask for: `XDP_FLAGS_SKB_MODE`, `_DRV_MODE` and `_HW_MODE`.
const XDP_MODES: u32 = 0b1110;
/// The mode that no driver has a part in (`XDP_FLAGS_SKB_MODE`).
const XDP_GENERIC: u32 = 0b0010;

pub(crate) fn new_link(
    kernel: &Inner,
    prog: &Arc<Prog>,
    place: Place,
    cookie: u64,
) -> Result<OwnedFd, Errno> {
    let link = kernel.state().links.add(|id| Link::new(id, prog.clone(), place).with_cookie(cookie))?;
    kernel.world().places.extend(Named::of(&link));
    kernel.open(Object::Link(link), Access::ALL)
}

/// `BPF_LINK_CREATE`.
pub(crate) fn link_create(kernel: &Inner, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    if !kernel.features().contains(Features::LINKS) {
        return Err(Errno::EINVAL);
    }
    let object = kernel.object(request.prog)?;
    if let Object::Map(map) = &object {
        return tables::link(kernel, map, request);
    }
    let prog = object.prog()?;
    let is_known = request.attach_type.0 <= kernel.config().last_attach_type.0;
    let makes_links = match prog.prog_type {
        ProgType::SK_MSG | ProgType::SK_SKB => kernel.features().contains(Features::SOCKMAP_LINK),
        _ => true,
    };
    if !is_known || !makes_links {
        return Err(Errno::EINVAL);
    }
    check_options(kernel, request)?;
    match prog.prog_type {
        ProgType::XDP => link_xdp(kernel, prog, request),
        ProgType::TRACING if is_iterator(prog, request) => link_iterator(kernel, prog, request),
        ProgType::LSM if request.attach_type == AttachType::LSM_CGROUP => link_net(kernel, prog, request),
        ProgType::TRACING | ProgType::LSM | ProgType::EXT => {
            if request.attach_type != prog.expected_attach_type
                || !matches!(request.target, LinkTarget::Loaded)
                || request.flags != 0
            {
                return Err(Errno::EINVAL);
            }
            link_loaded(kernel, prog, request.cookie)
        }
        _ if request.attach_type == AttachType::PERF_EVENT
            && !kernel.features().contains(Features::PERF_LINK) =>
        {
            Err(Errno::EINVAL)
        }
        ProgType::PERF_EVENT if request.attach_type == AttachType::PERF_EVENT => {
            link_perf_event(kernel, prog, request)
        }
        ProgType::KPROBE if request.attach_type == AttachType::TRACE_UPROBE_MULTI => {
            link_uprobes(kernel, prog, request)
        }
        ProgType::PERF_EVENT | ProgType::TRACEPOINT if request.attach_type != AttachType::PERF_EVENT => {
            Err(Errno::EINVAL)
        }
        _ if request.attach_type == AttachType::XDP => Err(Errno::EINVAL),
        _ if is_net(prog.prog_type) => link_net(kernel, prog, request),
        _ if matches!(request.target, LinkTarget::Fd(_)) => Err(Errno::EBADF),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// Refuses a place in an order where there is none, and a cookie where no program could read it.
fn check_options(kernel: &Inner, request: &LinkCreate<'_>) -> Result<(), Errno> {
    use AttachType as A;

    let attach_type = request.attach_type;
    let is_ordered =
        matches!(attach_type, A::TCX_INGRESS | A::TCX_EGRESS | A::NETKIT_PRIMARY | A::NETKIT_PEER)
            || attach_type.name().is_some_and(|name| name.starts_with("cgroup_"));
    if request.anchor.flags() != 0 && !is_ordered {
        return Err(Errno::EINVAL);
    }
    // Where there is an order, what would be the cookie stands for something else, and it is not passed.
    if request.cookie == 0 || is_ordered || attach_type == A::NETFILTER {
        return Ok(());
    }
    let is_read = matches!(
        attach_type,
        A::PERF_EVENT
            | A::TRACE_RAW_TP
            | A::TRACE_FENTRY
            | A::TRACE_FEXIT
            | A::MODIFY_RETURN
            | A::TRACE_FSESSION
            | A::LSM_MAC
    );
    match kernel.features().contains(Features::COOKIE) {
        true if is_read => Ok(()),
        false if is_read => Err(Errno::E2BIG),
        _ => Err(Errno::EINVAL),
    }
}

/// `BPF_RAW_TRACEPOINT_OPEN`.
pub(crate) fn raw_tracepoint_open(
    kernel: &Inner,
    prog: BorrowedFd<'_>,
    name: Option<&str>,
    cookie: u64,
) -> Result<OwnedFd, Errno> {
    let object = kernel.object(prog)?;
    let prog = object.prog()?;
    if cookie != 0 && !kernel.features().contains(Features::COOKIE) {
        return Err(Errno::E2BIG);
    }
    match prog.prog_type {
        ProgType::TRACING | ProgType::LSM | ProgType::EXT => match name {
            Some(_) => Err(Errno::EINVAL),
            None => link_loaded(kernel, prog, cookie),
        },
        ProgType::RAW_TRACEPOINT | ProgType::RAW_TRACEPOINT_WRITABLE => {
            link_raw_tracepoint(kernel, prog, name.ok_or(Errno::EFAULT)?, cookie)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn link_xdp(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    if request.attach_type != AttachType::XDP
        || request.flags & !XDP_MODES != 0
        || request.flags.count_ones() > 1
        || matches!(prog.expected_attach_type, AttachType::XDP_DEVMAP | AttachType::XDP_CPUMAP)
    {
        return Err(Errno::EINVAL);
    }
    let LinkTarget::Ifindex(ifindex) = request.target else {
        return Err(Errno::EINVAL);
    };
    if !kernel.world().net.interfaces.contains_key(&ifindex) {
        return Err(Errno::EINVAL);
    }
    if kernel.xdp_link(ifindex).is_some() {
        return Err(Errno::EBUSY);
    }
    let generic = request.flags & XDP_GENERIC != 0;
    if prog.device.is_some_and(|device| device != ifindex || generic) {
        return Err(Errno::EINVAL);
    }
    new_link(kernel, prog, Place::Xdp { ifindex }, 0)
}

pub(crate) fn link_raw_tracepoint(
    kernel: &Inner,
    prog: &Arc<Prog>,
    name: &str,
    cookie: u64,
) -> Result<OwnedFd, Errno> {
    if !kernel.has_tracepoint(name) {
        return Err(Errno::ENOENT);
    }
    new_link(kernel, prog, Place::RawTracepoint(name.to_owned()), cookie)
}

/// Attaches a program to what it named at load.
pub(crate) fn link_loaded(kernel: &Inner, prog: &Arc<Prog>, cookie: u64) -> Result<OwnedFd, Errno> {
    let target = prog.target.as_ref().ok_or(Errno::EINVAL)?;
    match prog.expected_attach_type {
        AttachType::TRACE_RAW_TP => {
            let name = target.name.strip_prefix("btf_trace_").unwrap_or(&target.name);
            link_raw_tracepoint(kernel, prog, name, cookie)
        }
        AttachType::TRACE_ITER => new_link(kernel, prog, Place::Iter { of: IterOf::All }, cookie),
        attach_type => {
            let (target_obj_id, target_btf_id) = (target.obj_id, target.type_id);
            new_link(kernel, prog, Place::Tracing { attach_type, target_obj_id, target_btf_id }, cookie)
        }
    }
}

/// Attaches a program to a perf event.
fn link_perf_event(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    let LinkTarget::Fd(fd) = request.target else { return Err(Errno::EBADF) };
    let Ok(Object::Perf(event)) = kernel.object(fd) else { return Err(Errno::EBADF) };
    if request.flags != 0 || prog.prog_type != ProgType::PERF_EVENT {
        return Err(Errno::EINVAL);
    }
    // An event has one program.
    if kernel.links_of_event(&event) {
        return Err(Errno::EEXIST);
    }
    let points = vec![Point { kind: PointKind::Perf(Some(event)), cookie: None }];
    new_link(kernel, prog, Place::Points { points, multi: false }, request.cookie)
}

/// Attaches a program to places in a file (`bpf_uprobe_multi_link_attach`). There are no files here: each path is one of a
/// program, and a place is its offset.
fn link_uprobes(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    const MOST: usize = 1 << 20;
    let LinkTarget::Uprobes(places) = request.target else { return Err(Errno::EINVAL) };
    let count = places.offsets.len();
    let of_each = |words: &[u64]| words.is_empty() || words.len() == count;
    if !kernel.features().contains(Features::UPROBE_MULTI)
        || prog.expected_attach_type != AttachType::TRACE_UPROBE_MULTI
        || request.flags != 0
        || request.cookie != 0
        || count == 0
        || !of_each(places.cookies)
        || !of_each(places.counters)
        || places.pid.cast_signed() < 0
    {
        return Err(Errno::EINVAL);
    }
    if count > MOST {
        return Err(Errno::E2BIG);
    }
    // A directory.
    let Some(path) = places.path.to_str().filter(|path| !path.ends_with('/')) else {
        return Err(Errno::EBADF);
    };
    let process = match places.pid {
        0 => None,
        pid if kernel.world().tasks.get(pid).is_some_and(|task| task.tgid() == pid) => Some(pid),
        _ => return Err(Errno::ESRCH),
    };
    let place = |(nth, &offset): (usize, &u64)| {
        let code = Code { path: path.to_owned(), function: String::new(), offset, process };
        let kind = if places.returns { PointKind::Uretprobe(code) } else { PointKind::Uprobe(code) };
        Point { kind, cookie: Some(places.cookies.get(nth).copied().unwrap_or_default()) }
    };
    let points = places.offsets.iter().enumerate().map(place).collect();
    new_link(kernel, prog, Place::Points { points, multi: true }, 0)
}

fn is_iterator(prog: &Prog, request: &LinkCreate<'_>) -> bool {
    prog.expected_attach_type == AttachType::TRACE_ITER && request.attach_type == AttachType::TRACE_ITER
}

/// Makes the link of an iterator (`bpf_iter_link_attach`).
fn link_iterator(kernel: &Inner, prog: &Arc<Prog>, request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    if request.flags != 0 || request.cookie != 0 {
        return Err(Errno::EINVAL);
    }
    let name = prog.target.as_ref().map_or("", |target| &target.name);
    let (of_a_map, of_groups) = (maps_of_iterator(name), name == "bpf_iter_cgroup");
    let of = match request.target {
        LinkTarget::Loaded if of_a_map.is_some() => return Err(Errno::EBADF),
        // Without an order there is none to go in.
        LinkTarget::Loaded if of_groups => return Err(Errno::EINVAL),
        LinkTarget::Loaded => IterOf::All,
        LinkTarget::Fd(fd) => {
            let map = kernel.object(fd)?.map()?.clone();
            match of_a_map {
                Some(kinds) if !kinds.contains(&map.shape.kind) => return Err(Errno::EINVAL),
                Some(_) => IterOf::Map(map),
                None => IterOf::All,
            }
        }
        LinkTarget::Cgroups { cgroup, order } if of_groups => {
            let Object::Cgroup(id) = kernel.object(cgroup)? else { return Err(Errno::EBADF) };
            let ids = match order {
                1 => vec![id],
                2 | 3 => kernel.cgroups_below(id, order == 2),
                4 => kernel.cgroup_path(id).into_iter().rev().collect(),
                _ => return Err(Errno::EINVAL),
            };
            IterOf::Cgroup { ids }
        }
        LinkTarget::Thread(thread) if name.starts_with("bpf_iter_task") => IterOf::Thread(thread),
        LinkTarget::Process(process) if name.starts_with("bpf_iter_task") => IterOf::Process(process),
        _ => return Err(Errno::EINVAL),
    };
    new_link(kernel, prog, Place::Iter { of }, 0)
}

/// The kinds of maps that an iterator goes through, if it goes through one map.
fn maps_of_iterator(name: &str) -> Option<&'static [MapType]> {
    use MapType as M;
    match name {
        "bpf_iter_bpf_map_elem" => {
            Some(&[M::HASH, M::LRU_HASH, M::ARRAY, M::PERCPU_HASH, M::LRU_PERCPU_HASH, M::PERCPU_ARRAY])
        }
        "bpf_iter_sockmap" => Some(&[M::SOCKMAP, M::SOCKHASH]),
        "bpf_iter_bpf_sk_storage_map" => Some(&[M::SK_STORAGE]),
        _ => None,
    }
}

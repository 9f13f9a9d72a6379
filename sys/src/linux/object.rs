//! Commands on objects of any kind: ids, pins, info, links.
//!
//! Unsafe code is allowed here because the kernel reads and writes through addresses in the attributes.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bytes::Bytes;

use super::attr::{
    Attr, EnableStatsAttr, IdAttr, InfoAttr, IterCreateAttr, LinkCreateAttr, LinkDetachAttr, LinkUpdateAttr,
    ObjAttr, RawBtfInfo, RawBtfInfoShort, RawLinkInfo, RawMapInfo, RawProgInfo, RawTracepointAttr,
    TokenCreateAttr, UprobesAttr, cmd,
};
use super::call::{address, address_mut, bpf, bpf_fd, errno, length, path, raw, raw_or_0, text};
use super::system::check_kind;
use crate::abi::{
    AttachFlags, AttachType, BtfObjectId, Errno, LinkId, LinkType, MapFlags, MapId, MapType, OpenFlags,
    ProgId, ProgType, StatsType,
};
use crate::backend::ObjectKind;
use crate::request::{
    BtfInfo, LinkAnchor, LinkCreate, LinkInfo, LinkPlace, LinkTarget, LinkUpdate, MapInfo, OpenById, Pin,
    ProgInfo, Uprobes,
};

/// Longest name of a BTF object or a tracepoint that is asked for: names of modules have at most 56 bytes, those of
/// tracepoints are C identifiers.
const NAME_LEN: usize = 256;

/// Ids of maps that are asked for at first; few programs use more maps.
const MAP_IDS: usize = 64;

/// Fills `info` by `BPF_OBJ_GET_INFO_BY_FD`.
///
/// # Safety
/// As for [`bpf`], of the addresses in `info`.
pub(super) unsafe fn info<I: Attr>(fd: BorrowedFd<'_>, info: &mut I) -> Result<(), Errno> {
    let mut attr = InfoAttr {
        bpf_fd: raw(fd),
        info_len: size_of::<I>() as u32, // a structure of some hundred bytes
        info: address_mut(std::slice::from_mut(info)),
    };
    // SAFETY: `info` is borrowed exclusively for `info_len` bytes, which the kernel reads and writes; it leaves plain
    // integers of any value. What is in it is the caller's promise.
    unsafe { bpf(cmd::OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

pub(super) fn map_info(map: BorrowedFd<'_>) -> Result<MapInfo, Errno> {
    let mut raw = RawMapInfo::default();
    check_kind(map, "bpf-map")?;
    // SAFETY: `struct bpf_map_info` as passed holds no address.
    unsafe { info(map, &mut raw) }?;
    Ok(MapInfo {
        map_type: MapType(raw.map_type),
        id: MapId(raw.id),
        key_size: raw.key_size,
        value_size: raw.value_size,
        max_entries: raw.max_entries,
        flags: MapFlags::from_bits_retain(raw.map_flags),
        name: text(&raw.name),
        ifindex: raw.ifindex,
        btf_id: BtfObjectId(raw.btf_id),
        btf_key_type_id: raw.btf_key_type_id,
        btf_value_type_id: raw.btf_value_type_id,
        vmlinux_value_type_id: raw.btf_vmlinux_value_type_id,
        vmlinux_btf_id: BtfObjectId(raw.btf_vmlinux_id),
        map_extra: raw.map_extra,
    })
}

pub(super) fn prog_info(prog: BorrowedFd<'_>) -> Result<ProgInfo, Errno> {
    check_kind(prog, "bpf-prog")?;
    let mut room = MAP_IDS;
    loop {
        let mut map_ids = vec![0u32; room];
        let mut raw = RawProgInfo {
            nr_map_ids: length(room)?,
            map_ids: address_mut(&mut map_ids),
            ..RawProgInfo::default()
        };
        // SAFETY: `map_ids` is ours for `nr_map_ids` numbers, which the kernel writes; there is no other address.
        unsafe { info(prog, &mut raw) }?;
        let count = raw.nr_map_ids as usize;
        if count > room {
            // Grows in every round, and a program has a bounded number of maps.
            room = count;
            continue;
        }
        map_ids.truncate(count);
        return Ok(ProgInfo {
            prog_type: ProgType(raw.prog_type),
            id: ProgId(raw.id),
            tag: raw.tag,
            name: text(&raw.name),
            xlated_len: raw.xlated_prog_len,
            jited_len: raw.jited_prog_len,
            load_time: raw.load_time,
            created_by_uid: raw.created_by_uid,
            map_ids: map_ids.into_iter().map(MapId).collect(),
            btf_id: BtfObjectId(raw.btf_id),
            verified_insns: raw.verified_insns,
            gpl_compatible: first_bit(raw.gpl_compatible),
            nr_func_info: raw.nr_func_info,
            nr_line_info: raw.nr_line_info,
            run_cnt: raw.run_cnt,
            run_time_ns: raw.run_time_ns,
            recursion_misses: raw.recursion_misses,
            nr_jited_ksyms: raw.nr_jited_ksyms,
            nr_jited_line_info: raw.nr_jited_line_info,
            attach_btf_obj_id: BtfObjectId(raw.attach_btf_obj_id),
            attach_btf_id: raw.attach_btf_id,
            ifindex: raw.ifindex,
            netns_dev: raw.netns_dev,
            netns_ino: raw.netns_ino,
        });
    }
}

/// The first bit of a C bit field of 32 bits.
fn first_bit(field: u32) -> bool {
    field & if cfg!(target_endian = "big") { 1 << 31 } else { 1 } != 0
}

pub(super) fn btf_info(btf: BorrowedFd<'_>) -> Result<BtfInfo, Errno> {
    check_kind(btf, "btf")?;
    let mut name = [0u8; NAME_LEN];
    let mut raw =
        RawBtfInfo { name: address_mut(&mut name), name_len: NAME_LEN as u32, ..RawBtfInfo::default() };
    // SAFETY: `name` is ours for `name_len` bytes, which the kernel writes; there is no other address.
    match unsafe { info(btf, &mut raw) } {
        Ok(()) => Ok(BtfInfo {
            id: BtfObjectId(raw.id),
            name: text(&name),
            names_unknown: false,
            kernel: raw.kernel_btf != 0,
            size: raw.btf_size,
        }),
        // Before Linux 5.11 there were no names, and only programs' BTF.
        Err(Errno::E2BIG) => {
            let mut raw = RawBtfInfoShort::default();
            // SAFETY: without a buffer for the bytes there is no address.
            unsafe { info(btf, &mut raw) }?;
            Ok(BtfInfo {
                id: BtfObjectId(raw.id),
                names_unknown: true,
                size: raw.btf_size,
                ..BtfInfo::default()
            })
        }
        Err(errno) => Err(errno),
    }
}

pub(super) fn btf_bytes(btf: BorrowedFd<'_>) -> Result<Bytes, Errno> {
    check_kind(btf, "btf")?;
    let mut raw = RawBtfInfoShort::default();
    // SAFETY: without a buffer for the bytes there is no address.
    unsafe { info(btf, &mut raw) }?;
    let mut bytes = vec![0; raw.btf_size as usize];
    let mut raw = RawBtfInfoShort { btf: address_mut(&mut bytes), btf_size: raw.btf_size, id: 0 };
    // SAFETY: `bytes` is ours for `btf_size` bytes, which the kernel writes; there is no other address.
    unsafe { info(btf, &mut raw) }?;
    // BTF never changes once it is loaded, so this is the length that was made room for.
    bytes.truncate(raw.btf_size as usize);
    Ok(Bytes::from(bytes))
}

pub(super) fn link_info(link: BorrowedFd<'_>) -> Result<LinkInfo, Errno> {
    check_kind(link, "bpf-link")?;
    let mut raw = RawLinkInfo::default();
    // SAFETY: `struct bpf_link_info` as passed holds no address.
    unsafe { info(link, &mut raw) }?;
    let [first, second, third, fourth] = raw.place;
    let place = match LinkType(raw.link_type) {
        LinkType::RAW_TRACEPOINT => LinkPlace::RawTracepoint { name: raw_tracepoint_name(link)? },
        LinkType::TRACING => {
            LinkPlace::Tracing { attach_type: AttachType(first), target_obj_id: second, target_btf_id: third }
        }
        LinkType::XDP => LinkPlace::Xdp { ifindex: first },
        LinkType::TCX => LinkPlace::Tcx { ifindex: first, attach_type: AttachType(second) },
        LinkType::NETKIT => LinkPlace::Netkit { ifindex: first, attach_type: AttachType(second) },
        LinkType::CGROUP => LinkPlace::Cgroup { id: join(first, second), attach_type: AttachType(third) },
        LinkType::NETNS => LinkPlace::Netns { inode: first, attach_type: AttachType(second) },
        LinkType::NETFILTER => {
            LinkPlace::Netfilter { family: first, hook: second, priority: third.cast_signed(), flags: fourth }
        }
        LinkType::SOCKMAP => LinkPlace::Sockmap { map_id: MapId(first), attach_type: AttachType(second) },
        _ => LinkPlace::Unknown,
    };
    Ok(LinkInfo {
        link_type: LinkType(raw.link_type),
        id: LinkId(raw.id),
        prog_id: ProgId(raw.prog_id),
        place,
    })
}

fn raw_tracepoint_name(link: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut name = [0u8; NAME_LEN];
    let [low, high] = halves(address_mut(&mut name));
    let mut raw = RawLinkInfo { place: [low, high, NAME_LEN as u32, 0], ..RawLinkInfo::default() };
    // SAFETY: for a raw tracepoint the first two halves are the address of `name`, which is ours for the length in
    // the third, and which the kernel writes. The kind of a link never changes.
    match unsafe { info(link, &mut raw) } {
        // A longer name is cut, which the kernel reports after writing it.
        Ok(()) | Err(Errno::ENOSPC) => Ok(text(&name)),
        Err(errno) => Err(errno),
    }
}

/// A 64-bit number as two 32-bit ones in the order of the machine's memory.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

pub(super) fn next_id(kind: ObjectKind, id: u32) -> Result<u32, Errno> {
    let command = match kind {
        ObjectKind::Map => cmd::MAP_GET_NEXT_ID,
        ObjectKind::Program => cmd::PROG_GET_NEXT_ID,
        ObjectKind::Btf => cmd::BTF_GET_NEXT_ID,
        ObjectKind::Link => cmd::LINK_GET_NEXT_ID,
    };
    let mut attr = IdAttr { id, ..IdAttr::default() };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(command, &mut attr) }?;
    Ok(attr.next_id)
}

pub(super) fn open_by_id(request: &OpenById<'_>) -> Result<OwnedFd, Errno> {
    let command = match request.kind {
        ObjectKind::Map => cmd::MAP_GET_FD_BY_ID,
        ObjectKind::Program => cmd::PROG_GET_FD_BY_ID,
        ObjectKind::Btf => cmd::BTF_GET_FD_BY_ID,
        ObjectKind::Link => cmd::LINK_GET_FD_BY_ID,
    };
    let token = if request.token.is_some() { MapFlags::TOKEN_FD.bits() } else { 0 };
    let mut attr = IdAttr {
        id: request.id,
        next_id: 0,
        open_flags: request.flags.bits() | token,
        fd_by_id_token_fd: raw_or_0(request.token),
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(command, &mut attr) }
}

pub(super) fn enable_stats(stats: StatsType) -> Result<OwnedFd, Errno> {
    let mut attr = EnableStatsAttr { stats_type: stats.0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(cmd::ENABLE_STATS, &mut attr) }
}

pub(super) fn token_create(bpffs: &Path) -> Result<OwnedFd, Errno> {
    let directory = super::system::open_directory(bpffs)?;
    let mut attr = TokenCreateAttr { flags: 0, bpffs_fd: raw(directory.as_fd()) };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(cmd::TOKEN_CREATE, &mut attr) }
}

pub(super) fn pin(pin: Pin<'_>) -> Result<(), Errno> {
    let path = path(pin.path)?;
    let mut attr =
        ObjAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: raw(pin.fd), file_flags: 0 };
    // SAFETY: `path` is ours and ends with a NUL, up to which the kernel reads it.
    unsafe { bpf(cmd::OBJ_PIN, &mut attr) }.map(drop)
}

pub(super) fn open_pinned(at: &Path, flags: OpenFlags) -> Result<OwnedFd, Errno> {
    let path = path(at)?;
    let mut attr =
        ObjAttr { pathname: address(path.as_bytes_with_nul()), bpf_fd: 0, file_flags: flags.bits() };
    // SAFETY: `path` is ours and ends with a NUL, up to which the kernel reads it.
    unsafe { bpf_fd(cmd::OBJ_GET, &mut attr) }
}

pub(super) fn raw_tracepoint_open(
    prog: BorrowedFd<'_>,
    name: Option<&str>,
    cookie: u64,
) -> Result<OwnedFd, Errno> {
    let name = name.map(CString::new).transpose().map_err(|_| Errno::EINVAL)?;
    let mut attr = RawTracepointAttr {
        name: name.as_ref().map_or(0, |name| address(name.as_bytes_with_nul())),
        prog_fd: raw(prog),
        pad: 0,
        cookie,
    };
    // SAFETY: `name`, if any, is ours and ends with a NUL, up to which the kernel reads it.
    unsafe { bpf_fd(cmd::RAW_TRACEPOINT_OPEN, &mut attr) }
}

pub(super) fn link_create(request: &LinkCreate<'_>) -> Result<OwnedFd, Errno> {
    let target = match request.target {
        LinkTarget::Loaded => 0,
        LinkTarget::Ifindex(index) => index,
        LinkTarget::Fd(fd) => raw(fd),
        LinkTarget::Uprobes(places) => return link_uprobes(request, &places),
        _ if request.attach_type != AttachType::TRACE_ITER => return Err(Errno::EINVAL),
        LinkTarget::Cgroups { .. } | LinkTarget::Thread(_) | LinkTarget::Process(_) => 0,
    };
    // What an iterator goes through, as `union bpf_iter_link_info`: a map, an order and a group, a thread or a process.
    let iterated = match request.target {
        LinkTarget::Cgroups { cgroup, order } => [order, raw(cgroup), 0, 0],
        LinkTarget::Thread(thread) => [thread, 0, 0, 0],
        LinkTarget::Process(process) => [0, process, 0, 0],
        _ => [target, 0, 0, 0],
    };
    let iterates = request.attach_type == AttachType::TRACE_ITER && iterated != [0; 4];
    let options = match request.attach_type {
        _ if iterates => [address(&iterated), size_of_val(&iterated) as u64],
        AttachType::NETFILTER => request.netfilter.map_or([0, 0], |hook| {
            [join(hook.family, hook.hook), join(hook.priority.cast_unsigned(), hook.flags)]
        }),
        AttachType::TCX_INGRESS
        | AttachType::TCX_EGRESS
        | AttachType::NETKIT_PRIMARY
        | AttachType::NETKIT_PEER => [join(relative(request.anchor), 0), request.expected_revision],
        kind if is_cgroup(kind) => [join(relative(request.anchor), 0), request.expected_revision],
        _ if request.anchor.flags() != 0 => return Err(Errno::EINVAL),
        _ if request.cookie == 0 => [0, 0],
        AttachType::PERF_EVENT => [request.cookie, 0],
        AttachType::TRACE_RAW_TP
        | AttachType::TRACE_FENTRY
        | AttachType::TRACE_FEXIT
        | AttachType::MODIFY_RETURN
        | AttachType::TRACE_FSESSION
        | AttachType::LSM_MAC => [0, request.cookie],
        _ => return Err(Errno::EINVAL),
    };
    let mut attr = LinkCreateAttr {
        prog_fd: raw(request.prog),
        target: if iterates { 0 } else { target },
        attach_type: request.attach_type.0,
        flags: request.flags | request.anchor.flags(),
        options,
    };
    // SAFETY: `iterated` is ours, and its length is told; for all other kinds whose options would hold an address they are
    // 0: those whose options hold none are in the match above.
    unsafe { bpf_fd(cmd::LINK_CREATE, &mut attr) }
}

fn link_uprobes(request: &LinkCreate<'_>, places: &Uprobes<'_>) -> Result<OwnedFd, Errno> {
    const RETURN: u32 = 1; // BPF_F_UPROBE_MULTI_RETURN
    let path = path(places.path)?;
    let count = places.offsets.len();
    let of_each = |words: &[u64]| match words.len() {
        0 => Ok(0),
        len if len == count => Ok(address(words)),
        _ => Err(Errno::EINVAL),
    };
    // The kernel takes no options of others with them, and no one cookie for all.
    if request.cookie != 0 || request.anchor.flags() != 0 {
        return Err(Errno::EINVAL);
    }
    let mut attr = UprobesAttr {
        prog_fd: raw(request.prog),
        target: 0,
        attach_type: request.attach_type.0,
        flags: request.flags,
        path: address(path.as_bytes_with_nul()),
        offsets: of_each(places.offsets)?,
        ref_ctr_offsets: of_each(places.counters)?,
        cookies: of_each(places.cookies)?,
        cnt: u32::try_from(count).map_err(|_| Errno::E2BIG)?,
        multi_flags: if places.returns { RETURN } else { 0 },
        pid: places.pid,
        pad: 0,
    };
    if request.attach_type != AttachType::TRACE_UPROBE_MULTI {
        // The addresses would mean something else.
        return Err(Errno::EINVAL);
    }
    // SAFETY: `path` is ours and ends with a NUL; the three arrays are borrowed, and those that are not null have as many
    // words as `cnt` says.
    unsafe { bpf_fd(cmd::LINK_CREATE, &mut attr) }
}

/// Two words one after the other, as a double word.
fn join(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Whether programs of control groups are attached as this.
fn is_cgroup(attach_type: AttachType) -> bool {
    attach_type.name().is_some_and(|name| name.starts_with("cgroup_"))
}

/// The descriptor or id that an anchor names.
pub(super) fn relative(anchor: LinkAnchor<'_>) -> u32 {
    match anchor {
        LinkAnchor::Default | LinkAnchor::First | LinkAnchor::Last => 0,
        LinkAnchor::BeforeProg(fd)
        | LinkAnchor::AfterProg(fd)
        | LinkAnchor::BeforeLink(fd)
        | LinkAnchor::AfterLink(fd) => raw(fd),
        LinkAnchor::BeforeProgId(id) | LinkAnchor::AfterProgId(id) => id.0,
        LinkAnchor::BeforeLinkId(id) | LinkAnchor::AfterLinkId(id) => id.0,
    }
}

pub(super) fn link_update(request: &LinkUpdate<'_>) -> Result<(), Errno> {
    let replace = if request.old_prog.is_some() { AttachFlags::REPLACE } else { AttachFlags::empty() };
    let mut attr = LinkUpdateAttr {
        link_fd: raw(request.link),
        new_prog_fd: raw(request.new_prog),
        flags: (request.flags | replace).bits(),
        old_prog_fd: raw_or_0(request.old_prog),
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::LINK_UPDATE, &mut attr) }.map(drop)
}

pub(super) fn link_detach(link: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = LinkDetachAttr { link_fd: raw(link) };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::LINK_DETACH, &mut attr) }.map(drop)
}

pub(super) fn iter_create(link: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut attr = IterCreateAttr { link_fd: raw(link), flags: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(cmd::ITER_CREATE, &mut attr) }
}

pub(super) fn iter_read(iter: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
    check_kind(iter, "bpf-iter")?;
    // SAFETY: `to` is exclusively borrowed for its length, which the kernel does not write past; `iter` is open.
    let read = unsafe { libc::read(iter.as_raw_fd(), to.as_mut_ptr().cast(), to.len()) };
    usize::try_from(read).map_err(|_| errno())
}

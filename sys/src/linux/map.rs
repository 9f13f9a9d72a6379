//! Commands that create maps and touch their elements.
//!
//! Unsafe code is allowed here because the kernel writes through addresses whose lengths it knows only from the map.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use super::attr::{ElemAttr, MapCreateAttr, MapFreezeAttr, cmd};
use super::call::{address, address_mut, bpf, bpf_fd, name, raw, raw_or_0};
use crate::abi::{Errno, MapFlags, UpdateFlags};
use crate::map_fd::MapRef;
use crate::request::MapCreate;

pub(super) fn create(request: &MapCreate<'_>) -> Result<OwnedFd, Errno> {
    let btf = request.btf;
    let mut flags = request.flags;
    flags.set(MapFlags::VTYPE_BTF_OBJ_FD, request.value_type_module.is_some());
    flags.set(MapFlags::TOKEN_FD, request.token.is_some());
    let mut attr = MapCreateAttr {
        map_type: request.map_type.0,
        key_size: request.key_size,
        value_size: request.value_size,
        max_entries: request.max_entries,
        map_flags: flags.bits(),
        inner_map_fd: raw_or_0(request.inner_map),
        numa_node: request.numa_node,
        map_name: name(request.name)?,
        map_ifindex: request.ifindex,
        btf_fd: raw_or_0(btf.map(|btf| btf.btf)),
        btf_key_type_id: btf.map_or(0, |btf| btf.key_type),
        btf_value_type_id: btf.map_or(0, |btf| btf.value_type),
        btf_vmlinux_value_type_id: request.vmlinux_value_type_id,
        map_extra: request.map_extra,
        value_type_btf_obj_fd: raw_or_0(request.value_type_module),
        map_token_fd: raw_or_0(request.token),
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(cmd::MAP_CREATE, &mut attr) }
}

pub(super) fn lookup(map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
    lookup_with(cmd::MAP_LOOKUP_ELEM, map, key, value, flags)
}

pub(super) fn lookup_and_delete(
    map: MapRef<'_>,
    key: &[u8],
    value: &mut [u8],
    flags: u64,
) -> Result<(), Errno> {
    lookup_with(cmd::MAP_LOOKUP_AND_DELETE_ELEM, map, key, value, flags)
}

fn lookup_with(command: u32, map: MapRef<'_>, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
    check(key.len(), map.key_len())?;
    check(value.len(), map.value_len(UpdateFlags::from_bits_retain(flags)))?;
    let mut attr =
        ElemAttr { map_fd: raw(map.as_fd()), pad: 0, key: address(key), value: address_mut(value), flags };
    // SAFETY: `key` is borrowed for the map's key size, which the kernel reads, and `value` exclusively for the
    // value length (of all CPUs where it is per-CPU), which the kernel writes, and reads for a bloom filter. The
    // sizes are those that the kernel gave for this map. A kernel that does not know the flags that shorten the value
    // refuses them before it writes.
    unsafe { bpf(command, &mut attr) }.map(drop)
}

pub(super) fn update(
    map: MapRef<'_>,
    key: &[u8],
    value: &[u8],
    flags: u64,
    cpu_flags: &OnceLock<bool>,
) -> Result<(), Errno> {
    check(key.len(), map.key_len())?;
    let short = map.value_len(UpdateFlags::from_bits_retain(flags));
    check(value.len(), short)?;
    // A kernel that does not know the flags that shorten the value copies all of it before it refuses them.
    if short < map.value_len(UpdateFlags::empty()) {
        check_cpu_flags(map, cpu_flags)?;
    }
    let mut attr =
        ElemAttr { map_fd: raw(map.as_fd()), pad: 0, key: address(key), value: address(value), flags };
    // SAFETY: `key` is borrowed for the map's key size and `value` for the length of a value as the flags have it, which
    // the kernel was found to know; it only reads both.
    unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Writes a descriptor's number, in the width that the map's values have.
pub(super) fn update_fd(
    map: MapRef<'_>,
    key: &[u8],
    value: BorrowedFd<'_>,
    flags: u64,
    cpu_flags: &OnceLock<bool>,
) -> Result<(), Errno> {
    let number = raw(value);
    match map.value_len(UpdateFlags::from_bits_retain(flags)) {
        4 => update(map, key, &number.to_ne_bytes(), flags, cpu_flags),
        8 => update(map, key, &u64::from(number).to_ne_bytes(), flags, cpu_flags),
        _ => Err(Errno::EINVAL),
    }
}

/// [`Errno::EINVAL`], as it would answer, unless the kernel knows the flags that choose CPUs. Asked once.
///
/// The question is an update of a CPU that there never is, without a key: a kernel that knows the flags looks at the CPU
/// first, another one for the key.
fn check_cpu_flags(map: MapRef<'_>, known: &OnceLock<bool>) -> Result<(), Errno> {
    let known = match known.get() {
        Some(known) => *known,
        None => {
            let flags = UpdateFlags::on_cpu(u32::MAX).bits();
            let mut attr = ElemAttr { map_fd: raw(map.as_fd()), flags, ..ElemAttr::default() };
            // SAFETY: the attribute holds no address: none for the key and the value is refused.
            let answer = match unsafe { bpf(cmd::MAP_UPDATE_ELEM, &mut attr) } {
                Err(Errno::ERANGE) => true,
                Err(Errno::EFAULT | Errno::EINVAL) => false,
                // Of the right to write, and nothing of the flags.
                Err(errno) => return Err(errno),
                Ok(_) => return Err(Errno::EINVAL),
            };
            *known.get_or_init(|| answer)
        }
    };
    if known { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn delete(map: MapRef<'_>, key: &[u8]) -> Result<(), Errno> {
    check(key.len(), map.key_len())?;
    let mut attr = ElemAttr { map_fd: raw(map.as_fd()), key: address(key), ..ElemAttr::default() };
    // SAFETY: `key` is borrowed for the map's key size, which the kernel reads.
    unsafe { bpf(cmd::MAP_DELETE_ELEM, &mut attr) }.map(drop)
}

pub(super) fn next_key(map: MapRef<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
    if let Some(key) = key {
        check(key.len(), map.key_len())?;
    }
    check(next.len(), map.key_len())?;
    let mut attr = ElemAttr {
        map_fd: raw(map.as_fd()),
        pad: 0,
        key: key.map_or(0, address),
        value: address_mut(next),
        flags: 0,
    };
    // SAFETY: `key`, if any, is borrowed for the map's key size, which the kernel reads, and `next` exclusively for
    // the same size, which the kernel writes.
    unsafe { bpf(cmd::MAP_GET_NEXT_KEY, &mut attr) }.map(drop)
}

pub(super) fn freeze(map: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = MapFreezeAttr { map_fd: raw(map) };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::MAP_FREEZE, &mut attr) }.map(drop)
}

/// [`Errno::EINVAL`] for a slice that is not as long as the map demands: the handles have checked it, but the kernel
/// would go past its end.
fn check(got: usize, want: usize) -> Result<(), Errno> {
    if got == want { Ok(()) } else { Err(Errno::EINVAL) }
}

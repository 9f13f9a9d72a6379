//! Commands on many elements of a map at once.
//!
//! Unsafe code is allowed here because the kernel writes through addresses whose lengths it knows only from the map.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use super::attr::{BatchAttr, cmd};
use super::call::{address, address_mut, bpf, raw};
use crate::abi::{Errno, UpdateFlags};
use crate::map_fd::MapRef;
use crate::request::{BatchRead, BatchWrite};

type Answer = Result<u32, (Errno, u32)>;

pub(super) fn lookup(map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Answer {
    read(cmd::MAP_LOOKUP_BATCH, map, batch)
}

pub(super) fn lookup_and_delete(map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Answer {
    read(cmd::MAP_LOOKUP_AND_DELETE_BATCH, map, batch)
}

fn read(command: u32, map: MapRef<'_>, batch: &mut BatchRead<'_>) -> Answer {
    let none = |errno| (errno, 0);
    check(batch.keys.len(), batch.count, map.key_len()).map_err(none)?;
    let value_len = map.value_len(UpdateFlags::from_bits_retain(batch.elem_flags));
    check(batch.values.len(), batch.count, value_len).map_err(none)?;
    if batch.cursor.len() != map.cursor_len() {
        return Err(none(Errno::EINVAL));
    }
    let begun = batch.cursor.position().is_some();
    // In and out are one place: the kernel reads it before all else, and writes it last.
    let cursor = address_mut(batch.cursor.memory());
    let mut attr = BatchAttr {
        in_batch: if begun { cursor } else { 0 },
        out_batch: cursor,
        keys: address_mut(batch.keys),
        values: address_mut(batch.values),
        count: batch.count,
        map_fd: raw(map.as_fd()),
        elem_flags: batch.elem_flags,
        flags: 0,
    };
    // SAFETY: `keys` and `values` are borrowed exclusively for `count` keys and as many values, whose lengths are those
    // that the kernel gave for this map, and the cursor's memory, exclusively too, is at least as long as a key and 4
    // bytes: that is all that the kernel reads and writes. A kernel that does not know the flags that shorten
    // values refuses them before it writes.
    let answer = unsafe { bpf(command, &mut attr) };
    let done = match answer {
        Ok(_) | Err(Errno::ENOENT) => attr.count.min(batch.count),
        Err(_) => before_error(attr.count, batch.count),
    };
    // A hash says in which bucket it was in any case, the others nothing unless there was an element.
    let moved = map.shape().map_type.has_bucket_cursor()
        && matches!(answer, Ok(_) | Err(Errno::ENOENT | Errno::ENOSPC))
        && batch.count > 0;
    if done > 0 || moved {
        batch.cursor.begin();
    }
    answer.map(|_| done).map_err(|errno| (errno, done))
}

pub(super) fn update(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Answer {
    let value_len = map.value_len(UpdateFlags::from_bits_retain(batch.elem_flags));
    check(batch.values.len(), batch.count, value_len).map_err(|errno| (errno, 0))?;
    write(cmd::MAP_UPDATE_BATCH, map, batch)
}

pub(super) fn delete(map: MapRef<'_>, batch: &BatchWrite<'_>) -> Answer {
    write(cmd::MAP_DELETE_BATCH, map, &BatchWrite { values: &[], ..*batch })
}

fn write(command: u32, map: MapRef<'_>, batch: &BatchWrite<'_>) -> Answer {
    check(batch.keys.len(), batch.count, map.key_len()).map_err(|errno| (errno, 0))?;
    let mut attr = BatchAttr {
        keys: address(batch.keys),
        values: address(batch.values),
        count: batch.count,
        map_fd: raw(map.as_fd()),
        elem_flags: batch.elem_flags,
        ..BatchAttr::default()
    };
    // SAFETY: `keys` and, unless it is a deletion, `values` are borrowed for `count` keys and as many values, whose
    // lengths are those that the kernel gave for this map, and which it only reads. A kernel that does not know the flags
    // that shorten values refuses them before it reads.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok(attr.count.min(batch.count)),
        Err(errno) => Err((errno, before_error(attr.count, batch.count))),
    }
}

/// How many elements were done before an error. A kernel that refuses the whole batch leaves the number as it was, and an
/// element that fails is not among those that are done.
fn before_error(count: u32, asked: u32) -> u32 {
    if count < asked { count } else { 0 }
}

/// [`Errno::EINVAL`] for a slice that is not as long as so many of that size: the handles have checked it, but the kernel
/// would go past its end.
fn check(got: usize, count: u32, size: usize) -> Result<(), Errno> {
    if size.checked_mul(count as usize) == Some(got) { Ok(()) } else { Err(Errno::EINVAL) }
}

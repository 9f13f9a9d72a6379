//! The code of programs, and what they write.
//!
//! Unsafe code is allowed here because the kernel writes through addresses in the attributes.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use skep_asm::{Endian, decode};

use super::attr::{RawProgInfo, StreamReadAttr, cmd};
use super::call::{address_mut, bpf, raw};
use super::object::info;
use super::system::check_kind;
use crate::abi::{Errno, StreamId, TAG_SIZE};
use crate::request::{OwnedRecords, ProgDump};

pub(super) fn prog_dump(prog: BorrowedFd<'_>) -> Result<ProgDump, Errno> {
    check_kind(prog, "bpf-prog")?;
    let mut sizes = RawProgInfo::default();
    // SAFETY: without buffers there is no address.
    unsafe { info(prog, &mut sizes) }?;

    let mut xlated = vec![0u8; sizes.xlated_prog_len as usize];
    let mut jited = vec![0u8; sizes.jited_prog_len as usize];
    let mut jited_ksyms = vec![0u64; sizes.nr_jited_ksyms as usize];
    let mut jited_func_lens = vec![0u32; sizes.nr_jited_func_lens as usize];
    let mut func_info = records(sizes.nr_func_info, sizes.func_info_rec_size);
    let mut line_info = records(sizes.nr_line_info, sizes.line_info_rec_size);
    let mut jited_line_info = vec![0u64; sizes.nr_jited_line_info as usize];
    let mut tags = vec![[0u8; TAG_SIZE]; sizes.nr_prog_tags as usize];
    let mut raw = RawProgInfo {
        xlated_prog_len: sizes.xlated_prog_len,
        xlated_prog_insns: address_mut(&mut xlated),
        jited_prog_len: sizes.jited_prog_len,
        jited_prog_insns: address_mut(&mut jited),
        nr_jited_ksyms: sizes.nr_jited_ksyms,
        jited_ksyms: address_mut(&mut jited_ksyms),
        nr_jited_func_lens: sizes.nr_jited_func_lens,
        jited_func_lens: address_mut(&mut jited_func_lens),
        nr_func_info: sizes.nr_func_info,
        func_info_rec_size: sizes.func_info_rec_size,
        func_info: address_mut(&mut func_info),
        nr_line_info: sizes.nr_line_info,
        line_info_rec_size: sizes.line_info_rec_size,
        line_info: address_mut(&mut line_info),
        nr_jited_line_info: sizes.nr_jited_line_info,
        // The kernel takes the size of these records only as it tells it, and of tables of numbers.
        jited_line_info_rec_size: sizes.jited_line_info_rec_size,
        jited_line_info: address_mut(&mut jited_line_info),
        nr_prog_tags: sizes.nr_prog_tags,
        prog_tags: address_mut(&mut tags),
        ..RawProgInfo::default()
    };
    if sizes.nr_jited_line_info != 0 && sizes.jited_line_info_rec_size as usize != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: each buffer is ours for the number of bytes or records of the size that is passed with it, which the
    // kernel writes at most: it takes no other record size than its own, and that of `jited_line_info` was checked.
    // There is no other address.
    unsafe { info(prog, &mut raw) }?;

    // The code of a program never changes, so lengths differ only where the kernel shows less than it has; then, and
    // where it shows nothing, it clears the address.
    xlated.truncate(shown(raw.xlated_prog_insns, raw.xlated_prog_len));
    jited.truncate(shown(raw.jited_prog_insns, raw.jited_prog_len));
    jited_ksyms.truncate(shown(raw.jited_ksyms, raw.nr_jited_ksyms));
    jited_func_lens.truncate(shown(raw.jited_func_lens, raw.nr_jited_func_lens));
    jited_line_info.truncate(shown(raw.jited_line_info, raw.nr_jited_line_info));
    tags.truncate(shown(raw.prog_tags, raw.nr_prog_tags));
    let xlated = decode(&xlated, Endian::NATIVE).map_err(|_| Errno::EINVAL)?;
    Ok(ProgDump {
        xlated,
        jited,
        jited_ksyms,
        jited_func_lens,
        func_info: OwnedRecords { record_size: sizes.func_info_rec_size, bytes: func_info },
        line_info: OwnedRecords { record_size: sizes.line_info_rec_size, bytes: line_info },
        jited_line_info,
        tags,
    })
}

/// Room for so many records.
fn records(count: u32, size: u32) -> Vec<u8> {
    vec![0; (count as usize).saturating_mul(size as usize)]
}

/// How much of a buffer the kernel filled.
fn shown(address: u64, count: u32) -> usize {
    if address == 0 { 0 } else { count as usize }
}

pub(super) fn stream_read(prog: BorrowedFd<'_>, stream: StreamId, into: &mut [u8]) -> Result<usize, Errno> {
    check_kind(prog, "bpf-prog")?;
    let mut attr = StreamReadAttr {
        stream_buf: address_mut(into),
        // What a kernel cannot be asked for is asked for later.
        stream_buf_len: u32::try_from(into.len()).unwrap_or(u32::MAX),
        stream_id: stream.0,
        prog_fd: raw(prog),
        pad: 0,
    };
    // SAFETY: `into` is borrowed exclusively for at least `stream_buf_len` bytes, which the kernel writes at most.
    let read = unsafe { bpf(cmd::PROG_STREAM_READ_BY_FD, &mut attr) }?;
    usize::try_from(read).map_err(|_| Errno::EIO)
}

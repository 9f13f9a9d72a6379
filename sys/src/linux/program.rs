//! Commands that load programs and BTF, and run programs.
//!
//! Unsafe code is allowed here because the kernel reads and writes through addresses in the attributes.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

use skep_asm::{Assembler, Endian, Insn, Reg, encode, pseudo};

use super::attr::{BindMapAttr, BtfLoadAttr, ProgLoadAttr, TestRunAttr, cmd};
use super::call::{address, address_mut, bpf, bpf_fd, length, name, raw, raw_or_0};
use crate::abi::{Errno, ProgFlags, ProgType};
use crate::request::{AttachTarget, BtfLoad, LogBuffer, ProgLoad, TestRun, TestRunResult};

/// How often a load is tried that the kernel gives up with `EAGAIN`, as it does when a signal is pending while the
/// verifier runs.
const LOAD_ATTEMPTS: u32 = 5;

const NATIVE: Endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };

/// Loads a program that does nothing, and lets go of it: the verifier reads the kernel's types when it is first used.
pub(super) fn load_any() {
    let mut code = Assembler::new();
    if let Ok(insns) = code.mov64_imm(Reg::R0, 0).exit().finish() {
        // Whether it was of use is seen by what comes next.
        let _ = load(&ProgLoad::new(ProgType::SOCKET_FILTER, &insns, "GPL"), None);
    }
}

pub(super) fn load(request: &ProgLoad<'_>, mut log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
    let insns = encode(request.insns, NATIVE);
    let license = CString::new(request.license).map_err(|_| Errno::EINVAL)?;
    let fd_array: Vec<u32> = request.fd_array.iter().map(|fd| raw_or_0(*fd)).collect();
    check_fd_array(request.insns, fd_array.len())?;
    let (attach_btf_id, attach_fd) = match request.attach {
        AttachTarget::None => (0, 0),
        AttachTarget::KernelType { type_id, module } => (type_id, raw_or_0(module)),
        AttachTarget::Program { prog, type_id } => (type_id, raw(prog)),
    };
    let (func_info, line_info) = (request.func_info, request.line_info);
    let has = |count: u32, size: u32| if count == 0 { 0 } else { size };
    let func_info_cnt = length(func_info.count())?;
    let line_info_cnt = length(line_info.count())?;
    let mut flags = request.flags;
    flags.set(ProgFlags::TOKEN_FD, request.token.is_some());
    let mut attr = ProgLoadAttr {
        prog_type: request.prog_type.0,
        insn_cnt: length(request.insns.len())?,
        insns: address(&insns),
        license: address(license.as_bytes_with_nul()),
        kern_version: request.kern_version,
        prog_flags: flags.bits(),
        prog_name: name(request.name)?,
        prog_ifindex: request.ifindex,
        expected_attach_type: request.expected_attach_type.0,
        prog_btf_fd: raw_or_0(request.btf),
        func_info_rec_size: has(func_info_cnt, func_info.record_size),
        func_info: address(func_info.bytes),
        func_info_cnt,
        line_info_rec_size: has(line_info_cnt, line_info.record_size),
        line_info: address(line_info.bytes),
        line_info_cnt,
        attach_btf_id,
        attach_prog_fd: attach_fd,
        fd_array: address(&fd_array),
        prog_token_fd: raw_or_0(request.token),
        ..ProgLoadAttr::default()
    };
    if let Some((level, size, address)) = log.as_deref_mut().and_then(log_fields) {
        (attr.log_level, attr.log_size, attr.log_buf) = (level, size, address);
    }
    let result = retry_eagain(|| {
        // SAFETY: `insns`, `license` and `fd_array` are ours, the records are borrowed by `request`; all live over
        // the call, the kernel only reads them and by the counts passed here (the license by its NUL; the array by
        // indexes in the instructions, which were checked). `log` is borrowed exclusively for `log_size` bytes, which
        // the kernel writes.
        unsafe { bpf_fd(cmd::PROG_LOAD, &mut attr) }
    });
    if let Some(log) = log {
        log.true_size = attr.log_true_size;
    }
    if let (Err(Errno::E2BIG), Some(known)) = (&result, request.known_records) {
        // A kernel that knows shorter records writes their length in place of what it was given.
        let shorter =
            |count: u32, given: u32, there: u32| if count != 0 && there < given { there } else { 0 };
        known.func_info.set(shorter(func_info_cnt, func_info.record_size, attr.func_info_rec_size));
        known.line_info.set(shorter(line_info_cnt, line_info.record_size, attr.line_info_rec_size));
    }
    result
}

/// Tries `call` again while it answers `EAGAIN`, [`LOAD_ATTEMPTS`] times in all.
fn retry_eagain<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut result = call();
    for _ in 1..LOAD_ATTEMPTS {
        if !matches!(result, Err(Errno::EAGAIN)) {
            break;
        }
        result = call();
    }
    result
}

/// Level, length and address of the log, with no buffer where level 0 forbids one. Clears the text of an earlier call.
fn log_fields(log: &mut LogBuffer) -> Option<(u32, u32, u64)> {
    log.true_size = 0;
    if let Some(first) = log.bytes.first_mut() {
        *first = 0;
    }
    // The kernel refuses a larger buffer than a quarter of the number space.
    let size = log.bytes.len().min(u32::MAX as usize >> 2) as u32;
    (log.level != 0).then(|| (log.level, size, address_mut(&mut log.bytes)))
}

/// [`Errno::EINVAL`] when an instruction refers to a slot of the descriptor array that is not there: the kernel would
/// take whatever lies behind it for a descriptor. Without an array it refuses by itself.
fn check_fd_array(insns: &[Insn], len: usize) -> Result<(), Errno> {
    if len == 0 {
        return Ok(());
    }
    let slots = insns.iter().filter_map(|insn| {
        if insn.is_kfunc_call() {
            Some(i64::from(insn.off))
        } else if insn.is_ld_imm64() && matches!(insn.src_raw(), pseudo::MAP_IDX | pseudo::MAP_IDX_VALUE) {
            Some(i64::from(insn.imm))
        } else {
            None
        }
    });
    for slot in slots {
        if !usize::try_from(slot).is_ok_and(|slot| slot < len) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

pub(super) fn test_run(
    prog: BorrowedFd<'_>,
    run: &mut TestRun<'_>,
) -> Result<TestRunResult, (Errno, TestRunResult)> {
    let bad = |errno| (errno, TestRunResult::default());
    if !(run.ctx.is_empty() || run.ctx_in.is_empty() && run.ctx_out.is_empty()) {
        return Err(bad(Errno::EINVAL));
    }
    // Programs of kind syscall write the context where they read it, and what kind this is, only the kernel knows.
    let mut ctx_copy = run.ctx_in.to_vec();
    let ctx_in = if run.ctx.is_empty() { &mut *ctx_copy } else { &mut *run.ctx };
    let mut attr = TestRunAttr {
        prog_fd: raw(prog),
        data_size_in: length(run.data_in.len()).map_err(bad)?,
        data_size_out: length(run.data_out.len()).map_err(bad)?,
        data_in: address(run.data_in),
        data_out: address_mut(run.data_out),
        repeat: run.repeat,
        ctx_size_in: length(ctx_in.len()).map_err(bad)?,
        ctx_size_out: length(run.ctx_out.len()).map_err(bad)?,
        ctx_in: address_mut(ctx_in),
        ctx_out: address_mut(run.ctx_out),
        flags: run.flags.bits(),
        cpu: run.cpu,
        batch_size: run.batch_size,
        ..TestRunAttr::default()
    };
    // SAFETY: `data_in` is borrowed for the length passed, which the kernel reads; `data_out`, `ctx_in` and `ctx_out`
    // are borrowed exclusively, or ours, for the lengths passed, which the kernel writes.
    let result = unsafe { bpf(cmd::PROG_TEST_RUN, &mut attr) };
    let answer = TestRunResult {
        retval: attr.retval,
        duration_ns: attr.duration,
        data_size_out: attr.data_size_out,
        ctx_size_out: attr.ctx_size_out,
    };
    result.map(|_| answer).map_err(|errno| (errno, answer))
}

pub(super) fn bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = BindMapAttr { prog_fd: raw(prog), map_fd: raw(map), flags: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(cmd::PROG_BIND_MAP, &mut attr) }.map(drop)
}

pub(super) fn btf_load(request: &BtfLoad<'_>, mut log: Option<&mut LogBuffer>) -> Result<OwnedFd, Errno> {
    let btf = request.bytes;
    let mut attr = BtfLoadAttr {
        btf: address(btf),
        btf_size: length(btf.len())?,
        btf_flags: if request.token.is_some() { ProgFlags::TOKEN_FD.bits() } else { 0 },
        btf_token_fd: raw_or_0(request.token),
        ..BtfLoadAttr::default()
    };
    if let Some((level, size, address)) = log.as_deref_mut().and_then(log_fields) {
        (attr.btf_log_level, attr.btf_log_size, attr.btf_log_buf) = (level, size, address);
    }
    // SAFETY: `btf` is borrowed for the length passed, which the kernel reads; `log` is borrowed exclusively for
    // `btf_log_size` bytes, which the kernel writes.
    let result = unsafe { bpf_fd(cmd::BTF_LOAD, &mut attr) };
    if let Some(log) = log {
        log.true_size = attr.btf_log_true_size;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_asm::{Reg, opcode};

    #[test]
    fn eagain_is_tried_five_times() {
        for fails in 0..8 {
            let mut calls = 0;
            let result = retry_eagain(|| {
                calls += 1;
                if calls <= fails { Err(Errno::EAGAIN) } else { Ok(calls) }
            });
            if fails < LOAD_ATTEMPTS {
                assert_eq!((result, calls), (Ok(fails + 1), fails + 1));
            } else {
                assert_eq!((result, calls), (Err(Errno::EAGAIN), LOAD_ATTEMPTS));
            }
        }
        let mut calls = 0;
        let result: Result<(), _> = retry_eagain(|| {
            calls += 1;
            Err(Errno::EINVAL)
        });
        assert_eq!((result, calls), (Err(Errno::EINVAL), 1));
    }

    #[test]
    fn slots_outside_of_the_descriptor_array_are_refused() {
        let kfunc = |off| {
            let mut insn = Insn::new(opcode::CALL, Reg::R0, Reg::R0, off, 1);
            insn.set_src_raw(pseudo::KFUNC_CALL);
            [insn]
        };
        assert_eq!(check_fd_array(&kfunc(1), 2), Ok(()));
        assert_eq!(check_fd_array(&kfunc(2), 2), Err(Errno::EINVAL));
        assert_eq!(check_fd_array(&kfunc(-1), 2), Err(Errno::EINVAL));
        assert_eq!(check_fd_array(&kfunc(7), 0), Ok(()));
        let mut load = Insn::new(opcode::LD_IMM64, Reg::R1, Reg::R0, 0, 2);
        load.set_src_raw(pseudo::MAP_IDX);
        assert_eq!(check_fd_array(&[load], 2), Err(Errno::EINVAL));
        assert_eq!(check_fd_array(&[load], 3), Ok(()));
    }

    #[test]
    fn a_log_of_level_0_has_no_buffer() {
        let mut log = LogBuffer::new(0, 16);
        assert_eq!(log_fields(&mut log), None);
        log.level = 1;
        log.bytes.fill(b'x');
        let (level, size, at) = log_fields(&mut log).unwrap();
        assert_eq!((level, size, at == 0), (1, 16, false));
        assert_eq!(log.text(), "");
    }
}

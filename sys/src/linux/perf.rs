//! Perf events.
//!
//! Unsafe code is allowed here because `perf_event_open`, ioctl(2) and read(2) take addresses.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::{above_streams, errno};
use super::mapping::Mapping;
use super::system::{check_kind, page_size};
use crate::abi::{Errno, PerfEventFlags, PerfOpenFlags};
use crate::perf_ring::PerfRingMemory;
use crate::request::{MapMemory, PerfControl, PerfEventOpen, PerfMemory, PerfTarget, PerfWakeup};
use crate::shared::SharedMemory;

/// `struct perf_event_attr` as Linux 4.8 has it (`PERF_ATTR_SIZE_VER5`). A kernel that knows less takes the zeros behind
/// what it knows. Source: `include/uapi/linux/perf_event.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct EventAttr {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<EventAttr>() == 112);
const _: () = assert!(offset_of!(EventAttr, config) == 8 && offset_of!(EventAttr, flags) == 40);
const _: () = assert!(offset_of!(EventAttr, wakeup) == 48 && offset_of!(EventAttr, config1) == 56);
const _: () = assert!(offset_of!(EventAttr, clockid) == 92 && offset_of!(EventAttr, aux_watermark) == 104);

/// `PERF_FLAG_FD_CLOEXEC`.
const FD_CLOEXEC: u64 = 1 << 3;

pub(super) fn open(request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
    let mut flags = request.flags;
    let wakeup = match request.wakeup {
        PerfWakeup::Events(count) => count,
        PerfWakeup::Watermark(bytes) => {
            flags |= PerfEventFlags::WATERMARK;
            bytes
        }
    };
    flags.set(PerfEventFlags::USE_CLOCKID, request.clock.is_some());
    let attr = EventAttr {
        event_type: request.kind.event_type.0,
        size: size_of::<EventAttr>() as u32,
        config: request.kind.config,
        sample_period: request.sample_period,
        sample_type: request.sample_type.bits(),
        read_format: request.read_format.bits(),
        flags: flags.bits(),
        wakeup,
        clockid: request.clock.map_or(0, |clock| clock.0),
        ..EventAttr::default()
    };
    let mut open_flags = request.open_flags;
    let (pid, cpu) = match request.target {
        PerfTarget::Cpu(cpu) => (-1, number(cpu)?),
        PerfTarget::Process { pid, cpu } => (number(pid)?, cpu.map_or(Ok(-1), number)?),
        PerfTarget::Cgroup { cgroup, cpu } => {
            open_flags |= PerfOpenFlags::PID_CGROUP;
            (cgroup.as_raw_fd(), number(cpu)?)
        }
    };
    let group = request.group.map_or(-1, |group| group.as_raw_fd());
    // SAFETY: `attr` lives over the call, which reads the `size` bytes that it says it has.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(&attr),
            pid,
            cpu,
            group,
            open_flags.bits() | FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(errno());
    }
    let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel made this descriptor for this call, so nobody else owns it.
    above_streams(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A CPU or process as the call takes it.
fn number(number: u32) -> Result<libc::c_int, Errno> {
    libc::c_int::try_from(number).map_err(|_| Errno::EINVAL)
}

/// Numbers of the ioctls, whose direction bits depend on the machine.
mod ioctl {
    use nix::sys::ioctl::ioctl_num_type as Number;

    pub(super) const ENABLE: Number = nix::request_code_none!(b'$', 0);
    pub(super) const DISABLE: Number = nix::request_code_none!(b'$', 1);
    pub(super) const RESET: Number = nix::request_code_none!(b'$', 3);
    pub(super) const ID: Number = nix::request_code_read!(b'$', 7, size_of::<*const u64>());
    pub(super) const PAUSE_OUTPUT: Number = nix::request_code_write!(b'$', 9, size_of::<u32>());
}

pub(super) fn control(event: BorrowedFd<'_>, control: PerfControl) -> Result<(), Errno> {
    // These numbers mean other things to other devices.
    check_kind(event, "[perf-event]")?;
    let (request, argument) = match control {
        PerfControl::Enable => (ioctl::ENABLE, 0),
        PerfControl::Disable => (ioctl::DISABLE, 0),
        PerfControl::Reset => (ioctl::RESET, 0),
        PerfControl::PauseOutput(pause) => (ioctl::PAUSE_OUTPUT, libc::c_ulong::from(pause)),
    };
    // SAFETY: these requests take numbers and no address; `event` is open.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

pub(super) fn read(event: BorrowedFd<'_>, to: &mut [u8]) -> Result<usize, Errno> {
    check_kind(event, "[perf-event]")?;
    // SAFETY: `to` is exclusively borrowed for its length, which the kernel does not write past; `event` is open.
    let read = unsafe { libc::read(event.as_raw_fd(), to.as_mut_ptr().cast(), to.len()) };
    usize::try_from(read).map_err(|_| errno())
}

/// The kernel's id of an event, by which it is told from all others.
fn id(event: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut id = 0u64;
    // SAFETY: the request writes the 8 bytes of `id`, which is borrowed over the call; `event` is open.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), ioctl::ID, std::ptr::from_mut(&mut id)) };
    if result < 0 { Err(errno()) } else { Ok(id) }
}

pub(super) fn mmap(event: BorrowedFd<'_>, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
    check_kind(event, "[perf-event]")?;
    if !memory.pages.is_power_of_two() {
        return Err(Errno::EINVAL);
    }
    let page = page_size() as usize;
    let len = (memory.pages as usize).checked_add(1).and_then(|pages| pages.checked_mul(page));
    let mapped = Mapped::new(id(event)?)?;
    let mut request = MapMemory::new(0, len.ok_or(Errno::ENOMEM)?);
    request.writable = memory.writable;
    let mapping = Mapping::new(event, request)?.only(mapped);
    Ok(PerfRingMemory::mapping(SharedMemory::mapping(mapping), page))
}

/// Ids of the events whose rings this process has mapped. A ring has one reader: bytes that it lends would change when
/// another one said that they were read.
static MAPPED: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn all_mapped() -> MutexGuard<'static, BTreeSet<u64>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to be the one mapping of an event, given back when dropped.
#[derive(Debug)]
pub(super) struct Mapped(u64);

impl Mapped {
    fn new(id: u64) -> Result<Mapped, Errno> {
        if all_mapped().insert(id) { Ok(Mapped(id)) } else { Err(Errno::EBUSY) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        all_mapped().remove(&self.0);
    }
}

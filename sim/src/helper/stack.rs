//! Helpers that walk the stack, which an event tells.

use std::sync::Arc;

use skep_sys::abi::{Errno, MapFlags};

use super::task::task_at;
use super::{HelperFn, negative};
use crate::map::StackFlags;
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[(27, id), (67, get), (141, of_task)];

/// Frames that are left out, in the low bits of the flags (`BPF_F_SKIP_FIELD_MASK`).
const SKIP: u64 = 0xff;
const USER_STACK: u64 = 1 << 8;
const FAST_CMP: u64 = 1 << 9;
const REUSE: u64 = 1 << 10;
const USER_BUILD_ID: u64 = 1 << 11;
/// Most frames that the kernel walks (`sysctl_perf_event_max_stack`).
const FRAMES_MAX: usize = 127;
/// Size of `struct bpf_stack_build_id`.
const BUILD_ID_FRAME: usize = 32;

/// The stack of the run without `skip` frames. `EFAULT` when nothing is left.
fn walk(vm: &Vm, user: bool, skip: usize) -> Result<Arc<[u64]>, Errno> {
    let stack = if user { &vm.site.user_stack } else { &vm.site.kernel_stack };
    let frames = stack.get(skip..stack.len().min(FRAMES_MAX + skip)).unwrap_or_default();
    if frames.is_empty() { Err(Errno::EFAULT) } else { Ok(frames.into()) }
}

/// Frames as they stand in maps and buffers: addresses, or build ids with offsets.
fn frames(vm: &Vm, addresses: &[u64], build_ids: bool) -> Vec<u8> {
    /// `BPF_STACK_BUILD_ID_VALID`, `BPF_STACK_BUILD_ID_IP`.
    const VALID: u32 = 1;
    const IP: u32 = 2;

    if !build_ids {
        return addresses.iter().flat_map(|address| address.to_ne_bytes()).collect();
    }
    let tgid = vm.current(|task| task.tgid());
    let mut bytes = Vec::with_capacity(addresses.len() * BUILD_ID_FRAME);
    for &address in addresses {
        let mapping = vm.kernel.mapping_at(tgid, address);
        let id = mapping.and_then(|mapping| {
            let id = vm.kernel.0.world().files.build_id(&mapping.path)?;
            Some((id, address - mapping.start + mapping.offset))
        });
        let (status, id, at) = id.map_or((IP, [0; 20], address), |(id, offset)| (VALID, id, offset));
        bytes.extend(status.to_ne_bytes());
        bytes.extend(id);
        bytes.extend(at.to_ne_bytes());
    }
    bytes
}

/// `bpf_get_stackid(ctx, map, flags)`.
pub(super) fn id(vm: &mut Vm, [_, map, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    if flags & !(SKIP | USER_STACK | FAST_CMP | REUSE) != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let user = flags & USER_STACK != 0;
    let stack = match walk(vm, user, (flags & SKIP) as usize) {
        Ok(stack) => stack,
        Err(errno) => return Ok(negative(errno)),
    };
    let build_ids = map.shape.flags.contains(MapFlags::STACK_BUILD_ID);
    let frame = if build_ids { BUILD_ID_FRAME } else { 8 };
    let depth = (map.shape.value_size as usize / frame).min(stack.len());
    let addresses = stack.get(..depth).unwrap_or_default();
    let stored = frames(vm, addresses, build_ids && user);
    let stored = if build_ids && !user { with_addresses(addresses) } else { stored };
    let flags = StackFlags { fast: flags & FAST_CMP != 0, reuse: flags & REUSE != 0 };
    Ok(match map.add_stack(addresses, stored, flags) {
        Ok(id) => u64::from(id),
        Err(errno) => negative(errno),
    })
}

/// Frames of the kernel in a map with build ids.
fn with_addresses(addresses: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        bytes.extend(2u32.to_ne_bytes()); // BPF_STACK_BUILD_ID_IP
        bytes.extend([0; 20]);
        bytes.extend(address.to_ne_bytes());
    }
    bytes
}

/// What the helpers that copy a stack do with it.
fn copy(vm: &mut Vm, stack: Result<Arc<[u64]>, Errno>, to: u64, size: u64, flags: u64) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helpers take 32 bits
    vm.memory.check(to, size, true)?;
    let (user, build_ids) = (flags & USER_STACK != 0, flags & USER_BUILD_ID != 0);
    let frame = if user && build_ids { BUILD_ID_FRAME } else { 8 };
    let valid = flags & !(SKIP | USER_STACK | USER_BUILD_ID) == 0
        && (user || !build_ids)
        && size.is_multiple_of(frame);
    let stack = if valid { stack } else { Err(Errno::EINVAL) };
    let mut bytes = Vec::new();
    let answer = match stack {
        Ok(stack) => {
            let addresses = stack.get(..stack.len().min(size / frame)).unwrap_or_default();
            bytes = frames(vm, addresses, user && build_ids);
            bytes.len() as u64
        }
        Err(errno) => negative(errno),
    };
    bytes.resize(size, 0);
    vm.memory.write(to, &bytes)?;
    Ok(answer)
}

/// `bpf_get_stack(ctx, buf, size, flags)`.
pub(super) fn get(vm: &mut Vm, [_, to, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let stack = walk(vm, flags & USER_STACK != 0, (flags & SKIP) as usize);
    copy(vm, stack, to, size, flags)
}

/// `bpf_get_task_stack(task, buf, size, flags)`.
pub(super) fn of_task(vm: &mut Vm, [task, to, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let (user, skip) = (flags & USER_STACK != 0, (flags & SKIP) as usize);
    let stack = match task_at(vm, task) {
        Some(task) if task.pid() == vm.current_pid() => walk(vm, user, skip),
        // The user stack of another task cannot be walked while it runs.
        Some(_) if user => Err(Errno::EOPNOTSUPP),
        Some(task) => {
            let frames = task.stack(false).get(skip..).unwrap_or_default();
            if frames.is_empty() { Err(Errno::EFAULT) } else { Ok(frames.into()) }
        }
        None => Err(Errno::EFAULT),
    };
    copy(vm, stack, to, size, flags)
}

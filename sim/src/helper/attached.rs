//! Helpers that tell of the place that a program is attached to.

use skep_sys::abi::Errno;

use super::{EFFECT, HelperFn, negative};
use crate::event::{Branch, Registers, TraceEffect};
use crate::vm::{Region, Trap, Vm, What};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (58, override_return),
    (119, branch_records),
    (173, func_ip),
    (174, cookie),
    (176, branch_snapshot),
    (183, func_arg),
    (184, func_ret),
    (185, func_arg_count),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] =
    &[("bpf_session_cookie", session_cookie), ("bpf_session_is_return", session_is_return)];

/// `bpf_get_attach_cookie(ctx)`.
pub(super) fn cookie(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(vm.site.cookie)
}

/// `bpf_get_func_ip(ctx)`.
pub(super) fn func_ip(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(vm.site.func_ip)
}

/// `bpf_get_func_arg(ctx, n, value)`.
pub(super) fn func_arg(vm: &mut Vm, [context, n, to, ..]: [u64; 5]) -> Result<u64, Trap> {
    let n = n as u32 as usize; // the helper takes 32 bits
    if vm.site.arguments.is_none_or(|arguments| n >= arguments.count) {
        return Ok(negative(Errno::EINVAL));
    }
    copy_word(vm, context, n, to)
}

/// `bpf_get_func_ret(ctx, value)`.
pub(super) fn func_ret(vm: &mut Vm, [context, to, ..]: [u64; 5]) -> Result<u64, Trap> {
    match vm.site.arguments {
        Some(arguments) if arguments.returned => copy_word(vm, context, arguments.count, to),
        _ => Ok(negative(Errno::EOPNOTSUPP)),
    }
}

/// `bpf_get_func_arg_cnt(ctx)`.
pub(super) fn func_arg_count(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(vm.site.arguments.map_or(0, |arguments| arguments.count as u64))
}

fn copy_word(vm: &mut Vm, context: u64, n: usize, to: u64) -> Result<u64, Trap> {
    let value = vm.memory.bytes(context.wrapping_add(n as u64 * 8), 8)?;
    vm.memory.write(to, &value)?;
    Ok(0)
}

/// `bpf_override_return(regs, rc)`.
pub(super) fn override_return(vm: &mut Vm, [regs, value, ..]: [u64; 5]) -> Result<u64, Trap> {
    if let Some(Region::Own(own)) = vm.memory.region_mut(regs)
        && let Some(to) = own.bytes.get_mut(Registers::AX_OFFSET..Registers::AX_OFFSET + 8)
    {
        to.copy_from_slice(&value.to_ne_bytes());
    }
    vm.site.overridden = Some(value);
    vm.spend(EFFECT);
    vm.site.effects.push(TraceEffect::Override { value });
    Ok(0)
}

fn branches(vm: &Vm) -> Vec<u8> {
    vm.site.branches.iter().flat_map(|branch| branch.bytes()).collect()
}

/// `bpf_get_branch_snapshot(entries, size, flags)`.
pub(super) fn branch_snapshot(vm: &mut Vm, [to, size, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let mut bytes = branches(vm);
    bytes.truncate(size / Branch::SIZE * Branch::SIZE);
    if bytes.is_empty() {
        return Ok(negative(Errno::ENOENT));
    }
    vm.memory.write(to, &bytes)?;
    Ok(bytes.len() as u64)
}

/// `bpf_read_branch_records(ctx, buf, size, flags)`.
pub(super) fn branch_records(vm: &mut Vm, [_, to, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    const GET_SIZE: u64 = 1;

    let size = size as u32 as usize; // the helper takes 32 bits
    if flags & !GET_SIZE != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let mut bytes = branches(vm);
    if bytes.is_empty() {
        return Ok(negative(Errno::ENOENT));
    }
    if flags & GET_SIZE != 0 {
        return Ok(bytes.len() as u64);
    }
    if to == 0 || !size.is_multiple_of(Branch::SIZE) {
        return Ok(negative(Errno::EINVAL));
    }
    vm.memory.check(to, size, true)?;
    bytes.truncate(size);
    vm.memory.write(to, &bytes)?;
    Ok(bytes.len() as u64)
}

/// `bpf_session_is_return()`.
pub(super) fn session_is_return(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(u64::from(vm.site.session.is_some_and(|session| session.at_return)))
}

/// `bpf_session_cookie()`: the address of a word that the program has at the start and at the end of the function.
pub(super) fn session_cookie(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let Some(session) = vm.site.session else { return Ok(0) };
    if let Some(address) = session.address {
        return Ok(address);
    }
    let word = session.cookie.to_ne_bytes().to_vec();
    let address = vm.own(What::Other("the cookie of a session"), word, true)?;
    if let Some(session) = &mut vm.site.session {
        session.address = Some(address);
    }
    Ok(address)
}

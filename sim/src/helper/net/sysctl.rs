//! Helpers of programs that see settings of the kernel.

use skep_sys::abi::Errno;

use crate::helper::{HelperFn, negative, refuse};
use crate::packet::Sysctl;
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] =
    &[(101, name), (102, current_value), (103, new_value), (104, set_new_value)];

/// Only the last part of the name (`BPF_F_SYSCTL_BASE_NAME`).
const BASE_NAME: u64 = 1;
/// Most bytes of a value.
const PAGE: usize = 4096;

fn setting(vm: &mut Vm) -> Result<Sysctl, Trap> {
    let found = vm.memory.context::<Sysctl>().cloned();
    found.ok_or_else(|| refuse("the program sees no sysctl"))
}

/// Writes a value into a buffer, with zeros behind it, and answers as `copy_sysctl_value` does.
fn answer(vm: &mut Vm, to: u64, len: usize, value: &[u8]) -> Result<u64, Trap> {
    vm.memory.check(to, len, true)?;
    let mut bytes = value.to_vec();
    bytes.resize(len, 0);
    let fits = len > value.len();
    if !fits && let Some(last) = bytes.last_mut() {
        *last = 0;
    }
    vm.memory.write(to, &bytes)?;
    Ok(match (value.len(), len) {
        (_, 0) => negative(Errno::E2BIG),
        (0, _) => negative(Errno::EINVAL),
        (len, _) if fits => len as u64,
        _ => negative(Errno::E2BIG),
    })
}

/// `bpf_sysctl_get_name(ctx, buf, buf_len, flags)`.
fn name(vm: &mut Vm, [_, to, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let setting = setting(vm)?;
    let name = match flags & BASE_NAME {
        0 => setting.name.as_str(),
        _ => setting.name.rsplit('/').next().unwrap_or_default(),
    };
    let len = len as u32 as usize;
    vm.memory.check(to, len, true)?;
    if len == 0 {
        return Ok(negative(Errno::E2BIG));
    }
    let fits = name.len() < len;
    // What does not fit is cut off, and what is behind a name that does is left alone.
    let mut bytes = name.as_bytes().get(..name.len().min(len - 1)).unwrap_or_default().to_vec(); // len is not 0
    bytes.push(0);
    vm.memory.write(to, &bytes)?;
    Ok(if fits { name.len() as u64 } else { negative(Errno::E2BIG) })
}

/// `bpf_sysctl_get_current_value(ctx, buf, buf_len)`.
fn current_value(vm: &mut Vm, [_, to, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let setting = setting(vm)?;
    answer(vm, to, len as u32 as usize, &setting.current)
}

/// `bpf_sysctl_get_new_value(ctx, buf, buf_len)`: `EINVAL` when it is only read.
fn new_value(vm: &mut Vm, [_, to, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize;
    match setting(vm)?.new {
        Some(new) => answer(vm, to, len, &new),
        None => {
            vm.memory.check(to, len, true)?;
            vm.memory.write(to, &vec![0; len])?;
            Ok(negative(Errno::EINVAL))
        }
    }
}

/// `bpf_sysctl_set_new_value(ctx, buf, buf_len)`.
fn set_new_value(vm: &mut Vm, [_, from, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let bytes = vm.memory.bytes(from, len as u32 as usize)?;
    let Some(setting) = vm.memory.context::<Sysctl>() else {
        return Err(refuse("the program sees no sysctl"));
    };
    match &mut setting.new {
        Some(new) if !new.is_empty() && !bytes.is_empty() => {
            if bytes.len() > PAGE - 1 {
                return Ok(negative(Errno::E2BIG));
            }
            *new = bytes;
            setting.is_changed = true;
            Ok(0)
        }
        _ => Ok(negative(Errno::EINVAL)),
    }
}

//! Helpers that read memory of the kernel and of processes, wherever an address leads.

use skep_sys::abi::Errno;

use super::{EFFECT, HelperFn, answer, negative};
use crate::event::TraceEffect;
use crate::image::TASK_SIZE;
use crate::vm::{Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (4, any),
    (36, write_user),
    (45, any_str),
    (112, user),
    (113, kernel),
    (114, user_str),
    (115, kernel_str),
    (148, user),
    (191, user_of_task),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[("bpf_copy_from_user_str", copy_user_str)];

/// End of the addresses that may not be read as the kernel's: those of processes, and a page.
const USER_END: u64 = TASK_SIZE + 4096;

/// Reads at an address of the kernel or of the run.
fn read_kernel(vm: &mut Vm, address: u64, to: &mut [u8]) -> Result<(), Errno> {
    if vm.memory.region(address).is_some() {
        return vm.memory.read(address, to).map_err(|_| Errno::EFAULT);
    }
    check_kernel(address)?;
    vm.kernel.0.world().memory.read_kernel(address, to).ok_or(Errno::EFAULT)
}

/// `ERANGE` for what is not the kernel's (`copy_from_kernel_nofault_allowed`).
fn check_kernel(address: u64) -> Result<(), Errno> {
    let canonical = address.cast_signed() << 16 >> 16 == address.cast_signed();
    if address < USER_END || !canonical { Err(Errno::ERANGE) } else { Ok(()) }
}

/// Reads at an address of the current process.
fn read_user(vm: &mut Vm, address: u64, to: &mut [u8]) -> Result<(), Errno> {
    let tgid = vm.current(|task| task.tgid());
    let world = vm.kernel.0.world();
    world.memory.user(tgid).and_then(|pages| pages.read(address, to)).ok_or(Errno::EFAULT)
}

/// Reads into memory of the program, zeros when that fails.
fn read_into(
    vm: &mut Vm,
    to: u64,
    size: u64,
    from: u64,
    read: fn(&mut Vm, u64, &mut [u8]) -> Result<(), Errno>,
) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    let mut bytes = vec![0; size];
    let result = read(vm, from, &mut bytes);
    if result.is_err() {
        bytes.fill(0);
    }
    vm.memory.write(to, &bytes)?;
    Ok(answer(result))
}

/// The same for a string, whose length with the NUL is answered. What is behind it stays as it was.
fn string_into(
    vm: &mut Vm,
    to: u64,
    size: u64,
    from: u64,
    read: fn(&mut Vm, u64, &mut [u8]) -> Result<usize, Errno>,
) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    vm.memory.check(to, size, true)?;
    if size == 0 {
        return Ok(0);
    }
    let mut bytes = vec![0; size];
    match read(vm, from, &mut bytes) {
        Ok(len) => {
            vm.memory.write(to, bytes.get(..len).unwrap_or(&bytes))?;
            Ok(len as u64)
        }
        Err(errno) => {
            bytes.fill(0);
            vm.memory.write(to, &bytes)?;
            Ok(negative(errno))
        }
    }
}

fn kernel_text(vm: &mut Vm, address: u64, to: &mut [u8]) -> Result<usize, Errno> {
    if vm.memory.region(address).is_none() {
        check_kernel(address)?;
        return vm.kernel.0.world().memory.kernel_string(address, to).ok_or(Errno::EFAULT);
    }
    let max = to.len();
    for (i, byte) in to.iter_mut().enumerate() {
        let at = address.wrapping_add(i as u64);
        vm.memory.read(at, std::slice::from_mut(byte)).map_err(|_| Errno::EFAULT)?;
        if *byte == 0 {
            return Ok(i + 1);
        }
    }
    if let Some(last) = to.last_mut() {
        *last = 0;
    }
    Ok(max)
}

pub(super) fn user_text(vm: &mut Vm, address: u64, to: &mut [u8]) -> Result<usize, Errno> {
    let tgid = vm.current(|task| task.tgid());
    let world = vm.kernel.0.world();
    world.memory.user(tgid).and_then(|pages| pages.string(address, to)).ok_or(Errno::EFAULT)
}

/// `bpf_probe_read(dst, size, address)`: of a process when the address is one of its.
pub(super) fn any(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    if args[2] < TASK_SIZE { user(vm, args) } else { kernel(vm, args) }
}

/// `bpf_probe_read_str(dst, size, address)`.
pub(super) fn any_str(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    if args[2] < TASK_SIZE { user_str(vm, args) } else { kernel_str(vm, args) }
}

/// `bpf_probe_read_kernel(dst, size, address)`.
pub(super) fn kernel(vm: &mut Vm, [to, size, from, ..]: [u64; 5]) -> Result<u64, Trap> {
    read_into(vm, to, size, from, read_kernel)
}

/// `bpf_probe_read_kernel_str(dst, size, address)`.
pub(super) fn kernel_str(vm: &mut Vm, [to, size, from, ..]: [u64; 5]) -> Result<u64, Trap> {
    string_into(vm, to, size, from, kernel_text)
}

/// `bpf_probe_read_user(dst, size, address)`, and `bpf_copy_from_user`, which may wait for the page.
pub(super) fn user(vm: &mut Vm, [to, size, from, ..]: [u64; 5]) -> Result<u64, Trap> {
    read_into(vm, to, size, from, read_user)
}

/// `bpf_probe_read_user_str(dst, size, address)`.
pub(super) fn user_str(vm: &mut Vm, [to, size, from, ..]: [u64; 5]) -> Result<u64, Trap> {
    string_into(vm, to, size, from, user_text)
}

/// `bpf_copy_from_user_task(dst, size, address, task, flags)`.
pub(super) fn user_of_task(vm: &mut Vm, [to, size, from, task, flags]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize; // the helper takes 32 bits
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    vm.memory.check(to, size, true)?;
    let mut bytes = vec![0; size];
    let found = {
        let world = vm.kernel.0.world();
        let pages = world.tasks.at(task).and_then(|task| world.memory.user(task.tgid()));
        pages.and_then(|pages| pages.read(from, &mut bytes))
    };
    if found.is_none() {
        bytes.fill(0);
    }
    vm.memory.write(to, &bytes)?;
    Ok(answer(found.ok_or(Errno::EFAULT)))
}

/// `bpf_copy_from_user_str(dst, size, address, flags)`: with `BPF_F_PAD_ZEROS` what is behind the string becomes zero.
pub(super) fn copy_user_str(vm: &mut Vm, [to, size, from, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    const PAD_ZEROS: u64 = 1;

    if flags & !PAD_ZEROS != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let length = user_str(vm, [to, size, from, 0, 0])?;
    if flags & PAD_ZEROS != 0
        && let Some(rest) = (size as u32 as usize).checked_sub(length as usize)
    {
        vm.memory.write(to.wrapping_add(length), &vec![0; rest])?;
    }
    Ok(length)
}

/// `bpf_probe_write_user(address, src, len)`.
pub(super) fn write_user(vm: &mut Vm, [to, from, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let bytes = vm.memory.bytes(from, size as u32 as usize)?; // the helper takes 32 bits
    let tgid = vm.current(|task| task.tgid());
    // Threads of the kernel have no memory of a process.
    if tgid == 0 {
        return Ok(negative(Errno::EPERM));
    }
    let written = vm.kernel.0.world().memory.user_mut(tgid).write(to, &bytes);
    if written.is_none() {
        return Ok(negative(Errno::EFAULT));
    }
    vm.spend(EFFECT + bytes.len() as u64); // a length in memory
    vm.site.effects.push(TraceEffect::UserWrite { tgid, address: to, bytes });
    Ok(0)
}

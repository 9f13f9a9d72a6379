//! Bytes that helpers are given the address of.

use skep_sys::abi::Errno;

use super::answer;
use crate::vm::{Trap, Vm};

/// So many bytes are on the host's stack, as most keys and values are.
const SHORT: usize = 64;

/// Does something with a copy of the bytes at an address.
pub(super) fn with_bytes<T>(
    vm: &mut Vm,
    address: u64,
    len: usize,
    with: impl FnOnce(&mut Vm, &[u8]) -> Result<T, Trap>,
) -> Result<T, Trap> {
    with_bytes_mut(vm, address, len, |vm, bytes| with(vm, bytes))
}

/// As [`with_bytes`] with a copy that may be changed.
pub(super) fn with_bytes_mut<T>(
    vm: &mut Vm,
    address: u64,
    len: usize,
    with: impl FnOnce(&mut Vm, &mut [u8]) -> Result<T, Trap>,
) -> Result<T, Trap> {
    let mut short = [0; SHORT];
    if let Some(bytes) = short.get_mut(..len) {
        vm.memory.read(address, bytes)?;
        return with(vm, bytes);
    }
    // What is longer than its region is refused before it takes memory.
    vm.memory.check(address, len, false)?;
    let mut bytes = vm.held.buffer();
    bytes.resize(len, 0);
    vm.memory.read(address, &mut bytes)?;
    let answer = with(vm, &mut bytes);
    vm.held.give_back(bytes);
    answer
}

/// Lets something fill bytes, writes them to an address also when it failed, and answers as helpers do.
pub(super) fn with_room(
    vm: &mut Vm,
    address: u64,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<u64, Trap> {
    vm.memory.check(address, len, true)?;
    let mut short = [0; SHORT];
    if let Some(bytes) = short.get_mut(..len) {
        let result = answer(fill(bytes));
        vm.memory.write(address, bytes)?;
        return Ok(result);
    }
    let mut bytes = vm.held.buffer();
    bytes.resize(len, 0);
    let result = answer(fill(&mut bytes));
    vm.memory.write(address, &bytes)?;
    vm.held.give_back(bytes);
    Ok(result)
}

/// Reads a number of 8 bytes.
pub(super) fn read_u64(vm: &mut Vm, address: u64) -> Result<u64, Trap> {
    let mut bytes = [0; 8];
    vm.memory.read(address, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes a number of 8 bytes.
pub(super) fn write_u64(vm: &mut Vm, address: u64, value: u64) -> Result<(), Trap> {
    vm.memory.write(address, &value.to_ne_bytes())
}

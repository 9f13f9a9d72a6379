//! Helpers of XDP programs.

use super::with_xdp;
use crate::helper::{answer, negative};
use crate::vm::{Trap, Vm};
use skep_sys::abi::Errno;

/// `bpf_xdp_adjust_head(xdp, delta)`.
pub(super) fn adjust_head(vm: &mut Vm, [context, delta, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_xdp(vm, context, |xdp, memory| xdp.adjust_head(memory, delta as i32)).map(answer)
}

/// `bpf_xdp_adjust_meta(xdp, delta)`.
pub(super) fn adjust_meta(vm: &mut Vm, [context, delta, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_xdp(vm, context, |xdp, memory| xdp.adjust_meta(memory, delta as i32)).map(answer)
}

/// `bpf_xdp_adjust_tail(xdp, delta)`.
pub(super) fn adjust_tail(vm: &mut Vm, [context, delta, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_xdp(vm, context, |xdp, memory| xdp.adjust_tail(memory, delta as i32)).map(answer)
}

/// `bpf_xdp_get_buff_len(xdp)`.
pub(super) fn buff_len(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_xdp(vm, context, |xdp, _| Ok(xdp.len() as u64))
}

/// `bpf_xdp_load_bytes(xdp, offset, to, len)`.
pub(super) fn load_bytes(vm: &mut Vm, [context, at, to, len, _]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize;
    vm.memory.check(to, len, true)?;
    let mut bytes = vec![0; len];
    let loaded = with_xdp(vm, context, |xdp, memory| Ok(xdp.load_bytes(memory, at, &mut bytes)))?;
    if loaded.is_ok() {
        vm.memory.write(to, &bytes)?;
    }
    Ok(answer(loaded))
}

/// `bpf_xdp_store_bytes(xdp, offset, from, len)`.
pub(super) fn store_bytes(vm: &mut Vm, [context, at, from, len, _]: [u64; 5]) -> Result<u64, Trap> {
    let bytes = vm.memory.bytes(from, len as u32 as usize)?;
    if bytes.is_empty() {
        return Ok(negative(Errno::EINVAL));
    }
    with_xdp(vm, context, |xdp, memory| Ok(xdp.store_bytes(memory, at, &bytes))).map(answer)
}

/// `bpf_xdp_pull_data(xdp, len)`: lets the first part have so many bytes of the packet.
pub(super) fn pull_data(vm: &mut Vm, [context, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_xdp(vm, context, |xdp, memory| xdp.pull_data(memory, len as u32 as usize)).map(answer)
}

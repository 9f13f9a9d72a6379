//! Helpers that work on maps.

use std::sync::Arc;

use super::answer;
use crate::map::Map;
use crate::vm::{Trap, Vm};

/// Keys up to this length are on the stack.
const KEY_MAX: usize = 64;

/// Does something with a map and the key at an address.
fn with_key<T>(
    vm: &mut Vm,
    map: &Arc<Map>,
    address: u64,
    with: impl FnOnce(&mut Vm, &[u8]) -> Result<T, Trap>,
) -> Result<T, Trap> {
    let len = map.shape.key_size as usize;
    let mut short = [0; KEY_MAX];
    match short.get_mut(..len) {
        Some(key) => {
            vm.memory.read(address, key)?;
            with(vm, key)
        }
        None => {
            let key = vm.memory.bytes(address, len)?;
            with(vm, &key)
        }
    }
}

/// `bpf_map_lookup_elem(map, key)`: a pointer to the value, or null.
pub(super) fn lookup(vm: &mut Vm, [map, key, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    let cpu = vm.cpu;
    with_key(vm, &map, key, |vm, key| {
        if let Some(inner) = map.inner_map(key) {
            return vm.map_handle(&inner);
        }
        match map.value(key, cpu) {
            Ok(Some(value)) => vm.value_address(&map, &value),
            _ => Ok(0),
        }
    })
}

/// `bpf_map_update_elem(map, key, value, flags)`.
pub(super) fn update(vm: &mut Vm, [map, key, value, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    let len = map.shape.value_size as usize;
    let value = vm.memory.bytes(value, len)?;
    let cpu = vm.cpu;
    with_key(vm, &map, key, |_, key| Ok(answer(map.program_update(key, &value, flags, cpu))))
}

/// `bpf_map_delete_elem(map, key)`.
pub(super) fn delete(vm: &mut Vm, [map, key, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    with_key(vm, &map, key, |_, key| Ok(answer(map.program_delete(key))))
}

//! Values that belong to sockets, processes, files and cgroups.

use skep_sys::abi::{Errno, MapType};

use super::map::map_of;
use super::{HelperFn, memory, negative, refuse};
use crate::map::Owner;
use crate::vm::{Handle, Trap, Vm, What};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (81, local),
    (107, |vm, args| get(vm, args, MapType::SK_STORAGE)),
    (108, |vm, args| delete(vm, args, MapType::SK_STORAGE)),
    (145, |vm, args| get(vm, args, MapType::INODE_STORAGE)),
    (146, |vm, args| delete(vm, args, MapType::INODE_STORAGE)),
    (156, |vm, args| get(vm, args, MapType::TASK_STORAGE)),
    (157, |vm, args| delete(vm, args, MapType::TASK_STORAGE)),
    (210, |vm, args| get(vm, args, MapType::CGRP_STORAGE)),
    (211, |vm, args| delete(vm, args, MapType::CGRP_STORAGE)),
];

/// Makes the value where there is none (`BPF_LOCAL_STORAGE_GET_F_CREATE`).
const CREATE: u64 = 1;

/// What a value belongs to, by the address that a program has of it. A [`Handle::Other`] that is an [`Owner`] says so itself;
/// other handles are told apart by the object that they hold, and addresses in memory are what lies there.
fn owner(vm: &Vm, address: u64, helper: &str) -> Result<Owner, Trap> {
    if let Some(cookie) = vm.socket_at(address) {
        return Ok(Owner::Simulated(cookie));
    }
    if let Some(task) = vm.kernel.0.world().tasks.at(address) {
        return Ok(Owner::Process(task.pid().cast_signed()));
    }
    if let Some(id) = vm.kernel.0.world().structures.cgroup_at(address) {
        return Ok(Owner::Cgroup(id));
    }
    match vm.memory.handle(address) {
        Some(Handle::Other(_, any)) => {
            let place = std::sync::Arc::as_ptr(any).cast::<()>().addr() as u64;
            Ok(any.downcast_ref::<Owner>().copied().unwrap_or(Owner::Simulated(place)))
        }
        Some(_) => Err(refuse(format!("{address:#x} is nothing that {helper} finds a value of"))),
        None if vm.memory.region(address).is_some() => {
            Err(refuse(format!("{address:#x} is memory of the program, and not an object of the kernel")))
        }
        None => Ok(Owner::Simulated(address)),
    }
}

/// `bpf_sk_storage_get(map, owner, initial, flags)` and its like: a pointer to the value, or null.
fn get(vm: &mut Vm, [map, of, initial, flags, _]: [u64; 5], kind: MapType) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_storage_get", |found| found == kind)?;
    if flags > CREATE || of == 0 {
        return Ok(0);
    }
    let owner = owner(vm, of, "bpf_storage_get")?;
    let len = map.shape.value_size as usize;
    let value = if flags != CREATE {
        map.storage(owner, None)
    } else if initial == 0 {
        map.storage(owner, Some(&vec![0; len]))
    } else {
        memory::with_bytes(vm, initial, len, |_, initial| Ok(map.storage(owner, Some(initial))))?
    };
    match value {
        Ok(Some(value)) => vm.value_address(&map, &value),
        _ => Ok(0),
    }
}

/// `bpf_sk_storage_delete(map, owner)` and its like.
fn delete(vm: &mut Vm, [map, of, ..]: [u64; 5], kind: MapType) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_storage_delete", |found| found == kind)?;
    if of == 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let owner = owner(vm, of, "bpf_storage_delete")?;
    Ok(super::answer(map.storage_delete(owner)))
}

/// `bpf_get_local_storage(map, flags)`: the value of the cgroup that the program is attached to, never null.
fn local(vm: &mut Vm, [map, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let takes = |kind| matches!(kind, MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE);
    let map = map_of(vm, map, "bpf_get_local_storage", takes)?;
    if flags != 0 {
        return Err(refuse("get_local_storage() doesn't support non-zero flags"));
    }
    // A run that nothing is attached for has a value of its own, which begins with zeros.
    let Some((cgroup, attach_type)) = vm.held.cgroup() else {
        let map_address = vm.map_handle(&map)?;
        if let Some(address) = vm.held.own_storage(map_address) {
            return Ok(address);
        }
        let bytes = vec![0; map.shape.value_size as usize];
        let address = vm.own(What::Other("the value of a test run"), bytes, true)?;
        vm.held.set_own_storage(map_address, address);
        return Ok(address);
    };
    let mut key = [0; 16];
    let parts = cgroup.to_ne_bytes().into_iter().chain(attach_type.0.to_ne_bytes());
    key.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    let key = key.get(..map.shape.key_size as usize).unwrap_or(&key);
    match map.value(key, vm.cpu) {
        Ok(Some(value)) => vm.value_address(&map, &value),
        _ => Err(refuse(format!("map `{}` has no value for this cgroup", map.name))),
    }
}

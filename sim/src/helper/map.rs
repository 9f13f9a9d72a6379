//! Helpers that work on maps.

use std::sync::Arc;

use skep_sys::abi::{Errno, MapType};

use super::{HelperFn, answer, memory, negative, refuse};
use crate::map::{Map, Value};
use crate::vm::{Own, Region, Shared, Trap, Vm, What};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (1, lookup),
    (2, update),
    (3, delete),
    (87, push),
    (88, pop),
    (89, peek),
    (164, for_each),
    (195, lookup_percpu),
];

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[("bpf_map_sum_elem_count", sum_elem_count)];

/// What a step of a search in a trie counts as, in instructions.
const STEP: u64 = 16;

/// Kinds that [`lookup`] looks into, and those that [`update`] and [`delete`] change.
fn is_looked_up(kind: MapType) -> bool {
    use MapType as M;

    let others = [
        M::ARRAY_OF_MAPS,
        M::HASH_OF_MAPS,
        M::DEVMAP,
        M::DEVMAP_HASH,
        M::CPUMAP,
        M::XSKMAP,
        M::SOCKMAP,
        M::SOCKHASH,
    ];
    is_plain(kind) || others.contains(&kind)
}

fn is_plain(kind: MapType) -> bool {
    use MapType as M;

    let plain =
        [M::HASH, M::ARRAY, M::PERCPU_HASH, M::PERCPU_ARRAY, M::LRU_HASH, M::LRU_PERCPU_HASH, M::LPM_TRIE];
    plain.contains(&kind)
}

fn is_deleted(kind: MapType) -> bool {
    is_plain(kind) || is_of_sockets(kind)
}

fn is_of_sockets(kind: MapType) -> bool {
    matches!(kind, MapType::SOCKMAP | MapType::SOCKHASH)
}

fn is_keyless(kind: MapType) -> bool {
    is_queue(kind) || kind == MapType::BLOOM_FILTER
}

fn is_queue(kind: MapType) -> bool {
    matches!(kind, MapType::QUEUE | MapType::STACK)
}

/// The map at an address, of one of the kinds that a helper takes.
pub(super) fn map_of(
    vm: &Vm,
    address: u64,
    helper: &str,
    takes: impl FnOnce(MapType) -> bool,
) -> Result<Arc<Map>, Trap> {
    let map = vm.memory.map(address)?;
    if takes(map.shape.kind) {
        return Ok(map);
    }
    let kind = map.shape.kind;
    Err(refuse(format!("map `{}` is of kind {kind}, which {helper} does not take", map.name)))
}

/// `bpf_map_lookup_elem(map, key)`: a pointer to the value, or null.
fn lookup(vm: &mut Vm, [map, key, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_lookup_elem", is_looked_up)?;
    lookup_on(vm, &map, key, vm.cpu)
}

/// `bpf_map_lookup_percpu_elem(map, key, cpu)`.
fn lookup_percpu(vm: &mut Vm, [map, key, cpu, ..]: [u64; 5]) -> Result<u64, Trap> {
    let takes =
        |kind| matches!(kind, MapType::PERCPU_ARRAY | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH);
    let map = map_of(vm, map, "bpf_map_lookup_percpu_elem", takes)?;
    let cpu = cpu as u32;
    if cpu >= vm.kernel.0.config().cpus {
        return Ok(0);
    }
    lookup_on(vm, &map, key, cpu)
}

fn lookup_on(vm: &mut Vm, map: &Arc<Map>, key: u64, cpu: u32) -> Result<u64, Trap> {
    if map.shape.kind == MapType::LPM_TRIE {
        vm.spend(map.steps() as u64 * STEP); // a key has few bits
    }
    memory::with_bytes(vm, key, map.shape.key_size as usize, |vm, key| {
        if matches!(map.shape.kind, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) {
            return map.inner_map(key).map_or(Ok(0), |inner| vm.map_handle(&inner));
        }
        if matches!(map.shape.kind, MapType::SOCKMAP | MapType::SOCKHASH) {
            return map.simulated_socket(key).map_or(Ok(0), |cookie| vm.socket_address(cookie));
        }
        match map.value(key, cpu) {
            Ok(Some(value)) => vm.value_address(map, &value),
            _ => Ok(0),
        }
    })
}

/// `bpf_map_update_elem(map, key, value, flags)`.
fn update(vm: &mut Vm, [map, key, value, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_update_elem", |kind| is_plain(kind) || is_of_sockets(kind))?;
    let (key_size, value_size) = (map.shape.key_size as usize, map.shape.value_size as usize);
    let cpu = vm.cpu;
    if is_of_sockets(map.shape.kind) {
        // The value is a socket.
        let Some(cookie) = (if value == 0 { None } else { vm.socket_at(value) }) else {
            return Ok(negative(Errno::EINVAL));
        };
        return memory::with_bytes(vm, key, key_size, |vm, key| {
            Ok(answer(vm.kernel.0.put_socket_as_program(&map, key, cookie, flags, true)))
        });
    }
    memory::with_bytes(vm, key, key_size, |vm, key| {
        memory::with_bytes(vm, value, value_size, |_, value| {
            Ok(answer(map.program_update(key, value, flags, cpu)))
        })
    })
}

/// `bpf_map_delete_elem(map, key)`.
fn delete(vm: &mut Vm, [map, key, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_delete_elem", is_deleted)?;
    memory::with_bytes(vm, key, map.shape.key_size as usize, |_, key| Ok(answer(map.program_delete(key))))
}

/// `bpf_map_push_elem(map, value, flags)`.
fn push(vm: &mut Vm, [map, value, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_push_elem", is_keyless)?;
    let len = map.shape.value_size as usize;
    memory::with_bytes(vm, value, len, |_, value| Ok(answer(map.program_push(value, flags))))
}

/// `bpf_map_pop_elem(map, value)`.
fn pop(vm: &mut Vm, [map, value, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_pop_elem", is_queue)?;
    memory::with_room(vm, value, map.shape.value_size as usize, |value| map.program_pop(value))
}

/// `bpf_map_peek_elem(map, value)`: of a bloom filter, whether it holds the value.
fn peek(vm: &mut Vm, [map, value, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_map_peek_elem", is_keyless)?;
    let len = map.shape.value_size as usize;
    if map.shape.kind == MapType::BLOOM_FILTER {
        return memory::with_bytes_mut(vm, value, len, |_, value| Ok(answer(map.program_peek(value))));
    }
    memory::with_room(vm, value, len, |value| map.program_peek(value))
}

/// The elements that a program goes through: of an array as it comes to them, since it may be as long as an address space.
fn elements(map: &Arc<Map>, cpu: u32) -> Box<dyn Iterator<Item = (Arc<[u8]>, Value)>> {
    if !matches!(map.shape.kind, MapType::ARRAY | MapType::PERCPU_ARRAY) {
        return Box::new(map.values(cpu).into_iter());
    }
    let map = map.clone();
    Box::new((0..map.shape.max_entries).map_while(move |index| {
        let key = index.to_ne_bytes();
        Some((Arc::from(key), map.value(&key, cpu).ok()??))
    }))
}

/// `bpf_for_each_map_elem(map, callback, context, flags)`: how many elements the callback was called for.
fn for_each(vm: &mut Vm, [map, callback, context, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let map_address = map;
    let takes = |kind| is_plain(kind) && kind != MapType::LPM_TRIE;
    let map = map_of(vm, map, "bpf_for_each_map_elem", takes)?;
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    // One place for all keys and one for all values: a run has only so many.
    let key_at = vm.own(What::Other("a key"), vec![0; map.shape.key_size as usize], false)?;
    let value_at = vm.memory.add(Region::Gone("there is no value"))?;
    let writable = !map.is_read_only_for_programs();
    // Those of a hash are listed before the first is gone to.
    vm.spend(map.count() as u64); // they are in memory
    let mut visited = 0;
    for (key, value) in elements(&map, vm.cpu) {
        if let Some(Region::Own(Own { bytes, .. })) = vm.memory.region_mut(key_at) {
            bytes.clear();
            bytes.extend_from_slice(&key);
        }
        let shared = Shared {
            what: What::Value(map.clone()),
            words: value.words().clone(),
            start: value.start(),
            len: value.len(),
            writable,
        };
        if let Some(region) = vm.memory.region_mut(value_at) {
            *region = Region::Shared(shared);
        }
        visited += 1;
        if vm.call(callback, [map_address, key_at, value_at, context, 0])? != 0 {
            break;
        }
    }
    vm.memory.revoke(key_at, "the key was that of a callback which has returned");
    vm.memory.revoke(value_at, "the value was that of a callback which has returned");
    Ok(visited)
}

/// `bpf_map_sum_elem_count(map)`: how many elements a hash has.
fn sum_elem_count(vm: &mut Vm, [map, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    // Maps of other kinds have no counter.
    let counts = map.is_hash();
    Ok(if counts { map.count() as u64 } else { 0 })
}

//! What maps and their typed views do, on any kernel: bodies that the test binaries run on theirs.

#![allow(clippy::print_stdout)]

mod arrays;
mod batches;
mod cpu_select;
mod descriptors;
mod devices;
mod guards;
mod handles;
mod hashes;
mod iteration;
mod layouts;
mod locks;
mod lpm;
mod lru;
mod mapped;
mod memory;
mod objects;
mod owners;
mod queues;
mod sockets;

use skep::map::{Map, MapError, MapErrorKind, PlainData};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType, UpdateFlags};
use skep::sys::request::MapCreate;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A body: what it does on a kernel with a bpffs at `/sys/fs/bpf`.
pub(crate) type Body = fn(&Kernel);

crate::support::bodies! { ($) map_conformance;
    hash: |kernel| hashes::plain(kernel, MapType::HASH),
    lru_hash: |kernel| hashes::plain(kernel, MapType::LRU_HASH),
    hash_is_full: hashes::full,
    lru_promises: lru::promises,
    percpu_hash: |kernel| hashes::per_cpu(kernel, MapType::PERCPU_HASH),
    lru_percpu_hash: |kernel| hashes::per_cpu(kernel, MapType::LRU_PERCPU_HASH),
    array: arrays::plain,
    percpu_array: arrays::per_cpu,
    values_per_cpu_have_any_size: arrays::per_cpu_sizes,
    lpm_trie: lpm::longest,
    lpm_trie_keys: lpm::keys_of_any_shape,
    queue: queues::queue,
    stack: queues::stack,
    bloom_filter: queues::bloom,
    program_array: objects::programs,
    array_of_maps: objects::array_of_maps,
    hash_of_maps: objects::hash_of_maps,
    instruction_array: objects::instructions,
    stack_traces: memory::stack_traces,
    arena: memory::arena,
    iteration: iteration::complete,
    iteration_while_emptying: iteration::emptying,
    iteration_ends: iteration::ends,
    iteration_among_threads: iteration::among_threads,
    batches_of_hashes: batches::hashes,
    batches_per_cpu: batches::per_cpu,
    batches_of_arrays: batches::arrays,
    batches_stop: batches::stopped,
    batches_one_by_one: batches::one_by_one,
    batches_among_threads: batches::among_threads,
    drain_among_threads: batches::drain_among_threads,
    one_cpu: cpu_select::one_cpu,
    mapped_arrays: mapped::arrays,
    mapped_arrays_read_only: mapped::read_only,
    usage: mapped::usage,
    guards_batches: guards::batches,
    guards_cpus: guards::cpus,
    guards_other_kinds: guards::other_kinds,
    guards_other_shapes: guards::other_shapes,
    guards: guards::bytes,
    guards_typed: guards::typed,
    wrong_lengths: guards::wrong_lengths,
    views_compare_shapes: handles::shapes,
    views_compare_layouts: layouts::compared,
    handles: handles::handles,
    rights_of_handles: handles::rights,
    pins: handles::pins,
    locked_values: locks::values,
    frozen: handles::frozen,
    without_keys: handles::without_keys,
    descriptor_views_compare_shapes: descriptors::shapes,
    dev_map: devices::dev_map,
    dev_map_programs: devices::dev_map_programs,
    dev_map_hash: devices::dev_map_hash,
    cpu_map: devices::cpu_map,
    sock_map: sockets::sock_map,
    sock_hash: sockets::sock_hash,
    socket_values_are_short: sockets::short_values,
    reuseport_array: sockets::reuseport_array,
    xsk_map: sockets::xsk_map,
    cgroup_array: owners::cgroup_array,
    sk_storage: owners::sk_storage,
    task_storage: owners::task_storage,
    inode_storage: owners::inode_storage,
    cgroup_storage: owners::cgroup_storage,
    attached_cgroup_storage: owners::attached_cgroup_storage,
    per_cpu_attached_cgroup_storage: owners::per_cpu_attached_cgroup_storage,
}

const ANY: UpdateFlags = UpdateFlags::empty();

/// A key or value of 12 bytes, which is no multiple of 8.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PlainData,
)]
#[repr(C)]
struct Triple {
    a: u32,
    b: [u16; 2],
    c: [u8; 4],
}

fn triple(n: u8) -> Triple {
    Triple { a: 0x0101_0101 * u32::from(n), b: [u16::from(n), 0xfffe], c: [n; 4] }
}

fn map(kernel: &Kernel, map_type: MapType, key: usize, value: usize, entries: u32) -> Map {
    let mut request = MapCreate::new(map_type, key as u32, value as u32, entries);
    request.name = "under_test";
    Map::create(kernel, &request).unwrap()
}

/// Room for so many elements in a hash that drops what was not used, so that none of them is dropped: CPUs set elements aside,
/// 128 each.
fn roomy(kernel: &Kernel, elements: u32) -> usize {
    (elements + 128 * (kernel.possible_cpus().unwrap() + 1)) as usize
}

/// Does something again as long as the lock of a part of a map cannot be had. Linux 6.15 and newer wait for it for a quarter of
/// a second, and so not long enough for another CPU that is let wait while it has it.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, MapError>) -> Result<T, MapError> {
    loop {
        match ask() {
            Err(error) if error.errno() == Some(Errno::ETIMEDOUT) => std::thread::yield_now(),
            answer => return answer,
        }
    }
}

/// Whether the kernel can look up and delete in one step in such a map.
fn takes(map: &Map) -> bool {
    if matches!(map.map_type(), MapType::ARRAY | MapType::PERCPU_ARRAY) {
        return false;
    }
    let mut value = vec![0; map.value_len()];
    match map.lookup_and_delete(&vec![0xff; map.key_len()], &mut value, ANY) {
        Err(error) if error.kind() == MapErrorKind::Unsupported => {
            println!("skip: lookup_and_delete of {}: {error}", map.map_type());
            false
        }
        _ => true,
    }
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: Result<T, MapError>, kind: MapErrorKind, errno: Option<Errno>) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.errno()), (kind, errno), "{error}");
    assert!(error.to_string().contains("map `under_test`"), "{error}");
}

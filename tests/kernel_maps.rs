//! Maps on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod map_conformance;

use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;

fn skip(name: &str, reason: &str) -> Option<Kernel> {
    assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "skip: {name}: {reason}");
    println!("skip: {name}: {reason}");
    None
}

fn kernel(name: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(_) => {}
        Err(Errno::EPERM) => return skip(name, "no right to create maps"),
        Err(errno) => panic!("cannot create a map: {errno}"),
    }
    if kernel.backend().is_bpffs("/sys/fs/bpf".as_ref()) != Ok(true) {
        return skip(name, "no bpffs at /sys/fs/bpf");
    }
    Some(kernel)
}

map_conformance::tests! {
    kernel:
    hash
    lru_hash
    hash_is_full
    percpu_hash
    lru_percpu_hash
    array
    percpu_array
    values_per_cpu_have_any_size
    lpm_trie
    lpm_trie_keys
    queue
    stack
    bloom_filter
    program_array
    array_of_maps
    hash_of_maps
    instruction_array
    stack_traces
    arena
    iteration
    iteration_while_emptying
    iteration_ends
    iteration_among_threads
    batches_of_hashes
    batches_per_cpu
    batches_of_arrays
    batches_stop
    batches_one_by_one
    batches_among_threads
    drain_among_threads
    one_cpu
    mapped_arrays
    mapped_arrays_read_only
    usage
    guards_batches
    guards_cpus
    guards_other_kinds
    guards_other_shapes
    guards
    guards_typed
    wrong_lengths
    views_compare_shapes
    views_compare_layouts
    handles
    frozen
    without_keys
    descriptor_views_compare_shapes
    dev_map
    dev_map_programs
    dev_map_hash
    cpu_map
    sock_map
    sock_hash
    socket_values_are_short
    reuseport_array
    xsk_map
    cgroup_array
    sk_storage
    task_storage
    inode_storage
    cgroup_storage
    attached_cgroup_storage
    per_cpu_attached_cgroup_storage
}

//! Maps on a simulated kernel.

#![allow(missing_docs)]

mod map_conformance;

use skep::sim::{Features, SimKernel};
use skep::sys::Kernel;

fn kernel(name: &str) -> Option<Kernel> {
    if name == "instruction_array" {
        let newer = SimKernel::builder().features(Features::default() | Features::INSN_ARRAY);
        return Some(Kernel::new(newer.build().unwrap()));
    }
    Some(skep::sim::kernel())
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

/// The same comes of kernels that have no batches, or cannot look up and delete in one step.
#[test]
fn batches_on_old_kernels() {
    use skep::sim::{Features, SimKernel};

    for without in [Features::MAP_BATCH, Features::HASH_TAKE, Features::MAP_BATCH | Features::HASH_TAKE] {
        let sim = SimKernel::builder().without(without).build().expect("it needs no types");
        let kernel = Kernel::new(sim);
        for (name, body) in map_conformance::BODIES {
            // Without a lookup and a deletion in one step, what is put there in between is lost.
            if name.starts_with("batches") || *name == "drain_among_threads" && without == Features::MAP_BATCH
            {
                body(&kernel);
            }
        }
    }
}

/// A kernel that knows the flags that choose CPUs.
#[test]
fn new_kernels_choose_cpus() {
    use skep::sim::{Features, SimKernel};

    let sim = SimKernel::builder().features(Features::all()).build().expect("it needs no types");
    let kernel = Kernel::new(sim);
    for (name, body) in map_conformance::BODIES {
        if ["one_cpu", "guards_cpus", "guards_batches", "percpu_hash", "percpu_array"].contains(name) {
            body(&kernel);
        }
    }
}

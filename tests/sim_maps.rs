//! Maps on a simulated kernel.

#![allow(missing_docs)]

mod map_conformance;

use skep::sys::Kernel;

fn kernel(_: &str) -> Option<Kernel> {
    Some(skep::sim::kernel())
}

map_conformance::tests! { kernel: hash lru_hash hash_is_full percpu_hash lru_percpu_hash array percpu_array values_per_cpu_have_any_size iteration iteration_while_emptying iteration_ends iteration_among_threads guards guards_typed wrong_lengths views_compare_shapes views_compare_layouts handles frozen without_keys  }

//! Maps on a simulated kernel.

#![allow(missing_docs)]

mod map_conformance;
mod support;

use skep::sim::{Features, SimKernel};
use skep::sys::Kernel;

fn kernel(name: &str) -> Option<Kernel> {
    if name == "instruction_array" {
        let newer = SimKernel::builder().features(Features::default() | Features::INSN_ARRAY);
        return Some(Kernel::new(newer.build().unwrap()));
    }
    Some(skep::sim::kernel())
}

fn run(name: &str, body: map_conformance::Body) {
    if let Some(kernel) = kernel(name) {
        body(&kernel);
    }
}

map_conformance::tests! { run }

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

/// Runs some of the bodies.
fn run_those(kernel: &Kernel, names: &[&str]) {
    let those = map_conformance::BODIES.iter().filter(|(name, _)| names.contains(name));
    let ran = those.map(|(_, body)| body(kernel)).count();
    assert_eq!(ran, names.len());
}

/// What hashes promise does not depend on how many CPUs there are.
#[test]
fn lru_promises_on_any_number_of_cpus() {
    for cpus in [1, 3, 7, 64, 1024] {
        let sim = SimKernel::builder().cpus(cpus).build().unwrap();
        run_those(&Kernel::new(sim), &["lru_promises"]);
    }
}

/// Values for each CPU, on machines of all sizes.
#[test]
fn values_per_cpu_on_any_number_of_cpus() {
    for cpus in [1, 2, 3, 7, 64, 1024] {
        let kernel = Kernel::new(SimKernel::builder().cpus(cpus).build().unwrap());
        assert_eq!(kernel.possible_cpus(), Ok(cpus));
        run_those(&kernel, &["percpu_hash", "lru_percpu_hash", "percpu_array"]);
        if cpus <= 64 {
            run_those(&kernel, &["batches_per_cpu"]);
        }
    }
}

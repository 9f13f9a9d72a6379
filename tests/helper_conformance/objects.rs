use std::path::Path;

use skep::sys::request::TestRun;
use skep::{Loader, Object, Spec};

use super::{World, has_functions};

/// The programs of `run/objects.c`, where a kernel has what they call.
fn object(world: &World<'_>, test: &str) -> Option<Object> {
    let names = [
        "bpf_obj_new_impl",
        "bpf_list_push_front_impl",
        "bpf_rbtree_add_impl",
        "bpf_refcount_acquire_impl",
        "bpf_cpumask_weight",
    ];
    if !has_functions(world, test, &names) {
        return None;
    }
    let spec = Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/objects.o")).unwrap();
    Some(Loader::new(world.kernel).load(&spec).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    }))
}

fn run(object: &Object, program: &str) -> u32 {
    let mut run = TestRun::default();
    if program != "cpus" {
        run.data_in = &[0; 64];
    }
    object.program(program).unwrap().test_run(&mut run).unwrap().retval
}

/// Some of what the programs noted.
fn noted(object: &Object, places: std::ops::Range<usize>) -> Vec<u64> {
    object.global::<[u64; 32]>("noted").unwrap()[places].to_vec()
}

pub(super) fn kept(world: &World<'_>) {
    let Some(object) = object(world, "kept_objects") else { return };
    assert_eq!(run(&object, "take"), 0);
    assert_eq!(noted(&object, 2..3), [0]);
    assert_eq!(run(&object, "keep"), 0);
    assert_eq!(noted(&object, 1..2), [0]);
    assert_eq!(run(&object, "keep"), 0);
    assert_eq!(noted(&object, 1..2), [1]);
    // It is there in the next run, and then no more.
    assert_eq!(run(&object, "take"), 0);
    assert_eq!(noted(&object, 2..5), [1, 42, 7]);
    assert_eq!(run(&object, "take"), 0);
    assert_eq!(noted(&object, 2..3), [0]);
}

pub(super) fn graphs(world: &World<'_>) {
    let Some(object) = object(world, "graphs") else { return };
    assert_eq!(run(&object, "fill_list"), 0);
    assert_eq!(run(&object, "empty_list"), 0);
    assert_eq!(noted(&object, 5..10), [1, 4, 2, 3, 99]);
    assert_eq!(run(&object, "use_tree"), 0);
    assert_eq!(noted(&object, 10..15), [1, 3, 5, 9, 99]);
    assert_eq!(run(&object, "count"), 0);
    let refused = super::errno(skep::sys::abi::Errno::EINVAL);
    assert_eq!(noted(&object, 15..20), [0, 6, refused, 6, 99]);
}

pub(super) fn cpu_sets(world: &World<'_>) {
    let Some(object) = object(world, "cpu_sets") else { return };
    assert_eq!(run(&object, "cpus"), 0);
    let seen = noted(&object, 20..21)[0];
    assert_eq!(seen, 0b1_0101_0111_1110_1010_1111, "{seen:#b}");
}

/// Locks and lists in objects, objects of each CPU, and trees that are walked.
pub(super) fn nested(world: &World<'_>) {
    let names = ["bpf_percpu_obj_new_impl", "bpf_list_push_front_impl", "bpf_rbtree_root"];
    if !has_functions(world, "nested_objects", &names) {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/objects_nested.o");
    let object = Loader::new(world.kernel).load(&Spec::open(path).unwrap()).unwrap_or_else(|error| {
        panic!("{error:?}: {}", error.verifier_log().unwrap_or("no log"));
    });
    let noted = |places| noted(&object, places);
    assert_eq!(run(&object, "release"), 0);
    assert_eq!(noted(3..4), [0]);
    assert_eq!(run(&object, "hold"), 0);
    assert_eq!(noted(0..3), [99, 1, 0]);
    assert_eq!(run(&object, "hold"), 0);
    assert_eq!(noted(0..3), [99, 1, 1]);
    assert_eq!(run(&object, "release"), 0);
    assert_eq!(noted(3..6), [1, 7, 2]);
    assert_eq!(run(&object, "each_cpu"), 0);
    assert_eq!(noted(6..7), [0]);
    assert_eq!(noted(9..12), [45, if several_cpus(world) { 6 } else { 0 }, 0]);
    assert_eq!(run(&object, "each_cpu"), 0);
    // What the object holds that was made last is what the freed one before it left there, or zeros.
    assert_eq!(noted(6..7), [1]);
    assert_eq!(run(&object, "walk"), 0);
    assert_eq!(noted(12..17), [99, 50, 20, 80, 98]);
}

fn several_cpus(world: &World<'_>) -> bool {
    world.kernel.possible_cpus().is_ok_and(|cpus| cpus > 1)
}

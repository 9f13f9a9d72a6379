//! Loads on the running kernel.

#![allow(clippy::print_stdout)] // a skipped test says so

mod load_conformance;
mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use load_conformance::{elements, legacy_maps, pinned, reuse};
use skep::sys::abi::{MapType, UpdateFlags};
use skep::sys::request::TestRun;
use skep::sys::{Backend, Feature, LinuxBackend, Probe};
use skep::{Kernel, Loader, Object};

/// The running kernel's backend, if this process may use it.
fn linux(test: &str) -> Option<Arc<dyn Backend>> {
    support::linux(test).map(|_| Arc::new(LinuxBackend::new()) as Arc<dyn Backend>)
}

/// Descriptors are counted per process, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn pin_root(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(format!("skep_{name}_{}", std::process::id()))
}

#[test]
fn a_failed_load_leaves_nothing() {
    let _one = ONE.lock();
    let Some(backend) = linux("a_failed_load_leaves_nothing") else { return };
    let mut objects = vec![
        "xdp_count.o",
        "pinned.o",
        "tp_btf_sock.o",
        "subprogs.o",
        "tc_legacy.o",
        "maps_legacy_aya.o",
        "maps_order.o",
    ];
    let kernel = Kernel::from_arc(backend.clone());
    let newer = [(MapType::ARENA, "arena.o"), (MapType::INSN_ARRAY, "jump_tables.o")];
    objects.extend(
        newer.iter().filter(|(kind, _)| kernel.has(Feature::MapType(*kind)).is_supported()).map(|(_, o)| *o),
    );
    // Links of tables are newer than tables.
    objects.extend(
        Loader::new(&kernel).load(&load_conformance::open("struct_ops.o")).is_ok().then_some("struct_ops.o"),
    );
    load_conformance::a_failed_load_leaves_nothing(&backend, || {}, &pin_root("faults"), &objects);
}

#[test]
fn pinned_maps_are_reused() {
    let _one = ONE.lock();
    let Some(backend) = linux("pinned_maps_are_reused") else { return };
    load_conformance::pinned_maps_are_reused(&backend, &pin_root("reuse"));
}

#[test]
fn globals_are_typed_places() {
    let _one = ONE.lock();
    let Some(backend) = linux("globals_are_typed_places") else { return };
    load_conformance::globals_are_typed_places(&Kernel::from_arc(backend));
}

#[test]
fn parts_are_found_by_name() {
    let _one = ONE.lock();
    let Some(backend) = linux("parts_are_found_by_name") else { return };
    load_conformance::parts_are_found_by_name(&Kernel::from_arc(backend));
}

#[test]
fn maps_can_be_left_out() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_can_be_left_out") else { return };
    load_conformance::maps_can_be_left_out(&Kernel::from_arc(backend));
}

#[test]
fn arena_variables_are_typed_places() {
    let name = "arena_variables_are_typed_places";
    let _one = ONE.lock();
    let Some(backend) = linux(name) else { return };
    let kernel = Kernel::from_arc(backend);
    match kernel.has(Feature::MapType(MapType::ARENA)) {
        Probe::Supported => load_conformance::arena_variables_are_typed_places(&kernel, true),
        other => support::skip(name, format_args!("arenas (Linux 6.9): {other:?}")),
    }
}

#[test]
fn long_programs_load() {
    let _one = ONE.lock();
    let Some(backend) = linux("long_programs_load") else { return };
    load_conformance::long_programs_load(&Kernel::from_arc(backend), true);
}

#[test]
fn legacy_maps_are_made_as_defined() {
    let _one = ONE.lock();
    let Some(backend) = linux("legacy_maps_are_made_as_defined") else { return };
    let kernel = Kernel::from_arc(backend);
    legacy_maps::they_are_made_as_defined(&kernel);
}

#[test]
fn any_map_may_be_left_out() {
    let _one = ONE.lock();
    let Some(backend) = linux("any_map_may_be_left_out") else { return };
    let kernel = Kernel::from_arc(backend);
    legacy_maps::any_map_may_be_left_out(&kernel, &[]);
}

#[test]
fn maps_are_shared_as_tc_shares_them() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_are_shared_as_tc_shares_them") else { return };
    legacy_maps::maps_are_shared_as_tc_shares_them(&backend, &pin_root("tc"));
}

#[test]
fn an_inner_map_can_be_given() {
    let _one = ONE.lock();
    let Some(backend) = linux("an_inner_map_can_be_given") else { return };
    let kernel = Kernel::from_arc(backend);
    legacy_maps::an_inner_map_can_be_given(&kernel);
}

/// Runs a program on a packet of 64 bytes that carries a mark.
fn run(object: &Object, program: &str, mark: u32) -> u32 {
    let mut context = [0; 192];
    context[8..12].copy_from_slice(&mark.to_ne_bytes());
    let mut run = TestRun::default();
    (run.data_in, run.ctx_in) = (&[0; 64], &context);
    let program = object.program(program).expect("it is loaded");
    program.test_run(&mut run).expect("it can be run").retval
}

fn value(object: &Object, map: &str, index: u32) -> u64 {
    let value = object.map(map).expect("it is there").lookup(&index.to_ne_bytes()).expect("it can be read");
    u64::from_ne_bytes(value.expect("it is there").try_into().expect("it has 8 bytes"))
}

/// Programs reach the maps that they name, by symbol and by section and offset, and other programs.
#[test]
fn programs_with_legacy_maps_run() {
    let _one = ONE.lock();
    let Some(backend) = linux("programs_with_legacy_maps_run") else { return };
    let kernel = Kernel::from_arc(backend);
    let load = |name: &str| legacy_maps::load(&kernel, &legacy_maps::open_unpinned(name));
    for name in ["maps_legacy.o", "maps_legacy_no_btf.o"] {
        let object = load(name);
        assert_eq!((run(&object, "count", 0), run(&object, "count", 0)), (11, 22), "{name}");
        assert_eq!((value(&object, "counts", 0), value(&object, "counts", 1)), (0, 2), "{name}");
        assert_eq!(value(&object, "hidden", 0), 20, "{name}");
        assert_eq!(object.map("flows").expect("it is there").keys().count(), 1, "{name}");
    }
    let object = load("maps_legacy_sections.o");
    assert_eq!((run(&object, "count", 0), value(&object, "oldest", 0)), (7, 1));

    for name in ["maps_legacy_samples.o", "maps_legacy_samples_no_btf.o"] {
        let object = load(name);
        assert_eq!(run(&object, "look", 0), 0, "{name}: nothing is in `outer`");
        let inner = object.map("inner").expect("it is there");
        inner
            .update(&0u32.to_ne_bytes(), &9u64.to_ne_bytes(), UpdateFlags::empty())
            .expect("it can be written");
        let outer = object.map("outer").expect("it is there").as_map_fd();
        outer.update_map(&1u32.to_ne_bytes(), inner.as_map_fd(), UpdateFlags::empty()).expect("it takes it");
        assert_eq!(run(&object, "look", 0), 9, "{name}");
    }

    for name in ["tc_legacy.o", "tc_legacy_no_btf.o"] {
        let object = load(name);
        // Two jumps, one jump, and an element that is empty.
        assert_eq!([0, 2, 1].map(|mark| run(&object, "enter", mark)), [11, 22, 99], "{name}");
        assert_eq!(value(&object, "skep_shared", 0), 3, "{name}");
        assert_eq!((value(&object, "third", 0), value(&object, "in_none", 0)), (3, 0), "{name}");
        assert_eq!((value(&object, "first", 0), value(&object, "first", 1)), (6, 0), "{name}");
    }

    assert_eq!([0, 1, 2].map(|mark| run(&load("maps_order.o"), "look", mark)), [5, 4, 5]);
    let mut spec = legacy_maps::open_unpinned("maps_order.o");
    spec.map_mut("other_inner").expect("it is there").autocreate = false;
    let object = legacy_maps::load(&kernel, &spec);
    assert_eq!([0, 1, 2].map(|mark| run(&object, "look", mark)), [5, 4, 4]);
    let object = load("maps_legacy_aya.o");
    let mut packet = TestRun::default();
    packet.data_in = &[0; 64];
    let count = object.program("count").expect("it is loaded");
    assert_eq!(count.test_run(&mut packet).expect("it can be run").retval, 2, "XDP_PASS");
    assert_eq!(value(&object, "skep_pinned", 0), 1);
}

#[test]
fn maps_go_without_types_that_the_kernel_refuses() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_go_without_types_that_the_kernel_refuses") else { return };
    load_conformance::maps_go_without_types_that_the_kernel_refuses(&Kernel::from_arc(backend));
}

#[test]
fn records_are_cut_to_what_the_kernel_knows() {
    let _one = ONE.lock();
    let Some(backend) = linux("records_are_cut_to_what_the_kernel_knows") else { return };
    load_conformance::records_are_cut_to_what_the_kernel_knows(&Kernel::from_arc(backend));
}

#[test]
fn maps_can_be_given() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_can_be_given") else { return };
    reuse::maps_can_be_given(&Kernel::from_arc(backend));
}

#[test]
fn data_maps_can_be_given() {
    let _one = ONE.lock();
    let Some(backend) = linux("data_maps_can_be_given") else { return };
    reuse::data_maps_can_be_given(&Kernel::from_arc(backend));
}

#[test]
fn given_maps_are_put_into_others() {
    let _one = ONE.lock();
    let Some(backend) = linux("given_maps_are_put_into_others") else { return };
    reuse::given_maps_are_put_into_others(&Kernel::from_arc(backend));
}

#[test]
fn pinned_maps_have_successors() {
    let _one = ONE.lock();
    let Some(backend) = linux("pinned_maps_have_successors") else { return };
    reuse::pinned_maps_have_successors(&backend, &pin_root("pinned_maps_have_successors"));
}

#[test]
fn a_failed_load_keeps_pinned_maps() {
    let _one = ONE.lock();
    let Some(backend) = linux("a_failed_load_keeps_pinned_maps") else { return };
    reuse::a_failed_load_keeps_pinned_maps(&backend, &pin_root("a_failed_load_keeps_pinned_maps"));
}

#[test]
fn entries_migrate_many_at_once() {
    let _one = ONE.lock();
    let Some(backend) = linux("entries_migrate_many_at_once") else { return };
    reuse::entries_migrate_many_at_once(&backend, &pin_root("entries_migrate_many_at_once"));
}

#[test]
fn values_per_cpu_grow() {
    let _one = ONE.lock();
    let Some(backend) = linux("values_per_cpu_grow") else { return };
    reuse::values_per_cpu_grow(&Kernel::from_arc(backend), &pin_root("values_per_cpu_grow"));
}

#[test]
fn objects_are_pinned_as_a_whole() {
    let _one = ONE.lock();
    let Some(backend) = linux("objects_are_pinned_as_a_whole") else { return };
    reuse::objects_are_pinned_as_a_whole(&backend, &pin_root("objects_are_pinned_as_a_whole"));
}

#[test]
fn handles_can_be_for_reading_only() {
    let _one = ONE.lock();
    let Some(backend) = linux("handles_can_be_for_reading_only") else { return };
    reuse::handles_can_be_for_reading_only(
        &Kernel::from_arc(backend),
        &pin_root("handles_can_be_for_reading_only"),
    );
}

#[test]
fn declared_elements_are_found() {
    let _one = ONE.lock();
    let Some(backend) = linux("declared_elements_are_found") else { return };
    elements::declared_elements_are_found(&Kernel::from_arc(backend));
}

#[test]
fn types_are_given_by_hand() {
    let _one = ONE.lock();
    let Some(backend) = linux("types_are_given_by_hand") else { return };
    elements::types_are_given_by_hand(&Kernel::from_arc(backend));
}

#[test]
fn what_is_not_loaded_may_be_wrong() {
    let _one = ONE.lock();
    let Some(backend) = linux("what_is_not_loaded_may_be_wrong") else { return };
    load_conformance::what_is_not_loaded_may_be_wrong(&Kernel::from_arc(backend));
}

#[test]
fn maps_of_every_kind_are_found_again() {
    let _one = ONE.lock();
    let Some(backend) = linux("maps_of_every_kind_are_found_again") else { return };
    pinned::maps_of_every_kind_are_found_again(&backend, &pin_root("every_kind"));
}

#[test]
fn variables_are_found_again() {
    let _one = ONE.lock();
    let Some(backend) = linux("variables_are_found_again") else { return };
    pinned::variables_are_found_again(&backend, &pin_root("variables"));
}

#[test]
fn loads_at_once_share_maps() {
    let _one = ONE.lock();
    let Some(backend) = linux("loads_at_once_share_maps") else { return };
    pinned::loads_at_once_share_maps(&backend, &pin_root("at_once"));
}

//! Loads on simulated kernels.

#![allow(clippy::print_stdout)] // what a kernel lacks is said

mod load_conformance;

use std::path::Path;
use std::sync::{Arc, Mutex};

use load_conformance::{elements, legacy_maps, pinned, reuse};
use skep::sim::{Features, SimKernel};
use skep::sys::Backend;
use skep::{Kernel, Loader, Spec};

/// Descriptors are counted per process, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn sim() -> SimKernel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/btf/6.12.btf");
    let btf = std::fs::read(path).expect("the fixture is in the repository");
    SimKernel::builder().btf(btf).build().expect("the fixture is BTF")
}

#[test]
fn a_failed_load_leaves_nothing() {
    let _one = ONE.lock();
    let sim = sim();
    let backend: Arc<dyn Backend> = Arc::new(sim.clone());
    let objects = [
        "xdp_count.o",
        "pinned.o",
        "tracer.o",
        "subprogs.o",
        "map_in_map.o",
        "tc_legacy.o",
        "maps_legacy_aya.o",
        "maps_order.o",
        "arena.o",
    ];
    load_conformance::a_failed_load_leaves_nothing(
        &backend,
        || {
            sim.live();
        },
        Path::new("/sys/fs/bpf/skep_faults"),
        &objects,
    );
    assert_eq!(sim.live(), SimKernel::new().live(), "what is in the kernel after all of them");
}

#[test]
fn a_failed_load_on_an_old_kernel_leaves_nothing() {
    let _one = ONE.lock();
    let missing = Features::NAMES
        | Features::BTF_DECL_TAG
        | Features::BTF_FUNC_GLOBAL
        | Features::ARRAY_MMAP
        | Features::ARG_CTX_TAG
        | Features::MEMCG_ACCOUNT;
    let sim = SimKernel::builder().without(missing).build().expect("no BTF is given");
    let backend: Arc<dyn Backend> = Arc::new(sim.clone());
    load_conformance::a_failed_load_leaves_nothing(
        &backend,
        || {
            sim.live();
        },
        Path::new("/sys/fs/bpf/skep_old"),
        &["kinds.o", "arg_ctx.o"],
    );
    assert_eq!(sim.live(), SimKernel::new().live(), "what is in the kernel after all of them");
}

#[test]
fn pinned_maps_are_reused() {
    let _one = ONE.lock();
    let backend: Arc<dyn Backend> = Arc::new(sim());
    load_conformance::pinned_maps_are_reused(&backend, Path::new("/sys/fs/bpf/skep_reuse"));
}

#[test]
fn globals_are_typed_places() {
    let _one = ONE.lock();
    load_conformance::globals_are_typed_places(&Kernel::new(sim()));
}

#[test]
fn parts_are_found_by_name() {
    let _one = ONE.lock();
    load_conformance::parts_are_found_by_name(&Kernel::new(sim()));
}

#[test]
fn maps_can_be_left_out() {
    let _one = ONE.lock();
    load_conformance::maps_can_be_left_out(&Kernel::new(sim()));
}

#[test]
fn arena_variables_are_typed_places() {
    let _one = ONE.lock();
    load_conformance::arena_variables_are_typed_places(&Kernel::new(sim()), false);
}

#[test]
fn long_programs_load() {
    let _one = ONE.lock();
    load_conformance::long_programs_load(&Kernel::new(sim()), false);
}

#[test]
fn objects_of_the_other_byte_order_are_not_loaded() {
    let _one = ONE.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/xdp_count.eb.o");
    let spec = Spec::open(path).expect("it is an object");
    let error = Loader::new(&Kernel::new(sim())).load(&spec).expect_err("its bytes are swapped");
    assert_eq!(error.kind(), skep::ErrorKind::BadObject);
}

#[test]
fn legacy_maps_are_made_as_defined() {
    let _one = ONE.lock();
    legacy_maps::they_are_made_as_defined(&Kernel::new(sim()));
}

#[test]
fn any_map_may_be_left_out() {
    let _one = ONE.lock();
    legacy_maps::any_map_may_be_left_out(&Kernel::new(sim()), &["kconfig.o"]);
}

#[test]
fn maps_are_shared_as_tc_shares_them() {
    let _one = ONE.lock();
    let backend: Arc<dyn Backend> = Arc::new(sim());
    legacy_maps::maps_are_shared_as_tc_shares_them(&backend, Path::new("/sys/fs/bpf/skep_tc"));
}

#[test]
fn an_inner_map_can_be_given() {
    let _one = ONE.lock();
    legacy_maps::an_inner_map_can_be_given(&Kernel::new(sim()));
}

/// A program that needs configuration values without their map is told which map it lacks.
#[test]
fn configuration_values_need_their_map() {
    let _one = ONE.lock();
    let mut spec = load_conformance::open("kconfig.o");
    spec.map_mut(".kconfig").expect("it is there").autocreate = false;
    let error = Loader::new(&Kernel::new(sim())).load(&spec).expect_err("the program needs the map");
    let text = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(text.contains("`.kconfig`") && text.contains("was not created"), "{text}");
}

#[test]
fn maps_can_be_given() {
    let _one = ONE.lock();
    reuse::maps_can_be_given(&skep::sim::kernel());
}

#[test]
fn data_maps_can_be_given() {
    let _one = ONE.lock();
    reuse::data_maps_can_be_given(&skep::sim::kernel());
}

#[test]
fn given_maps_are_put_into_others() {
    let _one = ONE.lock();
    reuse::given_maps_are_put_into_others(&skep::sim::kernel());
}

#[test]
fn pinned_maps_have_successors() {
    let _one = ONE.lock();
    reuse::pinned_maps_have_successors(
        &skep::sim::kernel().backend_arc(),
        Path::new("/sys/fs/bpf/pinned_maps_have_successors"),
    );
}

#[test]
fn a_failed_load_keeps_pinned_maps() {
    let _one = ONE.lock();
    reuse::a_failed_load_keeps_pinned_maps(
        &skep::sim::kernel().backend_arc(),
        Path::new("/sys/fs/bpf/a_failed_load_keeps_pinned_maps"),
    );
}

#[test]
fn entries_migrate_many_at_once() {
    let _one = ONE.lock();
    reuse::entries_migrate_many_at_once(
        &skep::sim::kernel().backend_arc(),
        Path::new("/sys/fs/bpf/entries_migrate_many_at_once"),
    );
}

#[test]
fn values_per_cpu_grow() {
    let _one = ONE.lock();
    reuse::values_per_cpu_grow(&skep::sim::kernel(), Path::new("/sys/fs/bpf/values_per_cpu_grow"));
}

#[test]
fn objects_are_pinned_as_a_whole() {
    let _one = ONE.lock();
    reuse::objects_are_pinned_as_a_whole(
        &skep::sim::kernel().backend_arc(),
        Path::new("/sys/fs/bpf/objects_are_pinned_as_a_whole"),
    );
}

#[test]
fn handles_can_be_for_reading_only() {
    let _one = ONE.lock();
    reuse::handles_can_be_for_reading_only(
        &skep::sim::kernel(),
        Path::new("/sys/fs/bpf/handles_can_be_for_reading_only"),
    );
}

#[test]
fn declared_elements_are_found() {
    let _one = ONE.lock();
    elements::declared_elements_are_found(&Kernel::new(sim()));
}

#[test]
fn types_are_given_by_hand() {
    let _one = ONE.lock();
    elements::types_are_given_by_hand(&Kernel::new(sim()));
}

#[test]
fn what_is_not_loaded_may_be_wrong() {
    let _one = ONE.lock();
    load_conformance::what_is_not_loaded_may_be_wrong(&Kernel::new(sim()));
}

#[test]
fn maps_of_every_kind_are_found_again() {
    let _one = ONE.lock();
    let backend: Arc<dyn Backend> = Arc::new(sim());
    pinned::maps_of_every_kind_are_found_again(&backend, Path::new("/sys/fs/bpf/skep_every_kind"));
}

#[test]
fn variables_are_found_again() {
    let _one = ONE.lock();
    let backend: Arc<dyn Backend> = Arc::new(sim());
    pinned::variables_are_found_again(&backend, Path::new("/sys/fs/bpf/skep_variables"));
}

#[test]
fn loads_at_once_share_maps() {
    let _one = ONE.lock();
    let backend: Arc<dyn Backend> = Arc::new(sim());
    pinned::loads_at_once_share_maps(&backend, Path::new("/sys/fs/bpf/skep_at_once"));
}

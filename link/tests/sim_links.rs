//! Links on a simulated kernel.

#![allow(missing_docs)]

mod conformance;

use std::path::Path;

use conformance::{Bench, Counter};
use skep_btf::{BtfBuilder, Linkage};
use skep_link::{Link, raw_tracepoint};
use skep_sim::{Features, SimKernel};
use skep_sys::Kernel;
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::AttachTarget;

/// A kernel whose BTF has a tracepoint and a function.
fn sim() -> SimKernel {
    let mut btf = BtfBuilder::new();
    let proto = btf.add_func_proto(skep_btf::TypeId(0)).unwrap();
    let pointer = btf.add_ptr(proto).unwrap();
    btf.add_typedef("btf_trace_sched_process_exec", pointer).unwrap();
    btf.add_func("bpf_fentry_test1", Linkage::STATIC, proto).unwrap();
    SimKernel::builder().btf(btf.finish().unwrap().bytes().clone()).build().unwrap()
}

fn run(case: &str) {
    let sim = sim();
    let kernel = Kernel::new(sim.clone());
    let dir = Path::new("/sys/fs/bpf/links");
    kernel.backend().create_pin_dir(dir).unwrap();
    let bench = Bench { kernel: &kernel, dir, live: false };
    let skipped = conformance::run(&bench, conformance::case(case));
    assert_eq!(skipped, <[String; 0]>::default());
    assert_eq!(sim.live().links, 0);
    assert_eq!(sim.pins(), [dir]);
}

#[test]
fn xdp() {
    run("xdp");
}

#[test]
fn raw_tracepoints() {
    run("raw_tracepoint");
}

#[test]
fn btf_tracepoints() {
    run("btf_tracepoint");
}

#[test]
fn fentry() {
    run("fentry");
}

#[test]
fn a_program_of_another_kernel_is_refused() {
    let (here, there) = (Kernel::new(sim()), Kernel::new(sim()));
    let load = |kernel| Counter::load(kernel, ProgType::XDP, AttachType::XDP, AttachTarget::None, 2);
    let link = skep_link::xdp::attach(&load(&here).prog, "lo").unwrap();
    let error = link.update(&load(&there).prog).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EXDEV));
    assert_eq!(error.to_string(), "cannot update xdp link: the handles belong to different kernels");
}

#[test]
fn a_kernel_without_links_attaches_all_the_same() {
    let kernel =
        Kernel::new(SimKernel::builder().without(Features::LINKS | Features::COOKIE).build().unwrap());
    let target = AttachTarget::None;
    let counter = Counter::load(&kernel, ProgType::RAW_TRACEPOINT, AttachType(0), target, 0);
    let link: Link = raw_tracepoint::attach(&counter.prog, "sched_switch").unwrap();
    let error = link.update(&counter.prog).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    drop(link);
    let cookie = raw_tracepoint::Options::new("sched_switch").cookie(1);
    let error = raw_tracepoint::attach(&counter.prog, cookie).unwrap_err();
    assert_eq!(error.hint(), Some("cookies of raw tracepoints need Linux 6.10"));
    let xdp = Counter::load(&kernel, ProgType::XDP, AttachType::XDP, target, 2);
    let error = skep_link::xdp::attach(&xdp.prog, "lo").unwrap_err();
    assert!(error.to_string().contains("older than Linux 5.9"), "{error}");
}

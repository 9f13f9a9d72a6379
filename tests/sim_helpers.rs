//! Helpers and kernel functions on a simulated kernel.

#![allow(missing_docs)]

mod helper_conformance;
mod helper_rows;
mod support;

use std::time::Duration;

use skep::btf::{BtfBuilder, IntEncoding, Linkage};
use skep::sim::SimKernel;
use skep::sys::Kernel;

type Wait = Box<dyn Fn(Duration)>;

/// A kernel whose types name the functions that are called.
fn kernel(test: &str) -> Option<(Kernel, Wait)> {
    // The object says of which types the functions are that it calls.
    let types_of = match test {
        "kept_objects" | "graphs" | "cpu_sets" => Some("objects"),
        "nested_objects" => Some("objects_nested"),
        "resilient_locks" => Some("locks"),
        "connections" | "translated_connections" | "connection_errors" => Some("conntrack"),
        "ciphers" => Some("crypto"),
        _ => None,
    };
    if let Some(name) = types_of {
        let path = format!("{}/testdata/run/{name}.o", env!("CARGO_MANIFEST_DIR"));
        let types = skep::Spec::open(std::path::Path::new(&path)).unwrap().btf.unwrap().bytes().to_vec();
        return Some(on(SimKernel::builder().btf(types).build().unwrap()));
    }
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = btf.add_func_proto(int).unwrap();
    for name in FUNCTIONS {
        btf.add_func(name, Linkage::STATIC, proto).unwrap();
    }
    let types = btf.finish().unwrap().bytes().to_vec();
    Some(on(SimKernel::builder().btf(types).build().unwrap()))
}

fn on(sim: SimKernel) -> (Kernel, Wait) {
    let clock = sim.clone();
    (Kernel::new(sim), Box::new(move |time| clock.advance(time)))
}

const FUNCTIONS: &[&str] = &[
    "bpf_iter_num_new",
    "bpf_iter_num_next",
    "bpf_iter_num_destroy",
    "bpf_iter_bits_new",
    "bpf_iter_bits_next",
    "bpf_iter_bits_destroy",
    "bpf_dynptr_adjust",
    "bpf_dynptr_is_null",
    "bpf_dynptr_is_rdonly",
    "bpf_dynptr_size",
    "bpf_dynptr_clone",
    "bpf_dynptr_slice",
    "bpf_dynptr_slice_rdwr",
    "bpf_dynptr_from_skb",
    "bpf_dynptr_from_xdp",
    "bpf_dynptr_copy",
    "bpf_dynptr_memset",
    "bpf_strcmp",
    "bpf_strcasecmp",
    "bpf_strchr",
    "bpf_strchrnul",
    "bpf_strnchr",
    "bpf_strrchr",
    "bpf_strlen",
    "bpf_strnlen",
    "bpf_strspn",
    "bpf_strcspn",
    "bpf_strstr",
    "bpf_strnstr",
    "bpf_stream_vprintk",
    "bpf_wq_init",
    "bpf_wq_set_callback_impl",
    "bpf_wq_start",
    "bpf_xdp_pull_data",
    "bpf_lookup_user_key",
    "bpf_lookup_system_key",
    "bpf_key_put",
];

#[test]
fn an_exception_ends_in_the_callback_of_its_program() {
    let mut btf = BtfBuilder::new();
    let cookie = btf.add_int("u64", 8, IntEncoding(0)).unwrap();
    let proto = btf.add_func_proto(skep::btf::TypeId(0)).unwrap();
    btf.add_param("cookie", cookie).unwrap();
    btf.add_func("bpf_throw", Linkage::STATIC, proto).unwrap();
    let types = btf.finish().unwrap().bytes().to_vec();
    let kernel = Kernel::new(SimKernel::builder().btf(types).build().unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/exceptions.o");
    let spec = skep::Spec::open(std::path::Path::new(path)).unwrap();
    let object = skep::Loader::new(&kernel).load(&spec).unwrap();
    let run = |program: &str| {
        let mut run = skep::sys::request::TestRun::default();
        run.data_in = &[0; 64];
        object.program(program).unwrap().test_run(&mut run).unwrap().retval
    };
    assert_eq!(run("throws_with_answer"), 42);
    assert_eq!(object.global::<u64>("seen").unwrap(), 21);
    // Without a callback the program returns the cookie.
    assert_eq!(run("throws_without_callback"), 9);
}

/// Linux leaves in objects what was in their memory, so a test can say what that is.
#[test]
fn objects_hold_what_the_kernel_is_told_to_leave_in_them() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/run/objects_nested.o");
    let spec = skep::Spec::open(path).unwrap();
    let types = spec.btf.as_ref().unwrap().bytes().to_vec();
    for (fill, left) in [(0, 0), (0xa5, 0xa5a5_a5a5_a5a5_a5a5u64)] {
        let sim = SimKernel::builder().btf(types.clone()).cpus(2).stack_fill(fill).build().unwrap();
        let object = skep::Loader::new(&Kernel::new(sim)).load(&spec).unwrap();
        let run = |program: &str| {
            let mut run = skep::sys::request::TestRun::default();
            run.data_in = &[0; 64];
            object.program(program).unwrap().test_run(&mut run).unwrap().retval
        };
        assert_eq!(run("each_cpu"), 0);
        assert_eq!(object.global::<[u64; 32]>("noted").unwrap()[7..9], [left; 2]);
        // Locks, lists and trees are set up all the same.
        assert_eq!([run("hold"), run("release"), run("walk")], [0; 3]);
        assert_eq!(object.global::<[u64; 32]>("noted").unwrap()[3..6], [1, 7, 2]);
    }
}

/// What was recorded on 6.12 otherwise than on 6.18.
#[test]
fn rows_of_an_older_kernel_hold() {
    let sim = SimKernel::builder().cpus(2).linux(6, 12).build().unwrap();
    let played = helper_rows::play(&Kernel::new(sim));
    let expected = [
        "(0,0,(void*)b,8,0): 33751039, and Linux 6.18 514",
        "((void*)b,4,(void*)b,8,0): 33751039, and Linux 6.18 514",
        "(0,0,(void*)z,8,0): 1765077165, and Linux 6.18 23010",
        "(0,0,(void*)z,8,0xffff): 1765142700, and Linux 6.18 23010",
        "((void*)z,8,0,0,0): 2529890130, and Linux 6.18 42525",
        "((void*)z,4,(void*)(z+4),4,7): 2022213775, and Linux 6.18 280",
    ];
    assert_eq!(played.differ, expected.map(|row| format!("xdp_side: bpf_csum_diff{row}")));
    assert_eq!((played.rows, played.skipped), (149, Vec::new()));
}

#[test]
fn recorded_rows_hold() {
    let played = helper_rows::play(&Kernel::new(SimKernel::builder().cpus(2).build().unwrap()));
    assert_eq!((played.differ, played.skipped), (Vec::<String>::new(), Vec::<String>::new()));
    assert_eq!(played.rows, 149);
}

fn run(name: &str, body: helper_conformance::Body) {
    if let Some((kernel, wait)) = kernel(name) {
        body(&helper_conformance::World { kernel: &kernel, wait: &*wait });
    }
}

helper_conformance::tests! { run }

//! What programs of each form do when the running kernel runs them.

#![allow(clippy::print_stdout)] // a skipped test says so

use std::path::Path;

use skep::sys::request::{MapCreate, TestRun};
use skep::{Error, Kernel, Loader, Object, Spec};

fn open(name: &str) -> Spec {
    Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).expect("it opens")
}

fn skip(test: &str, reason: &str) {
    println!("skip: {test}: {reason}");
}

/// The running kernel, if this process may use it.
fn kernel(test: &str) -> Option<Kernel> {
    let kernel = Kernel::linux();
    match kernel.map_create(&MapCreate::new(skep::sys::abi::MapType::ARRAY, 4, 4, 1)) {
        Ok(_) => Some(kernel),
        Err(errno) => {
            skip(test, &format!("this process may not create a map: {errno}"));
            assert!(std::env::var_os("SKEP_REQUIRE_KERNEL").is_none(), "{test} was skipped");
            None
        }
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the kernel has a function that programs can call.
fn has_kfunc(kernel: &Kernel, name: &str) -> bool {
    kernel.btf().is_ok_and(|btf| btf.find(name.as_bytes(), skep::btf::Kind::FUNC).is_some())
}

/// Runs a program on a packet and answers what it returns.
fn run(object: &Object, program: &str) -> u32 {
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    object.program(program).expect("it is there").test_run(&mut run).expect("it runs").retval
}

#[test]
fn an_exception_ends_in_the_callback_of_its_program() {
    let name = "an_exception_ends_in_the_callback_of_its_program";
    let Some(kernel) = kernel(name) else { return };
    if !has_kfunc(&kernel, "bpf_throw") {
        return skip(name, "this kernel has no exceptions (Linux 6.7)");
    }
    let spec = open("exceptions.o");
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    assert_eq!(run(&object, "throws_with_answer"), 42);
    assert_eq!(object.global::<u64>("seen").expect("it can be read"), 21);
    // Without a callback the program returns the cookie.
    assert_eq!(run(&object, "throws_without_callback"), 9);

    let broken = |edit: fn(&mut skep::spec::FunctionSpec)| {
        let mut spec = spec.clone();
        let callback = spec.functions.iter_mut().find(|function| function.name == "answer");
        edit(callback.expect("it is there"));
        chain(&Loader::new(&kernel).load(&spec).expect_err("the callback is none"))
    };
    let text = broken(|callback| callback.name = "other".into());
    assert!(text.contains("`answer` is no function in .text"), "{text}");
    let text = broken(|callback| callback.hidden = true);
    assert!(text.contains("must be global and not hidden"), "{text}");
}

//! What programs of each form do when the running kernel runs them.

mod support;

use skep::sys::abi::Errno;
use skep::sys::request::TestRun;
use skep::{Error, Kernel, Loader, Object};
use support::{chain, linux, open, skip};

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
    let Some(kernel) = linux(name) else { return };
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

#[test]
fn a_function_of_another_program_is_replaced() {
    let name = "a_function_of_another_program_is_replaced";
    let Some(kernel) = linux(name) else { return };
    let target = Loader::new(&kernel).load(&open("freplace_target.o")).expect("it loads");
    assert_eq!(run(&target, "target"), 11);

    let spec = open("freplace.o");
    let text = chain(&Loader::new(&kernel).load(&spec).expect_err("nothing says of which program"));
    assert!(text.contains("Loader::attach_target"), "{text}");
    let other = target.program("target").expect("it is there").loaded();
    let loader =
        Loader::new(&kernel).attach_target("decide_otherwise", other).expect("there are descriptors");
    match loader.load(&spec) {
        Ok(object) => {
            let link =
                object.program("decide_otherwise").expect("it is there").attach().expect("it attaches");
            assert_eq!(run(&target, "target"), 42);
            assert_eq!(object.global::<u64>("replaced").expect("it can be read"), 1);
            drop(link);
            assert_eq!(run(&target, "target"), 11);
        }
        Err(error) if error.errno() == Some(Errno::EPERM) => {
            skip(name, format!("this kernel replaces no function: {}", chain(&error)));
        }
        Err(error) => panic!("{}", chain(&error)),
    }

    let mut wrong = spec.clone();
    wrong.program_mut("decide_otherwise").expect("it is there").attach_to = Some("no_such".into());
    let text = chain(&loader.load(&wrong).expect_err("the other program has no such function"));
    assert!(text.contains("has no function `no_such`; it has: decide, target"), "{text}");
    let loader = Loader::new(&kernel).attach_target("no_such", other).expect("there are descriptors");
    assert!(matches!(loader.load(&spec), Err(Error::NoSuch { .. })));

    let mut traced = spec.clone();
    traced.load_only(traced.program_index("after_target").expect("it is there"));
    let loader = Loader::new(&kernel).attach_target("after_target", other).expect("there are descriptors");
    match loader.load(&traced) {
        Ok(object) => {
            let _link = object.program("after_target").expect("it is there").attach().expect("it attaches");
            run(&target, "target");
            assert_eq!(object.global::<u64>("left").expect("it can be read"), 1);
        }
        Err(error) if error.errno() == Some(Errno::EPERM) => {
            skip(name, format!("this kernel traces no program: {}", chain(&error)));
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}

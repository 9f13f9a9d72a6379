//! Externs on the running kernel: configuration, and functions of modules where it has them.

mod support;

use std::error::Error as _;

use skep::btf::Kind;
use skep::load::KernelTarget;
use skep::reloc::{ModuleTypes, Target};
use skep::sys::abi::Errno;
use skep::sys::request::TestRun;
use skep::{Loader, Object, Spec};
use support::{linux, open, skip};

fn run(object: &Object, program: &str) {
    let packet = [0u8; 64];
    let mut run = TestRun::default();
    run.data_in = &packet;
    object.program(program).expect("it is there").test_run(&mut run).expect("it runs");
}

/// Programs read what was set by hand, and for the rest what the kernel says.
#[test]
fn configuration_is_read_and_overridden() {
    let name = "configuration_is_read_and_overridden";
    let Some(kernel) = linux(name) else { return };
    if let Err(error) = KernelTarget::new(&kernel).kconfig() {
        return skip(name, error.to_string());
    }
    let mut spec = open("kconfig.o");
    let load = |spec: &Spec| {
        let object = Loader::new(&kernel).load(spec).expect("it loads");
        run(&object, "read_all");
        let global = |name| object.global::<u64>(name).expect("it is there");
        (global("version"), global("hz"), global("cpus"), global("has"))
    };
    let (version, hz, cpus, has) = load(&spec);
    assert_eq!(version, kernel.version_code().expect("Linux has a version").into());
    assert!(hz >= 24 && cpus >= 1 && has & 1 == 1, "{hz} {cpus} {has}");

    spec.set_kconfig_text("CONFIG_HZ=77\n").expect("a good line");
    spec.set_kconfig("LINUX_KERNEL_VERSION", 0x0001_0203).expect("it is a number");
    assert_eq!(load(&spec), (0x0001_0203, 77, cpus, has));
}

/// What is there has the address of the table of symbols, and what is not is 0.
#[test]
fn addresses_that_may_be_missing_never_fail_a_load() {
    let Some(kernel) = linux("addresses_that_may_be_missing_never_fail_a_load") else { return };
    let object = Loader::new(&kernel).load(&open("ksyms_weak.o")).expect("it loads");
    let program = object.program("addresses").expect("it is there");
    let arguments = [0u64; 2];
    let mut run = TestRun::default();
    run.ctx_in = zerocopy::IntoBytes::as_bytes(&arguments);
    if let Err(error) = program.test_run(&mut run) {
        return skip("addresses_that_may_be_missing_never_fail_a_load", error.to_string());
    }
    let symbols = KernelTarget::new(&kernel).symbols(&["vfs_read"]).expect("root sees them");
    assert_eq!(object.global::<u64>("address").expect("it is there"), symbols[0].unwrap_or(0));
    assert_eq!(object.global::<u64>("absent").expect("it is there"), 0);
}

/// A variable is found by its type, one without a type by the table of symbols, and what is missing is null.
#[test]
fn variables_of_the_kernel_are_read() {
    let name = "variables_of_the_kernel_are_read";
    let Some(kernel) = linux(name) else { return };
    let target = KernelTarget::new(&kernel);
    if target.btf().ok().and_then(|btf| btf.find(b"runqueues", Kind::VAR)).is_none() {
        return skip(name, "this kernel's types have no variable `runqueues`");
    }
    let symbols = match target.symbols(&["runqueues", "vfs_read"]) {
        Ok(symbols) => symbols,
        Err(error) => return skip(name, error.to_string()),
    };
    if symbols[0].is_none() {
        return skip(name, "this kernel's table of symbols has no variables (CONFIG_KALLSYMS_ALL)");
    }
    let object = Loader::new(&kernel).load(&open("ksyms.o")).expect("it loads");
    let arguments = [0u64; 2];
    for program in ["typed", "typeless"] {
        let mut run = TestRun::default();
        run.ctx_in = zerocopy::IntoBytes::as_bytes(&arguments);
        if let Err(error) = object.program(program).expect("it is there").test_run(&mut run) {
            return skip(name, error.to_string());
        }
    }
    let global = |name| object.global::<u64>(name).expect("it is there");
    assert_eq!(Some(global("address")), symbols[1]);
    assert_eq!((global("absent_address"), global("absent_typed")), (0, 2));
    assert!(global("running") < 1 << 20, "{} threads are ready to run", global("running"));
}

/// Functions of two modules and of the kernel are called from one program.
#[test]
fn functions_of_modules_are_called() {
    let name = "functions_of_modules_are_called";
    let Some(kernel) = linux(name) else { return };
    let target = KernelTarget::new(&kernel);
    let loaded: Vec<&str> = match target.modules() {
        Ok(modules) => modules.iter().map(|module| module.name.as_str()).collect(),
        Err(error) => return skip(name, error.to_string()),
    };
    if let Some(lacking) = ["nf_conntrack", "fou"].iter().find(|module| !loaded.contains(module)) {
        return skip(name, format!("this kernel has no module {lacking} with types"));
    }
    let spec = open("kfunc_modules.o");
    let plan = match spec.relocate(&target) {
        Ok(plan) => plan,
        // Older modules have no such functions.
        Err(error) => return skip(name, error.to_string()),
    };
    assert_eq!(plan.modules, ["nf_conntrack", "fou"]);
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    run(&object, "two_modules");
    let global = |name| object.global::<u64>(name).expect("it is there");
    assert_eq!((global("context"), global("none"), global("found")), (1, 2, 0));
}

/// A function of a module is traced, whether the module is named or not; names of modules are compared as a whole.
#[test]
fn functions_of_modules_are_traced() {
    let name = "functions_of_modules_are_traced";
    let Some(kernel) = linux(name) else { return };
    let target = KernelTarget::new(&kernel);
    let mut spec = open("fentry_module.o");
    let modules = match target.modules() {
        Ok(modules) => modules,
        Err(error) => return skip(name, error.to_string()),
    };
    let traced = |module: &ModuleTypes| {
        module.name == "nf_conntrack" && module.btf.find(b"nf_conntrack_find_get", Kind::FUNC).is_some()
    };
    if !modules.iter().any(traced) {
        return skip(name, "this kernel has no module nf_conntrack with types");
    }
    let object = match Loader::new(&kernel).load(&spec) {
        Ok(object) => object,
        Err(error) if error.errno() == Some(Errno::EPERM) => {
            return skip(name, format!("this kernel traces no function: {error}"));
        }
        Err(error) => panic!("{error}: {:?}", error.source()),
    };
    let links = ["on_named", "on_found"]
        .map(|program| object.program(program).expect("it is there").attach().expect("it attaches"));
    if let Ok(callers) = Loader::new(&kernel).load(&open("kfunc_modules.o")) {
        run(&callers, "two_modules");
        let seen = ["named", "found"].map(|name| object.global::<u64>(name).expect("it is there"));
        assert!(seen[0] > 0 && seen[0] == seen[1], "{seen:?}");
    }
    drop(links);

    for (program, reason) in [
        ("on_other", "nf_conntrack_find_get"),
        ("on_prefix", "module `nf_conn` is not loaded"),
        ("on_kernel", "nf_conntrack_find_get"),
    ] {
        spec.load_only(spec.program_index(program).expect("it is there"));
        let error = Loader::new(&kernel).load(&spec).expect_err(program);
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains(reason), "{program}: {error}: {cause}");
    }
}

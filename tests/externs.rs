//! Kernel functions, variables and addresses, on simulated kernels with modules.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use skep::asm::pseudo;
use skep::btf::{Btf, BtfBuilder, IntEncoding, Linkage, TypeId};
use skep::reloc::{BtfTarget, PlaceholderValue};
use skep::sim::SimKernel;
use skep::spec::ExternKind;
use skep::sys::wrap::{CallLog, Calls};
use skep::{ErrorKind, Kernel, Loader, Spec};

fn open(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    Spec::open(path).expect("it is an object")
}

fn vmlinux() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/btf/6.12.btf");
    std::fs::read(path).expect("the fixture is in the repository")
}

/// A function of a module: its name, and which of its parameters are numbers; the others are pointers to structures.
type Function<'n> = (&'n str, &'n [bool]);

/// The types of a module over those of the kernel. `filler` moves the ids of its functions.
fn module(kernel: &[u8], filler: usize, functions: &[Function<'_>]) -> Vec<u8> {
    let base = Btf::parse(kernel.to_vec()).expect("the fixture is BTF");
    let mut module = BtfBuilder::split(&base);
    let int = module.add_int("int", 4, IntEncoding::SIGNED).expect("a good type");
    for n in 0..filler {
        module.add_struct(format!("filler_{n}"), 4).expect("a good type");
    }
    let pointer = module.add_ptr(TypeId(0)).expect("a good type");
    let context = module.add_struct("of_a_module", 0).expect("a good type");
    let context = module.add_ptr(context).expect("a good type");
    for (name, parameters) in functions {
        let returns = match *name {
            "bpf_skb_ct_lookup" => context,
            "bpf_ct_release" => TypeId(0),
            "bpf_cast_to_kern_ctx" => pointer,
            _ => int,
        };
        let proto = module.add_func_proto(returns).expect("a good type");
        for number in *parameters {
            let ty = if *number { int } else { context };
            module.add_param("parameter", ty).expect("a good type");
        }
        module.add_func(*name, Linkage::STATIC, proto).expect("a good type");
    }
    module.encode(base.endian(), false)
}

const CONNTRACK: [Function<'_>; 2] =
    [("bpf_skb_ct_lookup", &[false, false, true, false, true]), ("bpf_ct_release", &[false])];
const FOU: [Function<'_>; 1] = [("bpf_skb_set_fou_encap", &[false, false, true])];

/// A kernel with the modules that `kfunc_modules.o` needs, and one that it does not.
fn kernel() -> (Kernel, Calls) {
    let types = vmlinux();
    let sim = SimKernel::builder()
        .module_btf("unrelated", module(&types, 9, &[("unrelated", &[])]))
        .module_btf("fou", module(&types, 0, &FOU))
        .module_btf("nf_conntrack", module(&types, 5, &CONNTRACK))
        .btf(types)
        .build()
        .expect("good types");
    let (log, calls) = CallLog::around(Arc::new(sim));
    (Kernel::new(log), calls)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[test]
fn functions_of_modules_are_numbered_as_libbpf_numbers_them() {
    let (kernel, calls) = kernel();
    let mut spec = open("kfunc_modules.o");
    // The cut types of the kernel have none of its own functions that the object calls.
    spec.externs
        .iter_mut()
        .filter(|found| found.name == "bpf_cast_to_kern_ctx")
        .for_each(|found| found.weak = true);
    let plan = spec.relocate(&Loader::new(&kernel).target()).expect("the modules have all");
    // By the order of the externs, which is that of their names: bpf_ct_release comes first.
    assert_eq!(plan.modules, ["nf_conntrack", "fou"]);
    let called = |program: &str| {
        let placeholders = plan.program(program).expect("it is there").placeholders.iter();
        let modules = placeholders.filter_map(|placeholder| match &placeholder.value {
            PlaceholderValue::ModuleCall(module) => Some(module.as_str()),
            _ => None,
        });
        modules.collect::<Vec<_>>()
    };
    assert_eq!(called("two_modules"), ["fou", "nf_conntrack", "nf_conntrack"]);
    assert_eq!(called("one_module"), ["fou"]);
    assert!(plan.to_string().contains("module 1 nf_conntrack\nmodule 2 fou\n"), "{plan}");

    calls.take();
    // The simulated kernel looks each call up in the module that its number stands for.
    let two = spec.program_index("two_modules").expect("it is there");
    let mut only = spec.clone();
    only.load_only(two);
    let error = Loader::new(&kernel).load(&only).expect_err("one function is missing and called");
    assert!(chain(&error).contains("bpf_cast_to_kern_ctx"), "{}", chain(&error));
    let mut only = spec;
    only.load_only(only.program_index("one_module").expect("it is there"));
    calls.take();
    Loader::new(&kernel).load(&only).expect("it loads");
    let loads: Vec<_> = calls.take().into_iter().filter(|call| call.command == "prog_load").collect();
    assert!(loads.iter().any(|call| call.arguments.contains("fd_array=3")), "{loads:?}");
}

#[test]
fn a_function_of_the_kernel_needs_no_table() {
    let (kernel, calls) = kernel();
    let mut spec = open("kfunc.o");
    spec.load_only(spec.program_index("acquire").expect("it is there"));
    Loader::new(&kernel).load(&spec).expect("it loads");
    let loads: Vec<_> = calls.take().into_iter().filter(|call| call.command == "prog_load").collect();
    assert!(!loads.is_empty() && loads.iter().all(|call| !call.arguments.contains("fd_array")), "{loads:?}");
}

/// Types of modules are read only when the kernel's own lack something that the object asks for.
#[test]
fn modules_are_opened_only_when_they_are_needed() {
    for (object, programs, opened) in [
        ("xdp_count.o", &["xdp_count"][..], false),
        ("core_fields.o", &[], false),
        ("tp_btf_exec.o", &[], false),
        ("iter_task.o", &[], false),
        ("kfunc_modules.o", &["one_module"], true),
        // An optional function that is nowhere is looked for everywhere.
        ("kfunc.o", &["acquire"], true),
    ] {
        let (kernel, calls) = kernel();
        let mut spec = open(object);
        for found in spec.externs.iter_mut().filter(|found| found.name == "bpf_cast_to_kern_ctx") {
            found.weak = true;
        }
        for program in spec
            .programs
            .iter_mut()
            .filter(|program| !programs.is_empty() && !programs.contains(&program.name.as_str()))
        {
            program.autoload = false;
        }
        let result = Loader::new(&kernel).load(&spec);
        assert!(result.is_ok() || programs.is_empty(), "{object}: {:?}", result.err());
        let opens = calls.count("open_by_id");
        assert_eq!(opens > 0, opened, "{object}: {opens} BTF objects opened");
        assert_eq!(opens, if opened { 4 } else { 0 }, "{object}: the kernel's own and three modules");
    }
}

#[test]
fn a_function_with_another_prototype_is_refused_by_name() {
    let types = vmlinux();
    let sim = SimKernel::builder()
        .module_btf("fou", module(&types, 0, &[("bpf_skb_set_fou_encap", &[false, false, true, true])]))
        .module_btf("nf_conntrack", module(&types, 0, &CONNTRACK))
        .btf(types)
        .build()
        .expect("good types");
    let kernel = Kernel::new(sim);
    let mut spec = open("kfunc_modules.o");
    spec.externs
        .iter_mut()
        .filter(|found| found.name == "bpf_cast_to_kern_ctx")
        .for_each(|found| found.weak = true);
    let error = Loader::new(&kernel).load(&spec).expect_err("it takes four");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = chain(&error);
    assert!(text.contains("`bpf_skb_set_fou_encap`") && text.contains("another type"), "{text}");

    // An optional one counts as missing, and its module is not in the table.
    spec.externs.iter_mut().for_each(|found| found.weak = true);
    let plan = spec.relocate(&Loader::new(&kernel).target()).expect("nothing is needed");
    assert_eq!(plan.modules, ["nf_conntrack"]);
    let missing: Vec<_> = plan.programs[1].missing.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["bpf_skb_set_fou_encap"]);
}

/// A typed variable of a module is loaded by its id and the module.
#[test]
fn variables_of_modules_are_found() {
    let types = vmlinux();
    let base = Btf::parse(types.clone()).expect("the fixture is BTF");
    let mut module = BtfBuilder::split(&base);
    let rq = module.add_struct("rq", 4).expect("a good type");
    let var = module.add_var("skep_no_such_typed", Linkage::GLOBAL, rq).expect("a good type");
    let sim = SimKernel::builder()
        .module_btf("skep_mod", module.encode(base.endian(), false))
        .btf(types)
        .symbols("ffffffff81000000 T vfs_read\n")
        .build()
        .expect("good types");
    let kernel = Kernel::new(sim);
    let mut spec = open("ksyms.o");
    spec.externs.iter_mut().for_each(|found| found.weak = true);
    let plan = spec.relocate(&Loader::new(&kernel).target()).expect("nothing is needed");
    assert!(plan.modules.is_empty(), "the table is for functions");
    let program = plan.program("typeless").expect("it is there");
    let places: Vec<_> = program
        .placeholders
        .iter()
        .filter(|placeholder| placeholder.value == PlaceholderValue::ModuleBtf("skep_mod".into()))
        .collect();
    let [place] = places[..] else { panic!("{:?}", program.placeholders) };
    let insn = program.insns[place.insn as usize];
    assert_eq!((insn.src_raw(), insn.imm), (pseudo::BTF_ID, var.0.cast_signed()));
    Loader::new(&kernel).load(&spec).expect("it loads");
}

#[test]
fn addresses_are_what_the_table_says() {
    let load = |symbols: &'static str| {
        let kernel =
            Kernel::new(SimKernel::builder().btf(vmlinux()).symbols(symbols).build().expect("good types"));
        let spec = open("ksyms_weak.o");
        let plan = spec.relocate(&Loader::new(&kernel).target()).map_err(|error| error.to_string())?;
        let program = &plan.programs[0];
        let mut found = BTreeMap::new();
        for reference in &spec.functions[spec.programs[0].function.0].references {
            let skep::spec::ReferenceTarget::Extern(index) = reference.target else { continue };
            let at = reference.insn as usize;
            let address = skep::asm::Insn::imm64(&program.insns[at], &program.insns[at + 1]);
            found.insert(spec.externs[index.0].name.clone(), address);
        }
        Ok::<_, String>((found["vfs_read"], found["skep_no_such_symbol"]))
    };
    assert_eq!(
        load("ffffffff81000010 T vfs_read\nffffffff81000010 T vfs_read\n"),
        Ok((0xffff_ffff_8100_0010, 0))
    );
    assert_eq!(load("ffffffff81000010 T _stext\n"), Ok((0, 0)));
    // Hidden addresses are missing ones for who can do without.
    assert_eq!(load("0 T vfs_read\n0 T _stext\n"), Ok((0, 0)));
    let ambiguous = load("ffffffff81000010 T vfs_read\nffffffff81000020 t vfs_read\n");
    assert!(ambiguous.is_err_and(|error| error.contains("two addresses")));

    // An error for who cannot do without what is not there,
    let kernel = Kernel::new(
        SimKernel::builder()
            .btf(vmlinux())
            .symbols("ffffffff81000000 T _stext\n")
            .build()
            .expect("good types"),
    );
    let mut spec = open("ksyms_weak.o");
    spec.externs.iter_mut().for_each(|found| found.weak = found.name != "vfs_read");
    let error = Loader::new(&kernel).load(&spec).expect_err("it is not there");
    assert!(chain(&error).contains("`vfs_read`"), "{}", chain(&error));

    // and for what may be there and is hidden.
    let kernel = Kernel::new(
        SimKernel::builder().btf(vmlinux()).symbols("0 T vfs_read\n").build().expect("good types"),
    );
    let mut spec = open("ksyms.o");
    let strong = |name: &str| name == "vfs_read";
    spec.externs.iter_mut().for_each(|found| found.weak = !strong(&found.name));
    let error = Loader::new(&kernel).load(&spec).expect_err("its address is hidden");
    assert!(chain(&error).contains("kptr_restrict"), "{}", chain(&error));
}

/// Programs attach to functions of modules as well, by the id that they have there; of two functions of one name to that of the
/// kernel, or of the module that is said.
#[test]
fn programs_attach_to_functions_of_modules() {
    let (kernel, _) = kernel();
    let mut spec = open("fentry.o");
    spec.load_only(spec.program_index("on_missing").expect("it is there"));
    let bound = |to: &str| {
        let mut spec = spec.clone();
        spec.programs.iter_mut().for_each(|program| program.attach_to = Some(to.into()));
        let plan = spec.relocate(&Loader::new(&kernel).target()).map_err(|error| chain(&error))?;
        let target = plan.programs[0].attach_target.clone().expect("it is bound");
        Loader::new(&kernel).load(&spec).map_err(|error| chain(&error))?;
        Ok::<_, String>((target.type_id, target.module))
    };
    let id = |types: Vec<u8>, name: &str| {
        let base = Btf::parse(vmlinux()).expect("the fixture is BTF");
        let module = Btf::parse_split(types, &base).expect("it is BTF");
        module.find_own(name.as_bytes(), skep::btf::Kind::FUNC).expect("it is there")
    };
    let types = vmlinux();
    let encap = id(module(&types, 0, &FOU), FOU[0].0);
    let lookup = id(module(&types, 5, &CONNTRACK), CONNTRACK[0].0);
    assert_eq!(bound(FOU[0].0), Ok((encap, Some("fou".into()))));
    assert_eq!(bound(CONNTRACK[0].0), Ok((lookup, Some("nf_conntrack".into()))));
    assert_eq!(bound(&format!("fou:{}", FOU[0].0)), Ok((encap, Some("fou".into()))));
    let (of_kernel, module) = bound("vfs_read").expect("every kernel has it");
    assert_eq!((bound("vmlinux:vfs_read"), module.as_deref()), (Ok((of_kernel, None)), None));
    for (to, part) in [
        ("skep_no_such_function", "this kernel has no `skep_no_such_function`"),
        ("vmlinux:bpf_ct_release", "no `bpf_ct_release`"),
        ("fou:bpf_ct_release", "module `fou` is not loaded, or its types have no"),
        ("nowhere:vfs_read", "module `nowhere` is not loaded"),
        ("", "names nothing to attach to"),
    ] {
        let error = bound(to).expect_err(to);
        assert!(error.contains(part) && error.contains("`on_missing`"), "{to}: {error}");
    }
}

/// What is not known of a target is not guessed.
#[test]
fn a_kernel_of_types_alone_has_no_addresses() {
    let target = BtfTarget::new(Btf::parse(vmlinux()).expect("the fixture is BTF"));
    let spec = open("ksyms_weak.o");
    assert!(spec.externs.iter().all(|found| found.kind == ExternKind::Variable { typed: false }));
    let plan = spec.relocate(&target).expect("what is not known fails nothing");
    assert_eq!(plan.unknown.len(), spec.externs.len());
}

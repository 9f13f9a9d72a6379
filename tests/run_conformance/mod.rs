//! What programs of objects answer when they run, which shows whether they were put together and relocated as their source
//! says. The bodies run on a simulated kernel always, and on the running one in `kernel_runs.rs`.

#![allow(clippy::print_stdout)] // a skipped part says so

use std::path::Path;

use skep::btf::Kind;
use skep::map::{Array, HashMap};
use skep::program::RunInput;
use skep::spec::ProgramIndex;
use skep::sys::Feature;
use skep::sys::abi::{Errno, ProgType, UpdateFlags};
use skep::{ErrorKind, Kernel, Loader, Object, Spec};

use crate::support::chain;

/// A body: what it does on a kernel.
pub(crate) type Body = fn(&Kernel);

crate::support::bodies! { ($) run_conformance;
    functions: functions,
    callbacks: callbacks,
    linked_objects: linked_objects,
    slots: slots,
    variables: variables,
    constants: constants,
    what_may_be_missing: what_may_be_missing,
    what_is_missing_and_called: what_is_missing_and_called,
}

fn open(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    Spec::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load(kernel: &Kernel, spec: &Spec) -> Object {
    match Loader::new(kernel).load(spec) {
        Ok(object) => object,
        Err(error) => panic!("{}\n{}", chain(&error), error.verifier_log().unwrap_or_default()),
    }
}

/// What a program answers that is given a packet of which it sees so many bytes.
fn answer(object: &Object, name: &str, len: usize) -> u32 {
    let program = object.program(name).expect("it is there");
    // Filters of sockets see what is behind the header of Ethernet.
    let header = if program.prog_type() == ProgType::SOCKET_FILTER { 14 } else { 0 };
    let packet = vec![0; len + header];
    program.run(&RunInput::packet(&packet)).unwrap_or_else(|error| panic!("{name}: {}", chain(&error))).retval
}

// The functions of `subprogs.c`, in Rust.
fn leaf(v: u32) -> u32 {
    v * 3 + 1
}

fn middle(v: u32) -> u32 {
    leaf(v + 1) ^ leaf(v)
}

fn deep(v: u32) -> u32 {
    middle(v) + leaf(v)
}

/// Functions are called whatever section they are in, from several programs and from one another.
fn functions(kernel: &Kernel) {
    let object = load(kernel, &open("subprogs.o"));
    let calls = || object.global::<u64>("calls").expect("it is there");
    for len in [64, 65, 66, 67] {
        let before = calls();
        assert_eq!(answer(&object, "first", len as usize), deep(len) & 1, "{len}");
        assert_eq!(calls(), before);
        assert_eq!(answer(&object, "second", len as usize), (len + middle(0)) & 1, "{len}");
        assert_eq!(calls(), before + 1);
        assert_eq!(answer(&object, "third", len as usize), ((len | 1) + leaf(2)) & 3, "{len}");
        assert_eq!(calls(), before + 3);
        assert_eq!(answer(&object, "no_calls", len as usize), 0);
        assert_eq!(answer(&object, "other_section", len as usize), deep(len) + len, "{len}");
        assert_eq!(calls(), before + 4);
    }
    // A program goes on without the object that it is of.
    let program = object.program("first").expect("it is there").try_clone().expect("it can be opened again");
    drop(object);
    let output = program.run(&RunInput::packet(&[0; 65])).expect("it runs");
    assert_eq!(output.retval, deep(65) & 1);
}

/// Addresses of functions are those of the callbacks that helpers call.
fn callbacks(kernel: &Kernel) {
    const FOR_EACH_MAP_ELEM: u32 = 164;
    const LOOP: u32 = 181;
    let spec = open("callbacks.o");
    for (program, helper, len, expected) in [
        // Numbers below 10, and how many.
        ("over_loop", LOOP, 64, 45 + 10),
        // Keys up to the one that ends it.
        ("over_map", FOR_EACH_MAP_ELEM, 64, 21),
        ("through_subprog", LOOP, 50, 2),
        ("through_subprog", LOOP, 53, 20),
    ] {
        if !kernel.has(Feature::Helper(ProgType::SOCKET_FILTER, helper)).is_supported() {
            println!("skip: callbacks: {program}: this kernel has no such helper");
            continue;
        }
        let mut only = spec.clone();
        only.load_only(only.program_index(program).expect("it is there"));
        assert_eq!(answer(&load(kernel, &only), program, len), expected, "{program}");
    }
}

/// Of two objects that were linked into one, functions, variables and maps are shared, and what is private is not.
fn linked_objects(kernel: &Kernel) {
    let object = load(kernel, &open("linked.o"));
    let shared: HashMap<u32, u64> = object.map("shared").expect("it is there").typed().expect("its types");
    shared.insert(&1, &1000, UpdateFlags::empty()).expect("it can be written");
    // Both have a variable of their own, which was 11 and 12 and is counted up first; `chosen` adds 2.
    assert_eq!(answer(&object, "first_program", 50), 1000 + (50 + 21) + (3 + 2) + 12);
    assert_eq!(answer(&object, "second_program", 50), (50 ^ 13) + (22 + 2));
    assert_eq!(answer(&object, "first_program", 50), 1000 + (50 + 21) + (3 + 2) + 13);
    assert_eq!(answer(&object, "third_program", 64), (64 + 1) & 1);
    assert_eq!(object.global::<u64>("shared_calls").expect("it is there"), 7);
    assert_eq!(object.maps().filter(|(name, _)| *name == "shared").count(), 1);
}

/// Programs and maps that definitions put into others are there when programs run, and nothing is in the other slots.
fn slots(kernel: &Kernel) {
    let object = load(kernel, &open("map_in_map.o"));
    let count = |map| {
        let map: Array<u64> = object.map(map).expect("it is there").typed().expect("its types");
        map.get(0).expect("it can be read").expect("it has one element")
    };
    // Each length chooses a slot of the array of programs, and its last bits one of the array of maps.
    let seen: Vec<_> = [1, 2, 4, 6, 7]
        .into_iter()
        .map(|len| (answer(&object, "enter", len), count("first_inner"), count("second_inner")))
        .collect();
    assert_eq!(seen, [(11, 0, 0), (99, 0, 1), (44, 1, 1), (99, 1, 2), (99, 1, 2)]);
    let lookup = |map: &str, slot: u32| {
        object.map(map).expect("it is there").lookup(&slot.to_ne_bytes()).expect("it can be read").is_some()
    };
    assert_eq!([0, 1, 2, 3].map(|slot| lookup("outer_array", slot)), [true, false, true, false]);
    assert_eq!([0, 1, 2, 3, 4].map(|slot| lookup("jumps", slot)), [false, true, false, false, true]);
}

/// Variables have the values that the source gives them, or that were set before the load, wherever they are; and both
/// sides see what the other one writes.
fn variables(kernel: &Kernel) {
    let mut spec = open("run/variables.o");
    let object = load(kernel, &spec);
    assert_eq!(answer(&object, "first_values", 50), 0);

    // A copy is another object.
    let mut copy = spec.clone();
    copy.set_global("number", &70u32).expect("it has four bytes");
    copy.set_global("constant", &100u32).expect("it has four bytes");
    assert_eq!(answer(&load(kernel, &copy), "change", 50), 170);
    assert_eq!(answer(&object, "change", 50), 17);

    let tight = |rest: u16| [&[4][..], &5u64.to_ne_bytes(), &rest.to_ne_bytes()].concat();
    let padded = |rest: u16| [1u64.to_le(), 2, u64::from(rest).to_le()].map(u64::to_ne_bytes).concat();
    let bytes = |name| object.global_bytes(name).expect("it is there");
    assert_eq!(object.global::<u64>("counted").expect("it is there"), 3);
    assert_eq!((bytes("tight"), bytes("padded")), (tight(7), padded(4)));
    object.set_global("number", &20u32).expect("it can be written");
    object.set_global("counted", &40u64).expect("it can be written");
    assert_eq!(answer(&object, "change", 50), 30);
    assert_eq!((bytes("tight"), bytes("padded")), (tight(8), padded(5)));
    let large = object.global::<[u8; 8192]>("large").expect("it has several pages");
    assert_eq!((large[8191], large.iter().map(|&byte| usize::from(byte)).sum::<usize>()), (2, 2));

    // In memory that both share.
    if kernel.has(Feature::ArrayMmap).is_unsupported() {
        return println!("skip: variables: this kernel maps no arrays (Linux 5.5)");
    }
    let counted = object.global_view::<u64>("counted").expect("it can be mapped");
    let large = object.global_view::<[u8; 8192]>("large").expect("it can be mapped");
    counted.store(100).expect("it is aligned");
    answer(&object, "change", 50);
    assert_eq!((counted.load().expect("it is aligned"), large.get()[8191]), (103, 3));

    // What was set for one load is set for the next.
    spec.set_global("custom", &90u32).expect("it has four bytes");
    assert_eq!(answer(&load(kernel, &spec), "first_values", 50), 1 << 7);
}

/// Constants without names are found, and the verifier knows those of a frozen map.
fn constants(kernel: &Kernel) {
    let mut spec = open("run/variables.o");
    let object = load(kernel, &spec);
    for (nth, (word, letter)) in [3, 1, 4, 1, 5, 9, 2, 6].into_iter().zip(*b"straw an").enumerate() {
        assert_eq!(answer(&object, "unnamed", 48 + nth), word);
        assert_eq!(answer(&object, "literal", 48 + nth), u32::from(letter));
    }
    let picked: Vec<_> = (48..56).map(|len| answer(&object, "picked", len)).collect();
    assert_eq!(picked, [31, 17, 5, 90, 22, 63, 4, 4]);

    assert_eq!(answer(&object, "guarded", 50), 3);
    spec.set_global("enabled", &1u8).expect("it has one byte");
    let error = Loader::new(kernel).load(&spec).expect_err("no kernel has the helper");
    assert_eq!(error.kind(), ErrorKind::Verifier);
    assert!(chain(&error).contains("program `guarded`"), "{}", chain(&error));
    assert!(error.verifier_log().is_some_and(|log| log.contains("unknown#9999")));
}

/// What a kernel lacks that programs ask for before they use it is null, and its use is never come to.
fn what_may_be_missing(kernel: &Kernel) {
    let spec = open("run/optional.o");
    let knows = |name: &str, kind| kernel.btf().is_ok_and(|btf| btf.find(name.as_bytes(), kind).is_some());
    let only = |program| {
        let mut only = spec.clone();
        only.load_only(only.program_index(program).expect("it is there"));
        only
    };
    let there = u32::from(knows("bpf_rcu_read_lock", Kind::FUNC));
    assert_eq!(answer(&load(kernel, &only("functions")), "functions", 64), 1 | there << 1);

    let skip = |reason: &str| println!("skip: what_may_be_missing: variables: {reason}");
    let object = match Loader::new(kernel).load(&only("variables")) {
        Ok(object) => object,
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            return skip("this kernel has types of variables, and not where they are (CONFIG_KALLSYMS_ALL)");
        }
        Err(error) => panic!("{}", chain(&error)),
    };
    match object.program("variables").expect("it is there").run(&RunInput::args(&[0; 2])) {
        Ok(_) => {}
        Err(error) => return skip(&chain(&error)),
    }
    let there = u64::from(knows("runqueues", Kind::VAR));
    assert_eq!(object.global::<u64>("seen").expect("it is there"), 1 | there << 1);
    let place = object.global::<u64>("place").expect("it is there");
    assert_eq!(place != 0, there != 0, "{place:#x}");
}

/// What is called without asking ends a load, and is named.
fn what_is_missing_and_called(kernel: &Kernel) {
    let mut spec = open("kfunc_weak_reached.o");
    spec.load_only(ProgramIndex(0));
    let error = Loader::new(kernel).load(&spec).expect_err("no kernel has the function");
    assert_eq!(error.kind(), ErrorKind::Verifier);
    let text = chain(&error);
    assert!(text.contains("`skep_no_such_kfunc`") && !text.contains("unknown#"), "{text}");

    let error = Loader::new(kernel).load(&open("kfunc_missing.o")).expect_err("no kernel has the function");
    assert!(chain(&error).contains("`skep_no_such_kfunc`"), "{}", chain(&error));

    if kernel.btf().is_err() {
        return println!("skip: what_is_missing_and_called: this kernel has no types");
    }
    let spec = open("core_errors.o");
    for (program, parts) in [
        ("missing_field", ["no field `skep_missing`", "core_errors.c:12"]),
        ("missing_struct", ["no struct skep_missing_struct", "core_errors.c:15"]),
        ("wrong_kind", ["`pid`", "core_errors.c:18"]),
        ("missing_value", ["no enum skep_missing_enum", "core_errors.c:21"]),
        // Where it is, not where it is called.
        ("through_subprog", ["no field `skep_missing`", "in_subprog"]),
    ] {
        let mut only = spec.clone();
        only.load_only(only.program_index(program).expect("it is there"));
        let text = chain(&Loader::new(kernel).load(&only).expect_err("no kernel has it"));
        assert!(
            parts.iter().all(|part| text.contains(part)) && !text.contains("unknown#"),
            "{program}: {text}"
        );
    }
}

//! Loads on simulated kernels that lack something: what is done instead, what is said of it, and what is left.

#![allow(clippy::print_stdout)] // a skipped part says so

mod load_conformance;

use std::path::Path;
use std::sync::Arc;

use skep::asm::Endian;
use skep::btf::{Btf, BtfBuilder};
use skep::load::{LoadError, NoteKind};
use skep::program::RunInput;
use skep::sim::{AttachPoint, Features, SimKernel};
use skep::sys::Feature;
use skep::sys::abi::{AttachType, Errno, LinkType, MapType};
use skep::sys::wrap::{CallLog, FaultInjection};
use skep::{Error, ErrorKind, Kernel, Loader, Object, Spec};

use load_conformance::open;

/// The helpers that read one kind of memory.
const HELPERS: [i32; 4] = [112, 113, 114, 115];

fn without(features: Features) -> SimKernel {
    SimKernel::builder().without(features).build().expect("no BTF is given")
}

fn load(sim: &SimKernel, spec: &Spec) -> Result<Object, Error> {
    Loader::new(&Kernel::new(sim.clone())).load(spec)
}

/// What was noted, but for the section that no kernel has anything to do with.
fn notes(object: &Object) -> Vec<String> {
    let notes = object.report().notes.iter().map(ToString::to_string);
    notes.filter(|note| !note.contains("?.data.optional")).collect()
}

fn text(error: &Error) -> String {
    format!("{error}: {}", std::error::Error::source(error).expect("it has a cause"))
}

/// Asks for each of these words in a note of its own, and for no other note.
fn assert_notes(object: &Object, expected: &[&str], what: &str) {
    let notes = notes(object);
    assert_eq!(notes.len(), expected.len(), "{what}: {notes:#?}");
    for (note, words) in notes.iter().zip(expected) {
        assert!(note.contains(words), "{what}: {note:?} does not say {words:?}");
    }
}

const TYPES: &str = "adapted .BTF: uploaded without kinds of types that this kernel does not know";
const RECORDS: &str = "adapted kinds: loaded without function and line records";

#[test]
fn a_kernel_that_knows_all_is_asked_for_what_the_object_says() {
    let sim = SimKernel::new();
    let object = load(&sim, &open("kinds.o")).expect("it loads");
    assert_notes(&object, &[], "all features");
}

#[test]
fn types_that_a_kernel_does_not_know_are_replaced() {
    for (missing, what) in [
        (Features::BTF_DATASEC, "data sections"),
        (Features::BTF_QMARK_DATASEC, "names with question marks"),
        (Features::BTF_FUNC_GLOBAL, "global functions"),
        (Features::BTF_FLOAT, "floats"),
        (Features::BTF_DECL_TAG, "declaration tags"),
        (Features::BTF_TYPE_TAG, "type tags"),
        (Features::BTF_ENUM64, "large and signed enumerations"),
    ] {
        let sim = without(missing);
        let object = load(&sim, &open("kinds.o")).unwrap_or_else(|error| panic!("{what}: {}", text(&error)));
        // What stands for a data section is no type of a map with global data.
        let untyped = if missing == Features::BTF_DATASEC { &[".data", ".rodata", ".bss"][..] } else { &[] };
        let untyped = untyped.iter().map(|map| format!("adapted {map}: created without types"));
        let expected: Vec<String> = std::iter::once(TYPES.to_owned()).chain(untyped).collect();
        assert_notes(&object, &expected.iter().map(String::as_str).collect::<Vec<_>>(), what);
        assert_eq!(sim.live().btfs, 1, "{what}: the types are there");
        let info = object.program("kinds").expect("it is there").info().expect("the kernel knows it");
        assert_eq!((info.nr_func_info, info.nr_line_info > 0), (2, true), "{what}: records are kept");
        let counts = object.map("counts").expect("it is there").info().expect("the kernel knows it");
        assert_ne!(counts.btf_value_type_id, 0, "{what}: maps keep their types");
        drop(object);
        assert_eq!(sim.live(), SimKernel::new().live(), "{what}: nothing is left");
    }
}

#[test]
fn a_layout_of_types_is_left_out() {
    let mut spec = open("kinds.o");
    let builder = BtfBuilder::from_btf(spec.btf.as_ref().expect("it has types"));
    spec.btf = Some(Btf::parse(builder.encode(Endian::NATIVE, true)).expect("it was well-formed"));
    let sim = SimKernel::new();
    assert_notes(&load(&sim, &spec).expect("it loads"), &[TYPES], "without layouts");
    let features = Features::default() | Features::BTF_LAYOUT;
    let sim = SimKernel::builder().features(features).build().expect("no BTF is given");
    assert_notes(&load(&sim, &spec).expect("it loads"), &[], "with layouts");
}

#[test]
fn programs_go_without_types_of_functions_and_then_without_types() {
    let sim = without(Features::BTF_FUNC | Features::BTF_FUNC_GLOBAL);
    let object = load(&sim, &open("kinds.o")).expect("it loads");
    assert_notes(&object, &[TYPES, RECORDS], "without functions");
    let info = object.program("kinds").expect("it is there").info().expect("the kernel knows it");
    assert_eq!((info.nr_func_info, info.nr_line_info), (0, 0));

    let object = load(&without(Features::BTF), &open("kinds.o")).expect("it loads");
    assert_notes(&object, &["skipped .BTF: this kernel takes no BTF"], "without BTF");
}

#[test]
fn the_oldest_kernel_that_has_global_data() {
    // All that came after it, at once.
    let known = Features::NAMES
        | Features::BTF
        | Features::BTF_FUNC
        | Features::BTF_DATASEC
        | Features::GLOBAL_DATA
        | Features::MAP_FREEZE
        | Features::EXPECTED_ATTACH_TYPE;
    let sim = SimKernel::builder().features(known).build().expect("no BTF is given");
    let object = load(&sim, &open("kinds.o")).expect("it loads");
    assert_notes(
        &object,
        &[
            TYPES,
            "adapted .data: created without being mappable",
            "adapted .rodata: created without being mappable",
            "adapted .bss: created without being mappable",
        ],
        "Linux 5.2",
    );
    object.set_global("zeroed", &9u64).expect("it can be written without a mapping");
    assert_eq!(object.global::<u64>("zeroed").expect("it can be read"), 9);
    let error = object.global_view::<u64>("zeroed").expect_err("there is no mapping");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(text(&error).contains("Linux 5.5"), "{}", text(&error));
}

#[test]
fn names_and_attach_types_are_left_out() {
    let sim = without(Features::NAMES);
    let object = load(&sim, &open("xdp_count.o")).expect("it loads");
    let said = notes(&object);
    assert!(
        said.iter().all(|note| note.contains("without a name, which this kernel does not know")),
        "{said:?}"
    );
    assert_eq!(said.len(), object.maps().count() + object.programs().count());
    assert_eq!(object.program("xdp_count").expect("by our name").info().expect("it is there").name, "");

    let object = load(&without(Features::EXPECTED_ATTACH_TYPE), &open("xdp_count.o")).expect("it loads");
    assert_notes(&object, &["adapted xdp_count: loaded without an attach type"], "without attach types");

    // One that is not optional is asked for until the end.
    let error = load(&without(Features::EXPECTED_ATTACH_TYPE), &open("cgroup.o")).expect_err("it needs them");
    assert_eq!(error.errno(), Some(Errno::E2BIG), "{}", text(&error));
}

#[test]
fn maps_are_left_writable_where_nothing_freezes() {
    let object = load(&without(Features::MAP_FREEZE), &open("kinds.o")).expect("it loads");
    assert_notes(&object, &["adapted .rodata: left writable for user space"], "without freezing");
}

#[test]
fn global_data_that_a_kernel_does_not_know_is_named() {
    for object in ["kinds.o", "arg_ctx.o", "globals.o"] {
        let error = load(&without(Features::GLOBAL_DATA), &open(object)).expect_err("it has globals");
        assert!(text(&error).contains("knows no global data (Linux 5.2)"), "{}", text(&error));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{object}");
    }
    load(&without(Features::GLOBAL_DATA), &open("xdp_count.o")).expect("it has none");
}

#[test]
fn maps_go_without_types_that_the_kernel_refuses() {
    load_conformance::maps_go_without_types_that_the_kernel_refuses(&Kernel::new(SimKernel::new()));
}

#[test]
fn records_are_cut_to_what_the_kernel_knows() {
    load_conformance::records_are_cut_to_what_the_kernel_knows(&Kernel::new(SimKernel::new()));
}

#[test]
fn old_helpers_read_memory() {
    let builder =
        HELPERS.into_iter().fold(SimKernel::builder(), |builder, helper| builder.without_helper(helper));
    let sim = builder.build().expect("no BTF is given");
    let kernel = Kernel::new(sim.clone());
    let object = Loader::new(&kernel).load(&open("memory.o")).expect("it loads");
    assert_notes(&object, &["adapted memory: reads memory with `bpf_probe_read`"], "without the helpers");

    // A helper that is missing for another reason is not replaced.
    let sim = SimKernel::builder().without_helper(112).build().expect("no BTF is given");
    let error = load(&sim, &open("memory.o")).expect_err("the kernel has the others");
    assert!(text(&error).contains("112"), "{}", text(&error));
    assert_notes(&load(&SimKernel::new(), &open("memory.o")).expect("it loads"), &[], "with the helpers");
}

#[test]
fn contexts_are_written_out_for_kernels_that_do_not_know_their_tag() {
    let written = |name: &str, n: u32, context: &str| {
        format!(
            "adapted {name}: the context that {n} of its functions take is written out as `struct {context}`"
        )
    };
    let expected = [
        written("classify", 3, "__sk_buff"),
        written("packet", 2, "xdp_md"),
        written("raw_enter", 1, "bpf_raw_tracepoint_args"),
        written("probe", 1, "bpf_user_pt_regs_t"),
    ];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let spec = open("arg_ctx.o");
    let object = load(&without(Features::ARG_CTX_TAG), &spec).expect("it loads");
    assert_notes(&object, &expected, "without the tag");

    // The tags themselves may be unknown too.
    let sim = without(Features::ARG_CTX_TAG | Features::BTF_DECL_TAG | Features::BTF_TYPE_TAG);
    let object = load(&sim, &spec).expect("it loads");
    let all: Vec<&str> = expected.iter().copied().chain([TYPES]).collect();
    assert_notes(&object, &all, "without tags");
    drop(object);
    assert_eq!(sim.live(), SimKernel::new().live(), "nothing is left");

    assert_notes(&load(&SimKernel::new(), &spec).expect("it loads"), &[], "with the tag");
}

#[test]
fn a_context_that_cannot_be_written_out_is_named() {
    // A pointer to registers is no context of a tc program.
    let mut spec = open("arg_ctx.o");
    let program = spec.program_mut("probe").expect("it is there");
    program.prog_type = skep::sys::abi::ProgType::SCHED_CLS;
    let object = load(&without(Features::ARG_CTX_TAG), &spec).expect("the simulated verifier reads no types");
    let said = notes(&object);
    let odd: Vec<_> =
        said.iter().filter(|note| note.starts_with("skipped probe: argument 0 of `regs`")).collect();
    assert_eq!(odd.len(), 1, "{said:#?}");
}

/// Before Linux 5.11 maps count against a limit.
#[test]
fn locked_memory_is_raised_when_it_is_too_low() {
    let mut spec = open("kinds.o");
    let sim = without(Features::MEMCG_ACCOUNT);
    assert_notes(&load(&sim, &spec).expect("it fits"), &[], "small maps");

    spec.map_mut("counts").expect("it is there").max_entries = 100_000;
    let object = load(&sim, &spec).expect("it fits a higher limit");
    assert_notes(&object, &["adapted kinds: raised RLIMIT_MEMLOCK"], "large maps");
    drop(object);
    assert_eq!(sim.live(), SimKernel::new().live(), "nothing of the first attempt is left");

    // Where it cannot be raised, it is named.
    let sim = without(Features::MEMCG_ACCOUNT);
    let (backend, faults) = FaultInjection::around(Arc::new(sim));
    faults.fail_every("raise_memlock", Errno::EPERM);
    let error = Loader::new(&Kernel::new(backend)).load(&spec).expect_err("it does not fit");
    assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(Errno::EPERM)));
    assert!(text(&error).contains("RLIMIT_MEMLOCK, 65536 bytes here, may be too low"), "{}", text(&error));
}

/// A right that is missing is no feature that is missing: nothing is left out for it, and what it may be is said.
#[test]
fn a_missing_right_makes_no_fallback() {
    for command in ["map_create", "prog_load", "btf_load"] {
        let (backend, faults) = FaultInjection::around(Arc::new(SimKernel::new()));
        let (backend, calls) = CallLog::around(Arc::new(backend));
        faults.fail_every(command, Errno::EPERM);
        match Loader::new(&Kernel::new(backend)).load(&open("kinds.o")) {
            // Types are given for what they are worth.
            Ok(object) => {
                assert_eq!(command, "btf_load");
                assert_notes(&object, &["skipped .BTF: the kernel did not take it (EPERM"], command);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{command}: {}", text(&error));
                assert!(text(&error).contains("built or configured to refuse it"), "{}", text(&error));
            }
        }
        let calls = calls.take();
        let refused = |call: &&skep::sys::wrap::CallRecord| call.command == command;
        assert!(calls.iter().filter(refused).all(|call| call.failed == Some(Errno::EPERM)));
    }
}

#[test]
fn a_process_without_rights_loads_with_a_token() {
    let sim = SimKernel::builder().delegating_bpffs("/run/delegated").build().expect("no BTF is given");
    let (backend, calls) = CallLog::around(Arc::new(sim.clone()));
    let kernel = Kernel::new(backend);
    let spec = open("kinds.o");

    // The default gives none, which is no error by itself.
    let error = Loader::new(&kernel).load(&spec).expect_err("it has no rights");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        text(&error).contains("in a user namespace") && text(&error).contains("token_path"),
        "{}",
        text(&error)
    );
    calls.take();

    let loader = Loader::new(&kernel).token_path("/run/delegated");
    let object = loader.load(&spec).expect("the token allows it");
    assert_notes(&object, &["delegated kinds: made with the token of /run/delegated"], "with a token");
    for call in calls.take() {
        if ["map_create", "prog_load", "btf_load"].contains(&call.command) {
            assert!(call.arguments.contains(" token"), "{call}");
        }
    }
    let again = loader.load(&spec).expect("the token allows it again");
    assert_eq!(calls.count("token_create"), 0, "one token for all loads");
    drop((object, again, loader));

    // A handle with a token needs no path, and one token serves many.
    let token = kernel.token_create("/run/delegated").expect("it is given");
    let with_token = kernel.with_token(&token);
    drop(token);
    assert!(with_token.same(&kernel) && kernel.token().is_none() && with_token.token().is_some());
    let object = Loader::new(&with_token).load(&spec).expect("the token allows it");
    assert_notes(&object, &[], "with a handle that has one");
    // What was found without the right to look is not taken for an answer.
    assert!(!kernel.has(Feature::BtfFloat).is_supported());
    assert!(with_token.has(Feature::BtfFloat).is_supported());
    drop((object, with_token));
    assert_eq!(sim.live(), SimKernel::new().live());
}

#[test]
fn a_token_that_was_asked_for_has_to_be_there() {
    let kernel = Kernel::new(SimKernel::new());
    let spec = open("xdp_count.o");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for (path, errno, words) in [
        ("/sys/fs/bpf", Errno::ENOENT, "mounted without `delegate_cmds`"),
        ("/no/such", Errno::ENOENT, "no such directory"),
        ("/", Errno::EINVAL, "not where a bpffs is mounted"),
        (file.to_str().expect("it is text"), Errno::ENOTDIR, "no directory"),
    ] {
        let error = Loader::new(&kernel).token_path(path).load(&spec).expect_err("there is no token");
        assert!(matches!(&error, Error::Load { source: LoadError::Token { .. }, .. }), "{error:?}");
        assert_eq!(error.errno(), Some(errno), "{path}");
        assert!(text(&error).contains(path) && text(&error).contains(words), "{}", text(&error));
    }
    let (backend, calls) = CallLog::around(Arc::new(SimKernel::new()));
    let object = Loader::new(&Kernel::new(backend)).token_path("").load(&spec).expect("it needs none");
    assert_eq!(calls.count("token_create"), 0, "none is looked for");
    assert_eq!(object.report().of(NoteKind::Delegated).count(), 0);
}

/// A real object loads on a kernel like each release, whatever that lacks.
#[test]
fn objects_load_on_every_release() {
    for (major, minor) in
        [(4, 18), (4, 19), (5, 4), (5, 10), (5, 15), (6, 1), (6, 6), (6, 12), (6, 18), (7, 2)]
    {
        let sim = SimKernel::builder().linux(major, minor).build().unwrap();
        let object = include_bytes!("../examples/packet_counter.bpf.o");
        let mut spec = Spec::parse("packet_counter", object).unwrap();
        let old = (major, minor) < (5, 2);
        if old {
            // Kernels without globals cannot have those of this object.
            let error = Loader::new(&Kernel::new(sim)).load(&spec).map(drop).unwrap_err();
            let causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            assert!(text.contains("5.2"), "{text}");
            continue;
        }
        spec.set_global("sample_every", &1_u32).unwrap();
        let object = Loader::new(&Kernel::new(sim.clone())).load(&spec).unwrap();
        let output = object.program("count_packets").unwrap().run(&RunInput::packet(&[0; 64])).unwrap();
        assert_eq!((output.retval, object.global::<u64>("packets_seen").unwrap()), (2, 1), "{major}.{minor}");
    }
}

/// What came later than the kernel is named with the release that it came with.
#[test]
fn kinds_that_a_kernel_does_not_know_are_named_with_their_release() {
    let sim = SimKernel::builder().linux(5, 4).build().expect("no BTF is given");
    let mut spec = open("xdp_count.o");
    let map = spec.maps.iter_mut().find(|map| map.name == "packets").expect("it counts there");
    map.map_type = MapType::RINGBUF;
    let error = text(&load(&sim, &spec).expect_err("there are no ring buffers"));
    assert!(error.contains("does not know maps of this kind, which came with Linux 5.8"), "{error}");

    let error = text(&load(&sim, &open("syscall_prog.o")).expect_err("there are no such programs"));
    assert!(error.contains("does not know programs of this kind, which came with Linux 5.14"), "{error}");

    // A definition that is wrong on any kernel is still that.
    let mut spec = open("xdp_count.o");
    let map = spec.maps.iter_mut().find(|map| map.name == "packets").expect("it counts there");
    map.key_size = 3;
    let error = text(&load(&sim, &spec).expect_err("an array's keys have four bytes"));
    assert!(error.contains("key 3 bytes") && !error.contains("came with"), "{error}");
}

/// A static tracepoint of a binary has many places: where a kernel can link them all at once, the program is verified for that.
#[test]
fn static_tracepoints_are_verified_for_the_links_that_a_kernel_has() {
    for (missing, attach_type, link_type) in [
        (Features::empty(), AttachType::TRACE_UPROBE_MULTI, LinkType::UPROBE_MULTI),
        (Features::UPROBE_MULTI, AttachType(0), LinkType::PERF_EVENT),
    ] {
        let sim = without(missing);
        let object = load(&sim, &open("kprobe.o")).expect("it loads");
        let program = |name: &str| object.program(name).expect("it is there");
        assert_eq!(program("user_static").attach_type(), attach_type);
        assert_eq!(program("user_probe").attach_type(), AttachType(0), "others are as they say");
        let point = AttachPoint::usdt("libc.so.6", "libc", "setjmp");
        let link = sim.attach(program("user_static"), point).expect("it is a probe");
        let link = Kernel::new(sim.clone()).link_from_fd(link).expect("it is a link");
        assert_eq!(link.info().expect("the kernel knows it").link_type, link_type);
    }
}

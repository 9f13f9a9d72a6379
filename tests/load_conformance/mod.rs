//! What holds of loads on every kernel. The bodies run on a simulated kernel always, and on the running one in
//! `kernel_load.rs`.

#![allow(dead_code, reason = "each test target uses a part")]

pub(crate) mod elements;
pub(crate) mod legacy_maps;
pub(crate) mod pinned;
pub(crate) mod reuse;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep::asm::Reg;
use skep::map::MapErrorKind;
use skep::sys::Backend;
use skep::sys::Feature;
use skep::sys::abi::{Errno, MapType, OpenFlags, UpdateFlags};
use skep::sys::request::TestRun;
use skep::sys::wrap::FaultInjection;
use skep::{Error, ErrorKind, Kernel, Loader, Spec};

/// An object of the test data.
pub(crate) fn open(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    Spec::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The descriptors of this process that belong to maps, programs and the like, or to the simulated kernel's pipes.
fn descriptors() -> BTreeSet<(String, String)> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("Linux has /proc");
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = std::fs::read_link(&path).ok()?.to_string_lossy().into_owned();
            let ours = target.contains("bpf") || target.contains("btf") || target.starts_with("pipe:");
            ours.then(|| (path.to_string_lossy().into_owned(), target))
        })
        .collect()
}

/// Fails each single call of a load in turn, and asks that nothing is left behind. `settle` lets the kernel notice
/// what was closed.
pub(crate) fn a_failed_load_leaves_nothing(
    backend: &Arc<dyn Backend>,
    settle: impl Fn(),
    pin_root: &Path,
    objects: &[&str],
) {
    for object in objects {
        let spec = open(object);
        let (faulty, faults) = FaultInjection::around(backend.clone());
        let faulty = Kernel::new(faulty);
        let load = || Loader::new(&faulty).pin_root(pin_root).load(&spec);

        settle();
        let clean = descriptors();
        drop(load().unwrap_or_else(|error| panic!("{object} loads when nothing fails: {error:?}")));
        let calls = faults.calls();
        assert!(calls >= 4, "{object}: {calls} calls");
        remove_pins(backend, pin_root);
        settle();
        assert_eq!(descriptors(), clean, "{object}: a load that succeeded");

        let attempt = |what: &str| -> bool {
            let failed = match load() {
                Ok(object) => {
                    drop(object);
                    false
                }
                Err(error) => {
                    let there = pins(backend, pin_root);
                    assert!(there.is_empty(), "{object}: {what}: {there:?} ({error})");
                    true
                }
            };
            faults.disarm();
            remove_pins(backend, pin_root);
            settle();
            assert_eq!(descriptors(), clean, "{object}: {what}");
            failed
        };
        // One refused call may be made up for by another way; one that is refused every time may not.
        for errno in [Errno::EPERM, Errno::EINVAL, Errno::ENOMEM, Errno::E2BIG, Errno::EAGAIN] {
            for call in 1..=calls {
                faults.fail_call(call, errno);
                attempt(&format!("call {call} of {calls} fails with {errno}"));
            }
            for command in
                ["map_create", "map_update", "map_freeze", "pin", "btf_load", "prog_load", "kernel_btf"]
            {
                let there = faults.calls_of(command) > 0;
                faults.fail_every(command, errno);
                let failed = attempt(&format!("every {command} fails with {errno}"));
                let needed = there && matches!(command, "map_create" | "prog_load");
                assert!(failed || !needed, "{object}: loads without {command}");
            }
        }
    }
}

/// Names that the pinned test objects use.
const PIN_NAMES: [&str; 5] =
    ["skep_pinned", "skep_pinned_totals", "skep_not_pinned", "events", "tc/globals/skep_shared"];

fn pins(backend: &Arc<dyn Backend>, root: &Path) -> Vec<PathBuf> {
    let there = PIN_NAMES.iter().map(|name| root.join(name));
    there.filter(|path| backend.open_pinned(path, OpenFlags::empty()).is_ok()).collect()
}

fn remove_pins(backend: &Arc<dyn Backend>, root: &Path) {
    for path in pins(backend, root) {
        backend.unpin(&path).expect("a pin can be removed");
    }
    // They are there only when something was pinned.
    for directory in ["tc/globals", "tc", ""] {
        let _ = backend.remove_pin_dir(&root.join(directory));
    }
}

/// A map that is pinned by its name is shared by loads, keeps what is in it, and is not confused with another.
pub(crate) fn pinned_maps_are_reused(backend: &Arc<dyn Backend>, pin_root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let spec = open("pinned.o");
    let map =
        spec.maps.iter().find(|map| map.pinning == skep::spec::Pinning::ByName).expect("pinned.o pins a map");
    let name = map.name.clone();
    let load = |spec: &Spec| Loader::new(&kernel).pin_root(pin_root).load(spec);

    let first = load(&spec).expect("it loads");
    assert_eq!(first.report().of(skep::load::NoteKind::Reused).count(), 0);
    let key = vec![0; first.map(&name).expect("it is there").key_len()];
    let value = vec![7; first.map(&name).expect("it is there").value_len()];
    first
        .map(&name)
        .expect("it is there")
        .update(&key, &value, UpdateFlags::empty())
        .expect("it can be written");
    drop(first);

    let second = load(&spec).expect("it loads again");
    assert!(second.report().of(skep::load::NoteKind::Reused).count() > 0);
    assert_eq!(second.map(&name).expect("it is there").lookup(&key).expect("it can be read"), Some(value));

    let mut other = spec.clone();
    other.map_mut(&name).expect("it is there").max_entries += 1;
    let error = load(&other).expect_err("another size is another map");
    assert_eq!(error.kind(), skep::ErrorKind::Exists);
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("max entries") && text.contains(&name), "{text}");
    drop(second);
    remove_pins(backend, pin_root);

    for hostile in ["../escaped", "a/b", "..", ".", "", "with.dot"] {
        let mut spec = spec.clone();
        spec.map_mut(&name).expect("it is there").name = hostile.to_owned();
        assert!(load(&spec).is_err(), "{hostile:?}");
        remove_pins(backend, pin_root);
    }
}

/// Globals are set before a load, and read and written after it.
pub(crate) fn globals_are_typed_places(kernel: &Kernel) {
    let mut spec = open("globals.o");
    assert_eq!(
        spec.global::<u32>("data_u32").expect("it is there"),
        spec.global::<u32>("data_u32").expect("as before")
    );
    spec.set_global("data_u32", &0x1234_5678_u32).expect("it has four bytes");
    assert!(spec.set_global("data_u32", &1u64).is_err());
    assert!(matches!(spec.set_global("no_such", &1u32), Err(Error::NoSuch { .. })));
    let constant = spec
        .globals
        .iter()
        .find(|global| global.size == 4 && !global.private && spec.maps[global.map.0].name == ".rodata")
        .expect("globals.o has a constant of four bytes")
        .name
        .clone();
    spec.set_global(&constant, &77u32).expect("constants can be set before the load");

    let object = Loader::new(kernel).load(&spec).expect("it loads");
    assert_eq!(object.global::<u32>("data_u32").expect("it can be read"), 0x1234_5678);
    assert_eq!(object.global::<u32>(&constant).expect("it can be read"), 77);
    object.set_global("data_u32", &9u32).expect("data can be written");
    assert_eq!(object.global::<u32>("data_u32").expect("it can be read"), 9);
    assert!(matches!(object.set_global(&constant, &1u32), Err(Error::GlobalReadOnly { .. })));
    assert!(object.set_global("data_u32", &9u8).is_err());
    assert_eq!(object.global_bytes("data_u32").expect("it can be read"), 9u32.to_ne_bytes());
    let rodata = object.map(".rodata").expect("it is there");
    let whole = rodata.lookup(&0u32.to_ne_bytes()).expect("it can be read").expect("it has one element");
    assert!(rodata.update(&0u32.to_ne_bytes(), &whole, UpdateFlags::empty()).is_err(), "it is frozen");

    // The same places, in memory that is shared with programs.
    assert!(matches!(object.global_view::<u64>("data_u32"), Err(Error::GlobalSize { .. })));
    assert!(matches!(object.global_view::<u32>("no_such"), Err(Error::NoSuch { .. })));
    let view = match object.global_view::<u32>("data_u32") {
        Ok(view) => view,
        Err(error) => {
            assert!(kernel.has(Feature::ArrayMmap).is_unsupported(), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            return;
        }
    };
    assert_eq!((view.name(), view.is_writable(), view.load().expect("it is aligned")), ("data_u32", true, 9));
    assert_eq!(view.fetch_add(2).expect("it can be written"), 9);
    assert_eq!(object.global::<u32>("data_u32").expect("it can be read"), 11);
    object.set_global("data_u32", &20u32).expect("data can be written");
    assert_eq!(view.get(), 20);
    view.set(&21).expect("it can be written");
    let constant = object.global_view::<u32>(&constant).expect("it can be mapped");
    assert_eq!((constant.is_writable(), constant.load().expect("it is aligned")), (false, 77));
    assert_eq!(constant.store(1).expect_err("it is constant").kind(), MapErrorKind::Denied);
    assert!(constant.set(&1).is_err());
    let other = object.global_view::<u32>("data_u32").expect("as before");
    drop(object);
    other.swap(30).expect("it can be written");
    assert_eq!(view.load().expect("it is aligned"), 30, "views outlive the object and are of one place");
}

/// Parts are found by name, and the error for others says which there are.
pub(crate) fn parts_are_found_by_name(kernel: &Kernel) {
    let object = Loader::new(kernel).load(&open("xdp_count.o")).expect("it loads");
    let error = object.program("no_such").expect_err("it is not there").to_string();
    assert!(error.contains("xdp_count"), "{error}");
    assert!(object.map("no_such").is_err());
    let program = object.program("xdp_count").expect("it is there");
    assert_eq!(program.prog_type(), skep::sys::abi::ProgType::XDP);
    let info = program.info().expect("the kernel knows it");
    assert_eq!(info.name, "xdp_count");
    assert_eq!(info.map_ids.len(), object.maps().count());
    assert!(object.maps().any(|(_, map)| map.map_type() == MapType::PERCPU_ARRAY));
    assert!(matches!(program.attach(), Err(Error::NotAttachable { .. })));
}

/// Maps that are switched off are not made, and programs that need them say so.
pub(crate) fn maps_can_be_left_out(kernel: &Kernel) {
    let mut spec = open("xdp_count.o");
    let name = spec.maps[0].name.clone();
    spec.maps[0].autocreate = false;
    let error = Loader::new(kernel).load(&spec).expect_err("the program needs the map");
    let text = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(text.contains(&name) && text.contains("was not created"), "{text}");
    assert!(error.verifier_log().is_some_and(|log| log.contains("invalid func unknown#2001000000")));
}

/// Variables of an arena are set before a load, and read and written in its memory after it. `runs` says whether
/// programs do something.
pub(crate) fn arena_variables_are_typed_places(kernel: &Kernel, runs: bool) {
    let mut spec = open("arena.o");
    assert_eq!(spec.global::<u64>("shared_counter").expect("it is there"), 41);
    spec.set_global("shared_counter", &42u64).expect("it has eight bytes");
    for fixed in [true, false] {
        if !fixed {
            spec.map_mut("arena").expect("it is there").map_extra = 0;
        }
        let object = Loader::new(kernel).load(&spec).expect("it loads");
        let memory = object.arena("arena").expect("it is mapped");
        assert_eq!(memory.len(), 16 * kernel.page_size() as usize);
        assert_eq!(object.global::<u64>("shared_counter").expect("it can be read"), 42);
        let table = object.global::<[u32; 8]>("shared_table").expect("it can be read");
        assert_eq!(table, [1, 2, 3, 0, 0, 0, 0, 0]);
        object.set_global("shared_counter", &50u64).expect("it can be written");
        if runs {
            object.program("bump").expect("it is there").test_run(&mut TestRun::default()).expect("it runs");
            assert_eq!(object.global::<u64>("shared_counter").expect("it can be read"), 51);
            assert_eq!(object.global::<u64>("plain").expect("it can be read"), 51);
            assert_eq!(object.global::<[u32; 8]>("shared_table").expect("it can be read")[3], 5);
            let view = object.global_view::<u64>("shared_counter").expect("arenas are mapped");
            assert_eq!(view.load().expect("it is aligned"), 51);
        }
        if fixed && runs {
            let error = Loader::new(kernel).load(&spec).expect_err("its address is taken in this process");
            assert_eq!(error.errno(), Some(Errno::EEXIST));
            let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
            assert!(text.contains("map_extra"), "{text}");
        }
    }
    let mut small = spec.clone();
    small.map_mut("arena").expect("it is there").contents.resize(17 * 4096, 1);
    assert!(Loader::new(kernel).load(&small).is_err(), "its variables do not fit");
    let mut hostile = spec;
    let arena = hostile.map_mut("arena").expect("it is there");
    arena.flags |= skep::sys::abi::MapFlags::SEGV_ON_FAULT;
    let error = Loader::new(kernel).load(&hostile).expect_err("writing its variables would end the process");
    let text = format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"));
    assert!(text.contains("SEGV_ON_FAULT"), "{text}");
}

/// Programs and functions longer than what a 16-bit offset spans are put together and load. `runs` says whether programs
/// do something.
pub(crate) fn long_programs_load(kernel: &Kernel, runs: bool) {
    const LONG: usize = 40_000;
    let run = |spec: &Spec| {
        let object = Loader::new(kernel).load(spec).expect("it loads");
        let mut run = TestRun::default();
        run.data_in = &[0; 64];
        let program = object.program("second").expect("it is there");
        let answer = runs.then(|| program.test_run(&mut run).expect("it runs").retval);
        (program.instruction_count(), answer)
    };
    let mut spec = open("subprogs.o");
    spec.load_only(spec.program_index("second").expect("it is there"));
    let (short, answer) = run(&spec);
    // Work that changes nothing, before the last instruction of the program and of one that it calls.
    for name in ["second", "middle"] {
        let function = spec.functions.iter_mut().find(|function| function.name == name).expect("it is there");
        let exit = function.insns.pop().expect("a function has instructions");
        let idle =
            skep::asm::Assembler::new().mov64_reg(Reg::R0, Reg::R0).finish().expect("it is an instruction");
        function.insns.extend(idle.iter().cycle().take(LONG).copied());
        function.insns.push(exit);
    }
    assert_eq!(run(&spec), (short + 2 * LONG, answer));
}

/// What is not loaded and not used may be wrong.
pub(crate) fn what_is_not_loaded_may_be_wrong(kernel: &Kernel) {
    let mut spec = open("xdp_count.o");
    let mut map = skep::spec::MapSpec::new("wrong_map", MapType(9999), 3, 3, 3);
    map.max_entries = u32::MAX;
    spec.maps.push(map);
    let mut function = spec.functions[spec.programs[0].function.0].clone();
    function.name = "wrong_program".into();
    // It returns nothing.
    function.insns.drain(..function.insns.len() - 1);
    (function.references, function.core_relos) = (Vec::new(), Vec::new());
    (function.func_info, function.line_info) = Default::default();
    let mut program = spec.programs[0].clone();
    program.name = "wrong_program".into();
    program.function = skep::spec::FunctionIndex(spec.functions.len());
    spec.functions.push(function);
    spec.programs.push(program);

    let text = |spec: &Spec| {
        let error = Loader::new(kernel).load(spec).expect_err("something is wrong");
        format!("{error}: {}", std::error::Error::source(&error).expect("it has a cause"))
    };
    assert!(text(&spec).contains("`wrong_map`"), "{}", text(&spec));
    spec.map_mut("wrong_map").expect("it is there").autocreate = false;
    assert!(text(&spec).contains("`wrong_program`"), "{}", text(&spec));
    let mut alone = spec.clone();
    alone.load_only(alone.program_index("xdp_count").expect("it is there"));
    let object = Loader::new(kernel).load(&alone).expect("nothing of it is wrong");
    assert_eq!(object.programs().map(|program| program.name()).collect::<Vec<_>>(), ["xdp_count"]);
    // Nor is a map made then that nothing uses.
    alone.map_mut("wrong_map").expect("it is there").autocreate = true;
    let object = Loader::new(kernel).prune(true).load(&alone).expect("nothing uses it");
    assert!(object.map("wrong_map").is_err());
}

/// A map whose types do not fit it is made without them.
pub(crate) fn maps_go_without_types_that_the_kernel_refuses(kernel: &Kernel) {
    let mut spec = open("xdp_count.o");
    let name = spec.maps[0].name.clone();
    // A type of another size than the key's.
    let value = spec.maps[0].value_type;
    assert!(value.is_some() && spec.maps[0].value_size != spec.maps[0].key_size);
    spec.maps[0].key_type = value;
    let object = Loader::new(kernel).load(&spec).expect("it loads");
    let notes: Vec<String> = object.report().notes.iter().map(ToString::to_string).collect();
    let expected = format!("adapted {name}: created without types, which this kernel refused (EINVAL");
    assert!(notes.iter().any(|note| note.starts_with(&expected)), "{notes:?}");
    let info = object.map(&name).expect("it is there").info().expect("the kernel knows it");
    assert_eq!((info.btf_key_type_id, info.btf_value_type_id), (0, 0));
}

/// Records of a newer format are loaded as far as the kernel knows them.
pub(crate) fn records_are_cut_to_what_the_kernel_knows(kernel: &Kernel) {
    let long = |records: &mut skep::spec::InfoRecords, filler: u8| {
        let size = records.record_size as usize;
        records.record_size += 8;
        records.bytes =
            records.bytes.chunks_exact(size).flat_map(|r| [r, &[filler; 8][..]].concat()).collect();
    };
    for (funcs, lines) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut spec = open("subprogs.o");
        for function in &mut spec.functions {
            long(&mut function.func_info, funcs);
            long(&mut function.line_info, lines);
        }
        let object = Loader::new(kernel).load(&spec).expect("it loads");
        for program in object.programs() {
            let info = program.info().expect("the kernel knows it");
            assert!(info.nr_func_info > 0 && info.nr_line_info > 0, "{}", program.name());
            let notes = |what: &str| {
                let notes = &object.report().notes;
                notes.iter().filter(|n| n.subject == program.name() && n.text.contains(what)).count()
            };
            assert_eq!(notes("shorter function records"), usize::from(funcs != 0));
            assert_eq!(notes("shorter line records"), usize::from(lines != 0));
        }
    }
}

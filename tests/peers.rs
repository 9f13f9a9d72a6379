//! Statements that the test suites of other loaders hold and that no other test here is about.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::{Object, ObjectSection, ObjectSymbol};
use skep::asm::Insn;
use skep::btf::{Btf, BtfBuilder, Kind, TypeId};
use skep::reloc::{BtfTarget, MapPlan, MissingKind, PlaceholderValue};
use skep::sim::SimKernel;
use skep::spec::{ExternKind, FunctionIndex, MapRole, MapSpec, ReferenceTarget};
use skep::sys::abi::Errno;
use skep::sys::wrap::FaultInjection;
use skep::{Kernel, Loader, Spec};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn open(name: &str) -> Spec {
    Spec::open(testdata(name)).expect("it is an object")
}

fn vmlinux() -> Vec<u8> {
    std::fs::read(testdata("btf/6.12.btf")).expect("the fixture is in the repository")
}

fn sim() -> SimKernel {
    SimKernel::builder().btf(vmlinux()).build().expect("the fixture is BTF")
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

/// The first contents of a data map are the bytes of its section, zeroes for those that have none, and the constants are
/// read-only to programs.
#[test]
fn data_maps_hold_the_bytes_of_their_sections() {
    let mut compared = 0;
    for name in ["globals.o", "globals.eb.o", "tracer.o", "linked.o", "kconfig.o"] {
        let bytes = std::fs::read(testdata(name)).expect("testdata can be read");
        let file = object::File::parse(&*bytes).expect("it is an object");
        let spec = Spec::parse("object", &bytes).expect("it is an object");
        let target = BtfTarget::new(Btf::parse(vmlinux()).expect("the fixture is BTF"));
        for map in spec.maps.iter().filter(|map| map.role.is_data()) {
            let section = file.section_by_name(&map.name);
            let Some(section) = section.filter(|_| map.role != MapRole::Kconfig) else { continue };
            assert_eq!(u64::from(map.value_size), section.size(), "{name} {}", map.name);
            let data = section.data().expect("it can be read");
            let (there, rest) = map.contents.split_at(data.len().min(map.contents.len()));
            assert_eq!(there, data.get(..there.len()).unwrap_or_default(), "{name} {}", map.name);
            assert!(rest.iter().chain(&data[there.len()..]).all(|&byte| byte == 0));
            assert_eq!((map.key_size, map.max_entries), (4, 1));
            let constant = map.name.starts_with(".rodata");
            assert_eq!(map.flags.contains(skep::sys::abi::MapFlags::RDONLY_PROG), constant, "{}", map.name);
            compared += 1;
        }
        if let Ok(plan) = spec.relocate(&target) {
            let same = |(plan, map): (&MapPlan, &MapSpec)| plan.spec.contents == map.contents;
            let maps = plan.maps.iter().zip(&spec.maps);
            assert!(maps.filter(|(_, map)| map.role != MapRole::Kconfig).all(same), "{name}");
        }
    }
    assert!(compared >= 15, "{compared}");
}

/// Compilers leave data sections of types without sizes and places; a kernel gets those of the symbols.
#[test]
fn types_say_where_variables_are() {
    for name in ["globals.o", "globals.eb.o", "linked.o", "subprogs.o", "run/variables.o"] {
        let bytes = std::fs::read(testdata(name)).expect("testdata can be read");
        let file = object::File::parse(&*bytes).expect("it is an object");
        let btf = Spec::parse("object", &bytes).expect("it is an object").btf.expect("it has types");
        let mut variables = 0;
        for datasec in btf.types().filter(|ty| ty.kind() == Kind::DATASEC) {
            let section = file.section_by_name(&datasec.name()).expect("types are of what is there");
            if ["license", ".maps"].contains(&&*datasec.name()) {
                continue;
            }
            assert_eq!(u64::from(datasec.size()), section.size(), "{name} {}", datasec.name());
            assert!(datasec.vars().map(|var| var.offset).is_sorted(), "{name}");
            for entry in datasec.vars() {
                let var = btf.ty(entry.type_id).expect("it is there");
                let place = (u64::from(entry.offset), u64::from(entry.size));
                // Two that are private may have one name.
                let mut symbols = file.symbols().filter(|symbol| {
                    symbol.section_index() == Some(section.index())
                        && symbol.name_bytes() == Ok(var.name_bytes())
                });
                assert!(
                    symbols.any(|symbol| (symbol.address(), symbol.size()) == place),
                    "{name} {}",
                    var.name()
                );
                assert_eq!(btf.resolve_size(entry.type_id), Ok(entry.size), "{}", var.name());
                variables += 1;
            }
        }
        assert!(variables > 0, "{name}");
    }
}

/// Types say what a map is. The bytes of its definition say nothing, whatever a program writes there.
#[test]
fn bytes_of_map_definitions_mean_nothing() {
    for name in ["maps_btf.o", "xdp_count.o", "pinned.eb.o"] {
        let mut bytes = std::fs::read(testdata(name)).expect("testdata can be read");
        let expected = Spec::parse("object", &bytes).expect("it is an object");
        let file = object::File::parse(&*bytes).expect("it is an object");
        let section = file.section_by_name(".maps").expect("it has maps");
        let (start, len) = section.file_range().expect("it has bytes");
        bytes[start as usize..][..len as usize].fill(0xff);
        assert_eq!(Spec::parse("object", &bytes).expect("it is one still"), expected, "{name}");
    }
}

/// Bytes of a file can begin anywhere, as those that are part of a program do.
#[test]
fn objects_may_lie_anywhere() {
    for name in ["globals.o", "core_fields.o", "struct_ops.eb.o", "maps_legacy.o", "linked.o"] {
        let bytes = std::fs::read(testdata(name)).expect("testdata can be read");
        let expected = Spec::parse("object", &bytes).expect("it is an object");
        for shift in 1..8 {
            let moved = [&[0xff; 8][..shift], &bytes].concat();
            assert_eq!(
                Spec::parse("object", &moved[shift..]).expect("it is one here too"),
                expected,
                "{name} {shift}"
            );
        }
    }
    let types = bytes::Bytes::from([vec![0xff; 3], vmlinux()].concat());
    let moved = Btf::parse(types.slice(3..)).expect("the fixture is BTF");
    assert!(moved.find(b"task_struct", Kind::STRUCT).is_some());
}

/// A program has each sub-program that it reaches once, behind itself, however often and by whomever it is called.
#[test]
fn sub_programs_are_appended_once() {
    let target = BtfTarget::new(Btf::parse(vmlinux()).expect("the fixture is BTF"));
    for name in ["subprogs.o", "callbacks.o", "linked.o", "subprogs.eb.o"] {
        let spec = open(name);
        let plan = spec.relocate(&target).expect("it asks for nothing");
        for program in &plan.programs {
            let own = spec.programs[program.program.0].function;
            let mut reached = vec![own];
            let mut at = 0;
            while let Some(index) = reached.get(at) {
                for reference in &spec.functions[index.0].references {
                    if let ReferenceTarget::Call(to) | ReferenceTarget::FunctionAddress(to) = reference.target
                        && !reached.contains(&to)
                    {
                        reached.push(to);
                    }
                }
                at += 1;
            }
            let name_of = |index: &FunctionIndex| spec.functions[index.0].name.as_str();
            let mut placed: Vec<_> = program.functions.iter().map(|placed| placed.name.as_str()).collect();
            assert_eq!(placed.first(), Some(&name_of(&own)), "{name} {}", program.name);
            let mut reached: Vec<_> = reached.iter().map(name_of).collect();
            placed.sort();
            reached.sort();
            assert_eq!(placed, reached, "{name} {}", program.name);
        }
    }
}

/// Definitions of maps that libbpf refuses, and functions that are nowhere, are refused with what is wrong.
#[test]
fn what_contradicts_itself_is_refused_by_name() {
    for (name, parts) in [
        ("bad_map_inner_pinned", ["outer", "pin"]),
        ("bad_map_nested", ["outer", "inner"]),
        ("bad_map_slot", ["`program`", "no map"]),
        ("bad_map_values_first", ["outer", "values"]),
        ("bad_map_values_kind", ["plain", "values"]),
        ("extern_function", ["skep_elsewhere", "__ksym"]),
    ] {
        for order in ["o", "eb.o"] {
            let error = Spec::open(testdata(&format!("{name}.{order}"))).expect_err(name);
            let text = chain(&error);
            assert!(parts.iter().all(|part| text.contains(part)), "{name}: {text}");
        }
    }
}

/// A process that may load programs but not look at the types of modules can do without optional functions.
#[test]
fn weak_functions_need_no_right_to_look_at_modules() {
    let types = vmlinux();
    let base = Btf::parse(types.clone()).expect("the fixture is BTF");
    let mut module = BtfBuilder::split(&base);
    module.add_struct("of_a_module", 4).expect("a good type");
    let module = module.encode(base.endian(), false);
    for (command, errno) in [("next_id", Errno::EPERM), ("open_by_id", Errno::EPERM)] {
        let sim = SimKernel::builder().module_btf("mod", module.clone()).btf(types.clone()).build();
        let (faulty, faults) = FaultInjection::around(Arc::new(sim.expect("good types")));
        faults.fail_every(command, errno);
        let kernel = Kernel::new(faulty);
        let spec = open("kfunc.o");
        let plan = spec.relocate(&Loader::new(&kernel).target()).expect("what is missing is optional");
        let program = plan.program("optional").expect("it is there");
        let missing = program.missing.iter().map(|missing| (&missing.what, missing.name.as_str()));
        assert_eq!(
            missing.collect::<Vec<_>>(),
            [(&MissingKind::KernelFunction, "skep_no_such_kfunc")],
            "{command}"
        );
    }
}

/// Loading changes nothing of a spec, and it can be loaded again; a copy is changed alone.
#[test]
fn a_spec_is_loaded_as_often_as_one_likes() {
    let kernel = Kernel::new(sim());
    for name in ["globals.o", "map_in_map.o", "xdp_count.o", "tracer.o", "arena.o"] {
        let spec = open(name);
        let before = spec.clone();
        let loads =
            [(); 2].map(|()| Loader::new(&kernel).load(&spec).map(drop).map_err(|error| chain(&error)));
        assert_eq!(loads, [Ok(()), Ok(())], "{name}");
        assert_eq!(spec, before, "{name}");
        let mut copy = spec.clone();
        copy.maps.iter_mut().for_each(|map| map.contents.fill(0x55));
        copy.functions.iter_mut().for_each(|function| function.insns.fill(Insn::default()));
        copy.programs.clear();
        assert_eq!(spec, before, "{name}");
    }
}

/// Variables of every section are read and written in their size, structures too; hidden and static ones are marked.
#[test]
fn variables_are_places_in_their_sections() {
    let mut spec = open("globals.o");
    for (name, private) in [
        ("data_hidden", true),
        ("data_static", true),
        ("data_weak", false),
        ("custom_static", true),
        ("config_static", true),
        ("data_u8", false),
    ] {
        assert_eq!(spec.find_global(name).expect(name).private, private, "{name}");
    }
    // A struct point is 12 bytes, the last three of them padding.
    for name in ["data_point", "config_point", "bss_point"] {
        assert_eq!(spec.find_global(name).expect(name).size, 12);
        spec.set_global(name, &[1u32, 2, 3]).expect("it has 12 bytes");
        assert_eq!(spec.global::<[u32; 3]>(name).expect("it has 12 bytes"), [1, 2, 3]);
        assert!(spec.set_global(name, &[1u32, 2]).is_err() && spec.global::<u64>(name).is_err());
    }
    for name in ["custom_pair", "bss_bytes", "config_name", "custom_zeroes"] {
        let size = spec.find_global(name).expect(name).size as usize;
        let value: Vec<u8> = (1..).take(size).collect();
        spec.set_global(name, &value[..]).expect("it has the size");
        let global = spec.find_global(name).expect(name);
        let start = global.offset as usize;
        assert_eq!(spec.maps[global.map.0].contents[start..start + size], value, "{name}");
    }
    // Neighbours are untouched.
    assert_eq!(spec.global::<u64>("bss_count").expect("it is there"), 0);
    assert_eq!(spec.global::<u32>("custom_number").expect("it is there"), 1234);
}

/// A variable that was edited to lie elsewhere is refused, never written elsewhere.
#[test]
fn variables_out_of_their_section_are_refused() {
    let before = open("globals.o");
    for (offset, size) in [(u32::MAX, 4), (u32::MAX - 3, 4), (1 << 20, 4), (0, u32::MAX)] {
        let mut spec = before.clone();
        let at = spec.globals.iter().position(|global| global.name == "data_u32").expect("it is there");
        (spec.globals[at].offset, spec.globals[at].size) = (offset, size);
        assert!(spec.set_global("data_u32", &7u32).is_err(), "{offset} {size}");
        assert_eq!(spec.maps, before.maps);
        let _ = spec.global::<u32>("data_u32");
    }
    let mut spec = before.clone();
    let at = spec.globals.iter().position(|global| global.name == "data_u32").expect("it is there");
    spec.globals[at].map = skep::spec::MapIndex(usize::MAX);
    assert!(spec.set_global("data_u32", &7u32).is_err());
}

/// Perf event arrays have an element for each CPU unless they say how many.
#[test]
fn perf_event_arrays_have_the_size_of_the_machine() {
    let kernel =
        Kernel::new(SimKernel::builder().cpus(6).btf(vmlinux()).build().expect("the fixture is BTF"));
    let mut spec = open("maps_btf.o");
    let mut large = spec.map("perf_sized").expect("it is there").clone();
    (large.name, large.max_entries) = ("perf_large".into(), 4096);
    spec.maps.push(large);
    let wanted = ["perf", "perf_sized", "perf_large"];
    spec.maps.iter_mut().for_each(|map| map.autocreate = wanted.contains(&map.name.as_str()));
    spec.programs.iter_mut().for_each(|program| program.autoload = false);
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    let entries =
        |name| object.map(name).expect("it is there").info().expect("the kernel knows it").max_entries;
    assert_eq!((entries("perf"), entries("perf_sized"), entries("perf_large")), (6, 1, 4096));
}

/// CO-RE finds in a module what the kernel itself lacks.
#[test]
fn types_of_modules_are_relocated_for() {
    let types = vmlinux();
    let base = Btf::parse(types.clone()).expect("the fixture is BTF");
    let v1 = std::fs::read(testdata("targets/skep__v1_moved.o")).expect("testdata can be read");
    let file = object::File::parse(&*v1).expect("it is an object");
    let v1 = file.section_by_name(".BTF").expect("it has types").data().expect("it has bytes").to_vec();
    let v1 = Btf::parse(v1).expect("it is BTF");
    let mut module = BtfBuilder::split(&base);
    let start = module.next_id().0 - 1;
    for ty in v1.types() {
        let moved = |id: TypeId| Ok(if id.0 == 0 { id } else { TypeId(start + id.0) });
        module.add_copy(&ty, moved).expect("a good type");
    }
    let module = module.encode(base.endian(), false);

    let spec = open("core_synthetic.o");
    let sim = SimKernel::builder().module_btf("skep", module).btf(types).build().expect("good types");
    let kernel = Kernel::new(sim);
    let in_module = spec.relocate(&Loader::new(&kernel).target()).expect("it relocates");
    let alone = spec.relocate(&BtfTarget::new(v1)).expect("it relocates");
    let mut found = 0;
    for (program, expected) in in_module.programs.iter().zip(&alone.programs) {
        for (placed, expected) in program.decisions.iter().zip(&expected.decisions) {
            let (decision, expected) = (&placed.decision, &expected.decision);
            assert_eq!(decision.outcome, expected.outcome, "{decision} and {expected}");
            match &decision.target {
                Some(target) if target.module.is_some() => {
                    assert_eq!(target.module.as_deref(), Some("skep"));
                    found += 1;
                    if decision.kind() != skep::btf::CoreReloKind::TYPE_ID_TARGET {
                        assert_eq!(decision.new_value, expected.new_value, "{decision} and {expected}");
                    }
                }
                _ => {}
            }
        }
    }
    assert!(found > 40, "{found}");
}

/// The address of an optional function that is missing is 0 also where it is the last thing of a program that is loaded.
#[test]
fn a_missing_address_at_the_end_is_zero() {
    let mut spec = open("kfunc.o");
    let index = spec.program_index("optional").expect("it is there");
    let function = spec.programs[index.0].function;
    let code = &mut spec.functions[function.0];
    let is_missing = |index: usize| spec.externs[index].name == "skep_no_such_kfunc";
    let reference = code.references.iter().copied().find(|reference| match reference.target {
        ReferenceTarget::Extern(index) => {
            is_missing(index.0) && code.insns[reference.insn as usize].is_ld_imm64()
        }
        _ => false,
    });
    let mut reference = reference.expect("the program asks for its address");
    let pair = code.insns[reference.insn as usize..][..2].to_vec();
    code.insns = pair;
    reference.insn = 0;
    code.references = vec![reference];
    code.core_relos.clear();
    (code.func_info.bytes, code.line_info.bytes) = (Vec::new(), Vec::new());
    spec.load_only(index);
    let target = BtfTarget::new(Btf::parse(vmlinux()).expect("the fixture is BTF"));
    let plan = spec.relocate(&target).expect("what is missing is optional");
    let insns = &plan.programs[0].insns;
    assert_eq!((insns.len(), Insn::imm64(&insns[0], &insns[1]), insns[0].src_raw()), (2, 0, 0));
}

/// First contents that do not fit a map, and elements beyond its end, fail a load, are named, and leave nothing.
#[test]
fn contents_have_to_fit() {
    type Edit = fn(&mut Spec);
    let edits: [(&str, Edit, [&str; 2]); 4] = [
        (
            "globals.o",
            |spec| spec.map_mut(".data").expect("it is there").contents.push(1),
            ["map `.data`", "its contents have 133 bytes, its value 132"],
        ),
        (
            "map_in_map.o",
            |spec| spec.map_mut("outer_array").expect("it is there").slots[1].index = 4,
            ["map `outer_array`", "take element 4"],
        ),
        (
            "map_in_map.o",
            |spec| spec.map_mut("jumps").expect("it is there").slots[1].index = 1 << 20,
            ["map `jumps`", "1048576"],
        ),
        (
            "map_in_map.o",
            |spec| {
                let inner = spec.map_mut("outer_array").and_then(|map| map.inner.as_mut());
                inner.expect("it says what it holds").value_size += 8;
            },
            ["map `outer_array`", "take element 0"],
        ),
    ];
    let sim = sim();
    let kernel = Kernel::new(sim.clone());
    let clean = sim.live();
    for (name, edit, parts) in edits {
        let mut spec = open(name);
        drop(Loader::new(&kernel).load(&spec).expect("it fits"));
        edit(&mut spec);
        let error = Loader::new(&kernel).load(&spec).expect_err("it does not fit");
        let text = chain(&error);
        assert!(parts.iter().all(|part| text.contains(part)), "{name}: {text}");
        drop(error);
        assert_eq!(sim.live(), clean, "{name}: {text}");
    }
}

/// One map holds the configuration values of all programs of an object.
#[test]
fn configuration_values_are_in_one_map() {
    let kernel = Kernel::new(
        SimKernel::builder().config("CONFIG_HZ=100\nCONFIG_BPF_SYSCALL=y\n").build().expect("no BTF"),
    );
    let spec = open("kconfig.o");
    let plan = spec.relocate(&Loader::new(&kernel).target()).expect("it is set");
    let is_config = |map: &&skep::reloc::MapPlan| map.spec.role == MapRole::Kconfig;
    assert_eq!(plan.maps.iter().filter(is_config).count(), 1);
    let configs =
        spec.externs.iter().filter(|found| matches!(found.kind, ExternKind::Kconfig { .. })).count();
    let map = plan.maps.iter().position(|map| map.spec.role == MapRole::Kconfig).expect("it is made");
    let used = plan.programs[0].placeholders.iter();
    let used =
        used.filter(|used| used.value == PlaceholderValue::MapValue(skep::spec::MapIndex(map))).count();
    assert!(used >= configs - 1, "{used} uses of {configs} values");
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    let map = object.map(".kconfig").expect("it is there");
    assert!(
        map.update(&[0; 4], &vec![0; map.value_len()], skep::sys::abi::UpdateFlags::empty()).is_err(),
        "frozen"
    );
}

/// A packed configuration is read like a plain one; what is no gzip or never ends is an error or is cut.
#[test]
fn configurations_may_be_packed() {
    use std::io::Write;
    let pack = |text: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(text).expect("memory can be written");
        packed.finish().expect("memory can be written")
    };
    let hz = |config: Vec<u8>| {
        let kernel = Kernel::new(SimKernel::builder().config(config).build().expect("there is no BTF"));
        let spec = open("kconfig.o");
        let plan = spec.relocate(&Loader::new(&kernel).target()).map_err(|error| chain(&error))?;
        let found = spec.externs.iter().find(|found| found.name == "CONFIG_HZ").expect("it is there");
        let ExternKind::Kconfig { offset, .. } = found.kind else { panic!("it is an option") };
        let contents = &plan.map(".kconfig").expect("it is made").spec.contents;
        Ok::<_, String>(u32::from_ne_bytes(contents[offset as usize..][..4].try_into().expect("four bytes")))
    };
    let text = b"CONFIG_HZ=100\nCONFIG_BPF_SYSCALL=y\n";
    assert_eq!(hz(text.to_vec()), Ok(100));
    assert_eq!(hz(pack(text)), Ok(100));
    assert_eq!(hz([pack(text), pack(b"CONFIG_HZ=200\n")].concat()), Ok(100), "two members are one text");
    assert!(hz(pack(text)[..20].to_vec()).is_err(), "it ends too early");
    assert!(hz(vec![0x1f, 0x8b, 0, 0, 0]).is_err());
    let mut endless = text.to_vec();
    endless.resize(20 << 20, b'\n');
    assert_eq!(hz(pack(&endless)), Ok(100));
}

/// Another name of a program is a whole program: what its instructions refer to, its relocations and its records are those of
/// the first.
#[test]
fn another_name_of_a_program_is_a_program() {
    let spec = open("aliases.o");
    let target = BtfTarget::new(Btf::parse(vmlinux()).expect("the fixture is BTF"));
    let plan = spec.relocate(&target).expect("it fits");
    let [one, other] = ["count", "count_too"].map(|name| plan.program(name).expect("it is there"));
    assert_eq!(one.decisions.len(), 1);
    assert_eq!(one.placeholders.len(), 1);
    assert!(!one.func_info.is_empty() && !one.line_info.is_empty());
    assert_eq!((&one.insns, &one.placeholders), (&other.insns, &other.placeholders));
    assert_eq!((&one.func_info, &one.line_info), (&other.func_info, &other.line_info));
    let kernel = Kernel::new(sim());
    let object = Loader::new(&kernel).load(&spec).expect("it loads");
    let tag = |name: &str| object.program(name).expect("it is there").info().expect("it is known").tag;
    assert_eq!(tag("count"), tag("count_too"));
}

/// Variables of an arena where no map is declared are left out, as libbpf does; who refers to them is told.
#[test]
fn variables_of_no_arena_are_left_out() {
    let mut bytes = std::fs::read(testdata("arena.o")).expect("testdata can be read");
    let places: Vec<_> =
        bytes.windows(6).enumerate().filter(|(_, it)| it == b".maps\0").map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + 1] = b'x'); // another name, for the section and for its types
    let error = Spec::parse("arena", &bytes).expect_err("its programs refer to what is no arena");
    assert!(chain(&error).contains("holds neither maps nor data"), "{}", chain(&error));
}

use skep::ErrorKind;
use skep::asm::Reg;
use skep::map::Map;
use skep::program::ProgramBuilder;
use skep::query;
use skep::sys::abi::{Errno, LinkType, MapType, ProgId, ProgType};
use skep::sys::request::MapCreate;
use skep::sys::wrap::FaultInjection;
use skep::sys::{Feature, Kernel};

use crate::support::pin_path;

use super::{map, returning, skip};

pub(super) fn programs(kernel: &Kernel) {
    let name = format!("q{}", std::process::id());
    let used = map(kernel, MapType::ARRAY, 4, 8, 1);
    let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
    builder.name(format!("{name}_with_a_long_name")).load_map(Reg::R1, &used);
    builder.asm().mov64_imm(Reg::R0, 1).exit();
    let with_map = builder.load(kernel).unwrap().info().map(|info| info.id);
    assert!(with_map.is_ok(), "and it is gone");
    let with_map = builder.load(kernel).unwrap();
    let plain = returning(kernel, &name, 4);
    let (first, second) = (with_map.info().unwrap(), plain.info().unwrap());

    let ids =
        |query: query::Query<skep::Program>| -> Vec<ProgId> { query.map(|info| info.unwrap().id).collect() };
    let all = ids(query::programs(kernel));
    assert!(all.is_sorted() && all.contains(&first.id) && all.contains(&second.id));
    assert_eq!(ids(query::programs(kernel).named(&name)), [second.id]);
    let long = format!("{name}_with_a_long_name");
    assert!(ids(query::programs(kernel).named(&long)).contains(&first.id));
    assert!(!ids(query::programs(kernel).of_type(ProgType::XDP)).contains(&second.id));
    assert!(ids(query::programs(kernel).tagged(second.tag)).contains(&second.id));
    assert!(!ids(query::programs(kernel).tagged(second.tag)).contains(&first.id));
    assert!(ids(query::programs(kernel).using_map(used.id().unwrap())).contains(&first.id));
    assert!(!ids(query::programs(kernel).using_map(used.id().unwrap())).contains(&second.id));
    assert!(ids(query::programs(kernel).of_user(first.created_by_uid)).contains(&first.id));
    assert_eq!(ids(query::programs(kernel).of_user(first.created_by_uid + 1).named(&name)), []);
    assert_eq!(ids(query::programs(kernel).with_btf(second.btf_id).named(&name)), [second.id]);
    assert_eq!(ids(query::programs(kernel).matching(move |info| info.id == first.id)), [first.id]);

    let handles: Vec<_> = query::programs(kernel).named(&name).handles().collect::<Result<_, _>>().unwrap();
    assert_eq!(handles.len(), 1);
    assert_eq!((handles[0].name(), handles[0].info().unwrap().id), (name.as_str(), second.id));
}

pub(super) fn the_rest(kernel: &Kernel) {
    let name = format!("m{}", std::process::id());
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 3);
    request.name = &name;
    let hash = Map::create(kernel, &request).unwrap();
    let found: Vec<_> =
        query::maps(kernel).named(&name).of_type(MapType::HASH).collect::<Result<_, _>>().unwrap();
    assert_eq!((found.len(), found[0].id, found[0].max_entries), (1, hash.id().unwrap(), 3));
    assert_eq!(query::maps(kernel).named(&name).of_type(MapType::ARRAY).count(), 0);
    assert_eq!(query::maps(kernel).named(&name).with_btf(found[0].btf_id).count(), 1);
    let handle = query::maps(kernel).named(&name).handles().next().unwrap().unwrap();
    handle.update(&[1; 4], &[2; 8], Default::default()).unwrap();
    assert_eq!(hash.lookup(&[1; 4]).unwrap(), Some(vec![2; 8]));

    match kernel.btf() {
        Ok(_) => {
            let own: Vec<_> = query::btfs(kernel).named("vmlinux").collect::<Result<_, _>>().unwrap();
            match own.as_slice() {
                [own] => assert!(own.kernel),
                found => {
                    let nameless = kernel.has(Feature::ModuleBtf).is_unsupported();
                    assert!(nameless, "{} types of the kernel's own name", found.len());
                    skip("names of BTF objects", "this kernel has none (Linux 5.11)");
                }
            }
            assert!(query::btfs(kernel).of_kernel().handles().all(|btf| btf.unwrap().bytes().is_ok()));
        }
        Err(error) => skip("BTF objects", error),
    }

    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.name("linked").attach_to("sched_process_exec").asm().mov64_imm(Reg::R0, 0).exit();
    let program = builder.load(kernel).unwrap();
    let id = program.info().unwrap().id;
    let link = program.attach().unwrap();
    let Ok(link_id) = link.id() else {
        return skip("links", "this kernel has none that can be listed (Linux 5.8)");
    };
    let found: Vec<_> = query::links(kernel).of_program(id).collect::<Result<_, _>>().unwrap();
    assert_eq!((found.len(), found[0].id, found[0].link_type), (1, link_id, LinkType::RAW_TRACEPOINT));
    assert_eq!(query::links(kernel).of_program(id).of_type(LinkType::XDP).count(), 0);
    let handle = query::links(kernel).of_program(id).handles().next().unwrap().unwrap();
    assert_eq!(handle.id().unwrap(), link_id);
    drop(handle);
    assert_eq!(query::links(kernel).of_program(id).count(), 1, "the link is still held");
}

pub(super) fn while_objects_go(kernel: &Kernel) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for number in 0..30 {
                    drop((returning(kernel, "goes", number), map(kernel, MapType::ARRAY, 4, 4, 1)));
                }
            });
        }
        for _ in 0..30 {
            assert!(query::programs(kernel).all(|info| info.is_ok()));
            assert!(query::maps(kernel).handles().all(|map| map.is_ok()));
        }
    });

    // The same without chance: one is gone when it is opened.
    let (faulty, faults) = FaultInjection::around(kernel.backend_arc());
    let kernel = &Kernel::new(faulty);
    let name = format!("f{}", std::process::id());
    let _three = [1, 2, 3].map(|number| returning(kernel, &name, number));
    let count = |query: query::Query<skep::Program>| {
        query.named(&name).inspect(|info| assert!(info.is_ok(), "{info:?}")).count()
    };
    assert_eq!(count(query::programs(kernel)), 3);
    let others =
        query::programs(kernel).take_while(|info| info.as_ref().unwrap().name != name).count() as u64;
    // Others may come and go meanwhile, but not so many.
    for nth in others + 1..others + 3 {
        faults.fail_command("open_by_id", nth, Errno::ENOENT);
        assert!(count(query::programs(kernel)) >= 2);
    }
    faults.disarm();

    // Who may not list is told so, once.
    for command in ["next_id", "open_by_id"] {
        faults.fail_every(command, Errno::EPERM);
        let answers: Vec<_> = query::programs(kernel).collect();
        faults.disarm();
        let [Err(error)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((error.kind(), error.errno()), (ErrorKind::PermissionDenied, Some(Errno::EPERM)));
        assert!(
            error.to_string().starts_with("list programs of the kernel (that needs CAP_SYS_ADMIN"),
            "{error}"
        );
    }
}

pub(super) fn pins(kernel: &Kernel) {
    let root = pin_path(kernel, "queries");
    let below = root.join("below");
    let backend = kernel.backend();
    backend.create_pin_dir(&root).unwrap();
    backend.create_pin_dir(&below).unwrap();
    let (pinned, loose) = (returning(kernel, "pinned", 3), returning(kernel, "loose", 3));
    let array = map(kernel, MapType::ARRAY, 4, 4, 1);
    let mut places = vec![root.join("program"), below.join("again"), below.join("map")];
    pinned.pin(&places[0]).unwrap();
    pinned.pin(&places[1]).unwrap();
    array.pin(&places[2]).unwrap();
    // Where links cannot be pinned, they are no pins.
    let mut builder = ProgramBuilder::new(ProgType::RAW_TRACEPOINT, "GPL");
    builder.name("linked").attach_to("sched_process_exec").asm().mov64_imm(Reg::R0, 0).exit();
    let link = builder.load(kernel).unwrap().attach().unwrap();
    let link_id = link.pin(root.join("link")).and_then(|()| link.id()).ok();
    if link_id.is_some() {
        places.push(root.join("link"));
    } else {
        skip("pins of links", "this kernel has none (Linux 5.8)");
    }

    let found = query::pins(kernel, &root).unwrap();
    let paths: Vec<_> = found.iter().map(|pin| pin.path.clone()).collect();
    let mut expected = places.clone();
    expected.sort();
    let id = pinned.info().unwrap().id;
    let objects: Vec<_> = found
        .iter()
        .map(|pin| match &pin.object {
            query::PinnedObject::Program(info) => info.id == id,
            query::PinnedObject::Map(info) => info.id == array.id().unwrap(),
            query::PinnedObject::Link(info) => Some(info.id) == link_id,
            other => panic!("{other:?}"),
        })
        .collect();
    let programs = query::programs(kernel).pinned_below(&root).unwrap();
    let programs: Vec<_> = programs.map(|info| info.unwrap().id).collect();
    let maps = query::maps(kernel).pinned_below(&root).unwrap().count();
    let links = query::links(kernel).pinned_below(&root).unwrap().filter(Result::is_ok).count();
    let loose_id = loose.info().unwrap().id;

    for place in &places {
        backend.unpin(place).unwrap();
    }
    backend.remove_pin_dir(&below).unwrap();
    assert_eq!(query::pins(kernel, &root).unwrap(), []);
    backend.remove_pin_dir(&root).unwrap();

    assert_eq!(paths, expected);
    assert_eq!(objects, vec![true; places.len()]);
    assert_eq!((programs.as_slice(), maps, links), ([id].as_slice(), 1, usize::from(link_id.is_some())));
    assert!(!programs.contains(&loose_id));
    let gone = query::pins(kernel, &root).unwrap_err();
    assert!(gone.to_string().ends_with(" is not there)"), "{gone}");
    let other = query::pins(kernel, "/proc").unwrap_err();
    assert_eq!(other.to_string(), "list pins of the kernel (/proc is not on a bpffs)");
}

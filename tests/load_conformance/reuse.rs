//! Maps that are there already: replacements, successors of pinned ones, pins of whole objects.

use std::path::Path;
use std::sync::Arc;

use skep::load::{Migration, NoteKind, OnMismatch};
use skep::map::{HashMap, Map, PerCpuArray};
use skep::sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep::sys::request::MapCreate;
use skep::sys::wrap::{CallLog, FaultInjection};
use skep::sys::{Backend, MapFd};
use skep::{Error, ErrorKind, Kernel, Loader, Object, Spec};

use super::open;

const ANY: UpdateFlags = UpdateFlags::empty();

fn id(object: &Object, map: &str) -> u32 {
    object.map(map).expect("it is there").id().expect("the kernel knows it").0
}

pub(super) fn cause(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Given maps are used where they fit, with what is in them, whatever kind of map it is.
pub(crate) fn maps_can_be_given(kernel: &Kernel) {
    let spec = open("xdp_count.o");
    let first = Loader::new(kernel).load(&spec).expect("it loads");
    let flows = first.map("flows").expect("it is there");
    flows.update(&[1; 8], &[2; 16], ANY).expect("it can be written");
    let loader = Loader::new(kernel).replace_map("flows", flows);
    let second = loader.load(&spec).expect("it loads");
    assert_eq!((id(&second, "flows"), id(&first, "flows")), (id(&first, "flows"), id(&second, "flows")));
    assert_ne!(id(&second, "packets"), id(&first, "packets"));
    assert_eq!(second.map("flows").unwrap().lookup(&[1; 8]).unwrap().as_deref(), Some(&[2; 16][..]));
    let notes: Vec<_> = second.report().of(NoteKind::Reused).map(|note| note.subject.as_str()).collect();
    assert_eq!(notes, ["flows"]);
    let programs = second.program("xdp_count").unwrap().info().unwrap().map_ids;
    assert!(programs.iter().any(|held| held.0 == id(&first, "flows")), "{programs:?}");

    // What does not fit, is not there, or is elsewhere.
    let mut other = spec.clone();
    other.map_mut("flows").expect("it is there").max_entries += 1;
    let error = loader.load(&other).expect_err("it has another size");
    assert!(cause(&error).contains("max entries 1024 there, 1025 wanted"), "{}", cause(&error));
    let error = Loader::new(kernel).replace_map("no_such", flows).load(&spec).expect_err("no such map");
    assert!(matches!(error, Error::NoSuch { what: "map", .. }), "{error}");
    let foreign = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 8, 16, 1024)).unwrap();
    let error = Loader::new(kernel).replace_map("flows", &foreign).load(&spec).expect_err("elsewhere");
    assert!(cause(&error).contains("another kernel"), "{}", cause(&error));
}

/// Maps of variables and constants can be given too: they keep their bytes, and constants are frozen.
pub(crate) fn data_maps_can_be_given(kernel: &Kernel) {
    let spec = open("globals.o");
    let first = Loader::new(kernel).load(&spec).expect("it loads");
    first.set_global("data_u32", &7u32).expect("it can be written");
    let rodata = spec.map(".rodata").expect("it has constants");
    let mut request = MapCreate::new(MapType::ARRAY, 4, rodata.value_size, 1);
    request.flags = rodata.flags;
    let constants = Map::create(kernel, &request).expect("it can be made");
    let mut bytes = rodata.contents.clone();
    bytes.resize(constants.value_len(), 0);
    constants.update(&[0; 4], &bytes, ANY).expect("it is not frozen yet");
    let second = Loader::new(kernel)
        .replace_map(".data", first.map(".data").expect("it is there"))
        .replace_map(".rodata", &constants)
        .load(&spec)
        .expect("it loads");
    assert_eq!(second.global::<u32>("data_u32").expect("it can be read"), 7, "variables are shared");
    second.set_global("data_u32", &8u32).expect("it can be written");
    assert_eq!(first.global::<u32>("data_u32").expect("it can be read"), 8);
    let error = constants.update(&[0; 4], &bytes, ANY).expect_err("it is frozen now");
    assert_eq!(error.errno(), Some(Errno::EPERM));
}

/// Inner maps and elements of maps of maps are those that were given.
pub(crate) fn given_maps_are_put_into_others(kernel: &Kernel) {
    let spec = open("maps_order.o");
    let first = Loader::new(kernel).load(&spec).expect("it loads");
    let slots = |map: &skep::spec::MapSpec| {
        map.slots.iter().find_map(|slot| match slot.value {
            skep::spec::SlotValue::Map(held) => Some(spec.maps[held.0].name.clone()),
            _ => None,
        })
    };
    let (outer, name) = spec
        .maps
        .iter()
        .find_map(|map| Some((map.name.clone(), slots(map)?)))
        .expect("it has a map of maps with elements");
    let given = first.map(&name).expect("it is there");
    let second = Loader::new(kernel).replace_map(&name, given).load(&spec).expect("it loads");
    assert_eq!(id(&first, &name), id(&second, &name));
    // The elements of the outer map refer to the map by its id.
    let outer = second.map(&outer).expect("it is there");
    let holds =
        (0..outer.max_entries()).filter_map(|index| outer.lookup(&index.to_ne_bytes()).ok().flatten());
    let ids: Vec<u32> = holds.map(|id| u32::from_ne_bytes(id.try_into().expect("4 bytes"))).collect();
    assert!(ids.contains(&id(&first, &name)), "{ids:?}");
}

pub(super) struct Pinned<'a> {
    pub(super) backend: &'a Arc<dyn Backend>,
    pub(super) root: &'a Path,
}

impl Pinned<'_> {
    pub(super) fn names(&self) -> Vec<String> {
        match self.backend.pin_dir_entries(self.root) {
            Ok(entries) => entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect(),
            Err(Errno::ENOENT) => Vec::new(),
            Err(errno) => panic!("{errno}"),
        }
    }

    fn map(&self, kernel: &Kernel, name: &str) -> Map {
        Map::open_pinned(kernel, self.root.join(name), OpenFlags::empty()).expect("it is pinned")
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        for name in self.names() {
            let _ = self.backend.unpin(&self.root.join(name));
        }
        let _ = self.backend.remove_pin_dir(self.root);
    }
}

/// A pinned map that does not fit is kept, replaced or migrated, as is said; each new one takes the pin at once, when the
/// load succeeded.
pub(crate) fn pinned_maps_have_successors(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let pinned = Pinned { backend, root };
    let spec = open("pinned.o");
    let load = |spec: &Spec, policy| Loader::new(&kernel).pin_root(root).on_mismatch(policy).load(spec);
    let first = load(&spec, OnMismatch::Fail).expect("it loads");
    let old: HashMap<u32, u64> = first.map("skep_pinned").unwrap().typed().unwrap();
    for key in 0..5u32 {
        old.insert(&key, &(u64::from(key) * 10), ANY).expect("there is room");
    }
    let names = pinned.names();
    assert_eq!(names, ["skep_pinned", "skep_pinned_totals"]);

    let mut larger = spec.clone();
    larger.map_mut("skep_pinned").unwrap().max_entries = 64;
    let error = load(&larger, OnMismatch::Fail).expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(cause(&error).contains("on_mismatch"), "{}", cause(&error));
    assert_eq!(pinned.names(), names);

    // What a process left that was ended in the middle is in nobody's way.
    old_map(&first).pin(root.join("skep_pinned_next")).expect("it can be pinned");
    let second = load(&larger, OnMismatch::Migrate(Migration::grow())).expect("it loads");
    assert_eq!(pinned.names(), names);
    let new: HashMap<u32, u64> = pinned.map(&kernel, "skep_pinned").typed().unwrap();
    let mut entries: Vec<(u32, u64)> = new.iter().map(Result::unwrap).collect();
    entries.sort_unstable();
    assert_eq!(entries, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
    assert_eq!(id(&second, "skep_pinned"), pinned.map(&kernel, "skep_pinned").id().unwrap().0);
    assert_eq!(id(&second, "skep_pinned_totals"), id(&first, "skep_pinned_totals"), "it fits");
    assert_eq!(second.report().of(NoteKind::Replaced).count(), 1);

    // A function decides; and one map goes another way than the rest.
    let double = Migration::entries(|key, value| {
        let value = u64::from_ne_bytes(value.try_into().ok()?);
        (value != 20).then(|| (key.to_vec(), (value * 2).to_ne_bytes().to_vec()))
    });
    let mut third = larger.clone();
    third.map_mut("skep_pinned").unwrap().max_entries = 32;
    third.map_mut("skep_pinned_totals").unwrap().max_entries = 2;
    let loader = Loader::new(&kernel).pin_root(root).on_mismatch(OnMismatch::Migrate(double));
    let loader = loader.on_mismatch_of("skep_pinned_totals", OnMismatch::Replace);
    loader.load(&third).expect("it loads");
    let new: HashMap<u32, u64> = pinned.map(&kernel, "skep_pinned").typed().unwrap();
    assert_eq!((new.get(&4).unwrap(), new.get(&2).unwrap(), new.iter().count()), (Some(80), None, 4));
    assert_eq!(pinned.map(&kernel, "skep_pinned_totals").max_entries(), 2);

    // What cannot be migrated fails the load, and leaves everything.
    let mut small = third.clone();
    small.map_mut("skep_pinned").unwrap().max_entries = 2;
    let error = load(&small, OnMismatch::Migrate(Migration::grow())).expect_err("it is full");
    assert!(matches!(&error, Error::Load { source: skep::load::LoadError::Migrate { .. }, .. }), "{error:?}");
    let failing = Migration::with(|_, _| Err("not today".into()));
    let error = load(&small, OnMismatch::Migrate(failing)).expect_err("the function says so");
    assert!(cause(&error).ends_with("not today"), "{}", cause(&error));
    let mut narrow = third.clone();
    narrow.map_mut("skep_pinned").unwrap().value_size = 4;
    narrow.map_mut("skep_pinned").unwrap().value_type = None;
    let error = load(&narrow, OnMismatch::Migrate(Migration::grow())).expect_err("values are longer");
    assert!(cause(&error).contains("values have 8 bytes and the new one's 4"), "{}", cause(&error));
    let error = loader.clone().on_mismatch_of("no_such", OnMismatch::Fail).load(&third);
    assert!(matches!(error, Err(Error::NoSuch { .. })));
    assert_eq!(pinned.names(), names);
    assert_eq!(pinned.map(&kernel, "skep_pinned").max_entries(), 32);

    // Two who replace maps in one directory do not do so at once.
    let _lock = backend.lock_pin_dir(root).expect("nobody else has it");
    let error = load(&larger, OnMismatch::Replace).expect_err("it is locked");
    assert_eq!(error.errno(), Some(Errno::EAGAIN));
    assert!(cause(&error).contains("locked"), "{}", cause(&error));
}

fn old_map(object: &Object) -> &MapFd {
    object.map("skep_pinned").expect("it is there").as_map_fd()
}

/// Each single call of a load that replaces pinned maps fails in turn: the old ones are pinned then, and nothing else; or
/// the load went another way and the new ones are.
pub(crate) fn a_failed_load_keeps_pinned_maps(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let pinned = Pinned { backend, root };
    let spec = open("pinned.o");
    let mut larger = spec.clone();
    larger.map_mut("skep_pinned").unwrap().max_entries = 64;
    larger.map_mut("skep_pinned_totals").unwrap().max_entries = 2;
    let (faulty, faults) = FaultInjection::around(backend.clone());
    let faulty = Kernel::new(faulty);
    let policy = || OnMismatch::Migrate(Migration::grow());
    let upgrade = || Loader::new(&faulty).pin_root(root).on_mismatch(policy()).load(&larger);
    for call in 1.. {
        drop(Loader::new(&kernel).pin_root(root).load(&spec).expect("it loads"));
        let ids = ["skep_pinned", "skep_pinned_totals"].map(|name| pinned.map(&kernel, name).id().unwrap());
        faults.disarm();
        faults.reset_counts();
        faults.fail_call(call, Errno::ENOMEM);
        let failed = upgrade().is_err();
        let there = ["skep_pinned", "skep_pinned_totals"].map(|name| pinned.map(&kernel, name).id().unwrap());
        assert_eq!(pinned.names(), ["skep_pinned", "skep_pinned_totals"], "call {call}");
        if failed {
            assert_eq!(there, ids, "call {call}");
        } else {
            assert!(there.iter().all(|id| !ids.contains(id)), "call {call}");
        }
        for name in pinned.names() {
            backend.unpin(&root.join(name)).expect("it is there");
        }
        if faults.fired() == 0 {
            assert!(call > 20, "{call} calls");
            break;
        }
    }
}

/// Values of per-CPU maps grow each for itself.
pub(crate) fn values_per_cpu_grow(kernel: &Kernel, root: &Path) {
    let backend = kernel.backend_arc();
    let kernel = Kernel::from_arc(backend.clone());
    let pinned = Pinned { backend: &backend, root };
    let mut spec = open("xdp_count.o");
    let packets = spec.map_mut("packets").unwrap();
    packets.pinning = skep::spec::Pinning::ByName;
    packets.value_type = None;
    let first = Loader::new(&kernel).pin_root(root).load(&spec).expect("it loads");
    let old: PerCpuArray<u64> = first.map("packets").unwrap().typed().unwrap();
    let cpus = old.get(3).unwrap().expect("it is there").iter().count() as u64;
    let values: Vec<u64> = (1..=cpus).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    first.map("packets").unwrap().update(&3u32.to_ne_bytes(), &bytes, ANY).unwrap();
    let packets = spec.map_mut("packets").unwrap();
    (packets.value_size, packets.max_entries) = (12, 300);
    let loader = Loader::new(&kernel).pin_root(root).on_mismatch(OnMismatch::Migrate(Migration::grow()));
    loader.load(&spec).expect("it loads");
    let new = pinned.map(&kernel, "packets");
    let value = new.lookup(&3u32.to_ne_bytes()).unwrap().expect("it is there");
    let expected: Vec<u8> = values.iter().flat_map(|value| [value.to_ne_bytes(), [0; 8]].concat()).collect();
    assert_eq!(value, expected);
}

/// Entries come into a successor many at once, and what a function makes of them is checked one by one.
pub(crate) fn entries_migrate_many_at_once(backend: &Arc<dyn Backend>, root: &Path) {
    let (log, calls) = CallLog::around(backend.clone());
    let kernel = Kernel::new(log);
    let pinned = Pinned { backend, root };
    let mut spec = open("pinned.o");
    spec.map_mut("skep_pinned").unwrap().max_entries = 20_000;
    let load = |spec: &Spec, policy| Loader::new(&kernel).pin_root(root).on_mismatch(policy).load(spec);
    let first = load(&spec, OnMismatch::Fail).expect("it loads");
    let keys: Vec<u32> = (0..10_000).collect();
    let values: Vec<u64> = keys.iter().map(|&key| u64::from(key) * 3).collect();
    let old: HashMap<u32, u64> = first.map("skep_pinned").unwrap().typed().unwrap();
    old.insert_many(&keys, &values, ANY).expect("there is room");

    for (grown, convert) in [(8, false), (16, false), (16, true)] {
        let map = spec.map_mut("skep_pinned").unwrap();
        (map.max_entries, map.value_size, map.value_type) = (map.max_entries + 1, grown, None);
        let longer =
            |key: &[u8], value: &[u8]| Some((key.to_vec(), [value, &[0; 8]].concat()[..16].to_vec()));
        let migration = if convert { Migration::entries(longer) } else { Migration::grow() };
        calls.take();
        load(&spec, OnMismatch::Migrate(migration)).expect("it loads");
        assert!(calls.len() < 500, "{} calls for {} entries", calls.len(), keys.len());
        let new = pinned.map(&kernel, "skep_pinned");
        let mut entries: Vec<(u32, u64)> = Vec::new();
        for entry in new.entries_batched(1000) {
            let (key, value) = entry.unwrap();
            assert_eq!(value.len(), grown as usize);
            assert!(value[8..].iter().all(|&byte| byte == 0));
            entries.push((
                u32::from_ne_bytes(key[..].try_into().unwrap()),
                u64::from_ne_bytes(value[..8].try_into().unwrap()),
            ));
        }
        entries.sort_unstable();
        assert!(entries.iter().copied().eq(keys.iter().copied().zip(values.iter().copied())));
    }

    // Too short and too long by as much: all of them together have the right length.
    spec.map_mut("skep_pinned").unwrap().max_entries += 1;
    let uneven =
        |key: &[u8], _: &[u8]| Some((key.to_vec(), vec![0; if key[0].is_multiple_of(2) { 15 } else { 17 }]));
    let error = load(&spec, OnMismatch::Migrate(Migration::entries(uneven))).expect_err("lengths are wrong");
    assert!(cause(&error).contains("15") || cause(&error).contains("17"), "{}", cause(&error));
    let uneven = |key: &[u8], value: &[u8]| Some((key[..3].to_vec(), value.to_vec()));
    let error = load(&spec, OnMismatch::Migrate(Migration::entries(uneven))).expect_err("keys are too short");
    assert!(cause(&error).contains('3'), "{}", cause(&error));
}

/// Every part of an object is pinned in one directory, or none is.
pub(crate) fn objects_are_pinned_as_a_whole(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let pinned = Pinned { backend, root };
    let object = Loader::new(&kernel).load(&open("globals.o")).expect("it loads");
    let pins = object.pin_all(root).expect("it can be pinned");
    let paths: Vec<_> = pins.paths().map(Path::to_owned).collect();
    assert_eq!(paths.len(), object.maps().count() + object.programs().count());
    for name in ["rodata", "data_custom", "sum_all"] {
        assert!(pinned.names().iter().any(|there| there == name), "{name}: {:?}", pinned.names());
    }
    assert_eq!(pinned.map(&kernel, "bss").id().unwrap(), object.map(".bss").unwrap().id().unwrap());
    assert_eq!(pins.map(".data.custom"), Some(root.join("data_custom").as_path()));
    assert_eq!(pins.program("sum_all"), Some(root.join("sum_all").as_path()));
    assert_eq!((pins.map("sum_all"), pins.program("no_such")), (None, None));
    let again = object.pin_all(root).expect("it is pinned already");
    assert!(again.paths().eq(pins.paths()));
    again.undo().expect("there is nothing to do");
    assert_eq!(pinned.names().len(), paths.len(), "it made none of them");
    let other = Loader::new(&kernel).load(&open("globals.o")).expect("it loads");
    let error = other.pin_all(root).expect_err("the paths are taken");
    assert_eq!((error.errno(), error.kind()), (Some(Errno::EEXIST), ErrorKind::Exists));
    assert!(error.to_string().contains(root.to_str().unwrap()), "{error}");
    other.unpin_all(root).expect("nothing of it is there");
    assert_eq!(pinned.names().len(), paths.len());
    object.unpin_all(root).expect("it can be removed");
    assert!(pinned.names().is_empty());
    assert!(!backend.is_bpffs(root).unwrap(), "the directory is gone");
    object.unpin_all(root).expect("there is nothing to remove");
    let pins = object.pin_all(root).expect("it can be pinned");
    backend.unpin(&root.join("bss")).unwrap();
    pins.undo().expect("it can be taken back, though one is gone already");
    assert!(!backend.is_bpffs(root).unwrap(), "the directory is gone");

    // One path is taken by something else: nothing is pinned.
    backend.create_pin_dir(root).unwrap();
    other.program("limit").unwrap().pin(root.join("limit")).unwrap();
    let error = object.pin_all(root).expect_err("a path is taken");
    assert!(error.to_string().contains("limit"), "{error}");
    assert_eq!(pinned.names(), ["limit"]);
    let error = object.pin_all("/tmp/skep-not-a-bpffs").expect_err("it is not on a bpffs");
    assert!(error.to_string().contains("no bpffs is mounted there"), "{error}");
    assert!(!Path::new("/tmp/skep-not-a-bpffs").exists());
    let error = object.pin_all(root.join("a/b")).expect_err("the parent is missing");
    assert!(error.to_string().contains("parent directory must exist"), "{error}");
}

/// A handle that is open for reading or writing only does nothing else, and says why.
pub(crate) fn handles_can_be_for_reading_only(kernel: &Kernel, root: &Path) {
    let backend = kernel.backend_arc();
    let kernel = Kernel::from_arc(backend.clone());
    let _pinned = Pinned { backend: &backend, root };
    let object = Loader::new(&kernel).load(&open("xdp_count.o")).expect("it loads");
    object.pin_all(root).expect("it can be pinned");
    let path = root.join("flows");
    object.map("flows").unwrap().update(&[1; 8], &[2; 16], ANY).unwrap();
    let reading = Map::open_pinned(&kernel, &path, OpenFlags::RDONLY).expect("it is pinned");
    let flows: HashMap<[u8; 8], [u8; 16]> = reading.typed().expect("views take such handles");
    assert_eq!(flows.get(&[1; 8]).unwrap(), Some([2; 16]));
    assert_eq!(flows.iter().count(), 1);
    for refused in [
        flows.insert(&[1; 8], &[3; 16], ANY).map(drop),
        flows.remove(&[1; 8]).map(drop),
        reading.update(&[1; 8], &[3; 16], ANY),
    ] {
        let error = refused.expect_err("it is for reading");
        assert_eq!((error.kind(), error.errno()), (skep::map::MapErrorKind::Denied, Some(Errno::EPERM)));
        assert!(error.to_string().contains("opened for reading"), "{error}");
    }
    let writing = Map::open_pinned(&kernel, &path, OpenFlags::WRONLY).expect("it is pinned");
    writing.update(&[4; 8], &[5; 16], ANY).expect("it is for writing");
    let error = writing.lookup(&[4; 8]).expect_err("it is for writing");
    assert!(error.to_string().contains("opened for writing only"), "{error}");
    assert_eq!(writing.shape().flags, MapFlags::empty());
}

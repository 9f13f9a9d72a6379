//! Maps that loads share by the name that they are pinned by: of every kind, those of variables, and when several load at once.

use std::path::Path;
use std::sync::{Arc, Mutex};

use skep::load::NoteKind;
use skep::spec::{MapSpec, Pinning};
use skep::sys::abi::{Errno, MapFlags, MapType};
use skep::sys::wrap::FaultInjection;
use skep::sys::{Backend, Feature};
use skep::{ErrorKind, Kernel, Loader, Object, Spec};

use super::open;
use super::reuse::{Pinned, cause};

fn id(object: &Object, map: &str) -> u32 {
    object.map(map).expect("it is there").id().expect("the kernel knows it").0
}

/// The object of pinned maps with one only, of another shape, and without programs.
fn with_map(change: impl FnOnce(&mut MapSpec)) -> Spec {
    let mut spec = open("pinned.o");
    spec.programs.iter_mut().for_each(|program| program.autoload = false);
    spec.maps.iter_mut().for_each(|map| (map.pinning, map.autocreate) = (Pinning::None, false));
    let map = spec.map_mut("skep_pinned").expect("it is there");
    (map.pinning, map.autocreate) = (Pinning::ByName, true);
    (map.key_type, map.value_type) = (None, None);
    change(map);
    spec
}

/// What the kernel makes of a map is what was asked for, whatever it adds by itself.
pub(crate) fn maps_of_every_kind_are_found_again(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let none = MapFlags::empty();
    for (map_type, key, value, entries, flags) in [
        (MapType::ARRAY, 4, 8, 4, none),
        (MapType::HASH, 4, 8, 4, none),
        (MapType::HASH, 4, 8, 4, MapFlags::NO_PREALLOC),
        (MapType::ARRAY, 4, 8, 4, MapFlags::RDONLY_PROG),
        (MapType::LRU_HASH, 4, 8, 4, none),
        (MapType::PERCPU_HASH, 4, 8, 4, none),
        (MapType::PERCPU_ARRAY, 4, 8, 4, none),
        (MapType::LPM_TRIE, 8, 8, 4, MapFlags::NO_PREALLOC),
        (MapType::QUEUE, 0, 8, 4, none),
        (MapType::BLOOM_FILTER, 0, 8, 4, none),
        (MapType::STACK_TRACE, 4, 8, 4, none),
        (MapType::PROG_ARRAY, 4, 4, 4, none),
        // As many as there are CPUs.
        (MapType::PERF_EVENT_ARRAY, 4, 4, 0, none),
        // Rounded to pages.
        (MapType::RINGBUF, 0, 0, 5000, none),
        (MapType::DEVMAP, 4, 4, 4, none),
        (MapType::DEVMAP, 4, 8, 4, none),
        (MapType::DEVMAP_HASH, 4, 8, 4, none),
        (MapType::CPUMAP, 4, 4, 2, none),
        (MapType::SOCKMAP, 4, 4, 4, none),
        (MapType::SOCKHASH, 4, 4, 4, none),
    ] {
        if kernel.has(Feature::MapType(map_type)).is_unsupported() {
            println!("skip: maps_of_every_kind_are_found_again: this kernel has no {map_type}");
            continue;
        }
        let _pinned = Pinned { backend, root };
        let spec = with_map(|map| {
            (map.map_type, map.flags, map.max_entries) = (map_type, flags, entries);
            (map.key_size, map.value_size) = (key, value);
        });
        let load = |spec: &Spec| Loader::new(&kernel).pin_root(root).load(spec);
        let first = load(&spec).unwrap_or_else(|error| panic!("{map_type}: {}", cause(&error)));
        let second = load(&spec).unwrap_or_else(|error| panic!("{map_type} again: {}", cause(&error)));
        assert_eq!(id(&first, "skep_pinned"), id(&second, "skep_pinned"), "{map_type}");
        assert_eq!(second.report().of(NoteKind::Reused).count(), 1);

        // All that differs is said at once.
        let mut other = spec;
        let map = other.map_mut("skep_pinned").expect("it is there");
        (map.key_size, map.value_size) = (map.key_size + 4, map.value_size + 8);
        let error = load(&other).expect_err("it is another map");
        let text = cause(&error);
        assert_eq!(error.kind(), ErrorKind::Exists, "{text}");
        let sizes = format!(
            "key size {key} there, {} wanted, value size {value} there, {} wanted",
            key + 4,
            value + 8
        );
        assert!(text.contains(&sizes), "{text}");
    }
}

/// Variables go on where the last load left them, and constants stay what they were.
pub(crate) fn variables_are_found_again(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let pinned = Pinned { backend, root };
    let mut spec = open("globals.o");
    for map in [".data", ".rodata"] {
        spec.map_mut(map).expect("it is there").pinning = Pinning::ByName;
    }
    let load = |spec: &Spec| {
        Loader::new(&kernel).pin_root(root).load(spec).unwrap_or_else(|error| panic!("{}", cause(&error)))
    };
    let first = load(&spec);
    assert_eq!(pinned.names(), ["data", "rodata"]);
    first.set_global("data_u32", &5u32).expect("it can be written");
    first.set_global("bss_count", &5u64).expect("it can be written");
    drop(first);
    spec.set_global("data_u32", &6u32).expect("it has four bytes");
    spec.set_global("config_limit", &7u32).expect("it has four bytes");
    let second = load(&spec);
    assert_eq!(second.global::<u32>("data_u32").expect("it can be read"), 5);
    assert_eq!(second.global::<u64>("bss_count").expect("it can be read"), 0, "it is not pinned");
    assert_eq!(second.global::<u32>("config_limit").expect("it can be read"), 100);
    let constants = second.map(".rodata").expect("it is there");
    let error = constants.update(&[0; 4], &vec![0; constants.value_len()], Default::default());
    assert_eq!(error.expect_err("it is frozen").errno(), Some(Errno::EPERM));
}

/// Whatever another load does at any moment of this one, both have the same maps.
pub(crate) fn loads_at_once_share_maps(backend: &Arc<dyn Backend>, root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let spec = open("pinned.o");
    let (faulty, faults) = FaultInjection::around(backend.clone());
    let faulty = Kernel::new(faulty);
    let mut others = 0;
    for call in 1.. {
        let _pinned = Pinned { backend, root };
        let other = Arc::new(Mutex::new(None));
        let (kept, theirs, path, object) = (other.clone(), kernel.clone(), root.to_owned(), spec.clone());
        faults.disarm();
        faults.reset_counts();
        faults.before_call(call, move || {
            *kept.lock().expect("nobody panics") = Some(Loader::new(&theirs).pin_root(path).load(&object));
        });
        let mine = Loader::new(&faulty).pin_root(root).load(&spec);
        let mine = mine.unwrap_or_else(|error| panic!("another load before call {call}: {}", cause(&error)));
        let Some(other) = other.lock().expect("nobody panics").take() else { break };
        let other = other.unwrap_or_else(|error| panic!("beside one at call {call}: {}", cause(&error)));
        for map in ["skep_pinned", "skep_pinned_totals"] {
            assert_eq!(id(&mine, map), id(&other, map), "another load before call {call}");
        }
        assert_ne!(id(&mine, "skep_private"), id(&other, "skep_private"));
        others += 1;
    }
    assert!(others > 10, "{others} calls");
}

//! Maps that are defined without BTF, and maps in any order, switched off or in elements of others.

use std::path::Path;
use std::sync::Arc;

use skep::load::NoteKind;
use skep::spec::{MapRole, MapSpec, Pinning, ReferenceTarget, SlotValue, Spec};
use skep::sys::abi::{MapFlags, MapType, ProgType, UpdateFlags};
use skep::sys::{Backend, Feature, Probe};
use skep::{Kernel, Loader, Object};

use super::{open, remove_pins};

/// Objects with such maps, with and without BTF.
pub(crate) const OBJECTS: [&str; 9] = [
    "maps_legacy.o",
    "maps_legacy_no_btf.o",
    "maps_legacy_sections.o",
    "maps_legacy_aya.o",
    "maps_legacy_samples.o",
    "maps_legacy_samples_no_btf.o",
    "maps_order.o",
    "tc_legacy.o",
    "tc_legacy_no_btf.o",
];

/// As [`open`], with nothing pinned.
pub(crate) fn open_unpinned(name: &str) -> Spec {
    let mut spec = open(name);
    spec.maps.iter_mut().for_each(|map| map.pinning = Pinning::None);
    spec
}

pub(crate) fn load(kernel: &Kernel, spec: &Spec) -> Object {
    Loader::new(kernel).load(spec).unwrap_or_else(|error| {
        panic!("{}: {error}: {:?}", spec.name, std::error::Error::source(&error).map(ToString::to_string))
    })
}

/// Whether the kernel knows all kinds of maps of an object. Says what it skips.
fn knows_kinds(kernel: &Kernel, spec: &Spec) -> bool {
    let lacks = |map: &&MapSpec| !matches!(kernel.has(Feature::MapType(map.map_type)), Probe::Supported);
    let unknown = spec.maps.iter().find(lacks);
    if let Some(map) = unknown {
        println!("skip: {}: this kernel knows no {}", spec.name, map.map_type);
    }
    unknown.is_none()
}

/// Every map is made as it is defined, and holds the maps that it is to hold.
pub(crate) fn they_are_made_as_defined(kernel: &Kernel) {
    for name in OBJECTS.iter().chain(&["maps_btf.o", "map_in_map.o"]) {
        let spec = open_unpinned(name);
        if !knows_kinds(kernel, &spec) {
            continue;
        }
        let object = load(kernel, &spec);
        assert_eq!(object.maps().count(), spec.maps.len(), "{name}");
        for map in &spec.maps {
            let made = object.map(&map.name).expect("it is there");
            let shape = made.shape();
            assert_eq!((shape.map_type, shape.key_size), (map.map_type, map.key_size), "{name} {}", map.name);
            assert_eq!(shape.value_size, map.value_size, "{name} {}", map.name);
            if map.max_entries != 0 {
                assert_eq!(shape.max_entries, map.max_entries, "{name} {}", map.name);
            }
            let info = made.info().expect("the kernel knows it");
            // This one a kernel sets by itself.
            let own = if map.map_type == MapType::DEVMAP { MapFlags::RDONLY_PROG } else { MapFlags::empty() };
            assert_eq!(info.flags - own, map.flags, "{name} {}", map.name);
            assert_eq!(info.map_extra, map.map_extra, "{name} {}", map.name);
            // Of some other kinds a kernel wants no types.
            if matches!(map.map_type, MapType::HASH | MapType::ARRAY) {
                let key_type = map.key_type.map_or(0, |id| id.0);
                assert_eq!(info.btf_key_type_id, key_type, "{name} {}", map.name);
            }
            for slot in &map.slots {
                let held = made.lookup(&slot.index.to_ne_bytes()).expect("it can be read");
                let held = held.unwrap_or_else(|| panic!("{name} {}[{}] is empty", map.name, slot.index));
                let id = match slot.value {
                    SlotValue::Map(index) => {
                        let map = object.map(&spec.maps[index.0].name).expect("it is there");
                        map.id().expect("it has one").0
                    }
                    SlotValue::Program(index) => {
                        let program = object.program(&spec.programs[index.0].name).expect("it is there");
                        program.info().expect("the kernel knows it").id.0
                    }
                };
                assert_eq!(held, id.to_ne_bytes(), "{name} {}[{}]", map.name, slot.index);
            }
        }
    }
    let tc = open_unpinned("tc_legacy.o");
    let slots: Vec<usize> = tc.maps.iter().map(|map| map.slots.len()).collect();
    assert_eq!(slots, [1, 2, 1, 0, 0, 1, 0, 0]);
    let types: Vec<ProgType> = tc.programs.iter().map(|program| program.prog_type).collect();
    let tc_type = ProgType::SCHED_CLS;
    assert_eq!(types, [tc_type, tc_type, tc_type, tc_type, ProgType::UNSPEC, ProgType::SCHED_ACT]);
}

/// Any map of these and `more` objects may be left out: those that would hold it do without, and programs that need it are not loaded.
pub(crate) fn any_map_may_be_left_out(kernel: &Kernel, more: &[&str]) {
    for name in OBJECTS.iter().chain(&["map_in_map.o", "maps_btf.o", "globals.o"]).chain(more) {
        let whole = open_unpinned(name);
        if !knows_kinds(kernel, &whole) {
            continue;
        }
        for left_out in 0..whole.maps.len() {
            let mut spec = whole.clone();
            spec.maps[left_out].autocreate = false;
            for program in &mut spec.programs {
                let needs = |target| match target {
                    ReferenceTarget::Map(map) | ReferenceTarget::MapValue { map, .. } => map.0 == left_out,
                    ReferenceTarget::Extern(_) => spec.maps[left_out].role == MapRole::Kconfig,
                    _ => false,
                };
                // Whichever program calls the sub-programs.
                let functions = spec.functions.iter().enumerate();
                let mut code = functions
                    .filter(|(index, function)| function.subprogram || *index == program.function.0)
                    .flat_map(|(_, function)| &function.references);
                program.autoload &= !code.any(|reference| needs(reference.target));
            }
            let object = load(kernel, &spec);
            let map = &spec.maps[left_out].name;
            assert!(object.map(map).is_err(), "{name} {map}");
            assert_eq!(object.maps().count(), spec.maps.len() - 1, "{name} {map}");
            for other in spec.maps.iter().filter(|other| other.autocreate) {
                for slot in &other.slots {
                    let SlotValue::Map(index) = slot.value else { continue };
                    let there =
                        object.map(&other.name).expect("it is there").lookup(&slot.index.to_ne_bytes());
                    let there = there.expect("it can be read").is_some();
                    assert_eq!(there, index.0 != left_out, "{name} {}[{}]", other.name, slot.index);
                    let noted = object.report().of(NoteKind::Skipped).any(|note| {
                        note.to_string().contains(&format!("element {} stays empty", slot.index))
                    });
                    assert!(there || noted, "{name} {map}: {:?}", object.report());
                }
            }
        }
    }
}

/// Maps for all objects are pinned where tc pins them, and found there.
pub(crate) fn maps_are_shared_as_tc_shares_them(backend: &Arc<dyn Backend>, pin_root: &Path) {
    let kernel = Kernel::from_arc(backend.clone());
    let loader = Loader::new(&kernel).pin_root(pin_root);
    let first = loader.load(&open("tc_legacy.o")).expect("it loads");
    let id = |object: &Object| object.map("skep_shared").expect("it is there").id().expect("it has one");
    let path = pin_root.join("tc/globals/skep_shared");
    let pinned = kernel.map_open_pinned(&path, skep::sys::abi::OpenFlags::empty()).expect("it is pinned");
    assert_eq!(pinned.info().expect("the kernel knows it").id, id(&first));
    let second = loader.load(&open("tc_legacy_no_btf.o")).expect("it loads");
    assert_eq!(id(&first), id(&second));
    assert_eq!(second.report().of(NoteKind::Reused).count(), 1);
    let pinned_for_one =
        second.report().of(NoteKind::Skipped).any(|note| note.to_string().contains("`jumps`"));
    assert!(pinned_for_one, "{:?}", second.report());
    drop((first, second, pinned));
    remove_pins(backend, pin_root);

    let aya = loader.load(&open("maps_legacy_aya.o")).expect("it loads");
    let path = pin_root.join("skep_pinned");
    assert!(kernel.map_open_pinned(&path, skep::sys::abi::OpenFlags::empty()).is_ok());
    assert!(aya.report().of(NoteKind::Reused).next().is_none());
    drop(aya);
    remove_pins(backend, pin_root);
}

/// A map of maps of which the object says no inner map is not made, and the error says what to do.
pub(crate) fn an_inner_map_can_be_given(kernel: &Kernel) {
    let mut spec = open_unpinned("maps_legacy_samples.o");
    let inner = spec.map_mut("outer").expect("it is there").inner.take();
    let error = Loader::new(kernel).load(&spec).expect_err("nothing is known of its inner maps");
    let text = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(text.contains("`outer`") && text.contains("set MapSpec::inner"), "{text}");
    spec.map_mut("outer").expect("it is there").inner = inner;
    let object = load(kernel, &spec);
    let outer = object.map("outer").expect("it is there");
    assert_eq!(outer.map_type(), MapType::ARRAY_OF_MAPS);
    let held = object.map("inner").expect("it is there").as_map_fd();
    outer
        .as_map_fd()
        .update_map(&1u32.to_ne_bytes(), held, UpdateFlags::empty())
        .expect("it takes such maps");
}

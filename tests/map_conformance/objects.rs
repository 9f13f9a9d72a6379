//! Kinds whose values are programs and maps.

use std::os::fd::AsFd;

use skep::asm::{Assembler, Reg};
use skep::map::{Array, ArrayOfMaps, HashMap, HashOfMaps, InstructionArray, InstructionPlace};
use skep::map::{Map, MapErrorKind, ProgramArray};
use skep::sys::abi::{Errno, MapType, ProgType, UpdateFlags};
use skep::sys::request::{MapCreate, ProgLoad};
use skep::sys::{Feature, Kernel, LoadedProgram};

use super::{ANY, assert_error, map};

/// A program that does nothing.
fn program(kernel: &Kernel, prog_type: ProgType) -> LoadedProgram {
    let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    kernel.prog_load(&ProgLoad::new(prog_type, &insns, "GPL"), None).unwrap()
}

pub(super) fn programs(kernel: &Kernel) {
    let array: ProgramArray = map(kernel, MapType::PROG_ARRAY, 4, 4, 4).typed().unwrap();
    let (one, two) = (program(kernel, ProgType::XDP), program(kernel, ProgType::XDP));
    assert_eq!((array.len(), array.is_empty()), (4, false));
    assert_eq!(array.get(0).unwrap(), None);
    array.set(0, &one).unwrap();
    array.set(3, &two).unwrap();
    let ids = (one.info().unwrap().id, two.info().unwrap().id);
    assert_eq!((array.get(0).unwrap(), array.get(3).unwrap()), (Some(ids.0), Some(ids.1)));
    assert_eq!(array.get(4).unwrap(), None);
    let all: Vec<_> = (&array).into_iter().map(Result::unwrap).collect();
    assert_eq!(all, [(0, ids.0), (3, ids.1)]);
    array.set(0, &two).unwrap();
    assert_eq!(array.get(0).unwrap(), Some(ids.1));

    let other = program(kernel, ProgType::SOCKET_FILTER);
    assert_error(array.set(1, &other), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(array.set(4, &one), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(array.remove(4), MapErrorKind::Full, Some(Errno::E2BIG));
    assert!(array.remove(0).unwrap());
    assert!(!array.remove(0).unwrap());
    // It holds what is in it.
    drop(two);
    assert!(kernel.prog_by_id(ids.1).is_ok());
    let elsewhere = program(&skep::sim::kernel(), ProgType::XDP);
    let error = array.set(0, &elsewhere).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Other, None), "{error}");
}

fn of_maps(kernel: &Kernel, map_type: MapType, key: u32, inner: &Map) -> Map {
    let mut request = MapCreate::new(map_type, key, 4, 3);
    request.name = "under_test";
    request.inner_map = Some(inner.as_fd());
    Map::create(kernel, &request).unwrap()
}

pub(super) fn array_of_maps(kernel: &Kernel) {
    let inner = |entries| map(kernel, MapType::ARRAY, 4, 8, entries);
    let (one, two) = (inner(16), inner(16));
    let outer: ArrayOfMaps = of_maps(kernel, MapType::ARRAY_OF_MAPS, 4, &one).typed().unwrap();
    assert_eq!((outer.len(), outer.is_empty()), (3, false));
    assert!(outer.get(0).unwrap().is_none());
    outer.set(0, &one).unwrap();
    outer.set(2, &two).unwrap();
    let ids = (one.id().unwrap(), two.id().unwrap());
    assert_eq!((outer.id(0).unwrap(), outer.id(1).unwrap(), outer.id(3).unwrap()), (Some(ids.0), None, None));
    let all: Vec<_> = (&outer).into_iter().map(Result::unwrap).collect();
    assert_eq!(all, [(0, ids.0), (2, ids.1)]);

    // It holds what is in it, and what is opened is the same map.
    one.typed::<Array<u64>>().unwrap().set(5, &55, ANY).unwrap();
    drop(one);
    let held: Array<u64> = outer.get(0).unwrap().expect("it was put there").typed().unwrap();
    assert_eq!(held.get(5).unwrap(), Some(55));

    assert_error(outer.set(1, &inner(8)), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(
        outer.set(1, &map(kernel, MapType::HASH, 4, 8, 16)),
        MapErrorKind::Invalid,
        Some(Errno::EINVAL),
    );
    assert_error(outer.set(3, &two), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(outer.remove(3), MapErrorKind::Full, Some(Errno::E2BIG));
    assert!(outer.remove(0).unwrap());
    assert!(!outer.remove(0).unwrap());
    assert_eq!(outer.iter().count(), 1);
    assert!(outer.as_map().typed::<HashOfMaps<u32>>().is_err());
}

pub(super) fn hash_of_maps(kernel: &Kernel) {
    let inner = |map_type| map(kernel, map_type, 4, 8, 16);
    let (one, two) = (inner(MapType::HASH), inner(MapType::HASH));
    let outer: HashOfMaps<[u8; 6]> = of_maps(kernel, MapType::HASH_OF_MAPS, 6, &one).typed().unwrap();
    let (a, b) = ([1; 6], [2; 6]);
    assert!(outer.get(&a).unwrap().is_none());
    assert_error(outer.insert(&a, &one, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    outer.insert(&a, &one, UpdateFlags::NOEXIST).unwrap();
    assert_error(outer.insert(&a, &two, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    outer.insert(&b, &two, ANY).unwrap();
    outer.insert(&[3; 6], &two, ANY).unwrap();
    assert_error(outer.insert(&[4; 6], &two, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(outer.insert(&b, &inner(MapType::ARRAY), ANY), MapErrorKind::Invalid, Some(Errno::EINVAL));

    one.typed::<HashMap<u32, u64>>().unwrap().insert(&5, &55, ANY).unwrap();
    let held: HashMap<u32, u64> = outer.get(&a).unwrap().expect("it was put there").typed().unwrap();
    assert_eq!(held.get(&5).unwrap(), Some(55));
    let mut all: Vec<_> = (&outer).into_iter().map(Result::unwrap).collect();
    all.sort_unstable();
    let (first, second) = (one.id().unwrap(), two.id().unwrap());
    assert_eq!(all, [(a, first), (b, second), ([3; 6], second)]);
    assert!(outer.remove(&a).unwrap());
    assert!(!outer.remove(&a).unwrap());
    assert_eq!(outer.keys().count(), 2);
    assert!(outer.as_map().typed::<ArrayOfMaps>().is_err());
    assert!(outer.as_map().typed::<HashOfMaps<u32>>().is_err());
}

pub(super) fn instructions(kernel: &Kernel) {
    if kernel.has(Feature::MapType(MapType::INSN_ARRAY)).is_unsupported() {
        println!("skip: instruction_array: this kernel has none");
        return;
    }
    let map = map(kernel, MapType::INSN_ARRAY, 4, 16, 2);
    let array: InstructionArray = map.typed().unwrap();
    assert_eq!((array.len(), array.is_empty()), (2, false));
    array.set(0, 1).unwrap();
    array.set(1, 3).unwrap();
    assert_eq!(array.get(1).unwrap(), Some(InstructionPlace::of(3)));
    assert_eq!(array.get(2).unwrap(), None);
    assert_error(array.set(2, 1), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.delete(&[0; 4]), MapErrorKind::Invalid, Some(Errno::EINVAL));
    map.freeze().unwrap();
    assert_error(array.set(0, 2), MapErrorKind::Denied, Some(Errno::EPERM));
    let all: Vec<u32> = (&array).into_iter().map(|place| place.unwrap().original).collect();
    assert_eq!(all, [1, 3]);
}

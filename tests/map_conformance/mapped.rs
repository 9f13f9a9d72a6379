//! Arrays in this process's memory, and what is known of a map beside its shape.

use skep::map::{Array, HashMap, Map, MapErrorKind, PlainData};
use skep::sys::abi::{Errno, MapFlags, MapType, OpenFlags};
use skep::sys::request::MapCreate;
use skep::sys::{Feature, Kernel};

use crate::support::pin_path;

use super::{ANY, Triple, assert_error, map, triple};

fn array<V: PlainData>(kernel: &Kernel, entries: u32, flags: MapFlags) -> Option<Array<V>> {
    if kernel.has(Feature::ArrayMmap).is_unsupported() {
        println!("skip: mapped_arrays: this kernel cannot map arrays (Linux 5.5)");
        return None;
    }
    let mut request = MapCreate::new(MapType::ARRAY, 4, size_of::<V>() as u32, entries);
    request.name = "under_test";
    request.flags = MapFlags::MMAPABLE | flags;
    Some(Map::create(kernel, &request).unwrap().typed().unwrap())
}

pub(super) fn arrays(kernel: &Kernel) {
    let plain: Array<u64> = map(kernel, MapType::ARRAY, 4, 8, 4).typed().unwrap();
    let error = plain.mmap().unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "cannot map the memory of map `under_test`: it was not made for that (BPF_F_MMAPABLE, which arrays can have since \
         Linux 5.5)"
    );

    // Of more than a page, and not of whole pages.
    let Some(array) = array::<Triple>(kernel, 300, MapFlags::empty()) else { return };
    let memory = array.mmap().unwrap();
    assert_eq!((memory.len(), memory.is_empty(), memory.is_writable()), (300, false, true));
    assert_eq!(memory.as_map().id().unwrap(), array.as_map().id().unwrap());
    array.set(299, &triple(4), ANY).unwrap();
    assert_eq!(memory.get(299), Some(triple(4)));
    assert_eq!(memory.get(300), None);
    memory.set(7, &triple(5)).unwrap();
    assert_eq!(array.get(7).unwrap(), Some(triple(5)));
    assert_eq!(memory.iter().filter(|value| *value != triple_zero()).count(), 2);
    assert_error(memory.set(300, &triple(1)), MapErrorKind::NotFound, None);
    // While it is mapped for writing nobody can freeze it.
    assert_eq!(array.as_map().freeze().unwrap_err().kind(), MapErrorKind::Busy);
    let other = memory.clone();
    drop((array, memory));
    assert_eq!(other.get(7), Some(triple(5)), "the mapping keeps the map");

    fn numbers<V: skep::map::Atomic + PartialEq + std::fmt::Debug>(kernel: &Kernel, of: impl Fn(i8) -> V) {
        let array = super::mapped::array::<V>(kernel, 3, MapFlags::empty()).unwrap();
        let memory = array.mmap().unwrap();
        memory.store(1, of(5)).unwrap();
        assert_eq!(array.get(1).unwrap(), Some(of(5)));
        assert_eq!(memory.fetch_add(1, of(-7)).unwrap(), of(5));
        assert_eq!(memory.load(1).unwrap(), of(-2));
        assert_eq!(memory.swap(1, of(12)).unwrap(), of(-2));
        assert_eq!(memory.fetch_and(1, of(6)).unwrap(), of(12));
        assert_eq!(memory.fetch_or(1, of(3)).unwrap(), of(4));
        assert_eq!(memory.compare_exchange(1, of(1), of(2)).unwrap(), Err(of(7)));
        assert_eq!(memory.compare_exchange(1, of(7), of(9)).unwrap(), Ok(of(7)));
        assert_eq!(array.get(1).unwrap(), Some(of(9)));
        assert_eq!(array.get(0).unwrap(), Some(of(0)));
        assert_eq!(array.get(2).unwrap(), Some(of(0)));
        assert_error(memory.load(3), MapErrorKind::NotFound, None);
        assert_error(memory.fetch_add(u32::MAX, of(1)), MapErrorKind::NotFound, None);
    }
    numbers::<u32>(kernel, |n| i32::from(n) as u32);
    numbers::<i32>(kernel, i32::from);
    numbers::<u64>(kernel, |n| i64::from(n) as u64);
    numbers::<i64>(kernel, i64::from);

    // Threads that count together lose nothing.
    let array = array_of_one(kernel);
    let memory = array.mmap().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    memory.fetch_add(0, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(array.get(0).unwrap(), Some(4000));
}

fn triple_zero() -> Triple {
    Triple { a: 0, b: [0; 2], c: [0; 4] }
}

fn array_of_one(kernel: &Kernel) -> Array<u64> {
    array(kernel, 1, MapFlags::empty()).unwrap()
}

pub(super) fn read_only(kernel: &Kernel) {
    let Some(array) = array::<u64>(kernel, 4, MapFlags::empty()) else { return };
    array.set(2, &6, ANY).unwrap();
    let memory = array.mmap_read_only().unwrap();
    assert!(!memory.is_writable());
    array.as_map().freeze().unwrap();
    // What is frozen is mapped to read.
    for memory in [memory, array.mmap().unwrap()] {
        assert!(!memory.is_writable());
        assert_eq!((memory.get(2), memory.load(2).unwrap()), (Some(6), 6));
        let error = memory.set(2, &7).unwrap_err();
        assert_eq!(error.to_string(), "cannot access the memory of map `under_test`");
        assert_error(memory.set(2, &7), MapErrorKind::Denied, None);
        assert_error(memory.fetch_add(2, 1), MapErrorKind::Denied, None);
    }
    // So is what is constant for programs.
    let constant = self::array::<u64>(kernel, 4, MapFlags::RDONLY_PROG).unwrap();
    assert!(!constant.mmap().unwrap().is_writable());

    // What was opened for less than both cannot be mapped.
    let shared = array_of_one(kernel);
    let path = pin_path(kernel, "mapped");
    shared.as_map().pin(&path).unwrap();
    let open = |flags| Map::open_pinned(kernel, &path, flags).unwrap().typed::<Array<u64>>().unwrap();
    let (reader, writer) = (open(OpenFlags::RDONLY), open(OpenFlags::WRONLY));
    kernel.backend().unpin(&path).unwrap();
    let error = reader.mmap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot map the memory of map `under_test`: it is opened for reading only, and then no kernel maps it"
    );
    assert_error(reader.mmap_read_only(), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(writer.mmap(), MapErrorKind::Denied, Some(Errno::EACCES));
}

/// What `/proc` says.
pub(super) fn usage(kernel: &Kernel) {
    let map = map(kernel, MapType::HASH, 4, 64, 1000);
    let hash: HashMap<u32, [u64; 8]> = map.typed().unwrap();
    hash.insert(&1, &[1; 8], ANY).unwrap();
    assert!(!map.is_frozen().unwrap());
    // A table of so many elements takes that at least, when they are allocated with it.
    assert!(map.memory_usage().unwrap() >= 64 * 1000, "{:?}", map.usage());
    map.freeze().unwrap();
    assert!(map.is_frozen().unwrap());
    let usage = map.usage().unwrap();
    assert_eq!((usage.frozen, usage.owner), (Some(true), None));
}

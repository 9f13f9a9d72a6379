use skep::map::{HashMap, MapErrorKind, PerCpuHashMap, PerCpuValues};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType, UpdateFlags};

use super::{ANY, Triple, assert_error, map, takes, triple};

/// A hash that nothing is dropped from: LRU ones are given room.
pub(super) fn plain(kernel: &Kernel, map_type: MapType) {
    let map = map(kernel, map_type, 12, 8, 256);
    let hash: HashMap<Triple, u64> = map.typed().unwrap();
    let (one, two) = (triple(1), triple(2));

    assert_eq!(hash.get(&one).unwrap(), None);
    let mut value = 99;
    assert!(!hash.get_into(&one, &mut value).unwrap());
    assert_eq!(value, 99);
    assert_error(hash.insert(&one, &1, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    hash.insert(&one, &10, UpdateFlags::NOEXIST).unwrap();
    assert_error(hash.insert(&one, &11, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    hash.insert(&one, &12, UpdateFlags::EXIST).unwrap();
    hash.insert(&two, &20, ANY).unwrap();
    hash.insert(&two, &21, ANY).unwrap();

    assert_eq!(hash.get(&one).unwrap(), Some(12));
    assert!(hash.get_into(&two, &mut value).unwrap());
    assert_eq!(value, 21);
    assert_eq!(
        map.lookup(zerocopy::IntoBytes::as_bytes(&two)).unwrap().as_deref(),
        Some(&21u64.to_ne_bytes()[..])
    );

    // No value of this map has a lock.
    assert_error(hash.get_with(&one, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));
    let both = UpdateFlags::EXIST | UpdateFlags::NOEXIST;
    assert_error(hash.insert(&one, &1, both), MapErrorKind::Invalid, Some(Errno::EINVAL));

    assert!(hash.remove(&one).unwrap());
    assert!(!hash.remove(&one).unwrap());
    assert_eq!(hash.get(&one).unwrap(), None);
    if takes(&map) {
        assert_eq!(hash.lookup_and_delete(&two).unwrap(), Some(21));
        assert_eq!(hash.lookup_and_delete(&two).unwrap(), None);
        assert_eq!(hash.get(&two).unwrap(), None);
    }
}

pub(super) fn full(kernel: &Kernel) {
    for map_type in [MapType::HASH, MapType::PERCPU_HASH] {
        let map = map(kernel, map_type, 4, 8, 2);
        let value = vec![1; map.value_len()];
        for key in 0..2u32 {
            map.update(&key.to_ne_bytes(), &value, ANY).unwrap();
        }
        let error = map.update(&2u32.to_ne_bytes(), &value, ANY).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (MapErrorKind::Full, Some(Errno::E2BIG)));
        assert_eq!(error.to_string(), "cannot update an element of map `under_test`: it is full");
        // What is there can be written, and room be made.
        map.update(&1u32.to_ne_bytes(), &value, ANY).unwrap();
        assert!(map.delete(&0u32.to_ne_bytes()).unwrap());
        map.update(&2u32.to_ne_bytes(), &value, ANY).unwrap();
    }

    // One that drops what was not used takes any number.
    let map = map(kernel, MapType::LRU_HASH, 4, 8, 16);
    let hash: HashMap<u32, u64> = map.typed().unwrap();
    for key in 0..1000 {
        hash.insert(&key, &u64::from(key), ANY).unwrap();
    }
    assert!(hash.keys().count() <= 16);
}

pub(super) fn per_cpu(kernel: &Kernel, map_type: MapType) {
    let map = map(kernel, map_type, 4, 12, 256);
    let hash: PerCpuHashMap<u32, Triple> = map.typed().unwrap();
    let cpus = kernel.possible_cpus().unwrap();
    assert_eq!(map.values_per_element(), cpus);
    let values = PerCpuValues::from_fn(cpus, |cpu| triple((cpu as u8).wrapping_add(1)));

    assert_eq!(hash.get(&7).unwrap(), None);
    assert_error(hash.insert(&7, &values, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    hash.insert(&7, &values, UpdateFlags::NOEXIST).unwrap();
    assert_error(hash.insert(&7, &values, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_eq!(hash.get(&7).unwrap().as_ref(), Some(&values));

    let mut read = hash.zeroed_values();
    assert!(!hash.get_into(&8, &mut read).unwrap());
    assert_eq!(read, hash.zeroed_values());
    assert!(hash.get_into(&7, &mut read).unwrap());
    assert_eq!(read, values);
    assert_eq!(hash.iter().collect::<Result<Vec<_>, _>>().unwrap(), [(7, values.clone())]);
    assert_eq!(hash.values().collect::<Result<Vec<_>, _>>().unwrap(), std::slice::from_ref(&values));

    let mut few = PerCpuValues::<Triple>::zeroed(cpus + 1);
    assert_error(hash.insert(&7, &few, ANY), MapErrorKind::Length, None);
    assert_error(hash.get_into(&7, &mut few), MapErrorKind::Length, None);

    if takes(&map) {
        assert_eq!(hash.lookup_and_delete(&7).unwrap(), Some(values.clone()));
        assert_eq!(hash.lookup_and_delete(&7).unwrap(), None);
    }
    hash.insert(&7, &values, ANY).unwrap();
    assert!(hash.remove(&7).unwrap());
    assert!(!hash.remove(&7).unwrap());
}

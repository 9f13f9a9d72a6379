use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use skep::map::traits::{MapDrain, MapIter, MapRead, MapRemove, MapTable, MapTake, MapWrite, PerCpu};
use skep::map::{Ipv4Prefix, MapErrorKind, PerCpuValues};
use skep::sys::abi::{Errno, UpdateFlags};

use super::{ANY, Maps, assert_error, takes};

/// What a table with room for all of it does.
fn table(map: &(impl MapTable<u32, u64> + ?Sized)) {
    assert_eq!(map.get(&1).unwrap(), None);
    assert!(!map.contains(&1).unwrap());
    assert_eq!(map.to_vec().unwrap(), []);
    assert_error(map.insert(&1, &1, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    map.insert(&1, &10, UpdateFlags::NOEXIST).unwrap();
    assert_error(map.insert(&1, &11, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_eq!(map.get(&1).unwrap(), Some(10));
    map.insert(&1, &12, UpdateFlags::EXIST).unwrap();
    map.insert(&2, &20, ANY).unwrap();
    map.insert(&2, &21, ANY).unwrap();
    assert!(map.contains(&2).unwrap());
    let mut all = map.to_vec().unwrap();
    all.sort_unstable();
    assert_eq!(all, [(1, 12), (2, 21)]);

    let both = UpdateFlags::EXIST | UpdateFlags::NOEXIST;
    assert_error(map.insert(&1, &1, both), MapErrorKind::Invalid, Some(Errno::EINVAL));
    // No value of this map has a lock, and there is no such flag.
    assert_error(map.insert(&1, &1, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));
    let unknown = UpdateFlags::from_bits_retain(1 << 40);
    assert_error(map.insert(&1, &1, unknown), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_eq!(map.get(&1).unwrap(), Some(12));

    assert!(map.remove(&1).unwrap());
    assert!(!map.remove(&1).unwrap());
    assert_eq!(map.get(&1).unwrap(), None);
    assert!(map.remove(&2).unwrap());
}

pub(crate) fn hash<M: Maps>(maps: &M) {
    table(&maps.hash(16));
}

pub(crate) fn lru<M: Maps>(maps: &M) {
    table(&maps.lru(256));

    // Any number of elements finds room, the newest is there, and there are never more than were asked for.
    let map = maps.lru(16);
    for key in 0..1000 {
        map.insert(&key, &u64::from(key), ANY).unwrap();
        assert_eq!(map.get(&key).unwrap(), Some(u64::from(key)));
    }
    let all = map.to_vec().unwrap();
    assert!((1..=16).contains(&all.len()), "{all:?}");
    assert!(all.iter().all(|(key, value)| u64::from(*key) == *value));
}

pub(crate) fn full<M: Maps>(maps: &M) {
    let map = maps.hash(2);
    map.insert(&1, &1, ANY).unwrap();
    map.insert(&2, &2, UpdateFlags::NOEXIST).unwrap();
    let error = map.insert(&3, &3, ANY).unwrap_err();
    assert_eq!(error.to_string(), "cannot update an element of map `under_test`: it is full");
    assert_error(map.insert(&3, &3, UpdateFlags::NOEXIST), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.insert(&3, &3, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    map.insert(&2, &22, ANY).unwrap();
    assert!(map.remove(&1).unwrap());
    map.insert(&3, &3, ANY).unwrap();
    let mut all = map.to_vec().unwrap();
    all.sort_unstable();
    assert_eq!(all, [(2, 22), (3, 3)]);
}

pub(crate) fn taken<M: Maps>(maps: &M) {
    for map in [maps.hash(16), maps.lru(256)] {
        map.insert(&1, &10, ANY).unwrap();
        if let Some(value) = takes(map.take(&1)) {
            assert_eq!(value, Some(10));
            assert_eq!(map.take(&1).unwrap(), None);
            assert_eq!(map.get(&1).unwrap(), None);
        }
    }
}

pub(crate) fn drained<M: Maps>(maps: &M) {
    let map = maps.hash(64);
    for key in 0..50 {
        map.insert(&key, &(u64::from(key) + 100), ANY).unwrap();
    }
    let mut seen = BTreeSet::new();
    let drained = map.drain_all(&mut |key, value| {
        assert_eq!(value, u64::from(key) + 100);
        assert!(seen.insert(key), "{key} came twice");
    });
    if takes(drained).is_some() {
        assert_eq!(seen, (0..50).collect());
        assert_eq!(map.to_vec().unwrap(), []);
        map.drain_all(&mut |key, _| panic!("{key} came out of an empty map")).unwrap();
    }
}

pub(crate) fn frozen<M: Maps>(maps: &M) {
    let denied = (MapErrorKind::Denied, Some(Errno::EPERM));
    let map = maps.hash(4);
    map.insert(&1, &10, ANY).unwrap();
    if takes(M::freeze_hash(&map)).is_none() {
        return;
    }
    assert_error(map.insert(&1, &11, ANY), denied.0, denied.1);
    assert_error(map.remove(&1), denied.0, denied.1);
    assert_eq!(map.get(&1).unwrap(), Some(10));
    assert_eq!(map.to_vec().unwrap(), [(1, 10)]);
    assert!(M::freeze_hash(&map).is_err());

    let array = maps.array(1);
    array.insert(&0, &5, ANY).unwrap();
    M::freeze_array(&array).unwrap();
    assert_error(array.insert(&0, &6, ANY), denied.0, denied.1);
    assert_eq!(array.get(&0).unwrap(), Some(5));
}

/// Who goes through a map may remove what is given, and change what is there.
pub(crate) fn changed_while_visited<M: Maps>(maps: &M) {
    let map = maps.hash(64);
    for key in 0..30 {
        map.insert(&key, &1, ANY).unwrap();
    }
    let mut seen = BTreeSet::new();
    map.visit(&mut |key, _| {
        seen.insert(key);
        assert!(map.remove(&key).unwrap());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, (0..30).collect());
    assert_eq!(map.to_vec().unwrap(), []);

    map.insert(&1, &1, ANY).unwrap();
    map.insert(&2, &1, ANY).unwrap();
    let mut count = 0;
    map.visit(&mut |_, _| {
        count += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(count, 1);
}

pub(crate) fn array<M: Maps>(maps: &M) {
    let map = maps.array(3);
    assert_eq!(map.get(&0).unwrap(), Some(0));
    map.insert(&2, &20, ANY).unwrap();
    map.insert(&0, &1, UpdateFlags::EXIST).unwrap();
    assert_eq!(map.to_vec().unwrap(), [(0, 1), (1, 0), (2, 20)]);
    assert_eq!(map.get(&3).unwrap(), None);
    assert!(map.contains(&2).unwrap() && !map.contains(&u32::MAX).unwrap());

    let error = map.insert(&3, &1, ANY).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot update an element of map `under_test`: the index is not below the number of elements"
    );
    assert_error(map.insert(&3, &1, UpdateFlags::NOEXIST), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.insert(&0, &1, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(map.insert(&0, &1, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));

    let mut seen = Vec::new();
    map.visit(&mut |index, value| {
        seen.push((index, value));
        if index == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, [(0, 1), (1, 0)]);
}

/// What a table with a value per CPU does, with room for all of it.
fn per_cpu_table<M>(map: &M)
where
    M: MapTable<u32, PerCpuValues<u64>>
        + MapTake<u32, PerCpuValues<u64>>
        + MapDrain<u32, PerCpuValues<u64>>
        + PerCpu,
{
    let cpus = map.cpus();
    let values = PerCpuValues::from_fn(cpus, |cpu| 100 + u64::from(cpu));
    assert_eq!(map.get(&1).unwrap(), None);
    assert_error(map.insert(&1, &values, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    map.insert(&1, &values, UpdateFlags::NOEXIST).unwrap();
    assert_error(map.insert(&1, &values, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_eq!(map.get(&1).unwrap().as_ref(), Some(&values));
    assert_eq!(map.to_vec().unwrap(), [(1, values.clone())]);
    for wrong in [0, cpus - 1, cpus + 1] {
        assert_error(map.insert(&1, &PerCpuValues::zeroed(wrong), ANY), MapErrorKind::Length, None);
    }
    if let Some(taken) = takes(map.take(&1)) {
        assert_eq!(taken.as_ref(), Some(&values));
        map.insert(&1, &values, ANY).unwrap();
        map.drain_all(&mut |key, taken| assert_eq!((key, &taken), (1, &values))).unwrap();
        assert_eq!(map.to_vec().unwrap(), []);
        map.insert(&1, &values, ANY).unwrap();
    }
    assert!(map.remove(&1).unwrap());
    assert!(!map.remove(&1).unwrap());
}

pub(crate) fn per_cpu_hash<M: Maps>(maps: &M) {
    per_cpu_table(&maps.per_cpu_hash(16));
    let map = maps.per_cpu_hash(1);
    let zero = PerCpuValues::zeroed(map.cpus());
    map.insert(&1, &zero, ANY).unwrap();
    assert_error(map.insert(&2, &zero, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
}

pub(crate) fn per_cpu_lru<M: Maps>(maps: &M) {
    per_cpu_table(&maps.per_cpu_lru(256));
    let map = maps.per_cpu_lru(16);
    for key in 0..200 {
        map.insert(&key, &PerCpuValues::from_fn(map.cpus(), |_| u64::from(key)), ANY).unwrap();
        assert!(map.contains(&key).unwrap());
    }
    assert!((1..=16).contains(&map.to_vec().unwrap().len()));
}

pub(crate) fn per_cpu_array<M: Maps>(maps: &M) {
    let map = maps.per_cpu_array(2);
    let cpus = map.cpus();
    let zero = PerCpuValues::zeroed(cpus);
    let values = PerCpuValues::from_fn(cpus, |cpu| u64::MAX - u64::from(cpu));
    map.insert(&1, &values, ANY).unwrap();
    assert_eq!(map.to_vec().unwrap(), [(0, zero.clone()), (1, values.clone())]);
    assert_eq!(map.get(&1).unwrap(), Some(values));
    assert_eq!(map.get(&2).unwrap(), None);
    assert_error(map.insert(&2, &zero, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.insert(&0, &zero, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(map.insert(&0, &PerCpuValues::zeroed(cpus + 1), ANY), MapErrorKind::Length, None);
}

pub(crate) fn trie<M: Maps>(maps: &M) {
    let net = |text: &str| text.parse::<Ipv4Prefix>().unwrap();
    let map = maps.trie(3);
    // Kernels before 6.13 take the flags and look at none.
    let missing = map.insert(&net("10.0.0.0/8"), &1, UpdateFlags::EXIST);
    let flags = missing.is_err();
    if flags {
        assert_error(missing, MapErrorKind::NotFound, Some(Errno::ENOENT));
    } else {
        println!("skip: flags of a trie: this kernel does not look at them");
        assert!(map.remove(&net("10.0.0.0/8")).unwrap());
    }
    map.insert(&net("10.0.0.0/8"), &1, UpdateFlags::NOEXIST).unwrap();
    map.insert(&net("10.1.0.0/16"), &2, ANY).unwrap();
    if flags {
        let exists = map.insert(&net("10.1.0.0/16"), &3, UpdateFlags::NOEXIST);
        assert_error(exists, MapErrorKind::Exists, Some(Errno::EEXIST));
    }
    // The longest prefix is found, and only the very one is removed.
    assert_eq!(map.get(&net("10.1.2.3")).unwrap(), Some(2));
    assert_eq!(map.get(&net("10.2.0.0/16")).unwrap(), Some(1));
    assert_eq!(map.get(&net("11.0.0.1")).unwrap(), None);
    assert!(!map.contains(&net("0.0.0.0/0")).unwrap());
    assert!(!map.remove(&net("10.1.2.3")).unwrap());
    map.insert(&net("0.0.0.0/0"), &9, ANY).unwrap();
    assert_eq!(
        map.to_vec().unwrap(),
        [(net("10.1.0.0/16"), 2), (net("10.0.0.0/8"), 1), (net("0.0.0.0/0"), 9)]
    );
    assert_error(map.insert(&net("12.0.0.0/8"), &1, ANY), MapErrorKind::Full, Some(Errno::ENOSPC));
    assert!(map.remove(&net("10.1.0.0/16")).unwrap());
    assert_eq!(map.get(&net("10.1.2.3")).unwrap(), Some(1));
}

/// What points to a map is one, also as a trait object.
pub(crate) fn behind_pointers<M: Maps>(maps: &M) {
    fn generic(map: impl MapRead<u32, u64> + MapWrite<u32, u64> + MapRemove<u32> + MapIter<u32, u64>) {
        table(&map);
    }

    let map = maps.hash(16);
    generic(&map);
    table(&map as &dyn MapTable<u32, u64>);
    generic(&map as &dyn MapTable<u32, u64>);
    generic(Box::new(maps.hash(16)));
    generic(Rc::new(maps.hash(16)));
    generic(Arc::new(maps.hash(16)));

    let array = maps.array(2);
    let (read, write): (&dyn MapRead<u32, u64>, &dyn MapWrite<u32, u64>) = (&array, &array);
    write.insert(&1, &5, ANY).unwrap();
    assert_eq!(read.get(&1).unwrap(), Some(5));
    let all: Box<dyn MapIter<u32, u64> + '_> = Box::new(&array);
    assert_eq!(all.to_vec().unwrap(), [(0, 0), (1, 5)]);
    let remove: &dyn MapRemove<u32> = &map;
    assert!(!remove.remove(&1).unwrap());
    let (take, drain): (&dyn MapTake<u32, u64>, &dyn MapDrain<u32, u64>) = (&map, &map);
    if let Some(taken) = takes(take.take(&1)) {
        assert_eq!(taken, None);
        drain.drain_all(&mut |_, _| ()).unwrap();
    }
}

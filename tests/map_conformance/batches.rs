//! Many elements at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use skep::map::{Array, HashMap, Map, MapErrorKind, PerCpuArray, PerCpuHashMap, PerCpuValues};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep::sys::request::MapCreate;

use crate::support::pin_path;

use super::{ANY, Triple, map, patiently, roomy, triple};

/// All elements come once, whatever the size of a batch, and go when they are taken.
pub(super) fn hashes(kernel: &Kernel) {
    for map_type in [MapType::HASH, MapType::LRU_HASH] {
        let room = roomy(kernel, 1000).max(4000);
        let hash: HashMap<u32, Triple> = map(kernel, map_type, 4, 12, room as u32).typed().unwrap();
        assert!(hash.batches(10).next_batch().unwrap().is_none());
        assert!(hash.iter_batched(10).next().is_none());
        assert!(hash.drain(10).next().is_none());
        let keys: Vec<u32> = (0..1000).collect();
        let values: Vec<Triple> = keys.iter().map(|key| triple(*key as u8)).collect();
        let all: BTreeMap<u32, Triple> = keys.iter().copied().zip(values.iter().copied()).collect();
        hash.insert_many(&keys, &values, ANY).unwrap();

        for size in [0, 1, 7, 64, 999, 5000, usize::MAX] {
            let mut seen = BTreeMap::new();
            let mut given = 0;
            let mut batches = hash.batches(size);
            while let Some(batch) = batches.next_batch().unwrap() {
                assert_eq!(
                    (batch.len(), batch.keys().len(), batch.iter().len()),
                    (batch.values().len(), batch.len(), batch.len())
                );
                given += batch.len();
                seen.extend(batch.iter().map(|(key, value)| (*key, *value)));
            }
            assert!(batches.next_batch().unwrap().is_none());
            assert_eq!((given, &seen), (1000, &all), "{map_type} by {size}");

            let mut iter = hash.iter_batched(size);
            assert!(iter.by_ref().map(Result::unwrap).eq(hash.iter_batched(size).map(Result::unwrap)));
            assert!(iter.next().is_none());
            let seen: BTreeMap<u32, Triple> = hash.iter_batched(size).collect::<Result<_, _>>().unwrap();
            assert_eq!(seen, all);

            let bytes = hash.as_map().entries_batched(size).map(Result::unwrap);
            let seen: BTreeSet<u32> =
                bytes.map(|(key, _)| u32::from_ne_bytes(key.as_ref().try_into().unwrap())).collect();
            assert!(seen.iter().eq(all.keys()));
        }

        let taken: Vec<(u32, Triple)> = hash.drain(64).collect::<Result<_, _>>().unwrap();
        assert_eq!(taken.len(), 1000);
        assert_eq!(BTreeMap::from_iter(taken), all);
        assert!(hash.keys().next().is_none());

        hash.insert_many(&keys, &values, ANY).unwrap();
        let mut batches = hash.drain_batches(100);
        let mut given = 0;
        while let Some(batch) = batches.next_batch().unwrap() {
            assert!(batch.iter().all(|(key, value)| all[key] == *value));
            given += batch.len();
        }
        assert_eq!(given, 1000);
        assert!(hash.keys().next().is_none());
    }
}

pub(super) fn per_cpu(kernel: &Kernel) {
    let cpus = kernel.possible_cpus().unwrap();
    let of = |key: u32| PerCpuValues::from_fn(cpus, |cpu| triple((key + cpu) as u8));
    let keys: Vec<u32> = (0..300).collect();
    let values: Vec<_> = keys.iter().map(|key| of(*key)).collect();
    for map_type in [MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH] {
        let room = roomy(kernel, 300).max(2000);
        let hash: PerCpuHashMap<u32, Triple> = map(kernel, map_type, 4, 12, room as u32).typed().unwrap();
        hash.insert_many(&keys, &values, ANY).unwrap();
        for size in [1, 50, 1000] {
            let mut seen = BTreeSet::new();
            let mut batches = hash.batches(size);
            while let Some(batch) = batches.next_batch().unwrap() {
                assert_eq!((batch.len(), batch.iter().len()), (batch.keys().len(), batch.len()));
                for (key, values) in batch.iter() {
                    assert!(seen.insert(*key));
                    assert_eq!((values.len(), values.is_empty()), (cpus as usize, false));
                    assert!(values.iter().eq(&of(*key)));
                    assert_eq!(values.get(cpus - 1), of(*key).get(cpus - 1));
                    assert_eq!(values.get(cpus), None);
                    assert_eq!(values.to_values(), of(*key));
                }
            }
            assert!(seen.iter().eq(&keys), "{map_type} by {size}");
            assert_eq!(hash.iter_batched(size).count(), 300);
        }
        let taken: BTreeMap<u32, _> =
            hash.drain(64).map(Result::unwrap).map(|(key, values)| (key, values.get(0))).collect();
        assert!(taken.into_iter().eq(keys.iter().map(|key| (*key, Some(triple(*key as u8))))));
        hash.insert_many(&keys, &values, ANY).unwrap();
        let mut batches = hash.drain_batches(64);
        let mut given = 0;
        while let Some(batch) = batches.next_batch().unwrap() {
            given += batch.len();
        }
        assert_eq!((given, hash.keys().count()), (300, 0));

        hash.insert_many(&keys, &values, ANY).unwrap();
        assert_eq!(hash.remove_many(&keys[10..]).unwrap(), 290);
        let wrong = [PerCpuValues::zeroed(cpus), PerCpuValues::zeroed(cpus + 1)];
        let error = hash.insert_many(&[1, 2], &wrong, ANY).unwrap_err();
        assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Length));
        let error = hash.insert_many(&[1], &wrong, ANY).unwrap_err();
        assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Length));
    }
}

pub(super) fn arrays(kernel: &Kernel) {
    let array: Array<u64> = map(kernel, MapType::ARRAY, 4, 8, 100).typed().unwrap();
    let values: Vec<u64> = (1..=90).collect();
    array.set_many(10, &values, ANY).unwrap();
    let want: Vec<(u32, u64)> =
        (0..100).map(|index: u32| (index, u64::from(index.saturating_sub(9)))).collect();
    for size in [1, 30, 50, 99, 100, 101, 1000] {
        let all = array.iter_batched(size).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(all, want, "by {size}");
        let mut batches = array.batches(size);
        let mut given = 0;
        while let Some(batch) = batches.next_batch().unwrap() {
            assert_eq!(batch.keys()[0], given);
            given += batch.len() as u32;
        }
        assert_eq!(given, 100);
    }
    let error = array.set_many(98, &[1, 2, 3, 4], ANY).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (2, MapErrorKind::Full));
    assert_eq!(array.get(99).unwrap(), Some(2));
    let error = array.set_many(u32::MAX, &[1, 2], ANY).unwrap_err();
    assert_eq!((error.done, error.error.errno()), (0, Some(Errno::E2BIG)));
    // Elements of an array cannot be taken out.
    let error = array.as_map().drain(10).next().unwrap().unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Invalid);
    let error = array.as_map().remove_many(&[0; 8]).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Invalid));

    let cpus = kernel.possible_cpus().unwrap();
    let array: PerCpuArray<u16> = map(kernel, MapType::PERCPU_ARRAY, 4, 2, 20).typed().unwrap();
    array.set(7, &PerCpuValues::from_fn(cpus, |cpu| 5 + cpu as u16), ANY).unwrap();
    let all = array.iter_batched(6).collect::<Result<Vec<_>, _>>().unwrap();
    assert!(all.iter().map(|(index, _)| *index).eq(0..20));
    assert!(all.iter().zip(&array).all(|((_, batched), single)| *batched == single.unwrap()));
    let mut batches = array.batches(8);
    assert_eq!(batches.next_batch().unwrap().unwrap().iter().nth(7).unwrap().1.get(0), Some(5));
}

/// What cannot be written or removed stops it, and says after how many.
pub(super) fn stopped(kernel: &Kernel) {
    let hash: HashMap<u32, u64> = map(kernel, MapType::HASH, 4, 8, 4).typed().unwrap();
    let error = hash.insert_many(&[1, 2, 3, 4, 5, 6], &[10, 20, 30, 40, 50, 60], ANY).unwrap_err();
    assert_eq!(
        (error.done, error.error.kind(), error.error.errno()),
        (4, MapErrorKind::Full, Some(Errno::E2BIG))
    );
    assert_eq!(error.to_string(), "stopped after 4 elements of map `under_test`");
    assert!(error.error.to_string().ends_with("it is full"), "{}", error.error);
    assert_eq!(hash.get(&4).unwrap(), Some(40));

    // Flags that batches do not know.
    let error = hash.insert_many(&[1, 2, 9], &[11, 21, 91], UpdateFlags::EXIST).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (2, MapErrorKind::NotFound));
    let error = hash.insert_many(&[1], &[11], UpdateFlags::NOEXIST).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Exists));
    let error = hash.insert_many(&[1], &[11], UpdateFlags::LOCK).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Invalid));
    let mut locked = hash.batches_with(2, UpdateFlags::LOCK);
    assert_eq!(locked.next_batch().unwrap_err().kind(), MapErrorKind::Invalid);
    assert!(locked.next_batch().unwrap().is_none());

    // What is not there is passed over.
    assert_eq!(hash.remove_many(&[7, 1, 8, 8, 2, 9]).unwrap(), 2);
    assert_eq!(hash.remove_many(&[]).unwrap(), 0);
    hash.insert_many(&[], &[], ANY).unwrap();
    let keys: BTreeSet<u32> = hash.keys().collect::<Result<_, _>>().unwrap();
    assert_eq!(keys, [3, 4].into());

    let error = hash.insert_many(&[1, 2], &[1], ANY).unwrap_err();
    assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Length));
    let path = pin_path(kernel, "batches");
    hash.as_map().pin(&path).unwrap();
    let read_only = Map::open_pinned(kernel, &path, OpenFlags::RDONLY).unwrap();
    let write_only = Map::open_pinned(kernel, &path, OpenFlags::WRONLY).unwrap();
    kernel.backend().unpin(&path).unwrap();
    let refused = |error: skep::map::MapError| assert_eq!(error.kind(), MapErrorKind::Denied, "{error}");
    refused(read_only.insert_many(&[0; 4], &[0; 8], ANY).unwrap_err().error);
    refused(read_only.remove_many(&[0; 4]).unwrap_err().error);
    refused(read_only.drain(4).next().unwrap().unwrap_err());
    refused(write_only.entries_batched(4).next().unwrap().unwrap_err());
    assert_eq!(read_only.entries_batched(4).count(), 2);
}

fn trie(kernel: &Kernel) -> Map {
    let mut request = MapCreate::new(MapType::LPM_TRIE, 8, 4, 16);
    request.flags = MapFlags::NO_PREALLOC;
    request.name = "under_test";
    Map::create(kernel, &request).unwrap()
}

/// Kinds that have no batches, or no way to take elements out in one step, are gone through key by key.
pub(super) fn one_by_one(kernel: &Kernel) {
    let trie = trie(kernel);
    let prefix = |bits: u32, net: u8| [bits.to_ne_bytes(), [net, 0, 0, 0]].concat();
    let keys = [prefix(8, 10), prefix(16, 10), prefix(8, 11)];
    trie.insert_many(&keys.concat(), &[1; 12], ANY).unwrap();
    for size in [1, 2, 3, 100] {
        let seen: BTreeSet<Box<[u8]>> = trie.entries_batched(size).map(|entry| entry.unwrap().0).collect();
        assert_eq!(seen, keys.iter().map(|key| Box::from(&**key)).collect());
    }
    let mut taken = 0;
    let mut batches = trie.drain_batches(2);
    while let Some(batch) = batches.next_batch().unwrap() {
        assert!(batch.values().iter().all(|byte| *byte == 1));
        assert_eq!((batch.keys().len(), batch.values().len()), (batch.len() * 8, batch.len() * 4));
        taken += batch.len();
    }
    assert_eq!((taken, trie.keys().count()), (3, 0));
    assert_eq!(trie.remove_many(&keys.concat()).unwrap(), 0);

    // Slots of an array of maps that are empty have no values.
    let inner = map(kernel, MapType::ARRAY, 4, 4, 1);
    let mut request = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 5);
    request.inner_map = Some(std::os::fd::AsFd::as_fd(&inner));
    request.name = "under_test";
    let outer = Map::create(kernel, &request).unwrap();
    for slot in [1u32, 3] {
        outer.as_map_fd().update_map(&slot.to_ne_bytes(), inner.as_map_fd(), ANY).unwrap();
    }
    let id = inner.id().unwrap().0.to_ne_bytes();
    for size in [1, 2, 10] {
        let all = outer.entries_batched(size).collect::<Result<Vec<_>, _>>().unwrap();
        let want = [1u32, 3].map(|slot| (Box::from(slot.to_ne_bytes()), Box::from(id)));
        assert_eq!(all, want, "by {size}");
    }
    // Queues have no keys to go through.
    let queue = map(kernel, MapType::QUEUE, 0, 4, 2);
    assert!(queue.entries_batched(4).next().unwrap().is_err());
}

/// A key that stays comes exactly once, beside threads that add and remove others.
pub(super) fn among_threads(kernel: &Kernel) {
    let hash: HashMap<u32, u32> = map(kernel, MapType::HASH, 4, 4, 512).typed().unwrap();
    let stay: Vec<u32> = (0..50).collect();
    hash.insert_many(&stay, &stay, ANY).unwrap();
    let batched = kernel.has(skep::sys::Feature::MapBatch).is_supported();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (hash, done) = (&hash, &done);
        let _stop = Stop(done);
        let others: Vec<u32> = (1000..1100).collect();
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                patiently(|| Ok(hash.insert_many(&others, &others, ANY)?)).unwrap();
                patiently(|| Ok(hash.remove_many(&others)?)).unwrap();
                assert!(!others.iter().any(|key| hash.get(key).unwrap().is_some()));
            }
        });
        for _ in 0..200 {
            let keys: Result<Vec<(u32, u32)>, _> = patiently(|| hash.iter_batched(40).collect());
            match keys {
                Ok(mut keys) => {
                    keys.sort();
                    let stay: Vec<u32> = keys.iter().map(|(key, _)| *key).filter(|key| *key < 1000).collect();
                    if batched {
                        assert!(stay.iter().copied().eq(0..50), "{stay:?}");
                        // Each element is read under the lock of its bucket.
                        assert!(keys.iter().all(|(key, value)| key == value), "{keys:?}");
                    }
                }
                Err(error) => {
                    assert!(!batched && error.kind() == MapErrorKind::IterationAborted, "{error}");
                }
            }
        }
    });
}

/// What is put into a map while another thread empties it is taken exactly once.
pub(super) fn drain_among_threads(kernel: &Kernel) {
    const EACH: u32 = 4000;
    let hash: HashMap<u32, u32> = map(kernel, MapType::HASH, 4, 4, 1024).typed().unwrap();
    let writing = AtomicU32::new(2);
    let mut taken = BTreeMap::new();
    std::thread::scope(|scope| {
        for first in [0, EACH] {
            let (hash, writing) = (&hash, &writing);
            scope.spawn(move || {
                for key in first..first + EACH {
                    while let Err(error) = patiently(|| hash.insert(&key, &!key, UpdateFlags::NOEXIST)) {
                        assert_eq!(error.kind(), MapErrorKind::Full);
                        std::thread::yield_now();
                    }
                }
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        loop {
            let last = writing.load(Ordering::Acquire) == 0;
            for element in hash.drain(100) {
                let (key, value) = match element {
                    Ok(element) => element,
                    // Only where it goes key by key, or has waited for a lock for too long.
                    Err(error)
                        if error.kind() == MapErrorKind::IterationAborted
                            || error.errno() == Some(Errno::ETIMEDOUT) =>
                    {
                        break;
                    }
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(value, !key);
                assert_eq!(taken.insert(key, value), None, "{key} came twice");
            }
            if last && hash.keys().next().is_none() {
                break;
            }
        }
    });
    assert_eq!(taken.len(), 2 * EACH as usize);
}

/// Ends the other thread, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

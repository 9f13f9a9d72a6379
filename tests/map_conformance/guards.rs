//! Nothing outside of a buffer is written, and nothing at all when its length is wrong.

use std::os::fd::AsFd;

use skep::map::{
    Array, HashMap, Map, MapError, MapErrorKind, MapPart, PerCpuArray, PerCpuHashMap, PlainData,
};
use skep::sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep::sys::request::{BatchRead, MapCreate};
use skep::sys::{BatchCursor, BatchError, Kernel};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::support::pin_path;

use super::{ANY, Triple, assert_error, map, takes, triple};

const CANARY: u8 = 0xa5;
const MARGIN: usize = 64;

/// A buffer of `len` bytes inside of a larger one.
struct Guarded {
    bytes: Vec<u8>,
    len: usize,
}

impl Guarded {
    fn new(len: usize) -> Guarded {
        Guarded { bytes: vec![CANARY; MARGIN + len + MARGIN], len }
    }

    fn inner(&mut self) -> &mut [u8] {
        &mut self.bytes[MARGIN..MARGIN + self.len]
    }

    /// What the buffer holds, once what surrounds it was found untouched.
    #[track_caller]
    fn checked(&self) -> &[u8] {
        let (before, rest) = self.bytes.split_at(MARGIN);
        let (inner, after) = rest.split_at(self.len);
        assert!(
            before.iter().chain(after).all(|&byte| byte == CANARY),
            "bytes around the buffer were written"
        );
        inner
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert!(self.checked().iter().all(|&byte| byte == CANARY), "the buffer was written");
    }
}

const KINDS: &[MapType] = &[
    MapType::HASH,
    MapType::LRU_HASH,
    MapType::ARRAY,
    MapType::PERCPU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::PERCPU_ARRAY,
];

fn is_array(map: &Map) -> bool {
    matches!(map.map_type(), MapType::ARRAY | MapType::PERCPU_ARRAY)
}

/// Every operation that gives bytes, for values of many sizes.
pub(super) fn bytes(kernel: &Kernel) {
    for &map_type in KINDS {
        let takes = takes(&map(kernel, map_type, 4, 8, 1));
        for size in [1, 2, 3, 4, 7, 8, 9, 12, 16, 255, 4096] {
            let map = map(kernel, map_type, 4, size, 4);
            let key = 1u32.to_ne_bytes();
            // A per-CPU value is padded with zeroes, which is what the kernel gives back.
            let per_cpu = map.value_len() / map.values_per_element() as usize;
            let value: Vec<u8> =
                (0..map.value_len()).map(|at| if at % per_cpu < size { at as u8 | 1 } else { 0 }).collect();

            let mut buffer = Guarded::new(map.value_len());
            if !is_array(&map) {
                assert!(!map.lookup_into(&key, buffer.inner(), ANY).unwrap());
                assert!(!takes || !map.lookup_and_delete(&key, buffer.inner(), ANY).unwrap());
                buffer.assert_untouched();
            }
            map.update(&key, &value, ANY).unwrap();
            assert!(map.lookup_into(&key, buffer.inner(), ANY).unwrap());
            assert_eq!(buffer.checked(), value, "{map_type} {size}");

            let mut next = Guarded::new(4);
            assert!(map.next_key(None, next.inner()).unwrap());
            next.checked();
            if is_array(&map) {
                assert!(!map.lookup_into(&9u32.to_ne_bytes(), buffer.inner(), ANY).unwrap());
                assert_eq!(buffer.checked(), value);
            } else {
                assert_eq!(next.checked(), key);
                assert!(!map.next_key(Some(&key), next.inner()).unwrap());
                next.checked();
                let mut buffer = Guarded::new(map.value_len());
                if takes {
                    assert!(map.lookup_and_delete(&key, buffer.inner(), ANY).unwrap());
                    assert_eq!(buffer.checked(), value, "{map_type} {size}");
                }
            }
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Around {
    before: [u8; MARGIN],
    inner: Triple,
    after: [u8; MARGIN],
}

pub(super) fn typed(kernel: &Kernel) {
    let around = || Around { before: [CANARY; MARGIN], inner: triple(0), after: [CANARY; MARGIN] };
    let check = |around: &Around, want: Triple| {
        assert_eq!((around.before, around.inner, around.after), ([CANARY; MARGIN], want, [CANARY; MARGIN]));
    };
    let hash: HashMap<Triple, Triple> = map(kernel, MapType::HASH, 12, 12, 4).typed().unwrap();
    hash.insert(&triple(1), &triple(2), ANY).unwrap();
    let mut value = around();
    assert!(hash.get_into(&triple(1), &mut value.inner).unwrap());
    check(&value, triple(2));

    let array: Array<Triple> = map(kernel, MapType::ARRAY, 4, 12, 4).typed().unwrap();
    array.set(1, &triple(3), ANY).unwrap();
    let mut value = around();
    assert!(array.get_into(1, &mut value.inner).unwrap());
    check(&value, triple(3));
    assert!(!array.get_into(4, &mut value.inner).unwrap());
    check(&value, triple(3));
}

/// Slices that are too short or too long are refused before the kernel sees them.
pub(super) fn wrong_lengths(kernel: &Kernel) {
    for &map_type in KINDS {
        let map = map(kernel, map_type, 4, 12, 4);
        let (key, long_key) = (1u32.to_ne_bytes(), [0; 5]);
        let right = vec![1; map.value_len()];
        map.update(&key, &right, ANY).unwrap();

        // The last is what a caller who forgets the padding or the CPUs takes.
        let wrong = [0, 1, map.value_len() - 1, map.value_len() + 1, map.value_len() + 8, 11, 13];
        for len in wrong {
            let mut buffer = Guarded::new(len);
            assert_error(map.lookup_into(&key, buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.lookup_and_delete(&key, buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.update(&key, buffer.inner(), ANY), MapErrorKind::Length, None);
            buffer.assert_untouched();
        }
        if map.values_per_element() > 1 {
            let mut one = Guarded::new(12);
            assert_error(map.lookup_into(&key, one.inner(), ANY), MapErrorKind::Length, None);
            one.assert_untouched();
        }
        for bad in [&key[..3], &long_key, &[]] {
            let mut buffer = Guarded::new(map.value_len());
            assert_error(map.lookup_into(bad, buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.lookup(bad), MapErrorKind::Length, None);
            assert_error(map.lookup_and_delete(bad, buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.update(bad, &right, ANY), MapErrorKind::Length, None);
            assert_error(map.delete(bad), MapErrorKind::Length, None);
            assert_error(map.next_key(Some(bad), &mut [0; 4]), MapErrorKind::Length, None);
            buffer.assert_untouched();
            let mut next = Guarded::new(bad.len());
            assert_error(map.next_key(Some(&key), next.inner()), MapErrorKind::Length, None);
            next.assert_untouched();
        }
        let mut buffer = vec![0; map.value_len()];
        assert!(map.lookup_into(&key, &mut buffer, ANY).unwrap(), "the element is as it was");
    }
}

/// Whether the kernel reads and takes elements of such a map in batches.
fn has_batches(map: &Map, take: bool) -> bool {
    let mut cursor = BatchCursor::new(map.as_map_fd());
    let answer = match take {
        false => map.as_map_fd().lookup_batch(&mut cursor, &mut [], &mut [], ANY),
        true => map.as_map_fd().lookup_and_delete_batch(&mut cursor, &mut [], &mut [], ANY),
    };
    answer.is_ok()
}

/// A batch writes as many keys and values as it answers, and nothing behind or before them.
fn batches_of(kernel: &Kernel, map_type: MapType, key_len: usize, size: usize) {
    const THERE: usize = 5;
    let mut request = MapCreate::new(map_type, key_len as u32, size as u32, 8);
    request.name = "under_test";
    if map_type == MapType::LPM_TRIE {
        request.flags = MapFlags::NO_PREALLOC;
    }
    let map = Map::create(kernel, &request).unwrap();
    let array = is_array(&map);
    let key = |n: usize| {
        let mut key = vec![0; key_len];
        key[0] = n as u8;
        if map_type == MapType::LPM_TRIE {
            key[..4].copy_from_slice(&8u32.to_ne_bytes());
            key[4] = n as u8 + 1;
        }
        key
    };
    let keys: Vec<u8> = (0..THERE).flat_map(key).collect();
    let values = vec![0x11; THERE * map.value_len()];
    map.insert_many(&keys, &values, ANY).unwrap();
    let fd = map.as_map_fd();
    for take in [false, true] {
        if !has_batches(&map, take) {
            continue;
        }
        for count in [0, 1, 2, 4, 5, 6, 8, 9, 64] {
            map.insert_many(&keys, &values, ANY).unwrap();
            let mut cursor = BatchCursor::new(fd);
            loop {
                let mut keys = Guarded::new(count * map.key_len());
                let mut values = Guarded::new(count * map.value_len());
                let answer = match take {
                    false => fd.lookup_batch(&mut cursor, keys.inner(), values.inner(), ANY),
                    true => fd.lookup_and_delete_batch(&mut cursor, keys.inner(), values.inner(), ANY),
                };
                let done = *answer.as_ref().unwrap_or_else(|BatchError { done, .. }| done) as usize;
                assert!(done <= count);
                let (got_keys, got_values) = (keys.checked(), values.checked());
                let untouched = |bytes: &[u8]| bytes.iter().all(|byte| *byte == CANARY);
                assert!(untouched(&got_keys[done * map.key_len()..]), "{map_type}: keys behind the last");
                assert!(
                    untouched(&got_values[done * map.value_len()..]),
                    "{map_type}: values behind the last"
                );
                for value in got_values[..done * map.value_len()].chunks(map.value_len()) {
                    // Kernels differ in what they do with the padding of a CPU's value.
                    let first = &value[..size];
                    assert!(first.iter().all(|byte| *byte == if array { first[0] } else { 0x11 }));
                }
                if answer.is_err() || done == 0 {
                    break;
                }
            }
        }
    }

    // Lengths that do not fit are refused before the kernel sees them, by the handle and by the backend.
    let (key_len, value_len) = (map.key_len(), map.value_len());
    for (keys, values) in [
        (2 * key_len, value_len),
        (2 * key_len, 2 * value_len - 1),
        (2 * key_len, 2 * value_len + 1),
        (2 * key_len - 1, 2 * value_len),
        (2 * key_len, 2 * size - 1),
        (key_len, 0),
        (0, value_len),
    ] {
        let (mut keys, mut values) = (Guarded::new(keys), Guarded::new(values));
        let mut cursor = BatchCursor::new(fd);
        let refused = |answer: Result<u32, BatchError>| {
            let error = answer.unwrap_err();
            assert_eq!((error.done, error.errno()), (0, None), "{error:?}");
        };
        refused(fd.lookup_batch(&mut cursor, keys.inner(), values.inner(), ANY));
        refused(fd.lookup_and_delete_batch(&mut cursor, keys.inner(), values.inner(), ANY));
        refused(fd.update_batch(keys.inner(), values.inner(), ANY));
        let error = map.insert_many(keys.inner(), values.inner(), ANY).unwrap_err();
        assert_eq!((error.done, error.error.kind()), (0, MapErrorKind::Length));
        keys.assert_untouched();
        values.assert_untouched();
        for count in [2, 3, u32::MAX] {
            let mut read = BatchRead::new(&mut cursor, keys.inner(), values.inner(), count);
            let answer = kernel.backend().map_lookup_batch(fd.as_map_ref(), &mut read);
            let (errno, done) = answer.unwrap_err();
            assert!(matches!(errno, Errno::EINVAL | Errno::EFAULT) && done == 0, "{errno}");
        }
        keys.assert_untouched();
        values.assert_untouched();
    }
    if key_len > 1 {
        let error = fd.delete_batch(&vec![0; 2 * key_len - 1]).unwrap_err();
        assert_eq!((error.done, error.errno()), (0, None));
    }

    // A cursor of a map with longer or shorter ones.
    let mut other =
        MapCreate::new(MapType::LPM_TRIE, if map_type == MapType::LPM_TRIE { 20 } else { 8 }, 4, 4);
    other.flags = MapFlags::NO_PREALLOC;
    let other = kernel.map_create(&other).unwrap();
    let mut cursor = BatchCursor::new(&other);
    let error = fd.lookup_batch(&mut cursor, &mut [], &mut [], ANY).unwrap_err();
    assert_eq!(error.errno(), None, "{error:?}");
}

pub(super) fn batches(kernel: &Kernel) {
    for size in [1, 4, 7, 8, 12, 300] {
        for &map_type in KINDS {
            batches_of(kernel, map_type, 4, size);
        }
        batches_of(kernel, MapType::LPM_TRIE, 8, size);
    }
    // Keys that are shorter than a cursor, and longer.
    for key_len in [1, 3, 5, 64, 200] {
        batches_of(kernel, MapType::HASH, key_len, 4);
        batches_of(kernel, MapType::PERCPU_HASH, key_len, 12);
        if key_len >= 5 {
            batches_of(kernel, MapType::LPM_TRIE, key_len, 4);
        }
    }
}

/// Flags that choose CPUs shorten values, on kernels that know them and on those that do not.
pub(super) fn cpus(kernel: &Kernel) {
    let last = kernel.possible_cpus().unwrap() - 1;
    for map_type in [MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH, MapType::PERCPU_ARRAY] {
        for size in [1, 4, 8, 12, 300] {
            let map = map(kernel, map_type, 4, size, 4);
            let key = 1u32.to_ne_bytes();
            let full = vec![0x22; map.value_len()];
            map.update(&key, &full, ANY).unwrap();
            for flags in [UpdateFlags::on_cpu(0), UpdateFlags::on_cpu(last), UpdateFlags::ALL_CPUS] {
                let mut value = Guarded::new(size);
                match map.lookup_into(&key, value.inner(), flags) {
                    Ok(true) => assert!(value.checked().iter().all(|byte| *byte == 0x22)),
                    other => {
                        assert_error(other, MapErrorKind::Invalid, Some(Errno::EINVAL));
                        value.assert_untouched();
                    }
                }
                let one = Guarded::new(size).inner().to_vec();
                let written = map.update(&key, &one, flags);
                assert!(written.is_ok() || written.unwrap_err().kind() == MapErrorKind::Invalid);
                map.update(&key, &full, ANY).unwrap();
                for len in [0, size - 1, size + 1, map.value_len() + 8] {
                    let mut value = Guarded::new(len);
                    assert_error(map.lookup_into(&key, value.inner(), flags), MapErrorKind::Length, None);
                    assert_error(map.update(&key, value.inner(), flags), MapErrorKind::Length, None);
                    value.assert_untouched();
                }
                let mut value = Guarded::new(size);
                if map_type != MapType::PERCPU_ARRAY {
                    // No kernel takes these flags for it.
                    assert!(map.lookup_and_delete(&key, value.inner(), flags).is_err());
                    value.assert_untouched();
                }
                let (mut keys, mut values) = (Guarded::new(4 * 4), Guarded::new(4 * size));
                let fd = map.as_map_fd();
                let answer = fd.lookup_batch(&mut BatchCursor::new(fd), keys.inner(), values.inner(), flags);
                let done = *answer.as_ref().unwrap_or_else(|error| &error.done) as usize;
                assert!(keys.checked()[done * 4..].iter().all(|byte| *byte == CANARY));
                assert!(values.checked()[done * size..].iter().all(|byte| *byte == CANARY));
                map.update(&key, &full, ANY).unwrap();
            }
        }
    }
    let around = || Around { before: [CANARY; MARGIN], inner: triple(0), after: [CANARY; MARGIN] };
    let hash: PerCpuHashMap<u32, Triple> = map(kernel, MapType::PERCPU_HASH, 4, 12, 4).typed().unwrap();
    hash.insert_on_all_cpus(&1, &triple(5), ANY).unwrap();
    let array: PerCpuArray<Triple> = map(kernel, MapType::PERCPU_ARRAY, 4, 12, 4).typed().unwrap();
    array.set_on_all_cpus(1, &triple(6), ANY).unwrap();
    let mut value = around();
    value.inner = hash.get_on_cpu(&1, last).unwrap().unwrap();
    assert_eq!((value.before, value.inner, value.after), ([CANARY; MARGIN], triple(5), [CANARY; MARGIN]));
    value.inner = array.get_on_cpu(1, last).unwrap().unwrap();
    assert_eq!((value.before, value.inner, value.after), ([CANARY; MARGIN], triple(6), [CANARY; MARGIN]));
}

/// A map that was opened by its id, from a pin or from a descriptor has the lengths that the kernel says, whoever made it.
pub(super) fn other_shapes(kernel: &Kernel) {
    for (map_type, size) in [(MapType::HASH, 300), (MapType::PERCPU_ARRAY, 12), (MapType::PERCPU_HASH, 1)] {
        let made = map(kernel, map_type, 4, size, 4);
        made.update(&[1, 0, 0, 0], &vec![3; made.value_len()], ANY).unwrap();
        let path = pin_path(kernel, "guards");
        made.pin(&path).unwrap();
        let opened = [
            Map::open_pinned(kernel, &path, OpenFlags::empty()),
            Map::by_id(kernel, made.id().unwrap(), OpenFlags::empty()),
            Map::from_fd(kernel, made.as_fd().try_clone_to_owned().unwrap()),
        ];
        kernel.backend().unpin(&path).unwrap();
        for map in opened {
            let map = map.unwrap();
            assert_eq!((map.key_len(), map.value_len()), (4, made.value_len()));
            // What someone takes who believes that values have 8 bytes.
            assert!(map.typed::<HashMap<u32, u64>>().is_err());
            assert!(map.typed::<PerCpuArray<u64>>().is_err());
            let mut short = Guarded::new(8);
            assert_error(map.lookup_into(&[1, 0, 0, 0], short.inner(), ANY), MapErrorKind::Length, None);
            let (mut keys, mut values) = (Guarded::new(4 * 4), Guarded::new(4 * 8));
            let fd = map.as_map_fd();
            let answer = fd.lookup_batch(&mut BatchCursor::new(fd), keys.inner(), values.inner(), ANY);
            assert_eq!(answer.unwrap_err().errno(), None);
            short.assert_untouched();
            keys.assert_untouched();
            values.assert_untouched();
            let mut value = Guarded::new(map.value_len());
            assert!(map.lookup_into(&[1, 0, 0, 0], value.inner(), ANY).unwrap());
            assert_eq!(value.checked()[..size], vec![3; size]);
        }
    }
}

/// The same for the other kinds that give bytes: those without keys, tries, stack traces, slots of objects, values that
/// belong to what a descriptor stands for; and for every operation that takes bytes and gives none.
pub(super) fn other_kinds(kernel: &Kernel) {
    for (map_type, key_len, size) in [
        (MapType::QUEUE, 0, 12),
        (MapType::STACK, 0, 3),
        (MapType::BLOOM_FILTER, 0, 5),
        (MapType::LPM_TRIE, 8, 3),
        (MapType::STACK_TRACE, 4, 40),
        (MapType::DEVMAP, 4, 4),
        (MapType::DEVMAP, 4, 8),
        (MapType::DEVMAP_HASH, 4, 8),
        (MapType::CPUMAP, 4, 8),
        (MapType::PROG_ARRAY, 4, 4),
        (MapType::SOCKHASH, 6, 8),
        (MapType::SOCKMAP, 4, 8),
        (MapType::REUSEPORT_SOCKARRAY, 4, 8),
        (MapType::CGROUP_STORAGE, 8, 7),
        (MapType::PERCPU_CGROUP_STORAGE, 8, 7),
    ] {
        let entries =
            if matches!(map_type, MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE) { 0 } else { 2 };
        let mut request = MapCreate::new(map_type, key_len as u32, size, entries);
        request.name = "under_test";
        if map_type == MapType::LPM_TRIE {
            request.flags = MapFlags::NO_PREALLOC;
        }
        let Some(map) = super::descriptors::created(kernel, &request) else {
            continue;
        };
        let filled = matches!(map_type, MapType::QUEUE | MapType::STACK | MapType::LPM_TRIE);
        let value = vec![0x11; map.value_len()];
        if filled {
            map.update(&vec![0; key_len], &value, ANY).unwrap();
        }

        let mut key = Guarded::new(key_len);
        key.inner().fill(0);
        let mut buffer = Guarded::new(map.value_len());
        let _ = map.lookup_into(key.inner(), buffer.inner(), ANY);
        assert!(!filled || buffer.checked() == value, "{map_type}");
        let _ = map.next_key(None, key.inner());
        key.inner().fill(0);
        let _ = map.lookup_and_delete(key.inner(), buffer.inner(), ANY);
        let _ = map.delete(key.inner());
        buffer.checked();
        key.checked();

        for len in [0, 1, size as usize + 1, map.value_len() - 1, map.value_len() + 1, map.value_len() + 8] {
            if len == map.value_len() {
                continue;
            }
            let mut buffer = Guarded::new(len);
            assert_error(map.lookup_into(key.inner(), buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.lookup_and_delete(key.inner(), buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.update(key.inner(), buffer.inner(), ANY), MapErrorKind::Length, None);
            buffer.assert_untouched();
        }
        for len in [key_len + 1, key_len.wrapping_sub(1)] {
            if len > key_len + 1 {
                continue;
            }
            let (mut bad, mut buffer) = (Guarded::new(len), Guarded::new(map.value_len()));
            assert_error(map.lookup_into(bad.inner(), buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.lookup_and_delete(bad.inner(), buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.next_key(None, bad.inner()), MapErrorKind::Length, None);
            assert_error(map.delete(bad.inner()), MapErrorKind::Length, None);
            bad.assert_untouched();
            buffer.assert_untouched();
        }
    }

    for map_type in
        [MapType::SK_STORAGE, MapType::TASK_STORAGE, MapType::INODE_STORAGE, MapType::CGRP_STORAGE]
    {
        let Some(map) = super::descriptors::storage(kernel, map_type) else { continue };
        let owner = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for len in [0, 1, 3, 5, 8] {
            let mut buffer = Guarded::new(len);
            assert_error(map.lookup_by_fd(&owner, buffer.inner(), ANY), MapErrorKind::Length, None);
            assert_error(map.update_by_fd(&owner, buffer.inner(), ANY), MapErrorKind::Length, None);
            buffer.assert_untouched();
        }
        let mut buffer = Guarded::new(4);
        if map_type == MapType::SK_STORAGE {
            map.update_by_fd(&owner, &7i32.to_ne_bytes(), ANY).unwrap();
            assert!(map.lookup_by_fd(&owner, buffer.inner(), ANY).unwrap());
            assert_eq!(buffer.checked(), 7i32.to_ne_bytes());
            assert!(map.delete_by_fd(&owner).unwrap());
        } else {
            let _ = map.lookup_by_fd(&owner, buffer.inner(), ANY);
            buffer.checked();
        }
    }

    // Many at once: bytes that are no whole number of keys, or not as many values.
    for &map_type in KINDS {
        let map = map(kernel, map_type, 4, 8, 4);
        let total = |asked, part, count, there| {
            move |error: &MapError| {
                matches!(error, MapError::WrongTotal { asked: a, part: p, count: c, there: t, .. }
                    if (*a, *p, *c, *t) == (asked, part, count, there))
            }
        };
        let (one, values) = (map.value_len(), vec![0; 2 * map.value_len()]);
        let error = map.insert_many(&[0; 9], &values, ANY).unwrap_err();
        assert!(error.done == 0 && total(9, MapPart::Key, 2, 4)(&error.error), "{error:?}");
        let text = "keys of 9 bytes in all were given to map `under_test`, where 2 have 4 each";
        assert_eq!(error.error.to_string(), text);
        let error = map.insert_many(&[0; 8], &values[1..], ANY).unwrap_err();
        assert!(total(2 * one - 1, MapPart::Value, 2, one)(&error.error), "{error:?}");
        let error = map.remove_many(&[0; 5]).unwrap_err();
        assert!(total(5, MapPart::Key, 1, 4)(&error.error), "{error:?}");
        assert_eq!(error.error.kind(), MapErrorKind::Length);
    }
}

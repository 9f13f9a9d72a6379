//! What programs and user space see of each other's writes.

use skep_sys::abi::{Errno, MapFlags, MapType, UpdateFlags};
use skep_sys::request::{MapCreate, MapMemory};
use skep_sys::{Kernel, MapFd};

use super::{Map, Value};
use crate::SimKernel;
use std::os::fd::AsFd;
use std::sync::Arc;

fn create(kernel: &SimKernel, kind: MapType, shape: [u32; 3], flags: MapFlags) -> (MapFd, Arc<Map>) {
    let [key, value, max] = shape;
    let mut request = MapCreate::new(kind, key, value, max);
    request.flags = flags;
    let fd = Kernel::new(kernel.clone()).map_create(&request).expect("a map");
    let map = kernel.0.map(fd.as_fd()).expect("of this kernel").0;
    (fd, map)
}

fn cpus(count: u32) -> SimKernel {
    SimKernel::builder().cpus(count).build().expect("a kernel")
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = vec![0; value.len()];
    value.read(0, &mut bytes).expect("inside");
    bytes
}

fn lookup(fd: &MapFd, key: &[u8]) -> Vec<u8> {
    let mut value = vec![0xee; fd.value_len()];
    fd.lookup(key, &mut value, UpdateFlags::empty()).expect("an element");
    value
}

const ANY: UpdateFlags = UpdateFlags::empty();

#[test]
fn arrays_are_written_in_place() {
    let kernel = cpus(2);
    for flags in [MapFlags::empty(), MapFlags::MMAPABLE] {
        let (fd, map) = create(&kernel, MapType::ARRAY, [4, 5, 3], flags);
        let key = 1u32.to_ne_bytes();
        let value = map.value(&key, 0).expect("a key").expect("an element");
        value.write(1, &[7]).expect("inside");
        assert_eq!(lookup(&fd, &key), [0, 7, 0, 0, 0]);
        fd.update(&key, &[1, 2, 3, 4, 5], ANY).expect("an index");
        assert_eq!(bytes(&value), [1, 2, 3, 4, 5]);
        assert_eq!(lookup(&fd, &0u32.to_ne_bytes()), [0; 5]);
        assert!(map.value(&3u32.to_ne_bytes(), 0).expect("a key").is_none());
        assert_eq!(map.program_update(&3u32.to_ne_bytes(), &[0; 5], 0, 0), Err(Errno::E2BIG));
        assert_eq!(map.program_update(&key, &[0; 5], 1, 0), Err(Errno::EEXIST));
        assert_eq!(map.program_update(&key, &[0; 5], 3, 0), Err(Errno::EINVAL));
        assert_eq!(map.program_delete(&key), Err(Errno::EINVAL));
        map.program_update(&key, &[9; 5], 2, 0).expect("an index");
        assert_eq!(bytes(&value), [9; 5]);
        let all = map.values(0);
        assert_eq!(all.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(bytes(&all[1].1), [9; 5]);
    }
}

#[test]
fn a_mapping_sees_what_programs_write() {
    let kernel = cpus(1);
    let (fd, map) = create(&kernel, MapType::ARRAY, [4, 5, 3], MapFlags::MMAPABLE);
    let value = map.value(&2u32.to_ne_bytes(), 0).expect("a key").expect("an element");
    let mut memory = MapMemory::new(0, 24);
    memory.writable = true;
    let mapping = Kernel::new(kernel.clone()).backend().map_mmap(fd.as_fd(), memory).expect("a mapping");
    value.write(4, &[3]).expect("inside");
    let mut seen = [0; 1];
    mapping.read(20, &mut seen).expect("inside");
    assert_eq!(seen, [3]);
    mapping.write(16, &[8]).expect("writable");
    assert_eq!(bytes(&value), [8, 0, 0, 0, 3]);
    // The pointer of a program is no mapping.
    assert_eq!(fd.freeze().map_err(|error| error.errno()), Err(Some(Errno::EBUSY)));
    drop(mapping);
    fd.freeze().expect("nothing is mapped");
}

#[test]
fn an_update_of_a_hash_makes_a_new_value() {
    let kernel = cpus(1);
    for kind in [MapType::HASH, MapType::LRU_HASH] {
        let (fd, map) = create(&kernel, kind, [2, 3, 2], MapFlags::empty());
        fd.update(&[1, 1], &[1, 2, 3], ANY).expect("room");
        let old = map.value(&[1, 1], 0).expect("a key").expect("an element");
        old.write(0, &[9]).expect("inside");
        assert_eq!(lookup(&fd, &[1, 1]), [9, 2, 3]);
        map.program_update(&[1, 1], &[4, 5, 6], 0, 0).expect("an element");
        assert_eq!(bytes(&old), [9, 2, 3], "who has the old value goes on seeing it");
        assert_eq!(lookup(&fd, &[1, 1]), [4, 5, 6]);
        map.program_delete(&[1, 1]).expect("an element");
        assert_eq!(map.program_delete(&[1, 1]), Err(Errno::ENOENT));
        assert_eq!(map.program_update(&[1, 1], &[0; 3], 2, 0), Err(Errno::ENOENT));
        assert_eq!(map.program_update(&[1, 1], &[0; 3], 4, 0), Err(Errno::EINVAL), "it has no lock");
    }
}

#[test]
fn a_program_writes_the_value_of_its_cpu() {
    let kernel = cpus(3);
    for kind in [MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH, MapType::PERCPU_ARRAY] {
        let (fd, map) = create(&kernel, kind, [4, 3, 2], MapFlags::empty());
        let key = 1u32.to_ne_bytes();
        map.program_update(&key, &[1, 2, 3], 0, 1).expect("room");
        let mut all = [0; 24];
        all[8..11].copy_from_slice(&[1, 2, 3]);
        assert_eq!(lookup(&fd, &key), all, "{kind}");
        let value = map.value(&key, 2).expect("a key").expect("a CPU");
        assert_eq!(bytes(&value), [0; 3]);
        map.program_update(&key, &[7, 8, 9], 0, 2).expect("an element");
        assert_eq!(bytes(&value), [7, 8, 9], "in place");
        assert!(map.value(&key, 3).expect("a key").is_none(), "there are three");
        fd.update(&key, &[5; 24], ANY).expect("an element");
        assert_eq!(bytes(&value), [5; 3], "in place");
        assert_eq!(lookup(&fd, &key), [5; 24], "with what is between the values");
    }
}

#[test]
fn a_lookup_by_a_program_keeps_an_element() {
    let (fd, map) = create(&cpus(1), MapType::LRU_HASH, [1, 1, 2], MapFlags::empty());
    for key in [1, 2] {
        fd.update(&[key], &[key], ANY).expect("room");
    }
    map.value(&[1], 0).expect("a key").expect("an element");
    lookup(&fd, &[2]); // from user space, which does not count
    map.program_update(&[3], &[3], 0, 0).expect("room is made");
    assert!(map.value(&[1], 0).expect("a key").is_some());
    assert!(map.value(&[2], 0).expect("a key").is_none());
}

#[test]
fn queues_answer_with_zeros_when_they_are_empty() {
    let kernel = cpus(1);
    for (kind, first) in [(MapType::QUEUE, 1), (MapType::STACK, 2)] {
        let (_fd, map) = create(&kernel, kind, [0, 1, 2], MapFlags::empty());
        let mut value = [5];
        assert_eq!((map.program_pop(&mut value), value), (Err(Errno::ENOENT), [0]));
        map.program_push(&[1], 0).expect("room");
        map.program_push(&[2], 0).expect("room");
        assert_eq!(map.program_push(&[3], 0), Err(Errno::E2BIG));
        assert_eq!(map.program_push(&[3], 1), Err(Errno::EINVAL));
        map.program_peek(&mut value).expect("a value");
        assert_eq!(value, [first]);
        map.program_push(&[3], 2).expect("the oldest goes");
        map.program_pop(&mut value).expect("a value");
        assert_eq!(value, [if first == 1 { 2 } else { 3 }]);
        assert_eq!(map.program_update(&[], &[1], 0, 0), Err(Errno::EINVAL));
    }
}

#[test]
fn maps_in_maps() {
    let kernel = cpus(1);
    let (inner, inner_map) = create(&kernel, MapType::HASH, [4, 4, 1], MapFlags::empty());
    let mut request = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 2);
    request.inner_map = Some(inner.as_fd());
    let fd = Kernel::new(kernel.clone()).map_create(&request).expect("a map");
    let outer = kernel.0.map(fd.as_fd()).expect("of this kernel").0;
    let key = 1u32.to_ne_bytes();
    assert!(outer.inner_map(&key).is_none());
    fd.update_fd(&key, inner.as_fd(), ANY).expect("it fits");
    assert!(Arc::ptr_eq(&outer.inner_map(&key).expect("a map"), &inner_map));
}

#[test]
fn a_hash_has_so_many_buckets_at_most() {
    let kernel = Kernel::new(SimKernel::new());
    let create = |max: u32| {
        let mut request = MapCreate::new(MapType::HASH, 4, 8, max);
        request.flags = MapFlags::NO_PREALLOC;
        kernel.map_create(&request).map(drop)
    };
    assert_eq!(create((1 << 27) + 1), Err(Errno::E2BIG));
    assert_eq!(create(1 << 20), Ok(()));
}

use std::sync::atomic::Ordering;

use skep_sys::abi::{Errno, MapFlags, MapType, OpenFlags, UpdateFlags};
use skep_sys::request::{MapCreate, MapMemory};
use skep_sys::{Kernel, MapError, ObjectKind};

use crate::support::{kernel, map, pin_dir, program};

const ANY: UpdateFlags = UpdateFlags::empty();

fn errno<T: std::fmt::Debug>(result: Result<T, MapError>) -> Errno {
    result.unwrap_err().errno().expect("the kernel was asked")
}

#[test]
fn a_hash_keeps_elements() {
    let Some(kernel) = kernel("a_hash_keeps_elements") else { return };
    let map = map(&kernel, MapType::HASH, 4, 8, 2);
    let (one, two, three) = ([1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]);
    let mut value = [0; 8];
    assert_eq!(errno(map.lookup(&one, &mut value, ANY)), Errno::ENOENT);
    map.update(&one, &[7; 8], ANY).unwrap();
    map.lookup(&one, &mut value, ANY).unwrap();
    assert_eq!(value, [7; 8]);
    assert_eq!(errno(map.update(&one, &[1; 8], UpdateFlags::NOEXIST)), Errno::EEXIST);
    assert_eq!(errno(map.update(&two, &[1; 8], UpdateFlags::EXIST)), Errno::ENOENT);
    map.update(&two, &[8; 8], UpdateFlags::NOEXIST).unwrap();
    assert_eq!(errno(map.update(&three, &[1; 8], ANY)), Errno::E2BIG);

    let mut seen = Vec::new();
    let mut key: Option<[u8; 4]> = None;
    loop {
        let mut next = [0; 4];
        match map.next_key(key.as_ref().map(|key| key.as_slice()), &mut next) {
            Ok(()) => seen.push(next),
            Err(error) => {
                assert_eq!(error.errno(), Some(Errno::ENOENT));
                break;
            }
        }
        key = Some(next);
    }
    seen.sort();
    assert_eq!(seen, [one, two]);

    match map.lookup_and_delete(&two, &mut value, ANY) {
        Ok(()) => assert_eq!(value, [8; 8]),
        // Before Linux 5.14 only queues and stacks can.
        Err(error) => assert_eq!(error.errno(), Some(Errno::ENOTSUPP)),
    }
    map.delete(&one).unwrap();
    assert_eq!(errno(map.delete(&one)), Errno::ENOENT);
}

#[test]
fn a_per_cpu_value_is_one_for_each_cpu_and_no_byte_more() {
    let Some(kernel) = kernel("a_per_cpu_value_is_one_for_each_cpu_and_no_byte_more") else { return };
    let cpus = kernel.possible_cpus().unwrap() as usize;
    for (map_type, size) in
        [(MapType::PERCPU_ARRAY, 12), (MapType::PERCPU_HASH, 1), (MapType::PERCPU_ARRAY, 8)]
    {
        let map = map(&kernel, map_type, 4, size, 1);
        let stride = (size as usize).next_multiple_of(8);
        assert_eq!(map.value_len(), cpus * stride);
        let key = [0; 4];
        let written: Vec<u8> = (0..map.value_len()).map(|i| (i % 250) as u8 + 1).collect();
        map.update(&key, &written, ANY).unwrap();

        // Guards before and behind the part that the kernel may write.
        let mut buffer = vec![0xee; map.value_len() + 64];
        let end = 32 + map.value_len();
        map.lookup(&key, &mut buffer[32..end], ANY).unwrap();
        assert!(buffer[..32].iter().chain(&buffer[end..]).all(|&byte| byte == 0xee), "{map_type} {size}");
        for cpu in 0..cpus {
            let (at, size) = (cpu * stride, size as usize);
            assert_eq!(buffer[32 + at..32 + at + size], written[at..at + size], "{map_type} cpu {cpu}");
        }
    }
}

#[test]
fn wrong_lengths_never_reach_the_kernel() {
    let Some(kernel) = kernel("wrong_lengths_never_reach_the_kernel") else { return };
    let map = map(&kernel, MapType::HASH, 4, 8, 2);
    let key = |got| MapError::KeyLength { got, want: 4 };
    let value = |got| MapError::ValueLength { got, want: 8 };
    for len in [0, 3, 5, 8] {
        let bytes = vec![0; len];
        assert_eq!(map.lookup(&bytes, &mut [0; 8], ANY), Err(key(len)));
        assert_eq!(map.update(&bytes, &[0; 8], ANY), Err(key(len)));
        assert_eq!(map.delete(&bytes), Err(key(len)));
        assert_eq!(map.lookup_and_delete(&bytes, &mut [0; 8], ANY), Err(key(len)));
        assert_eq!(map.next_key(Some(&bytes), &mut [0; 4]), Err(key(len)));
        assert_eq!(map.next_key(None, &mut vec![0; len]), Err(key(len)));
    }
    for len in [0, 7, 9] {
        assert_eq!(map.lookup(&[0; 4], &mut vec![0; len], ANY), Err(value(len)));
        assert_eq!(map.update(&[0; 4], &vec![0; len], ANY), Err(value(len)));
        assert_eq!(map.lookup_and_delete(&[0; 4], &mut vec![0; len], ANY), Err(value(len)));
    }
    // The backend itself does not trust its caller either.
    let backend = kernel.backend();
    assert_eq!(backend.map_lookup(map.as_map_ref(), &[0; 4], &mut [0; 7], 0), Err(Errno::EINVAL));
    assert_eq!(backend.map_update(map.as_map_ref(), &[0; 3], &[0; 8], 0), Err(Errno::EINVAL));
    assert_eq!(backend.map_next_key(map.as_map_ref(), None, &mut [0; 3]), Err(Errno::EINVAL));
}

#[test]
fn one_value_for_a_cpu_or_for_all() {
    let Some(kernel) = kernel("one_value_for_a_cpu_or_for_all") else { return };
    let map = map(&kernel, MapType::PERCPU_ARRAY, 4, 12, 1);
    let all = UpdateFlags::ALL_CPUS;
    assert_eq!(map.value_len_with(all), 12);
    let full = vec![0; map.value_len()];
    assert_eq!(map.update(&[0; 4], &full, all), Err(MapError::ValueLength { got: full.len(), want: 12 }));
    // Kernels before 7.0 refuse the flag, and nothing is written then.
    match map.update(&[0; 4], &[5; 12], all) {
        Ok(()) => {
            let mut value = full;
            map.lookup(&[0; 4], &mut value, ANY).unwrap();
            assert!(value.chunks(16).all(|value| value[..12] == [5; 12]));
        }
        Err(error) => assert_eq!(error.errno(), Some(Errno::EINVAL)),
    }
}

#[test]
fn queues_and_blooms_have_no_key() {
    let Some(kernel) = kernel("queues_and_blooms_have_no_key") else { return };
    let mut value = [0; 4];
    let queue = map(&kernel, MapType::QUEUE, 0, 4, 4);
    let stack = map(&kernel, MapType::STACK, 0, 4, 4);
    for byte in 1..=3 {
        queue.update(&[], &[byte; 4], ANY).unwrap();
        stack.update(&[], &[byte; 4], ANY).unwrap();
    }
    queue.lookup(&[], &mut value, ANY).unwrap();
    assert_eq!(value, [1; 4]);
    queue.lookup_and_delete(&[], &mut value, ANY).unwrap();
    assert_eq!(value, [1; 4]);
    stack.lookup_and_delete(&[], &mut value, ANY).unwrap();
    assert_eq!(value, [3; 4]);
    assert_eq!(queue.delete(&[0; 4]), Err(MapError::KeyLength { got: 4, want: 0 }));

    let bloom = kernel.map_create(&MapCreate::new(MapType::BLOOM_FILTER, 0, 4, 8));
    match bloom {
        Ok(bloom) => {
            bloom.update(&[], &[9; 4], ANY).unwrap();
            bloom.lookup(&[], &mut [9; 4], ANY).unwrap();
            assert_eq!(errno(bloom.lookup(&[], &mut [1; 4], ANY)), Errno::ENOENT);
        }
        // Before Linux 5.16.
        Err(errno) => assert_eq!(errno, Errno::EINVAL),
    }
}

#[test]
fn a_frozen_map_is_read_only() {
    let Some(kernel) = kernel("a_frozen_map_is_read_only") else { return };
    let map = map(&kernel, MapType::ARRAY, 4, 4, 1);
    map.update(&[0; 4], &[1; 4], ANY).unwrap();
    map.freeze().unwrap();
    assert_eq!(errno(map.update(&[0; 4], &[2; 4], ANY)), Errno::EPERM);
    let mut value = [0; 4];
    map.lookup(&[0; 4], &mut value, ANY).unwrap();
    assert_eq!(value, [1; 4]);
}

#[test]
fn memory_of_an_array_is_shared() {
    let Some(kernel) = kernel("memory_of_an_array_is_shared") else { return };
    let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 4);
    request.flags = MapFlags::MMAPABLE;
    let map = kernel.map_create(&request).unwrap();
    let memory = map.mmap(0, 4096, true).unwrap();
    map.update(&[2, 0, 0, 0], &77u64.to_ne_bytes(), ANY).unwrap();
    assert_eq!(memory.load_u64(16), Ok(77));
    memory.atomic_u64(24).unwrap().store(5, Ordering::Release);
    let mut value = [0; 8];
    map.lookup(&[3, 0, 0, 0], &mut value, ANY).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 5);
    assert_eq!(errno(map.mmap(0, 1 << 20, false)), Errno::EINVAL);

    let view = map.mmap(0, 4096, false).unwrap();
    assert!(view.write(0, &[1]).is_err() && view.atomic_u32(0).is_err());
    drop(map);
    assert_eq!(view.load_u64(24), Ok(5), "the memory outlives the handle");
    drop((memory, view));

    // Anything else cannot be mapped through here.
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    use std::os::fd::AsFd;
    assert_eq!(kernel.backend().map_mmap(file.as_fd(), MapMemory::new(0, 4096)).unwrap_err(), Errno::EINVAL);
}

#[test]
fn a_map_is_found_again_by_pin_and_id() {
    let name = "a_map_is_found_again_by_pin_and_id";
    let Some(kernel) = kernel(name) else { return };
    let Some(dir) = pin_dir(&kernel, name) else { return };
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 3);
    request.name = "found_again";
    request.flags = MapFlags::NO_PREALLOC;
    let map = kernel.map_create(&request).unwrap();
    map.update(&[1; 4], &[2; 8], ANY).unwrap();
    let info = map.info().unwrap();
    assert_eq!((info.map_type, info.key_size, info.value_size, info.max_entries), (MapType::HASH, 4, 8, 3));
    assert_eq!((info.name.as_str(), info.flags), ("found_again", MapFlags::NO_PREALLOC));

    let path = dir.path().join("map");
    map.pin(&path).unwrap();
    assert_eq!(errno(map.pin(&path)), Errno::EEXIST);
    let clone = map.try_clone().unwrap();
    let ids: Vec<u32> = kernel.ids(ObjectKind::Map).collect::<Result<_, _>>().unwrap();
    assert!(ids.contains(&info.id.0) && ids.is_sorted());
    drop(map);
    for map in [
        clone,
        kernel.map_open_pinned(&path, OpenFlags::empty()).unwrap(),
        kernel.map_by_id(info.id, OpenFlags::empty()).unwrap(),
    ] {
        assert_eq!((map.map_type(), map.key_len(), map.value_len()), (MapType::HASH, 4, 8));
        assert_eq!(map.shape().flags, MapFlags::NO_PREALLOC);
        let mut value = [0; 8];
        map.lookup(&[1; 4], &mut value, ANY).unwrap();
        assert_eq!(value, [2; 8]);
    }
    let readable = kernel.map_open_pinned(&path, OpenFlags::RDONLY).unwrap();
    assert_eq!(errno(readable.update(&[1; 4], &[0; 8], ANY)), Errno::EPERM);
    kernel.backend().unpin(&path).unwrap();
    assert_eq!(kernel.map_open_pinned(&path, OpenFlags::empty()).unwrap_err(), Errno::ENOENT);
}

#[test]
fn what_is_no_map_is_not_taken_for_one() {
    let Some(kernel) = kernel("what_is_no_map_is_not_taken_for_one") else { return };
    let prog = program(&kernel, skep_sys::abi::ProgType::SOCKET_FILTER, "no_map", 0);
    assert_eq!(kernel.map_from_fd(prog.into()).unwrap_err(), Errno::EINVAL);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(kernel.map_from_fd(file.into()).unwrap_err(), Errno::EINVAL);
}

#[test]
fn handles_of_two_kernels_do_not_mix() {
    let Some(one) = kernel("handles_of_two_kernels_do_not_mix") else { return };
    let other = Kernel::linux();
    assert!(one.same(&one.clone()) && !one.same(&other));
    let inner = map(&other, MapType::ARRAY, 4, 4, 1);
    let mut request = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 1);
    use std::os::fd::AsFd;
    request.inner_map = Some(inner.as_fd());
    let outer = one.map_create(&request).unwrap();
    assert_eq!(outer.update_map(&[0; 4], &inner, ANY), Err(MapError::OtherKernel));
    let same = map(&one, MapType::ARRAY, 4, 4, 1);
    outer.update_map(&[0; 4], &same, ANY).unwrap();
    let mut id = [0; 4];
    outer.lookup(&[0; 4], &mut id, ANY).unwrap();
    assert_eq!(u32::from_ne_bytes(id), same.info().unwrap().id.0);
}

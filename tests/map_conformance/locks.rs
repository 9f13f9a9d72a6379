//! Values with a spin lock in them.

use std::os::fd::AsFd;

use skep::btf::{BtfBuilder, IntEncoding};
use skep::map::{Map, MapErrorKind};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType, UpdateFlags};
use skep::sys::request::{MapBtf, MapCreate};

use super::{ANY, assert_error};

/// A map whose values are a number of 64 bits, a lock, and a number of 32 bits.
fn map(kernel: &Kernel, map_type: MapType) -> Option<Map> {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("unsigned int", 4, IntEncoding::NONE).unwrap();
    let long = btf.add_int("unsigned long long", 8, IntEncoding::NONE).unwrap();
    let lock = btf.add_struct("bpf_spin_lock", 4).unwrap();
    btf.add_member("val", int, 0, 0).unwrap();
    let guarded = btf.add_struct("guarded", 16).unwrap();
    btf.add_member("total", long, 0, 0).unwrap();
    btf.add_member("lock", lock, 64, 0).unwrap();
    btf.add_member("count", int, 96, 0).unwrap();
    let types = match kernel.btf_load(btf.finish().unwrap().bytes(), None) {
        Ok(types) => types,
        Err(errno) => {
            println!("skip: locked_values: this kernel takes no types: {errno}");
            return None;
        }
    };
    let mut request = MapCreate::new(map_type, 4, 16, 4);
    request.name = "under_test";
    request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int.0, value_type: guarded.0 });
    Some(Map::create(kernel, &request).unwrap())
}

/// A value with something where the lock is.
fn value(total: u64, lock: u32, count: u32) -> Vec<u8> {
    [&total.to_ne_bytes()[..], &lock.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

/// Reads and writes take the lock where that is said, and never give or change it.
pub(super) fn values(kernel: &Kernel) {
    for map_type in [MapType::HASH, MapType::ARRAY] {
        let Some(map) = map(kernel, map_type) else { return };
        let key = 1u32.to_ne_bytes();
        let read = |flags| {
            let mut read = value(9, 9, 9);
            map.lookup_into(&key, &mut read, flags).unwrap().then_some(read)
        };
        map.update(&key, &value(1, u32::MAX, 2), ANY).unwrap();
        assert_eq!(read(ANY), Some(value(1, 0, 2)), "{map_type}");
        assert_eq!(read(UpdateFlags::LOCK), Some(value(1, 0, 2)), "{map_type}");
        map.update(&key, &value(3, 7, 4), UpdateFlags::LOCK).unwrap();
        map.update(&key, &value(5, 7, 6), UpdateFlags::LOCK | UpdateFlags::EXIST).unwrap();
        assert_eq!(read(UpdateFlags::LOCK), Some(value(5, 0, 6)), "{map_type}");
        let new = UpdateFlags::LOCK | UpdateFlags::NOEXIST;
        assert_error(map.update(&key, &value(7, 0, 8), new), MapErrorKind::Exists, Some(Errno::EEXIST));
        let missing = 9u32.to_ne_bytes();
        assert!(!map.lookup_into(&missing, &mut value(0, 0, 0), UpdateFlags::LOCK).unwrap());
        let all = UpdateFlags::LOCK | UpdateFlags::from_bits_retain(1 << 20);
        assert!(map.update(&key, &value(9, 0, 9), all).is_err());
        assert_eq!(read(ANY), Some(value(5, 0, 6)), "{map_type}");
    }

    // Nothing is read in the middle of a write.
    let Some(map) = map(kernel, MapType::ARRAY) else { return };
    let key = 0u32.to_ne_bytes();
    std::thread::scope(|scope| {
        for thread in 1..3u32 {
            let map = &map;
            scope.spawn(move || {
                for n in 0..2000u32 {
                    let number = n * 2 + thread;
                    map.update(&key, &value(number.into(), 0, number), UpdateFlags::LOCK).unwrap();
                }
            });
        }
        for _ in 0..2000 {
            let mut read = value(0, 0, 0);
            assert!(map.lookup_into(&key, &mut read, UpdateFlags::LOCK).unwrap());
            assert_eq!((&read[0..4], &read[4..12]), (&read[12..16], &[0; 8][..]));
        }
    });
}

//! What allocates no memory, on any kernel.

use skep::map::{Array, HashMap, Map, PerCpuArray, PerCpuHashMap};
use skep::sys::abi::{MapType, UpdateFlags};
use skep::sys::request::MapCreate;
use skep::{Kernel, sys::Feature};

const ANY: UpdateFlags = UpdateFlags::empty();

fn map(kernel: &Kernel, map_type: MapType, value: u32) -> Map {
    Map::create(kernel, &MapCreate::new(map_type, 4, value, 64)).unwrap()
}

/// How often some work allocates, once it was done before: what is asked once and remembered does not count.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    allocation_counter::measure(|| {
        for _ in 0..100 {
            work();
        }
    })
    .count_total
}

/// Looks up, writes and removes elements of every typed view.
pub(crate) fn elements(kernel: &Kernel) {
    let check = |what: &str, work: &mut dyn FnMut()| assert_eq!(allocations(work), 0, "{what}");

    let hash: HashMap<u32, [u64; 40]> = map(kernel, MapType::HASH, 320).typed().unwrap();
    let mut value = [3; 40];
    check("hash", &mut || {
        hash.insert(&1, &value, ANY).unwrap();
        hash.get(&1).unwrap();
        hash.get(&2).unwrap();
        hash.get_into(&1, &mut value).unwrap();
        hash.remove(&1).unwrap();
        hash.remove(&2).unwrap();
    });
    let bytes = hash.as_map();
    let mut room = [0; 320];
    check("bytes", &mut || {
        bytes.update(&[1, 0, 0, 0], &room, ANY).unwrap();
        bytes.lookup_into(&[1, 0, 0, 0], &mut room, ANY).unwrap();
        bytes.next_key(None, &mut [0; 4]).unwrap();
        bytes.delete(&[1, 0, 0, 0]).unwrap();
    });
    hash.insert(&1, &value, ANY).unwrap();
    if hash.lookup_and_delete(&1).is_ok() {
        check("lookup and delete", &mut || {
            hash.insert(&1, &value, ANY).unwrap();
            hash.lookup_and_delete(&1).unwrap();
            hash.lookup_and_delete_into(&1, &mut value, ANY).unwrap();
        });
    }

    let array: Array<u64> = map(kernel, MapType::ARRAY, 8).typed().unwrap();
    check("array", &mut || {
        array.set(1, &4, ANY).unwrap();
        array.get(1).unwrap();
    });

    let hash: PerCpuHashMap<u32, u64> = map(kernel, MapType::PERCPU_HASH, 8).typed().unwrap();
    let mut values = hash.zeroed_values();
    let alone = kernel.has(Feature::CpuFlags).is_supported();
    check("per-CPU hash", &mut || {
        hash.insert(&1, &values, ANY).unwrap();
        hash.get_into(&1, &mut values).unwrap();
        hash.get_on_cpu(&1, 0).unwrap();
        hash.insert_on_all_cpus(&1, &5, ANY).unwrap();
        if alone {
            hash.insert_on_cpu(&1, 0, &6, ANY).unwrap();
        }
        hash.remove(&1).unwrap();
    });
    let array: PerCpuArray<u64> = map(kernel, MapType::PERCPU_ARRAY, 8).typed().unwrap();
    let mut values = array.zeroed_values();
    check("per-CPU array", &mut || {
        array.set(1, &values, ANY).unwrap();
        array.get_into(1, &mut values).unwrap();
        array.get_on_cpu(1, 0).unwrap();
        array.set_on_all_cpus(1, &5, ANY).unwrap();
    });
}

/// Reads a map in batches: memory is taken with the first one, and used again.
pub(crate) fn batches(kernel: &Kernel) {
    let map = Map::create(kernel, &MapCreate::new(MapType::HASH, 4, 8, 4096)).unwrap();
    let hash: HashMap<u32, u64> = map.typed().unwrap();
    let keys: Vec<u32> = (0..2000).collect();
    let values = vec![7; keys.len()];
    hash.insert_many(&keys, &values, ANY).unwrap();
    let mut batches = hash.batches(100);
    batches.next_batch().unwrap();
    let counted = allocation_counter::measure(|| {
        for _ in 0..10 {
            let batch = batches.next_batch().unwrap().expect("there are more");
            assert!(batch.iter().count() > 0);
        }
    });
    assert_eq!(counted.count_total, 0);
    let counted = allocation_counter::measure(|| {
        hash.insert_many(&keys, &values, ANY).unwrap();
        hash.remove_many(&keys).unwrap();
    });
    assert_eq!(counted.count_total, 0);
}

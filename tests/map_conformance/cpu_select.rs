//! The value of one CPU, and one value for all.

use skep::map::{MapErrorKind, PerCpuArray, PerCpuHashMap, PerCpuValues};
use skep::sys::abi::{Errno, MapType, UpdateFlags};
use skep::sys::{Feature, Kernel};

use super::{ANY, Triple, assert_error, map, triple};

pub(super) fn one_cpu(kernel: &Kernel) {
    let cpus = kernel.possible_cpus().unwrap();
    let last = cpus - 1;
    let alone = kernel.has(Feature::CpuFlags).is_supported();
    let values = PerCpuValues::from_fn(cpus, |cpu| triple(cpu as u8 + 1));
    for map_type in [MapType::PERCPU_HASH, MapType::LRU_PERCPU_HASH] {
        let hash: PerCpuHashMap<u32, Triple> = map(kernel, map_type, 4, 12, 512).typed().unwrap();
        assert_eq!(hash.get_on_cpu(&1, 0).unwrap(), None);
        hash.insert(&1, &values, ANY).unwrap();
        for cpu in 0..cpus {
            assert_eq!(hash.get_on_cpu(&1, cpu).unwrap(), values.get(cpu));
        }
        let no_such = hash.get_on_cpu(&1, cpus).unwrap_err();
        assert_eq!(
            no_such.to_string(),
            format!("map `under_test` has values for {cpus} CPUs, and CPU {cpus} is none of them")
        );
        assert_error(hash.insert_on_cpu(&1, cpus, &triple(9), ANY), MapErrorKind::Invalid, None);

        match hash.insert_on_cpu(&1, last, &triple(9), ANY) {
            Ok(()) => {
                assert!(alone);
                assert_eq!(hash.get_on_cpu(&1, last).unwrap(), Some(triple(9)));
                for cpu in 0..last {
                    assert_eq!(hash.get_on_cpu(&1, cpu).unwrap(), values.get(cpu), "others keep theirs");
                }
                hash.insert_on_cpu(&2, last, &triple(8), ANY).unwrap();
                assert_eq!(hash.get_on_cpu(&2, last).unwrap(), Some(triple(8)));
                // What a kernel would not look at is refused.
                for flags in [UpdateFlags::NOEXIST, UpdateFlags::EXIST] {
                    let refused = hash.insert_on_cpu(&2, last, &triple(1), flags).unwrap_err();
                    assert_eq!(refused.kind(), MapErrorKind::Unsupported, "{refused}");
                }
                assert_eq!(hash.get_on_cpu(&2, last).unwrap(), Some(triple(8)));
            }
            Err(error) => {
                assert_eq!((error.kind(), alone), (MapErrorKind::Unsupported, false), "{error}");
                assert_eq!(hash.get(&1).unwrap().as_ref(), Some(&values), "nothing was written");
            }
        }
        hash.insert_on_all_cpus(&1, &triple(7), UpdateFlags::EXIST).unwrap();
        assert!(hash.get(&1).unwrap().unwrap().iter().all(|value| value == triple(7)));
        hash.insert_on_all_cpus(&3, &triple(6), UpdateFlags::NOEXIST).unwrap();
        assert!(hash.get(&3).unwrap().unwrap().iter().all(|value| value == triple(6)));
        let there = hash.insert_on_all_cpus(&3, &triple(6), UpdateFlags::NOEXIST);
        assert_error(there, MapErrorKind::Exists, Some(Errno::EEXIST));
    }

    let array: PerCpuArray<[u8; 3000]> = map(kernel, MapType::PERCPU_ARRAY, 4, 3000, 4).typed().unwrap();
    array.set_on_all_cpus(2, &[4; 3000], ANY).unwrap();
    assert!(array.get(2).unwrap().unwrap().iter().all(|value| value == [4; 3000]));
    assert_eq!(array.get_on_cpu(2, last).unwrap(), Some([4; 3000]));
    assert_eq!(array.get_on_cpu(4, 0).unwrap(), None);
    assert_error(array.set_on_all_cpus(4, &[4; 3000], ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    if alone {
        array.set_on_cpu(2, 0, &[5; 3000], ANY).unwrap();
        assert_eq!(array.get_on_cpu(2, 0).unwrap(), Some([5; 3000]));
        assert_eq!(array.get_on_cpu(2, last).unwrap(), Some([if last == 0 { 5 } else { 4 }; 3000]));
    } else {
        let refused = array.set_on_cpu(2, 0, &[5; 3000], ANY).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot update an element of map `under_test`: this kernel cannot write the value of one CPU alone, which Linux \
             can since 7.0"
        );
    }
}

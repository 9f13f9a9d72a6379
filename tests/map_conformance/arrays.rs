use skep::map::{Array, Map, MapErrorKind, PerCpuArray, PerCpuValues, PlainData};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType, UpdateFlags};

use super::{ANY, Triple, assert_error, map, triple};

pub(super) fn plain(kernel: &Kernel) {
    let map = map(kernel, MapType::ARRAY, 4, 12, 3);
    let array: Array<Triple> = map.typed().unwrap();
    assert_eq!(array.len(), 3);
    assert!(!array.is_empty());
    let zero = Triple { a: 0, b: [0; 2], c: [0; 4] };

    assert_eq!(array.get(0).unwrap(), Some(zero));
    array.set(2, &triple(3), ANY).unwrap();
    array.set(0, &triple(1), UpdateFlags::EXIST).unwrap();
    let mut value = triple(9);
    assert!(array.get_into(2, &mut value).unwrap());
    assert_eq!(value, triple(3));
    assert!(!array.get_into(3, &mut value).unwrap());
    assert_eq!(value, triple(3));
    assert_eq!(array.get(3).unwrap(), None);
    assert_eq!(array.get(u32::MAX).unwrap(), None);
    assert_eq!(array.iter().collect::<Result<Vec<_>, _>>().unwrap(), [triple(1), zero, triple(3)]);

    let error = array.set(3, &zero, ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Full, Some(Errno::E2BIG)));
    assert_eq!(
        error.to_string(),
        "cannot update an element of map `under_test`: the index is not below the number of elements"
    );
    assert_error(array.set(0, &zero, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(array.get_with(0, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));
    let error = map.delete(&0u32.to_ne_bytes()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Invalid, Some(Errno::EINVAL)));
    assert_eq!(
        error.to_string(),
        "cannot delete an element of map `under_test`: elements of an array cannot be deleted"
    );
    let keys: Vec<_> = map.keys().map(Result::unwrap).collect();
    assert_eq!(keys, [0u32, 1, 2].map(|key| Box::from(key.to_ne_bytes())));
}

pub(super) fn per_cpu(kernel: &Kernel) {
    let map = map(kernel, MapType::PERCPU_ARRAY, 4, 8, 2);
    let array: PerCpuArray<u64> = map.typed().unwrap();
    let cpus = kernel.possible_cpus().unwrap();
    assert_eq!(array.len(), 2);
    let values = PerCpuValues::from_fn(cpus, |cpu| u64::MAX - u64::from(cpu));

    assert_eq!(array.get(1).unwrap(), Some(array.zeroed_values()));
    array.set(1, &values, ANY).unwrap();
    assert_eq!(array.get(1).unwrap().as_ref(), Some(&values));
    assert_eq!(array.get(2).unwrap(), None);
    let all: Vec<_> = array.iter().map(Result::unwrap).collect();
    assert_eq!(all, [array.zeroed_values(), values.clone()]);
    let mut read = array.zeroed_values();
    assert!(!array.get_into(2, &mut read).unwrap());
    assert!(array.get_into(1, &mut read).unwrap());
    assert_eq!(read, values);

    assert_error(array.set(2, &values, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(array.set(0, &values, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(array.set(0, &PerCpuValues::zeroed(0), ANY), MapErrorKind::Length, None);
    assert_error(array.get_into(0, &mut PerCpuValues::zeroed(cpus + 1)), MapErrorKind::Length, None);
    assert_error(map.delete(&0u32.to_ne_bytes()), MapErrorKind::Invalid, Some(Errno::EINVAL));
}

/// Each CPU's value begins at a multiple of 8 bytes, whatever its size.
pub(super) fn per_cpu_sizes(kernel: &Kernel) {
    fn one<V: PlainData + PartialEq + std::fmt::Debug>(kernel: &Kernel, value: impl Fn(u8) -> V) {
        let map: Map = map(kernel, MapType::PERCPU_ARRAY, 4, size_of::<V>(), 1);
        let array: PerCpuArray<V> = map.typed().unwrap();
        let cpus = kernel.possible_cpus().unwrap();
        let values = PerCpuValues::from_fn(cpus, |cpu| value(cpu as u8));
        assert_eq!(values.as_bytes().len(), map.value_len());
        array.set(0, &values, ANY).unwrap();
        let read = array.get(0).unwrap().unwrap();
        assert_eq!(read, values);
        assert_eq!(read.iter().len(), cpus as usize);
        assert_eq!(read.get(cpus - 1), Some(value(cpus as u8 - 1)));
        assert_eq!(read.get(cpus), None);
        // The kernel keeps nothing of what lies between the values, and gives zeroes.
        assert_eq!(read.as_bytes(), values.as_bytes());
    }
    one::<u8>(kernel, |n| n + 1);
    one::<[u8; 3]>(kernel, |n| [n, 0xff, n]);
    one::<u32>(kernel, |n| !u32::from(n));
    one::<[u8; 7]>(kernel, |n| [n; 7]);
    one::<u64>(kernel, |n| !u64::from(n));
    one::<[u8; 9]>(kernel, |n| [0xf0 | n; 9]);
    one::<u128>(kernel, |n| !u128::from(n));
    one::<[u64; 100]>(kernel, |n| [u64::from(n); 100]);
}

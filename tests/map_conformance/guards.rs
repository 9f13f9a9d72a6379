//! Nothing outside of a buffer is written, and nothing at all when its length is wrong.

use skep::map::{Array, HashMap, Map, MapErrorKind, PlainData};
use skep::sys::Kernel;
use skep::sys::abi::MapType;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

//! Kinds without keys: queues, stacks, bloom filters.

use skep::map::{BloomFilter, Map, MapErrorKind, Queue, Stack};
use skep::sys::abi::{Errno, MapType};
use skep::sys::request::MapCreate;
use skep::sys::{Feature, Kernel};

use super::{ANY, Triple, assert_error, map, triple};

pub(super) fn queue(kernel: &Kernel) {
    let map = map(kernel, MapType::QUEUE, 0, 12, 3);
    let queue: Queue<Triple> = map.typed().unwrap();
    assert_eq!(queue.capacity(), 3);
    assert_eq!((queue.peek().unwrap(), queue.pop().unwrap()), (None, None));
    for n in 1..4 {
        queue.push(&triple(n)).unwrap();
    }
    assert_error(queue.push(&triple(4)), MapErrorKind::Full, Some(Errno::E2BIG));
    queue.push_over(&triple(5)).unwrap();
    assert_eq!(queue.peek().unwrap(), Some(triple(2)));
    assert_eq!(queue.peek().unwrap(), Some(triple(2)));
    assert_eq!(queue.pop().unwrap(), Some(triple(2)));
    queue.push(&triple(6)).unwrap();
    // What is not iterated stays.
    assert_eq!(queue.drain().next().map(Result::unwrap), Some(triple(3)));
    let rest: Vec<Triple> = queue.drain().map(Result::unwrap).collect();
    assert_eq!(rest, [triple(5), triple(6)]);
    assert_eq!(queue.pop().unwrap(), None);
    assert!(map.typed::<Stack<Triple>>().is_err());
    without_keys(&map);
}

pub(super) fn stack(kernel: &Kernel) {
    let map = map(kernel, MapType::STACK, 0, 12, 3);
    let stack: Stack<Triple> = map.typed().unwrap();
    assert_eq!((stack.peek().unwrap(), stack.pop().unwrap()), (None, None));
    for n in 1..4 {
        stack.push(&triple(n)).unwrap();
    }
    assert_error(stack.push(&triple(4)), MapErrorKind::Full, Some(Errno::E2BIG));
    stack.push_over(&triple(5)).unwrap();
    assert_eq!(stack.peek().unwrap(), Some(triple(5)));
    let all: Vec<Triple> = stack.drain().map(Result::unwrap).collect();
    assert_eq!(all, [triple(5), triple(3), triple(2)]);
    assert!(map.typed::<Queue<Triple>>().is_err());
    without_keys(&map);
}

/// What the kernel says to calls that need a key.
fn without_keys(map: &Map) {
    assert_error(map.delete(&[]), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(map.next_key(None, &mut []), MapErrorKind::Invalid, Some(Errno::EINVAL));
    assert_error(
        map.update(&[], &[0; 12], skep::sys::abi::UpdateFlags::NOEXIST),
        MapErrorKind::Invalid,
        Some(Errno::EINVAL),
    );
    assert_error(map.update(&[0; 4], &[0; 12], ANY), MapErrorKind::Length, None);
    for error in [map.typed::<Queue<u64>>().map(drop), map.typed::<Stack<u64>>().map(drop)] {
        assert_eq!(error.unwrap_err().kind(), MapErrorKind::Mismatch);
    }
}

pub(super) fn bloom(kernel: &Kernel) {
    if kernel.has(Feature::MapType(MapType::BLOOM_FILTER)).is_unsupported() {
        println!("skip: bloom_filter: this kernel has none");
        return;
    }
    for (extra, hashes) in [(0, 5), (3, 3), (15, 15)] {
        let mut request = MapCreate::new(MapType::BLOOM_FILTER, 0, 12, 1000);
        request.name = "under_test";
        request.map_extra = extra;
        let map = Map::create(kernel, &request).unwrap();
        let filter: BloomFilter<Triple> = map.typed().unwrap();
        assert_eq!((filter.hashes().unwrap(), filter.capacity()), (hashes, 1000));
        for n in 0..100 {
            filter.insert(&triple(n)).unwrap();
        }
        for n in 0..100 {
            assert!(filter.may_contain(&triple(n)).unwrap(), "{n} was put in");
        }
        // It was made for ten times as many: at most one of ten is wrong.
        let wrong = (100..=255).filter(|&n| filter.may_contain(&triple(n)).unwrap()).count();
        assert!(wrong < 16, "{wrong} of 156");
        assert_error(map.delete(&[]), MapErrorKind::Unsupported, Some(Errno::EOPNOTSUPP));
    }
}

use skep::map::MapErrorKind;
use skep::map::traits::{Contains, Pop, Push};
use skep::sys::abi::{Errno, UpdateFlags};

use super::{ANY, Maps, assert_error};

/// Three values in two places.
fn three(map: &(impl Push<u32> + Pop<u32>)) -> Vec<u32> {
    assert_eq!((map.peek().unwrap(), map.pop().unwrap()), (None, None));
    map.push(&1, ANY).unwrap();
    map.push(&2, ANY).unwrap();
    assert_error(map.push(&3, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(map.push(&3, UpdateFlags::NOEXIST), MapErrorKind::Invalid, Some(Errno::EINVAL));
    map.push(&3, UpdateFlags::EXIST).unwrap();
    let first = map.peek().unwrap();
    let values: Vec<u32> = std::iter::from_fn(|| map.pop().unwrap()).collect();
    assert_eq!(first, values.first().copied());
    values
}

pub(crate) fn queue<M: Maps>(maps: &M) {
    assert_eq!(three(&maps.queue(2)), [2, 3]);
    let map = maps.queue(2);
    let (push, pop): (&dyn Push<u32>, Box<dyn Pop<u32> + '_>) = (&map, Box::new(&map));
    push.push(&7, ANY).unwrap();
    assert_eq!(pop.pop().unwrap(), Some(7));
}

pub(crate) fn stack<M: Maps>(maps: &M) {
    assert_eq!(three(&maps.stack(2)), [3, 2]);
}

pub(crate) fn bloom<M: Maps>(maps: &M) {
    let Some(map) = maps.bloom(100) else { return };
    for value in 0..50 {
        map.push(&value, ANY).unwrap();
    }
    // Of what was put in it never denies; of what was not it claims a few at most.
    let asked: &dyn Contains<u32> = &map;
    assert!((0..50).all(|value| asked.contains(&value).unwrap()));
    assert!((1000..1100).filter(|value| asked.contains(value).unwrap()).count() < 50);
    assert_error(map.push(&1, UpdateFlags::EXIST), MapErrorKind::Invalid, Some(Errno::EINVAL));
}

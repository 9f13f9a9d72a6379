use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skep::ring::TypedRingBuffer;
use skep::sim::RingQuery;
use skep::sys::abi::{Errno, MapFlags};

use super::{Lab, NONE, pattern};

pub(super) fn keeps_the_newest(lab: &dyn Lab) {
    let Some(rig) = lab.ring(4096, MapFlags::RB_OVERWRITE) else { return };
    let mut ring = rig.open();
    assert!(ring.overwrites());
    // Below its size it is as any other.
    rig.output(b"one");
    rig.producer.reserve([0; 3], true, NONE).unwrap();
    rig.output(b"two");
    assert_eq!(ring.copies().map(Result::unwrap).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!((ring.overwritten(), ring.available()), (0, 0));

    // 100 of 64 bytes: the last 63 are left, since the ring is never full.
    for number in 0..100 {
        rig.output(&pattern(number, 56));
    }
    assert_eq!(ring.available(), rig.producer.query(RingQuery::Available));
    let before = ring.positions();
    assert_eq!(before.overwrite, rig.producer.query(RingQuery::OverwritePosition));
    let left: Vec<_> = ring.copies().map(Result::unwrap).collect();
    let lost = 100 - left.len();
    assert!((37..40).contains(&lost), "{lost}");
    assert_eq!(left, (lost..100).map(|number| pattern(number, 56)).collect::<Vec<_>>());
    assert_eq!(ring.overwritten(), lost as u64 * 64);
    assert_eq!(ring.available(), 0);

    // A record that is at hand is a copy, and stays.
    rig.output(b"at hand");
    let record = ring.next().unwrap().unwrap();
    for number in 0..100 {
        rig.output(&pattern(number, 56));
    }
    assert_eq!(&*record, b"at hand");
    drop(record);
    let first = ring.next().unwrap().unwrap().to_vec();
    assert!((30..45).any(|number| first == pattern(number, 56)));
    assert_eq!(rig.producer.output(&vec![0; 4096], NONE), Err(Errno::EAGAIN));
    assert!(ring.wait(Some(Duration::ZERO)).unwrap());
    assert!(ring.skip_all() > 3000);
    assert!(!ring.wait(Some(Duration::ZERO)).unwrap());
    rig.output(b"after");
    assert_eq!(&*ring.next_timeout(Duration::from_secs(60)).unwrap().unwrap(), b"after");
}

/// What is read while it is overwritten is never a mixture.
pub(super) fn threads(lab: &dyn Lab) {
    let Some(rig) = lab.ring(4096, MapFlags::RB_OVERWRITE) else { return };
    let mut ring: TypedRingBuffer<[u64; 3]> = rig.map.typed().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..100_000u64 {
                rig.producer.reserve([number, !number, number.wrapping_mul(3)], false, NONE).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let (mut last, mut read) = (0, 0u64);
        loop {
            let was_done = done.load(Ordering::Acquire);
            ring.for_each(|&[number, inverse, triple]| {
                assert_eq!((inverse, triple), (!number, number.wrapping_mul(3)));
                assert!(read == 0 || number > last, "{number} after {last}");
                (last, read) = (number, read + 1);
            })
            .unwrap();
            if was_done {
                break;
            }
        }
        assert_eq!(last, 99_999);
        assert_eq!(read + ring.as_ring().overwritten() / 32, 100_000);
    });
}

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep::map::MapErrorKind;
use skep::ring::{RingError, UserRingBuffer};
use skep::sys::abi::RingFlags;
use zerocopy::IntoBytes;

use super::{Lab, NONE, footprint};

const LONG: Duration = Duration::from_secs(60);

pub(super) fn samples(lab: &dyn Lab) {
    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    assert_eq!((ring.size(), ring.pending()), (4096, 0));
    assert!(rig.drain().is_empty());

    let mut sample = ring.reserve(8).unwrap();
    assert_eq!(sample.len(), 8);
    sample.copy_from_slice(&1u64.to_ne_bytes());
    assert!(rig.drain().is_empty(), "it is not committed");
    sample.commit();
    assert_eq!(ring.pending(), 16);
    assert_eq!(rig.drain(), [1]);
    assert_eq!(ring.pending(), 0);

    // Dropping discards; what is shorter than a word is told by all bits.
    drop(ring.reserve(100).unwrap());
    ring.submit(&2u64).unwrap();
    ring.reserve(8).unwrap().discard();
    ring.submit(&3u32).unwrap();
    ring.submit(&[4u64; 9]).unwrap();
    ring.submit::<[u8]>(&[]).unwrap();
    assert_eq!(rig.drain(), [2, u64::MAX, 4, u64::MAX]);

    // Several are written at once; programs see them in the order in which they were reserved.
    let mut first = ring.reserve(8).unwrap();
    let mut second = ring.reserve(8).unwrap();
    second.copy_from_slice(6u64.as_bytes());
    first.copy_from_slice(5u64.as_bytes());
    second.commit();
    assert!(rig.drain().is_empty(), "the first one holds it up");
    first.commit();
    assert_eq!(rig.drain(), [5, 6]);

    // Around the end many times, with all sizes.
    let mut want = Vec::new();
    for number in 0..2000u64 {
        let mut sample = ring.reserve(8 + number as usize % 300).unwrap();
        sample.fill(0xff);
        sample[..8].copy_from_slice(number.as_bytes());
        assert_eq!(sample.as_ptr().addr() % 8, 0);
        if number % 5 == 2 {
            sample.discard();
        } else {
            sample.commit();
            want.push(number);
        }
        if number % 7 == 0 {
            assert_eq!(rig.drain(), want);
            want.clear();
        }
    }
    assert_eq!(rig.drain(), want);
    ring.submit(&1u64).unwrap();
    ring.submit(&2u64).unwrap();
    assert_eq!(rig.drainer.drain(1, NONE).unwrap(), [1], "programs may leave some");
    drop(ring);
    let ring = rig.open();
    ring.submit(&3u64).unwrap();
    assert_eq!(rig.drain(), [2, 3], "the next writer goes on");
}

pub(super) fn full(lab: &dyn Lab) {
    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    for len in [4089, 4096, 1 << 20, 1 << 30, 1 << 31, usize::MAX] {
        let error = ring.reserve(len).unwrap_err();
        assert!(matches!(error, RingError::TooLarge { asked, size: 4096, .. } if asked == len), "{error}");
    }
    let error = ring.reserve(4089).unwrap_err().to_string();
    assert_eq!(error, "sample of 4089 bytes is too large for user ring buffer `samples` of 4096 bytes");
    // The whole of it at once.
    let mut all = ring.reserve(4088).unwrap();
    all[..8].copy_from_slice(7u64.as_bytes());
    let error = ring.reserve(0).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(error.to_string(), "user ring buffer `samples` is full: 8 bytes wanted and 0 free");
    all.commit();
    assert!(ring.reserve(0).unwrap_err().is_full());
    assert_eq!(rig.drain(), [7]);
    for number in 0..64u64 {
        ring.submit(&[number; 7]).unwrap();
    }
    assert!(ring.submit(&0u64).unwrap_err().is_full());
    assert_eq!(rig.drainer.drain(10, NONE).unwrap(), (0..10).collect::<Vec<_>>());
    let error = ring.reserve(640).unwrap_err();
    assert!(matches!(error, RingError::Full { wanted: 648, available: 640, .. }), "{error}");
    ring.reserve(632).unwrap().discard();
    assert_eq!(rig.drain(), (10..64).collect::<Vec<_>>());
    assert_eq!(footprint(632), 640);
}

pub(super) fn threads(lab: &dyn Lab) {
    const THREADS: u64 = 4;
    const EACH: u64 = 2000;

    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ring, written) = (&ring, &written);
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut sample = ring.reserve_timeout(8, Some(LONG)).unwrap();
                    sample.copy_from_slice((thread << 32 | number).as_bytes());
                    sample.commit();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut next = [0; THREADS as usize];
        let mut count = 0;
        let mut last = Instant::now();
        while count < THREADS * EACH {
            assert!(last.elapsed() < LONG, "{count} of {written:?}, and no more");
            for word in rig.drainer.drain(1000, NONE).unwrap() {
                let (thread, number) = ((word >> 32) as usize, word & 0xffff_ffff);
                assert_eq!(number, next[thread]);
                next[thread] += 1;
                count += 1;
                last = Instant::now();
            }
        }
    });
    assert!(rig.drain().is_empty());
}

pub(super) fn waits(lab: &dyn Lab) {
    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    ring.reserve_timeout(4000, Some(Duration::ZERO)).unwrap().commit();
    let timeout = Duration::from_millis(20);
    let start = Instant::now();
    assert!(ring.reserve_timeout(100, Some(timeout)).unwrap_err().is_full());
    assert!(start.elapsed() >= timeout);
    assert!(matches!(ring.reserve_timeout(5000, None), Err(RingError::TooLarge { .. })));
    for round in 0..300u64 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if round < 3 {
                    std::thread::sleep(timeout);
                }
                while rig.drain().is_empty() {}
            });
            let mut sample =
                ring.reserve_timeout(4000, Some(LONG)).expect("there is room once it is drained");
            sample[..8].copy_from_slice(round.as_bytes());
            sample.commit();
        });
    }
    // A program may say that it wakes nobody: found when the time is over, if there is room by then. The last sample of above
    // is in the way.
    std::thread::scope(|scope| {
        let drainer = scope.spawn(|| {
            std::thread::sleep(timeout);
            rig.drainer.drain(usize::MAX, RingFlags::NO_WAKEUP).unwrap();
            Instant::now()
        });
        let start = Instant::now();
        let reserved = ring.reserve_timeout(4000, Some(5 * timeout)).map(|sample| sample.discard());
        let drained = drainer.join().unwrap();
        assert!(reserved.is_ok() || drained >= start + 5 * timeout, "there was room, and it is not seen");
    });
}

pub(super) fn one_producer(lab: &dyn Lab) {
    let Some(rig) = lab.user_ring(4096) else { return };
    let ring = rig.open();
    let error = rig.map.typed::<UserRingBuffer>().unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Busy, "{error}");
    assert_eq!(ring.as_map().name(), "samples");
    // One that is forgotten holds up those after it for good, and its room is never given again.
    std::mem::forget(ring.reserve(8).unwrap());
    ring.submit(&1u64).unwrap();
    assert!(rig.drain().is_empty());
    while ring.submit(&2u64).is_ok() {}
    assert!(rig.drain().is_empty());
    drop(ring);
    assert!(rig.map.typed::<UserRingBuffer>().is_ok());
}

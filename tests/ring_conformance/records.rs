use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::Duration;

use skep::map::PlainData;
use skep::map::traits::EventSource;
use skep::ring::{RingBuffer, RingError, TypedRingBuffer};
use skep::sim::RingQuery;
use skep::sys::abi::{Errno, MapFlags, RingFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Lab, NONE, footprint, pattern, rig};

/// The longest record of a ring of one page: with it the ring would be full, which no ring may be.
const LONGEST: usize = 4096 - 8 - 8;

pub(super) fn sizes(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    assert_eq!((ring.size(), ring.available(), ring.overwrites()), (4096, 0, false));
    assert!(ring.next().unwrap().is_none() && ring.peek().unwrap().is_none() && !ring.skip().unwrap());
    let sizes = [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 100, 1000, 2048, LONGEST - 1, LONGEST];
    let mut produced = 0;
    for (number, len) in sizes.into_iter().enumerate() {
        let bytes = pattern(number, len);
        rig.output(&bytes);
        produced += footprint(len);
        assert_eq!(
            (ring.available(), rig.producer.query(RingQuery::Available)),
            (footprint(len), footprint(len))
        );
        assert_eq!(ring.peek().unwrap(), Some(&bytes[..]));
        let record = ring.next().unwrap().unwrap();
        assert_eq!(&*record, bytes);
        assert!(record.as_ptr().addr().is_multiple_of(8), "typed records need that");
        drop(record);
        assert_eq!(ring.available(), 0);
        let positions = ring.positions();
        assert_eq!((positions.consumer, positions.producer), (produced, produced));
        assert_eq!(rig.producer.query(RingQuery::ConsumerPosition), produced);
        assert_eq!(rig.producer.query(RingQuery::ProducerPosition), produced);
    }
    assert_eq!(rig.producer.query(RingQuery::Size), 4096);
    assert!(ring.next().unwrap().is_none());
    for len in [LONGEST + 1, LONGEST + 8, LONGEST + 9, 5000] {
        assert_eq!(rig.producer.output(&vec![0; len], NONE), Err(Errno::EAGAIN), "{len}");
    }
    assert_eq!(rig.producer.output(&[0; 8], RingFlags::from_bits_retain(8)), Err(Errno::EINVAL));
    assert_eq!(ring.available(), 0);
}

pub(super) fn wrap(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    let (mut written, mut read) = (0, 0);
    let len = |number: usize| number * 37 % 700;
    for round in 0..400 {
        // Some at a time, so that records lie across the end in many ways.
        for _ in 0..=round % 5 {
            rig.output(&pattern(written, len(written)));
            written += 1;
        }
        if round % 3 == 0 {
            read += ring.consume(1, |record| assert_eq!(record, pattern(read, len(read)))).unwrap();
        }
        while let Some(record) = ring.next().unwrap() {
            assert_eq!(&*record, pattern(read, len(read)), "record {read}");
            read += 1;
        }
    }
    assert_eq!((written, read), (1200, 1200));
    assert!(ring.positions().producer > 50 * 4096);
}

pub(super) fn full(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    let mut number = 0;
    let mut first = 0;
    for _ in 0..3 {
        // 64 of 64 bytes would be all of it.
        for _ in 0..63 {
            rig.output(&pattern(number, 56));
            number += 1;
        }
        assert_eq!(rig.producer.output(&[0; 56], NONE), Err(Errno::EAGAIN));
        assert_eq!(rig.producer.reserve([1, 2, 3], false, NONE), Ok(()), "32 bytes are free");
        assert_eq!(rig.producer.output(&[], NONE), Ok(()), "8 bytes, and 24 are left");
        assert_eq!(rig.producer.reserve([1, 2, 3], false, NONE), Err(Errno::ENOSPC));
        assert_eq!(ring.available(), 63 * 64 + 32 + 8);

        // The room of a record comes back when it is released, and not before.
        let record = ring.next().unwrap().unwrap();
        assert_eq!(&*record, pattern(first, 56));
        assert_eq!(rig.producer.output(&[0; 56], NONE), Err(Errno::EAGAIN));
        drop(record);
        assert_eq!(rig.producer.output(&[7; 56], NONE), Ok(()));
        first += 1;

        let mut seen = Vec::new();
        let count = ring.for_each(|record| seen.push(record.to_vec())).unwrap();
        assert_eq!((count, seen.len()), (65, 65));
        for record in &seen[..62] {
            assert_eq!(*record, pattern(first, 56));
            first += 1;
        }
        assert_eq!(seen[62], [1u64, 2, 3].as_bytes());
        assert_eq!((&*seen[63], &*seen[64]), (&[][..], &[7; 56][..]));
    }
}

pub(super) fn discards(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    let discard = || rig.producer.reserve([9; 3], true, NONE).unwrap();
    discard();
    discard();
    assert_eq!(ring.available(), 64, "they take room until they are passed");
    rig.output(b"one");
    discard();
    rig.output(b"two");
    discard();
    assert_eq!(ring.peek().unwrap(), Some(&b"one"[..]));
    let records: Vec<_> = ring.copies().map(Result::unwrap).collect();
    assert_eq!(records, [b"one", b"two"]);
    assert_eq!(ring.available(), 0, "the last one was passed too");
    for _ in 0..500 {
        discard();
        assert!(ring.next().unwrap().is_none());
    }
    rig.output(b"three");
    assert_eq!(ring.for_each(|record| assert_eq!(record, b"three")).unwrap(), 1);
}

pub(super) fn busy(lab: &dyn Lab) {
    // The other CPU may be done before we come to look.
    for _ in 0..50 {
        let Some((map, start)) = lab.busy() else { return };
        let mut ring: RingBuffer = map.typed().unwrap();
        let finish = start();
        let mut words = Vec::new();
        words.extend(ring.next().unwrap().map(|record| *record.get::<u64>().unwrap()));
        let unfinished =
            words.is_empty() && ring.peek().unwrap().is_none() && !ring.wait(Some(Duration::ZERO)).unwrap();
        if unfinished {
            assert_eq!(ring.available(), 32, "both are reserved");
        }
        finish();
        while let Some(record) = ring.next_timeout(Duration::from_millis(1)).unwrap() {
            words.push(*record.get::<u64>().unwrap());
        }
        assert_eq!(words, [1, 2]);
        if unfinished {
            return;
        }
    }
    println!("skip: unfinished_records_hold_up: none was unfinished when looked at");
}

pub(super) fn lent(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    rig.output(b"first");
    rig.output(b"second");
    rig.output(b"third");
    // One that is forgotten is not released: it comes again.
    std::mem::forget(ring.next().unwrap());
    assert_eq!(&*ring.next().unwrap().unwrap(), b"first");
    assert_eq!(ring.peek().unwrap(), Some(&b"second"[..]));
    assert!(ring.skip().unwrap());
    let record = ring.next().unwrap().unwrap();
    assert_eq!(format!("{record:?}"), format!("Record({:?})", b"third"));
    assert_eq!(record.as_ref(), b"third");
    drop(record);

    rig.output(b"unread");
    rig.output(b"unread");
    assert_eq!(ring.skip_all(), 32);
    assert!(ring.next().unwrap().is_none());
    rig.output(b"after");
    assert_eq!(&*ring.next().unwrap().unwrap(), b"after");
}

pub(super) fn many(lab: &dyn Lab) {
    let rig = rig!(lab, 8192);
    let mut ring = rig.open();
    let fill = || (0..100).for_each(|number| rig.output(&pattern(number, 40)));
    fill();
    let mut next = 0;
    let mut take = |record: &[u8]| {
        assert_eq!(record, pattern(next, 40));
        next += 1;
    };
    assert_eq!(ring.consume(0, &mut take).unwrap(), 0);
    assert_eq!(ring.consume(1, &mut take).unwrap(), 1);
    assert_eq!(ring.consume(49, &mut take).unwrap(), 49);
    assert_eq!(rig.producer.query(RingQuery::ConsumerPosition), 50 * 48, "the kernel knows at the end");
    assert_eq!(ring.for_each(&mut take).unwrap(), 50);
    assert_eq!(ring.for_each(&mut take).unwrap(), 0);

    fill();
    let mut count = 0;
    let stopped = ring.try_for_each(|record| {
        count += 1;
        if count == 7 { ControlFlow::Break(record.to_vec()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(stopped.unwrap(), ControlFlow::Break(pattern(6, 40)));
    assert_eq!(ring.peek().unwrap(), Some(&*pattern(7, 40)), "the record that it stopped at is released");

    // So is one whose handler panics.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = catch_unwind(AssertUnwindSafe(|| ring.for_each(|_| panic!("as a handler might"))));
    std::panic::set_hook(hook);
    assert!(panicked.is_err());
    assert_eq!(ring.peek().unwrap(), Some(&*pattern(8, 40)));
    assert_eq!(ring.copies().count(), 92);
    assert_eq!(rig.producer.query(RingQuery::Available), 0);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Event {
    at: u64,
    pid: u32,
    code: [u16; 2],
}

pub(super) fn typed(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let event = |n: u64| Event { at: n, pid: n as u32, code: [n as u16, 7] };
    {
        let mut ring = rig.open();
        rig.output(event(1).as_bytes());
        rig.output(&[event(2).as_bytes(), b"tail"].concat());
        let record = ring.next().unwrap().unwrap();
        assert_eq!(*record.get::<Event>().unwrap(), event(1));
        assert!(matches!(record.get::<u64>(), Err(RingError::WrongSize { asked: 8, there: 16, .. })));
        drop(record);
        let record = ring.next().unwrap().unwrap();
        assert!(record.get::<Event>().is_err());
        assert_eq!(record.split::<Event>().unwrap(), (&event(2), &b"tail"[..]));
        let error = record.split::<[u64; 3]>().unwrap_err();
        assert!(error.to_string().starts_with("record of 20 bytes in ring buffer `"), "{error}");
    }
    let mut events: TypedRingBuffer<Event> = rig.map.typed().unwrap();
    for n in 3..6 {
        rig.output(event(n).as_bytes());
    }
    rig.output(b"odd");
    for n in 6..9 {
        rig.output(event(n).as_bytes());
    }
    assert_eq!(*events.next().unwrap().unwrap(), event(3));
    assert_eq!(*events.next_timeout(Duration::from_secs(9)).unwrap().unwrap(), event(4));
    let mut seen = Vec::new();
    let error = events.for_each(|event| seen.push(*event)).unwrap_err();
    assert!(matches!(error, RingError::WrongSize { asked: 16, there: 3, .. }), "{error}");
    assert_eq!(seen, [event(5)]);
    rig.output(b"odd");
    let rest: Vec<_> = events.copies().map(|event| event.ok()).collect();
    assert_eq!(rest, [Some(event(6)), Some(event(7)), Some(event(8)), None]);
    assert_eq!(events.as_ring().available(), 0);
    assert!(events.into_ring().next().unwrap().is_none());
}

pub(super) fn source(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    let mut ring = rig.open();
    let source: &mut dyn EventSource = &mut ring;
    assert_eq!(source.next_event(Some(Duration::ZERO)).unwrap(), None);
    for event in [b"one", b"two", b"six"] {
        rig.output(event);
    }
    assert_eq!(source.next_event(Some(Duration::from_secs(60))).unwrap(), Some(b"one".to_vec()));
    let mut seen = Vec::new();
    let count = source.poll_events(None, &mut |event| {
        seen.push(event.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!((count.unwrap(), seen), (2, vec![b"two".to_vec(), b"six".to_vec()]));
    assert_eq!((source.name(), source.lost(), source.readiness().is_some()), ("ring", 0, true));
    rig.output(&[1; 8]);
    assert_eq!(ring.next_event_as::<u64>(None).unwrap(), Some(0x0101_0101_0101_0101));
}

/// Records of several threads: none is lost, and those of one thread are in its order.
pub(super) fn threads(lab: &dyn Lab) {
    const THREADS: u64 = 4;
    const EACH: u64 = 3000;

    let Some(rig) = lab.ring(4096, MapFlags::empty()) else { return };
    let mut ring = rig.open();
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (rig, barrier) = (&rig, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..EACH {
                    if number % 7 == 3 {
                        let _ = rig.producer.reserve([u64::MAX; 3], true, NONE);
                    }
                    let words = [thread, number, thread ^ number];
                    while rig.producer.reserve(words, false, NONE) == Err(Errno::ENOSPC) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut next = [0; THREADS as usize];
        let mut count = 0;
        while count < THREADS * EACH {
            assert!(ring.wait(Some(Duration::from_secs(60))).unwrap(), "{count} records came, and no more");
            count += ring
                .for_each(|record| {
                    let [thread, number, check] = *<[u64; 3]>::ref_from_bytes(record).unwrap();
                    assert_eq!(check, thread ^ number);
                    assert_eq!(number, next[thread as usize]);
                    next[thread as usize] += 1;
                })
                .unwrap() as u64;
        }
    });
    assert!(ring.next().unwrap().is_none());
}

//! What is written is what is read.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use skep::map::traits::EventSource;
use skep::perf::PerfRecord;
use skep::sys::abi::{ClockId, Errno, PerfRecordType};

use super::{
    Seen, World, assert_sample, consume, map, number, numbered, numbers, options, pattern, seen, setup,
};

/// Largest sample: a header, 4 bytes of length and the sample are less than 64 KiB together.
const LARGEST: usize = 65516;

pub(super) fn per_cpu(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options());
    let cpus = world.kernel().online_cpus().unwrap();
    assert_eq!(buffer.cpus().iter().map(|cpu| cpu.cpu()).collect::<Vec<_>>(), cpus);
    assert_eq!(consume(&mut buffer), []);
    for round in 0..5 {
        for &cpu in &cpus {
            producer.write(cpu, &numbered(round * 100 + cpu)).unwrap();
        }
    }
    assert_eq!(buffer.available(), 5 * 24 * cpus.len() as u64);
    let all = consume(&mut buffer);
    for &cpu in &cpus {
        let expected: Vec<u32> = (0..5).map(|round| round * 100 + cpu).collect();
        assert_eq!(numbers(&all, cpu), expected);
    }
    assert_eq!(all.len(), 5 * cpus.len());
    assert_eq!((consume(&mut buffer), buffer.available(), buffer.lost()), (Vec::new(), 0, 0));
}

pub(super) fn sizes(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(32));
    let mut sizes: Vec<usize> = (0..=70).collect();
    for power in 7..16 {
        sizes.extend((1usize << power) - 5..=(1 << power) + 5);
    }
    sizes.extend(LARGEST - 9..=LARGEST);
    for (seed, size) in sizes.into_iter().enumerate() {
        if size > LARGEST {
            continue;
        }
        let data = pattern(size, seed as u8);
        producer.write(0, &data).unwrap();
        let all = consume(&mut buffer);
        assert_eq!(all.len(), 1, "{size}");
        assert_sample(&all[0], 0, &data);
    }
}

pub(super) fn wrap_around(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1));
    let size = buffer.cpus()[0].size();
    let mut written = 0u64;
    // Sizes that do not divide the ring's, so that records lie over its end in many ways.
    for round in 0..600usize {
        let data: Vec<Vec<u8>> = (0..3).map(|n| pattern(round % 251 + n * 97, round as u8)).collect();
        for data in &data {
            producer.write(0, data).unwrap();
            written += (8 + 4 + data.len() as u64).next_multiple_of(8);
        }
        let all = consume(&mut buffer);
        assert_eq!(all.len(), 3, "{round}");
        for (seen, data) in all.iter().zip(&data) {
            assert_sample(seen, 0, data);
        }
    }
    assert!(written > 20 * size);
}

/// Who panics over a record gets it again, and those after it; it is not written over meanwhile.
pub(super) fn panics(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1));
    let fill = |from: u32| (from..from + 100).for_each(|n| producer.write(0, &numbered(n)).unwrap());
    for round in 0..50 {
        fill(round * 100);
        let mut got = Vec::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            buffer.consume(|record| {
                let PerfRecord::Sample(sample) = record else { panic!("{record:?}") };
                if got.len() == 70 {
                    // Silent: no hook is called.
                    resume_unwind(Box::new(()));
                }
                got.push(number(sample.data));
            })
        }));
        assert!(panicked.is_err());
        got.extend(numbers(&consume(&mut buffer), 0));
        assert_eq!(got, (round * 100..round * 100 + 100).collect::<Vec<u32>>());
    }
}

pub(super) fn lost(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1));
    let (mut fit, mut refused) = (0u32, 0u32);
    for n in 0..400 {
        match producer.write(0, &numbered(n)) {
            Ok(()) => fit += 1,
            Err(errno) => {
                assert_eq!(errno, Errno::ENOSPC);
                refused += 1;
            }
        }
    }
    // A byte is always left, so that a full ring is told from an empty one.
    let size = buffer.cpus()[0].size();
    assert_eq!(u64::from(fit), (size - 1) / 24);
    let all = consume(&mut buffer);
    assert_eq!(numbers(&all, 0), (0..fit).collect::<Vec<_>>());
    assert_eq!(buffer.lost(), 0, "it is told with the next record");

    producer.write(0, &numbered(1000)).unwrap();
    let all = consume(&mut buffer);
    assert_eq!(all[0], Seen::Lost(0, u64::from(refused)));
    assert_eq!(numbers(&all, 0), [1000]);
    assert_eq!((all.len(), buffer.lost(), buffer.cpus()[0].lost()), (2, refused.into(), refused.into()));

    producer.write(0, &numbered(1001)).unwrap();
    assert_eq!(consume(&mut buffer).len(), 1);
    assert_eq!(buffer.lost(), u64::from(refused));
}

pub(super) fn one_by_one(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().pages(1));
    let cpus = world.kernel().online_cpus().unwrap();
    assert!(buffer.next_record().unwrap().is_none());
    for &cpu in &cpus {
        for n in 0..3 {
            producer.write(cpu, &numbered(n)).unwrap();
        }
    }
    let mut first = seen(buffer.next_record().unwrap().unwrap());
    // What comes meanwhile is of the next turn.
    producer.write(cpus[0], &numbered(3)).unwrap();
    let mut all = Vec::new();
    loop {
        all.push(first);
        match buffer.next_record().unwrap() {
            Some(record) => first = seen(record),
            None => break,
        }
    }
    assert_eq!(all.len(), 3 * cpus.len());
    for &cpu in &cpus {
        assert_eq!(numbers(&all, cpu), [0, 1, 2]);
    }
    // It can be left in the middle: what was given out is read, the rest comes again.
    producer.write(cpus[0], &numbered(4)).unwrap();
    assert_eq!(seen(buffer.next_record().unwrap().unwrap()), Seen::Sample(cpus[0], numbered(3).to_vec()));
    assert_eq!(numbers(&consume(&mut buffer), cpus[0]), [4]);
    assert!(buffer.next_record().unwrap().is_none());

    // A ring that is read so has space again.
    for n in 0..1000 {
        producer.write(0, &numbered(n)).unwrap();
        let PerfRecord::Sample(sample) = buffer.next_record().unwrap().unwrap() else { panic!("{n}") };
        assert_eq!(number(sample.data), n);
        assert!(buffer.next_record().unwrap().is_none());
    }
    assert_eq!(buffer.lost(), 0);
}

pub(super) fn raw(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().timed(ClockId::MONOTONIC));
    producer.write(0, b"abcd").unwrap();
    let mut count = 0;
    let consumed = buffer.consume_raw(|raw| {
        count += 1;
        assert_eq!((raw.cpu, raw.record.record_type), (0, PerfRecordType::SAMPLE));
        assert_eq!(raw.record.bytes.len(), 8 + 8 + 4 + 4);
        assert_eq!(u16::from_ne_bytes(raw.record.bytes[6..8].try_into().unwrap()), 24);
        let [time @ .., _, _, _, _, _, _, _, _] = raw.record.payload() else { panic!("{raw:?}") };
        assert_ne!(time, [0; 8]);
        assert_eq!(raw.record.payload()[8..], *b"\x04\0\0\0abcd");
    });
    assert_eq!((consumed, count), (Ok(1), 1));
    assert_eq!(consume(&mut buffer), []);
}

pub(super) fn source(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options());
    let now = Some(Duration::ZERO);
    assert_eq!(buffer.next_event(now), Ok(None));
    for n in 0..4 {
        producer.write(0, &numbered(n)).unwrap();
    }
    let source: &mut dyn EventSource = &mut buffer;
    assert_eq!(source.next_event(now), Ok(Some(numbered(0).to_vec())));
    let mut rest = Vec::new();
    let count = source.poll_events(None, &mut |event| {
        rest.push(number(event));
        if rest.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((count, rest), (Ok(2), vec![1, 2]));
    assert_eq!(buffer.next_event_as::<u32>(now), Ok(Some(3)));
    assert_eq!(buffer.next_event(Some(Duration::from_millis(5))), Ok(None));
    assert_eq!((EventSource::lost(&buffer), EventSource::name(&buffer)), (0, "under_test"));
    #[cfg(target_os = "linux")]
    {
        let outer = skep::sys::Poller::new().unwrap();
        outer.add(buffer.readiness().unwrap(), 0).unwrap();
        producer.write(0, &numbered(4)).unwrap();
        assert_eq!(outer.wait(&mut Vec::new(), Some(Duration::from_secs(60))), Ok(1));
    }
}

pub(super) fn ordered(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().ordered());
    let cpus = world.kernel().online_cpus().unwrap();
    let mut turns = cpus.iter().cycle();
    for round in 0..3u32 {
        // Runs of different lengths on each CPU.
        for n in 0..100 {
            let cpu = if n % 7 < 3 { turns.next().unwrap() } else { &cpus[(n as usize / 5) % cpus.len()] };
            producer.write(*cpu, &numbered(round * 100 + n)).unwrap();
        }
        let (mut order, mut times) = (Vec::new(), Vec::new());
        let count = buffer.consume(|record| {
            let PerfRecord::Sample(sample) = record else { panic!("{record:?}") };
            order.push(number(sample.data));
            times.push(sample.time.unwrap());
        });
        assert_eq!(count, Ok(100));
        assert_eq!(order, (round * 100..round * 100 + 100).collect::<Vec<_>>());
        assert!(times.is_sorted());
    }
}

pub(super) fn what_programs_get(world: &dyn World) {
    let map = map(world);
    let producer = world.producer(&map);
    assert_eq!(producer.write(0, &numbered(0)), Err(Errno::ENOENT), "no event yet");
    let mut buffer = skep::perf::PerfBuffer::new(&map, options()).unwrap();
    producer.write_to(Some(0), 0, &numbered(1)).unwrap();
    assert_eq!(producer.write_to(Some(map.max_entries()), 0, &numbered(2)), Err(Errno::E2BIG));
    if let Some(&other) = world.kernel().online_cpus().unwrap().get(1) {
        assert_eq!(producer.write_to(Some(other), 0, &numbered(3)), Err(Errno::EOPNOTSUPP));
    }
    assert_eq!(numbers(&consume(&mut buffer), 0), [1]);
    drop(buffer);
    assert_eq!(producer.write(0, &numbered(4)), Err(Errno::ENOENT), "no event any more");
}

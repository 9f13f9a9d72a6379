//! Who waits is woken when it should be, and not before.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use skep::perf::{PerfBuffer, PerfRecord};

use crate::support::time::{PATIENCE, eventually};

use super::{Producer, World, consume, number, numbered, numbers, options, readable, setup};

fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

pub(super) fn wakeup_events(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options().wakeup_events(3));
    for round in 0..3 {
        producer.write(0, &numbered(round)).unwrap();
        producer.write(0, &numbered(round)).unwrap();
        assert!(!buffer.wait(millis(20)).unwrap(), "two are not three");
        producer.write(0, &numbered(round)).unwrap();
        assert!(buffer.wait(Some(PATIENCE)).unwrap());
        assert_eq!(numbers(&consume(&mut buffer), 0), [round; 3]);
        assert!(!buffer.wait(millis(0)).unwrap(), "it was read");
    }
    // What there is can be read without being woken.
    producer.write(0, &numbered(9)).unwrap();
    assert_eq!(buffer.poll(Some(PATIENCE), |_| {}), Ok(1));
}

pub(super) fn watermark(world: &dyn World) {
    // A record has 24 bytes.
    let (mut buffer, producer) = setup(world, options().watermark(100));
    for n in 0..4 {
        producer.write(0, &numbered(n)).unwrap();
    }
    assert!(!buffer.wait(millis(20)).unwrap(), "96 bytes are not more than 100");
    producer.write(0, &numbered(4)).unwrap();
    assert!(buffer.wait(Some(PATIENCE)).unwrap());
    assert_eq!(numbers(&consume(&mut buffer), 0), [0, 1, 2, 3, 4]);

    // Half of a ring wakes whatever the number of records that was asked for.
    let (mut buffer, producer) = setup(world, options().pages(1).wakeup_events(0));
    let half = buffer.cpus()[0].size() / 2 / 24;
    for n in 0..half as u32 {
        producer.write(0, &numbered(n)).unwrap();
    }
    assert!(!buffer.wait(millis(20)).unwrap());
    producer.write(0, &numbered(1)).unwrap();
    assert!(buffer.wait(Some(PATIENCE)).unwrap());
    assert_eq!(consume(&mut buffer).len() as u64, half + 1);
}

pub(super) fn timeouts(world: &dyn World) {
    let (mut buffer, producer) = setup(world, options());
    for wanted in [0, 1, 40] {
        let start = Instant::now();
        assert_eq!(buffer.poll(millis(wanted), |_| panic!("nothing was written")), Ok(0));
        assert!(start.elapsed() >= Duration::from_millis(wanted));
    }
    // What woke and was read is no reason to return early.
    producer.write(0, &numbered(0)).unwrap();
    eventually(|| buffer.poll(millis(0), |_| {}).unwrap() == 1, || "no record");
    let start = Instant::now();
    assert_eq!(buffer.poll(millis(40), |_| panic!("it was read")), Ok(0));
    assert!(start.elapsed() >= Duration::from_millis(40));

    // Without a time it waits for as long as it takes.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            producer.write(0, &numbered(7)).unwrap();
        });
        let mut seen = 0;
        let count = buffer.poll(None, |record| {
            let PerfRecord::Sample(sample) = record else { panic!("{record:?}") };
            seen = number(sample.data);
        });
        assert_eq!((count, seen), (Ok(1), 7));
    });
}

#[cfg(target_os = "linux")]
pub(super) fn in_an_event_loop(world: &dyn World) {
    use std::os::fd::AsFd;

    use skep::sys::Poller;

    let (mut buffer, producer) = setup(world, options());
    let outer = Poller::new().unwrap();
    outer.add(buffer.as_fd(), 5).unwrap();
    let wait = |timeout| {
        let mut ready = Vec::new();
        outer.wait(&mut ready, millis(timeout)).unwrap();
        ready.into_iter().map(|ready| ready.token).collect::<Vec<_>>()
    };
    let last = *world.kernel().online_cpus().unwrap().last().unwrap();
    assert_eq!(wait(0), []);
    for round in 0..3 {
        for cpu in [0, last] {
            producer.write(cpu, &numbered(round)).unwrap();
        }
        assert_eq!(wait(60_000), [5]);
        assert_eq!(consume(&mut buffer).len(), 2);
        // A wakeup that is still on its way may make it readable once more.
        let nothing = || {
            assert_eq!(consume(&mut buffer), []);
            wait(0).is_empty()
        };
        eventually(nothing, || "it stays readable");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn in_an_event_loop(_: &dyn World) {}

/// Each CPU writes numbers, while one reader reads all of them.
pub(super) fn among_threads(world: &dyn World) {
    const EACH: u32 = 3000;

    let (mut buffer, producer) = setup(world, options().pages(2));
    let cpus = world.kernel().online_cpus().unwrap();
    let (refused, running) = (AtomicU32::new(0), AtomicU32::new(cpus.len() as u32));
    let mut got = vec![Vec::new(); cpus.len()];
    let mut lost = 0;
    std::thread::scope(|scope| {
        for &cpu in &cpus {
            let (refused, running, producer) = (&refused, &running, &producer);
            scope.spawn(move || {
                refused.fetch_add(produce(&**producer, cpu, EACH), Ordering::Relaxed);
                running.fetch_sub(1, Ordering::Release);
            });
        }
        loop {
            let done = running.load(Ordering::Acquire) == 0;
            let count = buffer.poll(millis(5), |record| match record {
                PerfRecord::Sample(sample) => {
                    let at = cpus.iter().position(|&cpu| cpu == sample.cpu).unwrap();
                    got[at].push(number(sample.data));
                }
                PerfRecord::Lost { count, .. } => lost += count,
                other => panic!("{other:?}"),
            });
            if count.unwrap() == 0 && done {
                break;
            }
        }
    });
    let total: usize = got.iter().map(Vec::len).sum();
    assert!(got.iter().all(|numbers| numbers.is_sorted_by(|a, b| a < b)), "each CPU's come in order");
    let refused = refused.into_inner();
    assert_eq!(total as u32 + refused, EACH * cpus.len() as u32, "all that the kernel took are there");
    assert!(lost <= refused.into() && lost == buffer.lost());
}

/// Writes `count` numbers on a CPU. Answers how many found no space.
fn produce(producer: &dyn Producer, cpu: u32, count: u32) -> u32 {
    (0..count).map(|n| u32::from(producer.write(cpu, &numbered(n)).is_err())).sum()
}

pub(super) fn a_thread_per_cpu(world: &dyn World) {
    const EACH: u32 = 500;

    let (mut buffer, producer) = setup(world, options().pages(16));
    let cpus = world.kernel().online_cpus().unwrap();
    let done = AtomicBool::new(false);
    let totals: Vec<u32> = std::thread::scope(|scope| {
        let readers: Vec<_> = buffer
            .cpus_mut()
            .iter_mut()
            .map(|ring| {
                let done = &done;
                scope.spawn(move || {
                    let mut total = 0;
                    loop {
                        let last = done.load(Ordering::Acquire);
                        readable(ring, 1);
                        total += ring.consume(|_| {}).unwrap() as u32;
                        if last {
                            return total;
                        }
                    }
                })
            })
            .collect();
        for &cpu in &cpus {
            assert_eq!(produce(&*producer, cpu, EACH), 0);
        }
        done.store(true, Ordering::Release);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert_eq!(totals, vec![EACH; cpus.len()]);
    let empty: &PerfBuffer = &buffer;
    assert_eq!(empty.available(), 0);
}

//! With tokio: nothing is lost, whoever wakes and whoever stops waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use skep::poll::AsyncEvents;
use skep::ring::{AsyncRingBuffer, RingBuffer, RingError, RingPoller, TypedRingBuffer};
use skep::sys::abi::RingFlags;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Lab, Rig, rig};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn next<T>(future: impl Future<Output = Result<T, RingError>>) -> T {
    timeout(LONG, future).await.expect("it wakes").unwrap()
}

pub(super) fn records(lab: &dyn Lab) {
    let rig = rig!(lab, 4096);
    runtime().block_on(async {
        let mut ring = AsyncRingBuffer::new(rig.open()).unwrap();
        assert!(timeout(SHORT, ring.next()).await.is_err(), "there is none");
        rig.output(b"one");
        assert_eq!(next(ring.next()).await, b"one");
        assert!(timeout(SHORT, ring.next()).await.is_err());
        // From another thread, at any moment.
        for round in 0..2000u32 {
            let rig = rig.clone();
            let work = std::thread::spawn(move || {
                if round < 3 {
                    std::thread::sleep(SHORT);
                }
                rig.output(&round.to_ne_bytes());
            });
            assert_eq!(next(ring.next()).await, round.to_ne_bytes());
            work.join().unwrap();
        }
        // Lent instead of copied.
        rig.output(b"two");
        rig.output(b"three");
        let mut seen = Vec::new();
        next(ring.ready()).await.for_each(|record| seen.push(record.len())).unwrap();
        assert_eq!(seen, [3, 5]);
        assert!(timeout(SHORT, ring.ready()).await.is_err());
        // What wakes nobody is found with what does.
        rig.producer.output(b"quiet", RingFlags::NO_WAKEUP).unwrap();
        rig.producer.output(b"loud", RingFlags::FORCE_WAKEUP).unwrap();
        assert_eq!(next(ring.next()).await, b"quiet");
        assert_eq!(next(ring.next()).await, b"loud");

        // As a stream, of values, and by another task.
        let mut numbers = AsyncEvents::new(TypedRingBuffer::<u32>::new(ring.into_inner())).unwrap();
        let task = async {
            let mut sum = 0;
            for _ in 0..500 {
                let item = std::future::poll_fn(|cx| {
                    futures_core::Stream::poll_next(std::pin::Pin::new(&mut numbers), cx)
                });
                sum += timeout(LONG, item).await.expect("it wakes").unwrap().unwrap();
            }
            sum
        };
        let producer = rig.clone();
        let work = std::thread::spawn(move || {
            for number in 0..500u32 {
                while producer.producer.output(&number.to_ne_bytes(), RingFlags::empty()).is_err() {}
            }
        });
        assert_eq!(task.await, 499 * 500 / 2);
        work.join().unwrap();

        // A stream ends with an error.
        rig.output(b"odd size");
        let mut item = async || {
            std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut numbers), cx))
                .await
        };
        assert!(matches!(item().await, Some(Err(RingError::WrongSize { .. }))));
        assert!(item().await.is_none());
    });
}

/// A future that is dropped has taken nothing.
pub(super) fn cancelled(lab: &dyn Lab) {
    const COUNT: u32 = 5000;

    let rig = rig!(lab, 4096);
    runtime().block_on(async {
        let mut ring = AsyncRingBuffer::new(rig.open()).unwrap();
        let producer = rig.clone();
        let dropped = Arc::new(AtomicU32::new(0));
        let seen_dropped = dropped.clone();
        let work = std::thread::spawn(move || {
            for number in 0..COUNT {
                while producer.producer.output(&number.to_ne_bytes(), RingFlags::empty()).is_err() {
                    std::thread::yield_now();
                }
                if number % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
                // Now and then the reader comes to the end of what there is.
                let before = seen_dropped.load(Ordering::Relaxed);
                while number % 1000 == 500 && seen_dropped.load(Ordering::Relaxed) == before {
                    std::thread::yield_now();
                }
            }
        });
        let (mut expected, mut turns, mut last) = (0, 0u64, Instant::now());
        while expected < COUNT {
            turns += 1;
            assert!(!turns.is_multiple_of(4096) || last.elapsed() < LONG, "record {expected} did not come");
            // The other branch is ready at once, or soon: the future is polled and dropped.
            tokio::select! {
                biased;
                record = ring.next() => {
                    assert_eq!(record.unwrap(), expected.to_ne_bytes());
                    expected += 1;
                    last = Instant::now();
                }
                () = tokio::task::yield_now() => {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            if turns.is_multiple_of(3) {
                let _ = timeout(Duration::ZERO, ring.ready()).await;
            }
        }
        work.join().unwrap();
        assert_eq!(ring.get_ref().available(), 0);
    });
}

/// Rings of two tasks and a poller of several, in one runtime.
pub(super) fn several(lab: &dyn Lab) {
    let Some(rigs) =
        (0..3).map(|_| lab.ring(4096, skep::sys::abi::MapFlags::empty())).collect::<Option<Vec<Rig>>>()
    else {
        return;
    };
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = rigs
            .iter()
            .map(|rig| {
                let ring: RingBuffer = rig.open();
                tokio::spawn(async move {
                    let mut ring = AsyncRingBuffer::new(ring).unwrap();
                    let mut sum = 0;
                    for _ in 0..1000 {
                        let record = next(ring.next()).await;
                        sum += u32::from_ne_bytes(record.try_into().unwrap());
                    }
                    sum
                })
            })
            .collect();
        let work = rigs.clone();
        let work = std::thread::spawn(move || {
            for number in 0..1000u32 {
                for rig in &work {
                    while rig.producer.output(&number.to_ne_bytes(), RingFlags::empty()).is_err() {}
                }
            }
        });
        for task in tasks {
            assert_eq!(task.await.unwrap(), 999 * 1000 / 2);
        }
        work.join().unwrap();

        let mut poller = RingPoller::new().unwrap();
        let tokens: Vec<_> = rigs.iter().map(|rig| poller.add(rig.open()).unwrap()).collect();
        let mut events = AsyncEvents::new(poller).unwrap();
        assert!(timeout(SHORT, events.next()).await.is_err());
        for round in 0..300u32 {
            let which = round as usize % 3;
            let rig = rigs[which].clone();
            let work = std::thread::spawn(move || {
                if round < 3 {
                    std::thread::sleep(SHORT);
                }
                rig.output(&round.to_ne_bytes());
            });
            assert_eq!(next(events.next()).await, (tokens[which], round.to_ne_bytes().to_vec()));
            work.join().unwrap();
        }
        assert!(timeout(SHORT, events.next()).await.is_err());
    });
}

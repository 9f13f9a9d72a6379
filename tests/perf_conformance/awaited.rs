//! With tokio: nothing is lost, whoever wakes and whoever stops waiting.

use std::sync::Arc;
use std::time::Duration;

use skep::perf::OwnedPerfRecord;
use skep::poll::{AsyncEvents, Pollable};
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{Producer, World, number, numbered, options, setup};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[track_caller]
fn sample(record: OwnedPerfRecord) -> (u32, u32) {
    match record {
        OwnedPerfRecord::Sample { cpu, data, .. } => (cpu, number(&data)),
        other => panic!("{other:?}"),
    }
}

pub(super) fn asked(world: &dyn World) {
    for options in [options(), options().ordered()] {
        let (mut buffer, producer) = setup(world, options);
        assert!(!buffer.is_ready().unwrap());
        for n in 0..3 {
            producer.write(0, &numbered(n)).unwrap();
        }
        assert!(buffer.is_ready().unwrap() && buffer.is_ready().unwrap(), "nothing is taken");
        assert_eq!(sample(buffer.next_event().unwrap().unwrap()), (0, 0));
        // What comes meanwhile is seen without a new beginning.
        producer.write(0, &numbered(3)).unwrap();
        for n in 1..4 {
            assert!(buffer.is_ready().unwrap());
            assert_eq!(sample(buffer.next_event().unwrap().unwrap()), (0, n));
        }
        assert!(!buffer.is_ready().unwrap() && buffer.next_event().unwrap().is_none());
    }
}

pub(super) fn records(world: &dyn World) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (buffer, producer) = setup(world, options());
    let producer: Arc<dyn Producer> = producer.into();
    let cpus = world.kernel().online_cpus().unwrap();
    runtime.block_on(async {
        // What was written before it was registered is not forgotten.
        producer.write(0, &numbered(7)).unwrap();
        let mut events = AsyncEvents::new(buffer).unwrap();
        assert_eq!(sample(timeout(LONG, events.next()).await.unwrap().unwrap()), (0, 7));
        for round in 0..500 {
            let cpu = cpus[round as usize % cpus.len()];
            if round < 3 {
                assert!(timeout(SHORT, events.next()).await.is_err(), "there is none");
            }
            // From another thread, at any moment.
            let writer = producer.clone();
            let work = std::thread::spawn(move || {
                if round < 3 {
                    std::thread::sleep(SHORT);
                }
                writer.write(cpu, &numbered(round)).unwrap();
            });
            let record = timeout(LONG, events.next()).await.expect("it wakes").unwrap();
            assert_eq!(sample(record), (cpu, round));
            work.join().unwrap();
        }
        let buffer = events.into_inner();
        assert_eq!((buffer.available(), buffer.lost()), (0, 0));
    });
}

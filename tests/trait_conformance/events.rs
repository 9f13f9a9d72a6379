//! Events in memory.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use skep::map::traits::EventSource;
use skep::map::{MapErrorKind, memory};
use skep::sys::abi::Errno;

const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn events_come_in_order_until_told_to_stop() {
    let mut events = memory::Events::new(4096).unwrap();
    let sender = events.sender();
    assert_eq!(events.next_event(NOW), Ok(None));
    for n in 0..10u32 {
        sender.send(&n).unwrap();
    }
    let mut seen = Vec::new();
    let count = events.poll_events_as(NOW, |n: u32| {
        seen.push(n);
        if n == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((count, &*seen), (Ok(4), &[0, 1, 2, 3][..]));
    let source: &mut dyn EventSource = &mut events;
    assert_eq!(source.next_event(NOW), Ok(Some(4u32.to_ne_bytes().to_vec())));
    let mut boxed: Box<dyn EventSource + '_> = Box::new(source);
    assert_eq!(boxed.next_event_as::<u32>(NOW), Ok(Some(5)));
    // Those that are sent meanwhile wait for the next call.
    let count = boxed.poll_events(NOW, &mut |_| {
        sender.send(b"more").unwrap();
        ControlFlow::Continue(())
    });
    assert_eq!(count, Ok(4));
    assert_eq!(boxed.next_event(NOW), Ok(Some(b"more".to_vec())));
}

#[test]
fn a_ring_that_is_full_takes_no_more() {
    let mut events = memory::Events::with_name("ring", 4096).unwrap();
    let sender = events.sender();
    // 24 bytes and a header of 8.
    for _ in 0..127 {
        sender.send(&[0u64; 3]).unwrap();
    }
    let error = sender.send(&[0u64; 3]).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Busy, Some(Errno::EAGAIN)));
    assert_eq!(error.to_string(), "cannot send events to map `ring`");
    assert_eq!(events.next_event_as::<u64>(NOW), Ok(Some(0)));
    sender.send(&[0u64; 3]).unwrap();
    assert_eq!(events.lost(), 0);
    sender.lose(3);
    assert_eq!(events.lost(), 3);

    for size in [0, 1, 2048, 4097, 5000] {
        let error = memory::Events::new(size).unwrap_err();
        assert_eq!((error.kind(), error.map()), (MapErrorKind::Invalid, "events"));
    }
}

#[test]
fn waiting_ends() {
    let mut events = memory::Events::new(4096).unwrap();
    // Nobody is there to send.
    assert_eq!(events.next_event(None), Ok(None));
    let sender = events.sender();
    let begun = Instant::now();
    assert_eq!(events.next_event(Some(Duration::from_millis(20))), Ok(None));
    assert!(begun.elapsed() >= Duration::from_millis(20));

    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        sender.send(b"late").unwrap();
    });
    assert_eq!(events.next_event(Some(Duration::MAX)), Ok(Some(b"late".to_vec())));
    // The sender is gone, or goes while this waits.
    assert_eq!(events.next_event(None), Ok(None));
    thread.join().unwrap();

    let sender = events.sender();
    sender.clone().refuse_next(Errno::EIO);
    let error = events.next_event(None).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Other, Some(Errno::EIO)));
    assert_eq!(error.to_string(), "cannot read events of map `events`");
    assert_eq!(events.next_event(NOW), Ok(None));
}

#[test]
fn a_short_event_is_an_error_and_goes() {
    let mut events = memory::Events::new(4096).unwrap();
    let sender = events.sender();
    sender.send(&1u64).unwrap();
    sender.send(&2u32).unwrap();
    sender.send(&[3u64, 4]).unwrap();
    let mut seen = Vec::new();
    let error = events
        .poll_events_as(NOW, |n: u64| {
            seen.push(n);
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Length);
    assert_eq!(seen, [1]);
    assert_eq!(events.next_event_as::<u64>(NOW), Ok(Some(3)));
}

#[test]
fn maps_in_memory_are_shared_between_threads() {
    use skep::map::traits::{MapRead, MapWrite};
    use skep::sys::abi::UpdateFlags;

    fn shared<T: Send + Sync + Clone>(value: &T) -> T {
        value.clone()
    }
    let map = memory::HashMap::<u32, u64>::new(64).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let map = shared(&map);
            scope.spawn(move || {
                for n in 0..16 {
                    map.insert(&(thread * 16 + n), &1, UpdateFlags::NOEXIST).unwrap();
                }
            });
        }
    });
    assert!((0..64).all(|key| map.contains(&key).unwrap()));
    fn sent<T: Send + Sync>(_: &T) {}
    let events = memory::Events::new(4096).unwrap();
    sent(&events);
    sent(&events.sender());
}

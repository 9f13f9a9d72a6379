//! What sources of events do: a ring in memory, and rings and buffers of a simulated kernel and of Linux.

use std::ops::ControlFlow;
use std::time::Duration;

use skep::map::MapErrorKind;
use skep::map::traits::EventSource;

const NOW: Option<Duration> = Some(Duration::ZERO);
const LONG: Option<Duration> = Some(Duration::from_secs(10));

/// Reads what `send` puts into an empty source of few kilobytes, called `under_test`.
pub(crate) fn source(mut events: impl EventSource, mut send: impl FnMut(u64)) {
    assert_eq!(events.name(), "under_test");
    assert_eq!(events.next_event(NOW), Ok(None));
    assert_eq!(events.next_event(Some(Duration::from_millis(1))), Ok(None));

    (1..=5).for_each(&mut send);
    // Perf buffers fill events up to a multiple of eight bytes less four.
    let first = events.next_event(LONG).unwrap().expect("an event");
    assert!(first.starts_with(&1u64.to_ne_bytes()) && matches!(first.len(), 8 | 12), "{first:?}");
    // The event that it stops at is consumed, and those after it stay.
    let mut seen = Vec::new();
    let count = events.poll_events_as(None, |event: u64| {
        seen.push(event);
        if event == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((count, &*seen), (Ok(2), &[2, 3][..]));
    let count = events.poll_events_as(LONG, |event: u64| {
        seen.push(event);
        ControlFlow::Continue(())
    });
    assert_eq!((count, &*seen), (Ok(2), &[2, 3, 4, 5][..]));
    assert_eq!(events.next_event_as::<u64>(NOW), Ok(None));

    // More than the ring has room for, read as they come.
    for round in 0..300 {
        send(round);
        send(round + 1000);
        let source: &mut dyn EventSource = &mut events;
        let mut boxed: Box<dyn EventSource + '_> = Box::new(source);
        assert_eq!(boxed.next_event_as::<u64>(LONG), Ok(Some(round)));
        assert_eq!(boxed.next_event_as::<[u32; 1]>(LONG).unwrap(), Some(low(round + 1000)));
    }

    // An event that is shorter than the type goes, and is said.
    send(7);
    send(8);
    let error = events.next_event_as::<[u64; 2]>(LONG).unwrap_err();
    assert_eq!((error.kind(), error.map()), (MapErrorKind::Length, "under_test"));
    assert_eq!(events.next_event_as::<u64>(LONG), Ok(Some(8)));
    assert_eq!(events.lost(), 0);
}

/// What lies in the first four bytes of an event.
fn low(event: u64) -> [u32; 1] {
    let [a, b, c, d, ..] = event.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d])]
}

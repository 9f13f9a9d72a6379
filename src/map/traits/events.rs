use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::map::{MapError, PlainData};

/// Where events come from: a reader of a ring buffer or of perf buffers, or [`memory::Events`](crate::map::memory::Events).
///
/// One method is to be implemented. A reader waits in it by polling its descriptors, lends each record where it lies,
/// and gives it back after `each` returned. All sources are `Send` where their parts are.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::time::Duration;
///
/// use skep::map::traits::EventSource;
/// use skep::map::{MapError, memory};
///
/// fn names(events: &mut dyn EventSource) -> Result<Vec<String>, MapError> {
///     let mut names = Vec::new();
///     events.poll_events(Some(Duration::ZERO), &mut |event| {
///         names.push(String::from_utf8_lossy(event).into_owned());
///         ControlFlow::Continue(())
///     })?;
///     Ok(names)
/// }
///
/// let mut events = memory::Events::new(4096)?;
/// let sender = events.sender();
/// sender.send(b"one")?;
/// sender.send(b"two")?;
/// assert_eq!(names(&mut events)?, ["one", "two"]);
///
/// sender.send(&7u64)?;
/// assert_eq!(events.next_event_as::<u64>(None)?, Some(7));
/// # Ok::<(), MapError>(())
/// ```
pub trait EventSource {
    /// Waits until there is an event, then calls `each` with every event that is there, oldest first, until none is left
    /// or `each` breaks. Answers how often it was called; an event that it was called with is consumed.
    ///
    /// It waits `timeout` at most, without end for none, and not at all for [`Duration::ZERO`]. When nothing came, it
    /// answers 0; it may also do so earlier, after a signal or a spurious wake-up. `each` gets the bytes that the program
    /// sent; those of a perf buffer can be followed by up to seven bytes of padding.
    ///
    /// # Errors
    /// Waiting failed, or the map holds what no kernel writes. The events before it were given.
    fn poll_events(
        &mut self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, MapError>;

    /// The next event, in memory of its own; none when there was none within `timeout`.
    ///
    /// # Errors
    /// As [`poll_events`](EventSource::poll_events).
    fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<Vec<u8>>, MapError> {
        let mut next = None;
        self.poll_events(timeout, &mut |event| {
            next = Some(event.to_vec());
            ControlFlow::Break(())
        })?;
        Ok(next)
    }

    /// As [`poll_events`](EventSource::poll_events), with events of a type. What follows the type in an event is left
    /// out.
    ///
    /// # Errors
    /// As [`poll_events`](EventSource::poll_events); [`MapError::WrongEventSize`] for an event that is shorter than the
    /// type. It is consumed, and those after it stay.
    fn poll_events_as<E: PlainData>(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(E) -> ControlFlow<()>,
    ) -> Result<usize, MapError>
    where
        Self: Sized,
    {
        let mut short = None;
        let count = self.poll_events(timeout, &mut |event| match E::read_from_prefix(event) {
            Ok((event, _)) => each(event),
            Err(_) => {
                short = Some(event.len());
                ControlFlow::Break(())
            }
        })?;
        match short {
            None => Ok(count),
            Some(there) => {
                Err(MapError::WrongEventSize { map: self.name().into(), asked: size_of::<E>(), there })
            }
        }
    }

    /// As [`next_event`](EventSource::next_event), with an event of a type.
    ///
    /// # Errors
    /// As [`poll_events_as`](EventSource::poll_events_as).
    fn next_event_as<E: PlainData>(&mut self, timeout: Option<Duration>) -> Result<Option<E>, MapError>
    where
        Self: Sized,
    {
        let mut next = None;
        self.poll_events_as(timeout, |event| {
            next = Some(event);
            ControlFlow::Break(())
        })?;
        Ok(next)
    }

    /// How many events were lost so far for want of room, as far as the source is told: perf buffers are, ring buffers
    /// are not, since there the program is.
    fn lost(&self) -> u64 {
        0
    }

    /// Name of the map, for errors.
    fn name(&self) -> &str {
        "events"
    }

    /// A descriptor that polls as readable when there are events, for an event loop of one's own; none for a source
    /// that has no single one.
    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

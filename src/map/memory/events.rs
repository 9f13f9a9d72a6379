use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_sys::abi::{Errno, MapType};
use zerocopy::{Immutable, IntoBytes};

use crate::map::traits::EventSource;
use crate::map::{MapError, MapLabel, MapOperation};

/// Room that a ring buffer takes for each record besides its bytes.
const HEADER: usize = 8;
/// Smallest ring that a kernel makes.
const PAGE: u32 = 4096;

/// Events in memory: what a service reads in place of a ring buffer. [`EventSender`] plays the program.
///
/// Events take as much room as in a ring buffer, and what finds none is refused. When the last sender is gone, nothing
/// is waited for, so that a test ends.
///
/// ```
/// use std::time::Duration;
///
/// use skep::map::memory;
/// use skep::map::traits::EventSource;
///
/// let mut events = memory::Events::new(4096)?;
/// let sender = events.sender();
/// std::thread::spawn(move || sender.send(&[1u32, 2]));
/// assert_eq!(events.next_event_as::<[u32; 2]>(Some(Duration::from_secs(10)))?, Some([1, 2]));
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct Events(Arc<Shared>);

/// Sends to [`Events`]. Clones send to the same.
pub struct EventSender(Arc<Shared>);

struct Shared {
    name: MapLabel,
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    records: VecDeque<Box<[u8]>>,
    /// Bytes of the ring that records take.
    used: usize,
    lost: u64,
    senders: usize,
    refused: VecDeque<Errno>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: MapOperation, errno: Errno) -> MapError {
        MapError::refused_type(&self.name, MapType::RINGBUF, operation, errno)
    }
}

/// Bytes of the ring that a record takes.
fn room(record: &[u8]) -> usize {
    // No slice is so long that this overflows.
    (record.len() + HEADER).next_multiple_of(8)
}

impl Events {
    /// A ring of so many bytes, named `events`.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for a size that no kernel takes: others than powers of two from 4096 on.
    pub fn new(size: u32) -> Result<Events, MapError> {
        Events::with_name("events", size)
    }

    /// The same under another name, which its errors say.
    ///
    /// # Errors
    /// As [`new`](Events::new).
    pub fn with_name(name: impl AsRef<str>, size: u32) -> Result<Events, MapError> {
        let name = name.as_ref();
        if !size.is_power_of_two() || size < PAGE {
            return Err(MapError::refused(name, MapOperation::Create, Errno::EINVAL));
        }
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Events(Arc::new(Shared { name: name.into(), size: size as usize, state, changed })))
    }

    /// A sender.
    pub fn sender(&self) -> EventSender {
        self.0.state().senders += 1; // as many as there are values of the type
        EventSender(self.0.clone())
    }

    /// Waits until there is an event or an error, nobody is left to send one, or `timeout` is over.
    fn wait(&self, timeout: Option<Duration>) -> Option<Box<[u8]>> {
        let deadline = timeout.map(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.0.state();
        loop {
            if let Some(record) = state.records.pop_front() {
                return Some(record);
            }
            if state.senders == 0 || !state.refused.is_empty() {
                return None;
            }
            state = match deadline {
                // Later than time can be told is never.
                None | Some(None) => self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Some(deadline)) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl EventSource for Events {
    fn poll_events(
        &mut self,
        timeout: Option<Duration>,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<usize, MapError> {
        let mut count = 0;
        let mut next = self.wait(timeout);
        // A sender can be faster than `each`: this ends with what was there at first.
        let mut left = self.0.state().records.len();
        while let Some(record) = next.take() {
            count += 1; // fewer than there were records
            let flow = each(&record);
            let mut state = self.0.state();
            // As in a ring, the room is free once the record was read.
            state.used = state.used.saturating_sub(room(&record));
            if flow.is_break() || left == 0 {
                return Ok(count);
            }
            left -= 1; // not 0
            next = state.records.pop_front();
        }
        match self.0.state().refused.pop_front() {
            Some(errno) => Err(self.0.failed(MapOperation::ReadEvents, errno)),
            None => Ok(count),
        }
    }

    fn lost(&self) -> u64 {
        self.0.state().lost
    }

    fn name(&self) -> &str {
        &self.0.name
    }
}

impl EventSender {
    /// Sends an event: plain data, or a slice of bytes.
    ///
    /// # Errors
    /// Of kind [`Busy`](crate::map::MapErrorKind::Busy) when there is no room, which is what a program is told
    /// ([`Errno::EAGAIN`]). It is not counted as [`lost`](EventSource::lost), as in a ring buffer.
    pub fn send<E: IntoBytes + Immutable + ?Sized>(&self, event: &E) -> Result<(), MapError> {
        let record: Box<[u8]> = event.as_bytes().into();
        let mut state = self.0.state();
        let used = state.used.saturating_add(room(&record));
        // A kernel keeps one byte free, so that a full ring and an empty one differ.
        if used >= self.0.size {
            return Err(self.0.failed(MapOperation::SendEvents, Errno::EAGAIN));
        }
        state.used = used;
        state.records.push_back(record);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Tells the reader that so many events were lost, as a perf buffer does.
    pub fn lose(&self, count: u64) {
        let mut state = self.0.state();
        state.lost = state.lost.saturating_add(count);
    }

    /// Has the reader's next call that finds no events answered with `errno`.
    pub fn refuse_next(&self, errno: Errno) {
        self.0.state().refused.push_back(errno);
        self.0.changed.notify_all();
    }
}

impl Clone for EventSender {
    fn clone(&self) -> Self {
        self.0.state().senders += 1; // as many as there are values of the type
        EventSender(self.0.clone())
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders = state.senders.saturating_sub(1);
        drop(state);
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.state().records.len();
        f.debug_struct("Events")
            .field("name", &self.0.name)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").field("name", &self.0.name).finish_non_exhaustive()
    }
}

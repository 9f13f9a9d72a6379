use std::os::fd::AsFd;
use std::time::Duration;

use super::{RingBuffer, RingError};
use crate::poll::{Deadline, Waiter};

/// Which ring of a [`RingPoller`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RingToken(usize);

/// Records that one ring may give before the others get a turn.
const BUDGET: usize = 256;

/// Several ring buffers that are waited for together.
///
/// It is fair: each ring gives at most so many records ([`budget`](RingPoller::budget)) in a turn, and who came first in
/// one turn comes last in the next. On Linux its descriptor is readable when there may be records in any of them.
///
/// ```
/// use std::time::Duration;
///
/// use skep::map::Map;
/// use skep::ring::RingPoller;
/// use skep::sys::abi::{MapType, RingFlags};
/// use skep::sys::request::MapCreate;
///
/// let sim = skep::sim::SimKernel::new();
/// let kernel = skep::Kernel::new(sim.clone());
/// let ring = || Map::create(&kernel, &MapCreate::new(MapType::RINGBUF, 0, 0, 4096));
/// let (execs, opens) = (ring()?, ring()?);
///
/// let mut poller = RingPoller::new()?;
/// let exec = poller.add(execs.typed()?)?;
/// let open = poller.add(opens.typed()?)?;
/// sim.ring_output(opens.as_map_fd(), b"passwd", RingFlags::empty())?;
/// let count = poller.poll(Some(Duration::from_secs(1)), |ring, record| {
///     assert_eq!((ring, record), (open, &b"passwd"[..]));
/// })?;
/// assert_eq!(count, 1);
/// # assert_ne!(exec, open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RingPoller {
    waiter: Waiter,
    /// By token; none for those that were removed.
    rings: Vec<Option<RingBuffer>>,
    /// Who comes first in the next turn.
    first: usize,
    budget: usize,
}

impl RingPoller {
    /// One without rings.
    ///
    /// # Errors
    /// [`RingError::Wait`]: the process has no descriptor left.
    pub fn new() -> Result<RingPoller, RingError> {
        Ok(RingPoller { waiter: Waiter::new()?, rings: Vec::new(), first: 0, budget: BUDGET })
    }

    /// Sets how many records a ring may give in one turn, at least 1; 256 by default.
    #[must_use]
    pub fn budget(mut self, records: usize) -> RingPoller {
        self.budget = records.max(1);
        self
    }

    /// Takes a ring in.
    ///
    /// # Errors
    /// [`RingError::Wait`].
    pub fn add(&mut self, ring: RingBuffer) -> Result<RingToken, RingError> {
        let token = self.rings.len();
        self.waiter.add(ring.as_fd(), ring.waits_for(), token as u64)?;
        self.rings.push(Some(ring));
        Ok(RingToken(token))
    }

    /// Gives a ring back. Its token means nothing from then on.
    ///
    /// # Errors
    /// [`RingError::Wait`].
    pub fn remove(&mut self, ring: RingToken) -> Result<Option<RingBuffer>, RingError> {
        let Some(ring) = self.rings.get_mut(ring.0).and_then(Option::take) else { return Ok(None) };
        self.waiter.remove(ring.as_fd())?;
        Ok(Some(ring))
    }

    /// A ring.
    pub fn ring(&self, ring: RingToken) -> Option<&RingBuffer> {
        self.rings.get(ring.0)?.as_ref()
    }

    /// A ring.
    pub fn ring_mut(&mut self, ring: RingToken) -> Option<&mut RingBuffer> {
        self.rings.get_mut(ring.0)?.as_mut()
    }

    /// The rings.
    pub fn rings(&self) -> impl Iterator<Item = (RingToken, &RingBuffer)> {
        self.rings.iter().enumerate().filter_map(|(at, ring)| Some((RingToken(at), ring.as_ref()?)))
    }

    /// Waits until there are records, for ever without a time-out, and gives those of one turn to `handle`. Answers how
    /// many; 0 when the time was over. Those beyond the budget come with the next call, which does not wait then.
    ///
    /// # Errors
    /// [`RingError::Broken`], [`RingError::Wait`]. A ring that is broken comes last in the next turn, and fails each: have
    /// it [removed](Self::remove) or [skipped](RingBuffer::skip_all).
    pub fn poll(
        &mut self,
        timeout: Option<Duration>,
        mut handle: impl FnMut(RingToken, &[u8]),
    ) -> Result<usize, RingError> {
        let deadline = Deadline::after(timeout);
        loop {
            let count = self.consume(&mut handle)?;
            if count > 0 || deadline.is_over() {
                return Ok(count);
            }
            self.waiter.wait(deadline)?;
        }
    }

    /// Gives the records of one turn to `handle` without waiting. Answers how many.
    ///
    /// # Errors
    /// [`RingError::Broken`], as for [`poll`](Self::poll).
    pub fn consume(&mut self, mut handle: impl FnMut(RingToken, &[u8])) -> Result<usize, RingError> {
        let mut count = 0;
        let rings = self.rings.len();
        let first = self.first;
        for turn in 0..rings {
            let at = (first + turn) % rings;
            let Some(Some(ring)) = self.rings.get_mut(at) else { continue };
            // Should this one fail, the others come before it next time.
            self.first = (at + 1) % rings;
            count += ring.consume(self.budget, |record| handle(RingToken(at), record))?;
        }
        self.first = (first + 1) % rings.max(1);
        Ok(count)
    }

    /// Whether any ring has a record.
    #[cfg(target_os = "linux")]
    fn find(&mut self) -> Result<Option<RingToken>, RingError> {
        let rings = self.rings.len();
        for turn in 0..rings {
            let at = (self.first + turn) % rings;
            if let Some(Some(ring)) = self.rings.get_mut(at)
                && ring.look()?
            {
                return Ok(Some(RingToken(at)));
            }
        }
        Ok(None)
    }
}

#[cfg(target_os = "linux")]
impl AsFd for RingPoller {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.waiter.as_fd()
    }
}

/// Events are records, each with its ring; the rings take turns.
#[cfg(target_os = "linux")]
impl crate::poll::Pollable for RingPoller {
    type Event = (RingToken, Vec<u8>);
    type Error = RingError;

    fn is_ready(&mut self) -> Result<bool, RingError> {
        loop {
            if self.find()?.is_some() {
                return Ok(true);
            }
            // What the descriptor says is taken back, and then looked for.
            if !self.waiter.take()? {
                return Ok(false);
            }
        }
    }

    fn next_event(&mut self) -> Result<Option<Self::Event>, RingError> {
        if !self.is_ready()? {
            return Ok(None);
        }
        let Some(token) = self.find()? else { return Ok(None) };
        self.first = (token.0 + 1) % self.rings.len().max(1);
        let Some(ring) = self.ring_mut(token) else { return Ok(None) };
        Ok(crate::poll::Pollable::next_event(ring)?.map(|record| (token, record)))
    }
}

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use skep_sys::ring::{Readiness, RingPositions, RingReader};

use super::{Record, RingError};
use crate::map::{Map, MapError, MapOperation, kinds};
use crate::poll::{Deadline, Pollable, Waiter};

/// Reads the records of a ring buffer (`BPF_MAP_TYPE_RINGBUF`, Linux 5.8), in the order in which programs reserved them.
///
/// A record is lent as it lies in the memory that the map shares with the process. Only in a ring that overwrites
/// (`BPF_F_RB_OVERWRITE`, Linux 6.19), and on a simulated kernel, is it copied, into memory that the reader keeps.
/// Records that programs discarded are skipped; one that is reserved and not finished holds up those after it.
///
/// Made of a map by [`Map::typed`]; one at a time in the process (see [the module](super)). Dropping it lets go of the
/// memory; what was not read stays for the next reader. See [the module](super) for an example.
#[derive(Debug)]
pub struct RingBuffer {
    pub(super) reader: RingReader,
    map: Map,
    waiter: Option<Waiter>,
}

impl TryFrom<Map> for RingBuffer {
    type Error = MapError;

    fn try_from(map: Map) -> Result<RingBuffer, MapError> {
        kinds::RING_BUFFER.check_kind(&map)?;
        let memory = map.as_map_fd().ring().map_err(|error| map.failed(MapOperation::Mmap, error))?;
        match RingReader::new(memory) {
            Some(reader) => Ok(RingBuffer { reader, map, waiter: None }),
            None => Err(kinds::RING_BUFFER.wrong_type(&map)),
        }
    }
}

impl RingBuffer {
    /// The map.
    pub fn as_map(&self) -> &Map {
        &self.map
    }

    /// The next record; none when there is none, or when the next one is not finished yet.
    ///
    /// # Errors
    /// [`RingError::Broken`].
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator that lends")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RingError> {
        match self.reader.next(self.map.as_map_fd().as_fd()) {
            Ok(Some(record)) => Ok(Some(Record::new(record, &self.map))),
            Ok(None) => Ok(None),
            Err(fault) => Err(RingError::broken(self.map.label(), fault)),
        }
    }

    /// The next record, which stays the next.
    ///
    /// # Errors
    /// [`RingError::Broken`].
    pub fn peek(&mut self) -> Result<Option<&[u8]>, RingError> {
        Ok(if self.look()? { Some(self.reader.record()) } else { None })
    }

    /// Releases the next record without reading it. Answers whether there was one.
    ///
    /// # Errors
    /// [`RingError::Broken`].
    pub fn skip(&mut self) -> Result<bool, RingError> {
        Ok(self.next()?.is_some())
    }

    /// Releases everything that was produced, finished or not, also what is broken. Answers how many bytes that were.
    pub fn skip_all(&mut self) -> u64 {
        self.reader.skip_all()
    }

    /// Gives every record to `handle` until none is left, which is never where programs are faster. Answers how
    /// many that were.
    ///
    /// This is the fastest way: the kernel is told from time to time how far the ring is read, at the latest at the end. When
    /// `handle` panics, its record is released.
    ///
    /// # Errors
    /// [`RingError::Broken`], after the records before were handled.
    #[inline]
    pub fn for_each(&mut self, handle: impl FnMut(&[u8])) -> Result<usize, RingError> {
        self.consume(usize::MAX, handle)
    }

    /// As [`for_each`](Self::for_each), at most `max` records.
    ///
    /// # Errors
    /// As [`for_each`](Self::for_each).
    #[inline]
    pub fn consume(&mut self, max: usize, mut handle: impl FnMut(&[u8])) -> Result<usize, RingError> {
        let (count, _) = self.drain(max, |record| {
            handle(record);
            ControlFlow::<()>::Continue(())
        })?;
        Ok(count)
    }

    /// As [`for_each`](Self::for_each), until `handle` says to stop; the record for which it does is released. Answers
    /// what it stopped with.
    ///
    /// # Errors
    /// As [`for_each`](Self::for_each).
    pub fn try_for_each<B>(
        &mut self,
        handle: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, RingError> {
        let (_, stopped) = self.drain(usize::MAX, handle)?;
        Ok(stopped.map_or(ControlFlow::Continue(()), ControlFlow::Break))
    }

    #[inline]
    pub(super) fn drain<B>(
        &mut self,
        max: usize,
        handle: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<(usize, Option<B>), RingError> {
        let drained = self.reader.drain(self.map.as_map_fd().as_fd(), max, handle);
        drained.map_err(|fault| RingError::broken(self.map.label(), fault))
    }

    /// An iterator over the records that are there, each in memory of its own.
    pub fn copies(&mut self) -> Copies<'_> {
        Copies { ring: self, failed: false }
    }

    /// Waits until there is a record, for ever without a time-out. Answers whether there is one.
    ///
    /// It looks before it waits and when the time is over, and so finds records too that wake nobody. A time-out is
    /// rounded up to milliseconds.
    ///
    /// # Errors
    /// [`RingError::Broken`], [`RingError::Wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, RingError> {
        if self.look()? {
            return Ok(true);
        }
        let deadline = Deadline::after(timeout);
        while !deadline.is_over() {
            if self.waiter.is_none() {
                let waiter = Waiter::new()?;
                waiter.add(self.as_fd(), self.reader.readiness(), 0)?;
                self.waiter = Some(waiter);
            }
            if let Some(waiter) = &self.waiter {
                waiter.wait(deadline)?;
            }
            if self.look()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next record, waited for as [`wait`](Self::wait) does.
    ///
    /// ```
    /// # use skep::map::Map;
    /// # use skep::ring::RingBuffer;
    /// # use skep::sys::abi::{MapType, RingFlags};
    /// # use skep::sys::request::MapCreate;
    /// use std::time::Duration;
    ///
    /// # let sim = skep::sim::SimKernel::new();
    /// # let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::RINGBUF, 0, 0, 4096))?;
    /// # let mut ring: RingBuffer = map.typed()?;
    /// assert!(ring.next_timeout(Duration::from_millis(1))?.is_none());
    /// sim.ring_output(map.as_map_fd(), &[1, 2, 3], RingFlags::empty())?;
    /// assert!(ring.next_timeout(Duration::from_secs(60))?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record<'_>>, RingError> {
        if self.wait(Some(timeout))? { self.next() } else { Ok(None) }
    }

    /// Waits as [`wait`](Self::wait) does, then [`for_each`](Self::for_each).
    ///
    /// # Errors
    /// As both.
    pub fn poll(&mut self, timeout: Option<Duration>, handle: impl FnMut(&[u8])) -> Result<usize, RingError> {
        if self.wait(timeout)? { self.for_each(handle) } else { Ok(0) }
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> usize {
        self.reader.size()
    }

    /// Bytes between consumer and producer now, with headers and with records that are not finished or discarded.
    pub fn available(&self) -> u64 {
        let RingPositions { consumer, producer, overwrite, .. } = self.reader.positions();
        let oldest = if self.reader.overwrites() { consumer.max(overwrite) } else { consumer };
        producer.saturating_sub(oldest).min(self.size() as u64)
    }

    /// Bytes that were consumed and produced since the ring was made.
    pub fn positions(&self) -> RingPositions {
        self.reader.positions()
    }

    /// Whether programs overwrite the oldest records when there is no room (`BPF_F_RB_OVERWRITE`).
    pub fn overwrites(&self) -> bool {
        self.reader.overwrites()
    }

    /// Bytes of records, with their headers, that were overwritten before this reader came to them.
    pub fn overwritten(&self) -> u64 {
        self.reader.overwritten()
    }

    /// The readiness of the descriptor that says that there may be a record: that it can be read.
    pub fn waits_for(&self) -> Readiness {
        self.reader.readiness()
    }

    #[inline]
    pub(super) fn look(&mut self) -> Result<bool, RingError> {
        match self.reader.look(self.map.as_map_fd().as_fd()) {
            Ok(found) => Ok(found),
            Err(fault) => Err(RingError::broken(self.map.label(), fault)),
        }
    }
}

impl AsFd for RingBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_map_fd().as_fd()
    }
}

impl Pollable for RingBuffer {
    type Event = Vec<u8>;
    type Error = RingError;

    fn is_ready(&mut self) -> Result<bool, RingError> {
        self.look()
    }

    fn next_event(&mut self) -> Result<Option<Vec<u8>>, RingError> {
        Ok(self.next()?.map(|record| record.to_vec()))
    }
}

/// An iterator over the records of a ring that are there, from [`RingBuffer::copies`]. It ends after an error.
#[derive(Debug)]
pub struct Copies<'a> {
    ring: &'a mut RingBuffer,
    failed: bool,
}

impl Iterator for Copies<'_> {
    type Item = Result<Vec<u8>, RingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.ring.next_event().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<RingBuffer>();
};

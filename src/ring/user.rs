use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use skep_sys::ring::{Readiness, RingFault, RingPositions, RingSample, RingWriter};
use zerocopy::{Immutable, IntoBytes};

use super::RingError;
use crate::map::{Map, MapError, MapOperation, kinds};
use crate::poll::{Deadline, Waiter};

/// Writes samples that programs read with `bpf_user_ringbuf_drain` (`BPF_MAP_TYPE_USER_RINGBUF`, Linux 6.1).
///
/// Several threads may write at once. Programs get samples in the order in which they were reserved; one that is neither
/// committed nor discarded holds up those after it. Programs do not learn of samples by themselves: something has to run them.
///
/// Made of a map by [`Map::typed`]; one at a time in the process.
///
/// ```
/// use skep::map::Map;
/// use skep::ring::UserRingBuffer;
/// use skep::sys::abi::{MapType, RingFlags};
/// use skep::sys::request::MapCreate;
///
/// let sim = skep::sim::SimKernel::new();
/// let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::USER_RINGBUF, 0, 0, 4096))?;
/// let ring: UserRingBuffer = map.typed()?;
///
/// let mut sample = ring.reserve(5)?;
/// sample.copy_from_slice(b"hello");
/// sample.commit();
/// ring.submit(&7u32)?;
///
/// // What a program does.
/// let mut seen = Vec::new();
/// sim.user_ring_drain(map.as_map_fd(), RingFlags::empty(), |sample| seen.push(sample.to_vec()))?;
/// assert_eq!(seen, [b"hello".to_vec(), 7u32.to_ne_bytes().to_vec()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UserRingBuffer {
    writer: RingWriter,
    map: Map,
}

impl TryFrom<Map> for UserRingBuffer {
    type Error = MapError;

    fn try_from(map: Map) -> Result<UserRingBuffer, MapError> {
        kinds::USER_RING_BUFFER.check_kind(&map)?;
        let memory = map.as_map_fd().ring().map_err(|error| map.failed(MapOperation::Mmap, error))?;
        match RingWriter::new(memory) {
            Some(writer) => Ok(UserRingBuffer { writer, map }),
            None => Err(kinds::USER_RING_BUFFER.wrong_type(&map)),
        }
    }
}

impl UserRingBuffer {
    /// The map.
    pub fn as_map(&self) -> &Map {
        &self.map
    }

    /// Takes room for a sample of `len` bytes, to be written and [committed](RingSample::commit). What it holds before
    /// is left from older samples, or zero.
    ///
    /// # Errors
    /// [`RingError::Full`], [`RingError::TooLarge`], [`RingError::Broken`].
    pub fn reserve(&self, len: usize) -> Result<RingSample<'_>, RingError> {
        let too_large = || RingError::TooLarge { map: self.map.label(), asked: len, size: self.size() };
        let asked = u32::try_from(len).map_err(|_| too_large())?;
        self.writer.reserve(self.as_fd(), asked).map_err(|fault| match fault {
            RingFault::Full { wanted, available } => {
                RingError::Full { map: self.map.label(), wanted, available }
            }
            RingFault::TooLarge { .. } => too_large(),
            fault => RingError::broken(self.map.label(), fault),
        })
    }

    /// As [`reserve`](Self::reserve), but waits until there is room: for ever without a time-out, which is rounded up to
    /// milliseconds.
    ///
    /// ```
    /// # use skep::map::Map;
    /// # use skep::ring::UserRingBuffer;
    /// # use skep::sys::abi::MapType;
    /// # use skep::sys::request::MapCreate;
    /// use std::time::Duration;
    ///
    /// # let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::USER_RINGBUF, 0, 0, 4096))?;
    /// # let ring: UserRingBuffer = map.typed()?;
    /// ring.reserve(4000)?.commit();
    /// assert!(ring.reserve(4000).unwrap_err().is_full());
    /// assert!(ring.reserve_timeout(4000, Some(Duration::from_millis(1))).unwrap_err().is_full());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), [`RingError::Full`] when the time is over; [`RingError::Wait`].
    pub fn reserve_timeout(
        &self,
        len: usize,
        timeout: Option<Duration>,
    ) -> Result<RingSample<'_>, RingError> {
        let deadline = Deadline::after(timeout);
        // One for each call: a change is told to one of those who wait for the same.
        let mut waiter = None;
        loop {
            match self.reserve(len) {
                Err(RingError::Full { .. }) if !deadline.is_over() => {}
                answer => return answer,
            }
            match &waiter {
                Some(waiter) => {
                    Waiter::wait(waiter, deadline)?;
                }
                None => {
                    let new = Waiter::new()?;
                    new.add(self.as_fd(), self.waits_for(), 0)?;
                    waiter = Some(new);
                }
            }
        }
    }

    /// Writes a value as a sample.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn submit<T: IntoBytes + Immutable + ?Sized>(&self, value: &T) -> Result<(), RingError> {
        let bytes = value.as_bytes();
        let mut sample = self.reserve(bytes.len())?;
        sample.copy_from_slice(bytes);
        sample.commit();
        Ok(())
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> usize {
        self.writer.size()
    }

    /// Bytes of samples that programs have not read, with their headers.
    pub fn pending(&self) -> u64 {
        let RingPositions { consumer, producer, .. } = self.positions();
        producer.saturating_sub(consumer)
    }

    /// Bytes that were consumed and produced since the ring was made.
    pub fn positions(&self) -> RingPositions {
        self.writer.positions()
    }

    /// The readiness of the descriptor that says that there may be more room: on Linux that it can be written.
    pub fn waits_for(&self) -> Readiness {
        self.writer.readiness()
    }
}

impl AsFd for UserRingBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_map_fd().as_fd()
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<UserRingBuffer>();
    shared::<RingSample<'_>>();
};

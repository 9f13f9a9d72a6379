use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{Record, RingBuffer, RingError};
use crate::map::{Map, MapError, PlainData};
use crate::poll::Pollable;

/// A [`RingBuffer`] whose records are all of one type.
///
/// A record of another size is an error, and is skipped.
///
/// ```
/// use skep::map::Map;
/// use skep::ring::TypedRingBuffer;
/// use skep::sys::abi::{MapType, RingFlags};
/// use skep::sys::request::MapCreate;
///
/// let sim = skep::sim::SimKernel::new();
/// let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::RINGBUF, 0, 0, 4096))?;
/// let mut pids: TypedRingBuffer<u32> = map.typed()?;
/// for pid in [10u32, 20, 30] {
///     sim.ring_output(map.as_map_fd(), &pid.to_ne_bytes(), RingFlags::empty())?;
/// }
/// assert_eq!(*pids.next()?.ok_or("no record")?, 10);
/// assert_eq!(pids.copies().collect::<Result<Vec<_>, _>>()?, [20, 30]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedRingBuffer<T> {
    pub(super) ring: RingBuffer,
    record: PhantomData<fn() -> T>,
}

impl<T: PlainData> TypedRingBuffer<T> {
    /// Says of which type the records are.
    pub fn new(ring: RingBuffer) -> TypedRingBuffer<T> {
        const { assert!(align_of::<T>() <= 8, "records are aligned to 8 bytes") };
        TypedRingBuffer { ring, record: PhantomData }
    }

    /// The next record, lent; none when there is none, or when the next one is not finished yet.
    ///
    /// # Errors
    /// [`RingError::Broken`], [`RingError::WrongSize`].
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator that lends")]
    pub fn next(&mut self) -> Result<Option<TypedRecord<'_, T>>, RingError> {
        match self.ring.next()? {
            Some(record) => TypedRecord::new(record).map(Some),
            None => Ok(None),
        }
    }

    /// The next record, waited for as [`RingBuffer::wait`] does.
    ///
    /// # Errors
    /// Those of [`next`](Self::next), and [`RingError::Wait`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TypedRecord<'_, T>>, RingError> {
        match self.ring.next_timeout(timeout)? {
            Some(record) => TypedRecord::new(record).map(Some),
            None => Ok(None),
        }
    }

    /// Gives every record to `handle` until none is left. Answers how many that were.
    ///
    /// # Errors
    /// Those of [`next`](Self::next), after the records before were handled; one of another size comes last.
    pub fn for_each(&mut self, mut handle: impl FnMut(&T)) -> Result<usize, RingError> {
        let mut wrong = None;
        let mut count = 0;
        let _stopped = self.ring.try_for_each(|record| match T::ref_from_bytes(record) {
            Ok(value) => {
                count += 1;
                handle(value);
                std::ops::ControlFlow::Continue(())
            }
            Err(_) => {
                wrong = Some(record.len());
                std::ops::ControlFlow::Break(())
            }
        })?;
        wrong.map_or(Ok(count), |there| Err(RingError::wrong_size::<T>(self.ring.as_map().label(), there)))
    }

    /// An iterator over copies of the records that are there. It goes on after a record of another size.
    pub fn copies(&mut self) -> impl Iterator<Item = Result<T, RingError>> + use<'_, T> {
        let mut broken = false;
        std::iter::from_fn(move || {
            if broken {
                return None;
            }
            let next = self.next_event().transpose();
            broken = matches!(next, Some(Err(RingError::Broken { .. })));
            next
        })
    }

    /// The ring, with records as bytes.
    pub fn as_ring(&mut self) -> &mut RingBuffer {
        &mut self.ring
    }

    /// The ring, with records as bytes.
    pub fn into_ring(self) -> RingBuffer {
        self.ring
    }
}

impl<T: PlainData> TryFrom<Map> for TypedRingBuffer<T> {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        map.typed().map(TypedRingBuffer::new)
    }
}

impl<T> AsFd for TypedRingBuffer<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl<T: PlainData> Pollable for TypedRingBuffer<T> {
    type Event = T;
    type Error = RingError;

    fn is_ready(&mut self) -> Result<bool, RingError> {
        self.ring.look()
    }

    fn next_event(&mut self) -> Result<Option<T>, RingError> {
        let Some(record) = self.ring.next()? else { return Ok(None) };
        match T::read_from_bytes(&record) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(record.wrong_size::<T>()),
        }
    }
}

impl<T> fmt::Debug for TypedRingBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedRingBuffer").field(&self.ring).finish()
    }
}

/// A record of a known type, lent as it lies in the ring. Dropping it releases it.
pub struct TypedRecord<'a, T> {
    record: Record<'a>,
    value: PhantomData<fn() -> T>,
}

impl<'a, T: PlainData> TypedRecord<'a, T> {
    fn new(record: Record<'a>) -> Result<Self, RingError> {
        record.get::<T>()?;
        Ok(TypedRecord { record, value: PhantomData })
    }
}

impl<T: PlainData> Deref for TypedRecord<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        T::ref_from_bytes(&self.record).expect("`new` looked at size and place of it")
    }
}

impl<T: PlainData + fmt::Debug> fmt::Debug for TypedRecord<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedRecord").field(&**self).finish()
    }
}

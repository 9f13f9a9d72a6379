use std::fmt;
use std::ops::Deref;

use skep_sys::ring::RingRecord;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::RingError;
use crate::map::Map;

/// A record, lent as it lies in the ring. Dropping it releases it, so that programs can use the room.
///
/// It starts at a multiple of 8 bytes.
pub struct Record<'a> {
    record: RingRecord<'a>,
    map: &'a Map,
}

impl<'a> Record<'a> {
    #[inline]
    pub(super) fn new(record: RingRecord<'a>, map: &'a Map) -> Record<'a> {
        Record { record, map }
    }

    /// The record as a value of a type, without a copy.
    ///
    /// ```
    /// # use skep::map::Map;
    /// # use skep::ring::RingBuffer;
    /// # use skep::sys::abi::{MapType, RingFlags};
    /// # use skep::sys::request::MapCreate;
    /// # let sim = skep::sim::SimKernel::new();
    /// # let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::RINGBUF, 0, 0, 4096))?;
    /// # let mut ring: RingBuffer = map.typed()?;
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Event {
    ///     pid: u32,
    ///     code: u32,
    /// }
    ///
    /// sim.ring_output(map.as_map_fd(), Event { pid: 1, code: 7 }.as_bytes(), RingFlags::empty())?;
    /// let record = ring.next()?.ok_or("no record")?;
    /// assert_eq!(record.get::<Event>()?.code, 7);
    /// assert!(record.get::<u32>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RingError::WrongSize`].
    pub fn get<T: FromBytes + Immutable + KnownLayout>(&self) -> Result<&T, RingError> {
        const { assert!(align_of::<T>() <= 8, "records are aligned to 8 bytes") };
        T::ref_from_bytes(self).map_err(|_| self.wrong_size::<T>())
    }

    /// The record as a value of a type and the bytes after it.
    ///
    /// # Errors
    /// [`RingError::WrongSize`] when the record is shorter than the type.
    pub fn split<T: FromBytes + Immutable + KnownLayout>(&self) -> Result<(&T, &[u8]), RingError> {
        const { assert!(align_of::<T>() <= 8, "records are aligned to 8 bytes") };
        T::ref_from_prefix(self).map_err(|_| self.wrong_size::<T>())
    }

    pub(super) fn wrong_size<T>(&self) -> RingError {
        RingError::wrong_size::<T>(self.map.label(), self.len())
    }
}

impl Deref for Record<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.record
    }
}

impl AsRef<[u8]> for Record<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&&**self).finish()
    }
}

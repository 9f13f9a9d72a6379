use std::any::Any;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RING_HEADER_LEN;
use crate::abi::Errno;
use crate::shared::SharedMemory;

/// Which readiness of a map's descriptor says that it is worth to look at its ring again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Readiness {
    /// It can be read from (`POLLIN`).
    Read,
    /// It can be written to (`POLLOUT`).
    Write,
}

/// What is wrong with a ring whose other end, or another process, does not keep to the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingFault {
    /// The positions cannot be those of a ring of this size.
    #[error("consumer at {consumer} and producer at {producer} are no positions in a ring of {size} bytes")]
    Positions {
        /// Position of the consumer.
        consumer: u64,
        /// Position of the producer.
        producer: u64,
        /// Size of the ring in bytes.
        size: usize,
    },
    /// A record claims to be longer than what was produced.
    #[error("record at {position} claims {len} bytes where {available} were produced, its header among them")]
    RecordLength {
        /// Where the record starts.
        position: u64,
        /// The length that its header says.
        len: u32,
        /// Bytes from there to the producer's position.
        available: u64,
    },
    /// Someone else moved the position that only this process moves.
    #[error("position is {found} and not {expected}: another process uses this end of the ring too")]
    Moved {
        /// Where this process left it.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// The ring has no place for a sample now.
    #[error("sample takes {wanted} bytes with its header, and {available} are free")]
    Full {
        /// Bytes that the sample takes.
        wanted: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The ring can never hold a sample of this length.
    #[error("sample takes {wanted} bytes with its header, more than a ring of {size} can hold")]
    TooLarge {
        /// Bytes that the sample takes.
        wanted: u64,
        /// Size of the ring in bytes.
        size: usize,
    },
}

/// Where the ends of a ring are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RingPositions {
    /// Bytes that were consumed since the ring was made.
    pub consumer: u64,
    /// Bytes that were produced since the ring was made, with those of records that are not finished.
    pub producer: u64,
    /// Bytes that were overwritten or could have been consumed before, in a ring that overwrites; else 0.
    pub overwrite: u64,
}

type Idle = Box<dyn Fn(BorrowedFd<'_>) + Send + Sync>;

/// The memory of one ring, held by the only one who uses this end of it in the process.
///
/// Given out by [`Backend::map_ring`](crate::Backend::map_ring). Dropping it lets go of the memory, and others may have
/// it.
pub struct RingMemory {
    consumer: SharedMemory,
    producer: SharedMemory,
    page: usize,
    size: usize,
    produces: bool,
    overwrites: bool,
    /// Whether only a kernel that keeps to the positions can write what is lent.
    direct: bool,
    idle: Option<Idle>,
    /// Dropped last: until then nobody else may have the memory.
    claim: Option<Box<dyn Any + Send + Sync>>,
}

impl RingMemory {
    /// The memory of a ring on the heap, for simulated kernels: a page with the consumer's position, one with the
    /// producer's, and twice the data. `page` is the length of a page in bytes, and `produces` says whether the process is the
    /// producer. Records are copied out of such memory and into it, since whoever made it can write it at any time.
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: the data has not the size of a power of two, or there are no pages before it.
    pub fn heap(words: Arc<[AtomicU64]>, page: usize, produces: bool) -> Result<RingMemory, Errno> {
        let rest = size_of_val(&*words).checked_sub(page).ok_or(Errno::EINVAL)?;
        let consumer = SharedMemory::heap_part(words.clone(), 0, page, !produces).ok_or(Errno::EINVAL)?;
        let producer = SharedMemory::heap_part(words, page, rest, produces).ok_or(Errno::EINVAL)?;
        RingMemory::new(consumer, producer, produces, false)
    }

    /// The memory of a ring of the running kernel, mapped.
    #[cfg(target_os = "linux")]
    pub(crate) fn mapped(
        consumer: SharedMemory,
        producer: SharedMemory,
        produces: bool,
    ) -> Result<RingMemory, Errno> {
        RingMemory::new(consumer, producer, produces, true)
    }

    fn new(
        consumer: SharedMemory,
        producer: SharedMemory,
        produces: bool,
        direct: bool,
    ) -> Result<RingMemory, Errno> {
        let page = consumer.len();
        let size = producer.len().saturating_sub(page) / 2;
        let fits = size.is_power_of_two() && size >= RING_HEADER_LEN && page >= 3 * RING_HEADER_LEN;
        if !fits || producer.len() != page + 2 * size {
            return Err(Errno::EINVAL);
        }
        Ok(RingMemory {
            consumer,
            producer,
            page,
            size,
            produces,
            overwrites: false,
            direct,
            idle: None,
            claim: None,
        })
    }

    /// Says that the producer overwrites the oldest records when there is no room (`BPF_F_RB_OVERWRITE`).
    #[must_use]
    pub fn overwriting(mut self) -> RingMemory {
        self.overwrites = true;
        self
    }

    /// Holds something more until the memory is no longer used.
    #[must_use]
    pub fn with_claim(mut self, claim: Box<dyn Any + Send + Sync>) -> RingMemory {
        self.claim = Some(match self.claim {
            Some(before) => Box::new((before, claim)),
            None => claim,
        });
        self
    }

    /// What is done, with the map's descriptor, when there was nothing to do in the ring: a simulated kernel takes back
    /// the readiness of the descriptor. The ring is looked at once more afterwards.
    #[must_use]
    pub fn with_idle(mut self, idle: Box<dyn Fn(BorrowedFd<'_>) + Send + Sync>) -> RingMemory {
        self.idle = Some(idle);
        self
    }

    /// Size of the data in bytes, a power of two.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the process is the producer.
    pub fn produces(&self) -> bool {
        self.produces
    }

    /// Whether the producer overwrites the oldest records when there is no room.
    pub fn overwrites(&self) -> bool {
        self.overwrites
    }

    /// The readiness of the map's descriptor to wait for. A simulated kernel's descriptors can only be read.
    pub fn readiness(&self) -> Readiness {
        if self.produces && self.direct { Readiness::Write } else { Readiness::Read }
    }

    /// Whether records are lent as they lie in the ring.
    #[inline]
    pub(super) fn lends(&self) -> bool {
        self.direct && !self.overwrites
    }

    /// Whether samples are written where they lie in the ring.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Takes back the readiness of the descriptor where a kernel cannot do that itself. Answers whether that was done.
    pub(super) fn went_idle(&self, map: BorrowedFd<'_>) -> bool {
        if let Some(idle) = &self.idle {
            idle(map);
        }
        self.idle.is_some()
    }

    #[inline]
    pub(super) fn consumer(&self) -> &AtomicU64 {
        self.consumer.word(0)
    }

    #[inline]
    pub(super) fn producer(&self) -> &AtomicU64 {
        self.producer.word(0)
    }

    /// The kernel keeps it in the third word of the producer's page.
    #[inline]
    pub(super) fn overwritten(&self) -> &AtomicU64 {
        self.producer.word(2 * size_of::<u64>())
    }

    /// Where the byte of a position lies in [`data`](Self::data).
    #[inline]
    pub(super) fn offset(&self, position: u64) -> usize {
        // The size is a power of two, and the result below it.
        self.page + (position as usize & (self.size - 1))
    }

    /// The memory that [`offset`](Self::offset) counts in.
    #[inline]
    pub(super) fn data(&self) -> &SharedMemory {
        &self.producer
    }

    pub(super) fn positions(&self) -> RingPositions {
        let overwrite = if self.overwrites { self.overwritten().load(Ordering::Acquire) } else { 0 };
        RingPositions {
            consumer: self.consumer().load(Ordering::Acquire),
            producer: self.producer().load(Ordering::Acquire),
            overwrite,
        }
    }

    /// What can be wrong with two positions.
    pub(super) fn check(&self, consumer: u64, producer: u64) -> Result<(), RingFault> {
        let there = producer.wrapping_sub(consumer);
        if there > self.size as u64 || (producer | consumer) & 7 != 0 {
            return Err(RingFault::Positions { consumer, producer, size: self.size });
        }
        Ok(())
    }
}

impl fmt::Debug for RingMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingMemory")
            .field("size", &self.size)
            .field("produces", &self.produces)
            .field("overwrites", &self.overwrites)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

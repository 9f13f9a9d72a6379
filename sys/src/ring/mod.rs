//! Ring buffers: memory that programs write and a process reads, or the other way round.
//!
//! A ring has a page with the consumer's position, a page with the producer's, and data of a power of two bytes that is
//! mapped twice in a row, so that a record which wraps around is contiguous. Positions only grow; a record starts at a
//! multiple of 8 with its length, of which two bits say that it is not finished or not wanted.
//!
//! [`Backend::map_ring`](crate::Backend::map_ring) gives out the [`RingMemory`] of a map, to one holder at a time: with two,
//! one would make room for the kernel to write over what the other has lent. [`RingReader`] and [`RingWriter`] are
//! the two ends.

mod memory;
mod reader;
mod writer;

pub use memory::{Readiness, RingFault, RingMemory, RingPositions};
pub use reader::{RingReader, RingRecord};
pub use writer::{RingSample, RingWriter};

/// Length of the header of a record in bytes (`BPF_RINGBUF_HDR_SZ`).
pub const RING_HEADER_LEN: usize = 8;

/// The bit of a length that says that the record is not finished (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// The bit of a length that says that the record is to be skipped (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARD: u32 = 1 << 30;

/// What a record of `len` bytes takes in the ring: its header and its data, up to a multiple of 8.
#[inline]
const fn footprint(len: u32) -> u64 {
    // The address of the next header hangs on this: no division and no branch.
    (len as u64 + RING_HEADER_LEN as u64 + 7) & !7
}

#[cfg(test)]
mod tests;

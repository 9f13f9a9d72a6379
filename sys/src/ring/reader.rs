//! The consumer's end.
//!
//! Unsafe code is allowed here because records are lent as slices of memory that a kernel writes.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::ControlFlow;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::{BUSY, DISCARD, RING_HEADER_LEN, Readiness, RingFault, RingMemory, RingPositions, footprint};

/// How often a record is looked at that is overwritten meanwhile, before it is given up for now.
const TRIES: usize = 100;
/// No position: those of records are multiples of 8.
const NOWHERE: u64 = u64::MAX;

/// Reads a ring that a kernel's programs write (`BPF_MAP_TYPE_RINGBUF`, Linux 5.8).
///
/// A record is lent where it lies while only the kernel can write the memory and does not: from when it was finished
/// until the consumer's position has passed it. In a ring that overwrites, and on simulated kernels, it is copied, and
/// compared with the positions afterwards.
pub struct RingReader {
    memory: RingMemory,
    /// Where the next record starts.
    position: u64,
    /// The producer's position when it was last looked at.
    seen: u64,
    /// The position that the kernel knows.
    published: u64,
    /// Where the finished record starts that was found last, which may be past by now, and its length.
    front: (u64, u32),
    /// Where the data begins that records are lent of; none of a ring whose records are copied.
    lent: Option<NonNull<u8>>,
    /// What of a position says where it lies in the data.
    mask: usize,
    /// Bytes after which the kernel is told how far we are.
    publish_after: u64,
    /// Where records are copied to that cannot be lent.
    copied: Vec<u64>,
    overwritten: u64,
}

// SAFETY: `lent` points into the mapping that `memory` owns, which may be sent to other threads.
unsafe impl Send for RingReader {}
// SAFETY: a shared reader gives out shared slices only.
unsafe impl Sync for RingReader {}

impl RingReader {
    /// Reads from where the consumer's position is. Nothing for memory of a ring that the process produces.
    pub fn new(memory: RingMemory) -> Option<RingReader> {
        if memory.produces() {
            return None;
        }
        let position = memory.consumer().load(Ordering::Acquire);
        let publish_after = (memory.size() / 8) as u64;
        Some(RingReader {
            position,
            seen: position,
            published: position,
            front: (NOWHERE, 0),
            lent: memory.lends().then(|| memory.data().place(memory.offset(0), 2 * memory.size())),
            mask: memory.size() - 1, // a power of two
            memory,
            publish_after,
            copied: Vec::new(),
            overwritten: 0,
        })
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> usize {
        self.memory.size()
    }

    /// Whether the producer overwrites the oldest records when there is no room.
    pub fn overwrites(&self) -> bool {
        self.memory.overwrites()
    }

    /// The readiness of the map's descriptor to wait for.
    pub fn readiness(&self) -> Readiness {
        self.memory.readiness()
    }

    /// Where consumer and producer are now.
    pub fn positions(&self) -> RingPositions {
        RingPositions { consumer: self.position, ..self.memory.positions() }
    }

    /// Bytes of records that were overwritten before they were read, their headers among them.
    pub fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// Whether a finished record is at the front; discarded ones before it are skipped. `map` is the ring's map.
    ///
    /// When there is none, the kernel was told of all that was released, and whatever is finished from now on makes the
    /// map's descriptor ready, unless the program asks for no wakeup.
    ///
    /// # Errors
    /// [`RingFault`]: the other end does not keep to the protocol. It stays so.
    #[inline]
    pub fn look(&mut self, map: BorrowedFd<'_>) -> Result<bool, RingFault> {
        if self.found().is_some() || self.scan()? { Ok(true) } else { self.look_again(map) }
    }

    #[cold]
    fn look_again(&mut self, map: BorrowedFd<'_>) -> Result<bool, RingFault> {
        let mut was_idle = false;
        loop {
            self.publish();
            // A program ends its record, then reads our position to see whether we wait for it. We have written our
            // position, and read the record after this, so one of both sees the other.
            fence(Ordering::SeqCst);
            if self.scan()? {
                return Ok(true);
            }
            // Discarded records were skipped: the kernel has to know that, or it does not wake us for the next one.
            if self.position != self.published {
                continue;
            }
            if was_idle || !self.memory.went_idle(map) {
                return Ok(false);
            }
            was_idle = true;
        }
    }

    /// The record that [`look`](Self::look) found; empty if it found none. It starts at a multiple of 8 bytes.
    #[inline]
    pub fn record(&self) -> &[u8] {
        let Some(len) = self.found() else { return &[] };
        let len = len as usize;
        if self.memory.lends() {
            let offset = self.memory.offset(self.position) + RING_HEADER_LEN;
            // SAFETY: the record of `len` bytes at `position` is finished (its header was read with acquire ordering) and
            // lies before the producer's position, and the kernel writes it only after the consumer's position
            // passed `position`, which only `publish` moves, for which `self` is borrowed mutably. The process cannot
            // write it: the mapping is read-only, as is any other, and `memory` is the only one to have the position's page.
            unsafe { self.memory.data().lend(offset, len) }
        } else {
            let words = &self.copied;
            assert!(len <= words.len() * 8, "the record was copied to it");
            // SAFETY: `len` bytes of the words that `self.copied` owns, which are all initialised.
            unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), len) }
        }
    }

    /// The next finished record, which is released when it is dropped; none as [`look`](Self::look) says. `map` is the
    /// ring's map.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    #[inline]
    pub fn next(&mut self, map: BorrowedFd<'_>) -> Result<Option<RingRecord<'_>>, RingFault> {
        if let Some(data) = self.lent
            && self.position != self.seen
        {
            // SAFETY: `data` is where twice the `mask + 1` bytes of records begin in the mapping that `memory` owns. Positions
            // are multiples of 8, as `memory` has checked that of the producer, so that the half word is there, aligned.
            let header = unsafe { data.add(self.position as usize & self.mask) };
            // SAFETY: as above.
            let len = unsafe { AtomicU32::from_ptr(header.as_ptr().cast()) }.load(Ordering::Acquire);
            let taken = footprint(len);
            // What is not as simple is left to `look`: discarded records, faults.
            if len & (BUSY | DISCARD) == 0 && taken <= self.seen.wrapping_sub(self.position) {
                // SAFETY: the record lies before the producer's position, which is at most `mask + 1` ahead.
                let start = unsafe { header.add(RING_HEADER_LEN) };
                let end = self.position.wrapping_add(taken);
                return Ok(Some(RingRecord { start, len: len as usize, end, reader: self }));
            }
        }
        Ok(if self.look(map)? { Some(self.take()) } else { None })
    }

    /// The record that [`look`](Self::look) found.
    #[cold]
    fn take(&mut self) -> RingRecord<'_> {
        let record = self.record();
        let (start, len) = (NonNull::from(record).cast(), record.len());
        // A length in the ring has 32 bits.
        let end = self.position.wrapping_add(footprint(len as u32));
        RingRecord { start, len, end, reader: self }
    }

    /// Length of the finished record at `position`, if it was found already.
    #[inline]
    fn found(&self) -> Option<u32> {
        let (position, len) = self.front;
        (position == self.position).then_some(len)
    }

    /// Goes past the record that [`look`](Self::look) found. The kernel learns of it with [`publish`](Self::publish).
    #[inline]
    pub fn advance(&mut self) {
        if let Some(len) = self.found() {
            self.position = self.position.wrapping_add(footprint(len));
        }
    }

    /// Tells the kernel how far the ring is read, so that it can use the room.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.position {
            self.memory.consumer().store(self.position, Ordering::Release);
            self.published = self.position;
        }
    }

    /// Goes past all that was produced, whatever it is, also past faults. Answers how many bytes that were.
    ///
    /// Records that are not finished are lost too.
    pub fn skip_all(&mut self) -> u64 {
        let RingPositions { producer, .. } = self.memory.positions();
        let skipped = producer.wrapping_sub(self.position);
        (self.position, self.seen, self.published) = (producer, producer, producer);
        self.memory.consumer().store(producer, Ordering::Release);
        skipped
    }

    /// Gives each finished record to `handle`, at most `max`, until it says to stop. Answers how many, and what it said.
    ///
    /// The kernel learns of it from time to time and at the end, also when `handle` panics.
    ///
    /// # Errors
    /// As [`look`](Self::look), after the records that come before the fault were handled.
    #[inline]
    pub fn drain<B>(
        &mut self,
        map: BorrowedFd<'_>,
        max: usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> Result<(usize, Option<B>), RingFault> {
        struct Drain<'a>(&'a mut RingReader);

        impl Drop for Drain<'_> {
            fn drop(&mut self) {
                self.0.advance();
                self.0.publish();
            }
        }

        let drain = Drain(self);
        let mut count = 0;
        loop {
            let (run, stopped) = drain.0.drain_seen(max - count, &mut handle);
            count += run;
            if stopped.is_some() {
                return Ok((count, stopped));
            }
            // What is not as simple: the end of what was seen, discarded records, faults, copies.
            if count == max || !drain.0.look(map)? {
                return Ok((count, None));
            }
            count += 1;
            let flow = handle(drain.0.record());
            drain.0.advance();
            if drain.0.position.wrapping_sub(drain.0.published) >= drain.0.publish_after {
                drain.0.publish();
            }
            if let ControlFlow::Break(value) = flow {
                return Ok((count, Some(value)));
            }
        }
    }

    /// [`drain`](Self::drain) for finished records that lie one behind the other in what was seen of a ring that lends, with
    /// the position in a register.
    #[inline]
    fn drain_seen<B>(
        &mut self,
        max: usize,
        handle: &mut impl FnMut(&[u8]) -> ControlFlow<B>,
    ) -> (usize, Option<B>) {
        /// Writes the position back, also when `handle` panics.
        struct Forward<'a> {
            position: u64,
            place: &'a mut u64,
        }

        impl Drop for Forward<'_> {
            fn drop(&mut self) {
                *self.place = self.position;
            }
        }

        let Some(data) = self.lent else { return (0, None) };
        let RingReader { memory, mask, seen, publish_after, published, position: place, .. } = self;
        let (mask, seen, publish_after) = (*mask, *seen, *publish_after);
        let mut forward = Forward { position: *place, place };
        let mut count = 0;
        while count < max && forward.position != seen {
            // SAFETY: as in `next`.
            let header = unsafe { data.add(forward.position as usize & mask) };
            // SAFETY: as in `next`.
            let len = unsafe { AtomicU32::from_ptr(header.as_ptr().cast()) }.load(Ordering::Acquire);
            let taken = footprint(len);
            if len & (BUSY | DISCARD) != 0 || taken > seen.wrapping_sub(forward.position) {
                break;
            }
            // SAFETY: as in `record`: the record is finished and lies inside of what was produced, and the position that
            // the kernel knows stays before it until `handle` has returned: it is published below only.
            let record =
                unsafe { std::slice::from_raw_parts(header.as_ptr().add(RING_HEADER_LEN), len as usize) };
            forward.position = forward.position.wrapping_add(taken);
            count += 1;
            let flow = handle(record);
            if forward.position.wrapping_sub(*published) >= publish_after {
                memory.consumer().store(forward.position, Ordering::Release);
                *published = forward.position;
            }
            if let ControlFlow::Break(value) = flow {
                return (count, Some(value));
            }
        }
        (count, None)
    }

    /// Finds the next finished record, unless it is not finished yet or there is none.
    #[inline]
    fn scan(&mut self) -> Result<bool, RingFault> {
        if self.memory.overwrites() {
            return self.scan_overwritten();
        }
        loop {
            if self.position == self.seen && !self.refresh()? {
                return Ok(false);
            }
            let header = self.memory.data().half(self.memory.offset(self.position)).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Ok(false);
            }
            let len = header & !DISCARD;
            let available = self.seen.wrapping_sub(self.position);
            let taken = footprint(len);
            if taken > available {
                return Err(RingFault::RecordLength { position: self.position, len, available });
            }
            if header & DISCARD == 0 {
                if !self.memory.lends() {
                    self.copy(len);
                }
                self.front = (self.position, len);
                return Ok(true);
            }
            self.position = self.position.wrapping_add(taken);
        }
    }

    /// Looks where the producer is. Answers whether it is ahead.
    fn refresh(&mut self) -> Result<bool, RingFault> {
        let found = self.memory.consumer().load(Ordering::Relaxed);
        if found != self.published {
            return Err(RingFault::Moved { expected: self.published, found });
        }
        let seen = self.memory.producer().load(Ordering::Acquire);
        self.memory.check(self.position, seen)?;
        self.seen = seen;
        Ok(self.position != seen)
    }

    /// As [`scan`](Self::scan), in a ring whose oldest records can be overwritten at any time.
    ///
    /// The kernel moves the overwrite position past a record before it writes there, and the producer's position after
    /// that. So what was read is a record if the overwrite position has not passed it by then.
    #[cold]
    fn scan_overwritten(&mut self) -> Result<bool, RingFault> {
        for tries_left in (0..TRIES).rev() {
            let found = self.memory.consumer().load(Ordering::Relaxed);
            if found != self.published {
                return Err(RingFault::Moved { expected: self.published, found });
            }
            let seen = self.memory.producer().load(Ordering::Acquire);
            self.pass_overwritten();
            let available = seen.wrapping_sub(self.position);
            if available == 0 {
                return Ok(false);
            }
            // The overwrite position may be newer than what was seen of the producer.
            if available.cast_signed() < 0 && tries_left > 0 {
                continue;
            }
            if available.cast_signed() < 0 || self.position & 7 != 0 {
                self.memory.check(self.position, seen)?;
            }
            let header = self.memory.data().half(self.memory.offset(self.position)).load(Ordering::Acquire);
            let len = header & !(BUSY | DISCARD);
            let taken = footprint(len);
            let inside = available <= self.memory.size() as u64 && taken <= available;
            if inside && header & (BUSY | DISCARD) == 0 {
                self.copy(len);
            }
            // What was copied was read before the position is.
            fence(Ordering::Acquire);
            if self.is_overwritten() {
                continue;
            }
            self.memory.check(self.position, seen)?;
            if !inside {
                return Err(RingFault::RecordLength { position: self.position, len, available });
            }
            if header & BUSY != 0 {
                return Ok(false);
            }
            if header & DISCARD == 0 {
                self.front = (self.position, len);
                return Ok(true);
            }
            self.position = self.position.wrapping_add(taken);
        }
        Ok(false)
    }

    /// Whether the record at the front was overwritten.
    fn is_overwritten(&self) -> bool {
        let oldest = self.memory.overwritten().load(Ordering::Acquire);
        // Positions are compared by their distance, as the kernel does.
        oldest.wrapping_sub(self.position).cast_signed() > 0
    }

    fn pass_overwritten(&mut self) {
        let oldest = self.memory.overwritten().load(Ordering::Acquire);
        let lost = oldest.wrapping_sub(self.position);
        if lost.cast_signed() > 0 {
            self.overwritten = self.overwritten.wrapping_add(lost);
            self.position = oldest;
        }
    }

    /// Copies `len` bytes of the record at `position`, which lie inside of the data.
    fn copy(&mut self, len: u32) {
        let len = len as usize;
        let count = len.div_ceil(8);
        if self.copied.len() < count {
            self.copied.resize(count, 0);
        }
        let start = self.memory.offset(self.position) + RING_HEADER_LEN;
        for (at, word) in self.copied.iter_mut().take(count).enumerate() {
            // A record takes whole words, all of them inside of what was produced.
            *word = self.memory.data().word(start + 8 * at).load(Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for RingReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingReader")
            .field("memory", &self.memory)
            .field("position", &self.position)
            .field("front", &self.found())
            .finish_non_exhaustive()
    }
}

/// A record of a ring, from [`RingReader::next`]. It starts at a multiple of 8 bytes. Dropping it releases it.
pub struct RingRecord<'a> {
    /// Where its bytes lie, which is found once.
    start: NonNull<u8>,
    len: usize,
    /// The position behind it.
    end: u64,
    reader: &'a mut RingReader,
}

// SAFETY: what `start` points to belongs to `reader`, which may be sent to other threads.
unsafe impl Send for RingRecord<'_> {}
// SAFETY: a shared record gives out shared slices only.
unsafe impl Sync for RingRecord<'_> {}

impl Deref for RingRecord<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes of the mapping that `reader` owns, or of the words that it has copied, which are as many.
        // As in `RingReader::record` the kernel does not write them before the position passes them, which `reader`,
        // borrowed exclusively until this is dropped, does only then; nor does it copy anything until then.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for RingRecord<'_> {
    #[inline]
    fn drop(&mut self) {
        self.reader.position = self.end;
        self.reader.publish();
    }
}

impl fmt::Debug for RingRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RingRecord").field(&&**self).finish()
    }
}

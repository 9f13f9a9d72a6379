//! The ring of a perf event, which a kernel writes and one reader reads.
//!
//! Unsafe code is allowed here because records are lent out of memory that the kernel shares.

#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::abi::{Errno, PerfRecordType};
use crate::perf_event::PerfEventFd;
use crate::request::PerfControl;
use crate::shared::{SharedMemory, SharedMemoryError};

/// `perf_event_mmap_page.data_head`: how far the kernel has written.
const HEAD: usize = 1024;
/// `perf_event_mmap_page.data_tail`: how far was read.
const TAIL: usize = 1032;
/// Size of `struct perf_event_header`, and what sizes of records are multiples of.
const HEADER: usize = 8;

/// The memory of a ring, as a backend gives it out: only a [`PerfRing`] sees into it.
pub struct PerfRingMemory {
    memory: SharedMemory,
    /// Where the records begin: size of the page about the ring.
    data: usize,
}

impl PerfRingMemory {
    /// Words on the heap, for simulated kernels, which keep the other reference: a page about the ring, whose words at
    /// 1024 and 1032 bytes are the positions of kernel and reader, and pages of records. It is written by the reader
    /// if `writable`.
    pub fn heap(words: Arc<[AtomicU64]>, page_size: u32, writable: bool) -> PerfRingMemory {
        PerfRingMemory { memory: SharedMemory::heap(words, writable), data: page_size as usize }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn mapping(memory: SharedMemory, data: usize) -> PerfRingMemory {
        PerfRingMemory { memory, data }
    }
}

impl fmt::Debug for PerfRingMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerfRingMemory").field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// What is wrong with a ring. Reading goes on behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerfRingError {
    /// The kernel's position is none that it can have.
    #[error("the ring of {size} bytes says that it was written to {head}, and was read to {tail}")]
    Position {
        /// How far it says that it was written.
        head: u64,
        /// How far it was read.
        tail: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A record has a size that none can have.
    #[error("a record says that it has {size} bytes, of {left} that there are")]
    Record {
        /// The size in its header.
        size: u16,
        /// Bytes in the ring from the record on.
        left: u64,
    },
    /// Writing could not be stopped or started again.
    #[error("pause the ring: {0}")]
    Pause(Errno),
    /// The ring could not be accessed, which cannot happen to one that was made.
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
}

/// A record: its header's fields, and all of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PerfRingRecord<'a> {
    /// Kind.
    pub record_type: PerfRecordType,
    /// `PERF_RECORD_MISC_*`.
    pub misc: u16,
    /// All bytes, the header's 8 included; a multiple of 8.
    pub bytes: &'a [u8],
}

impl<'a> PerfRingRecord<'a> {
    /// The record that these are all bytes of; none when its header says another length.
    pub fn new(bytes: &'a [u8]) -> Option<PerfRingRecord<'a>> {
        let (record_type, misc, size) = split(u64::from_ne_bytes(*bytes.first_chunk()?));
        (usize::from(size) == bytes.len()).then_some(PerfRingRecord { record_type, misc, bytes })
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// A perf event with its ring, and where its reader is.
///
/// Reading is in turns: [`begin`](PerfRing::begin) looks how far the kernel has written, [`peek`](PerfRing::peek) gives
/// the record that is next until there, [`advance`](PerfRing::advance) goes on behind it, and
/// [`finish`](PerfRing::finish) tells the kernel what was read. A record is lent where it lies and copied when it goes
/// over the end of the ring.
///
/// A ring of an event that is written backward is one where the kernel writes over what is oldest. Each turn stops it
/// meanwhile, and gives what was written since the last one and is still there, from the oldest record on. These
/// records are copied.
pub struct PerfRing {
    memory: SharedMemory,
    event: PerfEventFd,
    /// Where the records begin.
    data: usize,
    /// Size of the records' part, a power of two.
    size: u64,
    /// Whether records may be lent: nobody else can write what was not read yet.
    lends: bool,
    /// How far was read.
    tail: u64,
    /// How far the kernel had written when this turn began.
    head: u64,
    /// What the kernel knows of `tail`.
    told: u64,
    /// Where the record that is next begins and what size it has, once it was looked at.
    current: Option<(u64, u16)>,
    /// A record that goes over the end of the ring, or may be written over.
    copy: Vec<u8>,
    /// Of a ring that is written backward: the records of this turn that were not read yet, newest first.
    newest_first: Vec<(u64, u16)>,
    /// Whether the user wants nothing to be written.
    paused: bool,
    /// Whether this turn stopped writing.
    stopped: bool,
}

impl PerfRing {
    pub(crate) fn new(event: PerfEventFd, memory: PerfRingMemory) -> Result<PerfRing, Errno> {
        let PerfRingMemory { memory, data } = memory;
        let size = memory.len().checked_sub(data).ok_or(Errno::EINVAL)?;
        let shaped = size.is_power_of_two() && size >= HEADER && data.is_multiple_of(8) && data >= TAIL + 8;
        // What the reader may not write is written over, and only backward can it be read then.
        if !shaped || memory.is_writable() == event.is_backward() {
            return Err(Errno::EINVAL);
        }
        Ok(PerfRing {
            // Words on the heap may be held by safe code, which can write them at any time.
            lends: memory.is_writable() && memory.is_mapping(),
            memory,
            event,
            data,
            size: size as u64,
            tail: 0,
            head: 0,
            told: 0,
            current: None,
            copy: Vec::new(),
            newest_first: Vec::new(),
            paused: false,
            stopped: false,
        })
    }

    /// The event.
    pub fn event(&self) -> &PerfEventFd {
        &self.event
    }

    /// Size of the ring in bytes, a power of two.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the kernel writes over what is oldest.
    pub fn is_overwritable(&self) -> bool {
        self.event.is_backward()
    }

    /// How many bytes were written since the last turn began and are still there.
    pub fn available(&self) -> u64 {
        let head = self.memory.load_u64(HEAD).unwrap_or(self.tail);
        let written =
            if self.is_overwritable() { self.tail.wrapping_sub(head) } else { head.wrapping_sub(self.tail) };
        written.min(self.size)
    }

    /// Whether nothing is written, because [`pause`](PerfRing::pause) asked for it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Stops writing until [`resume`](PerfRing::resume) (`PERF_EVENT_IOC_PAUSE_OUTPUT`, Linux 4.7). What programs write
    /// meanwhile is lost, and counted as lost. Asking twice is once.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn pause(&mut self) -> Result<(), Errno> {
        self.event.control(PerfControl::PauseOutput(true))?;
        self.paused = true;
        Ok(())
    }

    /// Writes again.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn resume(&mut self) -> Result<(), Errno> {
        self.event.control(PerfControl::PauseOutput(false))?;
        self.paused = false;
        Ok(())
    }

    /// Begins a turn, which sees what is written by now. Answers whether there is anything.
    ///
    /// # Errors
    /// [`PerfRingError::Position`]: the ring was skipped to where it was written last. [`PerfRingError::Pause`].
    pub fn begin(&mut self) -> Result<bool, PerfRingError> {
        // It can fail only when a backend is made to, and then it is looked at again later.
        let _ = self.event.kernel().backend().perf_event_seen(self.event.as_fd());
        self.current = None;
        if self.is_overwritable() {
            return self.begin_backward();
        }
        let (head, tail) = (self.memory.load_u64(HEAD)?, self.tail);
        self.head = head;
        if head.wrapping_sub(tail) > self.size || !head.is_multiple_of(HEADER as u64) {
            self.skip()?;
            return Err(PerfRingError::Position { head, tail, size: self.size });
        }
        Ok(head != tail)
    }

    fn begin_backward(&mut self) -> Result<bool, PerfRingError> {
        self.newest_first.clear();
        if !self.paused && !self.stopped {
            self.event.control(PerfControl::PauseOutput(true)).map_err(PerfRingError::Pause)?;
            self.stopped = true;
        }
        let (head, last) = (self.memory.load_u64(HEAD)?, self.tail);
        self.head = head;
        self.skip()?;
        // What was there at the last turn was given out then.
        let new = last.wrapping_sub(head).min(self.size);
        if !head.is_multiple_of(HEADER as u64) {
            return Err(PerfRingError::Position { head, tail: last, size: self.size });
        }
        let mut seen: u64 = 0;
        while seen + HEADER as u64 <= new {
            let at = head.wrapping_add(seen);
            let (_, _, size) = self.header(at)?;
            // The oldest record is written over in part, unless by chance it ends where the ring does.
            if !is_size(size) || seen + u64::from(size) > new {
                break;
            }
            self.newest_first.push((at, size));
            seen += u64::from(size);
        }
        Ok(!self.newest_first.is_empty())
    }

    /// The record that is next in this turn, if there is one.
    ///
    /// # Errors
    /// [`PerfRingError::Record`]: what is left of this turn was skipped.
    pub fn peek(&mut self) -> Result<Option<PerfRingRecord<'_>>, PerfRingError> {
        let Some((at, size)) = self.locate()? else { return Ok(None) };
        let (record_type, misc, _) = self.header(at)?;
        let bytes = self.bytes(at, usize::from(size))?;
        Ok(Some(PerfRingRecord { record_type, misc, bytes }))
    }

    /// Goes on behind the record that is next. The kernel is told when the turn ends, and before that when it is
    /// worth while.
    ///
    /// # Errors
    /// As [`peek`](PerfRing::peek).
    pub fn advance(&mut self) -> Result<(), PerfRingError> {
        let Some((_, size)) = self.locate()? else { return Ok(()) };
        self.current = None;
        if self.is_overwritable() {
            self.newest_first.pop();
            return Ok(());
        }
        self.tail = self.tail.wrapping_add(u64::from(size));
        // Programs find the space without waiting for the end, and the two sides seldom write to the same page.
        if self.tail.wrapping_sub(self.told) >= self.size / 4 {
            self.tell()?;
        }
        Ok(())
    }

    /// Gives all records that are left in this turn to `each`, and goes on behind them: what [`peek`](PerfRing::peek) and
    /// [`advance`](PerfRing::advance) do one by one, faster. Answers how many there were.
    ///
    /// # Errors
    /// As [`peek`](PerfRing::peek).
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(PerfRingRecord<'_>)) -> Result<usize, PerfRingError> {
        let mut count = 0;
        loop {
            count += self.drain_while(|record| {
                each(record);
                true
            });
            let Some(record) = self.peek()? else { return Ok(count) };
            each(record);
            count += 1;
            self.advance()?;
        }
    }

    /// Gives records to `each` as [`drain`](PerfRing::drain) does, until it answers that it does not take one, which is then
    /// the next. Answers how many it took.
    ///
    /// It ends earlier at what is not as simple, which may be anywhere: a record that goes over the end of the ring or is
    /// copied for other reasons, or what is damaged. [`peek`](PerfRing::peek) and [`advance`](PerfRing::advance) take that.
    #[inline]
    pub fn drain_while(&mut self, mut each: impl FnMut(PerfRingRecord<'_>) -> bool) -> usize {
        /// Writes the positions back, also when `each` panics.
        struct Forward<'a> {
            tail: u64,
            told: u64,
            places: (&'a mut u64, &'a mut u64),
        }

        impl Drop for Forward<'_> {
            fn drop(&mut self) {
                (*self.places.0, *self.places.1) = (self.tail, self.told);
            }
        }

        if !self.lends {
            return 0;
        }
        self.current = None;
        // What is not done here is out of the loop, whose positions then stay in registers.
        let head = self.head;
        let size_of_ring = self.size as usize; // that of memory
        let (mask, much) = (size_of_ring - 1, self.size / 4);
        let Ok(told_at) = self.memory.atomic_u64(TAIL) else { return 0 };
        let records = self.memory.place(self.data, size_of_ring);
        let (tail, told) = (self.tail, self.told);
        let mut forward = Forward { tail, told, places: (&mut self.tail, &mut self.told) };
        let mut count = 0;
        while forward.tail != head {
            let at = forward.tail as usize & mask;
            // SAFETY: `records` is where the `size` bytes of records begin, in the mapping that `self.memory` owns; its
            // size and `data` are those that `new` has compared with the size of that. `tail` is a multiple of 8, as is
            // all that it is advanced by, so that 8 bytes are there, aligned as an atomic word must be.
            let header = unsafe { records.add(at) };
            // SAFETY: as above. The place of the next record hangs on it, so it is read alone.
            let size = unsafe { AtomicU16::from_ptr(header.as_ptr().add(6).cast()) }.load(Ordering::Relaxed);
            let taken = u64::from(size);
            let len = taken as usize; // it has 16 bits
            if len < HEADER || len & (HEADER - 1) != 0 {
                break;
            }
            if taken > head.wrapping_sub(forward.tail) || len > size_of_ring - at {
                break;
            }
            // SAFETY: as above.
            let word = unsafe { AtomicU64::from_ptr(header.as_ptr().cast()) }.load(Ordering::Relaxed);
            let (record_type, misc, _) = split(word);
            // SAFETY: as above, for `len` bytes that do not go over the end. They lie between what the kernel knows of
            // `tail`, and `head`, where it does not write; it learns more only after `each` has returned. No other
            // mapping of the ring is in this process.
            let bytes = unsafe { std::slice::from_raw_parts(header.as_ptr(), len) };
            if !each(PerfRingRecord { record_type, misc, bytes }) {
                break;
            }
            count += 1;
            forward.tail = forward.tail.wrapping_add(taken);
            if forward.tail.wrapping_sub(forward.told) >= much {
                told_at.store(forward.tail, Ordering::Release);
                forward.told = forward.tail;
            }
        }
        count
    }

    /// Ends a turn: what was read may be written over. What was not is given by the next turn, unless it is written
    /// backward.
    ///
    /// # Errors
    /// [`PerfRingError::Pause`].
    pub fn finish(&mut self) -> Result<(), PerfRingError> {
        self.current = None;
        if self.stopped {
            self.event.control(PerfControl::PauseOutput(false)).map_err(PerfRingError::Pause)?;
            self.stopped = false;
        }
        if !self.is_overwritable() && self.told != self.tail { self.tell() } else { Ok(()) }
    }

    /// Skips what is left of this turn.
    fn skip(&mut self) -> Result<(), PerfRingError> {
        self.current = None;
        self.newest_first.clear();
        // Records begin at multiples of 8, also behind a position that is none.
        self.head &= !(HEADER as u64 - 1);
        self.tail = self.head;
        if self.is_overwritable() { Ok(()) } else { self.tell() }
    }

    /// Tells the kernel how far was read.
    fn tell(&mut self) -> Result<(), PerfRingError> {
        self.memory.atomic_u64(TAIL)?.store(self.tail, Ordering::Release);
        self.told = self.tail;
        Ok(())
    }

    /// Position and size of the record that is next.
    fn locate(&mut self) -> Result<Option<(u64, u16)>, PerfRingError> {
        if self.is_overwritable() {
            return Ok(self.newest_first.last().copied());
        }
        if self.current.is_none() && self.tail != self.head {
            let left = self.head.wrapping_sub(self.tail);
            let (_, _, size) = self.header(self.tail)?;
            if !is_size(size) || u64::from(size) > left {
                self.skip()?;
                return Err(PerfRingError::Record { size, left });
            }
            self.current = Some((self.tail, size));
        }
        Ok(self.current)
    }

    /// Type, `misc` and size of the record at a position, which is a multiple of 8.
    fn header(&self, at: u64) -> Result<(PerfRecordType, u16, u16), PerfRingError> {
        Ok(split(self.memory.load_u64(self.offset(at))?))
    }

    /// Where a position lies in the memory.
    #[inline]
    fn offset(&self, at: u64) -> usize {
        // Below the size, which is that of memory.
        self.data + (at & (self.size - 1)) as usize
    }

    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], PerfRingError> {
        let offset = self.offset(at);
        let before_end = self.memory.len() - offset;
        if self.lends && len <= before_end {
            // SAFETY: `len` bytes at `offset` of the mapping that `self.memory` owns. The kernel does not write between
            // `tail` and `head` of a ring that is mapped to be written, and the bytes are there: `locate` compared
            // `len` with `head`. `tail` moves only in `advance`, `skip` and `begin`, for which the slice has to be gone
            // since they take `self` exclusively. No other mapping of the ring is in this process.
            return Ok(unsafe { self.memory.lend(offset, len) });
        }
        gather(&self.memory, self.data, offset, len, &mut self.copy)
    }
}

/// Copies `len` bytes at `offset` of a ring whose records begin at `data`, over its end.
fn gather<'c>(
    memory: &SharedMemory,
    data: usize,
    offset: usize,
    len: usize,
    copy: &'c mut Vec<u8>,
) -> Result<&'c [u8], PerfRingError> {
    copy.resize(len, 0);
    let (first, rest) = copy.split_at_mut(len.min(memory.len() - offset));
    memory.read(offset, first)?;
    memory.read(data, rest)?;
    Ok(copy)
}

/// Type, `misc` and size in the word of a header.
#[inline]
fn split(word: u64) -> (PerfRecordType, u16, u16) {
    let [a, b, c, d, misc @ .., e, f] = word.to_ne_bytes();
    (PerfRecordType(u32::from_ne_bytes([a, b, c, d])), u16::from_ne_bytes(misc), u16::from_ne_bytes([e, f]))
}

/// Whether a record can have that size.
#[inline]
fn is_size(size: u16) -> bool {
    usize::from(size) >= HEADER && size.is_multiple_of(HEADER as u16)
}

impl AsFd for PerfRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for PerfRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerfRing")
            .field("event", &self.event)
            .field("size", &self.size)
            .field("read_to", &self.tail)
            .finish_non_exhaustive()
    }
}

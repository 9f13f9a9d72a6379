//! Ring buffers and user ring buffers (`BPF_MAP_TYPE_RINGBUF`, `BPF_MAP_TYPE_USER_RINGBUF`).

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Weak};

use skep_sys::SharedMemory;
use skep_sys::abi::{Errno, RingFlags};
use skep_sys::request::MapMemory;
use skep_sys::ring::{RING_HEADER_LEN, RingMemory};

use super::create::PAGE_SIZE;
use super::elements::{Elements, Resolve, Words};
use crate::words::{read_shared, write_shared};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
pub(super) const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;
/// Where the data starts in the memory, in bytes.
const DATA: usize = 2 * PAGE_SIZE as usize;
/// Longest record that the kernel makes room for (`RINGBUF_MAX_RECORD_SZ`).
const RECORD_MAX: u32 = u32::MAX / 4;
/// Pages of the kernel's own structure before the data: a header counts the pages from its start to its record.
const PAGES_BEFORE: usize = 3;
/// Samples that are drained in one call (`BPF_MAX_USER_RINGBUF_SAMPLES`).
const SAMPLES_MAX: usize = 128 * 1024;

/// Whether who waits for a map is to be woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wake(pub(crate) bool);

/// What a process sent.
#[derive(Debug)]
pub(crate) enum Sample {
    None,
    /// One to be skipped, and where it ends.
    Discarded {
        end: u64,
    },
    Data(SampleData),
}

/// Where the bytes of a sample are.
#[derive(Debug)]
pub(crate) struct SampleData {
    pub(crate) words: Arc<[AtomicU64]>,
    /// In bytes.
    pub(crate) start: usize,
    pub(crate) len: u32,
    /// The position behind it.
    pub(crate) end: u64,
}

/// A ring and its memory, of which the kernel writes one part and the process the other.
///
/// A record that wraps around goes on behind the end of the data, where the memory is as large again. On Linux that is
/// the beginning once more. Here it is not, and need not be: both sides find a record's bytes from its start on.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    /// Whether the process writes it.
    user: bool,
    overwrites: bool,
    size: usize,
    /// The page with the consumer's position, that with the producer's, and twice the data.
    memory: Arc<[AtomicU64]>,
    /// Where the oldest record starts that is not finished.
    pending: u64,
    /// Whether a program reads what the process sent.
    drained: bool,
    /// Held by the process's end.
    holder: Weak<()>,
}

impl Ring {
    /// `ENOMEM` when it is too large to be kept in one piece.
    pub(super) fn new(user: bool, size: u32, overwrites: bool) -> Result<Ring, Errno> {
        const SIZE_MAX: u32 = 1 << 28;

        if size > SIZE_MAX {
            return Err(Errno::ENOMEM);
        }
        Ok(Ring {
            user,
            overwrites,
            size: size as usize,
            memory: SharedMemory::zeroed_words(2 * PAGE_WORDS + size as usize / 4), // twice, in words of 8 bytes
            pending: 0,
            drained: false,
            holder: Weak::new(),
        })
    }

    /// Gives the process its end, unless it has it.
    pub(super) fn share(&mut self) -> Result<RingMemory, Errno> {
        let claim = self.claim()?;
        let memory = RingMemory::heap(self.memory.clone(), PAGE_SIZE as usize, self.user)?;
        let memory = memory.with_claim(Box::new(claim));
        Ok(if self.overwrites { memory.overwriting() } else { memory })
    }

    /// What the process holds together with its end: `EBUSY` while it does.
    fn claim(&mut self) -> Result<Arc<()>, Errno> {
        if self.holder.strong_count() > 0 {
            return Err(Errno::EBUSY);
        }
        let claim = Arc::new(());
        self.holder = Arc::downgrade(&claim);
        Ok(claim)
    }

    /// From the page with the consumer's position on.
    fn consumer(&self) -> &[AtomicU64] {
        &self.memory
    }

    /// From the page with the producer's position on.
    fn producer(&self) -> &[AtomicU64] {
        self.memory.get(PAGE_WORDS..).unwrap_or_default() // there are two
    }

    /// Whether the process has its end.
    pub(super) fn is_held(&self) -> bool {
        self.holder.strong_count() > 0
    }

    /// For a copy of a ring of which the process does not have its end.
    pub(super) fn forget_holder(&mut self) {
        self.holder = Weak::new();
    }

    /// Whether a ring whose end the process has can go back to where its positions were these. A reader knows where it
    /// is, so positions only grow and what it has read stays read: there must have been nothing unread then.
    pub(super) fn can_unread(&self, consumed: u64, produced: u64) -> Result<(), &'static str> {
        if consumed == produced || self.is_at(consumed, produced) {
            return Ok(());
        }
        Err("it held unread records then, and a reader holds it now; drop the reader first")
    }

    pub(super) fn is_at(&self, consumed: u64, produced: u64) -> bool {
        [self.consumed(), self.produced()] == [Ok(consumed), Ok(produced)]
    }

    /// Makes a ring whose end the process has as good as empty: what is unread is discarded where it lies.
    pub(super) fn discard_unread(&mut self) {
        let (Ok(consumed), Ok(produced)) = (self.consumed(), self.produced()) else { return };
        if self.user {
            if let Ok(position) = Ring::position(self.consumer(), 0) {
                position.store(produced, Ordering::Release);
            }
            return;
        }
        let overwritten = self.overwritten().map_or(0, |position| position.load(Ordering::Acquire));
        let mut at = consumed.max(overwritten);
        while at < produced {
            let Ok(header) = self.header(at) else { return };
            let len = header & !(BUSY | DISCARD);
            if self.set_header(at, len | DISCARD).is_err() {
                return;
            }
            at = at.saturating_add(footprint(len));
        }
        self.pending = produced;
    }

    fn position(words: &[AtomicU64], at: usize) -> Result<&AtomicU64, Errno> {
        words.get(at).ok_or(Errno::EFAULT)
    }

    fn consumed(&self) -> Result<u64, Errno> {
        Ok(Ring::position(self.consumer(), 0)?.load(Ordering::Acquire))
    }

    fn produced(&self) -> Result<u64, Errno> {
        Ok(Ring::position(self.producer(), 0)?.load(Ordering::Acquire))
    }

    /// Where the oldest record starts that is not overwritten; the kernel keeps it in the third word.
    fn overwritten(&self) -> Result<&AtomicU64, Errno> {
        Ring::position(self.producer(), 2)
    }

    fn offset(&self, position: u64) -> usize {
        position as usize & (self.size - 1) // the size is a power of two
    }

    /// The words of the data from a position on.
    fn words(&self, position: u64) -> Result<&[AtomicU64], Errno> {
        self.producer().get(PAGE_WORDS + self.offset(position) / 8..).ok_or(Errno::EFAULT)
    }

    fn header(&self, position: u64) -> Result<u32, Errno> {
        let word = self.words(position)?.first().ok_or(Errno::EFAULT)?;
        let [a, b, c, d, ..] = word.load(Ordering::Acquire).to_ne_bytes();
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    fn set_header(&self, position: u64, len: u32) -> Result<(), Errno> {
        let page = (self.offset(position) / PAGE_SIZE as usize + PAGES_BEFORE) as u32; // a ring has fewer pages
        let mut bytes = [0; 8];
        let (first, second) = bytes.split_at_mut(4);
        first.copy_from_slice(&len.to_ne_bytes());
        second.copy_from_slice(&page.to_ne_bytes());
        let word = self.words(position)?.first().ok_or(Errno::EFAULT)?;
        word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        Ok(())
    }

    /// Makes room for a record (`bpf_ringbuf_reserve`), busy until it is finished. `ENOSPC` when there is none.
    pub(crate) fn reserve(&mut self, len: u32) -> Result<u64, Errno> {
        if self.user {
            return Err(Errno::EINVAL);
        }
        let taken = footprint(len);
        if len > RECORD_MAX || taken > self.size as u64 {
            return Err(Errno::ENOSPC);
        }
        let mask = self.size as u64 - 1;
        let consumed = self.consumed()?;
        let position = self.produced()?;
        while self.pending < position {
            let header = self.header(self.pending)?;
            if header & BUSY != 0 {
                break;
            }
            self.pending += footprint(header & !DISCARD);
        }
        let end = position.wrapping_add(taken);
        let no_room = !self.overwrites && end.wrapping_sub(consumed) > mask;
        if end.wrapping_sub(self.pending) > mask || no_room {
            return Err(Errno::ENOSPC);
        }
        if self.overwrites {
            let mut oldest = self.overwritten()?.load(Ordering::Relaxed);
            while end.wrapping_sub(oldest) > mask {
                oldest = oldest.wrapping_add(footprint(self.header(oldest)? & !(BUSY | DISCARD)));
            }
            self.overwritten()?.store(oldest, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
        self.set_header(position, len | BUSY)?;
        Ring::position(self.producer(), 0)?.store(end, Ordering::Release);
        Ok(position)
    }

    /// Writes bytes of a record that is not finished.
    pub(crate) fn write(&self, position: u64, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        let words = self.words(position)?;
        let at = RING_HEADER_LEN + offset;
        if at.saturating_add(bytes.len()).div_ceil(8) > words.len() {
            return Err(Errno::EFAULT);
        }
        write_shared(words, at, bytes);
        Ok(())
    }

    /// Finishes a record (`bpf_ringbuf_submit`, `bpf_ringbuf_discard`).
    pub(crate) fn finish(&mut self, position: u64, discard: bool, flags: RingFlags) -> Result<Wake, Errno> {
        let len = self.header(position)? & !BUSY;
        self.set_header(position, if discard { len | DISCARD } else { len })?;
        // The reader writes its position and then looks at the record; here it is the other way round.
        fence(Ordering::SeqCst);
        let waits = self.offset(self.consumed()?) == self.offset(position);
        let wakes = flags.contains(RingFlags::FORCE_WAKEUP) || waits && !flags.contains(RingFlags::NO_WAKEUP);
        Ok(Wake(wakes))
    }

    /// The words that hold a record's bytes, and where these start, in bytes.
    pub(crate) fn place(&self, position: u64, len: u32) -> Result<(Arc<[AtomicU64]>, usize), Errno> {
        let start = DATA + self.offset(position) + RING_HEADER_LEN;
        let end = start.checked_add(len as usize).ok_or(Errno::EFAULT)?;
        let inside = end <= size_of_val(&*self.memory);
        if inside { Ok((self.memory.clone(), start)) } else { Err(Errno::EFAULT) }
    }

    /// As [`finish`](Ring::finish), of the record whose bytes [start](Ring::place) there.
    pub(crate) fn finish_at(&mut self, start: usize, discard: bool, flags: RingFlags) -> Result<Wake, Errno> {
        let position = start.checked_sub(DATA + RING_HEADER_LEN).ok_or(Errno::EFAULT)?;
        self.finish(position as u64, discard, flags)
    }

    /// Bytes between consumer and producer.
    pub(crate) fn available(&self) -> Result<u64, Errno> {
        let (consumed, produced) = (self.consumed()?, self.produced()?);
        let oldest = self.overwritten()?.load(Ordering::Acquire).max(consumed);
        Ok(produced.wrapping_sub(if self.overwrites { oldest } else { consumed }))
    }

    /// Whether Linux says that the process has something to do here, and so that its descriptors are ready: something to
    /// read, finished or not, or room to write.
    pub(crate) fn is_ready(&self) -> Result<bool, Errno> {
        if self.user {
            return Ok(self.produced()?.wrapping_sub(self.consumed()?) < self.size as u64);
        }
        Ok(self.available()? > 0)
    }

    /// Size and positions: of the ring, the consumer, the producer, and what was overwritten.
    pub(crate) fn state(&self) -> Result<[u64; 4], Errno> {
        let overwritten = self.overwritten()?.load(Ordering::Acquire);
        Ok([self.size as u64, self.consumed()?, self.produced()?, overwritten])
    }

    /// Marks that a program drains it. `EBUSY` when one does already.
    pub(crate) fn begin_drain(&mut self) -> Result<(), Errno> {
        match std::mem::replace(&mut self.drained, true) {
            true => Err(Errno::EBUSY),
            false => Ok(()),
        }
    }

    pub(crate) fn end_drain(&mut self) -> Result<(), Errno> {
        self.drained = false;
        Ok(())
    }

    /// The oldest sample that the process wrote.
    pub(crate) fn next_sample(&self) -> Result<Sample, Errno> {
        if !self.user {
            return Err(Errno::EINVAL);
        }
        let (consumed, produced) = (self.consumed()?, self.produced()?);
        if !produced.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        if consumed >= produced {
            return Ok(Sample::None);
        }
        let header = self.header(consumed)?;
        let len = header & !(BUSY | DISCARD);
        let taken = footprint(len);
        if taken > produced - consumed {
            return Err(Errno::EINVAL);
        }
        if taken > self.size as u64 {
            return Err(Errno::E2BIG);
        }
        let end = consumed.wrapping_add(taken);
        if header & DISCARD != 0 {
            return Ok(Sample::Discarded { end });
        }
        if header & BUSY != 0 {
            return Ok(Sample::None);
        }
        let (words, start) = self.place(consumed, len)?;
        Ok(Sample::Data(SampleData { words, start, len, end }))
    }

    /// Tells the process that everything up to a position was read.
    pub(crate) fn consumed_to(&mut self, end: u64) -> Result<(), Errno> {
        Ring::position(self.consumer(), 0)?.store(end, Ordering::Release);
        Ok(())
    }

    /// Takes samples that the process wrote (`bpf_user_ringbuf_drain`), until `take` says to stop. Answers how many.
    pub(crate) fn drain(&mut self, take: &mut dyn FnMut(&[u8]) -> bool) -> Result<usize, Errno> {
        let mut samples = 0;
        for _ in 0..SAMPLES_MAX {
            let mut go_on = true;
            let end = match self.next_sample()? {
                Sample::None => break,
                Sample::Discarded { end } => end,
                Sample::Data(sample) => {
                    let mut bytes = vec![0; sample.len as usize];
                    read_shared(&sample.words, sample.start, &mut bytes);
                    go_on = take(&bytes);
                    samples += 1;
                    sample.end
                }
            };
            self.consumed_to(end)?;
            if !go_on {
                break;
            }
        }
        Ok(samples)
    }
}

/// What a record takes: header and data, up to a multiple of 8.
fn footprint(len: u32) -> u64 {
    (u64::from(len) + RING_HEADER_LEN as u64).next_multiple_of(8)
}

impl Elements for Ring {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn update(&mut self, _: &[u8], _: &[u8], _: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn mmap(&mut self, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let MapMemory { offset, len, writable, .. } = memory;
        let page = PAGE_SIZE as usize;
        let size = size_of_val(&*self.memory);
        let len = len.checked_next_multiple_of(page).ok_or(Errno::EINVAL)?;
        let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // The end that was given out has to stay as it is, as on Linux.
        let first_page = start == 0 && len <= page;
        let claim = if writable || self.user && !first_page { Some(self.claim()?) } else { None };
        let own = if self.user { start > 0 } else { first_page };
        if writable && !own {
            return Err(Errno::EPERM);
        }
        if len == 0 || start.checked_add(len).is_none_or(|end| end > size) {
            return Err(Errno::EINVAL);
        }
        let memory =
            SharedMemory::heap_part(self.memory.clone(), start, len, writable).ok_or(Errno::EINVAL)?;
        Ok(match claim {
            Some(claim) => memory.with_claim(Box::new(claim)),
            None => memory,
        })
    }

    fn ring(&mut self) -> Option<&mut Ring> {
        Some(self)
    }

    fn pieces(&self) -> usize {
        size_of_val(&*self.memory)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        vec![self.memory.clone()]
    }
}

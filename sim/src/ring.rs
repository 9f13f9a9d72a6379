//! What programs do with ring buffers, for tests that play the program.

use std::os::fd::AsFd;
use std::sync::Arc;

use skep_sys::abi::{Errno, RingFlags};

use crate::kernel::SimKernel;
use crate::map::{Map, Wake};

/// What `bpf_ringbuf_query` can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum RingQuery {
    /// `BPF_RB_AVAIL_DATA`: bytes that were produced and not consumed.
    Available,
    /// `BPF_RB_RING_SIZE`.
    Size,
    /// `BPF_RB_CONS_POS`.
    ConsumerPosition,
    /// `BPF_RB_PROD_POS`.
    ProducerPosition,
    /// `BPF_RB_OVERWRITE_POS` (Linux 6.19).
    OverwritePosition,
}

/// A record that a program reserved and has not finished. It stays so when it is dropped, as when a program could forget it.
#[derive(Debug)]
#[must_use = "a record that is not finished holds up those after it"]
pub struct RingRecord {
    kernel: SimKernel,
    map: Arc<Map>,
    position: u64,
    len: u32,
}

impl SimKernel {
    /// Writes a record into a ring buffer (`bpf_ringbuf_output`).
    ///
    /// # Errors
    /// What the helper answers: [`Errno::EAGAIN`] when the ring is full or the record too long, [`Errno::EINVAL`] for
    /// flags that it does not know; and [`Errno::EINVAL`] when the map is no ring buffer.
    pub fn ring_output(&self, map: impl AsFd, record: &[u8], flags: RingFlags) -> Result<(), Errno> {
        check_flags(flags)?;
        let len = u32::try_from(record.len()).map_err(|_| Errno::EAGAIN)?;
        let reserved = match self.ring_reserve(map, len) {
            Err(Errno::ENOSPC) => return Err(Errno::EAGAIN),
            answer => answer?,
        };
        reserved.write(0, record)?;
        reserved.submit(flags)
    }

    /// Reserves a record of `len` bytes in a ring buffer (`bpf_ringbuf_reserve`).
    ///
    /// # Errors
    /// [`Errno::ENOSPC`] where the helper answers null: the ring is full or the record too long; [`Errno::EINVAL`] when
    /// the map is no ring buffer.
    pub fn ring_reserve(&self, map: impl AsFd, len: u32) -> Result<RingRecord, Errno> {
        let (map, _) = self.0.map(map.as_fd())?;
        let position = map.ring(|ring| ring.reserve(len))?;
        Ok(RingRecord { kernel: self.clone(), map, position, len })
    }

    /// Asks a ring buffer or user ring buffer (`bpf_ringbuf_query`).
    ///
    /// # Errors
    /// [`Errno::EINVAL`] when the map is neither.
    pub fn ring_query(&self, map: impl AsFd, what: RingQuery) -> Result<u64, Errno> {
        let (map, _) = self.0.map(map.as_fd())?;
        map.ring(|ring| {
            let [size, consumer, producer, overwrite] = ring.state()?;
            Ok(match what {
                RingQuery::Available => ring.available()?,
                RingQuery::Size => size,
                RingQuery::ConsumerPosition => consumer,
                RingQuery::ProducerPosition => producer,
                RingQuery::OverwritePosition => overwrite,
            })
        })
    }

    /// Takes the samples that the process wrote into a user ring buffer (`bpf_user_ringbuf_drain`), and wakes who waits for
    /// room. Answers how many. `take` must not use the map.
    ///
    /// # Errors
    /// What the helper answers; [`Errno::EINVAL`] when the map is no user ring buffer.
    pub fn user_ring_drain(
        &self,
        map: impl AsFd,
        flags: RingFlags,
        mut take: impl FnMut(&[u8]),
    ) -> Result<usize, Errno> {
        self.user_ring_drain_some(map, flags, |sample| {
            take(sample);
            true
        })
    }

    /// As [`user_ring_drain`](Self::user_ring_drain), until `take` says that it is enough.
    ///
    /// # Errors
    /// As [`user_ring_drain`](Self::user_ring_drain).
    pub fn user_ring_drain_some(
        &self,
        map: impl AsFd,
        flags: RingFlags,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<usize, Errno> {
        check_flags(flags)?;
        let (map, _) = self.0.map(map.as_fd())?;
        let mut samples = 0;
        let outcome = map.ring(|ring| {
            ring.drain(&mut |sample| {
                samples += 1;
                take(sample)
            })
        });
        let wakes =
            flags.contains(RingFlags::FORCE_WAKEUP) || samples > 0 && !flags.contains(RingFlags::NO_WAKEUP);
        self.wake(&map, Wake(wakes));
        outcome
    }

    pub(crate) fn wake(&self, map: &Arc<Map>, wake: Wake) {
        if wake.0 {
            self.0.state().descriptors.wake(map);
        }
    }
}

impl RingRecord {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes some of its bytes. It begins with what lay there before, as on Linux.
    ///
    /// # Errors
    /// [`Errno::EFAULT`]: the bytes are not inside of the record.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.len()) {
            return Err(Errno::EFAULT);
        }
        self.map.ring(|ring| ring.write(self.position, offset, bytes))
    }

    /// Gives it to the reader (`bpf_ringbuf_submit`).
    ///
    /// # Errors
    /// [`Errno::EINVAL`]: flags that the helper does not know; the record stays unfinished.
    pub fn submit(self, flags: RingFlags) -> Result<(), Errno> {
        self.finish(false, flags)
    }

    /// Lets the reader skip it (`bpf_ringbuf_discard`).
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn discard(self, flags: RingFlags) -> Result<(), Errno> {
        self.finish(true, flags)
    }

    fn finish(self, discard: bool, flags: RingFlags) -> Result<(), Errno> {
        check_flags(flags)?;
        let wake = self.map.ring(|ring| ring.finish(self.position, discard, flags))?;
        self.kernel.wake(&self.map, wake);
        Ok(())
    }
}

fn check_flags(flags: RingFlags) -> Result<(), Errno> {
    if (RingFlags::NO_WAKEUP | RingFlags::FORCE_WAKEUP).contains(flags) { Ok(()) } else { Err(Errno::EINVAL) }
}

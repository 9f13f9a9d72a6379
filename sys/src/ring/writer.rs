//! The producer's end.
//!
//! Unsafe code is allowed here because samples are written where they lie in memory that a kernel reads.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BUSY, DISCARD, RING_HEADER_LEN, Readiness, RingFault, RingMemory, RingPositions, footprint};

/// Writes a ring that a kernel's programs read (`BPF_MAP_TYPE_USER_RINGBUF`, Linux 6.1).
///
/// Several threads may write: each has its own sample, and programs get them in the order in which they were reserved.
pub struct RingWriter {
    memory: RingMemory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where the next sample starts.
    position: u64,
    /// Where samples start that are being written, oldest first.
    open: Vec<u64>,
}

impl RingWriter {
    /// Writes from where the producer's position is. Nothing for memory of a ring that the process consumes.
    pub fn new(memory: RingMemory) -> Option<RingWriter> {
        if !memory.produces() {
            return None;
        }
        let position = memory.producer().load(Ordering::Acquire);
        Some(RingWriter { memory, state: Mutex::new(State { position, open: Vec::new() }) })
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> usize {
        self.memory.size()
    }

    /// The readiness of the map's descriptor to wait for.
    pub fn readiness(&self) -> Readiness {
        self.memory.readiness()
    }

    /// Where consumer and producer are now.
    pub fn positions(&self) -> RingPositions {
        self.memory.positions()
    }

    /// Takes room for a sample of `len` bytes, which are zero or what an older sample left. `map` is the ring's map.
    ///
    /// When there is no room, whatever programs read from now on makes the map's descriptor ready.
    ///
    /// # Errors
    /// [`RingFault::Full`], [`RingFault::TooLarge`]; others when the other end does not keep to the protocol.
    pub fn reserve(&self, map: BorrowedFd<'_>, len: u32) -> Result<RingSample<'_>, RingFault> {
        let wanted = footprint(len);
        let size = self.memory.size();
        if len & (BUSY | DISCARD) != 0 || wanted > size as u64 {
            return Err(RingFault::TooLarge { wanted, size });
        }
        let mut state = self.state();
        let found = self.memory.producer().load(Ordering::Relaxed);
        if found != state.position {
            return Err(RingFault::Moved { expected: state.position, found });
        }
        let mut free = self.free(&state)?;
        if free < wanted {
            // As for the reader: the kernel moves its position, then wakes; we look once more before we wait.
            fence(Ordering::SeqCst);
            self.memory.went_idle(map);
            free = self.free(&state)?;
        }
        if free < wanted {
            return Err(RingFault::Full { wanted, available: free });
        }
        let position = state.position;
        let offset = self.memory.offset(position);
        let header = self.memory.data().half(offset);
        header.store(len | BUSY, Ordering::Relaxed);
        self.memory.data().half(offset + 4).store(0, Ordering::Relaxed);
        state.open.push(position);
        state.position = position.wrapping_add(wanted);
        self.memory.producer().store(state.position, Ordering::Release);
        drop(state);

        let start = offset + RING_HEADER_LEN;
        let len = len as usize;
        let bytes = if self.memory.is_direct() {
            // Inside of the data, mapped twice, and writable: the process produces.
            self.memory.data().start_of(start, len).ok()
        } else {
            None
        };
        let copied = if bytes.is_some() { Vec::new() } else { vec![0; len.div_ceil(8)] };
        Ok(RingSample { writer: self, position, len, bytes, copied })
    }

    /// Bytes that are free for the next sample.
    fn free(&self, state: &State) -> Result<u64, RingFault> {
        let consumer = self.memory.consumer().load(Ordering::Acquire);
        self.memory.check(consumer, state.position)?;
        // A sample that is being written is never free, whatever the other end says.
        let oldest = match state.open.first() {
            Some(&oldest) if oldest.wrapping_sub(consumer).cast_signed() < 0 => oldest,
            _ => consumer,
        };
        Ok(self.memory.size() as u64 - state.position.wrapping_sub(oldest).min(self.memory.size() as u64))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, position: u64, len: u32) {
        // Before the kernel can take it, it has to be off the list.
        self.state().open.retain(|&open| open != position);
        self.memory.data().half(self.memory.offset(position)).swap(len, Ordering::AcqRel);
    }
}

impl fmt::Debug for RingWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingWriter").field("memory", &self.memory).field("state", &self.state).finish()
    }
}

/// Room in a ring, to be written and then committed; dropping it discards it.
///
/// It starts at a multiple of 8 bytes. Until it is committed or discarded, programs get no sample that was reserved after
/// it.
#[must_use = "a sample that is not committed is discarded"]
pub struct RingSample<'a> {
    writer: &'a RingWriter,
    position: u64,
    len: usize,
    /// Where the bytes lie in the ring, where they can be written there.
    bytes: Option<NonNull<u8>>,
    /// Else they are written here, and copied.
    copied: Vec<u64>,
}

// SAFETY: what `bytes` points to is used by this sample alone, and `writer` may be used from any thread.
unsafe impl Send for RingSample<'_> {}
// SAFETY: a shared sample gives out shared slices only.
unsafe impl Sync for RingSample<'_> {}

impl RingSample<'_> {
    /// Gives the sample to programs.
    pub fn commit(self) {
        let mut sample = ManuallyDrop::new(self);
        sample.copy_back();
        sample.finish(0);
    }

    /// Gives the room back. Programs skip it.
    pub fn discard(self) {
        drop(self);
    }

    /// Copies what was written beside the ring into it.
    fn copy_back(&self) {
        let memory = &self.writer.memory;
        let start = memory.offset(self.position) + RING_HEADER_LEN;
        for (at, &word) in self.copied.iter().enumerate() {
            // A sample takes whole words, all of them inside of the data.
            memory.data().word(start + 8 * at).store(word, Ordering::Relaxed);
        }
    }

    fn finish(&mut self, flag: u32) {
        self.copied = Vec::new();
        self.writer.finish(self.position, self.len as u32 | flag); // the length was given as 32 bits
    }
}

impl Drop for RingSample<'_> {
    fn drop(&mut self) {
        self.finish(DISCARD);
    }
}

impl Deref for RingSample<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.bytes {
            // SAFETY: `len` bytes of the mapping that `writer` keeps. They are this sample's until `finish`: the header
            // says busy, so programs do not read them, and `reserve` gives no one else room that is open. No one in this
            // process has another view of them, since the memory has one holder and is not mapped otherwise.
            Some(bytes) => unsafe { std::slice::from_raw_parts(bytes.as_ptr(), self.len) },
            // SAFETY: `len` bytes of the words that `copied` owns, which are all initialised.
            None => unsafe { std::slice::from_raw_parts(self.copied.as_ptr().cast(), self.len) },
        }
    }
}

impl DerefMut for RingSample<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.bytes {
            // SAFETY: as for `deref`, and `self` is borrowed exclusively.
            Some(bytes) => unsafe { std::slice::from_raw_parts_mut(bytes.as_ptr(), self.len) },
            // SAFETY: as for `deref`, and `self` is borrowed exclusively.
            None => unsafe { std::slice::from_raw_parts_mut(self.copied.as_mut_ptr().cast(), self.len) },
        }
    }
}

impl fmt::Debug for RingSample<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingSample").field("position", &self.position).field("len", &self.len).finish()
    }
}

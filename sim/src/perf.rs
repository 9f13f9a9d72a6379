//! Perf events: counters, and the rings that programs write to.
//!
//! A ring has the layout and the rules of Linux' (`kernel/events/ring_buffer.c`): when there is space, when records
//! are counted as lost and told, when a reader is woken, in which direction it is written.

use std::io::{PipeWriter, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use skep_sys::PerfRingMemory;
use skep_sys::abi::{
    Errno, PerfEventFlags, PerfEventKind, PerfEventType, PerfReadFormat, PerfRecordType, PerfSampleType,
};
use skep_sys::request::{PerfControl, PerfEventOpen, PerfMemory, PerfTarget, PerfWakeup};

/// Size of a page: the one about a ring, and those of records.
const PAGE: usize = 4096;
/// Pages of records beyond which there is no memory.
const PAGES_MAX: u32 = 1 << 16;
/// Words of `perf_event_mmap_page`, in words.
const HEAD: usize = 1024 / 8;
const TAIL: usize = 1032 / 8;
const DATA_OFFSET: usize = 1040 / 8;
const DATA_SIZE: usize = 1048 / 8;
/// Size of `struct perf_event_header`.
const HEADER: usize = 8;
/// `PERF_RECORD_MISC_KERNEL`.
const MISC_KERNEL: u16 = 1;
/// Software events that there are.
const SOFTWARE_EVENTS: u64 = 12;

/// A perf event.
#[derive(Debug)]
pub(crate) struct PerfEvent {
    id: u64,
    kind: PerfEventKind,
    /// The CPU that it is bound to.
    cpu: Option<u32>,
    sample_type: PerfSampleType,
    read_format: PerfReadFormat,
    flags: PerfEventFlags,
    wakeup: PerfWakeup,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whose readers are woken; gone once the last descriptor is closed.
    writer: Weak<PipeWriter>,
    /// Whether its CPU went offline: then it is never on it again.
    off: bool,
    /// Since when it counts, in nanoseconds of the kernel.
    since: Option<u64>,
    counted: u64,
    /// Time for which it was enabled before `since`.
    enabled: u64,
    lost: u64,
    ring: Option<Ring>,
}

/// What a snapshot keeps of a perf event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SavedPerf {
    off: bool,
    since: Option<u64>,
    counted: u64,
    enabled: u64,
    lost: u64,
}

#[derive(Debug)]
struct Ring {
    words: Arc<[AtomicU64]>,
    size: u64,
    /// Mapped by a reader that does not say what it read.
    overwrite: bool,
    paused: bool,
    head: u64,
    /// Records that were lost since one was told.
    lost: u64,
    /// Records since a reader was woken.
    events: u32,
    /// Bytes at which a reader was woken, and how often it was for records.
    woken: u64,
    watermark: u64,
}

impl PerfEvent {
    /// An event that was asked for on a kernel with that many CPUs, at that time.
    pub(crate) fn open(
        request: &PerfEventOpen<'_>,
        id: u64,
        cpus: u32,
        now: u64,
    ) -> Result<PerfEvent, Errno> {
        const SAMPLED: PerfSampleType =
            PerfSampleType::TIME.union(PerfSampleType::CPU).union(PerfSampleType::RAW);
        const READ: PerfReadFormat = PerfReadFormat::TOTAL_TIME_ENABLED
            .union(PerfReadFormat::TOTAL_TIME_RUNNING)
            .union(PerfReadFormat::ID)
            .union(PerfReadFormat::LOST);

        let PerfEventOpen { kind, sample_type, read_format, flags, wakeup, .. } = *request;
        if !SAMPLED.contains(sample_type)
            || !READ.contains(read_format)
            || flags.contains(PerfEventFlags::SAMPLE_ID_ALL)
        {
            return Err(Errno::EINVAL);
        }
        let cpu = match request.target {
            PerfTarget::Cpu(cpu) => Some(cpu),
            PerfTarget::Process { cpu, .. } => cpu,
            PerfTarget::Cgroup { .. } => return Err(Errno::EBADF),
            _ => return Err(Errno::EINVAL),
        };
        if cpu.is_some_and(|cpu| cpu >= cpus) {
            return Err(Errno::EINVAL);
        }
        match kind.event_type {
            PerfEventType::SOFTWARE if kind.config < SOFTWARE_EVENTS => {}
            PerfEventType::TRACEPOINT => return Err(Errno::EINVAL),
            // The machine has no counters of its own.
            _ => return Err(Errno::ENOENT),
        }
        let since = (!flags.contains(PerfEventFlags::DISABLED)).then_some(now);
        let state = Mutex::new(State { since, ..State::default() });
        Ok(PerfEvent { id, kind, cpu, sample_type, read_format, flags, wakeup, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a snapshot keeps: the counts. A ring that is mapped goes on.
    pub(crate) fn save(&self) -> SavedPerf {
        let State { off, since, counted, enabled, lost, .. } = *self.state();
        SavedPerf { off, since, counted, enabled, lost }
    }

    pub(crate) fn restore(&self, saved: &SavedPerf) {
        let mut state = self.state();
        let SavedPerf { off, since, counted, enabled, lost } = *saved;
        (state.off, state.since, state.counted, state.enabled, state.lost) =
            (off, since, counted, enabled, lost);
    }

    /// Whether it counts now.
    pub(crate) fn counts(&self) -> bool {
        let state = self.state();
        state.since.is_some() && !state.off
    }

    pub(crate) fn cpu(&self) -> Option<u32> {
        self.cpu
    }

    /// Whether maps take it: not when children count too, since they would do so elsewhere.
    pub(crate) fn is_local(&self) -> bool {
        !self.flags.contains(PerfEventFlags::INHERIT)
    }

    /// Wakes who holds the other end of this pipe from now on.
    pub(crate) fn set_writer(&self, writer: &Arc<PipeWriter>) {
        self.state().writer = Arc::downgrade(writer);
    }

    /// The CPU that it is bound to goes offline.
    pub(crate) fn go_off(&self, now: u64) {
        let mut state = self.state();
        self.stop(&mut state, now);
        state.off = true;
    }

    fn stop(&self, state: &mut State, now: u64) {
        let Some(since) = state.since.take() else { return };
        let time = now.saturating_sub(since);
        state.enabled += time;
        if self.is_clock() {
            state.counted += time;
        }
    }

    fn is_clock(&self) -> bool {
        matches!(self.kind, PerfEventKind::CPU_CLOCK | PerfEventKind::TASK_CLOCK)
    }

    pub(crate) fn control(&self, control: PerfControl, now: u64) -> Result<(), Errno> {
        let mut state = self.state();
        match control {
            PerfControl::Enable if state.off || state.since.is_some() => {}
            PerfControl::Enable => state.since = Some(now),
            PerfControl::Disable => self.stop(&mut state, now),
            PerfControl::Reset => {
                if state.since.is_some() {
                    self.stop(&mut state, now);
                    state.since = Some(now);
                }
                state.counted = 0;
            }
            PerfControl::PauseOutput(pause) => state.ring().ok_or(Errno::EINVAL)?.paused = pause,
            _ => return Err(Errno::ENOTSUPP),
        }
        Ok(())
    }

    /// Reads the counter as `struct read_format`.
    pub(crate) fn read(&self, to: &mut [u8], now: u64) -> Result<usize, Errno> {
        let state = self.state();
        let [counted, enabled] = self.counted(&state, now);
        let parts = [
            (true, counted),
            (self.read_format.contains(PerfReadFormat::TOTAL_TIME_ENABLED), enabled),
            (self.read_format.contains(PerfReadFormat::TOTAL_TIME_RUNNING), enabled),
            (self.read_format.contains(PerfReadFormat::ID), self.id),
            (self.read_format.contains(PerfReadFormat::LOST), state.lost),
        ];
        let words = parts.iter().filter(|(asked, _)| *asked).map(|(_, word)| word.to_ne_bytes());
        let bytes: Vec<u8> = words.flatten().collect();
        to.get_mut(..bytes.len()).ok_or(Errno::ENOSPC)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn counted(&self, state: &State, now: u64) -> [u64; 2] {
        let running = state.since.map_or(0, |since| now.saturating_sub(since));
        [state.counted + if self.is_clock() { running } else { 0 }, state.enabled + running]
    }

    /// What it counted and how long it was enabled and running, as a program on a CPU reads it: `EINVAL` for an event
    /// of another one.
    pub(crate) fn counters(&self, cpu: u32, now: u64) -> Result<[u64; 3], Errno> {
        if self.cpu.is_some_and(|own| own != cpu) {
            return Err(Errno::EINVAL);
        }
        let [counted, enabled] = self.counted(&self.state(), now);
        Ok([counted, enabled, enabled])
    }

    pub(crate) fn mmap(&self, memory: PerfMemory) -> Result<PerfRingMemory, Errno> {
        let PerfMemory { pages, writable, .. } = memory;
        if !pages.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        if pages > PAGES_MAX {
            return Err(Errno::ENOMEM);
        }
        let mut state = self.state();
        if state.ring().is_some() {
            return Err(Errno::EBUSY);
        }
        let size = pages as usize * PAGE;
        let words: Arc<[AtomicU64]> = (0..(PAGE + size) / 8).map(|_| AtomicU64::new(0)).collect();
        for (at, value) in [(DATA_OFFSET, PAGE), (DATA_SIZE, size)] {
            if let Some(word) = words.get(at) {
                word.store(value as u64, Ordering::Relaxed);
            }
        }
        let size = size as u64;
        let watermark = match self.wakeup {
            PerfWakeup::Watermark(bytes) if bytes > 0 => u64::from(bytes).min(size),
            _ => size / 2,
        };
        state.ring = Some(Ring {
            words: words.clone(),
            size,
            overwrite: !writable,
            paused: false,
            head: 0,
            lost: 0,
            events: 0,
            woken: 0,
            watermark,
        });
        Ok(PerfRingMemory::heap(words, PAGE as u32, writable))
    }

    /// Takes a sample of raw bytes, as `bpf_perf_event_output` does on a CPU.
    pub(crate) fn output(&self, cpu: u32, data: &[u8], now: u64) -> Result<(), Errno> {
        if self.kind != PerfEventKind::BPF_OUTPUT {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state();
        if self.cpu.is_some_and(|own| own != cpu) || state.since.is_none() || state.off {
            return Err(Errno::EOPNOTSUPP);
        }
        let record = self.sample(cpu, data, now)?;
        let (id, backward) = (self.id, self.flags.contains(PerfEventFlags::WRITE_BACKWARD));
        let ring = state.ring().ok_or(Errno::ENOSPC)?;
        let Some(wakes) = ring.write(&record, id, backward, self.wakeup) else {
            state.lost += 1;
            return Err(Errno::ENOSPC);
        };
        if wakes {
            state.wake();
        }
        Ok(())
    }

    /// The bytes of a sample, in the order that the sample type has.
    fn sample(&self, cpu: u32, data: &[u8], now: u64) -> Result<Vec<u8>, Errno> {
        let mut record = vec![0; HEADER];
        if self.sample_type.contains(PerfSampleType::TIME) {
            record.extend(now.to_ne_bytes());
        }
        if self.sample_type.contains(PerfSampleType::CPU) {
            record.extend(u64::from(cpu).to_ne_bytes());
        }
        if self.sample_type.contains(PerfSampleType::RAW) {
            // The length that is told includes what fills the record up.
            let len = (4 + data.len()).next_multiple_of(8) - 4;
            record.extend(u32::try_from(len).map_err(|_| Errno::E2BIG)?.to_ne_bytes());
            record.extend(data);
            record.resize(record.len().next_multiple_of(8), 0);
        }
        let size = u16::try_from(record.len()).map_err(|_| Errno::E2BIG)?;
        let header = header(PerfRecordType::SAMPLE, MISC_KERNEL, size);
        for (to, from) in record.iter_mut().zip(header) {
            *to = from;
        }
        Ok(record)
    }
}

/// `struct perf_event_header`.
fn header(record_type: PerfRecordType, misc: u16, size: u16) -> [u8; HEADER] {
    let [a, b, c, d] = record_type.0.to_ne_bytes();
    let ([e, f], [g, h]) = (misc.to_ne_bytes(), size.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

impl State {
    /// The ring, unless it is mapped no more.
    fn ring(&mut self) -> Option<&mut Ring> {
        self.ring.take_if(|ring| Arc::strong_count(&ring.words) == 1);
        self.ring.as_mut()
    }

    /// Makes the descriptors readable.
    fn wake(&self) {
        let Some(writer) = self.writer.upgrade() else { return };
        // Nobody is woken, and no signal sent, when they were closed. A pipe that is full is readable already.
        let mut polled = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        let writable = poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled.iter().all(|fd| fd.revents() == Some(PollFlags::POLLOUT));
        if writable {
            let _ = (&*writer).write(&[1]);
        }
    }
}

impl Ring {
    /// Writes a record behind one of what was lost, if something was. Answers whether readers are to be woken; none when
    /// there is no space.
    fn write(&mut self, record: &[u8], id: u64, backward: bool, wakeup: PerfWakeup) -> Option<bool> {
        const LOST: usize = HEADER + 8 + 8;

        let lost_len = if self.lost > 0 { LOST } else { 0 };
        let len = (record.len() + lost_len) as u64;
        if self.paused || !self.overwrite && self.space(backward) < len {
            self.lost += 1;
            return None;
        }
        let (start, written) = if backward {
            self.head = self.head.wrapping_sub(len);
            (self.head, self.head.wrapping_neg())
        } else {
            let start = self.head;
            self.head = self.head.wrapping_add(len);
            (start, self.head)
        };
        let woken = self.woken;
        if written.wrapping_sub(self.woken) > self.watermark {
            self.woken = self.woken.wrapping_add(self.watermark);
        }
        if self.lost > 0 {
            let words = [u64::from_ne_bytes(header(PerfRecordType::LOST, 0, LOST as u16)), id, self.lost];
            self.put(start, words);
            self.lost = 0;
        }
        let (words, _) = record.as_chunks::<8>();
        self.put(start.wrapping_add(lost_len as u64), words.iter().map(|word| u64::from_ne_bytes(*word)));
        if let PerfWakeup::Events(count) = wakeup
            && count > 0
        {
            self.events += 1;
            if self.events >= count {
                self.events -= count;
                self.woken = self.woken.wrapping_add(1);
            }
        }
        if let Some(head) = self.words.get(HEAD) {
            head.store(self.head, Ordering::Release);
        }
        Some(self.woken != woken)
    }

    /// Bytes that can be written over: one is always left, so that a full ring is told from an empty one.
    fn space(&self, backward: bool) -> u64 {
        let tail = self.words.get(TAIL).map_or(0, |tail| tail.load(Ordering::Acquire));
        let (from, to) = if backward { (tail, self.head) } else { (self.head, tail) };
        to.wrapping_sub(from.wrapping_add(1)) & (self.size - 1)
    }

    fn put(&self, at: u64, words: impl IntoIterator<Item = u64>) {
        for (i, value) in (0..).zip(words) {
            let offset = at.wrapping_add(i * 8) & (self.size - 1);
            if let Some(word) = self.words.get((PAGE + offset as usize) / 8) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use skep_sys::abi::{Errno, PerfRecordType};
use skep_sys::{Kernel, PerfRing, PerfRingRecord};

use super::error::PerfError;
use super::options::PerfBufferOptions;
use super::record::{PerfRecord, PerfSample, RawPerfRecord, time};

/// The ring of one CPU of a [`PerfBuffer`](super::PerfBuffer).
///
/// It can be sent to a thread of its own ([`PerfBuffer::cpus_mut`](super::PerfBuffer::cpus_mut)); its descriptor is
/// readable when its reader is to wake up.
#[derive(Debug)]
pub struct PerfCpu {
    cpu: u32,
    ring: PerfRing,
    timed: bool,
    lost: u64,
    /// Time of the last record that had one.
    time: u64,
    /// Whether it is to be closed once it was read.
    pub(super) retired: bool,
}

impl PerfCpu {
    pub(super) fn open(kernel: &Kernel, cpu: u32, options: &PerfBufferOptions) -> Result<PerfCpu, PerfError> {
        let event = kernel.perf_event_open(&options.event(cpu)).map_err(|e| PerfError::open(cpu, e))?;
        let ring = event.into_ring(options.pages).map_err(|e| PerfError::mmap(cpu, options.pages, e))?;
        let timed = options.clock().is_some();
        Ok(PerfCpu { cpu, ring, timed, lost: 0, time: 0, retired: false })
    }

    /// The CPU.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Records of this CPU that are known to be lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> u64 {
        self.ring.size()
    }

    /// Bytes that wait to be read.
    pub fn available(&self) -> u64 {
        self.ring.available()
    }

    /// Whether [`pause`](PerfCpu::pause) was asked for.
    pub fn is_paused(&self) -> bool {
        self.ring.is_paused()
    }

    /// Lets programs write no more to this ring (Linux 4.7). What they write meanwhile is lost, and counted as lost.
    ///
    /// # Errors
    /// [`PerfError::Control`].
    pub fn pause(&mut self) -> Result<(), PerfError> {
        self.ring.pause().map_err(|errno| self.control("pause", errno))
    }

    /// Lets programs write again.
    ///
    /// # Errors
    /// [`PerfError::Control`].
    pub fn resume(&mut self) -> Result<(), PerfError> {
        self.ring.resume().map_err(|errno| self.control("resume", errno))
    }

    fn control(&self, operation: &'static str, errno: Errno) -> PerfError {
        PerfError::Control { operation, cpu: self.cpu, errno }
    }

    /// Gives what is in the ring to `each`, without waiting. Answers how many records there were.
    ///
    /// # Errors
    /// [`PerfError::Ring`] and [`PerfError::Record`], after everything else was given.
    #[inline]
    pub fn consume(&mut self, mut each: impl FnMut(PerfRecord<'_>)) -> Result<usize, PerfError> {
        let (cpu, timed) = (self.cpu, self.timed);
        let mut first_error = self.begin().err();
        let mut count = 0;
        loop {
            count += self.ring.drain_while(|record| {
                let is_sample = record.record_type == PerfRecordType::SAMPLE;
                match PerfSample::parse(cpu, record, timed) {
                    Ok(sample) if is_sample => each(PerfRecord::Sample(sample)),
                    _ => return false,
                }
                true
            });
            if !self.consume_one(&mut each, &mut first_error) {
                break;
            }
            count += 1;
        }
        self.end(count, first_error)
    }

    /// The next record, whatever it is. Answers whether there was one.
    #[cold]
    #[inline(never)]
    fn consume_one(
        &mut self,
        each: &mut dyn FnMut(PerfRecord<'_>),
        first_error: &mut Option<PerfError>,
    ) -> bool {
        let there = match self.record() {
            Ok(Some(record)) => {
                each(record);
                true
            }
            Ok(None) => return false,
            Err(error) => {
                let there = matches!(error, PerfError::Record { .. });
                first_error.get_or_insert(error);
                there
            }
        };
        // Of a ring that is damaged nothing is left in this turn.
        there && self.advance().map_err(|error| first_error.get_or_insert(error)).is_ok()
    }

    /// As [`consume`](PerfCpu::consume), with the records as they lie in the ring. Those that say what was lost are
    /// counted too.
    ///
    /// # Errors
    /// [`PerfError::Ring`], after everything else was given.
    pub fn consume_raw(&mut self, mut each: impl FnMut(RawPerfRecord<'_>)) -> Result<usize, PerfError> {
        let (cpu, timed) = (self.cpu, self.timed);
        let mut first_error = self.begin().err();
        let mut lost = 0u64;
        let drained = self.ring.drain(|record| {
            each(RawPerfRecord { cpu, record });
            lost = lost.saturating_add(lost_in(cpu, record, timed));
        });
        self.lost = self.lost.saturating_add(lost);
        let count = drained.unwrap_or_else(|source| {
            first_error.get_or_insert(PerfError::Ring { cpu, source });
            0
        });
        self.end(count, first_error)
    }

    /// Ends a turn, and tells what went wrong first.
    fn end(&mut self, count: usize, mut first_error: Option<PerfError>) -> Result<usize, PerfError> {
        if let Err(error) = self.finish() {
            first_error.get_or_insert(error);
        }
        first_error.map_or(Ok(count), Err)
    }

    pub(super) fn begin(&mut self) -> Result<bool, PerfError> {
        self.ring.begin().map_err(|source| PerfError::Ring { cpu: self.cpu, source })
    }

    /// Whether a record is next, and the time by which it is sorted: its own, or that of the one before it.
    pub(super) fn next_time(&mut self) -> Result<Option<u64>, PerfError> {
        let cpu = self.cpu;
        let ring = |source| PerfError::Ring { cpu, source };
        let Some(record) = self.ring.peek().map_err(ring)? else { return Ok(None) };
        if self.timed
            && let Some(time) = time(record)
        {
            self.time = time;
        }
        Ok(Some(self.time))
    }

    /// The record that is next.
    pub(super) fn record(&mut self) -> Result<Option<PerfRecord<'_>>, PerfError> {
        let (cpu, timed) = (self.cpu, self.timed);
        let record = self.ring.peek().map_err(|source| PerfError::Ring { cpu, source })?;
        let Some(record) = record else { return Ok(None) };
        let record = PerfRecord::parse(cpu, record, timed).map_err(|what| PerfError::Record { cpu, what })?;
        if let PerfRecord::Lost { count, .. } = record {
            self.lost = self.lost.saturating_add(count);
        }
        Ok(Some(record))
    }

    pub(super) fn advance(&mut self) -> Result<(), PerfError> {
        self.ring.advance().map_err(|source| PerfError::Ring { cpu: self.cpu, source })
    }

    pub(super) fn finish(&mut self) -> Result<(), PerfError> {
        self.ring.finish().map_err(|source| PerfError::Ring { cpu: self.cpu, source })
    }

    pub(super) fn ring(&self) -> &PerfRing {
        &self.ring
    }

    /// Whether the event still is on its CPU. Linux takes it off when the CPU goes offline, and does not put it back: it
    /// is enabled no more, which shows in the time for which it was.
    pub(super) fn is_alive(&self) -> bool {
        /// Longer than the time of a kernel without a better clock stands still.
        const TICK: Duration = Duration::from_millis(11);

        let enabled = || self.ring.event().read().ok()?.time_enabled;
        let Some(before) = enabled() else { return false };
        let grows = || enabled().is_some_and(|now| now != before);
        grows() || {
            std::thread::sleep(TICK);
            grows()
        }
    }
}

fn lost_in(cpu: u32, record: PerfRingRecord<'_>, timed: bool) -> u64 {
    match PerfRecord::parse(cpu, record, timed) {
        Ok(PerfRecord::Lost { count, .. }) => count,
        _ => 0,
    }
}

impl AsFd for PerfCpu {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

const _: fn() = || {
    fn send<T: Send>() {}
    send::<PerfCpu>();
};

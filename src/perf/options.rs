use skep_sys::abi::{ClockId, PerfEventFlags, PerfReadFormat, PerfSampleType};
use skep_sys::request::{PerfEventOpen, PerfWakeup};

use super::error::PerfError;

/// When who waits for a perf buffer is woken. A ring that is half full wakes in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wakeup {
    /// After that many records of one CPU; 0 for only when half of its ring is full.
    Events(u32),
    /// When more than that many bytes of one CPU were written since the last time, headers included.
    Watermark(u32),
}

/// How a [`PerfBuffer`](super::PerfBuffer) is opened.
///
/// The default has 8 pages per CPU, wakes for each record, reads all CPUs that are online, ring by ring, and loses new
/// records when a ring is full.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct PerfBufferOptions {
    pub(super) pages: u32,
    pub(super) wakeup: Wakeup,
    pub(super) overwritable: bool,
    pub(super) clock: Option<ClockId>,
    pub(super) ordered: bool,
    pub(super) cpus: Option<Vec<u32>>,
}

impl Default for PerfBufferOptions {
    fn default() -> Self {
        PerfBufferOptions {
            pages: 8,
            wakeup: Wakeup::Events(1),
            overwritable: false,
            clock: None,
            ordered: false,
            cpus: None,
        }
    }
}

impl PerfBufferOptions {
    /// The default.
    pub fn new() -> PerfBufferOptions {
        PerfBufferOptions::default()
    }

    /// Pages of records per CPU, rounded up to a power of two. One more per CPU is about the ring. Users without
    /// `CAP_IPC_LOCK` may have `kernel.perf_event_mlock_kb` of them, 516 KiB by default, and `RLIMIT_MEMLOCK`.
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages.max(1).checked_next_power_of_two().unwrap_or(1 << 31);
        self
    }

    /// When who waits is woken.
    pub fn wakeup(mut self, wakeup: Wakeup) -> Self {
        self.wakeup = wakeup;
        self
    }

    /// Wakes after that many records of one CPU.
    pub fn wakeup_events(self, events: u32) -> Self {
        self.wakeup(Wakeup::Events(events))
    }

    /// Wakes when more than that many bytes of one CPU were written since the last time.
    pub fn watermark(self, bytes: u32) -> Self {
        self.wakeup(Wakeup::Watermark(bytes))
    }

    /// Keeps what was written last: a full ring is written over (Linux 4.7), and nothing is lost that is newer than what
    /// is kept. Programs write all the time, and reading is for when something happened: it stops them shortly, gives
    /// what was written since the last time and is still there, and lets them go on. What a program was writing in that
    /// moment may have damaged the oldest record.
    pub fn overwritable(mut self) -> Self {
        self.overwritable = true;
        self
    }

    /// Gives each sample the time at which it was written, in nanoseconds of this clock (Linux 4.1).
    /// [`ClockId::MONOTONIC`] is what `bpf_ktime_get_ns` reads.
    pub fn timed(mut self, clock: ClockId) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Gives the records of all CPUs in the order of their times, as far as they are there when reading begins. These are of
    /// [`ClockId::MONOTONIC`] unless [`timed`](Self::timed) says another.
    ///
    /// That is the order in which they were written, as far as the clocks of CPUs agree. Rings are looked at one after the
    /// other when reading begins: what comes meanwhile to one that was looked at is given the next time, though something newer
    /// of another CPU was given already.
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Reads these CPUs only, those of them that are online.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// The clock that samples are timed by.
    pub(super) fn clock(&self) -> Option<ClockId> {
        self.clock.or(self.ordered.then_some(ClockId::MONOTONIC))
    }

    pub(super) fn wants(&self, cpu: u32) -> bool {
        self.cpus.as_ref().is_none_or(|cpus| cpus.contains(&cpu))
    }

    /// Refuses a watermark that is never reached.
    pub(super) fn check(&self, page_size: u32) -> Result<(), PerfError> {
        let size = u64::from(self.pages) * u64::from(page_size);
        match self.wakeup {
            Wakeup::Watermark(bytes) if u64::from(bytes) >= size => Err(PerfError::Watermark { bytes, size }),
            _ => Ok(()),
        }
    }

    /// The event of a CPU.
    pub(super) fn event(&self, cpu: u32) -> PerfEventOpen<'static> {
        let mut event = PerfEventOpen::bpf_output(cpu);
        event.wakeup = match self.wakeup {
            Wakeup::Events(events) => PerfWakeup::Events(events),
            Wakeup::Watermark(bytes) => PerfWakeup::Watermark(bytes),
        };
        if let Some(clock) = self.clock() {
            event.sample_type |= PerfSampleType::TIME;
            event.clock = Some(clock);
        }
        event.flags.set(PerfEventFlags::WRITE_BACKWARD, self.overwritable);
        event.read_format = PerfReadFormat::TOTAL_TIME_ENABLED;
        event
    }
}

#[cfg(test)]
mod tests {
    use super::PerfBufferOptions;

    #[test]
    fn rings_have_a_power_of_two_of_pages() {
        for (asked, given) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (1 << 31, 1 << 31), (u32::MAX, 1 << 31)]
        {
            assert_eq!(PerfBufferOptions::new().pages(asked).pages, given, "{asked}");
        }
    }
}

use std::os::fd::BorrowedFd;

use crate::abi::{ClockId, PerfEventFlags, PerfEventKind, PerfOpenFlags, PerfReadFormat, PerfSampleType};

/// `perf_event_open`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PerfEventOpen<'a> {
    /// What is counted.
    pub kind: PerfEventKind,
    /// Where it is counted.
    pub target: PerfTarget<'a>,
    /// After how many events a sample is taken; 0 for a counter without samples.
    pub sample_period: u64,
    /// What a sample holds.
    pub sample_type: PerfSampleType,
    /// What reading the counter answers beside its value.
    pub read_format: PerfReadFormat,
    /// Single bits. Those that follow from other fields are set by the backend.
    pub flags: PerfEventFlags,
    /// When the descriptor becomes readable.
    pub wakeup: PerfWakeup,
    /// Clock that times are taken from (Linux 4.1); none for the kernel's own, which no other interface reads.
    pub clock: Option<ClockId>,
    /// Leader of the group that it joins.
    pub group: Option<BorrowedFd<'a>>,
    /// Flags of the call.
    pub open_flags: PerfOpenFlags,
}

impl<'a> PerfEventOpen<'a> {
    /// A counter without samples, that counts from the beginning.
    pub fn new(kind: PerfEventKind, target: PerfTarget<'a>) -> Self {
        PerfEventOpen {
            kind,
            target,
            sample_period: 0,
            sample_type: PerfSampleType::empty(),
            read_format: PerfReadFormat::empty(),
            flags: PerfEventFlags::empty(),
            wakeup: PerfWakeup::Events(0),
            clock: None,
            group: None,
            open_flags: PerfOpenFlags::empty(),
        }
    }

    /// What programs on a CPU write with `bpf_perf_event_output` (Linux 4.4): each record is a sample of raw bytes.
    pub fn bpf_output(cpu: u32) -> Self {
        PerfEventOpen {
            sample_period: 1,
            sample_type: PerfSampleType::RAW,
            wakeup: PerfWakeup::Events(1),
            ..PerfEventOpen::new(PerfEventKind::BPF_OUTPUT, PerfTarget::Cpu(cpu))
        }
    }
}

/// Whose events are counted.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum PerfTarget<'a> {
    /// All processes, on one CPU.
    Cpu(u32),
    /// One process, 0 for this one, on all CPUs or on one.
    Process {
        /// Its id.
        pid: u32,
        /// The CPU, none for all.
        cpu: Option<u32>,
    },
    /// The processes of a cgroup, on one CPU.
    Cgroup {
        /// Its directory.
        cgroup: BorrowedFd<'a>,
        /// The CPU.
        cpu: u32,
    },
}

/// When the descriptor of an event becomes readable. A ring that is half full always makes it so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PerfWakeup {
    /// After that many records; 0 for never.
    Events(u32),
    /// When more bytes than that were written since the last time; 0 for half of the ring.
    Watermark(u32),
}

/// What is asked of an open event (`PERF_EVENT_IOC_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PerfControl {
    /// `PERF_EVENT_IOC_ENABLE`: count.
    Enable,
    /// `PERF_EVENT_IOC_DISABLE`: count no more.
    Disable,
    /// `PERF_EVENT_IOC_RESET`: count from 0; the times stay.
    Reset,
    /// `PERF_EVENT_IOC_PAUSE_OUTPUT`: write to the ring no more, or again (Linux 4.7).
    PauseOutput(bool),
}

/// The ring of an event to map: a page about it and 2^n pages of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PerfMemory {
    /// Number of pages of records, a power of two.
    pub pages: u32,
    /// Whether it is written to say what was read. If not, the kernel writes over what is oldest.
    pub writable: bool,
}

impl PerfMemory {
    /// That many pages of records, of which none is lost before it was read.
    pub fn new(pages: u32) -> Self {
        PerfMemory { pages, writable: true }
    }
}

//! Perf events: what they count, what their records hold.

use std::fmt;

use super::kinds::kinds;

kinds! {
    /// Who counts an event (`enum perf_type_id`). The kernel gives further numbers to the counters of machines, found
    /// under `/sys/bus/event_source/devices/NAME/type`.
    PerfEventType, "PERF_TYPE_", "perf_type";
    HARDWARE = 0, "hardware";
    SOFTWARE = 1, "software";
    TRACEPOINT = 2, "tracepoint";
    HW_CACHE = 3, "hw_cache";
    RAW = 4, "raw";
    BREAKPOINT = 5, "breakpoint";
}

kinds! {
    /// Kinds of records in the ring of a perf event (`enum perf_event_type`).
    PerfRecordType, "PERF_RECORD_", "record_type";
    MMAP = 1, "mmap";
    LOST = 2, "lost";
    COMM = 3, "comm";
    EXIT = 4, "exit";
    THROTTLE = 5, "throttle";
    UNTHROTTLE = 6, "unthrottle";
    FORK = 7, "fork";
    READ = 8, "read";
    SAMPLE = 9, "sample";
    MMAP2 = 10, "mmap2";
    AUX = 11, "aux";
    ITRACE_START = 12, "itrace_start";
    LOST_SAMPLES = 13, "lost_samples";
    SWITCH = 14, "switch";
    SWITCH_CPU_WIDE = 15, "switch_cpu_wide";
    NAMESPACES = 16, "namespaces";
    KSYMBOL = 17, "ksymbol";
    BPF_EVENT = 18, "bpf_event";
    CGROUP = 19, "cgroup";
    TEXT_POKE = 20, "text_poke";
    AUX_OUTPUT_HW_ID = 21, "aux_output_hw_id";
}

/// What an event counts: a type, and a number whose meaning the type gives (`perf_event_attr.type`, `.config`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PerfEventKind {
    /// Who counts.
    pub event_type: PerfEventType,
    /// What is counted.
    pub config: u64,
}

macro_rules! events {
    ($($ty:ident { $($name:ident = $value:literal, $c:literal;)* })*) => {
        impl PerfEventKind {
            $($(
                #[doc = concat!("`", $c, "` (", stringify!($value), ").")]
                pub const $name: PerfEventKind =
                    PerfEventKind { event_type: PerfEventType::$ty, config: $value };
            )*)*
        }
    };
}

events! {
    HARDWARE {
    CPU_CYCLES = 0, "PERF_COUNT_HW_CPU_CYCLES";
    INSTRUCTIONS = 1, "PERF_COUNT_HW_INSTRUCTIONS";
    CACHE_REFERENCES = 2, "PERF_COUNT_HW_CACHE_REFERENCES";
    CACHE_MISSES = 3, "PERF_COUNT_HW_CACHE_MISSES";
    BRANCH_INSTRUCTIONS = 4, "PERF_COUNT_HW_BRANCH_INSTRUCTIONS";
    BRANCH_MISSES = 5, "PERF_COUNT_HW_BRANCH_MISSES";
    BUS_CYCLES = 6, "PERF_COUNT_HW_BUS_CYCLES";
    STALLED_CYCLES_FRONTEND = 7, "PERF_COUNT_HW_STALLED_CYCLES_FRONTEND";
    STALLED_CYCLES_BACKEND = 8, "PERF_COUNT_HW_STALLED_CYCLES_BACKEND";
    REF_CPU_CYCLES = 9, "PERF_COUNT_HW_REF_CPU_CYCLES";
    }
    SOFTWARE {
    CPU_CLOCK = 0, "PERF_COUNT_SW_CPU_CLOCK";
    TASK_CLOCK = 1, "PERF_COUNT_SW_TASK_CLOCK";
    PAGE_FAULTS = 2, "PERF_COUNT_SW_PAGE_FAULTS";
    CONTEXT_SWITCHES = 3, "PERF_COUNT_SW_CONTEXT_SWITCHES";
    CPU_MIGRATIONS = 4, "PERF_COUNT_SW_CPU_MIGRATIONS";
    PAGE_FAULTS_MIN = 5, "PERF_COUNT_SW_PAGE_FAULTS_MIN";
    PAGE_FAULTS_MAJ = 6, "PERF_COUNT_SW_PAGE_FAULTS_MAJ";
    ALIGNMENT_FAULTS = 7, "PERF_COUNT_SW_ALIGNMENT_FAULTS";
    EMULATION_FAULTS = 8, "PERF_COUNT_SW_EMULATION_FAULTS";
    DUMMY = 9, "PERF_COUNT_SW_DUMMY";
    BPF_OUTPUT = 10, "PERF_COUNT_SW_BPF_OUTPUT";
    CGROUP_SWITCHES = 11, "PERF_COUNT_SW_CGROUP_SWITCHES";
    }
}

impl PerfEventKind {
    /// A tracepoint by its id, which `/sys/kernel/tracing/events/GROUP/NAME/id` holds.
    pub fn tracepoint(id: u64) -> PerfEventKind {
        PerfEventKind { event_type: PerfEventType::TRACEPOINT, config: id }
    }

    /// A counter of the machine by its own number (`PERF_TYPE_RAW`).
    pub fn raw(config: u64) -> PerfEventKind {
        PerfEventKind { event_type: PerfEventType::RAW, config }
    }
}

impl fmt::Display for PerfEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == PerfEventKind::BPF_OUTPUT {
            return f.write_str("bpf_output");
        }
        write!(f, "{}:{}", self.event_type, self.config)
    }
}

/// A clock (`clockid_t`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClockId(pub i32);

impl ClockId {
    /// `CLOCK_MONOTONIC`: what `bpf_ktime_get_ns` reads.
    pub const MONOTONIC: ClockId = ClockId(1);
    /// `CLOCK_MONOTONIC_RAW`.
    pub const MONOTONIC_RAW: ClockId = ClockId(4);
    /// `CLOCK_BOOTTIME`: what `bpf_ktime_get_boot_ns` reads.
    pub const BOOTTIME: ClockId = ClockId(7);
}

bitflags::bitflags! {
    /// What a sample holds (`PERF_SAMPLE_*`), in the order in which the parts lie in a record.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PerfSampleType: u64 {
        /// `PERF_SAMPLE_IP`.
        const IP = 1 << 0;
        /// `PERF_SAMPLE_TID`.
        const TID = 1 << 1;
        /// `PERF_SAMPLE_TIME`: 8 bytes, nanoseconds of the event's clock.
        const TIME = 1 << 2;
        /// `PERF_SAMPLE_ADDR`.
        const ADDR = 1 << 3;
        /// `PERF_SAMPLE_READ`.
        const READ = 1 << 4;
        /// `PERF_SAMPLE_CALLCHAIN`.
        const CALLCHAIN = 1 << 5;
        /// `PERF_SAMPLE_ID`.
        const ID = 1 << 6;
        /// `PERF_SAMPLE_CPU`.
        const CPU = 1 << 7;
        /// `PERF_SAMPLE_PERIOD`.
        const PERIOD = 1 << 8;
        /// `PERF_SAMPLE_STREAM_ID`.
        const STREAM_ID = 1 << 9;
        /// `PERF_SAMPLE_RAW`: 4 bytes of length, then as many bytes.
        const RAW = 1 << 10;
        const _ = !0;
    }

    /// What reading a counter answers beside its value (`PERF_FORMAT_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PerfReadFormat: u64 {
        /// `PERF_FORMAT_TOTAL_TIME_ENABLED`: how long it was enabled, in nanoseconds.
        const TOTAL_TIME_ENABLED = 1 << 0;
        /// `PERF_FORMAT_TOTAL_TIME_RUNNING`: how long it counted.
        const TOTAL_TIME_RUNNING = 1 << 1;
        /// `PERF_FORMAT_ID`.
        const ID = 1 << 2;
        /// `PERF_FORMAT_GROUP`: all counters of the group.
        const GROUP = 1 << 3;
        /// `PERF_FORMAT_LOST`: how many records were lost (Linux 6.0).
        const LOST = 1 << 4;
        const _ = !0;
    }

    /// The single bits of `struct perf_event_attr`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PerfEventFlags: u64 {
        /// `disabled`: off until it is enabled.
        const DISABLED = 1 << 0;
        /// `inherit`: children count too.
        const INHERIT = 1 << 1;
        /// `pinned`: must always be on the CPU.
        const PINNED = 1 << 2;
        /// `exclusive`: nothing else may count meanwhile.
        const EXCLUSIVE = 1 << 3;
        /// `exclude_user`.
        const EXCLUDE_USER = 1 << 4;
        /// `exclude_kernel`.
        const EXCLUDE_KERNEL = 1 << 5;
        /// `exclude_hv`.
        const EXCLUDE_HV = 1 << 6;
        /// `exclude_idle`.
        const EXCLUDE_IDLE = 1 << 7;
        /// `freq`: the period is a frequency.
        const FREQ = 1 << 10;
        /// `watermark`: wake up by bytes, not by records.
        const WATERMARK = 1 << 14;
        /// `sample_id_all`: other records than samples carry their time and the like too.
        const SAMPLE_ID_ALL = 1 << 18;
        /// `use_clockid`: times are of the clock that is given (Linux 4.1).
        const USE_CLOCKID = 1 << 25;
        /// `write_backward`: the ring is written from its end to its start (Linux 4.7).
        const WRITE_BACKWARD = 1 << 27;
        const _ = !0;
    }

    /// Flags of `perf_event_open`. Descriptors are always closed on exec.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct PerfOpenFlags: u64 {
        /// `PERF_FLAG_FD_NO_GROUP`.
        const FD_NO_GROUP = 1 << 0;
        /// `PERF_FLAG_FD_OUTPUT`: records go to the ring of the group's leader.
        const FD_OUTPUT = 1 << 1;
        /// `PERF_FLAG_PID_CGROUP`: the process is the descriptor of a cgroup directory.
        const PID_CGROUP = 1 << 2;
        const _ = !0;
    }
}

//! The vocabulary of bpf(2): types, flags, ids and error numbers with their Linux values.
//!
//! Every set that the kernel may extend is a newtype over its number, so an unknown or newer value passes through.
//! Sources: `include/uapi/linux/bpf.h`, `include/uapi/linux/perf_event.h`.

mod errno;
mod flags;
mod helpers;
mod kinds;
mod perf;

pub use errno::Errno;
pub use flags::{AttachFlags, MapFlags, OpenFlags, ProgFlags, RingFlags, TestRunFlags, UpdateFlags};
pub use helpers::helper_name;
pub use kinds::{
    AttachType, BtfObjectId, LinkId, LinkType, MapId, MapType, ProgId, ProgType, StatsType, StreamId,
};
pub use perf::{
    ClockId, PerfEventFlags, PerfEventKind, PerfEventType, PerfOpenFlags, PerfReadFormat, PerfRecordType,
    PerfSampleType,
};

/// Longest object name that the kernel keeps, without the terminating NUL (`BPF_OBJ_NAME_LEN` - 1).
pub const OBJ_NAME_MAX: usize = 15;

/// Size of a program tag in bytes (`BPF_TAG_SIZE`).
pub const TAG_SIZE: usize = 8;

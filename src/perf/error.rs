use skep_sys::PerfRingError;
use skep_sys::abi::Errno;

use crate::map::MapError;

/// Why something could not be done with perf events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// The map is none of perf events, or refused one.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The watermark is never reached.
    #[error(
        "a watermark of {bytes} bytes is never reached in a ring of {size}; ask for less, or for more pages"
    )]
    Watermark {
        /// The watermark.
        bytes: u32,
        /// Size of a ring.
        size: u64,
    },
    /// The kernel does not say which CPUs are online.
    #[error("cannot find out which CPUs are online")]
    Cpus(#[source] Errno),
    /// There is no CPU to read: none of those that were asked for is online and has a place in the map.
    #[error(
        "none of the CPUs that were asked for is online and below {entries}, the number of elements of the map"
    )]
    NoCpus {
        /// Number of elements of the map.
        entries: u32,
    },
    /// A perf event could not be opened.
    #[error("cannot open a perf event on CPU {cpu}{}", colon(*hint))]
    Open {
        /// The CPU.
        cpu: u32,
        /// Why, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// A ring could not be mapped.
    #[error("cannot map a ring of {pages} pages for CPU {cpu}{}", colon(*hint))]
    Mmap {
        /// The CPU.
        cpu: u32,
        /// Number of pages of records.
        pages: u32,
        /// Why, where it is known.
        hint: Option<&'static str>,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// It could not be waited.
    #[error("cannot wait for a perf buffer")]
    Wait(#[source] Errno),
    /// An event could not be controlled or read.
    #[error("cannot {operation} the perf event of CPU {cpu}")]
    Control {
        /// What was tried: `pause`, `enable`, …
        operation: &'static str,
        /// The CPU.
        cpu: u32,
        /// What the kernel answered.
        #[source]
        errno: Errno,
    },
    /// There is no counter for a CPU.
    #[error("there is no counter for CPU {cpu}, which was not online")]
    NoCounter {
        /// The CPU.
        cpu: u32,
    },
    /// What a ring holds is no sequence of records. It was skipped to where it was written last.
    #[error("the ring of CPU {cpu} is damaged, and was skipped")]
    Ring {
        /// The CPU.
        cpu: u32,
        /// What is wrong with it.
        source: PerfRingError,
    },
    /// A record is not what its kind says, as happens to samples of 64 KiB and more, whose length its header cannot
    /// hold. It was skipped.
    #[error("a record of CPU {cpu} was skipped: {what}")]
    Record {
        /// The CPU.
        cpu: u32,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl PerfError {
    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            PerfError::Map(error) => error.errno(),
            PerfError::Cpus(errno) | PerfError::Wait(errno) => Some(*errno),
            PerfError::Open { errno, .. }
            | PerfError::Mmap { errno, .. }
            | PerfError::Control { errno, .. } => Some(*errno),
            PerfError::Ring { source: PerfRingError::Pause(errno), .. } => Some(*errno),
            _ => None,
        }
    }

    pub(super) fn open(cpu: u32, errno: Errno) -> PerfError {
        let hint = match errno {
            Errno::EACCES | Errno::EPERM => Some(
                "the process lacks the right, which is CAP_PERFMON, before Linux 5.8 CAP_SYS_ADMIN, \
                 or a lower kernel.perf_event_paranoid",
            ),
            Errno::ENODEV => Some("it is offline"),
            Errno::ENOENT | Errno::EOPNOTSUPP => Some("the machine or the kernel has no such event"),
            Errno::EMFILE => Some("raise RLIMIT_NOFILE"),
            _ => None,
        };
        PerfError::Open { cpu, hint, errno }
    }

    pub(super) fn mmap(cpu: u32, pages: u32, errno: Errno) -> PerfError {
        let hint = match errno {
            Errno::EPERM => Some(
                "the process may not lock so much memory: ask for fewer pages, or raise \
                 kernel.perf_event_mlock_kb or RLIMIT_MEMLOCK",
            ),
            Errno::ENOMEM => Some("ask for fewer pages"),
            _ => None,
        };
        PerfError::Mmap { cpu, pages, hint, errno }
    }
}

impl From<std::io::Error> for PerfError {
    fn from(error: std::io::Error) -> PerfError {
        PerfError::Wait(error.raw_os_error().map_or(Errno::EIO, Errno))
    }
}

fn colon(hint: Option<&'static str>) -> String {
    hint.map(|hint| format!(": {hint}")).unwrap_or_default()
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<PerfError>();
};

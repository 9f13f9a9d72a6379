//! How often and how long programs run.

use std::time::Duration;

use skep_sys::abi::{Errno, StatsType};
use skep_sys::{Kernel, StatsGuard};

use super::Program;
use crate::error::Error;
use crate::load::hint;

/// What a kernel counted of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramStats {
    /// How often it ran while the kernel counted.
    pub run_cnt: u64,
    /// How long it ran while the kernel counted, all runs together.
    pub run_time: Duration,
    /// How often it was left out because it ran on that CPU already (Linux 5.12), or, of one at a kprobe or a tracepoint of a perf
    /// event, because another one ran there or a map was changed (Linux 6.7); counted always.
    pub recursion_misses: u64,
}

impl ProgramStats {
    /// Mean time of a run, none when it did not run.
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.run_time.as_nanos().checked_div(self.run_cnt.into())?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// What happened since `earlier` was taken.
    pub fn since(&self, earlier: &ProgramStats) -> ProgramStats {
        ProgramStats {
            run_cnt: self.run_cnt.saturating_sub(earlier.run_cnt),
            run_time: self.run_time.saturating_sub(earlier.run_time),
            recursion_misses: self.recursion_misses.saturating_sub(earlier.recursion_misses),
        }
    }
}

/// Lets the kernel count how often and how long each of its programs runs, for as long as the answer is kept
/// (`BPF_ENABLE_STATS`, Linux 5.8). It costs each run some ten nanoseconds.
///
/// ```
/// use skep::asm::Reg;
/// use skep::program::{self, ProgramBuilder};
/// use skep::sys::abi::ProgType;
///
/// # fn main() -> Result<(), skep::Error> {
/// # let kernel = skep::sim::kernel();
/// # let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
/// # builder.asm().mov64_imm(Reg::R0, 2).exit();
/// # let program = builder.load(&kernel)?;
/// let counting = program::enable_stats(&kernel)?;
/// let before = program.stats()?;
/// // … some time later
/// let during = program.stats()?.since(&before);
/// println!("ran {} times, {:?} each", during.run_cnt, during.mean());
/// drop(counting);
/// # assert_eq!(during.mean(), None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Error::Stats`]: the process lacks `CAP_SYS_ADMIN`, or the kernel is older.
pub fn enable_stats(kernel: &Kernel) -> Result<StatsGuard, Error> {
    kernel.enable_stats(StatsType::RUN_TIME).map_err(|source| {
        let hint = match source {
            Errno::EPERM => hint::for_admin(kernel),
            Errno::EINVAL => {
                " (it is older than Linux 5.8: write 1 to /proc/sys/kernel/bpf_stats_enabled)".into()
            }
            _ => String::new(),
        };
        Error::Stats { hint, source }
    })
}

impl Program {
    /// What the kernel counted of it (Linux 5.1). Times are 0 unless the kernel was [told to count](enable_stats).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn stats(&self) -> Result<ProgramStats, Error> {
        let info = self.info()?;
        Ok(ProgramStats {
            run_cnt: info.run_cnt,
            run_time: Duration::from_nanos(info.run_time_ns),
            recursion_misses: info.recursion_misses,
        })
    }

    /// Bytes of the kernel's memory that it takes (`memlock` in `/proc/self/fdinfo`).
    ///
    /// # Errors
    ///
    /// When there is no `/proc`.
    pub fn memlock(&self) -> Result<u64, Error> {
        self.loaded().memlock().map_err(|source| self.failed("ask how much memory it takes", source))
    }
}

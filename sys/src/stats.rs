use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::{Errno, StatsType};
use crate::kernel::Kernel;

/// Keeps a kernel counting: how often and how long each program runs.
///
/// Made by [`Kernel::enable_stats`]; the kernel counts until the last one of all processes is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the counting"]
pub struct StatsGuard {
    fd: OwnedFd,
}

impl Kernel {
    /// Lets the kernel count for as long as the answer is kept (`BPF_ENABLE_STATS`, Linux 5.8).
    ///
    /// [`StatsType::RUN_TIME`] fills [`run_cnt`](crate::request::ProgInfo::run_cnt) and
    /// [`run_time_ns`](crate::request::ProgInfo::run_time_ns) of all programs, at a cost of some ten nanoseconds a run.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::EPERM`] without `CAP_SYS_ADMIN`, [`Errno::EINVAL`] before Linux 5.8.
    pub fn enable_stats(&self, stats: StatsType) -> Result<StatsGuard, Errno> {
        Ok(StatsGuard { fd: self.backend().enable_stats(stats)? })
    }
}

impl AsFd for StatsGuard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<StatsGuard> for OwnedFd {
    fn from(guard: StatsGuard) -> OwnedFd {
        guard.fd
    }
}

//! Sleeping until descriptors are ready, told of changes only, with a time-out.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use skep_sys::Poller;
use skep_sys::abi::Errno;
use skep_sys::ring::Readiness;

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// After a time; never for none, and for a time that ends after the clock does.
    pub(crate) fn after(timeout: Option<Duration>) -> Deadline {
        Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left; none for ever.
    fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Whether it is over.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}

/// Some descriptors to wait for.
#[derive(Debug)]
pub(crate) struct Waiter(Poller);

impl Waiter {
    pub(crate) fn new() -> io::Result<Waiter> {
        Poller::new().map(Waiter).map_err(error)
    }

    /// Waits for a descriptor too, under a number. One that is ready already counts as a change.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, readiness: Readiness, number: u64) -> io::Result<()> {
        self.0.add_edge(fd, readiness, number).map_err(error)
    }

    /// Waits for a descriptor no longer.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.remove(fd).map_err(error)
    }

    /// Waits until one of them changed. Answers whether one did.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<bool> {
        self.0.wait_any(deadline.left()).map_err(error)
    }

    /// Takes what changed without waiting.
    pub(crate) fn take(&self) -> io::Result<bool> {
        self.0.wait_any(Some(Duration::ZERO)).map_err(error)
    }
}

#[cfg(target_os = "linux")]
impl AsFd for Waiter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

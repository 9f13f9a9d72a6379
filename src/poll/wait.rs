//! Sleeping until descriptors are ready, told of changes only, with a time-out.

use std::time::{Duration, Instant};

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

/// The time in whole milliseconds, more rather than less.
fn milliseconds(left: Duration) -> i32 {
    let round_up = Duration::from_nanos(999_999);
    i32::try_from(left.saturating_add(round_up).as_millis()).unwrap_or(i32::MAX)
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::errno::Errno;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use skep_sys::ring::Readiness;

    use super::{Deadline, milliseconds};

    /// Some descriptors to wait for.
    #[derive(Debug)]
    pub(crate) struct Waiter(Epoll);

    impl Waiter {
        pub(crate) fn new() -> io::Result<Waiter> {
            Ok(Waiter(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
        }

        /// Waits for a descriptor too, under a number. One that is ready already counts as a change.
        pub(crate) fn add(&self, fd: BorrowedFd<'_>, readiness: Readiness, number: u64) -> io::Result<()> {
            let ready = match readiness {
                Readiness::Write => EpollFlags::EPOLLOUT,
                _ => EpollFlags::EPOLLIN,
            };
            Ok(self.0.add(fd, EpollEvent::new(ready | EpollFlags::EPOLLET, number))?)
        }

        /// Waits for a descriptor no longer.
        pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
            Ok(self.0.delete(fd)?)
        }

        /// Waits until one of them changed. Answers whether one did.
        pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<bool> {
            let mut events = [EpollEvent::empty(); 64];
            loop {
                let left = match deadline.left() {
                    None => EpollTimeout::NONE,
                    Some(left) => EpollTimeout::try_from(milliseconds(left)).unwrap_or(EpollTimeout::MAX),
                };
                match self.0.wait(&mut events, left) {
                    Ok(0) if !deadline.is_over() => continue,
                    Ok(count) => return Ok(count > 0),
                    Err(Errno::EINTR) => continue,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }

        /// Takes what changed without waiting.
        pub(crate) fn take(&self) -> io::Result<bool> {
            self.wait(Deadline::after(Some(std::time::Duration::ZERO)))
        }
    }

    impl AsFd for Waiter {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.0.as_fd()
        }
    }
}

/// Elsewhere there are only simulated kernels, whose descriptors are not ready once there is nothing left.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::{Mutex, PoisonError};

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use skep_sys::ring::Readiness;

    use super::{Deadline, milliseconds};

    /// Some descriptors to wait for.
    #[derive(Debug)]
    pub(crate) struct Waiter(Mutex<Vec<(i32, PollFlags, OwnedFd)>>);

    impl Waiter {
        pub(crate) fn new() -> io::Result<Waiter> {
            Ok(Waiter(Mutex::new(Vec::new())))
        }

        /// Waits for a descriptor too.
        pub(crate) fn add(&self, fd: BorrowedFd<'_>, readiness: Readiness, _: u64) -> io::Result<()> {
            use std::os::fd::AsRawFd;

            let ready = match readiness {
                Readiness::Write => PollFlags::POLLOUT,
                _ => PollFlags::POLLIN,
            };
            let mut fds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            fds.push((fd.as_raw_fd(), ready, fd.try_clone_to_owned()?));
            Ok(())
        }

        /// Waits for a descriptor no longer.
        pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
            use std::os::fd::AsRawFd;

            let mut fds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            fds.retain(|(number, ..)| *number != fd.as_raw_fd());
            Ok(())
        }

        /// Waits until one of them is ready. Answers whether one is.
        pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<bool> {
            let fds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut polled: Vec<PollFd<'_>> =
                fds.iter().map(|(_, flags, fd)| PollFd::new(fd.as_fd(), *flags)).collect();
            loop {
                let left = match deadline.left() {
                    None => PollTimeout::NONE,
                    Some(left) => PollTimeout::try_from(milliseconds(left)).unwrap_or(PollTimeout::MAX),
                };
                match poll(&mut polled, left) {
                    Ok(0) if !deadline.is_over() => continue,
                    Ok(count) => return Ok(count > 0),
                    Err(Errno::EINTR) => continue,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }

        /// Takes what changed without waiting.
        pub(crate) fn take(&self) -> io::Result<bool> {
            self.wait(Deadline::after(Some(std::time::Duration::ZERO)))
        }
    }
}

pub(crate) use system::Waiter;

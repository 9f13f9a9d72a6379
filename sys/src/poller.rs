use std::fmt;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::abi::Errno;

/// Waits until one of several descriptors is readable. It is itself a descriptor that is readable when one of them is
/// (on Linux), so that it can be put into another one's wait.
pub struct Poller {
    inner: imp::Inner,
}

/// A descriptor that is readable, or will never be again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// What it was added with.
    pub token: u64,
    /// Whether its other side is gone, or it is in error.
    pub hangup: bool,
}

impl Poller {
    /// A poller of no descriptors.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> Result<Poller, Errno> {
        Ok(Poller { inner: imp::Inner::new()? })
    }

    /// Adds a descriptor, which must be removed before it is closed if it was duplicated.
    ///
    /// # Errors
    /// What the system answers: [`Errno::EEXIST`] when it was added already, [`Errno::EPERM`] for a plain file.
    pub fn add(&mut self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        self.inner.add(fd, token)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it was not added.
    pub fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.inner.remove(fd)
    }

    /// Waits until a descriptor is readable, or `timeout` is over; for none as long as it takes. Signals do not end it.
    /// Appends those that are to `ready`, not necessarily all, and answers how many.
    ///
    /// # Errors
    /// What the system answers.
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<usize, Errno> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.inner.wait(ready, left.map(millis)) {
                Err(Errno::EINTR) => {}
                // The longest time that the system takes may be over before ours is.
                Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
                answer => return answer,
            }
        }
    }
}

/// Milliseconds, rounded up: a time that is not over yet is not 0.
fn millis(time: Duration) -> u16 {
    u16::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u16::MAX)
}

#[cfg(target_os = "linux")]
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

/// One epoll instance.
#[cfg(target_os = "linux")]
mod imp {
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

    use super::Ready;
    use crate::abi::Errno;

    /// How many are reported at once.
    const MANY: usize = 64;

    pub(super) struct Inner(Epoll);

    impl Inner {
        pub(super) fn new() -> Result<Inner, Errno> {
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Inner).map_err(errno)
        }

        pub(super) fn add(&mut self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
            self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token)).map_err(errno)
        }

        pub(super) fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
            self.0.delete(fd).map_err(errno)
        }

        pub(super) fn wait(&mut self, ready: &mut Vec<Ready>, millis: Option<u16>) -> Result<usize, Errno> {
            let timeout = millis.map_or(EpollTimeout::NONE, EpollTimeout::from);
            let mut events = [EpollEvent::empty(); MANY];
            let count = self.0.wait(&mut events, timeout).map_err(errno)?;
            ready.extend(events.iter().take(count).map(|event| Ready {
                token: event.data(),
                hangup: event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
            }));
            Ok(count)
        }
    }

    impl AsFd for Inner {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.0.as_fd()
        }
    }

    fn errno(errno: nix::errno::Errno) -> Errno {
        Errno(errno as i32)
    }
}

/// poll(2) of duplicates.
#[cfg(not(target_os = "linux"))]
mod imp {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::Ready;
    use crate::abi::Errno;

    struct Polled {
        number: RawFd,
        fd: OwnedFd,
        token: u64,
    }

    pub(super) struct Inner(Vec<Polled>);

    impl Inner {
        pub(super) fn new() -> Result<Inner, Errno> {
            Ok(Inner(Vec::new()))
        }

        pub(super) fn add(&mut self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
            let number = fd.as_raw_fd();
            if self.0.iter().any(|polled| polled.number == number) {
                return Err(Errno::EEXIST);
            }
            let fd = fd.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
            self.0.push(Polled { number, fd, token });
            Ok(())
        }

        pub(super) fn remove(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
            let before = self.0.len();
            self.0.retain(|polled| polled.number != fd.as_raw_fd());
            if self.0.len() < before { Ok(()) } else { Err(Errno::ENOENT) }
        }

        pub(super) fn wait(&mut self, ready: &mut Vec<Ready>, millis: Option<u16>) -> Result<usize, Errno> {
            let polled = self.0.iter().map(|polled| PollFd::new(polled.fd.as_fd(), PollFlags::POLLIN));
            let mut polled: Vec<PollFd<'_>> = polled.collect();
            match poll(&mut polled, millis.map_or(PollTimeout::NONE, PollTimeout::from)) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => return Err(Errno::EINTR),
                Err(_) => return Err(Errno::EIO),
            }
            let before = ready.len();
            for (fd, added) in polled.iter().zip(&self.0) {
                let events = fd.revents().unwrap_or(PollFlags::empty());
                if !events.is_empty() {
                    let hangup = events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
                    ready.push(Ready { token: added.token, hangup });
                }
            }
            Ok(ready.len() - before)
        }
    }
}

use std::fmt;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::abi::Errno;
use crate::ring::Readiness;

/// Waits until one of several descriptors is ready. It is itself a descriptor that is readable when one of them is
/// (on Linux), so that it can be put into another one's wait.
pub struct Poller {
    inner: imp::Inner,
}

/// A descriptor that is ready, or will never be again.
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

    /// Adds a descriptor to be told of for as long as it is readable. It must be removed before it is closed if it was
    /// duplicated.
    ///
    /// # Errors
    /// What the system answers: [`Errno::EEXIST`] when it was added already, [`Errno::EPERM`] for a plain file.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        self.inner.add(fd, Readiness::Read, false, token)
    }

    /// As [`add`](Poller::add), to be told once of each time that it becomes ready (`EPOLLET`), of the first time also when
    /// it is already. Outside of Linux, where only simulated kernels are, it is told of as long as it is ready.
    ///
    /// # Errors
    /// As [`add`](Poller::add).
    pub fn add_edge(&self, fd: BorrowedFd<'_>, readiness: Readiness, token: u64) -> Result<(), Errno> {
        self.inner.add(fd, readiness, true, token)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when it was not added.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.inner.remove(fd)
    }

    /// Waits until a descriptor is ready, or `timeout` is over; for none as long as it takes. Signals do not end it.
    /// Appends those that are to `ready`, not necessarily all, and answers how many.
    ///
    /// # Errors
    /// What the system answers.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<usize, Errno> {
        self.wait_each(timeout, &mut |found| ready.push(found))
    }

    /// As [`wait`](Poller::wait), for whom it is enough that there are some. Of those that were added by
    /// [`add_edge`](Poller::add_edge) the ones that were found are not told of again.
    ///
    /// # Errors
    /// As [`wait`](Poller::wait).
    pub fn wait_any(&self, timeout: Option<Duration>) -> Result<bool, Errno> {
        Ok(self.wait_each(timeout, &mut |_| ())? > 0)
    }

    fn wait_each(&self, timeout: Option<Duration>, each: &mut dyn FnMut(Ready)) -> Result<usize, Errno> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.inner.wait(left.map(millis), each) {
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

    use super::{Readiness, Ready};
    use crate::abi::Errno;

    /// How many are reported at once.
    const MANY: usize = 64;

    pub(super) struct Inner(Epoll);

    impl Inner {
        pub(super) fn new() -> Result<Inner, Errno> {
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Inner).map_err(errno)
        }

        pub(super) fn add(
            &self,
            fd: BorrowedFd<'_>,
            readiness: Readiness,
            edge: bool,
            token: u64,
        ) -> Result<(), Errno> {
            let mut flags = match readiness {
                Readiness::Read => EpollFlags::EPOLLIN,
                Readiness::Write => EpollFlags::EPOLLOUT,
            };
            flags.set(EpollFlags::EPOLLET, edge);
            self.0.add(fd, EpollEvent::new(flags, token)).map_err(errno)
        }

        pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
            self.0.delete(fd).map_err(errno)
        }

        pub(super) fn wait(&self, millis: Option<u16>, each: &mut dyn FnMut(Ready)) -> Result<usize, Errno> {
            let timeout = millis.map_or(EpollTimeout::NONE, EpollTimeout::from);
            let mut events = [EpollEvent::empty(); MANY];
            let count = self.0.wait(&mut events, timeout).map_err(errno)?;
            for event in events.iter().take(count) {
                let hangup = event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
                each(Ready { token: event.data(), hangup });
            }
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
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::{Readiness, Ready};
    use crate::abi::Errno;

    struct Polled {
        number: RawFd,
        fd: OwnedFd,
        flags: PollFlags,
        token: u64,
    }

    pub(super) struct Inner(Mutex<Vec<Polled>>);

    impl Inner {
        pub(super) fn new() -> Result<Inner, Errno> {
            Ok(Inner(Mutex::new(Vec::new())))
        }

        fn polled(&self) -> MutexGuard<'_, Vec<Polled>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn add(
            &self,
            fd: BorrowedFd<'_>,
            readiness: Readiness,
            _edge: bool,
            token: u64,
        ) -> Result<(), Errno> {
            let number = fd.as_raw_fd();
            let flags = match readiness {
                Readiness::Read => PollFlags::POLLIN,
                Readiness::Write => PollFlags::POLLOUT,
            };
            let mut polled = self.polled();
            if polled.iter().any(|polled| polled.number == number) {
                return Err(Errno::EEXIST);
            }
            let fd = fd.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
            polled.push(Polled { number, fd, flags, token });
            Ok(())
        }

        pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
            let mut polled = self.polled();
            let before = polled.len();
            polled.retain(|polled| polled.number != fd.as_raw_fd());
            if polled.len() < before { Ok(()) } else { Err(Errno::ENOENT) }
        }

        pub(super) fn wait(&self, millis: Option<u16>, each: &mut dyn FnMut(Ready)) -> Result<usize, Errno> {
            let added = self.polled();
            let mut polled: Vec<PollFd<'_>> =
                added.iter().map(|added| PollFd::new(added.fd.as_fd(), added.flags)).collect();
            match poll(&mut polled, millis.map_or(PollTimeout::NONE, PollTimeout::from)) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => return Err(Errno::EINTR),
                Err(_) => return Err(Errno::EIO),
            }
            let mut count = 0;
            for (fd, added) in polled.iter().zip(added.iter()) {
                let events = fd.revents().unwrap_or(PollFlags::empty());
                if !events.is_empty() {
                    let hangup = events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
                    each(Ready { token: added.token, hangup });
                    count += 1;
                }
            }
            Ok(count)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_state_is_told_again_and_a_change_once() {
        let (mut reader, mut writer) = pipe().unwrap();
        let (states, changes) = (Poller::new().unwrap(), Poller::new().unwrap());
        states.add(reader.as_fd(), 7).unwrap();
        changes.add_edge(reader.as_fd(), Readiness::Read, 7).unwrap();
        assert_eq!((states.wait_any(NOW), changes.wait_any(NOW)), (Ok(false), Ok(false)));
        for _ in 0..2 {
            writer.write_all(&[1]).unwrap();
            assert_eq!(changes.wait_any(NOW), Ok(true));
            assert_eq!(changes.wait_any(NOW), Ok(false), "that one was told");
            let mut ready = Vec::new();
            assert_eq!((states.wait(&mut ready, NOW), states.wait(&mut ready, NOW)), (Ok(1), Ok(1)));
            assert_eq!(ready, [Ready { token: 7, hangup: false }; 2]);
        }
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(states.wait_any(NOW), Ok(false));
        drop(writer);
        let mut ready = Vec::new();
        assert_eq!(states.wait(&mut ready, None), Ok(1));
        assert!(ready[0].hangup);
        states.remove(reader.as_fd()).unwrap();
        assert_eq!(states.remove(reader.as_fd()), Err(Errno::ENOENT));
        assert_eq!(states.wait_any(Some(Duration::from_millis(1))), Ok(false));
    }

    #[test]
    fn one_that_is_ready_already_counts_as_a_change() {
        let (_reader, writer) = pipe().unwrap();
        let changes = Poller::new().unwrap();
        changes.add_edge(writer.as_fd(), Readiness::Write, 0).unwrap();
        assert_eq!(changes.add_edge(writer.as_fd(), Readiness::Write, 0), Err(Errno::EEXIST));
        assert_eq!((changes.wait_any(None), changes.wait_any(NOW)), (Ok(true), Ok(false)));
    }
}

//! Descriptors of the simulated kernel, which are real ones of the process.
//!
//! The user holds the read end of a pipe and the kernel keeps the write end. What a descriptor stands for is found
//! by the pipe's inode, so a duplicate and one that was passed over a socket stand for the same thing, and the last
//! close is seen by polling the write end: it reports an error once no reader is left.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use skep_sys::abi::{Errno, OpenFlags};

use crate::map::Map;
use crate::object::Object;

/// What calls through a descriptor may do to the elements of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Access {
    pub(crate) const ALL: Access = Access { read: true, write: true };

    /// The access that open flags ask for: none of them is everything, both are refused, as are unknown ones.
    pub(crate) fn from_flags(flags: OpenFlags) -> Result<Access, Errno> {
        if flags == OpenFlags::empty() {
            Ok(Access::ALL)
        } else if flags == OpenFlags::RDONLY {
            Ok(Access { read: true, write: false })
        } else if flags == OpenFlags::WRONLY {
            Ok(Access { read: false, write: true })
        } else {
            Err(Errno::EINVAL)
        }
    }
}

/// What a descriptor stands for, whatever its number: the same for all duplicates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Inode {
    dev: u64,
    ino: u64,
}

impl Inode {
    pub(crate) fn of(meta: &fs::Metadata) -> Inode {
        Inode { dev: meta.dev(), ino: meta.ino() }
    }

    pub(crate) fn of_fd(fd: BorrowedFd<'_>) -> Result<Inode, Errno> {
        let stat = fstat(fd).map_err(|e| Errno(e as i32))?;
        #[allow(clippy::unnecessary_cast, reason = "the width of both depends on the system")]
        Ok(Inode { dev: stat.st_dev as u64, ino: stat.st_ino as u64 })
    }

    /// Its number in its file system.
    pub(crate) fn number(self) -> u64 {
        self.ino
    }
}

#[derive(Debug)]
struct Entry {
    object: Object,
    access: Access,
    writer: Arc<PipeWriter>,
}

/// All open descriptors of one simulated kernel.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    entries: BTreeMap<Inode, Entry>,
    /// Entries that were left after the last sweep: a new one is due at twice as many.
    left: usize,
}

/// Entries below which making a descriptor never sweeps.
const SWEEP_MIN: usize = 32;

impl Descriptors {
    /// Opens a descriptor of `object`, closed on exec and never one of the three standard ones.
    pub(crate) fn open(&mut self, object: Object, access: Access) -> Result<OwnedFd, Errno> {
        let (reader, writer) = io::pipe().map_err(io_errno)?;
        let fd = above_stdio(OwnedFd::from(reader))?;
        let inode = Inode::of_fd(fd.as_fd())?;
        // Neither end may ever wait for the other: readiness is all that goes through it.
        for end in [fd.as_fd(), writer.as_fd()] {
            let mut flags = fcntl(end, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).map_err(errno)?;
            flags.insert(OFlag::O_NONBLOCK);
            fcntl(end, FcntlArg::F_SETFL(flags)).map_err(errno)?;
        }
        let writer = Arc::new(writer);
        if let Object::Perf(event) = &object {
            event.set_writer(&writer);
        }
        self.entries.insert(inode, Entry { object, access, writer });
        Ok(fd)
    }

    /// Whether so many descriptors were opened since the last sweep that another one is due.
    pub(crate) fn sweep_is_due(&self) -> bool {
        self.entries.len() >= SWEEP_MIN.max(self.left.saturating_mul(2))
    }

    /// Forgets the descriptors that were closed. Answers whether there were any.
    pub(crate) fn sweep(&mut self) -> bool {
        let before = self.entries.len();
        let closed = {
            let mut polled: Vec<PollFd<'_>> =
                self.entries.values().map(|e| PollFd::new(e.writer.as_fd(), PollFlags::empty())).collect();
            loop {
                match poll(&mut polled, PollTimeout::ZERO) {
                    Err(nix::errno::Errno::EINTR) => continue,
                    Err(_) => return false,
                    Ok(_) => break,
                }
            }
            polled
                .iter()
                .zip(self.entries.keys())
                .filter(|(p, _)| {
                    p.revents().is_some_and(|r| r.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
                })
                .map(|(_, inode)| *inode)
                .collect::<Vec<_>>()
        };
        for inode in closed {
            self.entries.remove(&inode);
        }
        self.left = self.entries.len();
        self.left != before
    }

    /// What a descriptor stands for: `EBADF` for a closed one, `EINVAL` for one that is not of this kernel.
    pub(crate) fn get(&self, fd: BorrowedFd<'_>) -> Result<(&Object, Access), Errno> {
        self.entry(Inode::of_fd(fd)?)
    }

    /// The same for a number, as instructions and map values hold it.
    pub(crate) fn get_number(&self, number: i32) -> Result<(&Object, Access), Errno> {
        if number < 0 {
            return Err(Errno::EBADF);
        }
        // A descriptor cannot be borrowed from a bare number without unsafe code; its inode can be asked for.
        let meta = fs::metadata(format!("/dev/fd/{number}")).map_err(|_| Errno::EBADF)?;
        self.entry(Inode::of(&meta))
    }

    fn entry(&self, inode: Inode) -> Result<(&Object, Access), Errno> {
        self.entries.get(&inode).map(|e| (&e.object, e.access)).ok_or(Errno::EINVAL)
    }

    /// Takes the wakeups from a descriptor, which is no longer readable then.
    pub(crate) fn take_wakeups(fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut bytes = [0; 512];
        loop {
            match nix::unistd::read(fd, &mut bytes) {
                Ok(read) if read == bytes.len() => {}
                Ok(_) | Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(errno(error)),
            }
        }
    }

    /// Whether there are wakeups that nobody took.
    pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
        let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
        let answer = poll(&mut polled, PollTimeout::ZERO);
        answer.is_ok() && polled.iter().any(|fd| fd.any() == Some(true))
    }

    /// Makes one descriptor readable.
    pub(crate) fn wake_one(&self, fd: BorrowedFd<'_>) {
        if let Some(entry) = Inode::of_fd(fd).ok().and_then(|inode| self.entries.get(&inode)) {
            // As in `wake`.
            let _ = (&*entry.writer).write(&[0]);
        }
    }

    /// Makes every descriptor of a map readable, anew where it is already.
    pub(crate) fn wake(&self, map: &Arc<Map>) {
        let theirs = |entry: &&Entry| matches!(&entry.object, Object::Map(m) if Arc::ptr_eq(m, map));
        for entry in self.entries.values().filter(theirs) {
            // A full pipe is as readable as can be, and one without a reader wakes no one.
            let _ = (&*entry.writer).write(&[0]);
        }
    }

    /// Everything that an open descriptor stands for.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.entries.values().map(|e| &e.object)
    }
}

fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;

    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // The standard library duplicates to numbers above 2, and sets the close-on-exec flag.
    fd.try_clone().map_err(io_errno)
}

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

fn io_errno(error: io::Error) -> Errno {
    match error.raw_os_error() {
        Some(nix::libc::EMFILE) => Errno::EMFILE,
        Some(nix::libc::ENFILE) => Errno::ENFILE,
        _ => Errno::ENOMEM,
    }
}

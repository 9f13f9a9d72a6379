use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::Errno;
use crate::kernel::Kernel;
use crate::link_fd::LinkFd;

/// A run of an iterator: reading it runs the program for one object of the kernel after another, and answers what the
/// program wrote with `bpf_seq_write` and `bpf_seq_printf`.
///
/// Made by [`LinkFd::iterate`].
#[derive(Debug)]
pub struct IterFd {
    fd: OwnedFd,
    kernel: Kernel,
}

impl LinkFd {
    /// Begins a run of the iterator that the link is of (`BPF_ITER_CREATE`, Linux 5.8). Each goes through all objects from
    /// the start.
    ///
    /// # Errors
    /// What the kernel answers, [`Errno::EINVAL`] when the link is none of an iterator.
    pub fn iterate(&self) -> Result<IterFd, Errno> {
        Ok(IterFd { fd: self.kernel().backend().iter_create(self.as_fd())?, kernel: self.kernel().clone() })
    }
}

impl IterFd {
    /// Reads what comes next. Answers how many bytes that are; 0 at the end.
    ///
    /// # Errors
    /// What the kernel answers: [`Errno::E2BIG`] when the program wrote more for one object than there is room for,
    /// [`Errno::EAGAIN`] when it asked for another try.
    pub fn read_some(&mut self, to: &mut [u8]) -> Result<usize, Errno> {
        self.kernel.backend().iter_read(self.fd.as_fd(), to)
    }
}

impl Read for IterFd {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.read_some(to).map_err(io::Error::other)
    }
}

impl AsFd for IterFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

//! Descriptors that programs made with bpf(2).

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use crate::kernel::{Inner, SimKernel};

/// The descriptors by number: the process has them without knowing.
#[derive(Debug, Default)]
pub(crate) struct Given(Mutex<BTreeMap<i32, OwnedFd>>);

impl Inner {
    /// Keeps a descriptor that a program made.
    pub(crate) fn give(&self, fd: OwnedFd) {
        self.given.0.lock().unwrap_or_else(PoisonError::into_inner).insert(fd.as_raw_fd(), fd);
    }
}

impl SimKernel {
    /// Takes a descriptor that a program made with `bpf_sys_bpf`, by the number that the program left somewhere: the loader of a
    /// light skeleton in its context. Until it is taken, or the program closes it, the kernel keeps it open.
    ///
    /// ```
    /// let sim = skep_sim::SimKernel::new();
    /// assert!(sim.take_descriptor(100).is_none()); // no program made it
    /// ```
    pub fn take_descriptor(&self, number: i32) -> Option<OwnedFd> {
        self.0.given.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }
}

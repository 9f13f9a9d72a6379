//! Things that happen in a simulated kernel and make programs run.
//!
//! A kernel runs programs on packets, system calls and hooks; a test run (`BPF_PROG_TEST_RUN`) runs one program and only of
//! some kinds. An [`Event`] is what happens at an attach point, with typed arguments, and [`SimKernel::fire`] lets it happen: every
//! program that is attached there runs, in the kernel's order, and the outcome says what came of it.

use std::error::Error;
use std::fmt;

use skep_sys::abi::Errno;

use crate::kernel::SimKernel;
use crate::vm::Fault;

/// Something that can happen in a simulated kernel.
pub trait Event {
    /// What comes of it.
    type Outcome;

    /// Lets it happen. [`SimKernel::fire`] is the way to call this.
    ///
    /// # Errors
    /// When it cannot happen, or a program was stopped by a fault.
    fn happen(self, kernel: &SimKernel) -> Result<Self::Outcome, EventError>;
}

/// Why an event has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// A program was stopped.
    Fault(Box<Fault>),
    /// It cannot happen: there is no such device, socket or cgroup, or what was given is of the wrong form.
    Errno {
        /// What is wrong, as a kernel would say it.
        errno: Errno,
        /// What it is about.
        what: String,
    },
}

impl EventError {
    /// That something that an event names cannot be found, or has the wrong form.
    pub(crate) fn new(errno: Errno, what: impl Into<String>) -> EventError {
        EventError::Errno { errno, what: what.into() }
    }

    /// The errno, when no program is to blame.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            EventError::Errno { errno, .. } => Some(*errno),
            EventError::Fault(_) => None,
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventError::Fault(fault) => fault.fmt(f),
            EventError::Errno { errno, what } => write!(f, "{what}: {errno}"),
        }
    }
}

impl Error for EventError {}

impl From<Box<Fault>> for EventError {
    fn from(fault: Box<Fault>) -> EventError {
        EventError::Fault(fault)
    }
}

impl SimKernel {
    /// Lets something happen: the programs that are attached to it run.
    ///
    /// # Errors
    /// [`EventError::Fault`] when a program did what it must not: the same that [`last_fault`](SimKernel::last_fault) answers
    /// then. [`EventError::Errno`] when the event cannot happen.
    pub fn fire<E: Event>(&self, event: E) -> Result<E::Outcome, EventError> {
        event.happen(self)
    }
}

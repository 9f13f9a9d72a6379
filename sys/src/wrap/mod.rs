//! Backends around a backend, for tests and for looking at what a load does.

mod brief;
mod call_log;
mod command;
mod delegate;
mod fault;

pub use call_log::{CallLog, CallRecord, Calls};
pub use command::Command;
pub use fault::{FaultInjection, Faults};

/// What backends are made of that do the same with themselves.
#[doc(hidden)]
pub mod parts {
    pub use super::brief::{Brief, Names};
    pub use super::delegate::{Answer, Around, Described, wrapper};
}

#[cfg(test)]
mod tests;

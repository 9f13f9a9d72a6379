//! Backends around a backend, for tests and for looking at what a load does.

mod brief;
mod call_log;
mod delegate;
mod fault;

pub use call_log::{CallLog, CallRecord, Calls};
pub use fault::{FaultInjection, Faults};

#[cfg(test)]
mod tests;

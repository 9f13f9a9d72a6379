use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::delegate::{Around, wrapper};
use crate::abi::Errno;
use crate::backend::Backend;

/// A backend that records every call of another. The record grows until it is taken.
#[derive(Debug)]
pub struct CallLog {
    inner: Arc<dyn Backend>,
    calls: Calls,
}

/// Reads what a [`CallLog`] recorded. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<CallRecord>>>);

/// One call. It prints as `map_create hash "stats" key=4 value=8 max=1 flags=0x0 = ENOMEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallRecord {
    /// Name of the [`Backend`] method.
    pub command: &'static str,
    /// Arguments in a few words: names, sizes, lengths of slices, numbers of descriptors.
    pub arguments: String,
    /// The error that was answered.
    pub failed: Option<Errno>,
}

impl CallLog {
    /// Wraps a backend.
    pub fn around(inner: Arc<dyn Backend>) -> (CallLog, Calls) {
        let calls = Calls::default();
        (CallLog { inner, calls: calls.clone() }, calls)
    }
}

impl Calls {
    /// The calls since the beginning or the last time that they were taken.
    pub fn take(&self) -> Vec<CallRecord> {
        std::mem::take(&mut *self.records())
    }

    /// Number of calls recorded.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Whether there was no call.
    pub fn is_empty(&self) -> bool {
        self.records().is_empty()
    }

    /// Number of recorded calls of one command.
    pub fn count(&self, command: &str) -> usize {
        self.records().iter().filter(|record| record.command == command).count()
    }

    fn records(&self) -> MutexGuard<'_, Vec<CallRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command)?;
        if !self.arguments.is_empty() {
            write!(f, " {}", self.arguments)?;
        }
        match self.failed {
            Some(errno) => write!(f, " = {errno:?}"),
            None => f.write_str(" = ok"),
        }
    }
}

impl Around for CallLog {
    const DESCRIBES: bool = true;

    fn inner(&self) -> &Arc<dyn Backend> {
        &self.inner
    }

    fn before(&self, _: &'static str) -> Option<Errno> {
        None
    }

    fn after(&self, command: &'static str, arguments: String, failed: Option<Errno>) {
        self.calls.records().push(CallRecord { command, arguments, failed });
    }
}

wrapper!(CallLog);

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::brief::Names;
use super::delegate::{Around, Described};
use crate::abi::Errno;
use crate::backend::Backend;

/// A backend that records every call of another. The record grows until it is taken.
///
/// Descriptors are numbered in the order in which calls make them or name them first, so that the text of a
/// deterministic run is the same each time:
///
/// ```
/// use skep_sys::abi::{Errno, MapType};
/// use skep_sys::request::MapCreate;
/// use skep_sys::wrap::CallLog;
/// use skep_sys::{Backend, Kernel};
///
/// #[derive(Debug)]
/// struct Nothing; // a backend that can do nothing
/// impl Backend for Nothing {
///     fn name(&self) -> &str {
///         "nothing"
///     }
/// }
///
/// let (log, calls) = CallLog::around(std::sync::Arc::new(Nothing));
/// let kernel = Kernel::new(log);
/// assert_eq!(kernel.map_create(&MapCreate::new(MapType::HASH, 4, 8, 1)).unwrap_err(), Errno::ENOSYS);
/// assert_eq!(calls.text(), "map_create hash \"\" key=4 value=8 max=1 flags=0x0 = ENOSYS\n");
/// ```
#[derive(Debug)]
pub struct CallLog {
    inner: Arc<dyn Backend>,
    calls: Calls,
}

/// Reads what a [`CallLog`] recorded. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    state: Arc<Mutex<State>>,
    names: Names,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<CallRecord>,
    filter: Option<Filter>,
}

struct Filter(Box<dyn Fn(&CallRecord) -> bool + Send>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// One call. It prints as `map_create hash "stats" key=4 value=8 max=1 flags=0x0 = fd1`, or at its end the name of the
/// error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallRecord {
    /// Name of the [`Backend`] method: that of a [`Command`](super::Command).
    pub command: &'static str,
    /// Arguments in a few words: names, numbers, the first 64 bytes of keys, values, packets and contexts.
    pub arguments: String,
    /// What was answered: `ok`, the descriptor that was made, what was read, or the name of the error.
    pub result: String,
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
        std::mem::take(&mut self.state().records)
    }

    /// Takes the calls as text, a line each, such as a golden file holds.
    pub fn text(&self) -> String {
        self.take().iter().map(|record| format!("{record}\n")).collect()
    }

    /// Records only such calls from now on.
    ///
    /// ```
    /// # let calls = skep_sys::wrap::Calls::default();
    /// calls.keep(|call| call.command.starts_with("map_") || call.failed.is_some());
    /// ```
    pub fn keep(&self, filter: impl Fn(&CallRecord) -> bool + Send + 'static) {
        self.state().filter = Some(Filter(Box::new(filter)));
    }

    /// Records all calls again.
    pub fn keep_all(&self) {
        self.state().filter = None;
    }

    /// Number of calls recorded.
    pub fn len(&self) -> usize {
        self.state().records.len()
    }

    /// Whether there was no call.
    pub fn is_empty(&self) -> bool {
        self.state().records.is_empty()
    }

    /// Number of recorded calls of one command.
    pub fn count(&self, command: impl AsRef<str>) -> usize {
        self.state().records.iter().filter(|record| record.command == command.as_ref()).count()
    }

    /// For backends that record their own calls.
    #[doc(hidden)]
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// For backends that record their own calls.
    #[doc(hidden)]
    pub fn add(&self, call: Described, failed: Option<Errno>) {
        let Described { command, arguments, result } = call;
        let record = CallRecord { command, arguments, result, failed };
        let mut state = self.state();
        if state.filter.as_ref().is_none_or(|Filter(keeps)| keeps(&record)) {
            state.records.push(record);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command)?;
        if !self.arguments.is_empty() {
            write!(f, " {}", self.arguments)?;
        }
        write!(f, " = {}", self.result)
    }
}

impl Around for CallLog {
    type Inner = dyn Backend;

    fn inner(&self) -> &(dyn Backend + 'static) {
        &*self.inner
    }

    fn describes(&self) -> Option<Names> {
        Some(self.calls.names())
    }

    fn before(&self, _: &'static str) -> Option<Errno> {
        None
    }

    fn after(&self, call: Described, failed: Option<Errno>) {
        self.calls.add(call, failed);
    }
}

super::delegate::wrapper!(CallLog);

//! How much memory of the process the values of all maps take, which programs of strangers must not use up.
//!
//! Values are made when they are first written, so that a map of a billion elements costs nothing. What they take is
//! counted as they come and go: roughly, by their number and size.

use std::sync::atomic::{AtomicUsize, Ordering};

use skep_sys::abi::Errno;

/// What a value costs beside its own bytes and its key's.
pub(super) const BESIDE: usize = 128;

/// Counts for all maps of one kernel.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: usize,
    used: AtomicUsize,
}

impl Meter {
    pub(crate) fn new(limit: usize) -> Meter {
        Meter { limit, used: AtomicUsize::new(0) }
    }

    /// `ENOMEM` when so many bytes more are too many.
    pub(crate) fn admit(&self, more: usize) -> Result<(), Errno> {
        let after = self.used.load(Ordering::Relaxed).saturating_add(more);
        if after > self.limit { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Whether little is left, so that what nobody holds any more should go.
    pub(crate) fn is_short(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit / 4 * 3
    }

    /// Counts what was `before` and is `now`.
    pub(super) fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.used.fetch_add(now - before, Ordering::Relaxed); // not negative
        } else {
            self.used.fetch_sub(before - now, Ordering::Relaxed); // it was counted
        }
    }
}

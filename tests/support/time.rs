//! Waiting for what a kernel does a little later.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long something may take: far longer than it does, since a busy machine may let a CPU wait for seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so. Fails where it is not in [`PATIENCE`], and says what is so instead.
#[track_caller]
pub(crate) fn eventually<W: Display>(mut is_so: impl FnMut() -> bool, instead: impl Fn() -> W) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", instead());
        std::thread::sleep(Duration::from_millis(5));
    }
}

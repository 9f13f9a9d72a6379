//! Waiting for events: ring buffers, perf buffers, and whatever else has a descriptor that says when there are some.
//!
//! Each reader is a descriptor ([`AsFd`]) for any event loop, waits by itself with a time-out, and is a
//! [`Pollable`], of which the `tokio` feature makes a stream (`AsyncEvents`).
//!
//! # Event loops that are told once
//! `epoll` with `EPOLLET`, and with it `mio` and `tokio`, tell of a change and not of a state. A loop then has to take events
//! until there are none, and where the loop keeps a readiness of its own (`AsyncFd::clear_ready`), to look once more after
//! it has cleared that: an event that came in between is not told of again. A loop that is told of the state (`poll`, `epoll`
//! without `EPOLLET`) may be told again and again of a record that a program has reserved and not finished yet.

#[cfg(feature = "tokio")]
mod tokio;
mod wait;

use std::io;
use std::os::fd::AsFd;

#[cfg(feature = "tokio")]
pub use self::tokio::{AsyncEvents, Next};
pub(crate) use wait::{Deadline, Waiter};

/// A source of events whose descriptor becomes readable when there are new ones.
///
/// [`RingBuffer`](crate::ring::RingBuffer), [`RingPoller`](crate::ring::RingPoller) and
/// [`PerfBuffer`](crate::perf::PerfBuffer) are; a type of a user that is one gets an async
/// stream with the `tokio` feature.
pub trait Pollable: AsFd {
    /// An event, in memory of its own.
    type Event;
    /// Why events cannot be had.
    type Error: From<io::Error>;

    /// Whether there is an event now.
    ///
    /// When there is none, one that comes after the call makes the descriptor readable anew, also for those who are told of
    /// changes only.
    ///
    /// # Errors
    /// Why it cannot be known.
    fn is_ready(&mut self) -> Result<bool, Self::Error>;

    /// Takes the next event; none when [`is_ready`](Pollable::is_ready) would say no, with the same promise.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn next_event(&mut self) -> Result<Option<Self::Event>, Self::Error>;
}

//! What ring buffers do, on any kernel: bodies that the test binaries run on theirs.

#![allow(clippy::print_stdout)]

mod awaited;
mod ends;
mod overwrite;
mod poller;
mod records;
mod user;
mod waiting;

use std::sync::Arc;

use skep::map::Map;
use skep::ring::{RingBuffer, UserRingBuffer};
use skep::sim::RingQuery;
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapFlags, RingFlags};

/// A kernel, and how its programs are made to use rings.
pub(crate) trait Lab: Sync {
    fn kernel(&self) -> &Kernel;

    /// A ring buffer that is written on request; nothing where the kernel has no such.
    fn ring(&self, size: u32, flags: MapFlags) -> Option<Rig>;

    /// A ring buffer, and what puts an unfinished record of 1 and a finished one of 2 into it. That answers, once they are
    /// there, what finishes the first.
    fn busy(&self) -> Option<(Map, Start)>;

    /// A user ring buffer that is read on request.
    fn user_ring(&self, size: u32) -> Option<UserRig>;
}

pub(crate) type Finish = Box<dyn FnOnce()>;
pub(crate) type Start = Box<dyn FnOnce() -> Finish>;

/// What programs do.
pub(crate) trait Producer: Send + Sync {
    fn output(&self, record: &[u8], flags: RingFlags) -> Result<(), Errno>;
    /// Reserves a record of 24 bytes, and submits or discards it.
    fn reserve(&self, words: [u64; 3], discard: bool, flags: RingFlags) -> Result<(), Errno>;
    fn query(&self, what: RingQuery) -> u64;
}

#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) map: Map,
    pub(crate) producer: Arc<dyn Producer>,
}

impl Rig {
    fn open(&self) -> RingBuffer {
        self.map.typed().unwrap()
    }

    #[track_caller]
    fn output(&self, record: &[u8]) {
        self.producer.output(record, NONE).unwrap();
    }
}

/// What programs do with samples.
pub(crate) trait Drainer: Send + Sync {
    /// Takes samples, at most `most`, and answers the first word of each; all bits for those that have none.
    fn drain(&self, most: usize, flags: RingFlags) -> Result<Vec<u64>, Errno>;
}

#[derive(Clone)]
pub(crate) struct UserRig {
    pub(crate) map: Map,
    pub(crate) drainer: Arc<dyn Drainer>,
}

impl UserRig {
    fn open(&self) -> UserRingBuffer {
        self.map.typed().unwrap()
    }

    fn drain(&self) -> Vec<u64> {
        self.drainer.drain(usize::MAX, NONE).unwrap()
    }
}

pub(crate) type Body = fn(&dyn Lab);

crate::support::bodies! { ($) ring_conformance;
    records: records::sizes,
    records_wrap_around: records::wrap,
    records_fill_the_ring: records::full,
    discarded_records_are_skipped: records::discards,
    unfinished_records_hold_up: records::busy,
    records_are_lent: records::lent,
    many_at_once: records::many,
    typed_records: records::typed,
    rings_are_event_sources: records::source,
    records_of_many_threads: records::threads,
    one_consumer: ends::one_consumer,
    rings_are_opened_anyhow: ends::opened,
    memory_is_not_mapped_otherwise: ends::other_mappings,
    timeouts: waiting::timeouts,
    wakeups: waiting::wakeups,
    readiness: waiting::readiness,
    readiness_of_the_unfinished: waiting::readiness_of_the_unfinished,
    readiness_of_room: waiting::readiness_of_room,
    several_rings: poller::several,
    rings_take_turns: poller::fair,
    overwriting: overwrite::keeps_the_newest,
    overwriting_among_threads: overwrite::threads,
    samples: user::samples,
    samples_fill_the_ring: user::full,
    samples_of_many_threads: user::threads,
    room_is_waited_for: user::waits,
    one_producer: user::one_producer,
    awaited_records: awaited::records,
    awaited_records_survive_cancellation: awaited::cancelled,
    awaited_rings: awaited::several,
}

const NONE: RingFlags = RingFlags::empty();

/// Bytes that tell a record from others.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number.wrapping_mul(31) ^ at.wrapping_mul(7) ^ (at >> 8)) as u8).collect()
}

/// What a record of that length takes in the ring.
fn footprint(len: usize) -> u64 {
    (len as u64 + 8).next_multiple_of(8)
}

/// A ring, unless the kernel has none.
macro_rules! rig {
    ($lab:expr, $size:expr) => {
        match $lab.ring($size, skep::sys::abi::MapFlags::empty()) {
            Some(rig) => rig,
            None => return,
        }
    };
}
use rig;

//! Ring buffers: records that programs write and a process reads in order, and samples the other way round.
//!
//! | type | kind of map | since |
//! |---|---|---|
//! | [`RingBuffer`] | `BPF_MAP_TYPE_RINGBUF`: programs write, the process reads | Linux 5.8 |
//! | [`TypedRingBuffer`] | the same, with records of one type | |
//! | [`RingPoller`] | several of them, waited for together | |
//! | [`UserRingBuffer`] | `BPF_MAP_TYPE_USER_RINGBUF`: the process writes, programs read | Linux 6.1 |
//!
//! They are made of a [`Map`](crate::map::Map), however that was opened:
//!
//! ```
//! use skep::map::Map;
//! use skep::ring::RingBuffer;
//! use skep::sim::SimKernel;
//! use skep::sys::abi::{MapType, RingFlags};
//! use skep::sys::request::MapCreate;
//!
//! let sim = SimKernel::new();
//! let map = Map::create(&skep::Kernel::new(sim.clone()), &MapCreate::new(MapType::RINGBUF, 0, 0, 4096))?;
//! let mut ring: RingBuffer = map.typed()?;
//!
//! // What programs do with bpf_ringbuf_output.
//! sim.ring_output(map.as_map_fd(), b"hello", RingFlags::empty())?;
//! sim.ring_output(map.as_map_fd(), b"again", RingFlags::empty())?;
//!
//! // No copy: the record is lent as it lies in the ring, and given back when it is dropped.
//! let record = ring.next()?.ok_or("no record")?;
//! assert_eq!(&*record, b"hello");
//! drop(record);
//! assert_eq!(ring.for_each(|record| assert_eq!(record, b"again"))?, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One consumer, one producer
//! A ring has one consumer. A second one would make room for the kernel to write over the records that the first has lent, so
//! within a process there is one reader of a map at a time (and one writer of a user ring buffer), and making another fails
//! until it is dropped. That other processes keep away is up to whoever gives them the map; where one does
//! not, that is noticed as an error ([`RingFault::Moved`]), sooner or later.
//!
//! # When the descriptor is ready
//! Programs decide by the flags with which they end a record ([`RingFlags`](skep_sys::abi::RingFlags)). Without flags, who waits
//! is woken by a record that comes when all records before it were released; `BPF_RB_FORCE_WAKEUP` always wakes;
//! a record with `BPF_RB_NO_WAKEUP` is found with the next that does, or by looking. The waiting functions here look before
//! they sleep and once more when the time is over. Whoever waits in an event loop of their own has to look until nothing is
//! left before they wait again: see [`poll`](crate::poll).

mod buffer;
mod error;
mod poller;
mod record;
mod source;
mod typed;
mod user;

pub use buffer::{Copies, RingBuffer};
pub use error::RingError;
pub use poller::{RingPoller, RingToken};
pub use record::Record;
pub use skep_sys::ring::{Readiness, RingFault, RingPositions, RingSample};
pub use typed::{TypedRecord, TypedRingBuffer};
pub use user::UserRingBuffer;

/// A [`RingBuffer`] whose records are awaited (feature `tokio`).
#[cfg(feature = "tokio")]
pub type AsyncRingBuffer = crate::poll::AsyncEvents<RingBuffer>;

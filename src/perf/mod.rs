//! Perf buffers: records that programs write with `bpf_perf_event_output`, one ring per CPU; and counters.
//!
//! | type | what it is | file |
//! |---|---|---|
//! | [`PerfBuffer`] | the rings of all CPUs behind a map, read by callback, one by one, or each on its own | `buffer.rs` |
//! | [`PerfCpu`] | the ring of one CPU | `cpu.rs` |
//! | [`PerfRecord`] | what is read: a sample, or how much was lost | `record.rs` |
//! | [`PerfCounters`] | a counter per CPU, for programs and for user space | `counters.rs` |
//!
//! ```
//! use std::time::Duration;
//!
//! use skep::Kernel;
//! use skep::map::Map;
//! use skep::perf::{PerfBuffer, PerfBufferOptions, PerfRecord};
//! use skep::sim::SimKernel;
//! use skep::sys::abi::MapType;
//! use skep::sys::request::MapCreate;
//! # use std::os::fd::AsFd;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sim = SimKernel::new();
//! let kernel = Kernel::new(sim.clone());
//! let events = Map::create(&kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, 2))?;
//! let mut buffer = PerfBuffer::new(&events, PerfBufferOptions::new().pages(8))?;
//!
//! // In the place of a program.
//! sim.perf_event_output(events.as_fd(), None, 1, b"to whom it may concern")?;
//!
//! let mut seen = Vec::new();
//! buffer.poll(Some(Duration::from_secs(1)), |record| match record {
//!     PerfRecord::Sample(sample) => seen.push((sample.cpu, sample.data[..22].to_vec())),
//!     PerfRecord::Lost { cpu, count, .. } => println!("{count} records of CPU {cpu} were lost"),
//!     _ => {}
//! })?;
//! assert_eq!(seen, [(1, b"to whom it may concern".to_vec())]);
//! # Ok(())
//! # }
//! ```
//!
//! A [ring buffer](https://docs.kernel.org/bpf/ringbuf.html) (Linux 5.8) keeps the order of records of all CPUs and
//! shares its memory between them; perf buffers are for older kernels, for programs that have them, and for keeping what
//! was last (see [`PerfBufferOptions::overwritable`]).

mod buffer;
mod counters;
mod cpu;
mod error;
mod options;
mod record;
mod source;

pub use buffer::{CpuChanges, PerfBuffer};
pub use counters::PerfCounters;
pub use cpu::PerfCpu;
pub use error::PerfError;
pub use options::{PerfBufferOptions, Wakeup};
pub use record::{OwnedPerfRecord, PerfRecord, PerfSample, RawPerfRecord};

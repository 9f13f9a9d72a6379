//! The seam between skep and a kernel.
//!
//! [`abi`] is the vocabulary of bpf(2): pure numbers and names, the same on every machine. [`request`] holds what a
//! call is asked and answers. [`Backend`] is the object-safe trait that a kernel implements: the Linux one lives
//! here (the only place that makes system calls and the only one with unsafe code), simulated ones in `skep-sim`.
//! [`Kernel`] is the handle that everything above uses.
//!
//! ```
//! use skep_sys::abi::{Errno, MapType};
//! use skep_sys::request::MapCreate;
//! use skep_sys::{Backend, Kernel};
//!
//! /// A kernel with 16 CPUs that can do nothing else.
//! #[derive(Debug)]
//! struct Sixteen;
//!
//! impl Backend for Sixteen {
//!     fn name(&self) -> &str {
//!         "sixteen"
//!     }
//!
//!     fn possible_cpus(&self) -> Result<u32, Errno> {
//!         Ok(16)
//!     }
//! }
//!
//! let kernel = Kernel::new(Sixteen);
//! assert_eq!(kernel.possible_cpus(), Ok(16));
//! // What a backend does not say, it does not have.
//! let refused = kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1));
//! assert_eq!(refused.err(), Some(Errno::ENOSYS));
//! ```
//!
//! # What is where
//!
//! | for | there is |
//! |---|---|
//! | the running kernel | [`Kernel::linux`] (on Linux) |
//! | maps | [`MapFd`], whose sizes are those that the kernel reported; [`SharedMemory`] for those that are mapped |
//! | programs, links, types, iterators | [`LoadedProgram`], [`LinkFd`], [`BtfFd`], [`IterFd`] |
//! | rings | [`ring`], [`PerfRing`], and [`Poller`] to wait for them |
//! | what a kernel can do | [`Kernel::has`] with a [`Feature`]; [`Probe`] has three outcomes |
//! | rights in a user namespace | [`Token`], [`Kernel::with_token`] |
//! | tests | [`wrap`]: backends around a backend that log calls or make them fail |
//!
//! Nothing here has raw pointers, numbers for descriptors, or `union bpf_attr` in its signatures. Errors are
//! [`abi::Errno`], with the numbers of Linux on every machine.

pub mod abi;
mod backend;
mod batch;
mod btf_fd;
mod iter_fd;
mod kernel;
mod link_fd;
#[cfg(target_os = "linux")]
mod linux;
mod map_descriptors;
mod map_fd;
#[cfg(target_os = "linux")]
pub mod passing;
mod perf_event;
mod perf_ring;
mod poller;
mod probe;
mod program_fd;
pub mod request;
pub mod ring;
mod shared;
mod stats;
mod token;
mod touched;
pub mod wrap;

pub use backend::{Backend, ObjectKind, Permissions};
pub use batch::{BatchCursor, BatchError};
pub use btf_fd::BtfFd;
pub use iter_fd::IterFd;
pub use kernel::{Ids, Kernel, KernelBtfError};
pub use link_fd::LinkFd;
#[cfg(target_os = "linux")]
pub use linux::LinuxBackend;
pub use map_fd::{MapError, MapFd, MapRef, MapShape};
pub use perf_event::{PerfCount, PerfEventFd};
pub use perf_ring::{PerfRing, PerfRingError, PerfRingMemory, PerfRingRecord};
pub use poller::{Poller, Ready};
pub use probe::{Feature, Inconclusive, Probe};
pub use program_fd::LoadedProgram;
pub use shared::{SharedMemory, SharedMemoryError};
pub use stats::StatsGuard;
pub use token::Token;
pub use touched::TouchedPages;

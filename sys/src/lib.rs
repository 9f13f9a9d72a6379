//! The seam between skep and a kernel.
//!
//! [`abi`] is the vocabulary of bpf(2): pure numbers and names, the same on every machine. [`request`] holds what a
//! call is asked and answers. [`Backend`] is the object-safe trait that a kernel implements: the Linux one lives
//! here (the only place that makes system calls and the only one with unsafe code), simulated ones in `skep-sim`.
//! [`Kernel`] is the handle that everything above uses.

pub mod abi;
mod backend;
pub mod request;

pub use backend::{Backend, ObjectKind, Permissions};

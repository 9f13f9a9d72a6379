//! Attaching programs: a module per hook, each with an `attach` function that answers a [`Link`].
//!
//! | hook | what it takes |
//! |---|---|
//! | [`xdp`] | a network device, as name or index |
//! | [`raw_tracepoint`] | the name of a tracepoint |
//! | [`struct_ops`] | a map with a table of programs, and what is to be in it |
//! | [`tracing`] | nothing: BTF tracepoints, fentry, fexit, fmod_ret, LSM and freplace programs name their target at load |
//!
//! The options of a hook are a type with a constructor for what it requires and setters for the rest; what it requires
//! converts into it, so that the common case is `xdp::attach(&prog, "eth0")`.
//!
//! # Where a new hook goes
//! A file beside `xdp.rs` with `Options`, `attach` and the hints for its error numbers; a `pub mod` line here; a row
//! in [`KINDS`]; a case in `tests/conformance`, which fails for a row that it does not know.

#![forbid(unsafe_code)]

mod error;
mod kinds;
mod link;
pub mod raw_tracepoint;
pub mod struct_ops;
pub mod tracing;
pub mod xdp;

pub use error::LinkError;
pub use kinds::{Hook, KINDS, LinkKind};
pub use link::Link;

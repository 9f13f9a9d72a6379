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
//! ```
//! use skep_asm::{Assembler, Reg};
//! use skep_link::xdp;
//! use skep_sys::abi::ProgType;
//! use skep_sys::request::ProgLoad;
//!
//! let kernel = skep_sim::kernel();
//! let pass = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish()?; // XDP_PASS
//! let program = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &pass, "GPL"), None)?;
//! let link = xdp::attach(&program, "lo")?;
//! link.pin("/sys/fs/bpf/pass")?; // without it, dropping the link detaches
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Errors say which hook of which kernel refused what, and what to do ([`LinkError`]). Since when Linux has a hook, and whether
//! its program can be exchanged, is in [`KINDS`].
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

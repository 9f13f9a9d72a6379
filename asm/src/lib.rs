//! eBPF instructions: encode, decode, build and disassemble.
//!
//! A program is a slice of [`Insn`], one per 8-byte slot, counted as the kernel counts them: a 64-bit immediate load
//! takes two. [`decode`] and [`encode`] translate between slots and bytes of either [`Endian`] and never lose a bit,
//! whatever the bytes are.
//!
//! This crate depends on no other part of skep, does no I/O and holds no unsafe code.

#![forbid(unsafe_code)]

mod endian;
mod error;
mod insn;
pub mod opcode;
pub mod pseudo;
mod reg;

pub use endian::Endian;
pub use error::DecodeError;
pub use insn::{Insn, decode, encode};
pub use reg::Reg;

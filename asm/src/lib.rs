//! eBPF instructions: encode, decode, build and disassemble.
//!
//! A program is a slice of [`Insn`], one per 8-byte slot, counted as the kernel counts them: a 64-bit immediate load
//! takes two. [`decode`] and [`encode`] translate between slots and bytes of either [`Endian`] and never lose a bit,
//! whatever the bytes are. On top of that:
//!
//! - [`Op`] is the typed view of one instruction. It covers the whole instruction set of RFC 9669 (v1 to v4) and what
//!   Linux added since: address-space casts, `may_goto`, load-acquire and store-release, indirect jumps;
//! - [`Assembler`] builds programs, with labels and checked distances;
//! - [`disassemble`] prints them as `llvm-objdump` does, [`kernel_text`] as the kernel does.
//!
//! ```
//! use skep_asm::{Assembler, Cond, Endian, Reg, decode, disassemble, encode};
//!
//! let program = Assembler::new()
//!     .mov64_imm(Reg::R0, 0)
//!     .jmp64_imm(Cond::Eq, Reg::R1, 0, "null")
//!     .mov64_imm(Reg::R0, 1)
//!     .label("null")
//!     .exit()
//!     .finish()?;
//! assert_eq!(program.len(), 4);
//! let second = disassemble(&program).nth(1).expect("there are four lines");
//! assert!(second.to_string().contains("if r1 == 0x0 goto +0x1"), "{second}");
//! assert_eq!(decode(&encode(&program, Endian::Big), Endian::Big)?, program);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate depends on no other part of skep, does no I/O and holds no unsafe code.

#![forbid(unsafe_code)]

mod assembler;
mod disasm;
mod endian;
mod error;
mod insn;
mod kernel_text;
mod op;
pub mod opcode;
pub mod pseudo;
mod reg;

pub use assembler::Assembler;
pub use disasm::{Disassembly, Line, disassemble};
pub use endian::Endian;
pub use error::{AsmError, DecodeError, Field};
pub use insn::{Insn, decode, encode};
pub use kernel_text::{KernelNames, kernel_text};
pub use op::{AluOp, AtomicOp, Cond, Imm64, Op, Operand, Size, Slots, SwapWidth, Width};
pub use reg::Reg;

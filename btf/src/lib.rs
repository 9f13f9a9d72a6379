//! BTF, the type information of BPF objects and of the kernel: read in place, never inflated.
//!
//! ```
//! use skep_btf::{Btf, Kind};
//! # let bytes: &[u8] = &[
//! #     0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 5, 0, 0, 0,
//! #     1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 32, 0, 0, 1, 0, b'i', b'n', b't', 0,
//! # ];
//! let btf = Btf::parse(bytes)?;
//! let id = btf.find(b"int", Kind::INT).expect("the blob has it");
//! assert_eq!(btf.ty(id)?.int().map(|int| int.bits), Some(32));
//! assert_eq!(btf.resolve_size(id)?, 4);
//! # Ok::<(), skep_btf::BtfError>(())
//! ```
//!
//! - [`Btf`] is a parsed blob: bytes with a small index. [`Btf::find`], [`Btf::named`] and [`Btf::ty`] answer [`Type`]s,
//!   which are views; split BTF has a base.
//! - [`relo`] is the CO-RE engine: what a program has to become to fit other types.
//! - [`ExtInfo`] reads `.BTF.ext`: functions, lines and CO-RE relocations of an object.
//! - [`Datum`] shows bytes by their type.
//! - [`BtfBuilder`] makes BTF, [`BtfEdit`] changes it, [`sanitize`] leaves out what an old kernel does not know.
//!
//! Blobs are untrusted: whatever the bytes, nothing panics, and work and memory are bounded by their length. Facts are from
//! `include/uapi/linux/btf.h`; where the kernel and libbpf differ, libbpf's rules hold for objects.
#![doc(test(attr(deny(warnings))))]
#![forbid(unsafe_code)]

mod btf;
mod build;
mod check;
mod datum;
mod edit;
mod error;
mod ext;
mod find;
mod kind;
mod names;
pub mod relo;
mod resolve;
mod sanitize;
mod types;
mod walk;
mod wire;

pub use btf::{Btf, Types};
pub use build::BtfBuilder;
pub use datum::Datum;
pub use edit::BtfEdit;
pub use error::BtfError;
pub use ext::{
    Block, Blocks, CoreRelo, CoreReloKind, ExtInfo, ExtRecord, ExtSection, FuncInfo, LineInfo, Record,
    Records,
};
pub use find::essential_name;
pub use kind::{IntEncoding, Kind, Linkage, StrOffset, TypeId};
pub use sanitize::{KernelBtfFeatures, sanitize};
pub use types::{
    Array, Enumerator, Enumerators, Int, Member, Members, Param, Params, SectionVar, SectionVars, Type,
};

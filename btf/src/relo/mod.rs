//! CO-RE: what a program compiled against one kernel's types must change to run on another.
//!
//! A compiler leaves a [`CoreRelo`](crate::CoreRelo) beside each instruction that depends on how a type is laid out. A
//! [`Resolver`] finds the same type in a target's BTF and makes a [`Decision`], which [`apply`] writes into the
//! instruction. The rules are libbpf's: which types are [candidates](CandidateSource), when a field is the same
//! field, what an ambiguity is, and that what cannot be resolved becomes an instruction that the verifier refuses, so
//! that a program may guard it with a test for existence.
//!
//! BTF may be hostile. Nesting is limited as in libbpf, and the work that one [`Resolver`] does in all is limited too.

mod access;
mod decision;
mod error;
mod find;
mod patch;
mod resolver;
mod target;
mod types;
mod value;

pub use access::{Access, AccessName, Accessor};
pub use decision::{Decision, MemSize, Mismatch, Outcome, Rejection, Target, Why};
pub use error::{CoreError, CoreErrorKind, PatchError, Side, TargetError};
pub use patch::{Applied, POISON, apply};
pub use resolver::Resolver;
pub use target::{Candidate, CandidateSource, SkippedModule, TargetModule, Targets};
pub use types::types_compatible;

//! What was decided for a relocation, and why.

use std::fmt;
use std::sync::Arc;

use super::access::{Access, Name, TypeName};
use super::target::Candidate;
use crate::{CoreReloKind, TypeId};

/// Rejected candidates that a decision remembers. There are rarely more than two.
pub(super) const MAX_REJECTED: usize = 16;

/// What is to be done with the instruction of one relocation.
///
/// It remembers types by their ids and makes text only when it is printed: `{}` gives one line as
/// `<byte_off> [7] struct sample.a (0:0 @ offset 0) -> [114] struct sample.a (0:2 @ offset 8): 0 -> 8`, and
/// [`why`](Self::why) says why there is nothing in the target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decision {
    /// Number of the relocation, as the caller counts.
    pub index: usize,
    /// Offset of the instruction, in bytes from the start of its section.
    pub insn_off: u32,
    /// What the object asks for.
    pub local: Access,
    /// What that is in the target.
    pub target: Option<Target>,
    /// The value that the compiler put into the instruction.
    pub local_value: u64,
    /// The value for the target. Meaningless when the outcome is [`Outcome::Poisoned`].
    pub new_value: u64,
    /// How the relocation came out.
    pub outcome: Outcome,
    /// Whether the instruction must hold [`local_value`](Self::local_value) before it is changed.
    pub validate: bool,
    /// The sizes of what the instruction accesses, for [`CoreReloKind::FIELD_BYTE_OFFSET`] with a field in the target.
    pub mem_size: Option<MemSize>,
    /// How many candidates were looked at.
    pub candidates: usize,
    /// The candidates that lack what is asked for, at most the first 16.
    pub rejected: Vec<Rejection>,
}

/// The type or field of the target that a relocation resolved to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// The way to it. Where several candidates agree, this is in the first.
    pub access: Access,
    /// The module that it belongs to; `None` for vmlinux.
    pub module: Option<Arc<str>>,
}

/// How a relocation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The target has it; the instruction gets its value.
    Resolved,
    /// The target lacks it, which is the answer: existence, matching and type sizes and ids are then 0.
    Absent,
    /// The target lacks it; the instruction becomes one that the verifier refuses unless it is never reached.
    Poisoned,
    /// It depends on no target ([`CoreReloKind::TYPE_ID_LOCAL`]).
    LocalOnly,
}

/// Sizes in bytes of a field that an instruction loads or stores; for an array, of its innermost elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemSize {
    /// In the object; 0 for a bit field.
    pub local: u32,
    /// In the target; 0 for a bit field.
    pub target: u32,
    /// Whether the access may be made larger or smaller: pointers and unsigned integers may, as the rest of the
    /// register is then 0. Always true when the sizes are equal.
    pub adjustable: bool,
}

/// A candidate that lacks what a relocation asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rejection {
    /// The candidate.
    pub candidate: Candidate,
    /// What it lacks.
    pub mismatch: Mismatch,
}

/// What a candidate lacks. An `accessor` is an index into [`Access::accessors`] of the object's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// No member has the accessor's name.
    NoMember {
        /// The accessor.
        accessor: usize,
        /// The composite of the target.
        type_id: TypeId,
    },
    /// What the accessor looks into has no members in the target.
    NotComposite {
        /// The accessor.
        accessor: usize,
        /// The type in the target.
        type_id: TypeId,
    },
    /// A member has the name, but a type that cannot be read in the same way.
    FieldType {
        /// The accessor.
        accessor: usize,
        /// The member's type in the object.
        local: TypeId,
        /// The member's type in the target.
        target: TypeId,
    },
    /// What the accessor indexes is no array in the target.
    NotArray {
        /// The accessor.
        accessor: usize,
        /// The type in the target.
        type_id: TypeId,
    },
    /// The target's array is too short.
    OutOfBounds {
        /// The accessor.
        accessor: usize,
        /// Length of the target's array.
        len: u32,
    },
    /// The candidate is no enumeration.
    NotEnum {
        /// The type in the target.
        type_id: TypeId,
    },
    /// No enumerator has the name.
    NoEnumerator {
        /// The enumeration of the target.
        type_id: TypeId,
    },
    /// The types are not compatible or do not match.
    Types {
        /// A type of the object.
        local: TypeId,
        /// The type of the target that should correspond to it.
        target: TypeId,
        /// How they differ.
        reason: &'static str,
    },
}

impl Decision {
    /// What the relocation asks.
    pub fn kind(&self) -> CoreReloKind {
        self.local.kind()
    }

    /// Why the target has nothing that corresponds, for an error or a note: `struct task_struct has no field
    /// `foo`: candidates [114] task_struct`. `None` when it has.
    pub fn why(&self) -> Option<Why<'_>> {
        matches!(self.outcome, Outcome::Absent | Outcome::Poisoned).then_some(Why(self))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.local)?;
        if let Some(target) = &self.target {
            let access = &target.access;
            write!(f, " -> {} {}", access.type_id(), TypeName(access.btf(), access.type_id()))?;
            access.write_path(f)?;
            if let Some(module) = &target.module {
                write!(f, " in {}", Name(module.as_bytes()))?;
            }
        }
        match self.outcome {
            Outcome::LocalOnly => write!(f, ": {}", self.new_value),
            Outcome::Resolved => write!(f, ": {} -> {}", self.local_value, self.new_value),
            Outcome::Absent => write!(f, ": {} -> {}, {}", self.local_value, self.new_value, Why(self)),
            Outcome::Poisoned => write!(f, ": poisoned, {}", Why(self)),
        }
    }
}

/// Prints why the target has nothing that corresponds to a relocation; made by [`Decision::why`].
#[derive(Debug, Clone, Copy)]
pub struct Why<'a>(&'a Decision);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = self.0;
        let local = &decision.local;
        let Some(first) = decision.rejected.first() else {
            return write!(f, "the target has no {}", TypeName(local.btf(), local.type_id()));
        };
        first.write(local, f)?;
        f.write_str(": candidates")?;
        for (nth, Rejection { candidate, .. }) in decision.rejected.iter().enumerate() {
            let name = candidate.btf.ty(candidate.id).map_or(&b""[..], |ty| ty.name_bytes());
            write!(f, "{} {} {}", if nth == 0 { "" } else { "," }, candidate.id, Name(name))?;
            if let Some(module) = &candidate.module {
                write!(f, " of {}", Name(module.as_bytes()))?;
            }
        }
        match decision.candidates.saturating_sub(decision.rejected.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Rejection {
    /// What the candidate lacks, as a clause.
    fn write(&self, local: &Access, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = |id| TypeName(local.btf(), id);
        let theirs = |id| TypeName(&self.candidate.btf, id);
        let field = |accessor: usize| {
            Name(local.accessors().get(accessor).map_or(b"", |accessor| local.name_of(accessor)))
        };
        let index = |accessor: usize| local.accessors().get(accessor).map_or(0, |accessor| accessor.index);
        match self.mismatch {
            Mismatch::NoMember { accessor, type_id } => {
                write!(f, "{} has no field `{}`", theirs(type_id), field(accessor))
            }
            Mismatch::NotComposite { accessor, type_id } => {
                write!(f, "{} has no fields, so no `{}`", theirs(type_id), field(accessor))
            }
            Mismatch::FieldType { accessor, local, target } => {
                write!(f, "field `{}` is {} there, not {}", field(accessor), theirs(target), ours(local))
            }
            Mismatch::NotArray { accessor, type_id } => {
                write!(f, "{} is no array to take element {} of", theirs(type_id), index(accessor))
            }
            Mismatch::OutOfBounds { accessor, len } => {
                write!(f, "an array of {len} has no element {}", index(accessor))
            }
            Mismatch::NotEnum { type_id } => write!(f, "{} is no enumeration", theirs(type_id)),
            Mismatch::NoEnumerator { type_id } => {
                write!(f, "{} has no `{}`", theirs(type_id), field(0))
            }
            Mismatch::Types { local, target, reason } => {
                write!(f, "{} and {} there {reason}", ours(local), theirs(target))
            }
        }
    }
}

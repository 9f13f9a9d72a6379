//! The instructions of a program that were poisoned, and whether that matters.

use std::fmt;

use skep_btf::relo::Applied;

use super::plan::{Missing, MissingKind, PlacedDecision, Plan, ProgramPlan};
use super::reach::{self, Reach};

/// An instruction that needs what the target lacks, and so became one that the verifier refuses when it comes to it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Poisoned<'p> {
    /// Index in the program's final instructions.
    pub insn: u32,
    /// What it needs.
    pub what: Poison<'p>,
    /// Whether the verifier comes to it.
    pub reach: Reach,
}

/// What a poisoned instruction needs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Poison<'p> {
    /// A field, type or value of the kernel.
    Core(&'p PlacedDecision),
    /// A kernel function, or a map that is not created.
    Missing(&'p Missing),
}

impl Plan {
    /// The poisoned instructions of a program of this plan, in their order, each with whether the verifier comes to it.
    ///
    /// What the program compares for that is known before it runs: results of `bpf_core_field_exists` and its like,
    /// configuration values, constants in `.rodata`, addresses of kernel functions. Where an object's author guarded an
    /// access with one of these, the verifier follows only the branch that is taken, and never sees the other.
    pub fn poisoned<'p>(&'p self, program: &'p ProgramPlan) -> Vec<Poisoned<'p>> {
        let core = program
            .decisions
            .iter()
            .filter(|placed| matches!(placed.applied, Applied::Poisoned | Applied::PoisonedBySize))
            .map(|placed| (placed.insn, Poison::Core(placed)));
        let missing = program.missing.iter().map(|missing| (missing.insn, Poison::Missing(missing)));
        let mut places: Vec<_> = core.chain(missing).collect();
        if places.is_empty() {
            return Vec::new();
        }
        places.sort_by_key(|(insn, _)| *insn);
        let insns: Vec<u32> = places.iter().map(|(insn, _)| *insn).collect();
        let reached = reach::analyse(self, program, &insns);
        places.into_iter().zip(reached).map(|((insn, what), reach)| Poisoned { insn, what, reach }).collect()
    }
}

impl fmt::Display for Poisoned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl fmt::Display for Poison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Poison::Missing(missing) => match missing.what {
                MissingKind::Map => write!(f, "map `{}` is used and was not created", missing.name),
                MissingKind::KernelFunction => write!(f, "this kernel has no function `{}`", missing.name),
            },
            Poison::Core(placed) => {
                let asked = &placed.decision.local;
                if let (Applied::PoisonedBySize, Some(sizes)) = (placed.applied, placed.decision.mem_size) {
                    return write!(
                        f,
                        "a field has another size in this kernel, {} bytes and not {}, and its type does not allow to \
                         read it with that: use BPF_CORE_READ_BITFIELD or bpf_core_read (asked for {asked})",
                        sizes.target, sizes.local
                    );
                }
                f.write_str("a CO-RE relocation found nothing in this kernel")?;
                if let Some(why) = placed.decision.why() {
                    write!(f, ": {why}")?;
                }
                write!(f, " (asked for {asked})")
            }
        }
    }
}

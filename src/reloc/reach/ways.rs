//! The ways through a program as a whole.

use std::collections::BTreeSet;

use skep_btf::Linkage;

use super::{Flow, Mark};
use crate::reloc::plan::{Plan, ProgramPlan};

/// How the verifier comes through an instruction.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Way {
    pub(in super::super) reached: bool,
    /// It goes on to the next instruction.
    pub(in super::super) falls: bool,
    /// It goes on where the instruction jumps to.
    pub(in super::super) jumps: bool,
}

/// How the verifier comes through each instruction of a program, or through fewer of them. None when the program is too
/// large to find out.
pub(in super::super) fn ways(plan: &Plan, program: &ProgramPlan) -> Option<Vec<Way>> {
    let decisions = program.decisions.iter().map(|placed| placed.insn);
    let mut poisoned: Vec<u32> =
        decisions.chain(program.missing.iter().map(|missing| missing.insn)).collect();
    poisoned.sort_unstable();
    let mut flow = Flow::new(plan, program, &poisoned);
    let way = |mark: &Mark| Way { reached: mark.reached, falls: mark.falls, jumps: mark.jumps };
    flow.run().then(|| flow.marks.iter().map(way).collect())
}

/// The first instructions of global functions.
pub(super) fn global_functions(plan: &Plan, program: &ProgramPlan) -> BTreeSet<u32> {
    let Some(btf) = &plan.btf else { return BTreeSet::new() };
    let global = |record: &[u8]| {
        let word = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let linkage = btf.ty(skep_btf::TypeId(word(4)?)).ok()?.linkage()?;
        (linkage == Linkage::GLOBAL).then(|| word(0))?
    };
    // The program itself is one, of which nobody else makes use.
    program.func_info.iter().filter_map(global).filter(|&start| start != 0).collect()
}

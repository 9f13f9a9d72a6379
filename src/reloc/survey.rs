//! Each program of an object on its own, so that one that does not fit a kernel does not hide the others.

use std::borrow::Cow;

use skep_sys::abi::ProgType;

use super::externs::Externs;
use super::struct_ops::Tables;
use super::{MAX_SIZE, Plan, Prepared, RelocateError, Target, rough_size};
use crate::spec::{ExternIndex, MapRole, ProgramIndex, SlotValue, Spec};

/// Externs that are looked for again without one that is missing, at most.
const MAX_MISSING: usize = 32;

/// What becomes of each program of an object; made by [`Spec::survey`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The plan of the programs that can be made ready.
    pub plan: Plan,
    /// The programs that cannot, in the order of the object.
    pub failed: Vec<FailedProgram>,
    /// The externs that are missing and not weak: with any of them nothing of the object can be loaded. The plan is made
    /// as if they were weak, so that [`ProgramPlan::externs`](super::ProgramPlan::externs) says where they are wanted.
    pub externs: Vec<FailedExtern>,
}

/// An extern that a kernel does not have, or that is something else there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedExtern {
    /// Which extern of the object.
    pub index: ExternIndex,
    /// What is wrong.
    pub error: RelocateError,
}

/// A program that cannot be made ready for a kernel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedProgram {
    /// Which program of the object.
    pub program: ProgramIndex,
    /// Why not.
    pub error: RelocateError,
}

impl Spec {
    /// Works out for each program whether it can be made ready for `target`, as if the others were not there.
    ///
    /// As [`relocate`](Self::relocate), it looks only at programs whose [`autoload`](crate::spec::ProgramSpec::autoload)
    /// is on.
    ///
    /// # Errors
    ///
    /// What no program of the object can do without, and what nothing is known behind: the types of the kernel, or an
    /// extern whose type is another there.
    pub fn survey(&self, target: &dyn Target) -> Result<Survey, RelocateError> {
        let mut spec = Cow::Borrowed(self);
        let mut missing = Vec::new();
        let externs = loop {
            let error = match Externs::resolve(&spec, target) {
                Ok(externs) => break externs,
                Err(error) => error,
            };
            let RelocateError::Extern { name, .. } = &error else { return Err(error) };
            let strong = |spec: &crate::spec::ExternSpec| spec.name == *name && !spec.weak;
            let Some(index) = spec.externs.iter().position(strong) else { return Err(error) };
            if missing.len() == MAX_MISSING {
                return Err(error);
            }
            if let Some(found) = spec.to_mut().externs.get_mut(index) {
                found.weak = true;
            }
            missing.push(FailedExtern { index: ExternIndex(index), error });
        };
        let mut failed = without_broken_tables(&mut spec, target)?;
        let prepared = Prepared::new(&spec, externs, target)?;
        let mut programs = Vec::new();
        let mut size = 0;
        for &index in &prepared.loaded {
            let Some(program) = spec.programs.get(index.0) else { continue };
            match spec.plan_program(index, program, target, &prepared) {
                Ok(plan) if size + rough_size(&plan) > MAX_SIZE => {
                    let error = RelocateError::TooLarge { program: plan.name, limit: MAX_SIZE };
                    failed.push(FailedProgram { program: index, error });
                }
                Ok(plan) => {
                    size += rough_size(&plan);
                    programs.push(plan);
                }
                Err(error) => failed.push(FailedProgram { program: index, error }),
            }
        }
        // A program of two tables may be in another that is there.
        failed.retain(|failed| {
            !programs
                .iter()
                .any(|plan| plan.program == failed.program && plan.prog_type == ProgType::STRUCT_OPS)
        });
        failed.sort_by_key(|failed| failed.program);
        Ok(Survey { plan: spec.plan(programs, prepared), failed, externs: missing })
    }
}

/// Leaves out the struct_ops tables that the kernel cannot have. Answers the programs that they hold.
fn without_broken_tables(
    spec: &mut Cow<'_, Spec>,
    target: &dyn Target,
) -> Result<Vec<FailedProgram>, RelocateError> {
    let mut failed = Vec::new();
    // Each round leaves out one of the tables.
    while let Err(error) = Tables::resolve(spec, target) {
        let RelocateError::StructOps { map: name, .. } = &error else { return Err(error) };
        let is_it = |map: &crate::spec::MapSpec| {
            map.role == MapRole::StructOps && map.autocreate && map.name == *name
        };
        let Some(index) = spec.maps.iter().position(is_it) else { return Err(error) };
        if failed.len() >= MAX_MISSING * MAX_MISSING {
            return Err(error);
        }
        let Some(map) = spec.to_mut().maps.get_mut(index) else { return Err(error) };
        map.autocreate = false;
        failed.extend(map.slots.iter().filter_map(|slot| match slot.value {
            SlotValue::Program(program) => Some(FailedProgram { program, error: error.clone() }),
            SlotValue::Map(_) => None,
        }));
    }
    Ok(failed)
}

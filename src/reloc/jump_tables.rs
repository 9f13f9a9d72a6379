//! Tables of indirect jumps, in the terms of a program's final instructions.

use super::RelocateError;
use super::plan::{JumpTablePlan, ProgramPlan};
use crate::spec::{FunctionSpec, JumpTableIndex, JumpTableSpec};

/// Most maps that a program can use (`MAX_USED_MAPS`).
const TABLES_MAX: usize = 64;

/// Adds a table that a function refers to, once for a program, and answers its index.
///
/// The function begins at `start` of the program.
pub(super) fn place(
    plan: &mut ProgramPlan,
    function: &FunctionSpec,
    insn: u32,
    start: u32,
    index: JumpTableIndex,
    table: &JumpTableSpec,
) -> Result<usize, RelocateError> {
    let moved = |target: u32| target.wrapping_sub(function.offset).wrapping_add(start);
    let first = table.targets.first().copied().map(moved);
    // All entries move by the same distance, so the first one tells.
    let same = |known: &JumpTablePlan| known.table == index && known.targets.first().copied() == first;
    if let Some(known) = plan.jump_tables.iter().position(same) {
        return Ok(known);
    }
    if plan.jump_tables.len() >= TABLES_MAX {
        return Err(RelocateError::JumpTables { program: plan.name.clone(), limit: TABLES_MAX });
    }
    let is_inside = |target: u32| {
        target.checked_sub(function.offset).is_some_and(|at| (at as usize) < function.insns.len())
    };
    if let Some(entry) = table.targets.iter().position(|&target| !is_inside(target)) {
        let (function, name) = (function.name.clone(), table.name.clone());
        let target = table.targets.get(entry).copied().unwrap_or_default();
        return Err(RelocateError::JumpTable { function, insn, table: name, entry, target });
    }
    plan.jump_tables
        .push(JumpTablePlan { table: index, targets: table.targets.iter().copied().map(moved).collect() });
    Ok(plan.jump_tables.len() - 1)
}

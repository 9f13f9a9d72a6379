//! Where sub-programs and jumps lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_asm::{Insn, opcode as op, pseudo};
use skep_sys::abi::Errno;

use super::verify::{Reject, reject};
use crate::map::Map;

/// Most sub-programs of a program (`BPF_MAX_SUBPROGS`).
const SUBPROGS_MAX: usize = 256;

/// The sub-programs of a program by their first slots, the main one first.
pub(super) fn subprograms(insns: &[Insn]) -> Result<Vec<usize>, Reject> {
    let mut starts = BTreeSet::from([0]);
    for (index, insn) in insns.iter().enumerate() {
        let Some(target) = called(insn, index) else { continue };
        let start = usize::try_from(target).ok().filter(|&start| start < insns.len());
        starts.insert(start.ok_or_else(|| reject(Errno::EINVAL, "call to invalid destination"))?);
        if starts.len() > SUBPROGS_MAX {
            return Err(reject(Errno::E2BIG, "too many subprograms"));
        }
    }
    Ok(starts.into_iter().collect())
}

/// Where the function begins that an instruction calls or takes the address of, be its other fields as they may.
fn called(insn: &Insn, index: usize) -> Option<i64> {
    let calls = insn.is_call() && insn.src_raw() == pseudo::CALL || insn.is_pseudo_func();
    calls.then(|| index as i64 + 1 + i64::from(insn.imm)) // indexes are below a million
}

/// Where an instruction would jump to if all of its class were jumps: what it really is, is looked at later. A kernel that has
/// indirect jumps leaves them out.
fn claimed_target(insn: &Insn, index: usize, has_indirect: bool) -> Option<i64> {
    if has_indirect && insn.opcode == op::GOTOX {
        return None;
    }
    let jumps = matches!(insn.class(), op::CLASS_JMP | op::CLASS_JMP32)
        && !matches!(insn.opcode & op::OP_MASK, op::JMP_CALL | op::JMP_EXIT);
    let distance = if insn.opcode == op::GOTOL { i64::from(insn.imm) } else { i64::from(insn.off) };
    jumps.then(|| index as i64 + 1 + distance) // indexes are below a million
}

/// Checks that no jump leaves its sub-program, and that none is left by running off its end.
pub(super) fn check_jumps(insns: &[Insn], starts: &[usize], has_indirect: bool) -> Result<(), Reject> {
    let ends = starts.iter().skip(1).copied().chain([insns.len()]);
    for (&start, end) in starts.iter().zip(ends) {
        for (index, insn) in insns.iter().enumerate().take(end).skip(start) {
            if let Some(target) = claimed_target(insn, index, has_indirect)
                && !usize::try_from(target).is_ok_and(|target| (start..end).contains(&target))
            {
                return Err(reject(
                    Errno::EINVAL,
                    format!("jump out of range from insn {index} to {target}"),
                ));
            }
            let leaves = matches!(insn.opcode, op::EXIT | op::JA | op::GOTOL)
                || has_indirect && insn.opcode == op::GOTOX;
            if index + 1 == end && !leaves {
                return Err(reject(Errno::EINVAL, "last insn is not an exit or jmp"));
            }
        }
    }
    Ok(())
}

/// Where indirect jumps go, by their slots: ascending.
pub(super) type Indirect = BTreeMap<usize, Arc<[usize]>>;

/// Finds where indirect jumps go: to what is in those tables of the program whose first target is in the jump's own
/// function (`create_jt`).
pub(super) fn indirect(insns: &[Insn], starts: &[usize], maps: &[Arc<Map>]) -> Result<Indirect, Reject> {
    let jumps = insns.iter().enumerate().filter(|(_, insn)| insn.opcode == op::GOTOX).map(|(slot, _)| slot);
    let mut tables: Option<Vec<Vec<usize>>> = None;
    let mut known: BTreeMap<usize, Arc<[usize]>> = BTreeMap::new();
    let mut indirect = Indirect::new();
    for slot in jumps {
        let number = starts.partition_point(|start| *start <= slot);
        let start = number.checked_sub(1).and_then(|number| starts.get(number)).copied().unwrap_or(0);
        let end = starts.get(number).copied().unwrap_or(insns.len());
        if let Some(targets) = known.get(&start) {
            indirect.insert(slot, targets.clone());
            continue;
        }
        let tables = tables.get_or_insert_with(|| maps.iter().filter_map(|map| map.jump_table()).collect());
        let function = start..end;
        let theirs =
            tables.iter().filter(|table| table.first().is_some_and(|first| function.contains(first)));
        let targets: BTreeSet<usize> = theirs.flatten().copied().collect();
        if targets.is_empty() {
            let text = format!("no jump tables found for subprog starting at {start}");
            return Err(reject(Errno::EINVAL, text));
        }
        if targets.iter().any(|target| !function.contains(target)) {
            let text = format!("jump table for insn {slot} points outside of the subprog [{start},{end}]");
            return Err(reject(Errno::EINVAL, text));
        }
        let targets: Arc<[usize]> = targets.into_iter().collect();
        known.insert(start, targets.clone());
        indirect.insert(slot, targets);
    }
    Ok(indirect)
}

/// The slots that control can go to after the instruction at `index`, calls of sub-programs included, but not where an
/// indirect jump goes.
pub(super) fn successors(insns: &[Insn], index: usize) -> impl Iterator<Item = usize> {
    let insn = insns.get(index).copied().unwrap_or_default();
    let falls_through = !matches!(insn.opcode, op::EXIT | op::JA | op::GOTOL | op::GOTOX);
    let next = falls_through.then(|| index + insn.slots());
    let jump = insn.jump_target(index).or(called(&insn, index));
    let jump = jump.and_then(|target| usize::try_from(target).ok());
    [next, jump].into_iter().flatten().filter(move |&target| target < insns.len())
}

/// Checks that every instruction can be reached, and that none is entered in its middle.
pub(super) fn check_reachable(
    insns: &[Insn],
    indirect: &Indirect,
    callback: Option<usize>,
) -> Result<(), Reject> {
    let mut followed: Vec<&Arc<[usize]>> = Vec::new();
    let mut seen = vec![false; insns.len()];
    let mut open: Vec<usize> = callback.into_iter().chain([0]).collect();
    while let Some(index) = open.pop() {
        match seen.get_mut(index) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        open.extend(successors(insns, index));
        // All indirect jumps of a function go to the same places.
        if let Some(targets) = indirect.get(&index)
            && !followed.iter().any(|known| Arc::ptr_eq(known, targets))
        {
            followed.push(targets);
            open.extend(targets.iter());
        }
    }
    let mut index = 0;
    while let Some(insn) = insns.get(index) {
        if !seen.get(index).copied().unwrap_or(false) {
            return Err(reject(Errno::EINVAL, format!("unreachable insn {index}")));
        }
        if insn.is_ld_imm64() && seen.get(index + 1).copied().unwrap_or(false) {
            return Err(reject(Errno::EINVAL, format!("jump into the middle of ldimm64 insn {index}")));
        }
        index += insn.slots();
    }
    Ok(())
}

/// The slots that every run comes to: from the start up to the first branch.
pub(super) fn certain(insns: &[Insn]) -> BTreeSet<usize> {
    let mut slots = BTreeSet::new();
    let mut slot = 0;
    while let Some(insn) = insns.get(slot)
        && slots.insert(slot)
    {
        slot = match insn.jump_target(slot) {
            None if insn.is_exit() || insn.opcode == op::GOTOX => break,
            None => slot + insn.slots(),
            Some(target) if matches!(insn.opcode, op::JA | op::GOTOL) => match usize::try_from(target) {
                Ok(target) => target,
                Err(_) => break,
            },
            Some(_) => break,
        };
    }
    slots
}

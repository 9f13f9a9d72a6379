//! Leaves out of a plan what makes no difference to programs: instructions that the verifier never comes to, and maps
//! that no program uses.

use std::collections::BTreeSet;
use std::fmt;

use skep_asm::{Insn, Op, Reg, opcode};
use skep_sys::abi::MapType;

use super::plan::{PlacedFunction, Placeholder, PlaceholderValue, Plan, ProgramPlan};
use super::reach::{self, Way};
use crate::spec::{InfoRecords, MapRole, Pinning, SlotValue};

/// What was left out of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Instructions, of all programs together.
    pub insns: usize,
    /// Functions of programs that nothing calls any more.
    pub functions: usize,
    /// Names of maps that are not created.
    pub maps: Vec<String>,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "left out {} instructions and {} functions that nothing comes to, ",
            self.insns, self.functions
        )?;
        match &self.maps[..] {
            [] => f.write_str("and no map"),
            maps => write!(f, "and the maps that no program uses: {}", maps.join(", ")),
        }
    }
}

impl Plan {
    /// Leaves out what makes no difference to the programs of this plan: instructions that constants lead around
    /// ([`Plan::poisoned`] says which constants), functions that are called from nowhere else, and declared maps that no
    /// remaining instruction uses.
    ///
    /// Programs do the same as before. Their tags differ, and so do their numbers of instructions. Maps stay that are
    /// pinned, that another map holds which stays, or that hold global data.
    pub fn prune(&mut self) -> Pruned {
        let mut pruned = Pruned::default();
        let shorter: Vec<_> = self.programs.iter().map(|program| shorten(self, program)).collect();
        for (program, shorter) in self.programs.iter_mut().zip(shorter) {
            let Some(shorter) = shorter else { continue };
            pruned.insns += program.insns.len().saturating_sub(shorter.insns.len());
            pruned.functions += program.functions.len().saturating_sub(shorter.functions.len());
            *program = shorter;
        }
        self.drop_maps(&mut pruned);
        pruned
    }

    fn drop_maps(&mut self, pruned: &mut Pruned) {
        let mut used = vec![false; self.maps.len()];
        let mut todo: Vec<usize> = Vec::new();
        let placeholders = self.programs.iter().flat_map(|program| &program.placeholders);
        todo.extend(placeholders.filter_map(|placeholder| match placeholder.value {
            PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map) => Some(map.0),
            _ => None,
        }));
        let stays =
            |map: &crate::spec::MapSpec| map.role != MapRole::Declared || map.pinning != Pinning::None;
        todo.extend((0..).zip(&self.maps).filter(|(_, map)| stays(&map.spec)).map(|(index, _)| index));
        while let Some(index) = todo.pop() {
            let Some(used) = used.get_mut(index) else { continue };
            if std::mem::replace(used, true) {
                continue;
            }
            let slots = self.maps.get(index).map_or(&[][..], |map| &map.spec.slots);
            todo.extend(slots.iter().filter_map(|slot| match slot.value {
                SlotValue::Map(held) => Some(held.0),
                SlotValue::Program(_) => None,
            }));
        }
        for (map, used) in self.maps.iter_mut().zip(used) {
            // What an arena is good for may be its memory alone.
            if !used && map.spec.autocreate && map.spec.map_type != MapType::ARENA {
                map.spec.autocreate = false;
                pruned.maps.push(map.spec.name.clone());
            }
        }
    }
}

/// What becomes of an instruction.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Stays,
    /// A branch that is always taken.
    Jumps,
    Goes,
}

/// The program without what the verifier does not come to. None when there is nothing to leave out, or it cannot be told.
fn shorten(plan: &Plan, program: &ProgramPlan) -> Option<ProgramPlan> {
    let ways = reach::ways(plan, program)?;
    let fates = fates(program, &ways)?;
    if fates.iter().all(|fate| *fate == Fate::Stays) {
        return None;
    }
    // Where each instruction goes to: itself, or the next that stays.
    let mut places = Vec::with_capacity(fates.len() + 1);
    let mut next = 0u32;
    for fate in &fates {
        places.push(next);
        next += u32::from(*fate != Fate::Goes);
    }
    places.push(next);
    let kept = |insn: u32| fates.get(insn as usize).is_some_and(|fate| *fate != Fate::Goes);
    let place = |insn: u32| places.get(insn as usize).copied().unwrap_or(next);

    let mut shorter = program.clone();
    shorter.insns.clear();
    for (at, (insn, fate)) in program.insns.iter().zip(&fates).enumerate() {
        match fate {
            Fate::Goes => {}
            Fate::Stays => shorter.insns.push(moved(*insn, at, &places, is_second(program, at))?),
            Fate::Jumps => {
                let jump = Insn::new(opcode::JA, Reg::R0, Reg::R0, insn.off, 0);
                shorter.insns.push(moved(jump, at, &places, false)?);
            }
        }
    }
    shorter.functions = program
        .functions
        .iter()
        .filter_map(|function| {
            let (start, end) = (place(function.start), place(function.start.saturating_add(function.len)));
            (end > start).then(|| PlacedFunction { name: function.name.clone(), start, len: end - start })
        })
        .collect();
    let starts: Vec<u32> = program
        .functions
        .iter()
        .filter(|function| place(function.start.saturating_add(function.len)) > place(function.start))
        .map(|function| function.start)
        .collect();
    shorter.func_info = records(&program.func_info, &place, |insn| starts.contains(&insn));
    shorter.line_info = records(&program.line_info, &place, |insn| place(insn) < next);
    shorter.placeholders.retain(|placeholder| kept(placeholder.insn));
    shorter.placeholders.iter_mut().for_each(|placeholder| placeholder.insn = place(placeholder.insn));
    shorter.decisions.retain(|placed| kept(placed.insn));
    shorter.decisions.iter_mut().for_each(|placed| placed.insn = place(placed.insn));
    shorter.missing.retain(|missing| kept(missing.insn));
    shorter.missing.iter_mut().for_each(|missing| missing.insn = place(missing.insn));
    shorter.externs.retain(|placed| kept(placed.insn));
    shorter.externs.iter_mut().for_each(|placed| placed.insn = place(placed.insn));
    keep_jump_tables(&mut shorter, place);
    Some(shorter)
}

/// Leaves out the tables that no instruction refers to any more, since each is a map. Targets of the others are moved.
fn keep_jump_tables(program: &mut ProgramPlan, place: impl Fn(u32) -> u32) {
    let used = jump_tables_of(&program.placeholders, |_| true);
    let tables = std::mem::take(&mut program.jump_tables);
    let kept = tables.into_iter().enumerate().filter(|(index, _)| used.contains(index));
    program.jump_tables = kept.map(|(_, table)| table).collect();
    for table in &mut program.jump_tables {
        table.targets.iter_mut().for_each(|target| *target = place(*target));
    }
    for placeholder in &mut program.placeholders {
        if let PlaceholderValue::JumpTable(index) = &mut placeholder.value {
            *index = used.range(..*index).count();
        }
    }
}

/// Numbers of the tables that instructions refer to.
fn jump_tables_of(placeholders: &[Placeholder], kept: impl Fn(u32) -> bool) -> BTreeSet<usize> {
    let kept = placeholders.iter().filter(|placeholder| kept(placeholder.insn));
    let table = |placeholder: &Placeholder| match placeholder.value {
        PlaceholderValue::JumpTable(index) => Some(index),
        _ => None,
    };
    kept.filter_map(table).collect()
}

/// Whether an instruction is the second half of the one before it.
fn is_second(program: &ProgramPlan, at: usize) -> bool {
    // Halves come in pairs, so that a second half is no first one: it has no opcode.
    at.checked_sub(1).and_then(|before| program.insns.get(before)).is_some_and(Insn::is_ld_imm64)
}

/// What becomes of each instruction. None when something does not fit together.
fn fates(program: &ProgramPlan, ways: &[Way]) -> Option<Vec<Fate>> {
    let mut fates = vec![Fate::Goes; program.insns.len()];
    let mut at = 0;
    while at < program.insns.len() {
        let slots = program.insns.get(at).map_or(1, Insn::slots);
        let way = ways.get(at).copied().unwrap_or_default();
        if way.reached {
            let is_branch = matches!(Op::decode(&program.insns, at), Ok((Op::JumpIf { .. }, _)));
            let fate = match (is_branch, way.falls, way.jumps) {
                (true, true, false) => Fate::Goes,
                (true, false, true) => Fate::Jumps,
                _ => Fate::Stays,
            };
            fates.get_mut(at..at + slots)?.fill(fate);
        }
        at += slots;
    }
    // What is called, pointed at or jumped to through a table has to be there.
    let stays = |fates: &[Fate], insn: i64| {
        usize::try_from(insn).ok().and_then(|insn| ways.get(insn)).is_some_and(|way| way.reached)
            && usize::try_from(insn).is_ok_and(|insn| insn < fates.len())
    };
    for (at, insn) in program.insns.iter().enumerate() {
        if fates.get(at) == Some(&Fate::Stays)
            && let Some(target) = insn.func_target(at)
            && !stays(&fates, target)
        {
            return None;
        }
    }
    let used = jump_tables_of(&program.placeholders, |insn| fates.get(insn as usize) == Some(&Fate::Stays));
    let tables = used.iter().filter_map(|&index| program.jump_tables.get(index));
    if !tables.flat_map(|table| &table.targets).all(|&target| stays(&fates, target.into())) {
        return None;
    }
    Some(fates)
}

/// An instruction with its distances as they are after the others moved.
fn moved(mut insn: Insn, at: usize, places: &[u32], second: bool) -> Option<Insn> {
    if second {
        return Some(insn);
    }
    let place = |insn: i64| places.get(usize::try_from(insn).ok()?).map(|&place| i64::from(place));
    let here = place(at as i64)?;
    if let Some(target) = insn.func_target(at) {
        insn.imm = i32::try_from(place(target)? - here - 1).ok()?;
    } else if let Some(target) = insn.jump_target(at) {
        let distance = place(target)? - here - 1;
        if insn.opcode == opcode::GOTOL {
            insn.imm = i32::try_from(distance).ok()?;
        } else {
            insn.off = i16::try_from(distance).ok()?;
        }
    }
    Some(insn)
}

/// Records of the instructions that `keeps` says, moved. Of those that come to one place the last one counts.
fn records(records: &InfoRecords, place: &impl Fn(u32) -> u32, keeps: impl Fn(u32) -> bool) -> InfoRecords {
    let mut moved = InfoRecords { record_size: records.record_size, bytes: Vec::new() };
    let size = records.record_size as usize;
    let mut last = None;
    for record in records.iter() {
        let Some((offset, rest)) = record.split_first_chunk::<4>() else { continue };
        let insn = u32::from_ne_bytes(*offset);
        if !keeps(insn) {
            continue;
        }
        let to = place(insn);
        if last == Some(to) {
            moved.bytes.truncate(moved.bytes.len().saturating_sub(size));
        }
        last = Some(to);
        moved.bytes.extend(to.to_ne_bytes());
        moved.bytes.extend_from_slice(rest);
    }
    moved
}

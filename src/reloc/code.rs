//! Puts a program together: its own function, then every sub-program that it reaches, with calls and records adjusted.

use std::collections::HashMap;

use skep_asm::{Insn, pseudo};

use super::RelocateError;
use super::plan::PlacedFunction;
use crate::spec::{FunctionIndex, FunctionSpec, InfoRecords, ReferenceTarget, Spec};

/// Poisons of instructions that refer to a map that is not created: this plus the map's index.
pub(super) const POISON_MAP: i32 = 2_001_000_000;
/// Poisons of calls of a kernel function that is not there: this plus the extern's index.
pub(super) const POISON_KFUNC: i32 = 2_002_000_000;

/// Longest program that a kernel takes, in instructions (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MAX_INSNS: usize = 1_000_000;

/// A program put together.
pub(super) struct Linked {
    pub(super) insns: Vec<Insn>,
    pub(super) functions: Vec<(FunctionIndex, PlacedFunction)>,
    pub(super) func_info: InfoRecords,
    pub(super) line_info: InfoRecords,
}

/// A function whose calls are being followed.
struct Frame {
    function: FunctionIndex,
    start: usize,
    next: usize,
}

/// Lays a program out as libbpf does: each function once, behind the one that first calls it, depth first, and at last
/// its exception callback.
///
/// `code` answers a function's instructions with its CO-RE relocations applied.
pub(super) fn link<'s>(
    spec: &'s Spec,
    entry: FunctionIndex,
    callback: Option<FunctionIndex>,
    mut code: impl FnMut(FunctionIndex) -> Result<&'s [Insn], RelocateError>,
) -> Result<Linked, RelocateError> {
    let mut linked = Linked {
        insns: Vec::new(),
        functions: Vec::new(),
        func_info: InfoRecords::default(),
        line_info: InfoRecords::default(),
    };
    // Not one for each function of the object: there may be many programs of a few functions.
    let mut placed = HashMap::new();
    let mut stack = vec![append(spec, entry, code(entry)?, &mut placed, &mut linked)?];
    let mut callback = callback;
    loop {
        let Some(frame) = stack.last_mut() else {
            match callback.take() {
                Some(callback) if !placed.contains_key(&callback) => {
                    stack.push(append(spec, callback, code(callback)?, &mut placed, &mut linked)?);
                    continue;
                }
                _ => break,
            }
        };
        let function = function(spec, frame.function)?;
        let Some(reference) = function.references.get(frame.next) else {
            stack.pop();
            continue;
        };
        frame.next += 1;
        let target = match reference.target {
            ReferenceTarget::Call(target) | ReferenceTarget::FunctionAddress(target) => target,
            _ => continue,
        };
        if reference.insn as usize >= function.insns.len() {
            return Err(RelocateError::NoSuchReference {
                function: function.name.clone(),
                insn: reference.insn,
                what: "instruction",
                index: reference.insn as usize,
            });
        }
        let at = frame.start + reference.insn as usize;
        let known = placed.get(&target).copied();
        let start = match known {
            Some(start) => start,
            None => {
                let next = append(spec, target, code(target)?, &mut placed, &mut linked)?;
                let start = next.start;
                stack.push(next);
                start
            }
        };
        let distance = start as i64 - at as i64 - 1;
        let distance = i32::try_from(distance).map_err(|_| too_long(function))?;
        if let Some(insn) = linked.insns.get_mut(at) {
            if matches!(reference.target, ReferenceTarget::FunctionAddress(_)) {
                insn.set_src_raw(pseudo::FUNC);
            }
            insn.imm = distance;
        }
    }
    Ok(linked)
}

fn function(spec: &Spec, index: FunctionIndex) -> Result<&FunctionSpec, RelocateError> {
    spec.functions.get(index.0).ok_or(RelocateError::NoSuchFunction { index: index.0 })
}

fn too_long(function: &FunctionSpec) -> RelocateError {
    RelocateError::TooLong { function: function.name.clone(), limit: MAX_INSNS }
}

fn append(
    spec: &Spec,
    index: FunctionIndex,
    insns: &[Insn],
    placed: &mut HashMap<FunctionIndex, usize>,
    linked: &mut Linked,
) -> Result<Frame, RelocateError> {
    let function = function(spec, index)?;
    let start = linked.insns.len();
    if start + insns.len() > MAX_INSNS {
        return Err(too_long(function));
    }
    placed.insert(index, start);
    let first = linked.functions.is_empty();
    linked.insns.extend_from_slice(insns);
    for (records, all, what) in [
        (&function.func_info, &mut linked.func_info, "function"),
        (&function.line_info, &mut linked.line_info, "line"),
    ] {
        // Without records for the program itself the kernel gets none; with them it demands them of every function.
        if !first && !all.is_empty() && records.is_empty() {
            return Err(RelocateError::NoRecords { function: function.name.clone(), what });
        }
        if first || !all.is_empty() {
            append_records(records, start as u32, all);
        }
    }
    linked.functions.push((
        index,
        PlacedFunction { name: function.name.clone(), start: start as u32, len: insns.len() as u32 },
    ));
    Ok(Frame { function: index, start, next: 0 })
}

fn append_records(records: &InfoRecords, start: u32, all: &mut InfoRecords) {
    if records.is_empty() {
        return;
    }
    all.record_size = records.record_size;
    for record in records.iter() {
        if let Some((offset, rest)) = record.split_first_chunk::<4>() {
            all.bytes.extend(u32::from_ne_bytes(*offset).wrapping_add(start).to_ne_bytes());
            all.bytes.extend_from_slice(rest);
        }
    }
}

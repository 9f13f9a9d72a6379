//! CO-RE: adjusts the instructions of the functions that are loaded to the types of the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_asm::Insn;
use skep_btf::relo::{Applied, CandidateSource, Decision, Resolver, TargetModule};
use skep_btf::{Btf, CoreRelo, TypeId, relo};

use super::exceptions::Callbacks;
use super::{RelocateError, Target};
use crate::spec::{FunctionIndex, FunctionSpec, ProgramIndex, ReferenceTarget, Spec};

/// The instructions of functions after CO-RE.
pub(super) struct CoreCode<'s> {
    spec: &'s Spec,
    changed: BTreeMap<FunctionIndex, Changed<'s>>,
    /// Functions that cannot be adjusted.
    failed: BTreeMap<FunctionIndex, RelocateError>,
    /// The first of them, in the order of the records.
    first_failed: Option<FunctionIndex>,
    pub(super) notes: Vec<String>,
}

/// A function's instructions after CO-RE, and what was decided for which of them.
struct Changed<'s> {
    function: &'s FunctionSpec,
    insns: Vec<Insn>,
    decisions: Vec<(u32, Decision, Applied)>,
}

impl<'s> CoreCode<'s> {
    pub(super) fn relocate(
        spec: &'s Spec,
        loaded: &[ProgramIndex],
        callbacks: &Callbacks<'_>,
        target: &dyn Target,
    ) -> CoreCode<'s> {
        let mut code = CoreCode {
            spec,
            changed: BTreeMap::new(),
            failed: BTreeMap::new(),
            first_failed: None,
            notes: Vec::new(),
        };
        let Some(local) = &spec.btf else { return code };
        for index in reachable(spec, loaded, callbacks) {
            if let Some(function) = spec.functions.get(index.0).filter(|it| !it.core_relos.is_empty()) {
                code.changed.insert(index, Changed::new(function));
            }
        }
        if code.changed.is_empty() {
            return code;
        }
        let mut resolver = Resolver::new(local, Source(target));
        let all = || code.changed.values().flat_map(|changed| &changed.function.core_relos);
        // What cannot be prepared is reported by the relocation that it belongs to.
        let _ = resolver.prepare(all());
        let wanted: BTreeSet<TypeId> = all().map(|record| record.type_id).collect();
        for (number, (index, function, record)) in records(spec).enumerate() {
            if code.failed.contains_key(&index) {
                continue;
            }
            if let Some(changed) = code.changed.get_mut(&index) {
                if let Err(error) = changed.adjust(record, &mut resolver, number) {
                    code.changed.remove(&index);
                    code.failed.insert(index, error);
                    code.first_failed.get_or_insert(index);
                }
            } else if function.subprogram && wanted.contains(&record.type_id) {
                // Nothing calls it, so it may fail; but libbpf takes it for a part of every program, and what it finds
                // can rule out candidates.
                let _ = resolver.resolve(number, &in_bytes(record));
            }
        }
        code.changed.values_mut().for_each(|changed| changed.decisions.sort_by_key(|(insn, ..)| *insn));
        code.notes.extend(
            resolver
                .skipped_modules()
                .iter()
                .map(|module| format!("module `{}` left out: {}", module.name, module.error)),
        );
        code
    }

    /// The first function that cannot be adjusted.
    pub(super) fn error(&self) -> Option<&RelocateError> {
        self.failed.get(&self.first_failed?)
    }

    pub(super) fn insns(&self, index: FunctionIndex) -> Result<&[Insn], RelocateError> {
        if let Some(error) = self.failed.get(&index) {
            return Err(error.clone());
        }
        Ok(match self.changed.get(&index) {
            Some(changed) => &changed.insns,
            None => self.spec.functions.get(index.0).map_or(&[], |function| &function.insns),
        })
    }

    pub(super) fn decisions(&self, index: FunctionIndex) -> &[(u32, Decision, Applied)] {
        self.changed.get(&index).map_or(&[], |changed| &changed.decisions)
    }
}

impl<'s> Changed<'s> {
    fn new(function: &'s FunctionSpec) -> Changed<'s> {
        let decisions = Vec::with_capacity(function.core_relos.len());
        Changed { function, insns: function.insns.clone(), decisions }
    }

    /// Adjusts what a record of it says, the object's `number`th.
    fn adjust(
        &mut self,
        record: &CoreRelo,
        resolver: &mut Resolver<'_>,
        number: usize,
    ) -> Result<(), RelocateError> {
        let function = || self.function.name.clone();
        let decision = resolver
            .resolve(number, &in_bytes(record))
            .map_err(|source| RelocateError::Core { function: function(), source: Arc::new(source) })?;
        let insn = record.insn_off;
        let applied = relo::apply(&mut self.insns, insn as usize, &decision).map_err(|source| {
            let (function, access) = (function(), decision.local.to_string());
            if self.decisions.iter().any(|(other, ..)| *other == insn) {
                RelocateError::PatchedBefore { function, insn, access, source }
            } else {
                RelocateError::Patch { function, insn, access, source }
            }
        })?;
        self.decisions.push((record.insn_off, decision, applied));
        Ok(())
    }
}

/// A record as the resolver wants it, which counts bytes.
fn in_bytes(record: &CoreRelo) -> CoreRelo {
    CoreRelo { insn_off: record.insn_off.saturating_mul(8), ..*record }
}

/// All records with their functions, in the order of the file; then those that the order leaves out.
fn records(spec: &Spec) -> impl Iterator<Item = (FunctionIndex, &FunctionSpec, &CoreRelo)> {
    let mut taken = vec![0; spec.functions.len()];
    let mut order = Vec::with_capacity(spec.core_relocation_count());
    let rest = spec.functions.iter().enumerate();
    let rest = rest
        .flat_map(|(index, function)| std::iter::repeat_n(FunctionIndex(index), function.core_relos.len()));
    for index in spec.core_order.iter().copied().chain(rest) {
        let (Some(taken), Some(function)) = (taken.get_mut(index.0), spec.functions.get(index.0)) else {
            continue;
        };
        if let Some(record) = function.core_relos.get(*taken) {
            *taken += 1;
            order.push((index, function, record));
        }
    }
    order.into_iter()
}

/// The functions that loaded programs consist of, in the order of the object.
fn reachable(spec: &Spec, loaded: &[ProgramIndex], callbacks: &Callbacks<'_>) -> Vec<FunctionIndex> {
    let mut seen = vec![false; spec.functions.len()];
    let mut todo = Vec::with_capacity(loaded.len());
    for program in loaded.iter().filter_map(|index| spec.programs.get(index.0)) {
        todo.push(program.function);
        // What is wrong with it is said when the program is put together.
        todo.extend(callbacks.of(program).ok().flatten());
    }
    while let Some(index) = todo.pop() {
        let Some(seen) = seen.get_mut(index.0) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        let references = spec.functions.get(index.0).map_or(&[][..], |function| &function.references);
        todo.extend(references.iter().filter_map(|reference| match reference.target {
            ReferenceTarget::Call(target) | ReferenceTarget::FunctionAddress(target) => Some(target),
            _ => None,
        }));
    }
    seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(index, _)| FunctionIndex(index)).collect()
}

/// A target as the source of CO-RE candidates.
struct Source<'t>(&'t dyn Target);

impl CandidateSource for Source<'_> {
    fn vmlinux(&mut self) -> Result<Btf, relo::TargetError> {
        self.0.btf().map_err(relo::TargetError::from)
    }

    fn modules(&mut self) -> Result<Vec<TargetModule>, relo::TargetError> {
        let modules = self.0.modules().map_err(relo::TargetError::from)?;
        Ok(modules
            .iter()
            .map(|module| TargetModule { name: module.name.as_str().into(), btf: module.btf.clone() })
            .collect())
    }
}

//! CO-RE: adjusts the instructions of the functions that are loaded to the types of the target.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_asm::Insn;
use skep_btf::relo::{Applied, CandidateSource, Decision, Resolver, TargetModule};
use skep_btf::{Btf, CoreRelo, relo};

use super::exceptions::Callbacks;
use super::{RelocateError, Target};
use crate::spec::{FunctionIndex, FunctionSpec, ProgramIndex, ReferenceTarget, Spec};

/// The instructions of functions after CO-RE.
pub(super) struct CoreCode<'s> {
    spec: &'s Spec,
    changed: BTreeMap<FunctionIndex, Changed>,
    /// Functions that cannot be adjusted, in the order of the object.
    failed: BTreeMap<FunctionIndex, RelocateError>,
    pub(super) notes: Vec<String>,
}

/// A function's instructions after CO-RE, and what was decided for which of them.
struct Changed {
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
        let mut code =
            CoreCode { spec, changed: BTreeMap::new(), failed: BTreeMap::new(), notes: Vec::new() };
        let Some(local) = &spec.btf else { return code };
        let functions: Vec<_> = reachable(spec, loaded, callbacks)
            .into_iter()
            .filter_map(|index| spec.functions.get(index.0).map(|function| (index, function)))
            .filter(|(_, function)| !function.core_relos.is_empty())
            .collect();
        if functions.is_empty() {
            return code;
        }
        let mut resolver = Resolver::new(local, Source(target));
        let all = || functions.iter().flat_map(|(_, function)| &function.core_relos);
        // What cannot be prepared is reported by the relocation that it belongs to.
        let _ = resolver.prepare(all());
        let mut number = 0;
        for (index, function) in functions {
            match adjust(function, &mut resolver, number) {
                Ok(changed) => drop(code.changed.insert(index, changed)),
                Err(error) => drop(code.failed.insert(index, error)),
            }
            number += function.core_relos.len();
        }
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
        self.failed.values().next()
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

/// A function adjusted to the target; its relocations are counted from `number`.
fn adjust(
    function: &FunctionSpec,
    resolver: &mut Resolver<'_>,
    number: usize,
) -> Result<Changed, RelocateError> {
    let fail = |source| RelocateError::Core { function: function.name.clone(), source: Arc::new(source) };
    let mut insns = function.insns.clone();
    let mut decisions = Vec::with_capacity(function.core_relos.len());
    for (nth, record) in function.core_relos.iter().enumerate() {
        let in_bytes = CoreRelo { insn_off: record.insn_off.saturating_mul(8), ..*record };
        let decision = resolver.resolve(number + nth, &in_bytes).map_err(fail)?;
        let applied = relo::apply(&mut insns, record.insn_off as usize, &decision).map_err(|source| {
            RelocateError::Patch {
                function: function.name.clone(),
                insn: record.insn_off,
                access: decision.local.to_string(),
                source,
            }
        })?;
        decisions.push((record.insn_off, decision, applied));
    }
    decisions.sort_by_key(|(insn, ..)| *insn);
    Ok(Changed { insns, decisions })
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

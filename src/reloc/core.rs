//! CO-RE: adjusts the instructions of the functions that are loaded to the types of the target.

use std::collections::BTreeMap;

use skep_asm::Insn;
use skep_btf::relo::{Applied, CandidateSource, Decision, Resolver, TargetModule};
use skep_btf::{Btf, CoreRelo, relo};

use super::exceptions::Callbacks;
use super::{RelocateError, Target};
use crate::spec::{FunctionIndex, ProgramIndex, ReferenceTarget, Spec};

/// The instructions of functions after CO-RE.
pub(super) struct CoreCode<'s> {
    spec: &'s Spec,
    changed: BTreeMap<FunctionIndex, Changed>,
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
    ) -> Result<CoreCode<'s>, RelocateError> {
        let mut code = CoreCode { spec, changed: BTreeMap::new(), notes: Vec::new() };
        let Some(local) = &spec.btf else { return Ok(code) };
        let functions: Vec<_> = reachable(spec, loaded, callbacks)?
            .into_iter()
            .filter_map(|index| spec.functions.get(index.0).map(|function| (index, function)))
            .filter(|(_, function)| !function.core_relos.is_empty())
            .collect();
        if functions.is_empty() {
            return Ok(code);
        }
        let mut resolver = Resolver::new(local, Source(target));
        let all = || functions.iter().flat_map(|(_, function)| &function.core_relos);
        // What cannot be prepared is reported by the relocation that it belongs to.
        let _ = resolver.prepare(all());
        let mut number = 0;
        for (index, function) in functions {
            let fail =
                |source| RelocateError::Core { function: function.name.clone(), source: Box::new(source) };
            let mut insns = function.insns.clone();
            let mut decisions = Vec::with_capacity(function.core_relos.len());
            for record in &function.core_relos {
                let in_bytes = CoreRelo { insn_off: record.insn_off.saturating_mul(8), ..*record };
                let decision = resolver.resolve(number, &in_bytes).map_err(fail)?;
                let applied =
                    relo::apply(&mut insns, record.insn_off as usize, &decision).map_err(|source| {
                        RelocateError::Patch {
                            function: function.name.clone(),
                            insn: record.insn_off,
                            access: decision.local.to_string(),
                            source,
                        }
                    })?;
                decisions.push((record.insn_off, decision, applied));
                number += 1;
            }
            decisions.sort_by_key(|(insn, ..)| *insn);
            code.changed.insert(index, Changed { insns, decisions });
        }
        code.notes.extend(
            resolver
                .skipped_modules()
                .iter()
                .map(|module| format!("module `{}` left out: {}", module.name, module.error)),
        );
        Ok(code)
    }

    pub(super) fn insns(&self, index: FunctionIndex) -> &[Insn] {
        match self.changed.get(&index) {
            Some(changed) => &changed.insns,
            None => self.spec.functions.get(index.0).map_or(&[], |function| &function.insns),
        }
    }

    pub(super) fn decisions(&self, index: FunctionIndex) -> &[(u32, Decision, Applied)] {
        self.changed.get(&index).map_or(&[], |changed| &changed.decisions)
    }
}

/// The functions that loaded programs consist of, in the order of the object.
fn reachable(
    spec: &Spec,
    loaded: &[ProgramIndex],
    callbacks: &Callbacks<'_>,
) -> Result<Vec<FunctionIndex>, RelocateError> {
    let mut seen = vec![false; spec.functions.len()];
    let mut todo = Vec::with_capacity(loaded.len());
    for program in loaded.iter().filter_map(|index| spec.programs.get(index.0)) {
        todo.push(program.function);
        todo.extend(callbacks.of(program)?);
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
    Ok(seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(index, _)| FunctionIndex(index)).collect())
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

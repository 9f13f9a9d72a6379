//! Exception callbacks: functions that a program runs when it throws, named by a declaration tag of the program.

use std::collections::HashMap;

use skep_btf::{Btf, Kind, Linkage};

use super::RelocateError;
use crate::spec::{FunctionIndex, ProgramSpec, Spec};

/// What the tag says, before the callback's name.
const TAG: &[u8] = b"exception_callback:";

/// The callbacks that an object's tags name, by the function that is tagged.
pub(super) struct Callbacks<'s> {
    spec: &'s Spec,
    /// Sub-programs by name; of those that share one the first. Empty when nothing is tagged.
    subprograms: HashMap<&'s [u8], FunctionIndex>,
    /// Names of callbacks, or why there is none that can be used.
    tagged: Tagged,
    /// A tag on what is no program, of which nobody knows the program that was meant.
    misplaced: Option<String>,
}

impl<'s> Callbacks<'s> {
    pub(super) fn read(spec: &'s Spec) -> Callbacks<'s> {
        let (tagged, misplaced) = spec.btf.as_ref().map(|btf| tags(spec, btf)).unwrap_or_default();
        let mut subprograms = HashMap::new();
        if !tagged.is_empty() {
            for (at, function) in
                spec.functions.iter().enumerate().filter(|(_, function)| function.subprogram)
            {
                subprograms.entry(function.name.as_bytes()).or_insert(FunctionIndex(at));
            }
        }
        Callbacks { spec, subprograms, tagged, misplaced }
    }

    /// The callback of a program, if it names one.
    pub(super) fn of(&self, program: &ProgramSpec) -> Result<Option<FunctionIndex>, RelocateError> {
        let fail =
            |reason: String| RelocateError::ExceptionCallback { program: program.name.clone(), reason };
        if let Some(misplaced) = &self.misplaced {
            return Err(fail(misplaced.clone()));
        }
        if self.tagged.is_empty() {
            return Ok(None);
        }
        let function = self.spec.functions.get(program.function.0);
        let name = function.and_then(|function| self.tagged.get(function.name.as_bytes()));
        let name = match name {
            None => return Ok(None),
            Some(Ok(name)) => name,
            Some(Err(reason)) => return Err(fail((*reason).to_owned())),
        };
        let shown = String::from_utf8_lossy(name);
        let found = self.subprograms.get(name.as_slice()).copied();
        let Some((at, callback)) = found.and_then(|at| Some((at, self.spec.functions.get(at.0)?))) else {
            return Err(fail(format!(
                "its exception callback `{shown}` is no function in .text of the object"
            )));
        };
        if !callback.global || callback.hidden {
            return Err(fail(format!("its exception callback `{shown}` must be global and not hidden")));
        }
        Ok(Some(at))
    }
}

type Tagged = HashMap<Vec<u8>, Result<Vec<u8>, &'static str>>;

fn tags(spec: &Spec, btf: &Btf) -> (Tagged, Option<String>) {
    let mut tagged = HashMap::new();
    let mut misplaced = None;
    for tag in btf.types().filter(|ty| ty.kind() == Kind::DECL_TAG && ty.component_index() == Some(-1)) {
        let Some(callback) = tag.name_bytes().strip_prefix(TAG) else { continue };
        let Ok(function) = btf.ty(tag.type_id()) else { continue };
        let name = function.name_bytes();
        let global = function.kind() == Kind::FUNC && function.linkage() == Some(Linkage::GLOBAL);
        let is_program = |program: &ProgramSpec| program.name.as_bytes() == name;
        let placed = global || function.kind() == Kind::FUNC && spec.programs.iter().any(is_program);
        if !placed {
            misplaced.get_or_insert_with(|| {
                format!("the tag `{}` is on `{}`, which is no program", tag.name(), function.name())
            });
            continue;
        }
        let answer = if !global {
            Err("its exception callback tag belongs on a global function")
        } else if callback.is_empty() {
            Err("its exception callback tag names no function")
        } else {
            Ok(callback.to_vec())
        };
        // With two tags the kernel is told of neither, and says so.
        tagged
            .entry(name.to_vec())
            .and_modify(|known| *known = Err("it has two exception callback tags"))
            .or_insert(answer);
    }
    (tagged, misplaced)
}

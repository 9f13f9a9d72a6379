//! Finds the kernel type that a program is bound to when it is loaded.

use skep_btf::{Btf, Kind};
use skep_sys::abi::{AttachType, ProgType};

use super::plan::{KernelType, ProgramFunction};
use super::{RelocateError, Target, TargetError};
use crate::spec::ProgramSpec;

/// Longest name of a kernel type that is looked for, as in libbpf.
const NAME_MAX: usize = 127;
/// Most functions that an error lists.
const FUNCTIONS_SHOWN: usize = 32;
const NO_NAME: &str =
    "it names nothing to attach to: write the target after the slash, or set `attach_to` before loading";

/// The prefix and kind of the types of an attach type.
fn naming(attach_type: AttachType) -> (&'static str, Kind) {
    match attach_type {
        AttachType::TRACE_RAW_TP => ("btf_trace_", Kind::TYPEDEF),
        AttachType::LSM_MAC | AttachType::LSM_CGROUP => ("bpf_lsm_", Kind::FUNC),
        AttachType::TRACE_ITER => ("bpf_iter_", Kind::FUNC),
        _ => ("", Kind::FUNC),
    }
}

/// Why what a program is bound to cannot be found.
pub(crate) enum Unbound {
    /// The target cannot answer.
    Target(TargetError),
    /// It is not there, or was not said.
    Missing(String),
}

impl From<TargetError> for Unbound {
    fn from(error: TargetError) -> Self {
        Unbound::Target(error)
    }
}

impl Unbound {
    fn of(self, program: &ProgramSpec) -> RelocateError {
        let (name, section) = (program.name.clone(), program.section.clone());
        match self {
            Unbound::Target(source) => RelocateError::Target { program: name, source },
            Unbound::Missing(reason) => RelocateError::AttachTarget { program: name, section, reason },
        }
    }
}

/// The function of another program that a program is bound to, when one was said.
pub(super) fn function(
    program: &ProgramSpec,
    target: &dyn Target,
) -> Result<Option<ProgramFunction>, RelocateError> {
    program_function(&program.name, program.attach_to.as_deref(), target).map_err(|error| error.of(program))
}

/// The function `to` of the program that the target has `program` bound to, if it is to any.
pub(crate) fn program_function(
    program: &str,
    to: Option<&str>,
    target: &dyn Target,
) -> Result<Option<ProgramFunction>, Unbound> {
    let Some(btf) = target.program_types(program)? else { return Ok(None) };
    let fail = Unbound::Missing;
    let Some(name) = to.filter(|to| !to.is_empty()) else {
        return Err(fail(NO_NAME.into()));
    };
    match btf.find(name.as_bytes(), Kind::FUNC) {
        Some(type_id) => Ok(Some(ProgramFunction { name: name.to_owned(), type_id })),
        None => {
            let functions: Vec<_> =
                btf.types().filter(|ty| ty.kind() == Kind::FUNC).take(FUNCTIONS_SHOWN).collect();
            let names: Vec<_> = functions.iter().map(|ty| ty.name()).collect();
            Err(fail(format!("the other program has no function `{name}`; it has: {}", names.join(", "))))
        }
    }
}

pub(super) fn resolve(
    program: &ProgramSpec,
    target: &dyn Target,
) -> Result<Option<KernelType>, RelocateError> {
    if !program.attach_btf {
        return Ok(None);
    }
    let found = if program.prog_type == ProgType::EXT {
        let reason = "it replaces a function of another program: say of which with Loader::attach_target";
        Err(Unbound::Missing(reason.into()))
    } else {
        kernel_type(program.attach_type, program.attach_to.as_deref(), target)
    };
    found.map(Some).map_err(|error| error.of(program))
}

/// The kernel type that a program with this attach type is bound to by the name `to`, which may have a module and a
/// colon before it.
pub(crate) fn kernel_type(
    attach_type: AttachType,
    to: Option<&str>,
    target: &dyn Target,
) -> Result<KernelType, Unbound> {
    let fail = Unbound::Missing;
    let Some(to) = to.filter(|to| !to.is_empty()) else {
        return Err(fail(NO_NAME.into()));
    };
    let (module, name) = match to.split_once(':') {
        Some((module, name)) => (Some(module), name),
        None => (None, to),
    };
    let (prefix, kind) = naming(attach_type);
    let full = format!("{prefix}{name}");
    if full.len() > NAME_MAX {
        return Err(fail(format!("`{full}` is longer than {NAME_MAX} bytes")));
    }
    if module.is_none_or(|module| module == "vmlinux") {
        let btf = target.btf()?;
        if let Some(type_id) = btf.find(full.as_bytes(), kind) {
            return Ok(KernelType { name: full, type_id, module: None });
        }
        if module.is_some() {
            return Err(fail(missing(&btf, &full, kind, name)));
        }
    }
    for candidate in target.modules()? {
        if module.is_none_or(|module| module == candidate.name)
            && let Some(type_id) = candidate.btf.find_own(full.as_bytes(), kind)
        {
            return Ok(KernelType { name: full, type_id, module: Some(candidate.name.clone()) });
        }
    }
    match module {
        Some(_) if !target.knows_modules() => Err(TargetError::unknown("types of modules").into()),
        Some(module) => {
            Err(fail(format!("module `{module}` is not loaded, or its types have no {kind} `{full}`")))
        }
        None => Err(fail(missing(&target.btf()?, &full, kind, name))),
    }
}

fn missing(btf: &Btf, full: &str, kind: Kind, name: &str) -> String {
    let like = similar(btf, full, kind);
    let hint = match like.as_deref() {
        Some(like) => format!("; the nearest name that there is: `{like}`"),
        None => String::new(),
    };
    format!(
        "this kernel has no `{name}` (no {kind} `{full}` in its types, nor in those of loaded modules){hint}"
    )
}

/// A name of that kind that begins with the same text and is not much longer, for a hint.
fn similar(btf: &Btf, full: &str, kind: Kind) -> Option<String> {
    btf.types()
        .filter(|ty| ty.kind() == kind && ty.name_bytes().starts_with(full.as_bytes()))
        .min_by_key(|ty| ty.name_bytes().len())
        .map(|ty| ty.name().into_owned())
}

//! Finds what the object expects from outside in the target.

use skep_btf::{Btf, Kind, TypeId, essential_name, relo};

use super::plan::Unknown;
use super::{ConfigFeature, ModuleTypes, RelocateError, Target, TargetError};
use crate::spec::kconfig::{Config, PREFIX, Shape, VIRTUAL_PREFIX};
use crate::spec::{ExternIndex, ExternKind, ExternSpec, KconfigValue, MapIndex, MapRole, Spec};

/// Most bytes that the configuration values of an object may take.
const MAX_SIZE: usize = 1 << 20;

/// What each extern is in the target.
#[derive(Default)]
pub(super) struct Externs {
    resolved: Vec<Resolved>,
    /// Contents of the `.kconfig` map.
    pub(super) kconfig: Vec<u8>,
    /// What the target does not hold.
    pub(super) unknown: Vec<Unknown>,
    /// Modules of functions, in the order of the externs.
    pub(super) modules: Vec<String>,
}

/// What an extern is in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// A place in the `.kconfig` map.
    Config { map: MapIndex, offset: u32 },
    /// A kernel variable or function by its type.
    Type { id: TypeId, module: Option<String> },
    /// An address; 0 for a weak extern that is not there.
    Address(u64),
    /// An address that the target does not hold.
    Unknown,
}

const MISSING: Resolved = Resolved::Address(0);

impl Externs {
    pub(super) fn get(&self, index: ExternIndex) -> Option<&Resolved> {
        self.resolved.get(index.0)
    }

    /// Whether the target says if this extern is there.
    pub(super) fn knows(&self, spec: &ExternSpec) -> bool {
        self.unknown.is_empty() || !self.unknown.iter().any(|unknown| unknown.is(spec))
    }

    fn set(&mut self, index: usize, resolved: Resolved) {
        if let Some(slot) = self.resolved.get_mut(index) {
            *slot = resolved;
        }
    }

    pub(super) fn resolve(spec: &Spec, target: &dyn Target) -> Result<Externs, RelocateError> {
        let mut externs = Externs { resolved: vec![MISSING; spec.externs.len()], ..Externs::default() };
        let Some(local) = &spec.btf else { return Ok(externs) };
        externs.resolve_config(spec, local, target)?;
        externs.resolve_types(spec, local, target)?;
        externs.resolve_addresses(spec, target)?;
        Ok(externs)
    }

    fn resolve_config(&mut self, spec: &Spec, local: &Btf, target: &dyn Target) -> Result<(), RelocateError> {
        let Some(map) = spec.maps.iter().position(|map| map.role == MapRole::Kconfig) else { return Ok(()) };
        let size = spec.maps.get(map).map_or(0, |map| map.value_size as usize);
        let is_option = |external: &ExternSpec| {
            let kind = matches!(external.kind, ExternKind::Kconfig { .. });
            kind && external.value.is_none() && external.name.starts_with(PREFIX)
        };
        // Asked for only when there is an option that was not set by hand.
        let text = spec.externs.iter().any(is_option).then(|| target.kconfig());
        let config = match &text {
            Some(Ok(text)) => Some(Config::parse(text, &spec.option_names())),
            _ => None,
        };
        let mut contents = vec![0; size.min(MAX_SIZE)];
        for (index, external) in spec.externs.iter().enumerate() {
            let ExternKind::Kconfig { offset, size } = external.kind else { continue };
            let fail = |reason: String| RelocateError::Extern { name: external.name.clone(), reason };
            let shape = Shape::of(local, external.type_id).map_err(fail)?;
            let range = offset as usize..(offset as usize).saturating_add(size as usize);
            let Some(place) = contents.get_mut(range) else {
                return Err(fail(format!("the configuration values exceed {MAX_SIZE} bytes")));
            };
            let value = match (&external.value, &config, &text) {
                (Some(value), ..) => Ok(Some(value.clone())),
                (None, ..) if !external.name.starts_with(PREFIX) => {
                    virtual_value(external, target).map_err(fail)?.map(Some)
                }
                (None, Some(Ok(config)), _) => {
                    Ok(config.get(&external.name, shape, spec.endian).map_err(fail)?)
                }
                (None, Some(Err(reason)), _) => {
                    return Err(fail(format!("the kernel's configuration cannot be read: {reason}")));
                }
                (None, None, Some(Err(error))) => Err(error.clone()),
                (None, None, _) => Ok(None),
            };
            let value = match value {
                Ok(value) => value,
                Err(error) if error.is_unknown() => {
                    self.unknown.push(Unknown::new(external, error));
                    self.set(index, Resolved::Config { map: MapIndex(map), offset });
                    continue;
                }
                Err(error) => return Err(fail(error.to_string())),
            };
            match value {
                Some(value) => shape.write(&value, spec.endian, place).map_err(fail)?,
                None if external.weak => {}
                None => {
                    return Err(fail(
                        "the kernel's configuration does not set it; declare it __weak if it may be missing, or \
                         set it by hand"
                            .into(),
                    ));
                }
            }
            self.set(index, Resolved::Config { map: MapIndex(map), offset });
        }
        self.kconfig = contents;
        Ok(())
    }

    fn resolve_types(&mut self, spec: &Spec, local: &Btf, target: &dyn Target) -> Result<(), RelocateError> {
        let typed: Vec<(usize, &ExternSpec)> = spec
            .externs
            .iter()
            .enumerate()
            .filter(|(_, spec)| {
                matches!(spec.kind, ExternKind::Function | ExternKind::Variable { typed: true })
            })
            .collect();
        let Some((_, first)) = typed.first() else { return Ok(()) };
        let fail =
            |spec: &ExternSpec, reason: String| RelocateError::Extern { name: spec.name.clone(), reason };
        let vmlinux = target.btf().map_err(|error| fail(first, error.to_string()))?;
        for (index, spec) in typed {
            let mut place = vmlinux.find(wanted(spec), kind(spec)).map(|id| (id, &vmlinux, None));
            let modules: &[ModuleTypes];
            if place.is_none() {
                modules = target.modules().map_err(|error| fail(spec, error.to_string()))?;
                place = modules.iter().find_map(|module| {
                    let id = module.btf.find_own(wanted(spec), kind(spec))?;
                    Some((id, &module.btf, Some(module.name.clone())))
                });
            }
            let what = if kind(spec) == Kind::FUNC { "function" } else { "variable" };
            let Some((id, btf, module)) = place else {
                if spec.weak {
                    continue;
                }
                return Err(fail(
                    spec,
                    format!(
                        "this kernel has no such {what} in its types; declare it __weak if it may be missing"
                    ),
                ));
            };
            let same = compatible(local, spec, btf, id).map_err(|error| fail(spec, error.to_string()))?;
            match same {
                true => {
                    if let (Some(module), Kind::FUNC) = (&module, kind(spec))
                        && !self.modules.contains(module)
                    {
                        self.modules.push(module.clone());
                    }
                    self.set(index, Resolved::Type { id, module });
                }
                false if spec.weak && spec.kind == ExternKind::Function => {}
                false => {
                    return Err(fail(spec, format!("the kernel's {what} of that name has another type")));
                }
            }
        }
        Ok(())
    }

    fn resolve_addresses(&mut self, spec: &Spec, target: &dyn Target) -> Result<(), RelocateError> {
        let untyped: Vec<(usize, &ExternSpec)> = spec
            .externs
            .iter()
            .enumerate()
            .filter(|(_, spec)| spec.kind == ExternKind::Variable { typed: false })
            .collect();
        let Some((_, first)) = untyped.first() else { return Ok(()) };
        let names: Vec<&str> = untyped.iter().map(|(_, spec)| spec.name.as_str()).collect();
        let addresses = match target.symbols(&names) {
            Ok(addresses) => addresses,
            Err(error) if error.is_unknown() => {
                for (index, spec) in untyped {
                    self.unknown.push(Unknown::new(spec, error.clone()));
                    self.set(index, Resolved::Unknown);
                }
                return Ok(());
            }
            // What may be missing is so for who may not see it.
            Err(error) if error.withheld && untyped.iter().all(|(_, spec)| spec.weak) => Vec::new(),
            Err(error) => {
                return Err(RelocateError::Extern { name: first.name.clone(), reason: error.to_string() });
            }
        };
        for (nth, (index, spec)) in untyped.into_iter().enumerate() {
            let address = addresses.get(nth).copied().flatten();
            if address.is_none() && !spec.weak {
                let reason = "this kernel has no such symbol; declare it __weak if it may be missing".into();
                return Err(RelocateError::Extern { name: spec.name.clone(), reason });
            }
            self.set(index, Resolved::Address(address.unwrap_or(0)));
        }
        Ok(())
    }
}

/// A value that no configuration has: what the loader knows of the kernel.
fn virtual_value(
    external: &ExternSpec,
    target: &dyn Target,
) -> Result<Result<KconfigValue, TargetError>, String> {
    let has = |feature| target.has(feature).map(u64::from);
    let number = match external.name.as_str() {
        "LINUX_KERNEL_VERSION" => target.version_code().map(u64::from),
        "LINUX_HAS_BPF_COOKIE" => has(ConfigFeature::BpfCookie),
        "LINUX_HAS_SYSCALL_WRAPPER" => has(ConfigFeature::SyscallWrapper),
        name if name.starts_with(VIRTUAL_PREFIX) && external.weak => Ok(0),
        _ => return Err("neither CONFIG_… nor a LINUX_… value that is known".into()),
    };
    Ok(number.map(KconfigValue::Number))
}

/// The name to look for: a function may be declared in flavours, a variable may not.
fn wanted(spec: &ExternSpec) -> &[u8] {
    match spec.kind {
        ExternKind::Function => essential_name(spec.name.as_bytes()),
        _ => spec.name.as_bytes(),
    }
}

fn kind(spec: &ExternSpec) -> Kind {
    if spec.kind == ExternKind::Function { Kind::FUNC } else { Kind::VAR }
}

fn compatible(local: &Btf, spec: &ExternSpec, target: &Btf, id: TypeId) -> Result<bool, relo::CoreErrorKind> {
    let side = |side| move |source| relo::CoreErrorKind::Btf { side, source };
    let there = target.ty(id).map_err(side(relo::Side::Target))?.type_id();
    let declared = local.peel(spec.type_id).map_err(side(relo::Side::Local))?.id();
    let there = target.peel(there).map_err(side(relo::Side::Target))?.id();
    relo::types_compatible(local, declared, target, there)
}

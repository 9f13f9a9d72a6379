//! What the object expects from outside: kernel symbols and configuration values.

use skep_btf::{Btf, BtfError, Kind, Linkage, Type, TypeId};
use skep_sys::abi::{MapFlags, MapType};

use super::elf::Elf;
use super::kconfig::Shape;
use super::{ExternIndex, ExternKind, ExternSpec, MapRole, MapSpec, SpecError};

/// The data section of configuration values in BTF.
pub(super) const KCONFIG: &str = ".kconfig";
/// The data section of kernel symbols in BTF.
pub(super) const KSYMS: &str = ".ksyms";

/// The externs in libbpf's order, the symbol of each, and the map of the configuration values.
#[derive(Default)]
pub(super) struct Externs {
    pub(super) externs: Vec<ExternSpec>,
    /// Ordered by symbol.
    pub(super) symbols: Vec<(usize, ExternIndex)>,
    pub(super) kconfig: Option<MapSpec>,
}

struct Found {
    symbol: usize,
    spec: ExternSpec,
    align: u32,
}

pub(super) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Externs, SpecError> {
    let mut configs = Vec::new();
    let mut ksyms = Vec::new();
    let mut index = None;
    for (number, symbol) in elf.symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_extern()) {
        let fail = |reason: &str| SpecError::Extern {
            name: symbol.name.clone().into_owned(),
            reason: reason.into(),
        };
        let in_btf = |error: BtfError| fail(&error.to_string());
        let btf = btf.ok_or_else(|| fail("externs need BTF: compile with -g"))?;
        let index: &Declarations<'_> = match &mut index {
            Some(index) => index,
            none => none.insert(Declarations::read(btf).map_err(in_btf)?),
        };
        let (id, section) = index
            .find(&symbol.name)
            .ok_or_else(|| fail("BTF says nothing of it: declare it with __ksym or __kconfig, or link the file that defines it"))?;
        let declared = btf.ty(id).map_err(in_btf)?;
        if declared.linkage() != Some(Linkage::EXTERN) {
            return Err(fail("BTF does not declare it as extern"));
        }
        let spec = |kind| ExternSpec {
            name: symbol.name.clone().into_owned(),
            weak: symbol.is_weak(),
            kind,
            type_id: declared.type_id(),
            value: None,
        };
        match section {
            KSYMS if declared.kind() == Kind::FUNC => {
                ksyms.push(Found { symbol: number, spec: spec(ExternKind::Function), align: 0 });
            }
            KSYMS => {
                let typed = !btf.peel(declared.type_id()).map_err(in_btf)?.is_void();
                ksyms.push(Found { symbol: number, spec: spec(ExternKind::Variable { typed }), align: 0 });
            }
            KCONFIG => {
                let (size, align) = config_layout(btf, declared).map_err(in_btf)?;
                if size == 0 || align == 0 {
                    return Err(fail("a configuration value needs a type with a size"));
                }
                Shape::of(btf, declared.type_id()).map_err(|reason| fail(&reason))?;
                configs.push(Found {
                    symbol: number,
                    spec: spec(ExternKind::Kconfig { offset: 0, size }),
                    align,
                });
            }
            other => return Err(fail(&format!("section `{other}` is not one of externs"))),
        }
    }
    if configs.is_empty() && ksyms.is_empty() {
        return Ok(Externs::default());
    }
    let size_of = |found: &Found| match found.spec.kind {
        ExternKind::Kconfig { size, .. } => size,
        _ => 0,
    };
    configs.sort_by(|a, b| {
        b.align.cmp(&a.align).then(size_of(a).cmp(&size_of(b))).then_with(|| a.spec.name.cmp(&b.spec.name))
    });
    ksyms.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));

    let mut end = 0u32;
    for found in &mut configs {
        let align = found.align;
        if let ExternKind::Kconfig { offset, size } = &mut found.spec.kind {
            let start = end.checked_next_multiple_of(align);
            let next = start.and_then(|start| start.checked_add(*size));
            let (Some(start), Some(next)) = (start, next) else {
                let name = found.spec.name.clone();
                return Err(SpecError::Extern {
                    name,
                    reason: "the configuration values exceed 4 GiB".into(),
                });
            };
            *offset = start;
            end = next;
        }
    }
    let kconfig = (!configs.is_empty()).then(|| {
        let mut map = MapSpec::new(KCONFIG, MapType::ARRAY, 4, end, 1);
        map.flags = MapFlags::RDONLY_PROG;
        map.role = MapRole::Kconfig;
        // As for other data maps: its variables are not static, so it is mappable.
        map.value_type = btf.and_then(|btf| btf.find_any(KCONFIG.as_bytes()));
        if map.value_type.is_some() {
            map.flags |= MapFlags::MMAPABLE;
        }
        map
    });
    let found = configs.into_iter().chain(ksyms);
    let (mut symbols, externs): (Vec<_>, _) =
        found.enumerate().map(|(index, found)| ((found.symbol, ExternIndex(index)), found.spec)).unzip();
    symbols.sort_unstable_by_key(|(symbol, _)| *symbol);
    Ok(Externs { externs, symbols, kconfig })
}

fn config_layout(btf: &Btf, declared: Type<'_>) -> Result<(u32, u32), BtfError> {
    Ok((btf.resolve_size(declared.type_id())?, btf.align_of(declared.type_id())?))
}

/// Externs that BTF declares, with the data section that each is in, ordered by name.
struct Declarations<'b> {
    entries: Vec<(std::borrow::Cow<'b, str>, TypeId, std::borrow::Cow<'b, str>)>,
}

impl<'b> Declarations<'b> {
    fn read(btf: &'b Btf) -> Result<Self, BtfError> {
        let mut entries = Vec::new();
        for datasec in btf.types().filter(|ty| ty.kind() == Kind::DATASEC) {
            for entry in datasec.vars() {
                let declared = btf.ty(entry.type_id)?;
                entries.push((declared.name(), entry.type_id, datasec.name()));
            }
        }
        entries.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        Ok(Declarations { entries })
    }

    fn find(&self, name: &str) -> Option<(TypeId, &str)> {
        let at = self.entries.partition_point(|(other, ..)| other.as_ref() < name);
        let (found, id, section) = self.entries.get(at)?;
        (found == name).then_some((*id, section.as_ref()))
    }
}

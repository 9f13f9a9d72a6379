//! Makes the object's BTF what a kernel accepts: compilers leave data sections without sizes and offsets, and describe
//! externs, which no kernel takes.

use std::collections::{HashMap, HashSet};

use skep_btf::{Btf, BtfBuilder, BtfEdit, BtfError, Kind, Linkage, SectionVar, StrOffset, Type, TypeId};

use super::elf::Elf;
use super::externs::{Externs, KCONFIG, KSYMS};
use super::{ExternKind, SpecError};

/// What a kernel function stands as in the data section of kernel symbols, which may hold variables only.
const STAND_IN: &str = "dummy_ksym";
/// Bytes that a kernel symbol is given there.
const KSYM_SIZE: u32 = 4;

fn in_btf(source: BtfError) -> SpecError {
    SpecError::Btf { section: ".BTF", source }
}

/// Fills in sizes and offsets of data sections, and makes hidden variables static.
pub(super) fn place_variables(elf: &Elf<'_>, btf: &Btf) -> Result<Btf, SpecError> {
    let mut symbols: Vec<_> = elf
        .symbols
        .iter()
        .filter(|symbol| {
            symbol.kind == object::elf::STT_OBJECT && symbol.is_global() && !symbol.is_undefined()
        })
        .collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    let mut edit = BtfEdit::new(btf);
    for datasec in btf.types().filter(|ty| ty.kind() == Kind::DATASEC) {
        let name = datasec.name();
        if name == KCONFIG || name == KSYMS {
            continue;
        }
        let fill = datasec.size() == 0;
        let size = if fill {
            let section = elf.section_named(&name).map(|(_, section)| section.size).filter(|&size| size > 0);
            let size = section.ok_or_else(|| {
                let common = elf.symbols.iter().any(|symbol| symbol.section == object::elf::SHN_COMMON.0);
                let cure = if common { ": compile with -fno-common" } else { "" };
                SpecError::section(&name, format!("BTF describes it, and it is not there{cure}"))
            })?;
            u32::try_from(size)
                .map_err(|_| SpecError::section(&name, format!("{size} bytes exceed 4 GiB")))?
        } else {
            datasec.size()
        };
        let misplaced = fill || overlap(&datasec);
        let mut vars = Vec::with_capacity(datasec.vlen() as usize);
        for entry in datasec.vars() {
            let var = btf.ty(entry.type_id).map_err(in_btf)?;
            let fail = |reason: &str| SpecError::Variable {
                variable: var.name().into_owned(),
                section: name.clone().into_owned(),
                reason: reason.into(),
            };
            if var.kind() != Kind::VAR {
                return Err(fail(&format!("BTF says it is a {}", var.kind())));
            }
            let mut entry = entry;
            if !matches!(var.linkage(), Some(Linkage::STATIC | Linkage::EXTERN)) {
                let at = symbols.binary_search_by(|symbol| symbol.name.as_bytes().cmp(var.name_bytes()));
                let symbol =
                    at.ok().and_then(|at| symbols.get(at)).ok_or_else(|| fail("no symbol has its name"))?;
                if misplaced {
                    let offset = u32::try_from(symbol.value);
                    entry.offset = offset.map_err(|_| fail("it lies beyond 4 GiB"))?;
                }
                if symbol.is_hidden() {
                    edit.set_linkage(entry.type_id, Linkage::STATIC).map_err(in_btf)?;
                }
            }
            vars.push(entry);
        }
        vars.sort_by_key(|var| var.offset);
        edit.set_datasec(datasec.id(), size, &vars).map_err(in_btf)?;
    }
    edit.finish().map_err(in_btf)
}

/// Whether variables of a data section share bytes, as those do that the static linker of libbpf has met as externs first:
/// it leaves their offsets at zero. No kernel takes that.
fn overlap(datasec: &Type<'_>) -> bool {
    let mut places: Vec<_> = datasec.vars().map(|var| (var.offset, var.size)).collect();
    places.sort_unstable();
    places.windows(2).any(|pair| matches!(*pair, [(a, size), (b, _)] if a.saturating_add(size) > b))
}

/// Makes hidden sub-programs static, so that the verifier checks them with their callers.
pub(super) fn hide_functions(btf: &Btf, hidden: &[&str]) -> Result<Btf, SpecError> {
    let mut hidden: HashSet<&[u8]> = hidden.iter().map(|name| name.as_bytes()).collect();
    let mut edit = BtfEdit::new(btf);
    for function in btf.types().filter(|ty| ty.kind() == Kind::FUNC) {
        if hidden.remove(function.name_bytes()) {
            edit.set_linkage(function.id(), Linkage::STATIC).map_err(in_btf)?;
        }
    }
    edit.finish().map_err(in_btf)
}

/// Describes externs as variables and functions that are there, since a kernel takes no others.
pub(super) fn settle_externs(btf: &Btf, externs: &Externs) -> Result<Btf, SpecError> {
    if externs.externs.is_empty() {
        return Ok(btf.clone());
    }
    let functions = externs.externs.iter().any(|spec| spec.kind == ExternKind::Function);
    let mut with_stand_in = None;
    let mut stand_in = (TypeId(0), StrOffset::EMPTY);
    let int = btf.types().find(|ty| ty.kind() == Kind::INT && ty.size() == 4).map(|ty| ty.id());
    if functions {
        let mut builder = BtfBuilder::from_btf(btf);
        let name = builder.add_str(STAND_IN).map_err(in_btf)?;
        let var = builder.add_var(STAND_IN, Linkage::GLOBAL, int.unwrap_or(TypeId(0))).map_err(in_btf)?;
        stand_in = (var, name);
        with_stand_in = Some(builder.finish().map_err(in_btf)?);
    }
    let btf = with_stand_in.as_ref().unwrap_or(btf);
    let mut by_name = HashMap::new();
    for spec in &externs.externs {
        by_name.entry(spec.name.as_bytes()).or_insert(spec.kind);
    }
    let mut edit = BtfEdit::new(btf);
    for datasec in btf.types().filter(|ty| ty.kind() == Kind::DATASEC) {
        let name = datasec.name();
        if name == KSYMS {
            settle_symbols(btf, &mut edit, datasec.id(), int, stand_in).map_err(in_btf)?;
        } else if name == KCONFIG {
            let mut vars = Vec::with_capacity(datasec.vlen() as usize);
            let mut end = 0;
            for mut entry in datasec.vars() {
                let var = btf.ty(entry.type_id).map_err(in_btf)?;
                let Some(&ExternKind::Kconfig { offset, size }) = by_name.get(var.name_bytes()) else {
                    let name = var.name().into_owned();
                    return Err(SpecError::Extern {
                        name,
                        reason: "BTF declares it, and no symbol uses it".into(),
                    });
                };
                edit.set_linkage(entry.type_id, Linkage::GLOBAL).map_err(in_btf)?;
                (entry.offset, entry.size) = (offset, size);
                end = end.max(offset.saturating_add(size));
                vars.push(entry);
            }
            vars.sort_by_key(|var| var.offset);
            edit.set_datasec(datasec.id(), end, &vars).map_err(in_btf)?;
        }
    }
    edit.finish().map_err(in_btf)
}

fn settle_symbols(
    btf: &Btf,
    edit: &mut BtfEdit<'_>,
    datasec: TypeId,
    int: Option<TypeId>,
    (stand_in, stand_in_name): (TypeId, StrOffset),
) -> Result<(), BtfError> {
    let datasec = btf.ty(datasec)?;
    let mut vars: Vec<SectionVar> = Vec::with_capacity(datasec.vlen() as usize);
    let mut named = HashSet::new();
    for (nth, mut entry) in datasec.vars().enumerate() {
        let declared = btf.ty(entry.type_id)?;
        edit.set_linkage(entry.type_id, Linkage::GLOBAL)?;
        if declared.kind() == Kind::FUNC {
            let proto = btf.ty(declared.type_id())?;
            let new = named.insert(proto.id());
            for (index, param) in (0..).zip(proto.params()).take_while(|_| new) {
                if param.name_bytes().is_empty() && !param.type_id.is_void() {
                    edit.set_param_name(proto.id(), index, stand_in_name)?;
                }
            }
            entry.type_id = stand_in;
        } else if let Some(int) = int {
            edit.set_type(entry.type_id, int)?;
        }
        entry.offset = (nth as u32).saturating_mul(KSYM_SIZE);
        entry.size = KSYM_SIZE;
        vars.push(entry);
    }
    let size = (vars.len() as u32).saturating_mul(KSYM_SIZE);
    edit.set_datasec(datasec.id(), size, &vars)
}

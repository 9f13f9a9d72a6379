//! `struct_ops` tables: the object's view of a kernel structure becomes the kernel's.

use std::collections::{BTreeMap, HashMap};

use skep_btf::{Btf, BtfError, Kind, Member, Type, TypeId, essential_name};
use skep_sys::abi::{AttachType, MapType, ProgType};

use super::plan::{KernelType, StructOpsPlan, StructOpsProgram};
use super::{RelocateError, Target};
use crate::spec::{MapRole, MapSpec, ProgramIndex, SlotValue, Spec, is_function_pointer};

/// What the kernel puts before the name of a structure for the one that its maps hold.
const VALUE_PREFIX: &str = "bpf_struct_ops_";
/// Most bytes that a table may have.
const SIZE_MAX: u32 = 1 << 20;

/// The tables of an object in the terms of a kernel, and what they say of its programs.
#[derive(Default)]
pub(super) struct Tables {
    /// By index of the map.
    plans: BTreeMap<usize, (MapSpec, StructOpsPlan)>,
    /// The function that each program in a table is.
    functions: HashMap<ProgramIndex, (KernelType, AttachType)>,
    /// Programs that tables hold: whether one of those is created.
    held: HashMap<ProgramIndex, bool>,
}

impl Tables {
    pub(super) fn resolve(spec: &Spec, target: &dyn Target) -> Result<Tables, RelocateError> {
        let mut tables = Tables::default();
        let mut known = HashMap::new();
        for (index, map) in spec.maps.iter().enumerate().filter(|(_, map)| map.role == MapRole::StructOps) {
            for program in programs_of(map) {
                let held = tables.held.entry(program).or_insert(false);
                *held |= map.autocreate;
            }
            if !map.autocreate {
                continue;
            }
            let fail = |reason: String| RelocateError::StructOps { map: map.name.clone(), reason };
            let broken = |error: BtfError| fail(error.to_string());
            let (btf, id) = spec
                .btf
                .as_ref()
                .zip(map.value_type)
                .ok_or_else(|| fail("the object does not say what structure it is".into()))?;
            let local = btf.ty(id).map_err(broken)?;
            let kernel = match known.get(&id) {
                Some(kernel) => kernel,
                None => {
                    let kernel = KernelStructure::find(local, target).map_err(fail)?;
                    known.entry(id).or_insert(kernel)
                }
            };
            let table = tables.place(spec, map, local, kernel).map_err(fail)?;
            tables.plans.insert(index, table);
        }
        Ok(tables)
    }

    /// The plan of a table, and the map that it changes.
    pub(super) fn plan(&self, map: usize) -> Option<&(MapSpec, StructOpsPlan)> {
        self.plans.get(&map)
    }

    /// Whether a program is loaded: those in tables go with their tables.
    pub(super) fn loads(&self, program: ProgramIndex, autoload: bool) -> bool {
        self.held.get(&program).copied().unwrap_or(autoload)
    }

    /// The kernel's function that a program in a table is.
    pub(super) fn function(&self, program: ProgramIndex) -> Option<&(KernelType, AttachType)> {
        self.functions.get(&program)
    }

    /// Copies a table member by member to where the kernel has each.
    fn place(
        &mut self,
        spec: &Spec,
        map: &MapSpec,
        local: Type<'_>,
        kernel: &KernelStructure,
    ) -> Result<(MapSpec, StructOpsPlan), String> {
        let mut value = vec![0; kernel.size as usize];
        let mut programs = Vec::new();
        for (nth, member) in (0..).zip(local.members()) {
            let slot = map.slots.iter().find(|slot| slot.index == nth).map(|slot| slot.value);
            let bytes = Bytes::of(local.btf(), member, map)?;
            let name = member.name().into_owned();
            let fail = |reason: &str| format!("member `{name}`: {reason}");
            let Some(place) = kernel.members.get(member.name_bytes()) else {
                if slot.is_some() || !bytes.is_zero() {
                    return Err(format!(
                        "this kernel's `{}` has no member `{name}`: leave it zero there",
                        kernel.structure.name
                    ));
                }
                continue;
            };
            if member.bitfield_size != 0 || place.bitfield {
                return Err(fail("bit fields cannot be set"));
            }
            if bytes.kind != place.kind {
                return Err(fail(&format!("it is a {} here and a {} in the kernel", bytes.kind, place.kind)));
            }
            if bytes.kind != Kind::PTR {
                if bytes.size != place.size {
                    return Err(fail(&format!(
                        "it has {} bytes here and {} in the kernel",
                        bytes.size, place.size
                    )));
                }
                let start = place.offset as usize;
                let to = value.get_mut(start..start.saturating_add(bytes.size as usize));
                let to = to.ok_or_else(|| fail("it lies outside of the kernel's structure"))?;
                to.iter_mut().zip(bytes.there).for_each(|(to, from)| *to = *from);
                continue;
            }
            let Some(slot) = slot else {
                if bytes.is_zero() {
                    continue;
                }
                return Err(fail(
                    "it is a pointer to something else than a program, which a kernel cannot take",
                ));
            };
            let SlotValue::Program(program) = slot else {
                return Err(fail("a map stands where a program belongs"));
            };
            let there = spec.programs.get(program.0).ok_or_else(|| fail("its program does not exist"))?;
            if there.prog_type != ProgType::STRUCT_OPS {
                return Err(fail(&format!("program `{}` is of type {}", there.name, there.prog_type)));
            }
            if !place.function {
                return Err(fail("it is no function in the kernel"));
            }
            let function = (kernel.structure.clone(), AttachType(place.index));
            if *self.functions.entry(program).or_insert_with(|| function.clone()) != function {
                return Err(fail(&format!(
                    "program `{}` is already another function of the kernel: it can be one only",
                    there.name
                )));
            }
            programs.push(StructOpsProgram { member: name, offset: place.offset, program });
        }
        let mut map = map.clone();
        map.map_type = MapType::STRUCT_OPS;
        map.value_size = kernel.size;
        map.contents = value;
        programs.sort_by_key(|program| program.offset);
        Ok((map, StructOpsPlan { value_type: kernel.value.clone(), programs }))
    }
}

/// The programs that a table holds.
fn programs_of(map: &MapSpec) -> impl Iterator<Item = ProgramIndex> {
    map.slots.iter().filter_map(|slot| match slot.value {
        SlotValue::Program(program) => Some(program),
        SlotValue::Map(_) => None,
    })
}

/// A member of a table as the object has it.
struct Bytes<'m> {
    kind: Kind,
    size: u32,
    /// Its bytes as far as the object gives any; the rest is zero.
    there: &'m [u8],
}

impl<'m> Bytes<'m> {
    fn of(btf: &Btf, member: Member<'_>, map: &'m MapSpec) -> Result<Bytes<'m>, String> {
        let text = |error: BtfError| format!("member `{}`: {error}", member.name());
        let kind = btf.peel(member.type_id).map_err(text)?.kind();
        let size = btf.resolve_size(member.type_id).map_err(text)?;
        let start = (member.bit_offset / 8) as usize;
        let end = start.saturating_add(size as usize).min(map.contents.len());
        Ok(Bytes { kind, size, there: map.contents.get(start..end).unwrap_or_default() })
    }

    fn is_zero(&self) -> bool {
        self.there.iter().all(|&byte| byte == 0)
    }
}

/// A structure of the kernel whose functions can be programs.
struct KernelStructure {
    /// The structure itself.
    structure: KernelType,
    /// The structure around it that the map holds.
    value: KernelType,
    /// Size of the latter in bytes.
    size: u32,
    /// By name.
    members: HashMap<Vec<u8>, Place>,
}

/// A member as the kernel has it.
struct Place {
    index: u32,
    /// In the map's value, in bytes.
    offset: u32,
    size: u32,
    kind: Kind,
    bitfield: bool,
    /// Whether it is a pointer to a function.
    function: bool,
}

impl KernelStructure {
    fn find(local: Type<'_>, target: &dyn Target) -> Result<KernelStructure, String> {
        let name = essential_name(local.name_bytes());
        let shown = String::from_utf8_lossy(name).into_owned();
        let wanted = [VALUE_PREFIX.as_bytes(), name].concat();
        let vmlinux = target.btf().map_err(|error| error.to_string())?;
        if let Some(id) = vmlinux.find(&wanted, Kind::STRUCT) {
            return KernelStructure::read(&vmlinux, id, name, None);
        }
        for module in target.modules().map_err(|error| error.to_string())? {
            if let Some(id) = module.btf.find_own(&wanted, Kind::STRUCT) {
                return KernelStructure::read(&module.btf, id, name, Some(&module.name));
            }
        }
        Err(format!(
            "this kernel has no structure `{shown}` whose functions can be programs (no `{VALUE_PREFIX}{shown}` in \
             its types, nor in those of loaded modules)"
        ))
    }

    fn read(btf: &Btf, id: TypeId, name: &[u8], module: Option<&str>) -> Result<KernelStructure, String> {
        let text = |error: BtfError| error.to_string();
        let shown = String::from_utf8_lossy(name).into_owned();
        let odd = |what: &str| format!("this kernel's types of `{shown}` {what}");
        let value = btf.ty(id).map_err(text)?;
        let structure = btf.find(name, Kind::STRUCT).ok_or_else(|| odd("lack the structure itself"))?;
        let around = value.members().find(|member| member.type_id == structure);
        let start = around.ok_or_else(|| odd("do not hold it in the value of a map"))?.bit_offset / 8;
        let size = value.size();
        if size > SIZE_MAX {
            return Err(odd(&format!("say that it has {size} bytes, more than {SIZE_MAX}")));
        }
        let mut members = HashMap::new();
        for (index, member) in (0..).zip(btf.ty(structure).map_err(text)?.members()) {
            let place = Place {
                index,
                offset: start.saturating_add(member.bit_offset / 8),
                // Only members that the object has are asked for their size and kind.
                size: btf.resolve_size(member.type_id).unwrap_or(0),
                kind: btf.peel(member.type_id).map_or(Kind::VOID, |ty| ty.kind()),
                bitfield: member.bitfield_size != 0,
                function: is_function_pointer(btf, member.type_id).unwrap_or(false),
            };
            members.entry(member.name_bytes().to_vec()).or_insert(place);
        }
        let of = |name: String, type_id| KernelType { name, type_id, module: module.map(str::to_owned) };
        Ok(KernelStructure {
            value: of(format!("{VALUE_PREFIX}{shown}"), id),
            structure: of(shown, structure),
            size,
            members,
        })
    }
}

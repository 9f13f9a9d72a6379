//! Makes an object ready for a kernel: [`Spec`] and a [`Target`] to a [`Plan`].
//!
//! Pure: no descriptor and no address of this process is in a plan, and the same spec and target make the same plan.

mod arena;
pub(crate) mod attach;
mod code;
mod core;
mod described;
mod error;
mod exceptions;
mod externs;
mod jump_tables;
pub(crate) mod kallsyms;
pub(crate) mod kconfig;
mod line;
mod plan;
mod poisoned;
mod prune;
mod reach;
mod show;
mod struct_ops;
mod survey;
mod target;

use skep_asm::{Insn, Reg, pseudo};
use skep_sys::abi::ProgType;

pub use described::BtfTarget;
pub use error::RelocateError;
pub use line::SourceLine;
pub use plan::{
    JumpTablePlan, KernelType, MapPlan, Missing, MissingKind, PlacedDecision, PlacedExtern, PlacedFunction,
    Placeholder, PlaceholderValue, Plan, ProgramFunction, ProgramPlan, StructOpsPlan, StructOpsProgram,
    Unknown,
};
pub use poisoned::{Poison, Poisoned};
pub use prune::Pruned;
pub use reach::Reach;
pub use survey::{FailedExtern, FailedProgram, Survey};
pub use target::{ConfigFeature, ModuleTypes, Target, TargetError};

use self::code::{Linked, POISON_KFUNC, POISON_MAP};
use self::core::CoreCode;
use self::exceptions::Callbacks;
use self::externs::{Externs, Resolved};
use self::struct_ops::Tables;
use crate::spec::{
    ExternIndex, FunctionSpec, MapIndex, MapRole, MapSpec, ProgramIndex, ProgramSpec, Reference,
    ReferenceTarget, Spec, kernel_map_name, sanitize,
};

/// Most bytes of all programs of a plan together. Each holds a copy of every sub-program that it calls, so without a
/// limit a small object could ask for any amount. The largest objects that there are need a few megabytes.
const MAX_SIZE: usize = 128 << 20;

/// Bytes of what a program holds of its functions.
fn rough_size(plan: &ProgramPlan) -> usize {
    let records = plan.func_info.bytes.len() + plan.line_info.bytes.len();
    let places = plan.placeholders.len() + plan.missing.len() + plan.functions.len() + plan.externs.len();
    let jumps: usize = plan.jump_tables.iter().map(|table| table.targets.len() * size_of::<u32>()).sum();
    plan.insns.len() * Insn::SIZE + jumps + records + places * 64 + plan.decisions.len() * 512
}

/// What all programs of an object share.
struct Prepared<'s> {
    externs: Externs,
    tables: Tables,
    /// The programs that are loaded.
    loaded: Vec<ProgramIndex>,
    callbacks: Callbacks<'s>,
    core: CoreCode<'s>,
    maps: Vec<MapPlan>,
}

impl<'s> Prepared<'s> {
    fn new(spec: &'s Spec, externs: Externs, target: &dyn Target) -> Result<Prepared<'s>, RelocateError> {
        let tables = Tables::resolve(spec, target)?;
        let loaded: Vec<ProgramIndex> = (0..spec.programs.len())
            .map(ProgramIndex)
            .zip(&spec.programs)
            .filter(|(index, program)| tables.loads(*index, program.autoload))
            .map(|(index, _)| index)
            .collect();
        let callbacks = Callbacks::read(spec);
        let core = CoreCode::relocate(spec, &loaded, &callbacks, target);
        let mut maps: Vec<MapPlan> = Vec::with_capacity(spec.maps.len());
        for (index, map) in spec.maps.iter().enumerate() {
            let (mut changed, struct_ops) = match tables.plan(index) {
                Some((changed, plan)) => (changed.clone(), Some(plan.clone())),
                None => (map.clone(), None),
            };
            if changed.role == MapRole::Kconfig {
                changed.contents.clone_from(&externs.kconfig);
            }
            let kernel_name =
                if map.role.is_data() { kernel_map_name(&spec.name, &map.name) } else { sanitize(&map.name) };
            let contents_offset = arena::contents_offset(&changed, target)?;
            maps.push(MapPlan { spec: changed, kernel_name, contents_offset, struct_ops });
        }
        Ok(Prepared { externs, tables, loaded, callbacks, core, maps })
    }
}

impl Spec {
    /// Works out what loading the object into `target` takes: everything but what only a live kernel can give.
    ///
    /// Only programs whose [`autoload`](ProgramSpec::autoload) is on are looked at.
    ///
    /// # Errors
    ///
    /// [`RelocateError`], which names the program, function or extern and says what the target lacks. A CO-RE
    /// relocation of something that the target lacks is no error: its instruction is made one that the verifier
    /// refuses if it can be reached.
    pub fn relocate(&self, target: &dyn Target) -> Result<Plan, RelocateError> {
        let prepared = Prepared::new(self, Externs::resolve(self, target)?, target)?;
        if let Some(error) = prepared.core.error() {
            return Err(error.clone());
        }
        let mut programs = Vec::new();
        let mut size = 0;
        for &index in &prepared.loaded {
            let Some(program) = self.programs.get(index.0) else { continue };
            let plan = self.plan_program(index, program, target, &prepared)?;
            size += rough_size(&plan);
            if size > MAX_SIZE {
                return Err(RelocateError::TooLarge { program: plan.name, limit: MAX_SIZE });
            }
            programs.push(plan);
        }
        Ok(self.plan(programs, prepared))
    }

    /// The plan of these programs.
    fn plan(&self, programs: Vec<ProgramPlan>, prepared: Prepared<'_>) -> Plan {
        let mut notes = self.notes.clone();
        notes.extend(prepared.core.notes.iter().cloned());
        Plan {
            name: self.name.clone(),
            license: self.license.clone(),
            version: self.version,
            btf: self.btf.clone(),
            maps: prepared.maps,
            modules: prepared.externs.modules,
            programs,
            notes,
            unknown: prepared.externs.unknown,
        }
    }

    fn plan_program(
        &self,
        index: ProgramIndex,
        program: &ProgramSpec,
        target: &dyn Target,
        parts: &Prepared<'_>,
    ) -> Result<ProgramPlan, RelocateError> {
        if program.prog_type.0 == 0 {
            return Err(RelocateError::NoType {
                program: program.name.clone(),
                section: program.section.clone(),
            });
        }
        let core = &parts.core;
        let callback = parts.callbacks.of(program)?;
        let linked = code::link(self, program.function, callback, |function| core.insns(function))?;
        let Linked { insns, functions, func_info, line_info } = linked;
        let mut plan = ProgramPlan {
            name: program.name.clone(),
            kernel_name: sanitize(&program.name),
            program: index,
            section: program.section.clone(),
            prog_type: program.prog_type,
            attach_type: program.attach_type,
            attach_type_optional: program.attach_type_optional,
            attach_to: program.attach_to.clone(),
            auto_attach: program.auto_attach,
            attach_target: None,
            attach_function: attach::function(program, target)?,
            flags: program.flags,
            insns,
            functions: Vec::with_capacity(functions.len()),
            placeholders: Vec::new(),
            jump_tables: Vec::new(),
            func_info,
            line_info,
            decisions: Vec::new(),
            missing: Vec::new(),
            externs: Vec::new(),
        };
        if plan.attach_function.is_none() {
            plan.attach_target = attach::resolve(program, target)?;
        }
        for (function_index, placed) in functions {
            let Some(function) = self.functions.get(function_index.0) else { continue };
            let decisions = core.decisions(function_index).iter();
            plan.decisions.extend(decisions.map(|(insn, decision, applied)| PlacedDecision {
                insn: placed.start + insn,
                decision: decision.clone(),
                applied: *applied,
                original: original(function, *insn),
            }));
            for reference in &function.references {
                self.refer(&mut plan, function, reference, placed.start, parts)?;
            }
            strays(function)?;
            plan.functions.push(placed);
        }
        if program.prog_type == ProgType::STRUCT_OPS {
            let function = parts.tables.function(index).cloned();
            let (function, member) = function.ok_or_else(|| RelocateError::AttachTarget {
                program: program.name.clone(),
                section: program.section.clone(),
                reason:
                    "no struct_ops table that is created holds it: name it in one, or switch autoload off"
                        .into(),
            })?;
            (plan.attach_target, plan.attach_type) = (Some(function), member);
        }
        Ok(plan)
    }

    /// Fills in what an instruction refers to, as far as it is known without a kernel's descriptors.
    fn refer(
        &self,
        plan: &mut ProgramPlan,
        function: &FunctionSpec,
        reference: &Reference,
        start: u32,
        parts: &Prepared<'_>,
    ) -> Result<(), RelocateError> {
        let none = |what, index| RelocateError::NoSuchReference {
            function: function.name.clone(),
            insn: reference.insn,
            what,
            index,
        };
        let at = start.checked_add(reference.insn).ok_or_else(|| none("instruction", usize::MAX))?;
        let slots = plan.insns.get_mut(at as usize..).unwrap_or_default();
        let (first, mut second) = match slots {
            [first, second, ..] if first.is_ld_imm64() => (first, Some(second)),
            [first, ..] => (first, None),
            [] => return Err(none("instruction", at as usize)),
        };
        match reference.target {
            ReferenceTarget::Call(_) | ReferenceTarget::FunctionAddress(_) => {}
            ReferenceTarget::Map(map) | ReferenceTarget::MapValue { map, .. } => {
                let spec = self.maps.get(map.0).ok_or_else(|| none("map", map.0))?;
                let second = second.ok_or_else(|| none("second half of instruction", at as usize))?;
                if !spec.autocreate {
                    plan.missing.push(poison_map(at, first, second, map, spec));
                    return Ok(());
                }
                let value = if let ReferenceTarget::MapValue { offset, .. } = reference.target {
                    let start = parts.maps.get(map.0).map_or(0, |map| map.contents_offset);
                    map_value(first, second, offset.wrapping_add(start));
                    PlaceholderValue::MapValue(map)
                } else {
                    first.set_src_raw(pseudo::MAP_FD);
                    first.imm = 0;
                    second.imm = 0;
                    PlaceholderValue::Map(map)
                };
                plan.placeholders.push(Placeholder { insn: at, value });
            }
            ReferenceTarget::JumpTable(index) => {
                let table = self.jump_tables.get(index.0).ok_or_else(|| none("jump table", index.0))?;
                let second = second.ok_or_else(|| none("second half of instruction", at as usize))?;
                map_value(first, second, 0);
                let at_table = jump_tables::place(plan, function, reference.insn, start, index, table)?;
                plan.placeholders
                    .push(Placeholder { insn: at, value: PlaceholderValue::JumpTable(at_table) });
            }
            ReferenceTarget::Extern(index) => {
                let spec = self.externs.get(index.0).ok_or_else(|| none("extern", index.0))?;
                let name = &spec.name;
                let resolved = parts.externs.get(index).ok_or_else(|| none("extern", index.0))?;
                let known = parts.externs.knows(spec);
                plan.externs.push(PlacedExtern { insn: at, index, kind: spec.kind, known });
                if let (Resolved::Config { map, .. }, Some(second)) = (resolved, second.as_deref_mut())
                    && let Some(spec) = self.maps.get(map.0).filter(|spec| !spec.autocreate)
                {
                    plan.missing.push(poison_map(at, first, second, *map, spec));
                    return Ok(());
                }
                let found = fill_extern(first, second, resolved, index)
                    .map_err(|reason| RelocateError::Extern { name: name.clone(), reason: reason.into() })?;
                match found {
                    Filled::Whole => {}
                    Filled::Needs(value) => plan.placeholders.push(Placeholder { insn: at, value }),
                    Filled::Missing => plan.missing.push(Missing {
                        insn: at,
                        what: MissingKind::KernelFunction,
                        name: name.clone(),
                        original: original(function, reference.insn),
                    }),
                }
            }
        }
        Ok(())
    }
}

/// An instruction as the compiler wrote it.
fn original(function: &FunctionSpec, insn: u32) -> Insn {
    function.insns.get(insn as usize).copied().unwrap_or_default()
}

fn poison(insn: &mut Insn, base: i32, index: usize) {
    let index = i32::try_from(index).unwrap_or(i32::MAX - POISON_KFUNC);
    *insn = Insn::new(skep_asm::opcode::CALL, Reg::R0, Reg::R0, 0, base.saturating_add(index));
}

/// Makes a reference to a map that is not created one that the verifier refuses if it can be reached.
fn poison_map(at: u32, first: &mut Insn, second: &mut Insn, map: MapIndex, spec: &MapSpec) -> Missing {
    let original = *first;
    poison(first, POISON_MAP, map.0);
    poison(second, POISON_MAP, map.0);
    Missing { insn: at, what: MissingKind::Map, name: spec.name.clone(), original }
}

fn map_value(first: &mut Insn, second: &mut Insn, offset: u32) {
    first.set_src_raw(pseudo::MAP_VALUE);
    first.imm = 0;
    second.imm = offset.cast_signed();
}

enum Filled {
    Whole,
    Needs(PlaceholderValue),
    Missing,
}

fn fill_extern(
    first: &mut Insn,
    second: Option<&mut Insn>,
    resolved: &Resolved,
    index: ExternIndex,
) -> Result<Filled, &'static str> {
    let needs = |module: &Option<String>, value: fn(String) -> PlaceholderValue| match module {
        Some(module) => Filled::Needs(value(module.clone())),
        None => Filled::Whole,
    };
    match (resolved, second) {
        // It stays an address that is not known: the plan says so.
        (Resolved::Unknown, Some(_)) => Ok(Filled::Whole),
        (Resolved::Config { map, offset }, Some(second)) => {
            map_value(first, second, *offset);
            Ok(Filled::Needs(PlaceholderValue::MapValue(*map)))
        }
        (Resolved::Address(address), Some(second)) => {
            first.set_src_raw(0);
            Insn::set_imm64(first, second, *address);
            Ok(Filled::Whole)
        }
        (Resolved::Type { id, module }, Some(second)) => {
            first.set_src_raw(pseudo::BTF_ID);
            first.imm = id.0.cast_signed();
            second.imm = 0;
            Ok(needs(module, PlaceholderValue::ModuleBtf))
        }
        (Resolved::Type { id, module }, None) => {
            first.set_src_raw(pseudo::KFUNC_CALL);
            first.imm = id.0.cast_signed();
            first.off = 0;
            Ok(needs(module, PlaceholderValue::ModuleCall))
        }
        (Resolved::Address(_) | Resolved::Unknown, None) => {
            poison(first, POISON_KFUNC, index.0);
            Ok(Filled::Missing)
        }
        (Resolved::Config { .. }, None) => Err("a configuration value is called as a function"),
    }
}

/// What was found to lead nowhere, and what needs a reference and has none: the compiler resolved it to what is no function.
fn strays(function: &FunctionSpec) -> Result<(), RelocateError> {
    let stray = |insn, reason: &str| RelocateError::Stray {
        function: function.name.clone(),
        insn,
        reason: reason.into(),
    };
    if let Some(first) = function.strays.first() {
        return Err(stray(first.insn, &first.reason));
    }
    let mut second_half = false;
    for (at, insn) in function.insns.iter().enumerate() {
        let skip = second_half;
        second_half = insn.is_ld_imm64() && !skip;
        let reason = match (insn.is_pseudo_call(), second_half && insn.src_raw() == pseudo::FUNC) {
            _ if skip => continue,
            (true, _) => "it calls what is no function of this object",
            (_, true) => "it takes the address of what is no function of this object",
            _ => continue,
        };
        let at = at as u32;
        if function.references.binary_search_by_key(&at, |reference| reference.insn).is_err() {
            return Err(stray(at, reason));
        }
    }
    Ok(())
}

//! The steps of a load, in their order: maps, programs, and what of maps needs the programs.

use std::sync::{Arc, OnceLock};

use skep_btf::Btf;
use skep_sys::abi::{MapType, UpdateFlags};
use skep_sys::{LoadedProgram, MapFd, SharedMemory};

use super::arg_ctx::Rewritten;
use super::error::LoadError;
use super::map::Maker;
use super::object::{Arena, ObjectMap};
use super::program::{self, Context};
use super::report::{LoadReport, NoteKind};
use super::struct_ops::Table;
use crate::map::{Map, MapTypes};
use crate::program::Program;
use crate::reloc::{MapPlan, PlaceholderValue, Plan, ProgramPlan};
use crate::spec::{MapRole, SlotValue};

/// The maps of a plan: three lists of the same length as its own.
pub(super) struct MadeMaps {
    /// None for a map that is left out.
    pub(super) fds: Vec<Option<MapFd>>,
    /// Whether it was made now, and not found pinned.
    fresh: Vec<bool>,
    /// The memory of arenas.
    memories: Vec<Option<SharedMemory>>,
}

/// Makes all maps, then puts those that are elements of others into these.
pub(super) fn make_maps(maker: &mut Maker<'_, '_>, plan: &Plan) -> Result<MadeMaps, LoadError> {
    let count = plan.maps.len();
    let mut made = MadeMaps {
        fds: Vec::with_capacity(count),
        fresh: Vec::with_capacity(count),
        memories: Vec::with_capacity(count),
    };
    for map in &plan.maps {
        if !map.spec.autocreate {
            made.fds.push(None);
            made.fresh.push(false);
            made.memories.push(None);
            continue;
        }
        let new = maker.make(map)?;
        let is_arena = map.spec.map_type == MapType::ARENA;
        made.memories.push(if is_arena { maker.map_arena(map, &new)? } else { None });
        made.fresh.push(!new.reused);
        made.fds.push(Some(new.fd));
    }
    for ((map, fd), fresh) in plan.maps.iter().zip(&made.fds).zip(&made.fresh) {
        if let (Some(fd), true) = (fd, fresh) {
            maker.fill_slots(map, fd, &made.fds)?;
        }
    }
    Ok(made)
}

/// Loads all programs. `rewritten` has function records in the place of the plan's, for kernels that do not know a tag.
pub(super) fn load_programs(
    context: &Context<'_>,
    plan: &Plan,
    rewritten: Option<&Rewritten>,
    report: &mut LoadReport,
) -> Result<Vec<Program>, LoadError> {
    let mut programs = Vec::with_capacity(plan.programs.len());
    for (index, program) in plan.programs.iter().enumerate() {
        for missing in &program.missing {
            let text = format!("instruction {}: no `{}`", missing.insn, missing.name);
            report.add(NoteKind::Poisoned, &program.name, text);
        }
        let func_info = rewritten.and_then(|rewritten| rewritten.func_info.get(index)?.as_deref());
        let taken = program::load(context, program, func_info, report)?;
        bind_constants(plan, program, context.maps, &taken.program);
        programs.push(Program::new(program, taken));
    }
    Ok(programs)
}

/// Puts programs into the arrays of programs that name them.
pub(super) fn fill_program_slots(
    plan: &Plan,
    fds: &[Option<MapFd>],
    programs: &[Program],
    report: &mut LoadReport,
) -> Result<(), LoadError> {
    for (map, fd) in plan.maps.iter().zip(fds).filter(|(map, _)| map.struct_ops.is_none()) {
        let Some(fd) = fd else { continue };
        for slot in &map.spec.slots {
            let SlotValue::Program(index) = slot.value else { continue };
            let held = plan.programs.iter().position(|program| program.program == index);
            let Some(held) = held.and_then(|at| programs.get(at)) else {
                let text = format!("element {} stays empty: its program is not loaded", slot.index);
                report.add(NoteKind::Skipped, &map.spec.name, text);
                continue;
            };
            let put = fd.update_program(&slot.index.to_ne_bytes(), held.loaded(), UpdateFlags::empty());
            put.map_err(|error| LoadError::MapDefinition {
                map: map.spec.name.clone(),
                reason: format!("its element {} cannot be program `{}`: {error}", slot.index, held.name()),
            })?;
        }
    }
    Ok(())
}

/// The maps as the object has them: with their types, and the memory of arenas.
pub(super) fn object_maps(plan: &Plan, made: MadeMaps, types: Option<&Btf>) -> Vec<ObjectMap> {
    let types_of = |map: &MapPlan, fresh: bool| {
        // What was pinned before may have other types, which the kernel knows.
        let btf = types.filter(|_| fresh)?.clone();
        let (key, value) = (map.spec.key_type, map.spec.value_type);
        Some(MapTypes { btf, key, value })
    };
    let named = |map: &MapPlan, fd, fresh| match types_of(map, fresh) {
        Some(types) => Map::with_types(&map.spec.name, fd, Some(types)),
        None => Map::new(&map.spec.name, fd),
    };
    let with_memory = |map: Map, memory: Option<&Arc<SharedMemory>>| {
        memory.inspect(|memory| map.keep_memory(memory));
        map
    };
    let memories = made.memories.into_iter().map(|memory| memory.map(Arc::new));
    let maps = plan.maps.iter().zip(made.fds.into_iter().zip(memories)).zip(made.fresh);
    maps.map(|((map, (fd, memory)), fresh)| ObjectMap {
        name: map.spec.name.clone(),
        role: map.spec.role.clone(),
        map: fd.map(|fd| with_memory(named(map, fd, fresh), memory.as_ref())),
        arena: memory.map(|memory| Arena { memory, contents: map.contents_offset as usize }),
        memory: OnceLock::new(),
        table: map.struct_ops.as_ref().map(|plan| Table::new(map, plan)),
    })
    .collect()
}

/// Binds the maps of constants that a program does not use to it (`BPF_PROG_BIND_MAP`), so that tools which look at
/// loaded programs find what an object says of itself there. It is no loss on kernels before 5.10.
fn bind_constants(plan: &Plan, program: &ProgramPlan, maps: &[Option<MapFd>], loaded: &LoadedProgram) {
    for (index, (map, fd)) in plan.maps.iter().zip(maps).enumerate() {
        let used = program.placeholders.iter().any(|placeholder| match placeholder.value {
            PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map) => map.0 == index,
            _ => false,
        });
        if let (MapRole::Rodata, false, Some(fd)) = (&map.spec.role, used, fd) {
            let _ = loaded.bind_map(fd);
        }
    }
}

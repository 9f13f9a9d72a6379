//! What instructions refer to: maps, kernel types and kernel functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_asm::{Insn, opcode as op, pseudo};
use skep_btf::{Kind, TypeId};
use skep_sys::abi::{Errno, MapType, ProgFlags, ProgType};

use super::verify::{Reject, Subject, reject};
use crate::btf::BtfObject;
use crate::features::Features;
use crate::map::{FieldKind, Map, PlacesHold};
use crate::vm::Symbol;

/// Most maps of a program (`MAX_USED_MAPS`).
const MAPS_MAX: usize = 64;
/// Offsets into a value stay below this (`BPF_MAX_VAR_OFF`).
const OFFSET_MAX: u32 = 1 << 29;

/// The 64-bit loads of a program.
#[derive(Debug, Default)]
pub(super) struct Loads {
    /// Maps in the order of their first use.
    pub(super) maps: Vec<Arc<Map>>,
    /// By slot, the loads of an address in a map's value: the map's place among `maps`, and the offset.
    pub(super) by_slot: BTreeMap<usize, (usize, u32)>,
    /// By slot, the loads of a map itself: its place among `maps`.
    pub(super) whole: BTreeMap<usize, usize>,
    /// Kernel variables and functions whose address is loaded.
    pub(super) symbols: Vec<Symbol>,
    /// By slot, the place of the symbol among `symbols`.
    pub(super) symbol_by_slot: BTreeMap<usize, usize>,
    /// Holds of the maps of instructions, each of which is for one program.
    pub(super) places: Vec<PlacesHold>,
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Reject {
    reject(Errno::EINVAL, message)
}

/// Checks the form of loads and opcodes, and finds the maps (`resolve_pseudo_ldimm64`).
pub(super) fn resolve(subject: &Subject<'_>) -> Result<Loads, Reject> {
    let insns = subject.request.insns;
    let indirect = subject.kernel.features().contains(Features::INSN_ARRAY);
    let mut loads = Loads::default();
    let mut index = 0;
    while let Some(insn) = insns.get(index) {
        if insn.is_ld_imm64() {
            resolve_load(subject, index, insn, insns.get(index + 1), &mut loads)?;
        } else if insn.class() == op::CLASS_LDX
            && (!matches!(insn.opcode & op::MODE_MASK, op::MODE_MEM | op::MODE_MEMSX) || insn.imm != 0)
        {
            return Err(invalid("BPF_LDX uses reserved fields"));
        } else if !(is_known(insn.opcode) || indirect && insn.opcode == op::GOTOX) {
            return Err(invalid(format!("unknown opcode {:02x}", insn.opcode)));
        }
        index += insn.slots();
    }
    Ok(loads)
}

fn resolve_load(
    subject: &Subject<'_>,
    index: usize,
    insn: &Insn,
    high: Option<&Insn>,
    loads: &mut Loads,
) -> Result<(), Reject> {
    let is_second =
        |high: &&Insn| high.opcode == 0 && high.dst_raw() == 0 && high.src_raw() == 0 && high.off == 0;
    let high = high.filter(is_second).ok_or_else(|| invalid("invalid bpf_ld_imm64 insn"))?;
    let features = subject.kernel.features();
    let (object, offset) = match insn.src_raw() {
        0 | pseudo::FUNC => return Ok(()),
        pseudo::BTF_ID => {
            let symbol = kernel_symbol(subject, insn.imm, high.imm)?;
            let place = loads.symbols.iter().position(|known| *known == symbol).unwrap_or_else(|| {
                loads.symbols.push(symbol);
                loads.symbols.len() - 1 // one was pushed
            });
            loads.symbol_by_slot.insert(index, place);
            return Ok(());
        }
        pseudo::MAP_FD if high.imm == 0 => (subject.kernel.object_number(insn.imm), None),
        pseudo::MAP_VALUE if features.contains(Features::GLOBAL_DATA) => {
            (subject.kernel.object_number(insn.imm), Some(high.imm as u32))
        }
        pseudo::MAP_IDX if high.imm == 0 => (array_object(subject, insn.imm)?, None),
        pseudo::MAP_IDX_VALUE => (array_object(subject, insn.imm)?, Some(high.imm as u32)),
        _ => return Err(invalid("unrecognized bpf_ld_imm64 insn")),
    };
    let map = object
        .and_then(|object| object.map().cloned())
        .map_err(|errno| reject(errno, format!("fd {} is not pointing to valid bpf_map", insn.imm)))?;
    let place = match loads.maps.iter().position(|known| Arc::ptr_eq(known, &map)) {
        Some(place) => place,
        None if loads.maps.len() >= MAPS_MAX => {
            let text = format!("The total number of maps per program has reached the limit of {MAPS_MAX}");
            return Err(reject(Errno::E2BIG, text));
        }
        None => {
            check_fits(subject, &map)?;
            check_arena(loads, &map)?;
            loads.maps.push(map.clone());
            let hold = map.hold_places(subject.request.insns);
            let hold = hold.map_err(|errno| reject(errno, "Failed to properly initialize insn array"))?;
            loads.places.extend(hold);
            loads.maps.len() - 1 // one was pushed
        }
    };
    match offset {
        Some(offset) => {
            check_value(&map, offset)?;
            loads.by_slot.insert(index, (place, offset));
        }
        None => _ = loads.whole.insert(index, place),
    }
    Ok(())
}

/// Checks whether a map is for programs of this kind (`check_map_prog_compatibility`).
fn check_fits(subject: &Subject<'_>, map: &Map) -> Result<(), Reject> {
    use MapType as M;

    let prog_type = subject.request.prog_type;
    let traces = matches!(
        prog_type,
        ProgType::KPROBE
            | ProgType::TRACEPOINT
            | ProgType::PERF_EVENT
            | ProgType::RAW_TRACEPOINT
            | ProgType::RAW_TRACEPOINT_WRITABLE
    );
    let has = |kinds: &[FieldKind]| kinds.iter().any(|kind| map.shape.fields.of(*kind).is_some());
    let locks = has(&[FieldKind::SpinLock, FieldKind::ResSpinLock]);
    if traces && has(&[FieldKind::ListHead, FieldKind::RbRoot]) {
        return Err(invalid("tracing progs cannot use bpf_{list_head,rb_root} yet"));
    }
    if locks && prog_type == ProgType::SOCKET_FILTER {
        return Err(invalid("socket filter progs cannot use bpf_spin_lock yet"));
    }
    let untraced =
        [(locks, "spin_lock"), (has(&[FieldKind::Timer]), "timer"), (has(&[FieldKind::Workqueue]), "wq")];
    if let Some((_, name)) = untraced.iter().find(|(has, _)| traces && *has) {
        return Err(invalid(format!("tracing progs cannot use bpf_{name} yet")));
    }
    if map.shape.kind == M::STRUCT_OPS {
        return Err(invalid("bpf_struct_ops map cannot be used in prog"));
    }
    let can_sleep = matches!(
        map.shape.kind,
        M::HASH
            | M::LRU_HASH
            | M::ARRAY
            | M::PERCPU_HASH
            | M::PERCPU_ARRAY
            | M::LRU_PERCPU_HASH
            | M::ARRAY_OF_MAPS
            | M::HASH_OF_MAPS
            | M::RINGBUF
            | M::USER_RINGBUF
            | M::INODE_STORAGE
            | M::SK_STORAGE
            | M::TASK_STORAGE
            | M::CGRP_STORAGE
            | M::QUEUE
            | M::STACK
            | M::ARENA
            | M::INSN_ARRAY
    );
    if subject.request.flags.contains(ProgFlags::SLEEPABLE) && !can_sleep {
        return Err(invalid("Sleepable programs can only use array, hash, ringbuf and local storage maps"));
    }
    Ok(())
}

/// Checks an arena that a program is about to use (`__add_used_map`).
fn check_arena(loads: &Loads, map: &Map) -> Result<(), Reject> {
    if !map.is_arena() {
        return Ok(());
    }
    if loads.maps.iter().any(|known| known.is_arena()) {
        return Err(reject(Errno::EBUSY, "Only one arena per program"));
    }
    if map.with_arena(|arena| arena.start()).flatten().is_none() {
        return Err(invalid("arena's user address must be set via map_extra or mmap()"));
    }
    Ok(())
}

/// The object in the program's table of descriptors.
fn array_object(subject: &Subject<'_>, index: i32) -> Result<Result<crate::object::Object, Errno>, Reject> {
    let array = subject.request.fd_array;
    if array.is_empty() {
        return Err(reject(Errno::EPROTO, "fd_idx without fd_array is invalid"));
    }
    let fd = usize::try_from(index).ok().and_then(|index| array.get(index).copied().flatten());
    Ok(fd.ok_or(Errno::EBADF).and_then(|fd| subject.kernel.object(fd)))
}

/// Checks that the address at an offset of a map's only value can be had.
fn check_value(map: &Map, offset: u32) -> Result<(), Reject> {
    if offset >= OFFSET_MAX {
        return Err(invalid(format!("direct value offset of {offset} is not allowed")));
    }
    let size = map.shape.value_size;
    let errno = match map.shape.kind {
        MapType::ARRAY if map.shape.max_entries != 1 => Errno::ENOTSUPP,
        MapType::ARRAY if offset >= size => Errno::EINVAL,
        // The values of a map of instructions are addresses.
        MapType::INSN_ARRAY if !offset.is_multiple_of(8) || offset / 8 >= map.shape.max_entries => {
            Errno::EACCES
        }
        MapType::INSN_ARRAY => return Ok(()),
        // The values of an arena are its pages.
        MapType::ARENA if u64::from(offset) >= u64::from(map.shape.max_entries) << 12 => Errno::ERANGE,
        MapType::ARRAY | MapType::ARENA => return Ok(()),
        _ => return Err(invalid("no direct value access support for this map type")),
    };
    Err(reject(errno, format!("invalid access to map value pointer, value_size={size} off={offset}")))
}

/// Checks the load of the address of a kernel variable or function (`check_pseudo_btf_id`).
fn kernel_symbol(subject: &Subject<'_>, id: i32, module: i32) -> Result<Symbol, Reject> {
    let btf = if module == 0 {
        subject.kernel.vmlinux().cloned().ok_or_else(|| {
            invalid("kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig.")
        })?
    } else {
        let object = subject.kernel.object_number(module);
        let btf = object.and_then(|object| object.btf().cloned());
        btf.map_err(|_| invalid("invalid module BTF object FD specified."))?
    };
    let kind = kind_of(&btf, id);
    if kind.is_none() {
        return Err(reject(Errno::ENOENT, format!("ldimm64 insn specifies invalid btf_id {id}.")));
    }
    if !matches!(kind, Some(Kind::VAR | Kind::FUNC)) {
        return Err(invalid(format!("pseudo btf_id {id} in ldimm64 isn't KIND_VAR or KIND_FUNC")));
    }
    Ok(Symbol { name: name_of(&btf, id), is_function: kind == Some(Kind::FUNC) })
}

fn name_of(btf: &BtfObject, id: i32) -> String {
    let ty = u32::try_from(id).ok().and_then(|id| btf.btf.ty(TypeId(id)).ok());
    ty.map_or_else(String::new, |ty| ty.name().into_owned())
}

fn kind_of(btf: &BtfObject, id: i32) -> Option<Kind> {
    let ty = btf.btf.ty(TypeId(u32::try_from(id).ok()?)).ok()?;
    Some(ty.kind())
}

/// Checks that the functions of the kernel that are called are there (`add_kfunc_call`). Answers their names by slot.
pub(super) fn kernel_functions(subject: &Subject<'_>) -> Result<BTreeMap<usize, String>, Reject> {
    let mut names = BTreeMap::new();
    let calls = subject.request.insns.iter().enumerate().filter(|(_, insn)| insn.is_kfunc_call());
    for (slot, insn) in calls {
        let Some(vmlinux) = subject.kernel.vmlinux() else {
            let text = "calling kernel function is not supported without CONFIG_DEBUG_INFO_BTF";
            return Err(reject(Errno::ENOTSUPP, text));
        };
        if !subject.gpl_compatible {
            return Err(invalid("cannot call kernel function from non-GPL compatible program"));
        }
        // A weak function that was not found: an error only when the call can be reached.
        if insn.imm == 0 && insn.off == 0 {
            continue;
        }
        let module = match usize::try_from(insn.off) {
            Ok(0) => None,
            Ok(index) => Some(module_btf(subject, index).map_err(Reject::of_call)?),
            Err(_) => {
                let text = "negative offset disallowed for kernel module function call";
                return Err(invalid(text).of_call());
            }
        };
        let btf = module.as_ref().unwrap_or(vmlinux);
        if kind_of(btf, insn.imm) != Some(Kind::FUNC) {
            return Err(invalid(format!("kernel btf_id {} is not a function", insn.imm)));
        }
        let name = name_of(btf, insn.imm);
        if name.starts_with("bpf_xdp_metadata_") && subject.request.ifindex == 0 {
            return Err(invalid("metadata kfuncs require device-bound program"));
        }
        names.insert(slot, name);
    }
    Ok(names)
}

fn module_btf(subject: &Subject<'_>, index: usize) -> Result<Arc<BtfObject>, Reject> {
    let array = subject.request.fd_array;
    if array.is_empty() {
        return Err(reject(Errno::EPROTO, "kfunc offset > 0 without fd_array is invalid"));
    }
    let fd = array.get(index).copied().flatten().ok_or(Errno::EBADF);
    let object = fd.and_then(|fd| subject.kernel.object(fd));
    let btf = object.and_then(|object| object.btf().cloned());
    let btf = btf.map_err(|errno| reject(errno, "invalid module BTF fd specified"))?;
    if btf.kernel { Ok(btf) } else { Err(invalid("BTF fd for kfunc is not a module BTF")) }
}

/// Whether the kernel has an instruction with this opcode (`bpf_opcode_in_insntable`).
fn is_known(opcode: u8) -> bool {
    let source = opcode & op::SRC_MASK;
    let size = opcode & op::SIZE_MASK;
    match opcode & op::CLASS_MASK {
        op::CLASS_ALU | op::CLASS_ALU64 => match opcode & op::OP_MASK {
            op::ALU_NEG => source == op::SRC_K,
            op::ALU_END => source == op::SRC_K || opcode & op::CLASS_MASK == op::CLASS_ALU,
            operation => operation < op::ALU_END,
        },
        op::CLASS_JMP => match opcode & op::OP_MASK {
            op::JMP_JA | op::JMP_CALL | op::JMP_EXIT | op::JMP_JCOND => source == op::SRC_K,
            operation => operation < op::JMP_JCOND,
        },
        op::CLASS_JMP32 => match opcode & op::OP_MASK {
            op::JMP_JA => source == op::SRC_K,
            op::JMP_CALL | op::JMP_EXIT => false,
            operation => operation < op::JMP_JCOND,
        },
        op::CLASS_LD => match opcode & op::MODE_MASK {
            op::MODE_ABS | op::MODE_IND => size != op::SIZE_DW,
            _ => opcode == op::LD_IMM64,
        },
        op::CLASS_LDX => opcode & op::MODE_MASK != op::MODE_MEMSX || size != op::SIZE_DW,
        op::CLASS_ST => opcode & op::MODE_MASK == op::MODE_MEM,
        _ => matches!(opcode & op::MODE_MASK, op::MODE_MEM | op::MODE_ATOMIC),
    }
}

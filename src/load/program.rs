//! Loads one program: descriptors in place, fallbacks, and the log when the kernel refuses.

use std::os::fd::{AsFd, BorrowedFd};

use skep_asm::Insn;
use skep_btf::Btf;
use skep_sys::abi::{AttachType, Errno, MapType, ProgFlags, ProgType, UpdateFlags};
use skep_sys::request::{AttachTarget, LogBuffer, MapCreate, ProgLoad, Records};
use skep_sys::{BtfFd, Feature, Kernel, LoadedProgram, MapError, MapFd};

use super::fallback::{Refused, Spare};
use super::report::{LoadReport, NoteKind};
use super::target::KernelTarget;
use super::verifier::ProgramError;
use super::{LoadError, fallback, hint};
use crate::reloc::{JumpTablePlan, PlaceholderValue, ProgramPlan};
use crate::spec::AutoAttach;

/// Size of the first log buffer. It costs nothing until the kernel writes into it.
const LOG_SIZE: usize = (u32::MAX >> 8) as usize;
/// Size that a log buffer does not grow beyond, which is also what a kernel accepts.
const LOG_SIZE_MAX: usize = (u32::MAX >> 2) as usize;

/// Size of `struct bpf_insn_array_value`.
const INSN_ARRAY_VALUE: usize = 16;

/// What all programs of an object share.
pub(crate) struct Context<'l> {
    pub(crate) kernel: &'l Kernel,
    pub(crate) target: &'l KernelTarget,
    /// By index of the plan's maps; none for those that were not created.
    pub(crate) maps: &'l [Option<MapFd>],
    /// Modules whose functions the object calls.
    pub(crate) modules: &'l [String],
    /// Devices that programs are bound to, by the names of the programs.
    pub(crate) devices: &'l [(String, u32)],
    pub(crate) license: &'l str,
    pub(crate) version: Option<u32>,
    /// The loaded types of the object.
    pub(crate) btf_fd: Option<&'l BtfFd>,
    /// The types of the object.
    pub(crate) btf: Option<&'l Btf>,
    pub(crate) log_level: u32,
}

/// A loaded program, with the log that was asked for.
pub(crate) struct Taken {
    pub(crate) program: LoadedProgram,
    /// The attach type that it was verified for.
    pub(crate) attach_type: AttachType,
    pub(crate) log: String,
}

/// Loads a program; `func_info` are its function records if they are not those of the plan.
pub(crate) fn load(
    context: &Context<'_>,
    plan: &ProgramPlan,
    func_info: Option<&[u8]>,
    report: &mut LoadReport,
) -> Result<Taken, LoadError> {
    // The program keeps them alive.
    let jump_tables = plan.jump_tables.iter().map(|table| jump_table(context, plan, table));
    let jump_tables = jump_tables.collect::<Result<Vec<_>, _>>()?;
    let insns = fill(context, plan, &jump_tables)?;
    let spare = Spare::default();
    // Number 0 is the kernel itself.
    let mut fd_array: Vec<Option<BorrowedFd<'_>>> = Vec::new();
    for module in context.modules {
        fd_array.resize(fd_array.len().max(1), None);
        fd_array.push(Some(module_fd(context, plan, module)?));
    }
    let mut request = ProgLoad::new(plan.prog_type, &insns, context.license);
    request.name = &plan.kernel_name;
    request.expected_attach_type = attach_type(context.kernel, plan);
    request.flags = plan.flags;
    if let Some((_, ifindex)) = context.devices.iter().find(|(name, _)| *name == plan.name) {
        request.ifindex = *ifindex;
        request.flags |= ProgFlags::XDP_DEV_BOUND_ONLY;
    }
    request.kern_version = match context.version {
        Some(version) => version,
        None => context.kernel.version_code().unwrap_or(0),
    };
    request.fd_array = &fd_array;
    request.known_records = Some(&spare.known);
    if let Some(target) = &plan.attach_target {
        let module = match &target.module {
            Some(module) => Some(module_fd(context, plan, module)?),
            None => None,
        };
        request.attach = AttachTarget::KernelType { type_id: target.type_id.0, module };
    }
    if let Some(function) = &plan.attach_function {
        let other = context.target.attach_program(&plan.name).ok_or_else(|| LoadError::Incomplete {
            program: plan.name.clone(),
            reason: format!("function `{}` is one of a program that was not said", function.name),
        })?;
        request.attach = AttachTarget::Program { prog: other.as_fd(), type_id: function.type_id.0 };
    }
    if let Some(btf) = context.btf_fd
        && !(plan.func_info.is_empty() && plan.line_info.is_empty())
    {
        request.btf = Some(btf.as_fd());
        let bytes = func_info.unwrap_or(&plan.func_info.bytes);
        request.func_info = Records { record_size: plan.func_info.record_size, bytes };
        request.line_info = Records { record_size: plan.line_info.record_size, bytes: &plan.line_info.bytes };
    }

    let mut errno = match attempt(context, &request) {
        Ok(taken) => return Ok(taken),
        Err(errno) => errno,
    };
    for adapt in fallback::ALL {
        let refused = Refused { kernel: context.kernel, plan, errno };
        let Some(text) = adapt(&refused, &mut request, &spare) else { continue };
        report.add(NoteKind::Adapted, &plan.name, text);
        match attempt(context, &request) {
            Ok(taken) => return Ok(taken),
            Err(next) => errno = next,
        }
    }
    if fallback::lacks_global_data(&Refused { kernel: context.kernel, plan, errno }) {
        return Err(LoadError::Unsupported {
            subject: format!("program `{}`", plan.name),
            reason: fallback::NO_GLOBAL_DATA.into(),
        });
    }
    explain(context, plan, &request, errno)
}

/// The attach type to verify a program for. One link for all places of a tracepoint of a program or library (USDT) wants
/// another one than a link for each, and has to be decided before; it is better where a kernel has it.
fn attach_type(kernel: &Kernel, plan: &ProgramPlan) -> AttachType {
    let is_usdt = plan.auto_attach == AutoAttach::Usdt && plan.prog_type == ProgType::KPROBE;
    if is_usdt && plan.attach_type.0 == 0 && kernel.has(Feature::UprobeMultiLink).is_supported() {
        return AttachType::TRACE_UPROBE_MULTI;
    }
    plan.attach_type
}

fn attempt(context: &Context<'_>, request: &ProgLoad<'_>) -> Result<Taken, Errno> {
    let attach_type = request.expected_attach_type;
    if context.log_level == 0 {
        let program = context.kernel.prog_load(request, None)?;
        return Ok(Taken { program, attach_type, log: String::new() });
    }
    let mut log = LogBuffer::new(context.log_level, LOG_SIZE);
    let program = context.kernel.prog_load(request, Some(&mut log))?;
    Ok(Taken { program, attach_type, log: log.text().into_owned() })
}

/// Loads once more for the log. The second try may succeed, where the first was interrupted.
fn explain(
    context: &Context<'_>,
    plan: &ProgramPlan,
    request: &ProgLoad<'_>,
    first: Errno,
) -> Result<Taken, LoadError> {
    let mut size = LOG_SIZE;
    let mut log = LogBuffer::new(context.log_level.max(1), size);
    let mut answer = context.kernel.prog_load(request, Some(&mut log));
    while matches!(answer, Err(Errno::ENOSPC)) && size < LOG_SIZE_MAX {
        size = (log.true_size as usize).max(size.saturating_mul(2)).min(LOG_SIZE_MAX);
        log = LogBuffer::new(log.level, size);
        answer = context.kernel.prog_load(request, Some(&mut log));
    }
    let errno = match answer {
        Ok(program) => {
            let attach_type = request.expected_attach_type;
            return Ok(Taken { program, attach_type, log: log.text().into_owned() });
        }
        // What was wrong with the program counts, not that its log is too long or could not be written.
        Err(Errno::ENOSPC | Errno::EFAULT) => first,
        Err(errno) => errno,
    };
    let text = log.text().into_owned();
    let truncated = matches!(answer, Err(Errno::ENOSPC)) || text.len() + 1 >= size;
    let hint = if errno == Errno::EINVAL && text.is_empty() {
        hint::for_prog_type(context.kernel, plan.prog_type).unwrap_or_default()
    } else if text.is_empty() || errno == Errno::EPERM {
        hint::for_errno(context.kernel, errno)
    } else {
        String::new()
    };
    Err(LoadError::Program(Box::new(ProgramError::new(plan, context.btf, errno, text, truncated, hint))))
}

fn module_fd<'l>(
    context: &Context<'l>,
    plan: &ProgramPlan,
    module: &str,
) -> Result<BorrowedFd<'l>, LoadError> {
    let fd = context.target.module_fd(module).ok_or_else(|| LoadError::Incomplete {
        program: plan.name.clone(),
        reason: format!("the types of module `{module}` are not loaded into this kernel"),
    })?;
    Ok(fd.as_fd())
}

/// Makes the map of a jump table. The kernel wants it filled and frozen before the program is loaded.
fn jump_table(context: &Context<'_>, plan: &ProgramPlan, table: &JumpTablePlan) -> Result<MapFd, LoadError> {
    const NAME: &str = ".jumptables";
    let failed = |step: &str, errno: Errno| LoadError::Map {
        map: NAME.to_owned(),
        map_type: MapType::INSN_ARRAY,
        step: format!("the kernel did not {step} for program `{}`", plan.name),
        hint: if context.kernel.has(Feature::MapType(MapType::INSN_ARRAY)).is_unsupported() {
            " (it knows no indirect jumps, which need Linux 6.19: compile with -mcpu=v3)".to_owned()
        } else {
            hint::for_errno(context.kernel, errno)
        },
        source: errno,
    };
    let count = table.targets.len() as u32; // a table is a part of an object file
    let mut request = MapCreate::new(MapType::INSN_ARRAY, 4, INSN_ARRAY_VALUE as u32, count);
    request.name = NAME;
    let map = context.kernel.map_create(&request).map_err(|errno| failed("create it", errno))?;
    let errno_of = |error: MapError| error.errno().unwrap_or(Errno::EINVAL);
    for (nth, target) in (0u32..).zip(&table.targets) {
        // `struct bpf_insn_array_value`: the offset in the program, then what the kernel makes of it.
        let mut value = [0; INSN_ARRAY_VALUE];
        if let Some(place) = value.first_chunk_mut() {
            *place = target.to_ne_bytes();
        }
        map.update(&nth.to_ne_bytes(), &value, UpdateFlags::empty())
            .map_err(|error| failed("take an entry", errno_of(error)))?;
    }
    map.freeze().map_err(|error| failed("freeze it", errno_of(error)))?;
    Ok(map)
}

/// Puts descriptors, and numbers of modules, where the plan has placeholders.
fn fill(context: &Context<'_>, plan: &ProgramPlan, jump_tables: &[MapFd]) -> Result<Vec<Insn>, LoadError> {
    let mut insns = plan.insns.clone();
    let incomplete = |reason: String| LoadError::Incomplete { program: plan.name.clone(), reason };
    for placeholder in &plan.placeholders {
        let at = placeholder.insn as usize;
        let number = |fd: BorrowedFd<'_>| std::os::fd::AsRawFd::as_raw_fd(&fd);
        match &placeholder.value {
            PlaceholderValue::Map(map) | PlaceholderValue::MapValue(map) => {
                let fd = context.maps.get(map.0).and_then(Option::as_ref);
                let fd = fd.ok_or_else(|| {
                    incomplete(format!("instruction {at} needs map {}, which was not made", map.0))
                })?;
                if let Some(insn) = insns.get_mut(at) {
                    insn.imm = number(fd.as_fd());
                }
            }
            PlaceholderValue::JumpTable(table) => {
                let table = jump_tables.get(*table);
                let table =
                    table.ok_or_else(|| incomplete(format!("instruction {at} needs a jump table")))?;
                if let Some(insn) = insns.get_mut(at) {
                    insn.imm = number(table.as_fd());
                }
            }
            PlaceholderValue::ModuleBtf(module) => {
                let fd = module_fd(context, plan, module)?;
                if let Some(insn) = insns.get_mut(at + 1) {
                    insn.imm = number(fd);
                }
            }
            PlaceholderValue::ModuleCall(module) => {
                let slot = context.modules.iter().position(|name| name == module).ok_or_else(|| {
                    incomplete(format!(
                        "it calls functions of module `{module}`, which the plan does not have"
                    ))
                })?;
                let index = i16::try_from(slot + 1).map_err(|_| {
                    incomplete("it calls functions of more modules than a program can".into())
                })?;
                if let Some(insn) = insns.get_mut(at) {
                    insn.off = index;
                }
            }
        }
    }
    Ok(insns)
}

//! The structural part of the verifier, in the kernel's order.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use skep_asm::kernel_text;
use skep_btf::Kind;
use skep_sys::abi::{AttachType, Errno, MapType, ProgFlags, ProgType};
use skep_sys::request::{KnownRecords, ProgLoad};

use super::helpers::Helpers;
use super::info::{self, Lines};
use super::layout::Indirect;
use super::refs::{self, Loads};
use super::{Target, entry, exception, flow, insn, layout, stack};
use crate::btf::BtfObject;
use crate::features::Features;
use crate::kernel::Inner;
use crate::log::Log;
use crate::tables;

/// Why a program is refused: the errno, what the log says, and the instruction that it is about if the program was
/// being walked through.
#[derive(Debug)]
pub(super) struct Reject {
    errno: Errno,
    message: Cow<'static, str>,
    at: Option<usize>,
    /// Whether the message ends its line. The kernel forgets that in a few.
    ends: bool,
    /// Whether only code that surely runs is refused for it.
    if_certain: bool,
}

/// A refusal of the program as a whole. An empty message leaves the log as it is.
pub(super) fn reject(errno: Errno, message: impl Into<Cow<'static, str>>) -> Reject {
    Reject { errno, message: message.into(), at: None, ends: true, if_certain: false }
}

impl Reject {
    /// A refusal of the instruction at `index`.
    pub(super) fn at(self, index: usize) -> Reject {
        Reject { at: Some(index), ..self }
    }

    /// The same, for what tests of kernels put into code that ranges of numbers show to be dead.
    pub(super) fn if_certain(self) -> Reject {
        Reject { if_certain: true, ..self }
    }

    /// The same, because of which the types of a kernel function that is called were not found.
    pub(super) fn of_call(self) -> Reject {
        let message = format!("{}\nfailed to find BTF for kernel function", self.message);
        Reject { message: message.into(), ..self }
    }

    /// The same without the end of the line.
    pub(super) fn unended(self) -> Reject {
        Reject { ends: false, ..self }
    }
}

/// What of a program the verifier works with.
pub(super) struct Subject<'a> {
    pub(super) kernel: &'a Inner,
    pub(super) request: &'a ProgLoad<'a>,
    pub(super) gpl_compatible: bool,
}

/// What a check found.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub(super) loads: Loads,
    pub(super) indirect: Indirect,
    /// Names of the kernel functions that are called, by slot.
    pub(super) kfuncs: BTreeMap<usize, String>,
    pub(super) lines: Lines,
}

/// Checks a program and finds what it refers to.
pub(super) fn verify(
    subject: &Subject<'_>,
    btf: Option<&BtfObject>,
    target: Option<&Target>,
    log: &mut Log<'_>,
) -> Result<Verified, Errno> {
    let insns = subject.request.insns;
    let mut found = Verified::default();
    let (result, processed) = match check(subject, btf, target, &mut found) {
        Ok(()) => (Ok(()), insns.len()),
        Err(reject) => {
            if let Some(index) = reject.at {
                log.step("0: R1=ctx() R10=fp0");
                if let Some(source) = btf.and_then(|btf| found.lines.describe(&btf.btf, index)) {
                    log.step(&source);
                }
                if let Some(insn) = insns.get(index) {
                    log.step(&format!("{index}: {}", kernel_text(insn, insns.get(index + 1), &Helpers)));
                }
            }
            if !reject.message.is_empty() {
                if reject.ends { log.line(&reject.message) } else { log.text(&reject.message) }
            }
            (Err(reject.errno), reject.at.map_or(0, |index| index + 1))
        }
    };
    log.line(&format!(
        "processed {processed} insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0"
    ));
    result.map(|()| found)
}

fn check(
    subject: &Subject<'_>,
    btf: Option<&BtfObject>,
    target: Option<&Target>,
    found: &mut Verified,
) -> Result<(), Reject> {
    let insns = subject.request.insns;
    let mut starts = layout::subprograms(insns)?;
    // Nothing calls the function where exceptions end.
    let callback = btf.and_then(|btf| exception::callback_of(&btf.btf, subject.request.func_info));
    let callback = callback.filter(|slot| *slot < insns.len());
    if let Some(callback) = callback
        && let Err(place) = starts.binary_search(&callback)
    {
        starts.insert(place, callback);
    }
    found.kfuncs = refs::kernel_functions(subject)?;
    let has_indirect = subject.kernel.features().contains(Features::INSN_ARRAY);
    layout::check_jumps(insns, &starts, has_indirect)?;
    let mut functions = Vec::new();
    if let Some(btf) = btf {
        let request = subject.request;
        let known = |size: fn(&KnownRecords) -> &Cell<u32>| request.known_records.map(size);
        let func_size = known(|known| &known.func_info);
        functions = info::check_functions(request.func_info, &btf.btf, &starts, func_size)?;
        let tags = subject.kernel.features().contains(Features::ARG_CTX_TAG);
        info::check_arguments(&functions, &btf.btf, tags)?;
        let line_size = known(|known| &known.line_info);
        found.lines = info::check_lines(request.line_info, &btf.btf, insns, &starts, line_size)?;
    }
    info::check_returns(btf.map(|btf| &btf.btf), &functions, insns, &starts)?;
    found.loads = refs::resolve(subject)?;
    let Loads { maps, by_slot, .. } = &found.loads;
    found.indirect = layout::indirect(insns, &starts, maps)?;
    layout::check_reachable(insns, &found.indirect, callback)?;
    check_target(subject, target)?;
    let walk = flow::walk(insns, &found.indirect, maps, by_slot);
    let mut accesses = walk.accesses.iter().peekable();
    let context = insn::Context {
        subject,
        kfuncs: &found.kfuncs,
        starts: &starts,
        functions: &functions,
        btf: btf.map(|btf| &btf.btf),
        has_arena: maps.iter().any(|map| map.shape.kind == MapType::ARENA),
    };
    let certain = layout::certain(insns);
    for &slot in &walk.live {
        let Some(insn) = insns.get(slot) else { continue };
        match insn::check(&context, slot, insn) {
            Err(reject) if reject.if_certain && !certain.contains(&slot) => {}
            answer => answer.map_err(|reject| reject.at(slot))?,
        }
        while let Some(access) = accesses.next_if(|access| access.slot <= slot) {
            if let Some(text) = access.outside() {
                return Err(reject(Errno::EACCES, text).at(slot));
            }
        }
    }
    stack::check(subject, &starts, &walk)?;
    entry::check(subject, &found.loads)
}

/// Checks which function of which table the program is (`check_struct_ops_btf_id`).
fn check_table(subject: &Subject<'_>, target: Option<&Target>) -> Result<(), Reject> {
    if !subject.gpl_compatible {
        return Err(reject(Errno::EINVAL, "struct ops programs must have a GPL compatible license"));
    }
    let target = target.ok_or_else(|| reject(Errno::ENOTSUPP, ""))?;
    let Some(layout) = tables::layout(subject.kernel, &target.name) else {
        let text = format!("attach_btf_id {} is not a supported struct", target.type_id);
        return Err(reject(Errno::ENOTSUPP, text));
    };
    let (index, name) = (subject.request.expected_attach_type.0, &target.name);
    match layout.function(index) {
        Some(Ok(_)) => Ok(()),
        Some(Err(member)) => {
            let text = format!("attach to invalid member {member}(@idx {index}) of struct {name}");
            Err(reject(Errno::EINVAL, text))
        }
        None => Err(reject(Errno::EINVAL, format!("attach to invalid member idx {index} of struct {name}"))),
    }
}

/// Checks what the program attaches to (`check_attach_btf_id`).
fn check_target(subject: &Subject<'_>, target: Option<&Target>) -> Result<(), Reject> {
    let refuse = |message: String| Err(reject(Errno::EINVAL, message));
    let request = subject.request;
    let attach_type = request.expected_attach_type;
    let sleepable = request.flags.contains(ProgFlags::SLEEPABLE);
    match request.prog_type {
        ProgType::SYSCALL if sleepable => return Ok(()),
        ProgType::SYSCALL => return refuse("Syscall programs can only be sleepable".to_owned()),
        _ => {}
    }
    let can_sleep = match request.prog_type {
        ProgType::TRACING => attach_type != AttachType::TRACE_RAW_TP,
        ProgType::LSM => attach_type != AttachType::LSM_CGROUP,
        ProgType::KPROBE | ProgType::STRUCT_OPS => true,
        _ => false,
    };
    if sleepable && !can_sleep {
        return refuse(
            "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable"
                .to_owned(),
        );
    }
    if request.prog_type == ProgType::STRUCT_OPS {
        return check_table(subject, target);
    }
    if !matches!(request.prog_type, ProgType::TRACING | ProgType::LSM | ProgType::EXT) {
        return Ok(());
    }
    let Some(target) = target else {
        return refuse("Tracing programs must provide btf_id".to_owned());
    };
    let id = target.type_id;
    if target.kind == Kind::VOID {
        return refuse(format!("attach_btf_id {id} is invalid"));
    }
    if target.name.is_empty() {
        return refuse(format!("attach_btf_id {id} doesn't have a name"));
    }
    if request.prog_type == ProgType::EXT && target.prog.is_none() {
        return refuse("Cannot replace kernel functions".to_owned());
    }
    match attach_type {
        AttachType::TRACE_RAW_TP => {
            if target.prog.is_some() {
                return refuse("Only FENTRY/FEXIT progs are attachable to another BPF prog".to_owned());
            }
            if target.kind != Kind::TYPEDEF {
                return refuse(format!("attach_btf_id {id} is not a typedef"));
            }
            if !target.name.starts_with("btf_trace_") {
                return refuse(format!("attach_btf_id {id} points to wrong type name {}", target.name));
            }
            Ok(())
        }
        AttachType::TRACE_ITER
        | AttachType::TRACE_FENTRY
        | AttachType::TRACE_FEXIT
        | AttachType::TRACE_FSESSION
        | AttachType::MODIFY_RETURN
        | AttachType::LSM_MAC
        | AttachType::LSM_CGROUP => {
            if target.kind != Kind::FUNC {
                return refuse(format!("attach_btf_id {id} is not a function"));
            }
            if request.prog_type == ProgType::LSM && !target.name.starts_with("bpf_lsm_") {
                return refuse(format!("attach_btf_id {id} points to wrong type name {}", target.name));
            }
            Ok(())
        }
        _ if request.prog_type == ProgType::EXT && target.kind == Kind::FUNC => Ok(()),
        _ => Err(reject(Errno::EINVAL, "")),
    }
}

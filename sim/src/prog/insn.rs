//! What single instructions may look like.

use std::collections::BTreeMap;

use skep_asm::{Insn, opcode as op, pseudo};
use skep_btf::{Btf, Kind, Linkage, TypeId};
use skep_sys::abi::{Errno, ProgFlags, ProgType};

use super::helpers::{Helper, call_name};
use super::kfuncs::Kfunc;
use super::verify::{Reject, Subject, reject};
use crate::features::Features;
use crate::kernel::Inner;

/// Some kinds have it that run at no function.
const GET_FUNC_IP: i32 = 173;
/// Came with the charging of control groups, and shows it to who looks.
const KTIME_GET_COARSE_NS: i32 = 160;

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Reject {
    reject(Errno::EINVAL, message)
}

fn check_that(condition: bool, message: &'static str) -> Result<(), Reject> {
    if condition { Ok(()) } else { Err(invalid(message)) }
}

/// What there is of a program beside the instruction.
pub(super) struct Context<'a> {
    pub(super) subject: &'a Subject<'a>,
    /// Names of the kernel functions that are called, by slot.
    pub(super) kfuncs: &'a BTreeMap<usize, String>,
    /// Where functions begin, and their types where there are records of them.
    pub(super) starts: &'a [usize],
    pub(super) functions: &'a [TypeId],
    pub(super) btf: Option<&'a Btf>,
    pub(super) has_arena: bool,
}

/// Checks one instruction that can be reached.
pub(super) fn check(context: &Context<'_>, slot: usize, insn: &Insn) -> Result<(), Reject> {
    let subject = context.subject;
    match insn.class() {
        op::CLASS_ALU | op::CLASS_ALU64 => check_alu(insn, context.has_arena),
        op::CLASS_JMP | op::CLASS_JMP32 if insn.is_kfunc_call() => {
            check_call(subject, insn)?;
            check_kfunc(context, slot)
        }
        op::CLASS_JMP | op::CLASS_JMP32 => check_jump(subject, insn),
        op::CLASS_LD if insn.is_pseudo_func() => {
            check_ld(subject, insn)?;
            check_callback(context, slot, insn)
        }
        op::CLASS_LDX => {
            check_registers(insn, true)?;
            check_written(insn)
        }
        op::CLASS_ST => {
            check_that(insn.src_raw() == 0, "BPF_ST uses reserved fields")?;
            check_registers(insn, false)
        }
        op::CLASS_STX => check_stx(insn),
        _ => check_ld(subject, insn),
    }
}

fn check_registers(insn: &Insn, source: bool) -> Result<(), Reject> {
    let registers = [Some(insn.src_raw()).filter(|_| source), Some(insn.dst_raw())];
    match registers.into_iter().flatten().find(|&register| register > 10) {
        Some(register) => Err(invalid(format!("R{register} is invalid"))),
        None => Ok(()),
    }
}

/// The frame pointer cannot be written.
fn check_written(insn: &Insn) -> Result<(), Reject> {
    if insn.dst_raw() != 10 {
        return Ok(());
    }
    Err(reject(Errno::EACCES, "frame pointer is read only").if_certain())
}

fn check_alu(insn: &Insn, has_arena: bool) -> Result<(), Reject> {
    let wide = insn.class() == op::CLASS_ALU64;
    let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
    let Insn { off, imm, .. } = *insn;
    match insn.opcode & op::OP_MASK {
        op::ALU_NEG => {
            check_that(insn.src_raw() == 0 && off == 0 && imm == 0, "BPF_NEG uses reserved fields")?;
        }
        op::ALU_END => {
            let fits = insn.src_raw() == 0 && off == 0 && matches!(imm, 16 | 32 | 64);
            check_that(fits && !(wide && by_register), "BPF_END uses reserved fields")?;
        }
        op::ALU_MOV if by_register => {
            if wide && off == 1 {
                // Address spaces: 0 is the kernel's, 1 the arena's.
                let between = matches!(imm, 1 | 0x1_0000);
                check_that(between, "addr_space_cast insn can only convert between address space 1 and 0")?;
                check_that(
                    has_arena,
                    "addr_space_cast insn can only be used in a program that has an associated arena",
                )?;
            } else {
                let extends = matches!((wide, off), (_, 0 | 8 | 16) | (true, 32));
                check_that(extends && imm == 0, "BPF_MOV uses reserved fields")?;
            }
        }
        op::ALU_MOV => {
            check_that(insn.src_raw() == 0 && off == 0, "BPF_MOV uses reserved fields")?;
        }
        operation => {
            let divides = matches!(operation, op::ALU_DIV | op::ALU_MOD);
            let reserved = if by_register { imm != 0 } else { insn.src_raw() != 0 };
            let fits = !reserved && (off == 0 || off == 1 && divides);
            check_that(fits, "BPF_ALU uses reserved fields")?;
            check_registers(insn, by_register)?;
            if !by_register {
                check_that(!divides || imm != 0, "div by zero").map_err(Reject::if_certain)?;
                let width = if wide { 64 } else { 32 };
                let shifts = matches!(operation, op::ALU_LSH | op::ALU_RSH | op::ALU_ARSH);
                if shifts && !(0..width).contains(&imm) {
                    return Err(invalid(format!("invalid shift {imm}")));
                }
            }
        }
    }
    check_registers(insn, by_register)?;
    check_written(insn)
}

fn check_jump(subject: &Subject<'_>, insn: &Insn) -> Result<(), Reject> {
    let Insn { off, imm, .. } = *insn;
    let (dst, src) = (insn.dst_raw(), insn.src_raw());
    match insn.opcode {
        op::CALL => check_call(subject, insn),
        op::EXIT => check_that(imm == 0 && src == 0 && dst == 0, "BPF_EXIT uses reserved fields"),
        op::JA => check_that(imm == 0 && src == 0 && dst == 0, "BPF_JA uses reserved fields"),
        op::GOTOL => check_that(off == 0 && src == 0 && dst == 0, "BPF_JA uses reserved fields"),
        op::GOTOX => {
            check_that(off == 0 && imm == 0 && src == 0, "BPF_JA|BPF_X uses reserved fields")?;
            check_registers(insn, false)
        }
        op::MAY_GOTO => {
            if dst != 0 || src != 0 || imm != 0 {
                return Err(invalid(format!("invalid may_goto imm {imm}")));
            }
            Ok(())
        }
        _ => {
            let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
            let reserved = if by_register { imm != 0 } else { src != 0 };
            check_registers(insn, false)?;
            check_that(!reserved, "BPF_JMP/JMP32 uses reserved fields")?;
            check_registers(insn, by_register)
        }
    }
}

fn check_call(subject: &Subject<'_>, insn: &Insn) -> Result<(), Reject> {
    let kind = insn.src_raw();
    let fits = insn.dst_raw() == 0
        && matches!(kind, 0 | pseudo::CALL | pseudo::KFUNC_CALL)
        && (kind == pseudo::KFUNC_CALL || insn.off == 0);
    check_that(fits, "BPF_CALL uses reserved fields")?;
    if kind == pseudo::KFUNC_CALL && insn.imm == 0 {
        return Err(invalid("invalid kernel function call not eliminated in verifier pass"));
    }
    if kind != 0 {
        return Ok(());
    }
    let number = insn.imm;
    let kernel = subject.kernel;
    if kernel.config().helpers.contains_key(&number) {
        return Ok(());
    }
    let missing = kernel.config().missing_helpers.contains(&number)
        || number == KTIME_GET_COARSE_NS && !kernel.features().contains(Features::MEMCG_ACCOUNT);
    let Some(helper) = Helper::get(number).filter(|_| !missing) else {
        let name = if missing { format!("unknown#{number}") } else { call_name(number) };
        return Err(invalid(format!("invalid func {name}")));
    };
    if !helper.is_for(subject.request.prog_type) {
        return Err(invalid(format!("program of this type cannot use helper {}", call_name(number))));
    }
    if number == GET_FUNC_IP && !matches!(subject.request.prog_type, ProgType::KPROBE | ProgType::TRACING) {
        let (name, kind) = (call_name(number), subject.request.prog_type.0);
        return Err(reject(Errno::ENOTSUPP, format!("func {name} not supported for program type {kind}")));
    }
    if helper.gpl_only && !subject.gpl_compatible {
        return Err(invalid("cannot call GPL-restricted function from non-GPL compatible program"));
    }
    Ok(())
}

/// Checks that a function of the kernel may be called (`fetch_kfunc_meta`).
fn check_kfunc(context: &Context<'_>, slot: usize) -> Result<(), Reject> {
    let Some(name) = context.kfuncs.get(&slot) else { return Ok(()) };
    let (kernel, request) = (context.subject.kernel, context.subject.request);
    if kernel.config().kfuncs.contains_key(name) {
        return Ok(());
    }
    let known = Kfunc::get(name);
    // What newer kernels have beyond those of the table is marked as callable.
    let allowed = known.map_or_else(|| is_marked(kernel, name), |kfunc| kfunc.is_for(request.prog_type));
    if !allowed {
        return Err(reject(Errno::EACCES, format!("calling kernel function {name} is not allowed")));
    }
    if known.is_some_and(|kfunc| kfunc.sleepable) && !request.flags.contains(ProgFlags::SLEEPABLE) {
        let text = format!("program must be sleepable to call sleepable kfunc {name}");
        return Err(reject(Errno::EACCES, text));
    }
    Ok(())
}

/// Whether the types that have a function mark it as one that programs may call, or mark none (before Linux 6.10).
fn is_marked(kernel: &Inner, name: &str) -> bool {
    let named = |ty: skep_btf::Type<'_>| ty.name_bytes() == name.as_bytes();
    kernel.kernel_types().any(|btf| {
        let btf = &btf.btf;
        let mut tags = btf
            .types()
            .filter(|ty| ty.kind() == Kind::DECL_TAG && ty.name_bytes() == b"bpf_kfunc")
            .peekable();
        match tags.peek() {
            None => btf.types().any(|ty| ty.kind() == Kind::FUNC && named(ty)),
            Some(_) => tags.any(|tag| btf.ty(tag.type_id()).is_ok_and(named)),
        }
    })
}

/// Checks that a function whose address is taken may be called back.
fn check_callback(context: &Context<'_>, slot: usize, insn: &Insn) -> Result<(), Reject> {
    let target = insn.func_target(slot).and_then(|target| usize::try_from(target).ok());
    let number = target.and_then(|target| context.starts.binary_search(&target).ok());
    let function = number.and_then(|number| context.functions.get(number));
    let (Some(btf), Some(&function)) = (context.btf, function) else {
        return Err(invalid("missing btf func_info"));
    };
    let linkage = btf.ty(function).ok().and_then(|ty| ty.linkage());
    check_that(linkage == Some(Linkage::STATIC), "callback function not static")
}

fn check_stx(insn: &Insn) -> Result<(), Reject> {
    if insn.opcode & op::MODE_MASK == op::MODE_MEM {
        check_that(insn.imm == 0, "BPF_STX uses reserved fields")?;
        return check_registers(insn, true);
    }
    let size = insn.opcode & op::SIZE_MASK;
    let plain = insn.imm & !op::ATOMIC_FETCH;
    let modifies = matches!(plain, op::ATOMIC_ADD | op::ATOMIC_OR | op::ATOMIC_AND | op::ATOMIC_XOR)
        || matches!(insn.imm, op::ATOMIC_XCHG | op::ATOMIC_CMPXCHG);
    if !modifies && !matches!(insn.imm, op::ATOMIC_LOAD_ACQ | op::ATOMIC_STORE_REL) {
        return Err(invalid(format!("BPF_ATOMIC uses invalid atomic opcode {:02x}", insn.imm)));
    }
    check_that(!modifies || matches!(size, op::SIZE_W | op::SIZE_DW), "invalid atomic operand size")?;
    check_registers(insn, true)?;
    if insn.imm == op::ATOMIC_LOAD_ACQ { check_written(insn) } else { Ok(()) }
}

fn check_ld(subject: &Subject<'_>, insn: &Insn) -> Result<(), Reject> {
    match insn.opcode & op::MODE_MASK {
        op::MODE_ABS | op::MODE_IND => {
            let packets = matches!(
                subject.request.prog_type,
                ProgType::SOCKET_FILTER | ProgType::SCHED_CLS | ProgType::SCHED_ACT
            );
            check_that(packets, "BPF_LD_[ABS|IND] instructions not allowed for this program type")?;
            let constant = insn.opcode & op::MODE_MASK == op::MODE_ABS;
            let reserved = insn.dst_raw() != 0 || insn.off != 0 || constant && insn.src_raw() != 0;
            check_that(!reserved, "BPF_LD_[ABS|IND] uses reserved fields")
        }
        _ => {
            check_that(insn.off == 0, "BPF_LD_IMM64 uses reserved fields")?;
            check_registers(insn, false)?;
            check_written(insn)
        }
    }
}

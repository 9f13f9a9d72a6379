//! What single instructions may look like.

use skep_asm::{Insn, opcode as op, pseudo};
use skep_sys::abi::{Errno, ProgType};

use super::helpers::{Helper, call_name};
use super::verify::{Reject, Subject, reject};
use crate::features::Features;

/// Came with the charging of control groups, and shows it to who looks.
const KTIME_GET_COARSE_NS: i32 = 160;

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Reject {
    reject(Errno::EINVAL, message)
}

fn check_that(condition: bool, message: &'static str) -> Result<(), Reject> {
    if condition { Ok(()) } else { Err(invalid(message)) }
}

/// Checks one instruction that can be reached.
pub(super) fn check(subject: &Subject<'_>, insn: &Insn) -> Result<(), Reject> {
    match insn.class() {
        op::CLASS_ALU | op::CLASS_ALU64 => check_alu(insn),
        op::CLASS_JMP | op::CLASS_JMP32 => check_jump(subject, insn),
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
    if insn.dst_raw() == 10 { Err(reject(Errno::EACCES, "frame pointer is read only")) } else { Ok(()) }
}

fn check_alu(insn: &Insn) -> Result<(), Reject> {
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
            let extends = matches!((wide, off), (_, 0 | 8 | 16) | (true, 32));
            let casts = wide && off == 1 && (1..=2).contains(&(imm as u32 >> 16 | imm as u32 & 0xffff));
            check_that(extends && imm == 0 || casts, "BPF_MOV uses reserved fields")?;
        }
        op::ALU_MOV => {
            check_that(insn.src_raw() == 0 && off == 0, "BPF_MOV uses reserved fields")?;
        }
        operation => {
            let divides = matches!(operation, op::ALU_DIV | op::ALU_MOD);
            let reserved = if by_register { imm != 0 } else { insn.src_raw() != 0 };
            let fits = !reserved && (off == 0 || off == 1 && divides);
            check_that(fits, "BPF_ALU uses reserved fields")?;
            if !by_register {
                check_that(!divides || imm != 0, "div by zero")?;
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
        op::MAY_GOTO => {
            if dst != 0 || src != 0 || imm != 0 {
                return Err(invalid(format!("invalid may_goto imm {imm}")));
            }
            Ok(())
        }
        _ => {
            let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
            let reserved = if by_register { imm != 0 } else { src != 0 };
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
    let missing = kernel.config().missing_helpers.contains(&number)
        || number == KTIME_GET_COARSE_NS && !kernel.features().contains(Features::MEMCG_ACCOUNT);
    let Some(helper) = Helper::get(number).filter(|_| !missing) else {
        let name = if missing { format!("unknown#{number}") } else { call_name(number) };
        return Err(invalid(format!("invalid func {name}")));
    };
    if !helper.is_for(subject.request.prog_type) {
        return Err(invalid(format!("program of this type cannot use helper {}", call_name(number))));
    }
    if helper.gpl_only && !subject.gpl_compatible {
        return Err(invalid("cannot call GPL-restricted function from non-GPL compatible program"));
    }
    Ok(())
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

//! The way that every run of a program takes: from its first instruction to where it branches for the first time.
//!
//! On it what registers hold is known without an analysis of data flow, so that some of what the verifier refuses can be
//! told: registers that were never written, accesses outside of the context, and values that may not be
//! returned. What is not known for certain is let pass, and so are pointers that may be null, since a run tells more of them.

use std::sync::Arc;

use skep_asm::{Insn, opcode as op};
use skep_sys::abi::{AttachType, Errno, MapFlags, MapType, ProgType};

use super::refs::Loads;
use super::verify::{Reject, Subject, reject};
use crate::map::Map;

/// Instructions that are followed at most.
const STEPS_MAX: usize = 4096;

const TAIL_CALL: i32 = 12;

/// What a register holds.
#[derive(Clone, Debug)]
enum Value {
    /// It was never written, or a call has spoiled it.
    Nothing,
    /// Something that is not followed.
    Unknown,
    Context,
    Constant(i64),
    /// A number that was read, at most so large.
    Read(u64),
    Map(Arc<Map>),
    /// An address in a map's value.
    InMap(Arc<Map>),
}

type Registers = [Value; 11];

/// Checks the way from the first instruction on.
pub(super) fn check(subject: &Subject<'_>, loads: &Loads) -> Result<(), Reject> {
    let insns = subject.request.insns;
    if subject.request.prog_type == ProgType::EXT {
        // Its arguments are those of the function that it stands for.
        return Ok(());
    }
    let mut registers: Registers = std::array::from_fn(|register| match register {
        1 => Value::Context,
        10 => Value::Unknown,
        _ => Value::Nothing,
    });
    let mut index = 0;
    for _ in 0..STEPS_MAX {
        let Some(insn) = insns.get(index) else { return Ok(()) };
        match step(subject, loads, index, insn, &mut registers).map_err(|reject| reject.at(index))? {
            Some(next) => index = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn denied(message: impl Into<std::borrow::Cow<'static, str>>) -> Reject {
    reject(Errno::EACCES, message)
}

fn get(registers: &Registers, register: u8) -> &Value {
    registers.get(usize::from(register)).unwrap_or(&Value::Unknown)
}

fn set(registers: &mut Registers, register: u8, value: Value) {
    if let Some(register) = registers.get_mut(usize::from(register)) {
        *register = value;
    }
}

/// Refuses a register that was never written.
fn read(registers: &Registers, register: u8) -> Result<(), Reject> {
    match get(registers, register) {
        Value::Nothing => Err(denied(format!("R{register} !read_ok"))),
        _ => Ok(()),
    }
}

/// Follows an instruction: answers which one is next, none where the way ends or forks.
fn step(
    subject: &Subject<'_>,
    loads: &Loads,
    index: usize,
    insn: &Insn,
    registers: &mut Registers,
) -> Result<Option<usize>, Reject> {
    let next = Some(index + insn.slots());
    let (dst, src) = (insn.dst_raw(), insn.src_raw());
    match insn.class() {
        op::CLASS_ALU | op::CLASS_ALU64 => alu(insn, registers)?,
        op::CLASS_LD if insn.is_ld_imm64() => {
            let value = loaded(subject, loads, index, insn);
            set(registers, dst, value);
        }
        op::CLASS_LDX => {
            read(registers, src)?;
            let value = load(subject, insn, registers)?;
            set(registers, dst, value);
        }
        op::CLASS_ST | op::CLASS_STX => {
            if insn.opcode & op::MODE_MASK != op::MODE_MEM {
                // Atomic operations, some of which write registers.
                return Ok(None);
            }
            if insn.class() == op::CLASS_STX {
                read(registers, src)?;
            }
            read(registers, dst)?;
            store(subject, insn, registers)?;
        }
        op::CLASS_JMP if insn.is_call() => {
            if src != 0 {
                return Ok(None);
            }
            let answer = call(insn, registers)?;
            for register in registers.iter_mut().take(6) {
                *register = Value::Nothing;
            }
            set(registers, 0, answer);
        }
        op::CLASS_JMP if insn.is_exit() => {
            // What these stand for may be a function without a value.
            if !matches!(subject.request.prog_type, ProgType::LSM | ProgType::STRUCT_OPS) {
                read(registers, 0)?;
            }
            returned(subject, get(registers, 0))?;
            return Ok(None);
        }
        // Packets by offset, and ways that fork or join.
        _ => return Ok(None),
    }
    Ok(next)
}

fn alu(insn: &Insn, registers: &mut Registers) -> Result<(), Reject> {
    let (dst, src) = (insn.dst_raw(), insn.src_raw());
    let by_register = insn.opcode & op::SRC_X != 0;
    let operation = insn.opcode & op::OP_MASK;
    let swaps = operation == op::ALU_END;
    if by_register && !swaps && operation != op::ALU_NEG {
        read(registers, src)?;
    }
    let moves = operation == op::ALU_MOV;
    if !moves {
        read(registers, dst)?;
    }
    let whole = insn.class() == op::CLASS_ALU64;
    let value = match (moves, by_register) {
        (true, false) if whole => Value::Constant(insn.imm.into()),
        (true, false) => Value::Constant(insn.imm.cast_unsigned().into()),
        (true, true) if whole && insn.off == 0 => get(registers, src).clone(),
        _ => Value::Unknown,
    };
    set(registers, dst, value);
    Ok(())
}

/// What a 64-bit load gives.
fn loaded(subject: &Subject<'_>, loads: &Loads, index: usize, insn: &Insn) -> Value {
    if let Some((place, _)) = loads.by_slot.get(&index) {
        return loads.maps.get(*place).map_or(Value::Unknown, |map| Value::InMap(map.clone()));
    }
    if let Some(map) = loads.whole.get(&index).and_then(|place| loads.maps.get(*place)) {
        return Value::Map(map.clone());
    }
    match (insn.src_raw(), subject.request.insns.get(index + 1)) {
        (0, Some(high)) => Value::Constant(Insn::imm64(insn, high).cast_signed()),
        _ => Value::Unknown,
    }
}

fn size(insn: &Insn) -> i32 {
    match insn.opcode & op::SIZE_MASK {
        op::SIZE_B => 1,
        op::SIZE_H => 2,
        op::SIZE_W => 4,
        _ => 8,
    }
}

fn load(subject: &Subject<'_>, insn: &Insn, registers: &Registers) -> Result<Value, Reject> {
    let (off, size) = (i32::from(insn.off), size(insn));
    match get(registers, insn.src_raw()) {
        Value::Context if !context_has(subject, off, size) => {
            return Err(denied(format!("invalid bpf_context access off={off} size={size}")));
        }
        Value::Context => {}
        _ => return Ok(Value::Unknown),
    }
    let signed = insn.opcode & op::MODE_MASK == op::MODE_MEMSX;
    if signed || size == 8 || is_pointer(subject, off) {
        Ok(Value::Unknown)
    } else {
        Ok(Value::Read((1 << (size * 8)) - 1))
    }
}

fn store(subject: &Subject<'_>, insn: &Insn, registers: &Registers) -> Result<(), Reject> {
    let (off, size) = (i32::from(insn.off), size(insn));
    match get(registers, insn.dst_raw()) {
        Value::Context if subject.request.prog_type == ProgType::XDP => {
            Err(denied(format!("invalid bpf_context access off={off} size={size}")))
        }
        Value::InMap(map) if map.shape.flags.contains(MapFlags::RDONLY_PROG) => {
            Err(denied("write into map forbidden"))
        }
        _ => Ok(()),
    }
}

/// What a helper answers, where it is told by the arguments.
fn call(insn: &Insn, registers: &Registers) -> Result<Value, Reject> {
    match (insn.imm, get(registers, 2)) {
        (TAIL_CALL, Value::Map(map)) if map.shape.kind != MapType::PROG_ARRAY => {
            Err(reject(Errno::EINVAL, "expected prog array map for tail call"))
        }
        _ => Ok(Value::Unknown),
    }
}

/// Whether a context has a field there, for the kinds that have been looked at.
fn context_has(subject: &Subject<'_>, off: i32, size: i32) -> bool {
    match subject.request.prog_type {
        ProgType::XDP => size == 4 && (0..24).contains(&off) && off % 4 == 0 || size < 4 && off < 24,
        kind => {
            // `family`, from where the fields of sockets begin, and `wire_len`.
            let sockets = (88..124).contains(&off);
            let wire_len = (160..164).contains(&off);
            let packet = (76..84).contains(&off);
            match kind {
                ProgType::SOCKET_FILTER => !sockets && !wire_len && !packet,
                ProgType::SCHED_CLS | ProgType::SCHED_ACT => !sockets,
                ProgType::CGROUP_SKB => !wire_len,
                ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT => !sockets && !wire_len,
                _ => true,
            }
        }
    }
}

/// Whether a field is an address when it is read.
fn is_pointer(subject: &Subject<'_>, off: i32) -> bool {
    match subject.request.prog_type {
        ProgType::XDP => off < 12,
        ProgType::SOCKET_FILTER | ProgType::CGROUP_SKB => (76..84).contains(&off) || off == 140,
        _ => true,
    }
}

/// Whether a program of its kind may return a value.
fn returned(subject: &Subject<'_>, value: &Value) -> Result<(), Reject> {
    let request = subject.request;
    let most = match request.prog_type {
        ProgType::CGROUP_SKB if request.expected_attach_type == AttachType::CGROUP_INET_EGRESS => 3,
        ProgType::CGROUP_SKB
        | ProgType::CGROUP_SOCK
        | ProgType::CGROUP_DEVICE
        | ProgType::CGROUP_SYSCTL
        | ProgType::CGROUP_SOCKOPT
        | ProgType::SOCK_OPS => 1,
        _ => return Ok(()),
    };
    let (least, largest) = match value {
        Value::Constant(value) => (*value, *value),
        Value::Read(largest) => (0, i64::try_from(*largest).unwrap_or(i64::MAX)),
        _ => return Ok(()),
    };
    if least >= 0 && largest <= most {
        return Ok(());
    }
    Err(reject(
        Errno::EINVAL,
        format!(
            "At program exit the register R0 has smin={least} smax={largest} should have been in [0, {most}]"
        ),
    ))
}

//! Which instructions a program can come to.
//!
//! The verifier does not look at code behind a branch that is never taken, and programs count on it: a field that
//! this kernel lacks, or a feature that read-only data turns off, leaves instructions behind that no kernel would
//! accept. This follows constants through registers (not through the stack) far enough to see the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_asm::{Insn, opcode as op};

use super::layout::{Indirect, successors};
use crate::map::Map;

/// What is known of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    Unknown,
    Constant(u64),
    /// An address in a map's value: the map's place in the program, and the offset.
    InMap(usize, u32),
    /// An address in the function's stack: the distance to the frame pointer.
    Frame(i32),
}

/// What following a program found.
pub(super) struct Walk {
    /// The slots of the instructions that can be reached, ascending.
    pub(super) live: Vec<usize>,
    /// Where they access the stack, as far as it is known where, ascending.
    pub(super) accesses: Vec<Access>,
}

/// An access of the stack, or an address in it that is handed to a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) slot: usize,
    /// The register with the address.
    pub(super) register: u8,
    /// Distance to the frame pointer.
    pub(super) offset: i32,
    /// How many bytes, and whether they are written; none when a function gets the address.
    pub(super) bytes: Option<(i32, bool)>,
}

impl Access {
    /// How far it reaches below the frame pointer.
    pub(super) fn depth(&self) -> u32 {
        self.offset.min(0).unsigned_abs()
    }

    /// Whether it leaves the stack (`check_stack_access_within_bounds`), with what the log says of it.
    pub(super) fn outside(&self) -> Option<String> {
        let (bytes, writes) = self.bytes?;
        if self.offset >= -STACK_MAX && self.offset.saturating_add(bytes) <= 0 {
            return None;
        }
        let what = if writes { "write to" } else { "read from" };
        Some(format!("invalid {what} stack R{} off={} size={bytes}", self.register, self.offset))
    }
}

/// Bytes of a function's stack (`MAX_BPF_STACK`).
const STACK_MAX: i32 = 512;

type Registers = [Value; 11];

/// At the start of a function only the frame pointer is known.
const START: Registers = {
    let mut registers = [Value::Unknown; 11];
    registers[10] = Value::Frame(0);
    registers
};
/// Programs longer than this are not followed: everything in them counts as reachable.
const INSNS_MAX: usize = 1 << 16;
/// So are those with more ways out of their indirect jumps, all together.
const WAYS_MAX: usize = 1 << 18;

/// Follows a program from its start.
pub(super) fn walk(
    insns: &[Insn],
    indirect: &Indirect,
    maps: &[Arc<Map>],
    loads: &BTreeMap<usize, (usize, u32)>,
) -> Walk {
    let ways = indirect.values().fold(0, |ways: usize, targets| ways.saturating_add(targets.len()));
    if insns.len() > INSNS_MAX || ways > WAYS_MAX {
        return Walk { live: firsts(insns).collect(), accesses: Vec::new() };
    }
    // What is known before each instruction. A register's value only ever changes to unknown, so this ends after at
    // most twelve visits to each.
    let mut known: Vec<Option<Registers>> = vec![None; insns.len()];
    let mut open = vec![(0, START)];
    while let Some((index, incoming)) = open.pop() {
        let (Some(insn), Some(before)) = (insns.get(index), known.get_mut(index)) else { continue };
        let Some(mut registers) = join(before, incoming) else { continue };
        if let Some(target) = insn.func_target(index).and_then(|target| usize::try_from(target).ok()) {
            open.push((target, START));
        }
        if let Some(taken) = branch(insn, &registers) {
            let next = if taken {
                insn.jump_target(index).and_then(|target| usize::try_from(target).ok())
            } else {
                Some(index + 1)
            };
            open.extend(next.map(|next| (next, registers)));
            continue;
        }
        step(insn, insns.get(index + 1), loads.get(&index).copied(), maps, &mut registers);
        let callee = insn.func_target(index).and_then(|target| usize::try_from(target).ok());
        let next =
            successors(insns, index).filter(|&next| Some(next) != callee || next == index + insn.slots());
        open.extend(next.map(|next| (next, registers)));
        let jumps = indirect.get(&index).into_iter().flat_map(|targets| targets.iter());
        open.extend(jumps.map(|target| (*target, registers)));
    }
    let mut walk = Walk { live: Vec::new(), accesses: Vec::new() };
    for slot in firsts(insns) {
        if let (Some(insn), Some(Some(registers))) = (insns.get(slot), known.get(slot)) {
            walk.live.push(slot);
            accesses(slot, insn, registers, &mut walk.accesses);
        }
    }
    walk
}

/// What an instruction does with addresses in the stack.
fn accesses(slot: usize, insn: &Insn, registers: &Registers, to: &mut Vec<Access>) {
    let mut add = |register: u8, off: i16, bytes| {
        if let Value::Frame(offset) = get(registers, register) {
            to.push(Access { slot, register, offset: offset.saturating_add(off.into()), bytes });
        }
    };
    let size = match insn.opcode & op::SIZE_MASK {
        op::SIZE_B => 1,
        op::SIZE_H => 2,
        op::SIZE_W => 4,
        _ => 8,
    };
    match insn.class() {
        op::CLASS_LDX => add(insn.src_raw(), insn.off, Some((size, false))),
        op::CLASS_ST => add(insn.dst_raw(), insn.off, Some((size, true))),
        op::CLASS_STX if insn.opcode & op::MODE_MASK == op::MODE_ATOMIC => {
            // Which of its accesses the log speaks of depends on the operation.
            match insn.imm {
                op::ATOMIC_LOAD_ACQ => add(insn.src_raw(), insn.off, Some((size, false))),
                op::ATOMIC_STORE_REL => add(insn.dst_raw(), insn.off, Some((size, true))),
                _ => add(insn.dst_raw(), insn.off, Some((size, false))),
            }
        }
        op::CLASS_STX => add(insn.dst_raw(), insn.off, Some((size, true))),
        op::CLASS_JMP if insn.is_call() => (1..=5).for_each(|register| add(register, 0, None)),
        _ => {}
    }
}

/// The first slot of every instruction.
fn firsts(insns: &[Insn]) -> impl Iterator<Item = usize> {
    let mut index = 0;
    std::iter::from_fn(move || {
        let first = index;
        index += insns.get(index)?.slots();
        Some(first)
    })
}

/// Adds what is known on one more way here. Answers what is known on all of them, if that changed.
fn join(before: &mut Option<Registers>, incoming: Registers) -> Option<Registers> {
    let Some(known) = before else {
        *before = Some(incoming);
        return Some(incoming);
    };
    let mut changed = false;
    for (known, incoming) in known.iter_mut().zip(incoming) {
        if *known != incoming && *known != Value::Unknown {
            *known = Value::Unknown;
            changed = true;
        }
    }
    changed.then_some(*known)
}

fn get(registers: &Registers, register: u8) -> Value {
    registers.get(usize::from(register)).copied().unwrap_or(Value::Unknown)
}

/// Does what an instruction does to the registers.
fn step(
    insn: &Insn,
    next: Option<&Insn>,
    load: Option<(usize, u32)>,
    maps: &[Arc<Map>],
    registers: &mut Registers,
) {
    let value = match insn.class() {
        op::CLASS_ALU | op::CLASS_ALU64 => alu(insn, registers),
        op::CLASS_LD if insn.is_ld_imm64() => match (load, insn.src_raw(), next) {
            (Some((map, offset)), ..) => Value::InMap(map, offset),
            (None, 0, Some(next)) => Value::Constant(Insn::imm64(insn, next)),
            _ => Value::Unknown,
        },
        op::CLASS_LDX => load_constant(insn, registers, maps),
        op::CLASS_JMP if insn.is_call() => {
            for register in registers.iter_mut().take(6) {
                *register = Value::Unknown;
            }
            return;
        }
        op::CLASS_LD => {
            for register in registers.iter_mut().take(6) {
                *register = Value::Unknown;
            }
            return;
        }
        op::CLASS_STX if insn.opcode & op::MODE_MASK == op::MODE_ATOMIC => {
            // One of these may receive the old value, depending on the operation.
            for register in [0, insn.src_raw(), insn.dst_raw()] {
                set(registers, register, Value::Unknown);
            }
            return;
        }
        _ => return,
    };
    set(registers, insn.dst_raw(), value);
}

fn set(registers: &mut Registers, register: u8, value: Value) {
    if let Some(register) = registers.get_mut(usize::from(register)) {
        *register = value;
    }
}

/// Reads a value that no one can change any more.
fn load_constant(insn: &Insn, registers: &Registers, maps: &[Arc<Map>]) -> Value {
    let Value::InMap(map, offset) = get(registers, insn.src_raw()) else { return Value::Unknown };
    let len = match insn.opcode & op::SIZE_MASK {
        op::SIZE_B => 1,
        op::SIZE_H => 2,
        op::SIZE_W => 4,
        _ => 8,
    };
    let offset =
        i64::from(offset).checked_add(insn.off.into()).and_then(|offset| usize::try_from(offset).ok());
    let read = offset.and_then(|offset| maps.get(map)?.read_constant(offset, len));
    let Some(read) = read else { return Value::Unknown };
    let signed = insn.opcode & op::MODE_MASK == op::MODE_MEMSX;
    Value::Constant(match len {
        1 if signed => read as u8 as i8 as u64,
        2 if signed => read as u16 as i16 as u64,
        4 if signed => read as u32 as i32 as u64,
        _ => read,
    })
}

fn alu(insn: &Insn, registers: &Registers) -> Value {
    let wide = insn.class() == op::CLASS_ALU64;
    let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
    let operation = insn.opcode & op::OP_MASK;
    let dst = get(registers, insn.dst_raw());
    let src =
        if by_register { get(registers, insn.src_raw()) } else { Value::Constant(insn.imm as i64 as u64) };
    if operation == op::ALU_MOV && wide && insn.off == 0 {
        return src;
    }
    if let (Value::InMap(map, offset), Value::Constant(by), op::ALU_ADD, true) = (dst, src, operation, wide) {
        let offset = i64::from(offset).checked_add(by as i64).and_then(|offset| u32::try_from(offset).ok());
        return offset.map_or(Value::Unknown, |offset| Value::InMap(map, offset));
    }
    if let (Value::Frame(offset), Value::Constant(by), true) = (dst, src, wide) {
        let by = i32::try_from(by as i64).ok();
        let moved = match operation {
            op::ALU_ADD => by.and_then(|by| offset.checked_add(by)),
            op::ALU_SUB => by.and_then(|by| offset.checked_sub(by)),
            _ => None,
        };
        return moved.map_or(Value::Unknown, Value::Frame);
    }
    let (Value::Constant(a), Value::Constant(b)) =
        (if operation == op::ALU_MOV { Value::Constant(0) } else { dst }, src)
    else {
        return Value::Unknown;
    };
    if insn.off != 0 {
        return Value::Unknown;
    }
    let result = if wide { compute(operation, a, b, 64) } else { compute(operation, a & LOW, b & LOW, 32) };
    match result {
        Some(result) if wide => Value::Constant(result),
        Some(result) => Value::Constant(result & LOW),
        None => Value::Unknown,
    }
}

const LOW: u64 = u32::MAX as u64;

/// The operations that a constant condition is made with.
fn compute(operation: u8, a: u64, b: u64, width: u32) -> Option<u64> {
    let shift = b as u32 & (width - 1); // the width is not zero
    Some(match operation {
        op::ALU_ADD => a.wrapping_add(b),
        op::ALU_SUB => a.wrapping_sub(b),
        op::ALU_MUL => a.wrapping_mul(b),
        op::ALU_OR => a | b,
        op::ALU_AND => a & b,
        op::ALU_XOR => a ^ b,
        op::ALU_LSH => a << shift,
        op::ALU_RSH => a >> shift,
        op::ALU_ARSH if width == 64 => (a as i64 >> shift) as u64,
        op::ALU_ARSH => (a as u32 as i32 >> shift) as u64,
        op::ALU_MOV => b,
        _ => return None,
    })
}

/// Whether a branch is taken, if that is known.
fn branch(insn: &Insn, registers: &Registers) -> Option<bool> {
    let wide = match insn.class() {
        op::CLASS_JMP => true,
        op::CLASS_JMP32 => false,
        _ => return None,
    };
    let operation = insn.opcode & op::OP_MASK;
    let by_register = insn.opcode & op::SRC_MASK == op::SRC_X;
    if matches!(operation, op::JMP_JA | op::JMP_CALL | op::JMP_EXIT | op::JMP_JCOND) {
        return None;
    }
    let Value::Constant(a) = get(registers, insn.dst_raw()) else { return None };
    let b = match by_register {
        true => get(registers, insn.src_raw()),
        false => Value::Constant(insn.imm as i64 as u64),
    };
    let Value::Constant(b) = b else { return None };
    let (a, b, sa, sb) = match wide {
        true => (a, b, a as i64, b as i64),
        false => (a & LOW, b & LOW, i64::from(a as i32), i64::from(b as i32)),
    };
    Some(match operation {
        op::JMP_JEQ => a == b,
        op::JMP_JNE => a != b,
        op::JMP_JGT => a > b,
        op::JMP_JGE => a >= b,
        op::JMP_JLT => a < b,
        op::JMP_JLE => a <= b,
        op::JMP_JSET => a & b != 0,
        op::JMP_JSGT => sa > sb,
        op::JMP_JSGE => sa >= sb,
        op::JMP_JSLT => sa < sb,
        op::JMP_JSLE => sa <= sb,
        _ => return None,
    })
}

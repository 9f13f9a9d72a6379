//! The loop that executes instructions.

use std::sync::Arc;

use skep_asm::AtomicOp;

use super::code::{Opcode, atomic_op};
use super::fault::{FaultKind, Trap};
use super::region::Handle;
use super::{Frame, Vm};
use crate::helper::Function;

/// Most functions that call each other (`MAX_CALL_FRAMES`).
pub(super) const FRAMES_MAX: usize = 8;
/// Most tail calls of a run (`MAX_TAIL_CALL_CNT`).
const TAIL_CALLS_MAX: u32 = 33;
/// How often a program goes through all its `may_goto` (`BPF_MAX_LOOPS`).
pub(super) const LOOPS_MAX: u32 = 8 << 20;

impl Vm {
    /// Executes from `self.pc` until the frame that is on top now is left. Answers `r0`.
    pub(super) fn execute(&mut self) -> Result<u64, Trap> {
        if self.watcher.is_some() { self.execute_as::<true>() } else { self.execute_as::<false>() }
    }

    #[rustfmt::skip]
    fn execute_as<const WATCH: bool>(&mut self) -> Result<u64, Trap> {
        let floor = self.frames.len();
        loop {
            let prog = Arc::clone(&self.prog);
            let code = &prog.code;
            let steps = &*code.steps;
            let mut pc = self.pc;
            let mut left = self.left;
            // What the loop keeps to itself is told to everyone else.
            macro_rules! save { () => { self.pc = pc; self.left = left; } }
            loop {
                let Some(step) = steps.get(pc) else {
                    save!();
                    return Err(FaultKind::Jump.into());
                };
                if WATCH {
                    save!();
                    self.watch()?;
                }
                left = match left.checked_sub(1) {
                    Some(left) => left,
                    None => {
                        save!();
                        return Err(FaultKind::Budget { instructions: self.budget }.into());
                    }
                };
                let dst = usize::from(step.dst & 15);
                let src = usize::from(step.src & 15);
                macro_rules! reg { ($index:expr) => { self.regs[$index] } } // 16 registers, indexes below 16
                macro_rules! set { ($value:expr) => { self.regs[dst] = $value } } // 16 registers, indexes below 16
                macro_rules! alu64 {
                    ($b:expr, |$x:ident, $y:ident| $f:expr) => {{
                        let ($x, $y): (u64, u64) = (reg!(dst), $b);
                        set!($f)
                    }};
                }
                macro_rules! alu32 {
                    ($b:expr, |$x:ident, $y:ident| $f:expr) => {{
                        let ($x, $y): (u32, u32) = (reg!(dst) as u32, $b as u32);
                        set!(u64::from($f))
                    }};
                }
                macro_rules! jump64 {
                    ($b:expr, |$x:ident, $y:ident| $f:expr) => {{
                        let ($x, $y): (u64, u64) = (reg!(dst), $b);
                        if $f { pc = step.off as usize; continue; }
                    }};
                }
                macro_rules! jump32 {
                    ($b:expr, |$x:ident, $y:ident| $f:expr) => {{
                        let ($x, $y): (u32, u32) = (reg!(dst) as u32, $b as u32);
                        if $f { pc = step.off as usize; continue; }
                    }};
                }
                // Tells where a fault happened.
                macro_rules! at {
                    ($result:expr) => { match $result {
                        Ok(value) => value,
                        Err(trap) => { save!(); return Err(trap); }
                    } };
                }
                // Goes back to the caller.
                macro_rules! leave { () => {{
                    if self.frames.len() <= floor {
                        save!();
                        return Ok(reg!(0));
                    }
                    match self.pop_frame() {
                        Some(Frame { return_pc, prog: Some(caller), .. }) => {
                            self.prog = caller;
                            self.pc = return_pc;
                            self.left = left;
                            break;
                        }
                        Some(Frame { return_pc, .. }) => pc = return_pc,
                        None => { save!(); return Ok(reg!(0)); }
                    }
                    continue;
                }} }
                macro_rules! address { ($base:expr) => { reg!($base).wrapping_add(step.off as u64) } }
                macro_rules! load { ($size:literal) => { at!(self.memory.load::<$size>(address!(src))) } }
                macro_rules! store {
                    ($size:literal, $value:expr) => { at!(self.memory.store::<$size>(address!(dst), $value)) };
                }
                match step.op {
                    Opcode::Add64K => alu64!(step.imm as u64, |a, b| a.wrapping_add(b)),
                    Opcode::Add64X => alu64!(reg!(src), |a, b| a.wrapping_add(b)),
                    Opcode::Add32K => alu32!(step.imm as u64, |a, b| a.wrapping_add(b)),
                    Opcode::Add32X => alu32!(reg!(src), |a, b| a.wrapping_add(b)),
                    Opcode::Sub64K => alu64!(step.imm as u64, |a, b| a.wrapping_sub(b)),
                    Opcode::Sub64X => alu64!(reg!(src), |a, b| a.wrapping_sub(b)),
                    Opcode::Sub32K => alu32!(step.imm as u64, |a, b| a.wrapping_sub(b)),
                    Opcode::Sub32X => alu32!(reg!(src), |a, b| a.wrapping_sub(b)),
                    Opcode::Mul64K => alu64!(step.imm as u64, |a, b| a.wrapping_mul(b)),
                    Opcode::Mul64X => alu64!(reg!(src), |a, b| a.wrapping_mul(b)),
                    Opcode::Mul32K => alu32!(step.imm as u64, |a, b| a.wrapping_mul(b)),
                    Opcode::Mul32X => alu32!(reg!(src), |a, b| a.wrapping_mul(b)),
                    Opcode::Or64K => alu64!(step.imm as u64, |a, b| a | b),
                    Opcode::Or64X => alu64!(reg!(src), |a, b| a | b),
                    Opcode::Or32K => alu32!(step.imm as u64, |a, b| a | b),
                    Opcode::Or32X => alu32!(reg!(src), |a, b| a | b),
                    Opcode::And64K => alu64!(step.imm as u64, |a, b| a & b),
                    Opcode::And64X => alu64!(reg!(src), |a, b| a & b),
                    Opcode::And32K => alu32!(step.imm as u64, |a, b| a & b),
                    Opcode::And32X => alu32!(reg!(src), |a, b| a & b),
                    Opcode::Xor64K => alu64!(step.imm as u64, |a, b| a ^ b),
                    Opcode::Xor64X => alu64!(reg!(src), |a, b| a ^ b),
                    Opcode::Xor32K => alu32!(step.imm as u64, |a, b| a ^ b),
                    Opcode::Xor32X => alu32!(reg!(src), |a, b| a ^ b),
                    Opcode::Lsh64K => alu64!(step.imm as u64, |a, b| a << (b & 63)),
                    Opcode::Lsh64X => alu64!(reg!(src), |a, b| a << (b & 63)),
                    Opcode::Lsh32K => alu32!(step.imm as u64, |a, b| a << (b & 31)),
                    Opcode::Lsh32X => alu32!(reg!(src), |a, b| a << (b & 31)),
                    Opcode::Rsh64K => alu64!(step.imm as u64, |a, b| a >> (b & 63)),
                    Opcode::Rsh64X => alu64!(reg!(src), |a, b| a >> (b & 63)),
                    Opcode::Rsh32K => alu32!(step.imm as u64, |a, b| a >> (b & 31)),
                    Opcode::Rsh32X => alu32!(reg!(src), |a, b| a >> (b & 31)),
                    Opcode::Arsh64K => alu64!(step.imm as u64, |a, b| ((a as i64) >> (b & 63)) as u64),
                    Opcode::Arsh64X => alu64!(reg!(src), |a, b| ((a as i64) >> (b & 63)) as u64),
                    Opcode::Arsh32K => alu32!(step.imm as u64, |a, b| ((a as i32) >> (b & 31)) as u32),
                    Opcode::Arsh32X => alu32!(reg!(src), |a, b| ((a as i32) >> (b & 31)) as u32),
                    Opcode::Div64K => alu64!(step.imm as u64, |a, b| a.checked_div(b).unwrap_or(0)),
                    Opcode::Div64X => alu64!(reg!(src), |a, b| a.checked_div(b).unwrap_or(0)),
                    Opcode::Div32K => alu32!(step.imm as u64, |a, b| a.checked_div(b).unwrap_or(0)),
                    Opcode::Div32X => alu32!(reg!(src), |a, b| a.checked_div(b).unwrap_or(0)),
                    Opcode::Mod64K => alu64!(step.imm as u64, |a, b| a.checked_rem(b).unwrap_or(a)),
                    Opcode::Mod64X => alu64!(reg!(src), |a, b| a.checked_rem(b).unwrap_or(a)),
                    Opcode::Mod32K => alu32!(step.imm as u64, |a, b| a.checked_rem(b).unwrap_or(a)),
                    Opcode::Mod32X => alu32!(reg!(src), |a, b| a.checked_rem(b).unwrap_or(a)),
                    Opcode::Sdiv64K => alu64!(step.imm as u64, |a, b| sdiv64(a, b)),
                    Opcode::Sdiv64X => alu64!(reg!(src), |a, b| sdiv64(a, b)),
                    Opcode::Sdiv32K => alu32!(step.imm as u64, |a, b| sdiv32(a, b)),
                    Opcode::Sdiv32X => alu32!(reg!(src), |a, b| sdiv32(a, b)),
                    Opcode::Smod64K => alu64!(step.imm as u64, |a, b| smod64(a, b)),
                    Opcode::Smod64X => alu64!(reg!(src), |a, b| smod64(a, b)),
                    Opcode::Smod32K => alu32!(step.imm as u64, |a, b| smod32(a, b)),
                    Opcode::Smod32X => alu32!(reg!(src), |a, b| smod32(a, b)),
                    Opcode::Mov64K => set!(step.imm as u64),
                    Opcode::Mov64X => set!(reg!(src)),
                    Opcode::Mov32K => set!(u64::from(step.imm as u32)),
                    Opcode::Mov32X => set!(u64::from(reg!(src) as u32)),
                    Opcode::JEq64K => jump64!(step.imm as u64, |a, b| a == b),
                    Opcode::JEq64X => jump64!(reg!(src), |a, b| a == b),
                    Opcode::JEq32K => jump32!(step.imm as u64, |a, b| a == b),
                    Opcode::JEq32X => jump32!(reg!(src), |a, b| a == b),
                    Opcode::JNe64K => jump64!(step.imm as u64, |a, b| a != b),
                    Opcode::JNe64X => jump64!(reg!(src), |a, b| a != b),
                    Opcode::JNe32K => jump32!(step.imm as u64, |a, b| a != b),
                    Opcode::JNe32X => jump32!(reg!(src), |a, b| a != b),
                    Opcode::JSet64K => jump64!(step.imm as u64, |a, b| a & b != 0),
                    Opcode::JSet64X => jump64!(reg!(src), |a, b| a & b != 0),
                    Opcode::JSet32K => jump32!(step.imm as u64, |a, b| a & b != 0),
                    Opcode::JSet32X => jump32!(reg!(src), |a, b| a & b != 0),
                    Opcode::JGt64K => jump64!(step.imm as u64, |a, b| a > b),
                    Opcode::JGt64X => jump64!(reg!(src), |a, b| a > b),
                    Opcode::JGt32K => jump32!(step.imm as u64, |a, b| a > b),
                    Opcode::JGt32X => jump32!(reg!(src), |a, b| a > b),
                    Opcode::JGe64K => jump64!(step.imm as u64, |a, b| a >= b),
                    Opcode::JGe64X => jump64!(reg!(src), |a, b| a >= b),
                    Opcode::JGe32K => jump32!(step.imm as u64, |a, b| a >= b),
                    Opcode::JGe32X => jump32!(reg!(src), |a, b| a >= b),
                    Opcode::JLt64K => jump64!(step.imm as u64, |a, b| a < b),
                    Opcode::JLt64X => jump64!(reg!(src), |a, b| a < b),
                    Opcode::JLt32K => jump32!(step.imm as u64, |a, b| a < b),
                    Opcode::JLt32X => jump32!(reg!(src), |a, b| a < b),
                    Opcode::JLe64K => jump64!(step.imm as u64, |a, b| a <= b),
                    Opcode::JLe64X => jump64!(reg!(src), |a, b| a <= b),
                    Opcode::JLe32K => jump32!(step.imm as u64, |a, b| a <= b),
                    Opcode::JLe32X => jump32!(reg!(src), |a, b| a <= b),
                    Opcode::JSgt64K => jump64!(step.imm as u64, |a, b| (a as i64) > b as i64),
                    Opcode::JSgt64X => jump64!(reg!(src), |a, b| (a as i64) > b as i64),
                    Opcode::JSgt32K => jump32!(step.imm as u64, |a, b| (a as i32) > b as i32),
                    Opcode::JSgt32X => jump32!(reg!(src), |a, b| (a as i32) > b as i32),
                    Opcode::JSge64K => jump64!(step.imm as u64, |a, b| (a as i64) >= b as i64),
                    Opcode::JSge64X => jump64!(reg!(src), |a, b| (a as i64) >= b as i64),
                    Opcode::JSge32K => jump32!(step.imm as u64, |a, b| (a as i32) >= b as i32),
                    Opcode::JSge32X => jump32!(reg!(src), |a, b| (a as i32) >= b as i32),
                    Opcode::JSlt64K => jump64!(step.imm as u64, |a, b| (a as i64) < b as i64),
                    Opcode::JSlt64X => jump64!(reg!(src), |a, b| (a as i64) < b as i64),
                    Opcode::JSlt32K => jump32!(step.imm as u64, |a, b| (a as i32) < b as i32),
                    Opcode::JSlt32X => jump32!(reg!(src), |a, b| (a as i32) < b as i32),
                    Opcode::JSle64K => jump64!(step.imm as u64, |a, b| (a as i64) <= b as i64),
                    Opcode::JSle64X => jump64!(reg!(src), |a, b| (a as i64) <= b as i64),
                    Opcode::JSle32K => jump32!(step.imm as u64, |a, b| (a as i32) <= b as i32),
                    Opcode::JSle32X => jump32!(reg!(src), |a, b| (a as i32) <= b as i32),
                    Opcode::MovSx8To64 => set!(reg!(src) as i8 as u64),
                    Opcode::MovSx16To64 => set!(reg!(src) as i16 as u64),
                    Opcode::MovSx32To64 => set!(reg!(src) as i32 as u64),
                    Opcode::MovSx8To32 => set!(u64::from(reg!(src) as i8 as u32)),
                    Opcode::MovSx16To32 => set!(u64::from(reg!(src) as i16 as u32)),
                    Opcode::Neg64 => set!(reg!(dst).wrapping_neg()),
                    Opcode::Neg32 => set!(u64::from((reg!(dst) as u32).wrapping_neg())),
                    Opcode::Cut => set!(match step.imm {
                        16 => u64::from(reg!(dst) as u16),
                        32 => u64::from(reg!(dst) as u32),
                        _ => reg!(dst),
                    }),
                    Opcode::Swap => set!(match step.imm {
                        16 => u64::from((reg!(dst) as u16).swap_bytes()),
                        32 => u64::from((reg!(dst) as u32).swap_bytes()),
                        _ => reg!(dst).swap_bytes(),
                    }),
                    Opcode::CastKernel => set!(at!(self.arena_to_kernel(reg!(src)))),
                    Opcode::CastUser => set!(at!(self.arena_to_user(reg!(src)))),
                    Opcode::Imm64 => { set!(step.imm as u64); pc += 2; continue; }
                    Opcode::MapAddress => {
                        set!(at!(self.map_address(&prog, step.imm as usize)));
                        pc += 2;
                        continue;
                    }
                    Opcode::MapValue => {
                        set!(at!(self.map_value_address(&prog, step.imm as usize, step.off as u32)));
                        pc += 2;
                        continue;
                    }
                    Opcode::FuncAddress => {
                        set!(at!(self.code_address(&prog, step.imm as usize)));
                        pc += 2;
                        continue;
                    }
                    Opcode::Symbol => {
                        set!(at!(self.symbol_address(&prog, step.imm as usize)));
                        pc += 2;
                        continue;
                    }
                    Opcode::Load8 => set!(load!(1)),
                    Opcode::Load16 => set!(load!(2)),
                    Opcode::Load32 => set!(load!(4)),
                    Opcode::Load64 => set!(load!(8)),
                    Opcode::LoadSx8 => set!(load!(1) as i8 as u64),
                    Opcode::LoadSx16 => set!(load!(2) as i16 as u64),
                    Opcode::LoadSx32 => set!(load!(4) as i32 as u64),
                    Opcode::Store8X => store!(1, reg!(src)),
                    Opcode::Store16X => store!(2, reg!(src)),
                    Opcode::Store32X => store!(4, reg!(src)),
                    Opcode::Store64X => store!(8, reg!(src)),
                    Opcode::Store8K => store!(1, step.imm as u64),
                    Opcode::Store16K => store!(2, step.imm as u64),
                    Opcode::Store32K => store!(4, step.imm as u64),
                    Opcode::Store64K => store!(8, step.imm as u64),
                    Opcode::Atomic32 => {
                        let (address, operand, expected) = (address!(dst), reg!(src) as u32, reg!(0) as u32);
                        let done = self.atomic::<4>(step, address, operand.into(), expected.into());
                        at!(done)
                    }
                    Opcode::Atomic64 => {
                        let (address, operand, expected) = (address!(dst), reg!(src), reg!(0));
                        let done = self.atomic::<8>(step, address, operand, expected);
                        at!(done)
                    }
                    Opcode::PacketAbs | Opcode::PacketInd => {
                        let base = if step.op == Opcode::PacketInd { reg!(src) as u32 as i32 } else { 0 };
                        // The sum has 32 bits, too.
                        let at = i64::from(base.wrapping_add(step.off));
                        reg!(0) = match self.packet_load(at, step.imm as usize) {
                            Some(value) => value,
                            // What is outside of the packet ends the function, with 0.
                            None => { reg!(0) = 0; leave!() }
                        };
                    }
                    Opcode::Jump => { pc = step.imm as usize; continue; }
                    Opcode::JumpRegister => { pc = at!(self.jump_target(&prog, pc, reg!(dst))); continue; }
                    Opcode::MayGoto => {
                        if self.loops == 0 { pc = step.imm as usize; continue; }
                        self.loops -= 1; // it is not 0
                    }
                    Opcode::Call => {
                        save!();
                        let args = [self.regs[1], self.regs[2], self.regs[3], self.regs[4], self.regs[5]]; // of 16
                        let callee = code.calls.get(step.imm as usize).ok_or(FaultKind::Jump)?;
                        if self.held.locks_calls() {
                            self.check_call(&callee.name)?;
                        }
                        reg!(0) = match &callee.function {
                            Some(Function::Builtin(function)) => function(self, args)?,
                            Some(Function::Custom(function)) => self.call_custom(function, args)?,
                            None => return Err(FaultKind::Unsupported { function: callee.name.clone() }.into()),
                        };
                        let copied = self.memory.take_work();
                        self.spend(copied);
                        left = self.left;
                    }
                    Opcode::CallFunc => {
                        at!(self.push_frame(pc + 1));
                        pc = step.imm as usize;
                        continue;
                    }
                    Opcode::TailCall => {
                        save!();
                        if let Some(next) = self.tail_callee(reg!(2), reg!(3))? && self.tail_calls < TAIL_CALLS_MAX {
                            self.tail_calls += 1; // below the limit
                            self.depth = 0;
                            // Whoever called this program goes on with its own.
                            if self.frames.len() > floor && let Some(frame) = self.frames.last_mut() {
                                frame.prog.get_or_insert_with(|| prog.clone());
                            }
                            self.prog = next;
                            self.pc = 0;
                            break;
                        }
                    }
                    Opcode::Exit => leave!(),
                    Opcode::Invalid => {
                        save!();
                        return Err(FaultKind::Instruction { text: self.text(pc) }.into());
                    }
                }
                pc += 1;
            }
        }
    }

    #[inline]
    fn atomic<const N: usize>(
        &mut self,
        step: &super::code::Step,
        address: u64,
        operand: u64,
        expected: u64,
    ) -> Result<(), Trap> {
        let Some(op) = atomic_op(step.imm) else {
            return Err(FaultKind::Instruction { text: format!("atomic operation {:#x}", step.imm) }.into());
        };
        let Some(old) = self.memory.atomic::<N>(op, address, operand, expected)? else { return Ok(()) };
        let to = match op {
            AtomicOp::CmpXchg => Some(0),
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => None,
            _ => Some(usize::from(step.src & 15)),
        };
        if let Some(to) = to {
            self.regs[to] = old; // below 16
        }
        Ok(())
    }

    /// Calls the function at an address, as helpers do with the callback that they are given.
    pub(crate) fn call(&mut self, function: u64, args: [u64; 5]) -> Result<u64, Trap> {
        let (pc, caller) = (self.pc, self.prog.clone());
        let slot = match self.memory.handle(function) {
            Some(Handle::Code(prog)) => {
                self.prog = prog.clone();
                super::memory::offset(function) / 8
            }
            _ => return Err(FaultKind::NotA { what: "function", address: function }.into()),
        };
        if self.callbacks >= FRAMES_MAX {
            return Err(FaultKind::CallDepth.into());
        }
        self.callbacks += 1; // below the limit
        self.push_frame(0)?;
        if let Some(to) = self.regs.get_mut(1..6) {
            to.copy_from_slice(&args);
        }
        self.pc = slot;
        let answer = self.execute()?;
        self.pop_frame();
        self.callbacks -= 1; // as it was
        self.pc = pc;
        self.prog = caller;
        Ok(answer)
    }
}

fn sdiv64(a: u64, b: u64) -> u64 {
    if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 }
}

fn smod64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

fn sdiv32(a: u32, b: u32) -> u32 {
    if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }
}

fn smod32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

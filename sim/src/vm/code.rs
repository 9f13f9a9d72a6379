//! Programs as the interpreter wants them: every instruction decoded, everything that it refers to at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_asm::{AluOp, AtomicOp, Cond, Imm64, Insn, Op, Operand, Size, Width};

use crate::helper::Function;
use crate::map::Map;

/// An instruction, decoded. Jumps hold the slot that they go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) op: Opcode,
    pub(super) dst: u8,
    pub(super) src: u8,
    pub(super) off: i32,
    pub(super) imm: i64,
}

/// What a step does. Names end in the width and whether the right operand is an immediate (`K`) or a register (`X`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opcode {
    Add64K,
    Add64X,
    Add32K,
    Add32X,
    Sub64K,
    Sub64X,
    Sub32K,
    Sub32X,
    Mul64K,
    Mul64X,
    Mul32K,
    Mul32X,
    Or64K,
    Or64X,
    Or32K,
    Or32X,
    And64K,
    And64X,
    And32K,
    And32X,
    Xor64K,
    Xor64X,
    Xor32K,
    Xor32X,
    Lsh64K,
    Lsh64X,
    Lsh32K,
    Lsh32X,
    Rsh64K,
    Rsh64X,
    Rsh32K,
    Rsh32X,
    Arsh64K,
    Arsh64X,
    Arsh32K,
    Arsh32X,
    Div64K,
    Div64X,
    Div32K,
    Div32X,
    Mod64K,
    Mod64X,
    Mod32K,
    Mod32X,
    Sdiv64K,
    Sdiv64X,
    Sdiv32K,
    Sdiv32X,
    Smod64K,
    Smod64X,
    Smod32K,
    Smod32X,
    Mov64K,
    Mov64X,
    Mov32K,
    Mov32X,
    JEq64K,
    JEq64X,
    JEq32K,
    JEq32X,
    JNe64K,
    JNe64X,
    JNe32K,
    JNe32X,
    JSet64K,
    JSet64X,
    JSet32K,
    JSet32X,
    JGt64K,
    JGt64X,
    JGt32K,
    JGt32X,
    JGe64K,
    JGe64X,
    JGe32K,
    JGe32X,
    JLt64K,
    JLt64X,
    JLt32K,
    JLt32X,
    JLe64K,
    JLe64X,
    JLe32K,
    JLe32X,
    JSgt64K,
    JSgt64X,
    JSgt32K,
    JSgt32X,
    JSge64K,
    JSge64X,
    JSge32K,
    JSge32X,
    JSlt64K,
    JSlt64X,
    JSlt32K,
    JSlt32X,
    JSle64K,
    JSle64X,
    JSle32K,
    JSle32X,
    MovSx8To64,
    MovSx16To64,
    MovSx32To64,
    MovSx8To32,
    MovSx16To32,
    Neg64,
    Neg32,
    /// Keeps the low bits (`imm` of them).
    Cut,
    /// Swaps the low bytes, `imm` bits.
    Swap,
    /// Arena pointer to a kernel's, and back.
    CastKernel,
    CastUser,
    /// A number of 64 bits.
    Imm64,
    /// Address of the map at `imm` of the program's maps.
    MapAddress,
    /// Address of its only value, plus `off`.
    MapValue,
    /// Address of the function at slot `imm`.
    FuncAddress,
    /// Address of the symbol at `imm` of the program's symbols.
    Symbol,
    Load8,
    Load16,
    Load32,
    Load64,
    LoadSx8,
    LoadSx16,
    LoadSx32,
    Store8X,
    Store16X,
    Store32X,
    Store64X,
    Store8K,
    Store16K,
    Store32K,
    Store64K,
    /// The atomic operation whose code is `imm`.
    Atomic32,
    Atomic64,
    /// Packet load of `imm` bytes at `off`, plus a register for the second.
    PacketAbs,
    PacketInd,
    Jump,
    JumpRegister,
    MayGoto,
    /// The function at `imm` of the program's calls.
    Call,
    /// `bpf_tail_call`.
    TailCall,
    /// The sub-program at slot `imm`.
    CallFunc,
    Exit,
    /// No instruction: the second half of a wide one, or one that no kernel executes.
    Invalid,
}

/// A helper or kernel function that a program calls.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    /// As the kernel's log writes it.
    pub(crate) name: String,
    pub(crate) function: Option<Function>,
}

/// A variable or function of the kernel whose address a program takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) is_function: bool,
}

/// What the instruction in a slot refers to, as the loader found it.
pub(crate) trait References {
    /// The place of a load's map among the program's maps.
    fn map(&self, slot: usize) -> Option<usize>;
    /// The place of a load's symbol among the program's symbols.
    fn symbol(&self, slot: usize) -> Option<usize>;
    /// The kernel function that is called.
    fn kfunc(&self, slot: usize) -> Option<Callee>;
    /// A helper by its number.
    fn helper(&self, number: i32) -> Callee;
}

/// A program's code.
#[derive(Debug, Default)]
pub(crate) struct Code {
    pub(super) steps: Box<[Step]>,
    pub(super) maps: Vec<Arc<Map>>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) calls: Vec<Callee>,
    /// Where indirect jumps may go, by their slots: ascending.
    indirect: BTreeMap<usize, Arc<[usize]>>,
}

/// `bpf_tail_call`, which no function does.
const TAIL_CALL: i32 = 12;

impl Code {
    /// The maps that the instructions refer to.
    pub(crate) fn maps(&self) -> &[Arc<Map>] {
        &self.maps
    }

    /// Says where indirect jumps may go, by their slots: ascending.
    pub(crate) fn set_indirect(&mut self, indirect: BTreeMap<usize, Arc<[usize]>>) {
        self.indirect = indirect;
    }

    /// Whether the indirect jump in a slot may go to another one.
    pub(super) fn may_jump(&self, slot: usize, to: usize) -> bool {
        self.indirect.get(&slot).is_some_and(|targets| targets.binary_search(&to).is_ok())
    }

    /// Decodes a program whose structure was checked. What is still no instruction faults when it is executed.
    pub(crate) fn new(
        insns: &[Insn],
        maps: Vec<Arc<Map>>,
        symbols: Vec<Symbol>,
        references: &dyn References,
    ) -> Code {
        let mut code = Code { maps, symbols, ..Code::default() };
        let mut steps = Vec::with_capacity(insns.len());
        while steps.len() < insns.len() {
            let slot = steps.len();
            let (step, slots) = match Op::decode(insns, slot) {
                Ok((op, slots)) => (code.step(&op, slot, references).unwrap_or(INVALID), slots),
                Err(_) => (INVALID, 1),
            };
            steps.push(step);
            steps.resize(slot + slots, INVALID);
        }
        code.steps = steps.into();
        code
    }

    fn callee(&mut self, callee: Callee) -> i64 {
        let place = self.calls.iter().position(|known| known.name == callee.name).unwrap_or_else(|| {
            self.calls.push(callee);
            self.calls.len() - 1 // one was pushed
        });
        place as i64
    }

    #[rustfmt::skip]
    fn step(&mut self, op: &Op, slot: usize, references: &dyn References) -> Option<Step> {
        use Opcode as O;

        let after = slot as i64 + 1;
        let to = |distance: i64| after + distance;
        Some(match *op {
            Op::Alu { width, op, dst, src } => binary(alu(op)?, width, dst.number(), src, 0),
            Op::Mov { width, dst, src } => {
                binary([O::Mov64K, O::Mov64X, O::Mov32K, O::Mov32X], width, dst.number(), src, 0)
            }
            Op::MovSx { width, from, dst, src } => {
                let op = match (width, from) {
                    (Width::W64, Size::B) => O::MovSx8To64,
                    (Width::W64, Size::H) => O::MovSx16To64,
                    (Width::W64, Size::W) => O::MovSx32To64,
                    (Width::W32, Size::B) => O::MovSx8To32,
                    (Width::W32, Size::H) => O::MovSx16To32,
                    _ => return None,
                };
                step(op, dst.number(), src.number(), 0, 0)
            }
            Op::Neg { width, dst } => {
                step(if width == Width::W64 { O::Neg64 } else { O::Neg32 }, dst.number(), 0, 0, 0)
            }
            Op::ToEndian { order, bits, dst } => {
                let op = if order.is_native() { O::Cut } else { O::Swap };
                step(op, dst.number(), 0, 0, bits.bits().into())
            }
            Op::Bswap { bits, dst } => step(O::Swap, dst.number(), 0, 0, bits.bits().into()),
            Op::AddrSpaceCast { dst, src, to, from } => {
                let op = match (to, from) {
                    (0, 1) => O::CastKernel,
                    (1, 0) => O::CastUser,
                    _ => return None,
                };
                step(op, dst.number(), src.number(), 0, 0)
            }
            Op::LdImm64 { dst, imm } => {
                let dst = dst.number();
                match imm {
                    Imm64::Value(value) => step(O::Imm64, dst, 0, 0, value.cast_signed()),
                    Imm64::MapFd(_) | Imm64::MapIdx(_) => {
                        step(O::MapAddress, dst, 0, 0, references.map(slot)? as i64)
                    }
                    Imm64::MapValue { off, .. } | Imm64::MapIdxValue { off, .. } => {
                        step(O::MapValue, dst, 0, off, references.map(slot)? as i64)
                    }
                    Imm64::Func { distance } => step(O::FuncAddress, dst, 0, 0, to(distance.into())),
                    Imm64::BtfId { .. } => step(O::Symbol, dst, 0, 0, references.symbol(slot)? as i64),
                    _ => return None,
                }
            }
            Op::LoadAbs { size, off } => step(O::PacketAbs, 0, 0, off, size.bytes().into()),
            Op::LoadInd { size, index, off } => step(O::PacketInd, 0, index.number(), off, size.bytes().into()),
            Op::Load { size, dst, base, off } | Op::LoadAcquire { size, dst, base, off } => {
                let op = sized(size, [O::Load8, O::Load16, O::Load32, O::Load64]);
                step(op, dst.number(), base.number(), off.into(), 0)
            }
            Op::LoadSx { size, dst, base, off } => {
                let op = sized(size, [O::LoadSx8, O::LoadSx16, O::LoadSx32, O::Load64]);
                step(op, dst.number(), base.number(), off.into(), 0)
            }
            Op::Store { size, base, off, src } => match src {
                Operand::Reg(src) => {
                    let op = sized(size, [O::Store8X, O::Store16X, O::Store32X, O::Store64X]);
                    step(op, base.number(), src.number(), off.into(), 0)
                }
                Operand::Imm(imm) => {
                    let op = sized(size, [O::Store8K, O::Store16K, O::Store32K, O::Store64K]);
                    step(op, base.number(), 0, off.into(), imm.into())
                }
            },
            Op::StoreRelease { size, base, off, src } => {
                let op = sized(size, [O::Store8X, O::Store16X, O::Store32X, O::Store64X]);
                step(op, base.number(), src.number(), off.into(), 0)
            }
            Op::Atomic { op, size, base, off, src } => {
                let opcode = if size == Size::DW { O::Atomic64 } else { O::Atomic32 };
                step(opcode, base.number(), src.number(), off.into(), op.code().into())
            }
            Op::Jump { off } => step(O::Jump, 0, 0, 0, to(off.into())),
            Op::JumpLong { distance } => step(O::Jump, 0, 0, 0, to(distance.into())),
            Op::JumpReg { target } => step(O::JumpRegister, target.number(), 0, 0, 0),
            Op::JumpIf { width, cond, dst, src, off } => {
                binary(condition(cond)?, width, dst.number(), src, i32::try_from(to(off.into())).ok()?)
            }
            Op::MayGoto { off } => step(O::MayGoto, 0, 0, 0, to(off.into())),
            Op::CallHelper { id: TAIL_CALL } => step(O::TailCall, 0, 0, 0, 0),
            Op::CallHelper { id } => step(O::Call, 0, 0, 0, self.callee(references.helper(id))),
            Op::CallKfunc { .. } => step(O::Call, 0, 0, 0, self.callee(references.kfunc(slot)?)),
            Op::CallFunc { distance } => step(O::CallFunc, 0, 0, 0, to(distance.into())),
            Op::Exit => step(O::Exit, 0, 0, 0, 0),
            _ => return None,
        })
    }
}

const INVALID: Step = step(Opcode::Invalid, 0, 0, 0, 0);

const fn step(op: Opcode, dst: u8, src: u8, off: i32, imm: i64) -> Step {
    Step { op, dst, src, off, imm }
}

/// A step with a right operand.
fn binary(ops: [Opcode; 4], width: Width, dst: u8, src: Operand, off: i32) -> Step {
    let [wide_imm, wide_reg, half_imm, half_reg] = ops;
    let (imm, reg) = if width == Width::W64 { (wide_imm, wide_reg) } else { (half_imm, half_reg) };
    match src {
        Operand::Imm(value) => step(imm, dst, 0, off, value.into()),
        Operand::Reg(src) => step(reg, dst, src.number(), off, 0),
    }
}

fn sized(size: Size, [byte, half, word, double]: [Opcode; 4]) -> Opcode {
    match size {
        Size::B => byte,
        Size::H => half,
        Size::W => word,
        Size::DW => double,
    }
}

#[rustfmt::skip]
fn alu(op: AluOp) -> Option<[Opcode; 4]> {
    Some(match op {
AluOp::Add => [Opcode::Add64K, Opcode::Add64X, Opcode::Add32K, Opcode::Add32X],
AluOp::Sub => [Opcode::Sub64K, Opcode::Sub64X, Opcode::Sub32K, Opcode::Sub32X],
AluOp::Mul => [Opcode::Mul64K, Opcode::Mul64X, Opcode::Mul32K, Opcode::Mul32X],
AluOp::Or => [Opcode::Or64K, Opcode::Or64X, Opcode::Or32K, Opcode::Or32X],
AluOp::And => [Opcode::And64K, Opcode::And64X, Opcode::And32K, Opcode::And32X],
AluOp::Xor => [Opcode::Xor64K, Opcode::Xor64X, Opcode::Xor32K, Opcode::Xor32X],
AluOp::Lsh => [Opcode::Lsh64K, Opcode::Lsh64X, Opcode::Lsh32K, Opcode::Lsh32X],
AluOp::Rsh => [Opcode::Rsh64K, Opcode::Rsh64X, Opcode::Rsh32K, Opcode::Rsh32X],
AluOp::Arsh => [Opcode::Arsh64K, Opcode::Arsh64X, Opcode::Arsh32K, Opcode::Arsh32X],
AluOp::Div => [Opcode::Div64K, Opcode::Div64X, Opcode::Div32K, Opcode::Div32X],
AluOp::Mod => [Opcode::Mod64K, Opcode::Mod64X, Opcode::Mod32K, Opcode::Mod32X],
AluOp::Sdiv => [Opcode::Sdiv64K, Opcode::Sdiv64X, Opcode::Sdiv32K, Opcode::Sdiv32X],
AluOp::Smod => [Opcode::Smod64K, Opcode::Smod64X, Opcode::Smod32K, Opcode::Smod32X],
        _ => return None,
    })
}

#[rustfmt::skip]
fn condition(cond: Cond) -> Option<[Opcode; 4]> {
    Some(match cond {
Cond::Eq => [Opcode::JEq64K, Opcode::JEq64X, Opcode::JEq32K, Opcode::JEq32X],
Cond::Ne => [Opcode::JNe64K, Opcode::JNe64X, Opcode::JNe32K, Opcode::JNe32X],
Cond::Set => [Opcode::JSet64K, Opcode::JSet64X, Opcode::JSet32K, Opcode::JSet32X],
Cond::Gt => [Opcode::JGt64K, Opcode::JGt64X, Opcode::JGt32K, Opcode::JGt32X],
Cond::Ge => [Opcode::JGe64K, Opcode::JGe64X, Opcode::JGe32K, Opcode::JGe32X],
Cond::Lt => [Opcode::JLt64K, Opcode::JLt64X, Opcode::JLt32K, Opcode::JLt32X],
Cond::Le => [Opcode::JLe64K, Opcode::JLe64X, Opcode::JLe32K, Opcode::JLe32X],
Cond::Sgt => [Opcode::JSgt64K, Opcode::JSgt64X, Opcode::JSgt32K, Opcode::JSgt32X],
Cond::Sge => [Opcode::JSge64K, Opcode::JSge64X, Opcode::JSge32K, Opcode::JSge32X],
Cond::Slt => [Opcode::JSlt64K, Opcode::JSlt64X, Opcode::JSlt32K, Opcode::JSlt32X],
Cond::Sle => [Opcode::JSle64K, Opcode::JSle64X, Opcode::JSle32K, Opcode::JSle32X],
        _ => return None,
    })
}

/// The atomic operation with a code.
pub(super) fn atomic_op(code: i64) -> Option<AtomicOp> {
    AtomicOp::from_code(i32::try_from(code).ok()?)
}

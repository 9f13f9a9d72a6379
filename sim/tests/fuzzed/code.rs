//! Programs as trees, which stay whole when parts of them are taken out.

use skep_asm::{Insn, Reg, opcode as op, pseudo};

/// Maps that programs use, by their places.
pub(crate) const OUT: usize = 0;
pub(crate) const DATA: usize = 1;
pub(crate) const ARRAY: usize = 2;
pub(crate) const HASH: usize = 3;
pub(crate) const PROGS: usize = 4;
pub(crate) const MAPS: usize = 5;

pub(crate) fn i(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, Reg::new(dst).unwrap(), Reg::new(src).unwrap(), off, imm)
}

/// One instruction, or one whose form is known only when everything else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Insn(Insn),
    /// `dst` is a number of 64 bits.
    Number(u8, u64),
    /// `dst` is the address of a map.
    Map(u8, usize),
    /// `dst` is the address of an offset in the only value of a map.
    Value(u8, usize, i32),
    /// `dst` is the address of a function.
    Function(u8, usize),
    Call(usize),
}

impl Piece {
    fn slots(&self) -> usize {
        match self {
            Piece::Insn(_) | Piece::Call(_) => 1,
            _ => 2,
        }
    }
}

/// What a program does, in parts that can be left out. Before and after each, `r0` to `r9` are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Plain(Vec<Piece>),
    If {
        test: Insn,
        long: bool,
        then: Vec<Op>,
        otherwise: Vec<Op>,
    },
    /// Counts down in a slot of the stack.
    Loop {
        slot: i16,
        count: i32,
        may_goto: bool,
        long: bool,
        body: Vec<Op>,
    },
}

/// A function: what it begins with, does, and ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) start: Vec<Piece>,
    pub(crate) body: Vec<Op>,
    pub(crate) end: Vec<Piece>,
}

/// A program; the first function is where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) functions: Vec<Function>,
}

/// Instructions, and where functions begin.
pub(crate) struct Emitted {
    pub(crate) insns: Vec<Insn>,
    pub(crate) starts: Vec<usize>,
}

struct Emitter<'a> {
    maps: &'a [i32; MAPS],
    insns: Vec<Insn>,
    starts: Vec<usize>,
    /// Slots whose immediate is a distance to a function.
    open: Vec<(usize, usize)>,
}

impl Program {
    /// The instructions of the functions that are called.
    pub(crate) fn emit(&self, maps: &[i32; MAPS]) -> Emitted {
        let mut emitter = Emitter { maps, insns: Vec::new(), starts: Vec::new(), open: Vec::new() };
        let used = self.used();
        for (number, function) in self.functions.iter().enumerate() {
            emitter.starts.push(emitter.insns.len());
            if used[number] {
                emitter.pieces(&function.start);
                emitter.ops(&function.body);
                emitter.pieces(&function.end);
                emitter.insns.push(i(op::EXIT, 0, 0, 0, 0));
            }
        }
        for (slot, function) in std::mem::take(&mut emitter.open) {
            emitter.insns[slot].imm = emitter.starts[function] as i32 - slot as i32 - 1;
        }
        let starts = emitter.starts.iter().zip(&used).filter(|(_, used)| **used).map(|(start, _)| *start);
        Emitted { starts: starts.collect(), insns: emitter.insns }
    }

    /// Which functions the first one comes to.
    fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.functions.len()];
        let mut open = vec![0];
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut used[number], true) {
                calls(&self.functions[number].body, &mut open);
            }
        }
        used
    }

    /// How many parts it has.
    pub(crate) fn size(&self) -> usize {
        self.functions.iter().map(|function| size(&function.body)).sum()
    }
}

fn calls(ops: &[Op], to: &mut Vec<usize>) {
    for op in ops {
        match op {
            Op::Plain(pieces) => to.extend(pieces.iter().filter_map(|piece| match piece {
                Piece::Function(_, function) | Piece::Call(function) => Some(*function),
                _ => None,
            })),
            Op::If { then, otherwise, .. } => {
                calls(then, to);
                calls(otherwise, to);
            }
            Op::Loop { body, .. } => calls(body, to),
        }
    }
}

fn size(ops: &[Op]) -> usize {
    let parts = ops.iter().map(|op| match op {
        Op::Plain(_) => 1,
        Op::If { then, otherwise, .. } => 1 + size(then) + size(otherwise),
        Op::Loop { body, .. } => 1 + size(body),
    });
    parts.sum()
}

impl Emitter<'_> {
    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match *piece {
                Piece::Insn(insn) => self.insns.push(insn),
                Piece::Number(dst, value) => self.wide(dst, 0, value as i32, (value >> 32) as i32),
                Piece::Map(dst, map) => self.wide(dst, pseudo::MAP_FD, self.maps[map], 0),
                Piece::Value(dst, map, off) => self.wide(dst, pseudo::MAP_VALUE, self.maps[map], off),
                Piece::Function(dst, function) => {
                    self.open.push((self.insns.len(), function));
                    self.wide(dst, pseudo::FUNC, 0, 0);
                }
                Piece::Call(function) => {
                    self.open.push((self.insns.len(), function));
                    self.insns.push(i(op::CALL, 0, pseudo::CALL, 0, 0));
                }
            }
        }
    }

    fn wide(&mut self, dst: u8, src: u8, low: i32, high: i32) {
        self.insns.push(i(op::LD_IMM64, dst, src, 0, low));
        self.insns.push(i(0, 0, 0, 0, high));
    }

    fn ops(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Plain(pieces) => self.pieces(pieces),
                Op::If { test, long, then, otherwise } => {
                    let branch = self.insns.len();
                    self.insns.push(*test);
                    self.ops(otherwise);
                    let over = (!otherwise.is_empty()).then(|| self.jump(*long));
                    if over.is_none() {
                        // Nothing to jump over: the branch skips the other side.
                        self.ops(then);
                        self.insns[branch].off = (self.insns.len() - branch - 1) as i16;
                        continue;
                    }
                    self.insns[branch].off = (self.insns.len() - branch - 1) as i16;
                    self.ops(then);
                    self.land(over.unwrap());
                }
                Op::Loop { slot, count, may_goto, long, body } => {
                    self.insns.push(i(0x7a, 10, 0, *slot, *count));
                    let top = self.insns.len();
                    if *may_goto {
                        self.insns.push(i(op::MAY_GOTO, 0, 0, 0, 0));
                    }
                    self.ops(body);
                    self.insns.push(i(0x79, 0, 10, *slot, 0));
                    self.insns.push(i(0x07, 0, 0, 0, -1));
                    self.insns.push(i(0x7b, 10, 0, *slot, 0));
                    if *long {
                        self.insns.push(i(0x15, 0, 0, 1, 0));
                        let back = self.jump(true);
                        self.insns[back].imm = top as i32 - back as i32 - 1;
                    } else {
                        let back = top as i64 - self.insns.len() as i64 - 1;
                        self.insns.push(i(0x55, 0, 0, back as i16, 0));
                    }
                    if *may_goto {
                        self.insns[top].off = (self.insns.len() - top - 1) as i16;
                    }
                }
            }
        }
    }

    fn jump(&mut self, long: bool) -> usize {
        self.insns.push(i(if long { op::GOTOL } else { op::JA }, 0, 0, 0, 0));
        self.insns.len() - 1
    }

    fn land(&mut self, jump: usize) {
        let distance = self.insns.len() - jump - 1;
        if self.insns[jump].opcode == op::GOTOL {
            self.insns[jump].imm = distance as i32;
        } else {
            self.insns[jump].off = distance as i16;
        }
    }
}

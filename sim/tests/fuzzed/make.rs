//! Makes programs that a verifier accepts.
//!
//! Between operations `r0` to `r9` are numbers, so control may go to any of them. Pointers are made where they are used and gone
//! after it, since they differ between kernels. What is read was written before.

use skep_asm::{AtomicOp, Insn, Size, opcode as op};

use super::Random;
use super::code::{ARRAY, DATA, Function, HASH, OUT, Op, PROGS, Piece, Program, i};

/// Sizes of the maps' values.
pub(crate) const DATA_SIZE: usize = 128;
pub(crate) const ARRAY_SIZE: usize = 24;
pub(crate) const HASH_SIZE: usize = 16;
/// Bytes that each program writes its registers to.
pub(crate) const OUT_SIZE: usize = 80;
/// Where a function keeps its context.
const CTX: i16 = -8;
/// Where loops count.
const COUNTERS: [i16; 2] = [-16, -24];
/// Lowest byte of what is read and written freely, in the first function and in others.
const AREAS: [i16; 2] = [-88, -56];
const AREA_END: i16 = -24;
const ARGUMENTS: usize = 12;

/// What programs are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Version of the instruction set, 1 to 4.
    pub(crate) isa: u8,
    /// Whether kernels have loads and stores with an order.
    pub(crate) ordered: bool,
    pub(crate) may_goto: bool,
    pub(crate) loops: bool,
}

/// Programs; the first is run, and any may go on with any.
pub(crate) fn make(random: &mut Random, shape: Shape) -> Vec<Program> {
    let count = if random.one_in(4) { 2 + random.below(2) } else { 1 };
    (0..count).map(|number| program(random, shape, number, count)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Main,
    /// A function; whether its first argument is the context.
    Called(bool),
    Callback,
}

struct Maker<'a> {
    random: &'a mut Random,
    shape: Shape,
    /// The functions of the program, and which of them this one may call.
    kinds: &'a [Kind],
    me: usize,
    area: i16,
    /// Whether a tail call is possible and leads somewhere.
    programs: usize,
    loops: usize,
}

fn program(random: &mut Random, shape: Shape, number: usize, programs: usize) -> Program {
    let mut kinds = vec![Kind::Main];
    for _ in 0..random.of(&[0, 0, 1, 2, 3]) {
        kinds.push(match random.below(3) {
            0 if shape.loops => Kind::Callback,
            1 => Kind::Called(true),
            _ => Kind::Called(false),
        });
    }
    let functions = (0..kinds.len())
        .map(|me| {
            let area = AREAS[usize::from(me != 0)];
            let mut maker = Maker { random, shape, kinds: &kinds, me, area, programs, loops: 0 };
            maker.function(number)
        })
        .collect();
    Program { functions }
}

fn mov(dst: u8, imm: i32) -> Piece {
    Piece::Insn(i(0xb7, dst, 0, 0, imm))
}

fn copy(dst: u8, src: u8) -> Piece {
    Piece::Insn(i(0xbf, dst, src, 0, 0))
}

fn insn(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Piece {
    Piece::Insn(i(opcode, dst, src, off, imm))
}

impl Maker<'_> {
    fn kind(&self) -> Kind {
        self.kinds[self.me]
    }

    fn has_ctx(&self) -> bool {
        matches!(self.kind(), Kind::Main | Kind::Called(true))
    }

    fn imm(&mut self) -> i32 {
        self.random.edge() as i32
    }

    fn register(&mut self) -> u8 {
        self.random.below(10) as u8
    }

    /// A register that is none of these.
    fn other(&mut self, than: &[u8]) -> u8 {
        loop {
            let register = self.register();
            if !than.contains(&register) {
                return register;
            }
        }
    }

    fn function(&mut self, number: usize) -> Function {
        let mut start = Vec::new();
        if self.has_ctx() {
            start.push(insn(0x7b, 10, 1, CTX, 0));
        }
        let mut at = self.area;
        while at < AREA_END {
            start.push(insn(0x7a, 10, 0, at, self.imm()));
            at += 8;
        }
        let mut rest: Vec<u8> = vec![0, 6, 7, 8, 9];
        match self.kind() {
            Kind::Main => {
                rest.extend([2, 3, 4, 5, 1]);
                for dst in rest {
                    let piece = match self.random.below(3) {
                        0 => Piece::Number(dst, self.random.edge()),
                        1 => mov(dst, self.imm()),
                        _ => insn(0x79, dst, 1, self.random.below(ARGUMENTS) as i16 * 8, 0),
                    };
                    start.push(piece);
                }
            }
            Kind::Called(ctx) => {
                if ctx {
                    start.push(mov(1, self.imm()));
                }
                for dst in rest {
                    start.push(copy(dst, self.random.of(&[1, 2, 3, 4, 5])));
                }
            }
            Kind::Callback => {
                // The second argument is null or 16 bytes of the caller's stack.
                start.push(insn(0x15, 2, 0, 2, 0));
                start.push(insn(0x79, 0, 2, self.random.of(&[0, 8]), 0));
                start.push(insn(0x7b, 2, 1, self.random.of(&[0, 8]), 0));
                start.push(copy(2, 1));
                for dst in [3, 4, 5].into_iter().chain(rest) {
                    let piece = if self.random.one_in(2) { copy(dst, 1) } else { mov(dst, self.imm()) };
                    start.push(piece);
                }
            }
        }
        let len = match self.kind() {
            Kind::Main => 4 + self.random.below(40),
            _ => 1 + self.random.below(10),
        };
        let body = self.body(len, 0);
        let mut end = Vec::new();
        match self.kind() {
            Kind::Main => {
                let base = (number * OUT_SIZE) as i32;
                end.push(insn(0x7b, 10, 1, self.area, 0));
                end.push(Piece::Value(1, OUT, base));
                for register in [0, 2, 3, 4, 5, 6, 7, 8, 9] {
                    end.push(insn(0x7b, 1, register, i16::from(register) * 8, 0));
                }
                end.push(insn(0x79, 2, 10, self.area, 0));
                end.push(insn(0x7b, 1, 2, 8, 0));
            }
            Kind::Called(_) => {}
            // Zero goes on, one ends the loop.
            Kind::Callback => end.push(insn(0x57, 0, 0, 0, self.random.of(&[0, 1, 1]))),
        }
        Function { start, body, end }
    }

    fn body(&mut self, len: usize, depth: usize) -> Vec<Op> {
        (0..len).map(|_| self.operation(depth)).collect()
    }

    fn operation(&mut self, depth: usize) -> Op {
        match self.random.below(40) {
            0..=4 if depth < 3 => {
                let test = self.test();
                let (then, otherwise) = (1 + self.random.below(4), self.random.below(4));
                Op::If {
                    test,
                    long: self.shape.isa >= 4 && self.random.one_in(3),
                    then: self.body(then, depth + 1),
                    otherwise: self.body(otherwise, depth + 1),
                }
            }
            5 if self.loops < COUNTERS.len() && depth < 2 => {
                let slot = COUNTERS[self.loops];
                self.loops += 1;
                let len = 1 + self.random.below(4);
                let body = self.body(len, depth + 1);
                self.loops -= 1;
                Op::Loop {
                    slot,
                    count: 1 + self.random.below(4) as i32,
                    may_goto: self.shape.may_goto && self.random.one_in(3),
                    long: self.shape.isa >= 4 && self.random.one_in(2),
                    body,
                }
            }
            6 | 7 => self.call(),
            8 if self.has_ctx() && self.programs > 1 => self.tail_call(),
            9 => self.helper(),
            10..=15 => self.stack(),
            16..=20 => self.value(),
            21 => self.context(),
            22 => Op::Plain(vec![Piece::Number(self.register(), self.random.edge())]),
            _ => Op::Plain(vec![Piece::Insn(self.alu())]),
        }
    }

    fn alu(&mut self) -> Insn {
        let (dst, src) = (self.register(), self.register());
        let class = self.random.of(&[op::CLASS_ALU, op::CLASS_ALU64]);
        let wide = class == op::CLASS_ALU64;
        let v4 = self.shape.isa >= 4;
        match self.random.below(20) {
            0 => i(class | op::ALU_NEG, dst, 0, 0, 0),
            1 => i(
                op::CLASS_ALU | op::ALU_END | self.random.of(&[0, 8]),
                dst,
                0,
                0,
                self.random.of(&[16, 32, 64]),
            ),
            2 if v4 => i(op::CLASS_ALU64 | op::ALU_END, dst, 0, 0, self.random.of(&[16, 32, 64])),
            3 | 4 if v4 => {
                let off = if wide { self.random.of(&[8, 16, 32]) } else { self.random.of(&[8, 16]) };
                i(class | op::ALU_MOV | op::SRC_X, dst, src, off, 0)
            }
            5 => i(class | op::ALU_MOV | op::SRC_X, dst, src, 0, 0),
            6 => i(class | op::ALU_MOV, dst, 0, 0, self.imm()),
            _ => {
                let operations = [
                    op::ALU_ADD,
                    op::ALU_SUB,
                    op::ALU_MUL,
                    op::ALU_DIV,
                    op::ALU_OR,
                    op::ALU_AND,
                    op::ALU_LSH,
                    op::ALU_RSH,
                    op::ALU_MOD,
                    op::ALU_XOR,
                    op::ALU_ARSH,
                ];
                let operation = self.random.of(&operations);
                let divides = matches!(operation, op::ALU_DIV | op::ALU_MOD);
                let off = i16::from(divides && v4 && self.random.one_in(2));
                if self.random.one_in(2) {
                    return i(class | operation | op::SRC_X, dst, src, off, 0);
                }
                let imm = match operation {
                    op::ALU_LSH | op::ALU_RSH | op::ALU_ARSH => {
                        self.random.below(if wide { 64 } else { 32 }) as i32
                    }
                    _ => self.imm(),
                };
                let imm = if divides && imm == 0 { -1 } else { imm };
                i(class | operation, dst, 0, off, imm)
            }
        }
    }

    /// A conditional jump whose distance is not known yet.
    fn test(&mut self) -> Insn {
        let mut conditions = vec![
            op::JMP_JEQ,
            op::JMP_JGT,
            op::JMP_JGE,
            op::JMP_JSET,
            op::JMP_JNE,
            op::JMP_JSGT,
            op::JMP_JSGE,
        ];
        if self.shape.isa >= 2 {
            conditions.extend([op::JMP_JLT, op::JMP_JLE, op::JMP_JSLT, op::JMP_JSLE]);
        }
        let classes = if self.shape.isa >= 3 { [op::CLASS_JMP, op::CLASS_JMP32] } else { [op::CLASS_JMP; 2] };
        let code = self.random.of(&classes) | self.random.of(&conditions);
        let dst = self.register();
        if self.random.one_in(2) {
            i(code | op::SRC_X, dst, self.register(), 0, 0)
        } else {
            i(code, dst, 0, 0, self.imm())
        }
    }

    /// An access of memory at a base. `room` bytes from `start` on may be accessed; `values` may be moved.
    fn access(&mut self, base: u8, start: i16, room: usize, aligned: bool, values: &[u8]) -> Insn {
        let sizes = [Size::B, Size::H, Size::W, Size::DW];
        let mut size = self.random.of(&sizes);
        let v4 = self.shape.isa >= 4;
        let kind = self.random.below(10);
        let atomic = kind >= 7;
        let ordered = kind == 9 && self.shape.ordered && v4;
        if atomic && !ordered {
            size = self.random.of(&[Size::W, Size::DW]);
        }
        let bytes = usize::from(size.bytes());
        let mut at = self.random.below(room - bytes + 1);
        if aligned || atomic {
            at -= at % bytes;
        }
        let off = start + at as i16;
        let value = self.random.of(values);
        match kind {
            0 | 1 => i(op::CLASS_LDX | op::MODE_MEM | size.code(), value, base, off, 0),
            2 if v4 && size != Size::DW => {
                i(op::CLASS_LDX | op::MODE_MEMSX | size.code(), value, base, off, 0)
            }
            2..=4 => i(op::CLASS_STX | op::MODE_MEM | size.code(), base, value, off, 0),
            5 | 6 => i(op::CLASS_ST | op::MODE_MEM | size.code(), base, 0, off, self.imm()),
            _ => {
                let code = op::CLASS_STX | op::MODE_ATOMIC | size.code();
                if ordered {
                    return match self.random.one_in(2) {
                        true => i(code, value, base, off, op::ATOMIC_LOAD_ACQ),
                        false => i(code, base, value, off, op::ATOMIC_STORE_REL),
                    };
                }
                let plain = [AtomicOp::Add];
                let all = [
                    AtomicOp::Add,
                    AtomicOp::Or,
                    AtomicOp::And,
                    AtomicOp::Xor,
                    AtomicOp::FetchAdd,
                    AtomicOp::FetchOr,
                    AtomicOp::FetchAnd,
                    AtomicOp::FetchXor,
                    AtomicOp::Xchg,
                    AtomicOp::CmpXchg,
                ];
                let atomic = if self.shape.isa >= 3 { self.random.of(&all) } else { self.random.of(&plain) };
                i(code, base, value, off, atomic.code())
            }
        }
    }

    fn stack(&mut self) -> Op {
        let room = (AREA_END - self.area) as usize;
        if !self.random.one_in(5) {
            let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
            return Op::Plain(vec![Piece::Insn(self.access(10, self.area, room, true, &all))]);
        }
        // At a place that is not known.
        let index = self.register();
        let base = self.other(&[index]);
        let bits = self.random.of(&[8, 16, 24]);
        let value = self.other(&[base]);
        let load = self.random.one_in(2);
        let at = self.area + 8 * self.random.below((room - 32) / 8 + 1) as i16;
        Op::Plain(vec![
            copy(base, index),
            insn(0x57, base, 0, 0, bits),
            insn(0x0f, base, 10, 0, 0),
            if load { insn(0x79, value, base, at, 0) } else { insn(0x7b, base, value, at, 0) },
            mov(base, self.imm()),
        ])
    }

    fn value(&mut self) -> Op {
        let base = self.other(&[0]);
        let values: Vec<u8> = (0..10).filter(|register| *register != base).collect();
        let mut pieces = vec![Piece::Value(base, DATA, 0)];
        if self.random.one_in(3) {
            let index = self.other(&[base, 0]);
            let mask = self.random.of(&[7, 15, 63]);
            let wanted: Vec<u8> = values.iter().copied().filter(|register| *register != index).collect();
            pieces.push(insn(0x57, index, 0, 0, mask));
            pieces.push(insn(0x0f, base, index, 0, 0));
            for _ in 0..1 + self.random.below(2) {
                // Atomic operations need a place that is known to be aligned.
                let access = loop {
                    let access = self.access(base, 0, DATA_SIZE - 63, false, &wanted);
                    if access.opcode & op::MODE_MASK != op::MODE_ATOMIC {
                        break access;
                    }
                };
                pieces.push(Piece::Insn(access));
            }
        } else {
            for _ in 0..1 + self.random.below(3) {
                pieces.push(Piece::Insn(self.access(base, 0, DATA_SIZE, false, &values)));
            }
        }
        pieces.push(mov(base, self.imm()));
        Op::Plain(pieces)
    }

    fn context(&mut self) -> Op {
        if !self.has_ctx() {
            return Op::Plain(vec![Piece::Insn(self.alu())]);
        }
        let base = self.register();
        let dst = self.other(&[base]);
        let at = self.random.below(ARGUMENTS) as i16 * 8;
        Op::Plain(vec![insn(0x79, base, 10, CTX, 0), insn(0x79, dst, base, at, 0), mov(base, self.imm())])
    }

    /// Numbers for the registers that a call takes away.
    fn after_call(&mut self, pieces: &mut Vec<Piece>) {
        for dst in 1..=5 {
            let piece = match self.random.below(3) {
                0 => mov(dst, self.imm()),
                _ => copy(dst, self.random.of(&[0, 6, 7, 8, 9])),
            };
            pieces.push(piece);
        }
    }

    fn call(&mut self) -> Op {
        // Only functions that come later, so that the depth is bounded.
        let callable: Vec<usize> = (self.me + 1..self.kinds.len())
            .filter(|&function| match self.kinds[function] {
                Kind::Main => false,
                Kind::Called(ctx) => !ctx || self.has_ctx(),
                // A callback's own loop would be followed many times.
                Kind::Callback => self.kind() == Kind::Main && self.loops == 0,
            })
            .collect();
        if callable.is_empty() {
            return Op::Plain(vec![Piece::Insn(self.alu())]);
        }
        let function = self.random.of(&callable);
        let mut pieces = Vec::new();
        match self.kinds[function] {
            Kind::Callback => {
                let at = self.area + 8 * self.random.below(3) as i16;
                pieces.push(mov(1, self.random.below(6) as i32));
                pieces.push(Piece::Function(2, function));
                if self.random.one_in(3) {
                    pieces.push(mov(3, 0));
                } else {
                    pieces.extend([copy(3, 10), insn(0x07, 3, 0, 0, at.into())]);
                }
                pieces.extend([mov(4, 0), insn(op::CALL, 0, 0, 0, 181)]);
            }
            Kind::Called(true) => pieces.extend([insn(0x79, 1, 10, CTX, 0), Piece::Call(function)]),
            _ => pieces.push(Piece::Call(function)),
        }
        self.after_call(&mut pieces);
        Op::Plain(pieces)
    }

    fn tail_call(&mut self) -> Op {
        let mut pieces = Vec::new();
        if self.random.one_in(2) {
            pieces.push(mov(3, self.random.below(self.programs + 1) as i32));
        } else {
            let index = self.register();
            pieces.extend([copy(3, index), insn(0x57, 3, 0, 0, self.random.of(&[1, 3, 7]))]);
        }
        pieces.extend([insn(0x79, 1, 10, CTX, 0), Piece::Map(2, PROGS), insn(op::CALL, 0, 0, 0, 12)]);
        pieces.push(mov(0, self.imm()));
        self.after_call(&mut pieces);
        Op::Plain(pieces)
    }

    /// The address of an offset of the stack.
    fn address(&self, dst: u8, at: i16) -> [Piece; 2] {
        [copy(dst, 10), insn(0x07, dst, 0, 0, at.into())]
    }

    /// A map's element by its key, which lies in the lowest bytes of the area.
    fn helper(&mut self) -> Op {
        let (map, size) = self.random.of(&[(ARRAY, ARRAY_SIZE), (HASH, HASH_SIZE)]);
        let key = self.area;
        let mut pieces = Vec::new();
        if self.random.one_in(3) {
            let index = self.random.of(&[6, 7, 8, 9]);
            pieces.extend([insn(0x57, index, 0, 0, 7), insn(0x63, 10, index, key, 0)]);
        } else {
            pieces.push(insn(0x62, 10, 0, key, self.random.below(8) as i32));
        }
        pieces.extend(self.address(2, key));
        pieces.push(Piece::Map(1, map));
        match self.random.below(4) {
            0 | 1 => {
                pieces.push(insn(op::CALL, 0, 0, 0, 1));
                let accesses: Vec<Piece> = (0..1 + self.random.below(3))
                    .map(|_| Piece::Insn(self.access(0, 0, size, false, &[6, 7, 8, 9])))
                    // With the address in r0, this would compare it.
                    .filter(|piece| !matches!(piece, Piece::Insn(insn) if insn.imm == op::ATOMIC_CMPXCHG && insn.class() == op::CLASS_STX))
                    .collect();
                pieces.push(insn(0x15, 0, 0, accesses.len() as i16, 0));
                pieces.extend(accesses);
                pieces.push(mov(0, self.imm()));
            }
            2 => {
                pieces.extend(self.address(3, self.area + 8));
                pieces.extend([mov(4, self.random.of(&[0, 0, 1, 2])), insn(op::CALL, 0, 0, 0, 2)]);
            }
            _ => pieces.push(insn(op::CALL, 0, 0, 0, 3)),
        }
        self.after_call(&mut pieces);
        Op::Plain(pieces)
    }
}

use skep::asm::{Cond, Reg, Size};
use skep::ring::{RingBuffer, UserRingBuffer};
use skep::sys::abi::{Errno, MapType, ProgType};

use super::Arg::{Func, Imm, Map as M, Reg as R, Stack};
use super::{Script, World, errno, has_helper, map, number};

const OUTPUT: i32 = 130;
const RESERVE: i32 = 131;
const SUBMIT: i32 = 132;
const DISCARD: i32 = 133;
const QUERY: i32 = 134;
const RESERVE_DYNPTR: i32 = 198;
const SUBMIT_DYNPTR: i32 = 199;
const DISCARD_DYNPTR: i32 = 200;
const DYNPTR_READ: i32 = 201;
const DYNPTR_WRITE: i32 = 202;
const DYNPTR_DATA: i32 = 203;
const DRAIN: i32 = 209;

const EINVAL: u64 = errno(Errno::EINVAL);
const EAGAIN: u64 = errno(Errno::EAGAIN);
const E2BIG: u64 = errno(Errno::E2BIG);

fn has_rings(world: &World<'_>, test: &str) -> bool {
    has_helper(world, test, OUTPUT, ProgType::SOCKET_FILTER)
}

/// All records, as numbers.
fn drain(ring: &mut RingBuffer) -> Vec<u64> {
    let mut records = Vec::new();
    ring.consume(100, |record| records.push(number(&record[..8]))).unwrap();
    records
}

impl Script {
    /// Reserves a record, and if there is one writes a number into it and finishes it.
    fn record(&mut self, ring: &skep::map::Map, len: i64, value: i32, finish: i32) -> &mut Self {
        let none = format!("none{}", self.noted);
        self.call(RESERVE, &[M(ring), Imm(len), Imm(0)]);
        let asm = self.builder.asm();
        asm.mov64_imm(Reg::R7, 0).jmp64_imm(Cond::Eq, Reg::R0, 0, &*none).mov64_imm(Reg::R7, 1);
        asm.mov64_imm(Reg::R1, value).stx(Size::DW, Reg::R0, 0, Reg::R1);
        self.call(finish, &[R(Reg::R0), Imm(0)]);
        self.builder.asm().label(none);
        self.note_reg(Reg::R7)
    }
}

pub(super) fn records(world: &World<'_>) {
    if !has_rings(world, "rings") {
        return;
    }
    let map = map(world, MapType::RINGBUF, 0, 0, 4096);
    let mut ring = RingBuffer::try_from(map.clone()).unwrap();
    let mut script = Script::new(world);
    script.stack(-8, 11);
    script.call(OUTPUT, &[M(&map), Stack(-8), Imm(8), Imm(0)]).note();
    script.call(OUTPUT, &[M(&map), Stack(-8), Imm(8), Imm(4)]).note();
    script.record(&map, 8, 12, SUBMIT);
    script.record(&map, 8, 13, DISCARD);
    script.record(&map, 100, 14, SUBMIT);
    script.call(RESERVE, &[M(&map), Imm(8), Imm(1)]);
    script.builder.asm().jmp64_imm(Cond::Eq, Reg::R0, 0, "null");
    script.call(DISCARD, &[R(Reg::R0), Imm(0)]);
    script.builder.asm().label("null");
    let program = script.exit(0).program();
    program.test_run(&mut Default::default()).unwrap();
    assert_eq!(script.notes(), [0, EINVAL, 1, 1, 1]);
    assert_eq!(drain(&mut ring), [11, 12, 14]);
    // It goes on behind its end.
    for _ in 0..100 {
        program.test_run(&mut Default::default()).unwrap();
        assert_eq!(drain(&mut ring), [11, 12, 14]);
    }
}

pub(super) fn full(world: &World<'_>) {
    if !has_rings(world, "full_rings") {
        return;
    }
    let map = map(world, MapType::RINGBUF, 0, 0, 4096);
    let mut ring = RingBuffer::try_from(map.clone()).unwrap();
    let mut script = Script::new(world);
    script.stack(-8, 5);
    script.record(&map, 4096, 0, SUBMIT).record(&map, 4089, 0, SUBMIT);
    // What was discarded takes its room until the reader has passed it.
    script.record(&map, 2040, 1, DISCARD).record(&map, 2032, 2, SUBMIT).record(&map, 8, 3, SUBMIT);
    script.call(OUTPUT, &[M(&map), Stack(-8), Imm(8), Imm(0)]).note();
    let noted = script.exit(0).run();
    assert_eq!(noted, [0, 0, 1, 1, 0, EAGAIN]);
    assert_eq!(drain(&mut ring), [2]);
}

pub(super) fn queries(world: &World<'_>) {
    if !has_rings(world, "ring_queries") {
        return;
    }
    let map = map(world, MapType::RINGBUF, 0, 0, 8192);
    let mut ring = RingBuffer::try_from(map.clone()).unwrap();
    let mut script = Script::new(world);
    script.stack(-8, 5);
    for what in [0, 1, 2, 3, 99] {
        script.call(QUERY, &[M(&map), Imm(what)]).note();
    }
    script.call(OUTPUT, &[M(&map), Stack(-8), Imm(8), Imm(0)]).note();
    script.call(QUERY, &[M(&map), Imm(0)]).note();
    script.call(QUERY, &[M(&map), Imm(3)]).note();
    script.call(QUERY, &[M(&map), Imm(2)]).note();
    let program = script.exit(0).program();
    program.test_run(&mut Default::default()).unwrap();
    assert_eq!(script.notes(), [0, 8192, 0, 0, 0, 0, 16, 16, 0]);
    assert_eq!(drain(&mut ring), [5]);
    program.test_run(&mut Default::default()).unwrap();
    assert_eq!(script.notes(), [0, 8192, 16, 16, 0, 0, 16, 32, 16]);
}

pub(super) fn dynptrs(world: &World<'_>) {
    if !has_helper(world, "ring_dynptrs", RESERVE_DYNPTR, ProgType::SOCKET_FILTER) {
        return;
    }
    let map = map(world, MapType::RINGBUF, 0, 0, 4096);
    let mut ring = RingBuffer::try_from(map.clone()).unwrap();
    let mut script = Script::new(world);
    script.stack(-24, 21);
    script.call(RESERVE_DYNPTR, &[M(&map), Imm(16), Imm(0), Stack(-16)]).note();
    script.call(DYNPTR_WRITE, &[Stack(-16), Imm(0), Stack(-24), Imm(8), Imm(0)]).note();
    script.call(DYNPTR_WRITE, &[Stack(-16), Imm(9), Stack(-24), Imm(8), Imm(0)]).note();
    script.call(DYNPTR_WRITE, &[Stack(-16), Imm(0), Stack(-24), Imm(8), Imm(1)]).note();
    script.call(DYNPTR_READ, &[Stack(-32), Imm(8), Stack(-16), Imm(0), Imm(0)]).note();
    script.call(DYNPTR_DATA, &[Stack(-16), Imm(8), Imm(8)]);
    let asm = script.builder.asm();
    asm.jmp64_imm(Cond::Eq, Reg::R0, 0, "none").st(Size::DW, Reg::R0, 0, 7).label("none");
    script.call(SUBMIT_DYNPTR, &[Stack(-16), Imm(0)]);
    // One that is too large has to be given back, too.
    script.call(RESERVE_DYNPTR, &[M(&map), Imm(5000), Imm(0), Stack(-16)]).note();
    script.call(DYNPTR_WRITE, &[Stack(-16), Imm(0), Stack(-24), Imm(8), Imm(0)]).note();
    script.call(SUBMIT_DYNPTR, &[Stack(-16), Imm(0)]);
    script.call(RESERVE_DYNPTR, &[M(&map), Imm(8), Imm(1), Stack(-16)]).note();
    script.call(DISCARD_DYNPTR, &[Stack(-16), Imm(0)]);
    script.call(RESERVE_DYNPTR, &[M(&map), Imm(8), Imm(0), Stack(-16)]).note();
    script.call(DISCARD_DYNPTR, &[Stack(-16), Imm(0)]);
    let noted = script.note_stack(-24).exit(0).run();
    assert_eq!(noted, [0, 0, E2BIG, EINVAL, 0, EINVAL, EINVAL, EINVAL, 0, 21]);
    let mut records = Vec::new();
    ring.consume(100, |record| records.push(record.to_vec())).unwrap();
    assert_eq!(records, [[21u64.to_ne_bytes(), 7u64.to_ne_bytes()].concat()]);
}

pub(super) fn sent(world: &World<'_>) {
    if !has_helper(world, "sent_samples", DRAIN, ProgType::SOCKET_FILTER) {
        return;
    }
    let map = map(world, MapType::USER_RINGBUF, 0, 0, 4096);
    let ring = UserRingBuffer::try_from(map.clone()).unwrap();
    let mut script = Script::new(world);
    script.stack(-8, 0);
    script.call(DRAIN, &[M(&map), Func("take"), Stack(-8), Imm(0)]).note().note_stack(-8);
    script.call(DRAIN, &[M(&map), Func("take"), Stack(-8), Imm(4)]).note();
    script.exit(0);
    // The sum of the samples, ten times as much for each later one; stops at a 9.
    script.function("take");
    script.builder.asm().mov64_reg(Reg::R6, Reg::R2).mov64_reg(Reg::R3, Reg::R1);
    script.stack(-8, 0);
    script.call(DYNPTR_READ, &[Stack(-8), Imm(8), R(Reg::R3), Imm(0), Imm(0)]);
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R2, Reg::R10, -8).ldx(Size::DW, Reg::R1, Reg::R6, 0).mul64_imm(Reg::R1, 10);
    asm.add64_reg(Reg::R1, Reg::R2).stx(Size::DW, Reg::R6, 0, Reg::R1).mov64_imm(Reg::R0, 1);
    asm.jmp64_imm(Cond::Eq, Reg::R2, 9, "stop").mov64_imm(Reg::R0, 0).label("stop").exit();
    let program = script.program();
    let run = || {
        program.test_run(&mut Default::default()).unwrap();
        script.notes()
    };
    assert_eq!(run(), [0, 0, EINVAL]);
    for number in [1u64, 2, 3] {
        ring.submit(&number).unwrap();
    }
    ring.reserve(8).unwrap().discard();
    assert_eq!(run(), [3, 123, EINVAL]);
    for number in [4u64, 9, 5] {
        ring.submit(&number).unwrap();
    }
    assert_eq!(run(), [2, 49, EINVAL]);
    assert_eq!(run(), [1, 5, EINVAL]);
    assert_eq!(ring.pending(), 0);
}

use std::os::fd::AsFd;

use skep::asm::{Cond, Reg, Size};
use skep::btf::{BtfBuilder, IntEncoding};
use skep::map::Map;
use skep::sys::abi::{Errno, MapType, ProgType, UpdateFlags};
use skep::sys::request::{MapBtf, MapCreate, TestRun};

use super::Arg::{Func, Imm, Map as M, Reg as R, Stack};
use super::{Script, World, errno, has_functions, has_helper, map};

const TAIL_CALL: i32 = 12;
const LOOP: i32 = 181;

const EINVAL: u64 = errno(Errno::EINVAL);
const E2BIG: u64 = errno(Errno::E2BIG);

pub(super) fn tail_calls(world: &World<'_>) {
    let programs = map(world, MapType::PROG_ARRAY, 4, 4, 2);
    let mut script = Script::new(world);
    // Counts its executions and begins again, as often as it may.
    script.builder.asm().mov64_reg(Reg::R6, Reg::R1);
    script.noted = 2;
    script.builder.load_map_value(Reg::R1, &script.shared, 0);
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R2, Reg::R1, 0).add64_imm(Reg::R2, 1).stx(Size::DW, Reg::R1, 0, Reg::R2);
    // Neither an empty slot nor one that is not there goes anywhere.
    for index in [1, 2, 0] {
        script.call(TAIL_CALL, &[R(Reg::R6), M(&programs), Imm(index)]);
    }
    script.builder.load_map_value(Reg::R1, &script.shared, 8);
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R2, Reg::R1, 0).add64_imm(Reg::R2, 1).stx(Size::DW, Reg::R1, 0, Reg::R2);
    let program = script.exit(5).program();
    programs.update_fd(&0u32.to_ne_bytes(), &program, UpdateFlags::empty()).unwrap();
    let result = program.test_run(&mut TestRun::default()).unwrap();
    // Only the last one gets to its end. Older kernels counted calls that lead nowhere, and some of them one more or less.
    let noted = script.notes();
    assert!(matches!(noted[0], 16..=18 | 33..=35), "{noted:?}");
    assert_eq!((result.retval, noted[1]), (5, 1));
    if !super::is_narrow(world) {
        assert_eq!(noted[0], 34);
    }
}

pub(super) fn loops(world: &World<'_>) {
    if !has_helper(world, "loops", LOOP, ProgType::SOCKET_FILTER) {
        return;
    }
    let mut script = Script::new(world);
    for (count, function, flags) in [
        (0, "sum", 0),
        (5, "sum", 0),
        (100, "until", 0),
        (5, "sum", 1),
        ((1 << 23) + 1, "sum", 0),
        ((1 << 23) + 1, "sum", 4),
    ] {
        script.stack(-8, 0);
        script.call(LOOP, &[Imm(count), Func(function), Stack(-8), Imm(flags)]).note().note_stack(-8);
    }
    script.exit(0);
    script.function("sum");
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R0, Reg::R2, 0).add64_reg(Reg::R0, Reg::R1).stx(Size::DW, Reg::R2, 0, Reg::R0);
    script.exit(0);
    script.function("until");
    let asm = script.builder.asm();
    asm.stx(Size::DW, Reg::R2, 0, Reg::R1).mov64_imm(Reg::R0, 0);
    asm.jmp64_imm(Cond::Lt, Reg::R1, 7, "more").mov64_imm(Reg::R0, 1).label("more").exit();
    let mut noted = script.run();
    // A number of 32 bits where the kernel has put the loop into the program.
    assert_eq!(noted[8] as u32, E2BIG as u32);
    noted[8] = E2BIG;
    assert_eq!(noted, [0, 0, 5, 10, 8, 7, EINVAL, 0, E2BIG, 0, EINVAL, 0]);
}

pub(super) fn numbers(world: &World<'_>) {
    let names = ["bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"];
    if !has_functions(world, "numbers", &names) {
        return;
    }
    let mut script = Script::new(world);
    let lowest = (i64::from(i32::MIN), i64::from(i32::MIN) + 2);
    let ranges = [(3, 6), (-2, 0), (4, 4), (5, 4), (0, (1 << 23) + 1), lowest];
    for (run, (start, end)) in ranges.into_iter().enumerate() {
        let (next, done) = (format!("next{run}"), format!("done{run}"));
        script.kfunc("bpf_iter_num_new", &[Stack(-8), Imm(start), Imm(end)]);
        script.builder.asm().movsx64(Size::W, Reg::R0, Reg::R0);
        script.note();
        script.stack(-16, 0);
        script.builder.asm().label(&*next);
        script.kfunc("bpf_iter_num_next", &[Stack(-8)]);
        let asm = script.builder.asm();
        asm.jmp64_imm(Cond::Eq, Reg::R0, 0, &*done).ldsx_or_shift(Reg::R1, Reg::R0);
        asm.ldx(Size::DW, Reg::R2, Reg::R10, -16).mul64_imm(Reg::R2, 10).add64_reg(Reg::R2, Reg::R1);
        asm.stx(Size::DW, Reg::R10, -16, Reg::R2).ja(&*next).label(done);
        script.kfunc("bpf_iter_num_destroy", &[Stack(-8)]);
        script.note_stack(-16);
    }
    let noted = script.exit(0).run();
    let sum = lowest.0 * 11 + 1;
    assert_eq!(noted, [0, 345, 0, -21i64 as u64, 0, 0, EINVAL, 0, E2BIG, 0, 0, sum as u64]);
}

/// Instructions that need no newer instruction set.
trait Old {
    /// Loads a number of 32 bits with its sign.
    fn ldsx_or_shift(&mut self, to: Reg, from: Reg) -> &mut Self;
}

impl Old for skep::asm::Assembler {
    fn ldsx_or_shift(&mut self, to: Reg, from: Reg) -> &mut Self {
        self.ldx(Size::W, to, from, 0).lsh64_imm(to, 32).arsh64_imm(to, 32)
    }
}

pub(super) fn bits(world: &World<'_>) {
    let names = ["bpf_iter_bits_new", "bpf_iter_bits_next", "bpf_iter_bits_destroy"];
    if !has_functions(world, "bits", &names) {
        return;
    }
    let mut script = Script::new(world);
    for (run, (words, set)) in [(2, 1 << 3 | 1 << 40), (0, 1), (512, 1), (1, 0)].into_iter().enumerate() {
        let (next, done) = (format!("next{run}"), format!("done{run}"));
        script.stack(-40, set).stack(-32, 1 << 5).stack(-24, 0);
        script.kfunc("bpf_iter_bits_new", &[Stack(-16), Stack(-40), Imm(words)]);
        script.builder.asm().movsx64(Size::W, Reg::R0, Reg::R0);
        script.note();
        script.builder.asm().label(&*next);
        script.kfunc("bpf_iter_bits_next", &[Stack(-16)]);
        let asm = script.builder.asm();
        asm.jmp64_imm(Cond::Eq, Reg::R0, 0, &*done).ldx(Size::W, Reg::R1, Reg::R0, 0);
        asm.ldx(Size::DW, Reg::R2, Reg::R10, -24).mul64_imm(Reg::R2, 100).add64_reg(Reg::R2, Reg::R1);
        asm.stx(Size::DW, Reg::R10, -24, Reg::R2).ja(&*next).label(done);
        script.kfunc("bpf_iter_bits_destroy", &[Stack(-16)]);
        script.note_stack(-24);
    }
    assert_eq!(script.exit(0).run(), [0, 34_069, EINVAL, 0, E2BIG, 0, 0, 0]);
}

/// An array of `struct { u32 number; struct bpf_spin_lock lock; u64 other; }`.
pub(super) fn locked(world: &World<'_>, map_type: MapType, field: &str, size: u32, align: u32) -> Map {
    let mut btf = BtfBuilder::new();
    let int = btf.add_int("unsigned int", 4, IntEncoding(0)).unwrap();
    let special = btf.add_struct(field, size).unwrap();
    btf.add_member("val", int, 0, 0).unwrap();
    let value_size = 16 + size.next_multiple_of(8);
    let value = btf.add_struct("value", value_size).unwrap();
    btf.add_member("number", int, 0, 0).unwrap();
    btf.add_member("special", special, if align == 4 { 32 } else { 128 }, 0).unwrap();
    let loaded = world.kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(map_type, 4, value_size, 2);
    request.btf = Some(MapBtf { btf: loaded.as_fd(), key_type: int.0, value_type: value.0 });
    Map::create(world.kernel, &request).unwrap()
}

pub(super) fn locks(world: &World<'_>) {
    let array = locked(world, MapType::ARRAY, "bpf_spin_lock", 4, 4);
    array.update(&0u32.to_ne_bytes(), &[1; 24], UpdateFlags::empty()).unwrap();
    // Not one that sleeps, which older kernels keep from locks.
    let mut script = Script::of(world, ProgType::SCHED_CLS);
    script.stack(-8, 0).call(1, &[M(&array), Stack(-8)]);
    let asm = script.builder.asm();
    asm.jmp64_imm(Cond::Eq, Reg::R0, 0, "none").mov64_reg(Reg::R6, Reg::R0);
    asm.mov64_reg(Reg::R1, Reg::R6).add64_imm(Reg::R1, 4).call_helper(93);
    asm.st(Size::W, Reg::R6, 0, 5);
    asm.mov64_reg(Reg::R1, Reg::R6).add64_imm(Reg::R1, 4).call_helper(94).label("none");
    script.exit(0).run_on(&[0; 64]);
    // Nobody sees the lock.
    let value = array.lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
    assert_eq!(value[..12], [5, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
}

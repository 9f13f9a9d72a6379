use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use skep_asm::{Assembler, AtomicOp, Cond, Endian, Insn, Reg, Size};
use skep_btf::{BtfBuilder, IntEncoding, Linkage};
use skep_sys::abi::{Errno, MapType, ProgType, UpdateFlags};
use skep_sys::request::{MapCreate, ProgLoad, Records, TestRun};
use skep_sys::{Backend, Kernel, MapFd};

use crate::{Builder, FaultKind, SimKernel};

/// Loads a program, with types for its functions, which are static.
fn load(sim: &SimKernel, insns: &[Insn]) -> OwnedFd {
    let mut starts: Vec<i64> =
        (0..).zip(insns).filter_map(|(slot, insn)| insn.func_target(slot)).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = builder.add_func_proto(int).unwrap();
    let mut records = Vec::new();
    for start in starts {
        let function = builder.add_func(format!("f{start}"), Linkage::STATIC, proto).unwrap();
        records.extend([(start as u32).to_ne_bytes(), function.0.to_ne_bytes()].concat());
    }
    let btf = Kernel::new(sim.clone()).btf_load(&builder.encode(Endian::NATIVE, false), None).unwrap();
    let mut request = ProgLoad::new(ProgType::RAW_TRACEPOINT, insns, "GPL");
    request.btf = Some(btf.as_fd());
    request.func_info = Records { record_size: 8, bytes: &records };
    sim.prog_load(&request, None).unwrap()
}

fn run_with(sim: &SimKernel, insns: &[Insn], ctx: &[u8]) -> Result<u32, Errno> {
    let prog = load(sim, insns);
    let mut run = TestRun::default();
    run.ctx_in = ctx;
    sim.prog_test_run(prog.as_fd(), &mut run).map(|result| result.retval).map_err(|(errno, _)| errno)
}

fn run(sim: &SimKernel, asm: &Assembler) -> Result<u32, Errno> {
    run_with(sim, &asm.finish().unwrap(), &[])
}

/// What a program is stopped for.
fn fault(sim: &SimKernel, asm: &Assembler) -> (usize, String) {
    assert_eq!(run(sim, asm), Err(Errno::EFAULT));
    let fault = sim.last_fault().unwrap();
    (fault.index, fault.kind.to_string())
}

fn map(sim: &SimKernel, kind: MapType, key: u32, value: u32, entries: u32) -> MapFd {
    Kernel::new(sim.clone()).map_create(&MapCreate::new(kind, key, value, entries)).unwrap()
}

fn asm() -> Assembler {
    Assembler::new()
}

#[test]
fn loops_and_arithmetic() {
    let sim = SimKernel::new();
    let mut sum = asm();
    sum.mov64_imm(Reg::R0, 0)
        .mov64_imm(Reg::R1, 10)
        .label("next")
        .add64_reg(Reg::R0, Reg::R1)
        .sub64_imm(Reg::R1, 1)
        .jmp64_imm(Cond::Ne, Reg::R1, 0, "next")
        .exit();
    assert_eq!(run(&sim, &sum), Ok(55));
}

#[test]
fn the_context_is_read() {
    let sim = SimKernel::new();
    let mut asm = asm();
    asm.ldx(Size::DW, Reg::R0, Reg::R1, 8).exit();
    let insns = asm.finish().unwrap();
    let ctx: Vec<u8> = [7_u64, 9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(run_with(&sim, &insns, &ctx), Ok(9));
    // As a kernel says of a context that is shorter than what the program reads.
    assert_eq!(run_with(&sim, &insns, &ctx[..8]), Err(Errno::EINVAL));
    let fault = sim.last_fault().unwrap();
    assert_eq!(
        fault.kind.to_string(),
        "invalid read of 8 bytes at 0x8000000000000008: offset 8 of the context, which has 8 bytes"
    );
    assert_eq!(fault.instruction, "(79) r0 = *(u64 *)(r1 +8)");
    assert_eq!(fault.registers[1], 1 << 63);
}

/// What programs write through a pointer is what user space reads, and the other way round.
#[test]
fn values_are_shared_with_user_space() {
    let sim = SimKernel::new();
    for kind in [MapType::HASH, MapType::ARRAY, MapType::LRU_HASH] {
        let map = map(&sim, kind, 4, 8, 4);
        map.update(&1u32.to_ne_bytes(), &40u64.to_ne_bytes(), UpdateFlags::empty()).unwrap();
        let mut count = asm();
        count
            .st(Size::W, Reg::R10, -4, 1)
            .mov64_reg(Reg::R2, Reg::R10)
            .add64_imm(Reg::R2, -4)
            .ld_map_fd(Reg::R1, map.as_fd().as_raw_fd())
            .call_helper(1)
            .jmp64_imm(Cond::Eq, Reg::R0, 0, "out")
            .mov64_imm(Reg::R1, 2)
            .atomic(AtomicOp::Add, Size::DW, Reg::R0, 0, Reg::R1)
            .ldx(Size::W, Reg::R0, Reg::R0, 0)
            .label("out")
            .exit();
        assert_eq!(run(&sim, &count), Ok(42), "{kind}");
        let mut value = [0; 8];
        map.lookup(&1u32.to_ne_bytes(), &mut value, UpdateFlags::empty()).unwrap();
        assert_eq!(u64::from_ne_bytes(value), 42, "{kind}");
    }
}

#[test]
fn accesses_are_checked() {
    let sim = SimKernel::new();
    let mut above = asm();
    // By a number that is not known when it is loaded.
    above
        .st(Size::DW, Reg::R10, -8, 8)
        .ldx(Size::DW, Reg::R0, Reg::R10, -8)
        .mov64_reg(Reg::R1, Reg::R10)
        .add64_reg(Reg::R1, Reg::R0)
        .stx(Size::DW, Reg::R1, -8, Reg::R0)
        .exit();
    assert_eq!(
        fault(&sim, &above),
        (
            4,
            "invalid write of 8 bytes at 0x8000000100000200: offset 0 of a stack frame of 512 bytes"
                .to_owned()
        )
    );
    let mut null = asm();
    null.mov64_imm(Reg::R1, 0).ldx(Size::W, Reg::R0, Reg::R1, 16).exit();
    assert_eq!(fault(&sim, &null), (1, "invalid read of 4 bytes at 0x10: it is a null pointer".to_owned()));
    let mut code = asm();
    code.ld_func(Reg::R1, "f")
        .ldx(Size::W, Reg::R0, Reg::R1, 0)
        .exit()
        .label("f")
        .mov64_imm(Reg::R0, 0)
        .exit();
    assert_eq!(fault(&sim, &code).0, 2);
    let map = map(&sim, MapType::HASH, 4, 4, 1);
    let mut handle = asm();
    handle.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd()).ldx(Size::W, Reg::R0, Reg::R1, 0).exit();
    assert!(
        fault(&sim, &handle).1.ends_with("it is map ``, not one of its values"),
        "{}",
        fault(&sim, &handle).1
    );
}

#[test]
fn endless_loops_end() {
    let sim = Builder::default().budget(1000).build().unwrap();
    let mut endless = asm();
    endless.mov64_imm(Reg::R0, 0).label("again").jmp64_imm(Cond::Eq, Reg::R0, 0, "again").exit();
    assert_eq!(run(&sim, &endless), Err(Errno::EFAULT));
    assert_eq!(sim.last_fault().unwrap().kind, FaultKind::Budget { instructions: 1000 });
    let mut recursion = asm();
    recursion.mov64_imm(Reg::R0, 0).call("f").exit().label("f").call("f").exit();
    let insns = recursion.finish().unwrap();
    let refused = sim.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None);
    assert_eq!(refused.unwrap_err(), Errno::E2BIG);
}

/// A callee has a stack of its own and gives back what it must keep.
#[test]
fn functions_and_callbacks() {
    let sim = SimKernel::builder()
        .helper(181, |call| {
            let [count, function, ctx, ..] = call.args();
            let mut sum = 0;
            for index in 0..count {
                sum += call.call(function, [index, ctx, 0, 0, 0])?;
            }
            Ok(sum)
        })
        .build()
        .unwrap();
    let mut calls = asm();
    calls
        .mov64_imm(Reg::R6, 100)
        .st(Size::DW, Reg::R10, -8, 5)
        .mov64_imm(Reg::R1, 4)
        .ld_func(Reg::R2, "callback")
        .mov64_reg(Reg::R3, Reg::R10)
        .add64_imm(Reg::R3, -8)
        .mov64_imm(Reg::R4, 0)
        .call_helper(181)
        .add64_reg(Reg::R0, Reg::R6)
        .exit()
        .label("callback")
        .mov64_imm(Reg::R6, 1)
        .st(Size::DW, Reg::R10, -8, 9)
        .ldx(Size::DW, Reg::R0, Reg::R2, 0)
        .add64_reg(Reg::R0, Reg::R1)
        .exit();
    // Four times 5, and 0 + 1 + 2 + 3, and what the caller kept.
    assert_eq!(run(&sim, &calls), Ok(126));
}

#[test]
fn tail_calls() {
    let sim = SimKernel::new();
    let programs = map(&sim, MapType::PROG_ARRAY, 4, 4, 2);
    let jump = |index: i32, otherwise: i32| {
        let mut asm = asm();
        asm.ld_map_fd(Reg::R2, programs.as_fd().as_raw_fd())
            .mov64_imm(Reg::R3, index)
            .call_helper(12)
            .mov64_imm(Reg::R0, otherwise)
            .exit();
        asm
    };
    assert_eq!(run(&sim, &jump(0, 7)), Ok(7), "an empty slot");
    assert_eq!(run(&sim, &jump(9, 8)), Ok(8), "no slot");
    let target = load(&sim, &asm().mov64_imm(Reg::R0, 99).exit().finish().unwrap());
    programs.update_fd(&0u32.to_ne_bytes(), target.as_fd(), UpdateFlags::empty()).unwrap();
    assert_eq!(run(&sim, &jump(0, 7)), Ok(99));
    // A program that goes on with itself ends after 33 times.
    let itself = load(&sim, &jump(1, 33).finish().unwrap());
    programs.update_fd(&1u32.to_ne_bytes(), itself.as_fd(), UpdateFlags::empty()).unwrap();
    assert_eq!(run(&sim, &jump(1, 0)), Ok(33));
    // In a function, it is the function that the new program takes the place of.
    let mut inner = asm();
    inner
        .mov64_imm(Reg::R0, 0)
        .call("f")
        .add64_imm(Reg::R0, 1)
        .exit()
        .label("f")
        .ld_map_fd(Reg::R2, programs.as_fd().as_raw_fd())
        .mov64_imm(Reg::R3, 0)
        .call_helper(12)
        .mov64_imm(Reg::R0, 0)
        .exit();
    assert_eq!(run(&sim, &inner), Ok(100));
}

/// A program that another one went on with in a function may again call as many functions.
#[test]
fn tail_calls_in_functions_begin_anew() {
    let sim = SimKernel::new();
    let programs = map(&sim, MapType::PROG_ARRAY, 4, 4, 1);
    let mut deeper = asm();
    deeper
        .mov64_imm(Reg::R0, 0)
        .call("f")
        .add64_imm(Reg::R0, 1)
        .exit()
        .label("f")
        .ld_map_fd(Reg::R2, programs.as_fd().as_raw_fd())
        .mov64_imm(Reg::R3, 0)
        .call_helper(12)
        .mov64_imm(Reg::R0, 0)
        .exit();
    let itself = load(&sim, &deeper.finish().unwrap());
    programs.update_fd(&0u32.to_ne_bytes(), itself.as_fd(), UpdateFlags::empty()).unwrap();
    assert_eq!(run(&sim, &deeper), Ok(34));
}

#[test]
fn a_helper_that_is_not_simulated_says_so() {
    let sim = SimKernel::new();
    let insns = asm().call_helper(151).exit().finish().unwrap();
    let prog = sim.prog_load(&ProgLoad::new(ProgType::SCHED_CLS, &insns, "GPL"), None).unwrap();
    let mut run = TestRun::default();
    run.data_in = &[0; 64];
    assert_eq!(sim.prog_test_run(prog.as_fd(), &mut run).unwrap_err().0, Errno::EFAULT);
    let fault = sim.last_fault().unwrap();
    assert_eq!(fault.index, 0);
    let text = fault.kind.to_string();
    assert!(text.contains("skb_cgroup_classid#151"), "{text}");
}

/// A map that programs look into is a `struct bpf_map` where the kernel's types say.
#[test]
fn members_of_a_map() {
    let mut types = BtfBuilder::new();
    let int = types.add_int("unsigned int", 4, IntEncoding::NONE).unwrap();
    types.add_struct("bpf_map", 64).unwrap();
    types.add_member("max_entries", int, 32 * 8, 0).unwrap();
    types.add_member("value_size", int, 40 * 8, 0).unwrap();
    let sim = SimKernel::builder().btf(types.finish().unwrap().bytes().clone()).build().unwrap();
    let map = map(&sim, MapType::HASH, 4, 24, 7);
    let at = |offset| {
        let mut asm = asm();
        asm.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd()).ldx(Size::W, Reg::R0, Reg::R1, offset).exit();
        asm
    };
    assert_eq!(run(&sim, &at(32)), Ok(7));
    assert_eq!(run(&sim, &at(40)), Ok(24));
    // What is not known of it is zero; behind it is nothing.
    assert_eq!(run(&sim, &at(48)), Ok(0));
    assert_eq!(run(&sim, &at(64)), Err(Errno::EFAULT));
}

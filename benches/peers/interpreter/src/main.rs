//! Loops on the interpreter of the simulated kernel and on rbpf's, in turns. See `benches/peers/README.md`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use skep::asm::{Assembler, Cond, Endian, Insn, Reg, Size, encode};
use skep::sim::SimKernel;
use skep::sys::abi::ProgType;
use skep::sys::request::{ProgLoad, TestRun};
use skep::sys::{Kernel, LoadedProgram};

/// How often a loop goes round.
const TIMES: i32 = 200_000;

struct Loop {
    name: &'static str,
    /// Instructions of one round.
    each: u32,
    insns: Vec<Insn>,
}

/// Arithmetic of 64 and 32 bits.
fn arithmetic() -> Result<Loop> {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 1).mov64_imm(Reg::R1, TIMES).mov64_imm(Reg::R2, 77).label("top");
    asm.add64_reg(Reg::R0, Reg::R1)
        .xor64_reg(Reg::R0, Reg::R2)
        .mul64_imm(Reg::R2, 31)
        .add64_imm(Reg::R2, 7)
        .mov64_reg(Reg::R3, Reg::R0)
        .rsh64_imm(Reg::R3, 13)
        .xor64_reg(Reg::R0, Reg::R3)
        .add32_imm(Reg::R3, 5)
        .and64_imm(Reg::R3, 0xff)
        .or64_reg(Reg::R0, Reg::R3);
    asm.sub64_imm(Reg::R1, 1).jmp64_imm(Cond::Ne, Reg::R1, 0, "top").exit();
    Ok(Loop { name: "arithmetic", each: 12, insns: asm.finish()? })
}

/// Stores to the stack and loads from it, of all sizes.
fn stack() -> Result<Loop> {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 1).mov64_imm(Reg::R1, TIMES).label("top");
    asm.stx(Size::DW, Reg::R10, -8, Reg::R1)
        .stx(Size::W, Reg::R10, -16, Reg::R0)
        .ldx(Size::DW, Reg::R2, Reg::R10, -8)
        .ldx(Size::W, Reg::R3, Reg::R10, -16)
        .add64_reg(Reg::R0, Reg::R2)
        .stx(Size::H, Reg::R10, -18, Reg::R3)
        .ldx(Size::B, Reg::R4, Reg::R10, -18)
        .st(Size::W, Reg::R10, -24, 7)
        .add64_reg(Reg::R0, Reg::R4)
        .ldx(Size::H, Reg::R5, Reg::R10, -24);
    asm.sub64_imm(Reg::R1, 1).jmp64_imm(Cond::Ne, Reg::R1, 0, "top").exit();
    Ok(Loop { name: "stack", each: 12, insns: asm.finish()? })
}

fn skep_once(program: &LoadedProgram) -> Result<(Duration, u32)> {
    let begin = Instant::now();
    let result = program.test_run(&mut TestRun::default()).map_err(|(errno, _)| anyhow::anyhow!("{errno}"))?;
    Ok((begin.elapsed(), result.retval))
}

fn rbpf_once(vm: &rbpf::EbpfVmNoData<'_>) -> Result<(Duration, u32)> {
    let begin = Instant::now();
    let answer = vm.execute_program()?;
    Ok((begin.elapsed(), answer as u32))
}

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(40), |text| text.parse())?;
    let kernel = Kernel::new(SimKernel::builder().budget(1 << 40).build()?);
    for work in [arithmetic()?, stack()?] {
        let program = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &work.insns, "GPL"), None)?;
        let bytes = encode(&work.insns, Endian::NATIVE);
        let vm = rbpf::EbpfVmNoData::new(Some(&bytes))?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let pair = if round % 2 == 0 {
                let first = skep_once(&program)?;
                (first, rbpf_once(&vm)?)
            } else {
                let first = rbpf_once(&vm)?;
                (skep_once(&program)?, first)
            };
            let ((our, answer), (their, other)) = pair;
            ensure!(answer == other, "{}: {answer:#x} and {other:#x}", work.name);
            ours.push(our);
            theirs.push(their);
        }
        ours.sort();
        theirs.sort();
        let count = f64::from(work.each) * f64::from(TIMES);
        let rate = |time: Duration| count / time.as_secs_f64() / 1e6;
        println!(
            "{}: skep {:.0} (median {:.0}), rbpf {:.0} (median {:.0}) million instructions a second: {:.2} (median {:.2}) times",
            work.name,
            rate(ours[0]),
            rate(ours[ours.len() / 2]),
            rate(theirs[0]),
            rate(theirs[theirs.len() / 2]),
            theirs[0].as_secs_f64() / ours[0].as_secs_f64(),
            theirs[theirs.len() / 2].as_secs_f64() / ours[ours.len() / 2].as_secs_f64(),
        );
    }
    Ok(())
}

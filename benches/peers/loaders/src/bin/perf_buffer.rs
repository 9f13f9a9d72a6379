//! Reading perf buffers: a program fills a ring with records of 64 bytes, and skep and libbpf read one each, in turns.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use anyhow::{Context, ensure};
use loaders::heap::{self, Counting};
use loaders::numbers::{Series, ratio};
use skep::Kernel;
use skep::asm::{Assembler, Cond, Reg, Size};
use skep::map::Map;
use skep::perf::{PerfBuffer, PerfBufferOptions, PerfRecord};
use skep::sys::LoadedProgram;
use skep::sys::abi::{MapType, ProgType, TestRunFlags};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};

#[global_allocator]
static HEAP: Counting = Counting;

const ROUNDS: usize = 2000;
const PAGES: u32 = 64;
/// Records that a program writes: of 80 bytes each with header, length and padding, they fill the ring but for a part.
const RECORDS: i32 = 3000;

#[derive(Default)]
struct Seen {
    count: u64,
    sum: u64,
    lost: u64,
}

impl Seen {
    fn add(&mut self, data: &[u8]) {
        self.count += 1;
        self.sum += data.first_chunk().map_or(0, |first| u64::from_ne_bytes(*first));
    }
}

fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let kernel = Kernel::linux();
    let (our_map, their_map) = (map(&kernel)?, map(&kernel)?);
    let (our_program, their_program) = (program(&kernel, &our_map)?, program(&kernel, &their_map)?);

    let mut buffer = PerfBuffer::new(&our_map, PerfBufferOptions::new().pages(PAGES))?;
    let mut theirs = Box::new(Seen::default());
    // SAFETY: the descriptor is open, the callbacks take what libbpf gives them, and `theirs` outlives the buffer.
    let peer = unsafe {
        libbpf_sys::perf_buffer__new(
            their_map.as_fd().as_raw_fd(),
            PAGES as _,
            Some(sample),
            Some(lost),
            (&raw mut *theirs).cast(),
            std::ptr::null(),
        )
    };
    ensure!(!peer.is_null(), "libbpf: {}", std::io::Error::last_os_error());

    let mut ours = Seen::default();
    let (mut skep, mut libbpf) = (Series::default(), Series::default());
    let mut bytes = 0;
    for round in 0..rounds {
        for turn in [round % 2, 1 - round % 2] {
            if turn == 0 {
                fill(&our_program)?;
                let start = Instant::now();
                let (result, peak) = heap::peak(|| {
                    buffer.consume(|record| match record {
                        PerfRecord::Sample(sample) => ours.add(sample.data),
                        PerfRecord::Lost { count, .. } => ours.lost += count,
                        _ => {}
                    })
                });
                skep.push(start.elapsed().as_nanos() as u64);
                ensure!(result? == RECORDS as usize, "skep did not get all of them");
                if round > 0 {
                    bytes = bytes.max(peak);
                }
            } else {
                fill(&their_program)?;
                let start = Instant::now();
                // SAFETY: `peer` came from libbpf and was not freed.
                let result = unsafe { libbpf_sys::perf_buffer__consume(peer) };
                libbpf.push(start.elapsed().as_nanos() as u64);
                ensure!(result >= 0, "libbpf: {result}");
            }
        }
    }
    // SAFETY: it came from libbpf and is not used again.
    unsafe { libbpf_sys::perf_buffer__free(peer) };
    let expected = rounds as u64 * RECORDS as u64;
    ensure!((ours.count, theirs.count) == (expected, expected), "{} and {}", ours.count, theirs.count);
    ensure!(ours.sum == theirs.sum && ours.lost == 0 && theirs.lost == 0, "they saw different things");

    println!("{rounds} rounds of {RECORDS} records of 64 bytes; nanoseconds per round");
    println!("{:<8} {:>10} {:>10} {:>7}", "", "skep", "libbpf", "ratio");
    for (name, ours, theirs) in
        [("min", skep.min(), libbpf.min()), ("median", skep.median(), libbpf.median())]
    {
        println!("{name:<8} {ours:>10} {theirs:>10} {:>7}", ratio(ours, theirs));
    }
    println!("heap     {bytes:>10} bytes at most while reading, after the first round");
    Ok(())
}

unsafe extern "C" fn sample(context: *mut c_void, _: i32, data: *mut c_void, size: u32) {
    // SAFETY: libbpf gives the context that it was given, and a record of that size.
    unsafe { (*context.cast::<Seen>()).add(std::slice::from_raw_parts(data.cast(), size as usize)) };
}

unsafe extern "C" fn lost(context: *mut c_void, _: i32, count: u64) {
    // SAFETY: libbpf gives the context that it was given.
    unsafe { (*context.cast::<Seen>()).lost += count };
}

fn map(kernel: &Kernel) -> anyhow::Result<Map> {
    let cpus = kernel.possible_cpus()?;
    Ok(Map::create(kernel, &MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, cpus))?)
}

/// A program that writes all records, each with its number first.
fn program(kernel: &Kernel, events: &Map) -> anyhow::Result<LoadedProgram> {
    const PERF_EVENT_OUTPUT: i32 = 25;

    let mut code = Assembler::new();
    code.mov64_reg(Reg::R6, Reg::R1).mov64_imm(Reg::R7, 0);
    for slot in 1..=8 {
        code.st(Size::DW, Reg::R10, slot * -8, 0);
    }
    let insns = code
        .label("next")
        .stx(Size::DW, Reg::R10, -64, Reg::R7)
        .mov64_reg(Reg::R1, Reg::R6)
        .ld_map_fd(Reg::R2, events.as_fd().as_raw_fd())
        .mov32_imm(Reg::R3, -1)
        .mov64_reg(Reg::R4, Reg::R10)
        .add64_imm(Reg::R4, -64)
        .mov64_imm(Reg::R5, 64)
        .call_helper(PERF_EVENT_OUTPUT)
        .add64_imm(Reg::R7, 1)
        .jmp64_imm(Cond::Lt, Reg::R7, RECORDS, "next")
        .mov64_imm(Reg::R0, 0)
        .exit()
        .finish()?;
    kernel
        .prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)
        .context("load the program that writes")
}

fn fill(program: &LoadedProgram) -> anyhow::Result<()> {
    let mut run = TestRun::default();
    (run.cpu, run.flags) = (0, TestRunFlags::RUN_ON_CPU);
    program.test_run(&mut run).map_err(|(errno, _)| errno).context("run the program that writes")?;
    Ok(())
}

//! Reading ring buffers: a program writes records of 64 bytes, and skep and libbpf read one ring each, in turns.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use anyhow::{Context, ensure};
use loaders::heap::{self, Counting};
use loaders::numbers::{Series, ratio};
use skep::Kernel;
use skep::asm::{Assembler, Cond, Reg, Size};
use skep::map::Map;
use skep::ring::RingBuffer;
use skep::sys::LoadedProgram;
use skep::sys::abi::{MapType, ProgType};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};

#[global_allocator]
static HEAP: Counting = Counting;

const ROUNDS: usize = 2000;
const SIZE: u32 = 256 << 10;
/// Records that a program writes: of 72 bytes each with their header, they fill the ring but for a part.
const RECORDS: i32 = 3600;

#[derive(Default)]
struct Seen {
    count: u64,
    sum: u64,
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
    let map = || Map::create(&kernel, &MapCreate::new(MapType::RINGBUF, 0, 0, SIZE));
    let maps = [map()?, map()?, map()?];
    let [all_program, each_program, their_program] =
        [program(&kernel, &maps[0])?, program(&kernel, &maps[1])?, program(&kernel, &maps[2])?];

    let (mut all_ring, mut each_ring): (RingBuffer, RingBuffer) = (maps[0].typed()?, maps[1].typed()?);
    let mut theirs = Box::new(Seen::default());
    // SAFETY: the descriptor is open, the callback takes what libbpf gives it, and `theirs` outlives the ring.
    let peer = unsafe {
        libbpf_sys::ring_buffer__new(
            maps[2].as_map_fd().as_fd().as_raw_fd(),
            Some(sample),
            (&raw mut *theirs).cast(),
            std::ptr::null(),
        )
    };
    ensure!(!peer.is_null(), "libbpf: {}", std::io::Error::last_os_error());

    let (mut all, mut each) = (Seen::default(), Seen::default());
    let (mut for_each, mut next, mut libbpf) = (Series::default(), Series::default(), Series::default());
    let mut bytes = 0;
    for round in 0..rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    fill(&all_program)?;
                    let start = Instant::now();
                    let (result, peak) = heap::peak(|| all_ring.for_each(|record| all.add(record)));
                    for_each.push(start.elapsed().as_nanos() as u64);
                    ensure!(result? == RECORDS as usize, "skep did not get all of them");
                    bytes = bytes.max(peak);
                }
                1 => {
                    fill(&each_program)?;
                    let start = Instant::now();
                    let (result, peak) = heap::peak(|| -> anyhow::Result<()> {
                        while let Some(record) = each_ring.next()? {
                            each.add(&record);
                        }
                        Ok(())
                    });
                    next.push(start.elapsed().as_nanos() as u64);
                    result?;
                    bytes = bytes.max(peak);
                }
                _ => {
                    fill(&their_program)?;
                    let start = Instant::now();
                    // SAFETY: `peer` came from libbpf and was not freed.
                    let result = unsafe { libbpf_sys::ring_buffer__consume(peer) };
                    libbpf.push(start.elapsed().as_nanos() as u64);
                    ensure!(result == RECORDS, "libbpf: {result}");
                }
            }
        }
    }
    // SAFETY: it came from libbpf and is not used again.
    unsafe { libbpf_sys::ring_buffer__free(peer) };
    let expected = rounds as u64 * RECORDS as u64;
    for seen in [&all, &each, &*theirs] {
        ensure!(seen.count == expected && seen.sum == theirs.sum, "they saw different things");
    }
    check_lent(&mut all_ring, &all_program)?;

    println!("{rounds} rounds of {RECORDS} records of 64 bytes; nanoseconds per round");
    println!("{:<16} {:>10} {:>10} {:>7}", "", "min", "median", "ratio of both to libbpf");
    for (name, series) in [("skep, for_each", &for_each), ("skep, next", &next), ("libbpf", &libbpf)] {
        let (min, median) = (series.min(), series.median());
        let (of_min, of_median) = (ratio(min, libbpf.min()), ratio(median, libbpf.median()));
        println!("{name:<16} {min:>10} {median:>10} {of_min:>7} {of_median:>7}");
    }
    println!("heap             {bytes:>10} bytes at most while skep reads");
    Ok(())
}

/// Records that are lent lie one behind the other, as in the ring; copies would all lie in one place.
fn check_lent(ring: &mut RingBuffer, program: &LoadedProgram) -> anyhow::Result<()> {
    fill(program)?;
    let mut places = Vec::new();
    ring.for_each(|record| places.push(record.as_ptr().addr()))?;
    let apart = places.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) == 72).count();
    ensure!(apart + 2 >= places.len(), "records are copied");
    Ok(())
}

unsafe extern "C" fn sample(context: *mut c_void, data: *mut c_void, size: u64) -> c_int {
    // SAFETY: libbpf gives the context that it was given, and a record of that size.
    unsafe { (*context.cast::<Seen>()).add(std::slice::from_raw_parts(data.cast(), size as usize)) };
    0
}

/// A program that writes all records, each with its number first. It wakes nobody.
fn program(kernel: &Kernel, ring: &Map) -> anyhow::Result<LoadedProgram> {
    const RINGBUF_OUTPUT: i32 = 130;
    const NO_WAKEUP: i32 = 1;

    let mut code = Assembler::new();
    code.mov64_imm(Reg::R7, 0);
    for slot in 1..=8 {
        code.st(Size::DW, Reg::R10, slot * -8, 0);
    }
    let insns = code
        .label("next")
        .stx(Size::DW, Reg::R10, -64, Reg::R7)
        .ld_map_fd(Reg::R1, ring.as_map_fd().as_fd().as_raw_fd())
        .mov64_reg(Reg::R2, Reg::R10)
        .add64_imm(Reg::R2, -64)
        .mov64_imm(Reg::R3, 64)
        .mov64_imm(Reg::R4, NO_WAKEUP)
        .call_helper(RINGBUF_OUTPUT)
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
    program
        .test_run(&mut TestRun::default())
        .map_err(|(errno, _)| errno)
        .context("run the program that writes")?;
    Ok(())
}

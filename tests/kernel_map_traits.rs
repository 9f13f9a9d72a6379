//! Maps behind their traits on the running kernel. Needs root, or the capabilities for BPF.
//!
//! A test that cannot run prints `skip: NAME: REASON`, and fails instead when `SKEP_REQUIRE_KERNEL=1`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod support;
mod trait_conformance;

use std::os::fd::{AsFd, AsRawFd};

use skep::asm::{Assembler, Reg};
use skep::map::Map;
use skep::perf::{PerfBuffer, PerfBufferOptions};
use skep::ring::RingBuffer;
use skep::sys::abi::{Errno, MapType, ProgType};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};
use skep::sys::{Kernel, LoadedProgram};
use trait_conformance::KernelMaps;

fn maps(name: &str) -> Option<KernelMaps> {
    support::linux(name).map(KernelMaps)
}

trait_conformance::tests! { maps }
trait_conformance::tests! { objects of maps }

/// A program that has the first eight bytes of its packet at the end of its stack, and its context in `r6`, for
/// `output` to send.
fn sender(kernel: &Kernel, output: impl FnOnce(&mut Assembler)) -> LoadedProgram {
    const SKB_LOAD_BYTES: i32 = 26;

    let mut code = Assembler::new();
    code.mov64_reg(Reg::R6, Reg::R1)
        .mov64_imm(Reg::R2, 0)
        .mov64_reg(Reg::R3, Reg::R10)
        .add64_imm(Reg::R3, -8)
        .mov64_imm(Reg::R4, 8)
        .call_helper(SKB_LOAD_BYTES);
    output(&mut code);
    code.exit();
    let code = code.finish().unwrap();
    kernel.prog_load(&ProgLoad::new(ProgType::SCHED_CLS, &code, "GPL"), None).unwrap()
}

/// Has the program send an event.
fn send(program: &LoadedProgram, event: u64) {
    let mut packet = [0; 64];
    packet[..8].copy_from_slice(&event.to_ne_bytes());
    let mut run = TestRun::default();
    run.data_in = &packet;
    assert_eq!(program.test_run(&mut run).unwrap().retval, 0);
}

#[test]
fn ring_events() {
    const RINGBUF_OUTPUT: i32 = 130;

    let Some(KernelMaps(kernel)) = maps("ring_events") else { return };
    let mut request = MapCreate::new(MapType::RINGBUF, 0, 0, 4096);
    request.name = "under_test";
    let map = match Map::create(&kernel, &request) {
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            return println!("skip: ring_events: this kernel has no ring buffers (Linux 5.8)");
        }
        map => map.unwrap(),
    };
    let program = sender(&kernel, |code| {
        code.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd())
            .mov64_reg(Reg::R2, Reg::R10)
            .add64_imm(Reg::R2, -8)
            .mov64_imm(Reg::R3, 8)
            .mov64_imm(Reg::R4, 0)
            .call_helper(RINGBUF_OUTPUT);
    });
    let ring: RingBuffer = map.typed().unwrap();
    trait_conformance::sources::source(ring, |event| send(&program, event));
}

#[test]
fn perf_events() {
    const PERF_EVENT_OUTPUT: i32 = 25;
    const CURRENT_CPU: u64 = 0xffff_ffff;

    let Some(KernelMaps(kernel)) = maps("perf_events") else { return };
    let mut request = MapCreate::new(MapType::PERF_EVENT_ARRAY, 4, 4, kernel.possible_cpus().unwrap());
    request.name = "under_test";
    let map = Map::create(&kernel, &request).unwrap();
    let buffer = PerfBuffer::new(&map, PerfBufferOptions::new().pages(1).ordered()).unwrap();
    let program = sender(&kernel, |code| {
        code.mov64_reg(Reg::R1, Reg::R6)
            .ld_map_fd(Reg::R2, map.as_fd().as_raw_fd())
            .ld_imm64(Reg::R3, CURRENT_CPU)
            .mov64_reg(Reg::R4, Reg::R10)
            .add64_imm(Reg::R4, -8)
            .mov64_imm(Reg::R5, 8)
            .call_helper(PERF_EVENT_OUTPUT);
    });
    trait_conformance::sources::source(buffer, |event| send(&program, event));
}

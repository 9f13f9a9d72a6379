//! What hashes that drop what was not used promise, on every CPU and with every capacity: nothing fails for want of room,
//! there are never more elements than the capacity, and what was just written is there.

use std::os::fd::{AsFd, AsRawFd};

use skep::asm::{Assembler, Reg, Size};
use skep::map::Map;
use skep::sys::Kernel;
use skep::sys::abi::{MapFlags, MapType, ProgType, TestRunFlags};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};

use super::ANY;
use crate::support::skip;

const UPDATE: i32 = 2;
const WRITES: u64 = 130;

pub(super) fn promises(kernel: &Kernel) {
    let cpus = kernel.possible_cpus().unwrap();
    for map_type in [MapType::LRU_HASH, MapType::LRU_PERCPU_HASH] {
        for flags in [MapFlags::empty(), MapFlags::NO_COMMON_LRU] {
            for wanted in [1, 2, 3, 5, 64, 100] {
                let mut request = MapCreate::new(map_type, 4, 8, wanted);
                request.flags = flags;
                let map = Map::create(kernel, &request).unwrap();
                let entries = map.info().unwrap().max_entries;
                // Each CPU has as many of its own as the others, and at least one.
                let apart = flags == MapFlags::NO_COMMON_LRU;
                assert_eq!(entries, if apart { wanted.next_multiple_of(cpus) } else { wanted });
                let what = format!("{map_type} of {wanted} with {flags:?} on {cpus} CPUs");
                if !write(kernel, &map, &what) {
                    return;
                }
                let count = || {
                    let keys = map.keys().collect::<Result<Vec<_>, _>>().unwrap().len();
                    assert!(keys <= entries as usize, "{keys} in {what}");
                };
                count();
                for key in 0..WRITES as u32 {
                    let key = (key + 1000).to_ne_bytes();
                    map.update(&key, &vec![1; map.value_len()], ANY).unwrap();
                    assert!(map.lookup(&key).unwrap().is_some(), "{what}");
                }
                count();
            }
        }
    }
}

/// Writes elements on one CPU after the other. Whether the kernel runs such a program.
fn write(kernel: &Kernel, map: &Map, what: &str) -> bool {
    let mut asm = Assembler::new();
    asm.ldx(Size::DW, Reg::R6, Reg::R1, 0)
        .stx(Size::W, Reg::R10, -4, Reg::R6)
        .stx(Size::DW, Reg::R10, -16, Reg::R6)
        .ld_map_fd(Reg::R1, map.as_fd().as_raw_fd())
        .mov64_reg(Reg::R2, Reg::R10)
        .add64_imm(Reg::R2, -4)
        .mov64_reg(Reg::R3, Reg::R10)
        .add64_imm(Reg::R3, -16)
        .mov64_imm(Reg::R4, 0)
        .call_helper(UPDATE)
        .exit();
    let insns = asm.finish().unwrap();
    let program = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None).unwrap();
    let online = kernel.online_cpus().unwrap();
    for key in 0..WRITES {
        let context = key.to_ne_bytes();
        let mut run = TestRun::default();
        run.ctx_in = &context;
        run.flags = TestRunFlags::RUN_ON_CPU;
        run.cpu = online[key as usize * 7 % online.len()];
        match program.test_run(&mut run) {
            Ok(answer) => assert_eq!(answer.retval.cast_signed(), 0, "write {key} of {what}"),
            Err((errno, _)) => {
                skip("lru_promises", format_args!("this kernel runs no such program: {errno}"));
                return false;
            }
        }
        assert!(map.lookup(&(key as u32).to_ne_bytes()).unwrap().is_some(), "write {key} of {what}");
    }
    true
}

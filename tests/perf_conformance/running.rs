//! The running kernel, and a program that writes records.

use std::os::fd::{AsFd, AsRawFd};

use skep::asm::{Assembler, Cond, Reg, Size};
use skep::map::Map;
use skep::sys::abi::{Errno, MapType, ProgType, TestRunFlags, UpdateFlags};
use skep::sys::request::{MapCreate, ProgLoad, TestRun};
use skep::sys::{Kernel, LoadedProgram};

use super::{Producer, World};

/// CPUs are taken offline only where nobody minds.
const HOTPLUG: &str = "SKEP_TEST_HOTPLUG";
/// Sizes of the places for data: copying the large one takes long.
const SMALL: u32 = 64;
const LARGE: u32 = 1 << 16;

pub(crate) struct Running(Kernel);

struct Writer {
    small: Source,
    large: Source,
}

/// A program that writes what it is told to, and a place for its data for each CPU.
struct Source {
    program: LoadedProgram,
    data: Map,
}

impl World for Running {
    fn kernel(&self) -> &Kernel {
        &self.0
    }

    fn producer(&self, map: &Map) -> Box<dyn Producer> {
        let source = |size| {
            let cpus = self.0.possible_cpus().unwrap();
            let data = Map::create(&self.0, &MapCreate::new(MapType::ARRAY, 4, size, cpus)).unwrap();
            Source { program: program(&self.0, map, &data), data }
        };
        Box::new(Writer { small: source(SMALL), large: source(LARGE) })
    }

    fn set_online(&self, cpu: u32, online: bool) -> Result<(), String> {
        if std::env::var_os(HOTPLUG).is_none_or(|value| value != "1") {
            return Err(format!("{HOTPLUG} is not 1"));
        }
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
        std::fs::write(&path, if online { "1" } else { "0" }).map_err(|error| format!("{path}: {error}"))
    }
}

/// A raw tracepoint that is run by hand: its arguments are the length of the data, the index in the map with the data,
/// and the flags of `bpf_perf_event_output`.
fn program(kernel: &Kernel, events: &Map, data: &Map) -> LoadedProgram {
    const MAP_LOOKUP: i32 = 1;
    const PERF_EVENT_OUTPUT: i32 = 25;

    let insns = Assembler::new()
        .mov64_reg(Reg::R6, Reg::R1)
        .ldx(Size::DW, Reg::R7, Reg::R6, 0)
        .ldx(Size::DW, Reg::R2, Reg::R6, 8)
        .ldx(Size::DW, Reg::R8, Reg::R6, 16)
        .stx(Size::W, Reg::R10, -4, Reg::R2)
        .mov64_reg(Reg::R2, Reg::R10)
        .add64_imm(Reg::R2, -4)
        .ld_map_fd(Reg::R1, data.as_fd().as_raw_fd())
        .call_helper(MAP_LOOKUP)
        .jmp64_imm(Cond::Eq, Reg::R0, 0, "no")
        .jmp64_imm(Cond::Gt, Reg::R7, data.value_len() as i32, "no")
        .mov64_reg(Reg::R1, Reg::R6)
        .ld_map_fd(Reg::R2, events.as_fd().as_raw_fd())
        .mov64_reg(Reg::R3, Reg::R8)
        .mov64_reg(Reg::R4, Reg::R0)
        .mov64_reg(Reg::R5, Reg::R7)
        .call_helper(PERF_EVENT_OUTPUT)
        .exit()
        .label("no")
        .mov64_imm(Reg::R0, 1)
        .exit()
        .finish()
        .unwrap();
    kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None).unwrap()
}

impl Producer for Writer {
    fn write_to(&self, index: Option<u32>, cpu: u32, data: &[u8]) -> Result<(), Errno> {
        const CURRENT_CPU: u64 = 0xffff_ffff;

        let source = if data.len() <= SMALL as usize { &self.small } else { &self.large };
        let mut value = vec![0; source.data.value_len()];
        value[..data.len()].copy_from_slice(data);
        source.data.update(&cpu.to_ne_bytes(), &value, UpdateFlags::empty()).unwrap();

        let flags = index.map_or(CURRENT_CPU, u64::from);
        let context = [data.len() as u64, cpu.into(), flags].map(u64::to_ne_bytes).concat();
        let mut run = TestRun::default();
        run.ctx_in = &context;
        (run.cpu, run.flags) = (cpu, TestRunFlags::RUN_ON_CPU);
        match source.program.test_run(&mut run).unwrap().retval.cast_signed() {
            0 => Ok(()),
            answer => Err(Errno(-answer)),
        }
    }
}

/// The running kernel, if this process may use it.
pub(crate) fn world(name: &str) -> Option<Running> {
    crate::support::linux(name).map(Running)
}

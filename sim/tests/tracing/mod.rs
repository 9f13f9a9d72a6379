//! What helpers of tracing answer and leave behind: one program for each case, run as a raw tracepoint.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Reg, Size};
use skep_sys::abi::{Errno, MapType, ProgType, UpdateFlags};
use skep_sys::request::{MapCreate, ProgLoad, TestRun};
use skep_sys::{Kernel, MapFd};

/// Length of the buffer that helpers write to.
const BUFFER: usize = 24;
const BUFFER_AT: i16 = -24;

/// An argument of a helper.
#[derive(Clone, Copy)]
enum Arg {
    Number(u64),
    /// The buffer, of 24 bytes that are 0x11 each.
    Buffer,
    /// `"abc"` with its NUL, on the stack behind the buffer.
    Text,
    /// Map number so-and-so of the case.
    Map,
    /// The current task.
    Task,
}

use Arg::{Buffer, Map, Number, Task, Text};

struct Case {
    name: &'static str,
    helper: i32,
    map: Option<MapType>,
    args: &'static [Arg],
    /// The result, and how the buffer begins and that all behind it is as it was.
    expected: (i64, &'static [u8]),
}

const fn case(name: &'static str, helper: i32, args: &'static [Arg], expected: (i64, &'static [u8])) -> Case {
    Case { name, helper, map: None, args, expected }
}

const fn with_map(
    name: &'static str,
    helper: i32,
    map: MapType,
    args: &'static [Arg],
    expected: i64,
) -> Case {
    Case { name, helper, map: Some(map), args, expected: (expected, &[]) }
}

/// An address that no process has.
const HIGH: u64 = 0x7fff_ffff_0000;
const ZERO: &[u8] = &[0; 8];
const CONTEXT: Arg = Number(0);
const EINVAL: i64 = -22;
const EFAULT: i64 = -14;
const ERANGE: i64 = -34;

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("probe_read of a user", 4, &[Buffer, Number(8), Number(0x10)], (EFAULT, ZERO)),
    case("probe_read_str of a user", 45, &[Buffer, Number(8), Number(0x10)], (EFAULT, ZERO)),
    case("probe_read_user of null", 112, &[Buffer, Number(8), Number(0)], (EFAULT, ZERO)),
    case("probe_read_user of the kernel", 112, &[Buffer, Number(8), Text], (EFAULT, ZERO)),
    case("probe_read_user of nothing", 112, &[Buffer, Number(8), Number(HIGH)], (EFAULT, ZERO)),
    case("probe_read_kernel of null", 113, &[Buffer, Number(8), Number(0)], (ERANGE, ZERO)),
    case("probe_read_kernel of a user", 113, &[Buffer, Number(8), Number(HIGH)], (ERANGE, ZERO)),
    case("probe_read_kernel of no address", 113, &[Buffer, Number(8), Number(1 << 62)], (ERANGE, ZERO)),
    case("probe_read_kernel", 113, &[Buffer, Number(4), Text], (0, b"abc\0")),
    case("probe_read_kernel of one byte", 113, &[Buffer, Number(1), Text], (0, b"a")),
    case("probe_read_user_str of null", 114, &[Buffer, Number(8), Number(0)], (EFAULT, ZERO)),
    case("probe_read_kernel_str", 115, &[Buffer, Number(8), Text], (4, b"abc\0")),
    case("probe_read_kernel_str of its length", 115, &[Buffer, Number(4), Text], (4, b"abc\0")),
    case("probe_read_kernel_str that is cut", 115, &[Buffer, Number(3), Text], (3, b"ab\0")),
    case("probe_read_kernel_str of one byte", 115, &[Buffer, Number(1), Text], (1, b"\0")),
    case("probe_read_kernel_str of null", 115, &[Buffer, Number(8), Number(0)], (ERANGE, ZERO)),
    case("probe_read_str of the kernel", 45, &[Buffer, Number(8), Text], (4, b"abc\0")),
    case("get_current_comm of one byte", 16, &[Buffer, Number(1)], (0, b"\0")),
    case("get_ns_current_pid_tgid of no namespace", 120, &[Number(0), Number(0), Buffer, Number(8)], (EINVAL, ZERO)),
    case("get_current_ancestor_cgroup_id", 123, &[Number(1000)], (0, &[])),
    case("get_stack with flags", 67, &[CONTEXT, Buffer, Number(8), Number(1 << 12)], (EINVAL, ZERO)),
    case("get_stack with build ids of the kernel", 67, &[CONTEXT, Buffer, Number(8), Number(1 << 11)], (EINVAL, ZERO)),
    case("get_stack of half an address", 67, &[CONTEXT, Buffer, Number(4), Number(0)], (EINVAL, &[0; 4])),
    case("get_stack of half a build id", 67, &[CONTEXT, Buffer, Number(8), Number(3 << 8 | 3 << 11)], (EINVAL, ZERO)),
    case("get_task_stack with flags", 141, &[Task, Buffer, Number(8), Number(1 << 12)], (EINVAL, ZERO)),
    case("get_branch_snapshot with flags", 176, &[Buffer, Number(24), Number(1)], (EINVAL, &[])),
    case("send_signal that is none", 109, &[Number(65)], (EINVAL, &[])),
    case("send_signal_thread that is none", 117, &[Number(65)], (EINVAL, &[])),
    with_map("get_stackid with flags", 27, MapType::STACK_TRACE, &[CONTEXT, Map, Number(1 << 12)], EINVAL),
    with_map("get_stackid that skips all", 27, MapType::STACK_TRACE, &[CONTEXT, Map, Number(255)], EFAULT),
    with_map("current_task_under_cgroup of no slot", 37, MapType::CGROUP_ARRAY, &[Map, Number(9)], -7),
    with_map("current_task_under_cgroup of no cgroup", 37, MapType::CGROUP_ARRAY, &[Map, Number(0)], -11),
];

/// Runs every case. Answers what differs, and the names of those that the kernel does not load.
pub(crate) fn check(kernel: &Kernel) -> Result<(Vec<String>, Vec<&'static str>), Errno> {
    let mut lacking = Vec::new();
    let mut differs = Vec::new();
    for case in CASES {
        let answer = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8 + BUFFER as u32, 1))?;
        match run(kernel, case, &answer) {
            Err(_) => lacking.push(case.name),
            Ok(found) => {
                let mut buffer = [0x11; BUFFER];
                buffer[..case.expected.1.len()].copy_from_slice(case.expected.1);
                if found != (case.expected.0, buffer) {
                    differs.push(format!(
                        "{}: {found:x?} and not {:x?}\n",
                        case.name,
                        (case.expected.0, buffer)
                    ));
                }
            }
        }
    }
    Ok((differs, lacking))
}

/// What the helper of a case answers and leaves in the buffer.
fn run(kernel: &Kernel, case: &Case, answer: &MapFd) -> Result<(i64, [u8; BUFFER]), Errno> {
    let map = match case.map {
        Some(MapType::STACK_TRACE) => {
            Some(kernel.map_create(&MapCreate::new(MapType::STACK_TRACE, 4, 80, 4))?)
        }
        Some(kind) => Some(kernel.map_create(&MapCreate::new(kind, 4, 4, 4))?),
        None => None,
    };
    let mut asm = Assembler::new();
    asm.mov64_reg(Reg::R6, Reg::R1);
    if case.args.iter().any(|arg| matches!(arg, Task)) {
        asm.call_helper(158).mov64_reg(Reg::R7, Reg::R0);
    }
    asm.ld_imm64(Reg::R1, 0x1111_1111_1111_1111);
    for at in [-24, -16, -8] {
        asm.stx(Size::DW, Reg::R10, at, Reg::R1);
    }
    asm.ld_imm64(Reg::R1, u64::from(u32::from_ne_bytes(*b"abc\0"))).stx(Size::DW, Reg::R10, -32, Reg::R1);
    for (reg, arg) in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5].into_iter().zip(case.args) {
        match *arg {
            // The context is the first argument of helpers that take a null pointer for it.
            Number(0) if reg == Reg::R1 && matches!(case.helper, 27 | 67) => _ = asm.mov64_reg(reg, Reg::R6),
            Number(number) => _ = asm.ld_imm64(reg, number),
            Buffer => _ = asm.mov64_reg(reg, Reg::R10).add64_imm(reg, BUFFER_AT.into()),
            Text => _ = asm.mov64_reg(reg, Reg::R10).add64_imm(reg, -32),
            Task => _ = asm.mov64_reg(reg, Reg::R7),
            Map => _ = asm.ld_map_fd(reg, map.as_ref().map_or(-1, |map| map.as_fd().as_raw_fd())),
        }
    }
    asm.call_helper(case.helper).ld_map_value(Reg::R1, answer.as_fd().as_raw_fd(), 0);
    asm.stx(Size::DW, Reg::R1, 0, Reg::R0);
    for (from, to) in [(-24, 8), (-16, 16), (-8, 24)] {
        asm.ldx(Size::DW, Reg::R2, Reg::R10, from).stx(Size::DW, Reg::R1, to, Reg::R2);
    }
    asm.mov64_imm(Reg::R0, 0).exit();
    let insns = asm.finish().expect("it has no labels");
    let prog = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)?;
    prog.test_run(&mut TestRun::default()).map_err(|(errno, _)| errno)?;
    let mut value = [0; 8 + BUFFER];
    answer.lookup(&0u32.to_ne_bytes(), &mut value, UpdateFlags::empty()).expect("the array has an element");
    let (result, buffer) = value.split_first_chunk().expect("8 bytes and the buffer");
    Ok((i64::from_ne_bytes(*result), buffer.try_into().expect("the rest is the buffer")))
}

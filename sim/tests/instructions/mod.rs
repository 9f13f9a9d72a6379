//! Every instruction with operands at the edges of what they can be. What is expected is written down here as RFC 9669 has it,
//! apart from how the simulated kernel computes it; the running kernel is asked the same.

mod cases;

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Insn, Reg, opcode as op, pseudo};
use skep_sys::Kernel;
use skep_sys::abi::{MapType, ProgType, UpdateFlags};
use skep_sys::request::{LogBuffer, MapCreate, ProgLoad, TestRun};

use crate::fuzzed;

/// What of the instruction set a case needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Needs {
    V1,
    V2,
    V3,
    V4,
    /// Loads and stores with an order.
    Ordered,
}

/// Instructions that leave a result in `r0`, given `x` in `r6` and `y` in `r7`. They may use the 16 bytes at `r8` and the
/// stack down to `r10 - 64`.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) needs: Needs,
    pub(crate) code: Vec<Insn>,
    pub(crate) expected: Box<dyn Fn(u64, u64) -> u64>,
}

pub(crate) fn i(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn::new(opcode, Reg::new(dst).unwrap(), Reg::new(src).unwrap(), off, imm)
}

const OPERANDS: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x0123_4567_89ab_cdef,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_ff80,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];
/// Cases of one program, and bytes after their results that they may use.
const CASES: usize = 64;
const SCRATCH: usize = 16;

/// Checks all cases. Answers how many there were, and those that the kernel lacks the instructions for.
pub(crate) fn check(kernel: &Kernel) -> (usize, Vec<String>) {
    let has = |needs| match needs {
        Needs::V1 => true,
        Needs::V2 => fuzzed::loads(kernel, fuzzed::V2),
        Needs::V3 => fuzzed::loads(kernel, fuzzed::V3),
        Needs::V4 => fuzzed::loads(kernel, fuzzed::V4),
        Needs::Ordered => fuzzed::loads(kernel, fuzzed::ORDERED),
    };
    let all = [Needs::V1, Needs::V2, Needs::V3, Needs::V4, Needs::Ordered];
    let known: Vec<Needs> = all.into_iter().filter(|needs| has(*needs)).collect();
    let (cases, lacking): (Vec<Case>, Vec<Case>) =
        cases::all().into_iter().partition(|case| known.contains(&case.needs));
    for cases in cases.chunks(CASES) {
        check_some(kernel, cases);
    }
    (cases.len(), lacking.into_iter().map(|case| case.name).collect())
}

fn check_some(kernel: &Kernel, cases: &[Case]) {
    let size = CASES * 8 + SCRATCH;
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, size as u32, 1)).unwrap();
    let fd = map.as_fd().as_raw_fd();
    let scratch = (CASES * 8) as i32;
    let mut insns =
        vec![i(0xbf, 9, 1, 0, 0), i(op::LD_IMM64, 8, pseudo::MAP_VALUE, 0, fd), i(0, 0, 0, 0, scratch)];
    for (place, case) in (0..).zip(cases) {
        insns.extend([i(0x79, 6, 9, 0, 0), i(0x79, 7, 9, 8, 0)]);
        insns.extend(&case.code);
        insns.push(i(0x7b, 8, 0, place * 8 - scratch as i16, 0));
    }
    insns.extend([i(0xb7, 0, 0, 0, 0), i(op::EXIT, 0, 0, 0, 0)]);
    let request = ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL");
    let program = kernel.prog_load(&request, None).unwrap_or_else(|errno| {
        let mut log = LogBuffer::new(1, 1 << 24);
        let _ = kernel.prog_load(&request, Some(&mut log));
        let text = log.text();
        let lines: Vec<&str> = text.lines().collect();
        panic!("{errno}: {}", lines[lines.len().saturating_sub(5)..].join("\n"))
    });
    let mut results = vec![0; size];
    for &x in OPERANDS {
        for &y in OPERANDS {
            let ctx = [x.to_ne_bytes(), y.to_ne_bytes()].concat();
            let mut run = TestRun::default();
            run.ctx_in = &ctx;
            program.test_run(&mut run).unwrap();
            map.lookup(&[0; 4], &mut results, UpdateFlags::empty()).unwrap();
            for (case, found) in cases.iter().zip(results.as_chunks().0) {
                let (found, expected) = (u64::from_ne_bytes(*found), (case.expected)(x, y));
                assert_eq!(
                    found, expected,
                    "{} of {x:#x} and {y:#x}: {found:#x}, not {expected:#x}",
                    case.name
                );
            }
        }
    }
}

//! Programs that run on packets: each is tried with some packets, and what came of it is written down as a line.

#![allow(dead_code, reason = "each test target uses a part")]

// The simulated kernel has the same.
#[path = "../../src/world/random.rs"]
mod generator;

mod generated;

use std::fmt::Write;

use skep_asm::{Assembler, Cond, Insn, Reg, Size};
use skep_sys::abi::{AttachType, ProgType, TestRunFlags};
use skep_sys::request::{ProgLoad, TestRun};
use skep_sys::{Kernel, LoadedProgram};

#[allow(unused_imports, reason = "each test target uses a part")]
pub(crate) use generated::{random, random_loads};

/// A program and what it is run with.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) prog_type: ProgType,
    pub(crate) insns: Vec<Insn>,
    pub(crate) data: Vec<u8>,
    pub(crate) context: Vec<u8>,
    pub(crate) repeat: u32,
    pub(crate) flags: u32,
}

/// What a case is run with beside its program and its packet.
#[derive(Clone, Copy, Debug, Default)]
struct With<'a> {
    context: &'a [u8],
    repeat: u32,
    flags: u32,
}

impl Case {
    fn new(name: &str, prog_type: ProgType, data: &[u8], write: impl FnOnce(&mut Assembler)) -> Case {
        let mut asm = Assembler::new();
        // Programs find their context in r6, too.
        asm.mov64_reg(Reg::R6, Reg::R1);
        write(&mut asm);
        asm.exit();
        let insns = asm.finish().unwrap();
        let name = name.to_owned();
        Case { name, prog_type, insns, data: data.to_vec(), context: Vec::new(), repeat: 0, flags: 0 }
    }

    fn with(mut self, with: With<'_>) -> Case {
        (self.context, self.repeat, self.flags) = (with.context.to_vec(), with.repeat, with.flags);
        self
    }

    /// Loads the program, if the kernel takes it.
    pub(crate) fn load(&self, kernel: &Kernel) -> Option<LoadedProgram> {
        let mut request = ProgLoad::new(self.prog_type, &self.insns, "GPL");
        if self.prog_type == ProgType::SK_LOOKUP {
            request.expected_attach_type = AttachType::SK_LOOKUP;
        }
        kernel.prog_load(&request, None).ok()
    }

    /// What came of it: the error, the return value, the packet and the context.
    pub(crate) fn run(&self, prog: &LoadedProgram) -> String {
        let (mut data, mut context) = (vec![0; 20_000], vec![0; 192]);
        let mut request = TestRun::default();
        request.data_in = &self.data;
        request.data_out = &mut data;
        request.ctx_in = &self.context;
        request.ctx_out = &mut context;
        request.repeat = self.repeat;
        request.flags = TestRunFlags::from_bits_retain(self.flags);
        let ran = prog.test_run(&mut request);
        let mut text = format!("{} | ", self.name);
        match ran {
            Ok(result) => {
                let value = result.retval.cast_signed();
                write!(text, "{value} {}:", result.data_size_out).unwrap();
                let size = result.data_size_out as usize;
                write!(text, "{} {}:", digest(&data[..size.min(data.len())]), result.ctx_size_out).unwrap();
                let context = &context[..(result.ctx_size_out as usize).min(192)];
                text.push_str(&digest(context));
            }
            Err((errno, _)) => text.push_str(&errno.to_string()),
        }
        text
    }
}

/// Short bytes as they are, of long ones a number.
fn digest(bytes: &[u8]) -> String {
    if bytes.len() <= 128 {
        return bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
    }
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("#{hash:016x}")
}

/// A frame with an IPv4 header and a UDP header.
pub(crate) fn ipv4(len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend([8, 0]);
    frame.extend([0x45, 2, 0, 50, 0, 1, 0, 0, 64, 17, 0x3c, 0xa8, 127, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x12, 0x34, 0, 53, 0, 30, 0xab, 0xcd]);
    frame.resize(frame.len().max(len), 0);
    for (at, byte) in frame.iter_mut().enumerate().skip(42) {
        *byte = at as u8;
    }
    frame.truncate(len);
    frame
}

/// A frame with an IPv6 header and a TCP header.
pub(crate) fn ipv6(len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
    frame.extend([0x60, 0x20, 0, 0, 0, 40, 6, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend([0x12, 0x34, 0, 80]);
    frame.resize(frame.len().max(len), 7);
    frame.truncate(len);
    frame
}

/// A frame with tags of virtual networks before an IPv4 header.
pub(crate) fn vlan(tags: &[(u16, u16)]) -> Vec<u8> {
    let mut frame = ipv4(64);
    let tags = tags.iter().flat_map(|(proto, tci)| [proto.to_be_bytes(), tci.to_be_bytes()].concat());
    frame.splice(12..12, tags);
    frame
}

const R0: Reg = Reg::R0;
const R1: Reg = Reg::R1;
const R2: Reg = Reg::R2;
const R3: Reg = Reg::R3;
const R4: Reg = Reg::R4;
const R5: Reg = Reg::R5;
const R6: Reg = Reg::R6;
const R7: Reg = Reg::R7;
const R8: Reg = Reg::R8;
const R10: Reg = Reg::R10;

/// Calls a helper with the context and numbers.
fn call(asm: &mut Assembler, helper: i32, args: &[i32]) {
    asm.mov64_reg(R1, R6);
    for (reg, arg) in [R2, R3, R4, R5].into_iter().zip(args) {
        asm.mov64_imm(reg, *arg);
    }
    asm.call_helper(helper);
}

/// Calls a helper that is given memory of the stack, 16 bytes below its top, as its third argument.
fn call_bytes(asm: &mut Assembler, helper: i32, at: i32, len: i32, flags: i32) {
    asm.st(Size::DW, R10, -16, 0x0102_0304).st(Size::DW, R10, -8, 0x0506_0708);
    asm.mov64_reg(R1, R6).mov64_imm(R2, at).mov64_reg(R3, R10).add64_imm(R3, -16);
    asm.mov64_imm(R4, len).mov64_imm(R5, flags).call_helper(helper);
}

/// Adds what a helper answered to what will be returned.
fn mix(asm: &mut Assembler) {
    asm.mul64_imm(R7, 31).add64_reg(R7, R0);
}

const CLS: ProgType = ProgType::SCHED_CLS;
const XDP: ProgType = ProgType::XDP;

/// All cases with their names.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    xdp(&mut cases);
    buffers(&mut cases);
    fields(&mut cases);
    checksums(&mut cases);
    contexts(&mut cases);
    cases
}

fn xdp(cases: &mut Vec<Case>) {
    let frame = ipv4(64);
    for (helper, name, deltas) in [
        (44, "adjust_head", &[0, 1, 20, 50, 51, -1, -216, -217, -256, 1000][..]),
        (65, "adjust_tail", &[0, 1, 100, 3456, 3457, -1, -50, -51]),
        (54, "adjust_meta", &[0, -4, -5, -32, -36, -216, -220, 4]),
    ] {
        for &delta in deltas {
            let name = format!("xdp {name} {delta}");
            cases.push(Case::new(&name, XDP, &frame, |asm| call(asm, helper, &[delta])));
        }
    }
    // Metadata moves with the head.
    cases.push(Case::new("xdp meta and head", XDP, &frame, |asm| {
        call(asm, 54, &[-8]);
        asm.ldx(Size::W, R2, R6, 8).ldx(Size::W, R3, R6, 0).mov64_reg(R4, R2).add64_imm(R4, 8);
        asm.mov64_imm(R0, 9).jmp64_reg(Cond::Gt, R4, R3, "out").st(Size::DW, R2, 0, 0x1122_3344);
        call(asm, 44, &[-20]);
        asm.ldx(Size::W, R2, R6, 8).ldx(Size::W, R3, R6, 0).mov64_reg(R4, R2).add64_imm(R4, 8);
        asm.jmp64_reg(Cond::Gt, R4, R3, "out").ldx(Size::W, R0, R2, 0).label("out");
    }));
    for len in [14, 64, 3520, 3521, 4000, 9000] {
        let frame = ipv4(len);
        for (at, size) in
            [(0, 16), (50, 16), (len as i32 - 16, 16), (len as i32 - 15, 16), (3512, 16), (65536, 4)]
        {
            let name = format!("xdp load {size} at {at} of {len}");
            cases.push(Case::new(&name, XDP, &frame, |asm| {
                call_bytes(asm, 189, at, size, 0);
                asm.ldx(Size::W, R1, R10, -16).add64_reg(R0, R1);
            }));
            let name = format!("xdp store {size} at {at} of {len}");
            cases.push(Case::new(&name, XDP, &frame, |asm| call_bytes(asm, 190, at, size, 0)));
        }
        cases.push(Case::new(&format!("xdp length of {len}"), XDP, &frame, |asm| call(asm, 188, &[])));
        for delta in [-100, 100, -3000, -5600, 4000] {
            let name = format!("xdp adjust_tail {delta} of {len}");
            cases.push(Case::new(&name, XDP, &frame, |asm| call(asm, 65, &[delta])));
        }
    }
    for (flags, name) in [(0, "none"), (1, "1")] {
        let name = format!("xdp redirect with flags {name}");
        cases.push(Case::new(&name, XDP, &frame, |asm| {
            asm.mov64_imm(R1, 1).mov64_imm(R2, flags).call_helper(23);
        }));
    }
    // A packet stays as the last run left it.
    let again = With { repeat: 3, ..With::default() };
    cases.push(Case::new("xdp three times", XDP, &frame, |asm| call(asm, 44, &[10])).with(again));
}

fn buffers(cases: &mut Vec<Case>) {
    let frame = ipv4(64);
    for len in [0, 13, 14, 20, 64, 65, 100, 3000, 16064, 16065] {
        cases.push(Case::new(&format!("cls change_tail {len}"), CLS, &frame, |asm| call(asm, 38, &[len, 0])));
    }
    for room in [0, 1, 14, 100, 3000, 16000, 16001, -1] {
        let name = format!("cls change_head {room}");
        cases.push(Case::new(&name, CLS, &frame, |asm| call(asm, 43, &[room, 0])));
    }
    for frame in [&frame, &ipv6(80)] {
        let family = frame[12];
        for (delta, mode, flags) in [
            (8, 1, 0),
            (20, 1, 2),
            (20, 0, 0),
            (-8, 1, 0),
            (-10, 0, 0),
            (-31, 0, 0),
            (4096, 1, 0),
            (20, 2, 0),
            (40, 1, 4),
            (20, 1, 6),
            (-20, 1, 128),
            (-20, 1, 256),
            (20, 1, 128),
            (8, 0, 1024),
            (28, 1, 2 | 16),
            (24, 1, 2 | 8),
            (-40, 1, 0),
        ] {
            let name = format!("cls adjust_room {delta} {mode} {flags} of {family:#x}");
            cases.push(Case::new(&name, CLS, frame, |asm| {
                call(asm, 50, &[delta, mode, flags]);
                asm.ldx(Size::W, R1, R6, 16).lsh64_imm(R1, 8).add64_reg(R0, R1);
            }));
        }
        for proto in [0xdd86, 8, 0] {
            let name = format!("cls change_proto {proto:#x} of {family:#x}");
            cases.push(Case::new(&name, CLS, frame, |asm| {
                call(asm, 31, &[proto, 0]);
                asm.ldx(Size::W, R1, R6, 16).add64_reg(R0, R1);
            }));
        }
    }
    for tags in
        [&[][..], &[(0x8100, 5)], &[(0x88a8, 7), (0x8100, 5)], &[(0x8100, 1), (0x8100, 2), (0x8100, 3)]]
    {
        let frame = vlan(tags);
        let tags = tags.len();
        for pops in 1..=3 {
            let name = format!("cls vlan_pop {pops} of {tags} tags");
            cases.push(Case::new(&name, CLS, &frame, |asm| {
                asm.mov64_imm(R7, 0);
                for _ in 0..pops {
                    call(asm, 19, &[]);
                    mix(asm);
                    for field in [16, 20, 24, 28] {
                        asm.ldx(Size::W, R0, R6, field);
                        mix(asm);
                    }
                }
                asm.mov64_reg(R0, R7);
            }));
        }
        for (proto, tci) in [(0x81, 5), (0, 5), (0xa888, 0x2007)] {
            let name = format!("cls vlan_push twice {proto:#x} {tci} on {tags} tags");
            cases.push(Case::new(&name, CLS, &frame, |asm| {
                asm.mov64_imm(R7, 0);
                for _ in 0..2 {
                    call(asm, 18, &[proto, tci]);
                    mix(asm);
                }
                for field in [16, 20, 24, 28, 0] {
                    asm.ldx(Size::W, R0, R6, field);
                    mix(asm);
                }
                call(asm, 19, &[]);
                mix(asm);
                asm.mov64_reg(R0, R7);
            }));
        }
    }
    for kind in [CLS, ProgType::SOCKET_FILTER] {
        for (at, len) in [(0, 16), (34, 8), (50, 16), (48, 16), (60, 4), (-1, 4)] {
            cases.push(Case::new(&format!("{kind} load {len} at {at}"), kind, &frame, |asm| {
                call_bytes(asm, 26, at, len, 0);
                asm.ldx(Size::W, R1, R10, -16).add64_reg(R0, R1);
            }));
            for start in [0, 1, 2] {
                let name = format!("{kind} load_relative {len} at {at} from {start}");
                cases.push(Case::new(&name, kind, &frame, |asm| {
                    call_bytes(asm, 68, at, len, start);
                    asm.ldx(Size::W, R1, R10, -16).add64_reg(R0, R1);
                }));
            }
        }
    }
    for (at, len, flags) in [(0, 16, 0), (60, 4, 1), (61, 4, 0), (20, 2, 3), (20, 2, 4), (-1, 4, 0)] {
        let name = format!("cls store {len} at {at} with {flags}");
        cases.push(Case::new(&name, CLS, &frame, |asm| call_bytes(asm, 9, at, len, flags)));
    }
    for len in [0, 14, 64, 65] {
        cases.push(Case::new(&format!("cls pull_data {len}"), CLS, &frame, |asm| call(asm, 39, &[len])));
    }
    for kind in [0, 1, 3, 4] {
        cases.push(Case::new(&format!("cls change_type {kind}"), CLS, &frame, |asm| {
            call(asm, 32, &[kind]);
            asm.ldx(Size::W, R1, R6, 4).add64_reg(R0, R1);
        }));
    }
    for (ifindex, flags) in [(99, 0), (1, 2)] {
        let name = format!("cls clone_redirect {ifindex} {flags}");
        cases.push(Case::new(&name, CLS, &frame, |asm| call(asm, 13, &[ifindex, flags])));
    }
    for flags in 0..4 {
        cases.push(Case::new(&format!("cls redirect with {flags}"), CLS, &frame, |asm| {
            asm.mov64_imm(R1, 1).mov64_imm(R2, flags).call_helper(23);
        }));
    }
    for frame in [&frame, &ipv6(80)] {
        let family = frame[12];
        cases.push(Case::new(&format!("cls ecn_set_ce of {family:#x}"), CLS, frame, |asm| {
            // Only programs of control groups have it.
            call(asm, 34, &[]);
            asm.mov64_imm(R0, 0);
        }));
        let name = format!("cgroup_skb ecn_set_ce of {family:#x}");
        cases.push(Case::new(&name, ProgType::CGROUP_SKB, frame, |asm| {
            call(asm, 97, &[]);
            asm.and64_imm(R0, 1);
        }));
    }
    // A header of IPv4 in front: the kernel counts its checksum where it has none. One that says that it is longer is refused.
    for (words, sum) in [(5, 0), (5, 0x1234), (6, 0)] {
        let name = format!("lwt_in push a header of {words} words with checksum {sum:#x}");
        cases.push(Case::new(&name, ProgType::LWT_IN, &frame, |asm| {
            asm.st(Size::W, R10, -24, 0x5400_0040 | words).st(Size::W, R10, -20, 0);
            asm.st(Size::W, R10, -16, sum << 16 | 0x0440);
            asm.st(Size::W, R10, -12, 0x0100_000a).st(Size::W, R10, -8, 0x0200_000a);
            asm.mov64_reg(R1, R6).mov64_imm(R2, 2).mov64_reg(R3, R10).add64_imm(R3, -24).mov64_imm(R4, 20);
            asm.call_helper(73);
        }));
    }
    cases.push(Case::new("cls hash", CLS, &frame, |asm| {
        call(asm, 48, &[77]);
        call(asm, 34, &[]);
        asm.ldx(Size::W, R1, R6, 68).add64_reg(R0, R1);
    }));
}

/// Fields of a socket buffer, as wide as they may be read.
fn fields(cases: &mut Vec<Case>) {
    let (frame, six) = (ipv4(64), ipv6(80));
    for kind in [CLS, ProgType::SOCKET_FILTER, ProgType::CGROUP_SKB, ProgType::LWT_IN] {
        for offset in (0..192).step_by(4) {
            // Numbers that the kernel makes up, and those that the packet of a test is given: cookies, hashes.
            if matches!(offset, 76 | 80 | 140 | 144 | 168) {
                continue;
            }
            for (size, bytes) in [(Size::W, 4), (Size::H, 2), (Size::B, 1), (Size::DW, 8)] {
                for frame in [&frame, &six] {
                    let name = format!("{kind} field {offset} of {bytes} of {:#x}", frame[12]);
                    cases.push(Case::new(&name, kind, frame, |asm| {
                        asm.ldx(size, R0, R6, offset);
                        if kind == ProgType::CGROUP_SKB {
                            // Its return value is one bit: the field goes where it is seen.
                            asm.stx(Size::W, R6, 48, R0).mov64_imm(R0, 1);
                        }
                    }));
                }
            }
        }
        for offset in [8, 12, 32, 36, 44, 48, 52, 64, 72, 152] {
            let name = format!("{kind} write field {offset}");
            cases.push(Case::new(&name, kind, &frame, |asm| {
                let size = if offset == 152 { Size::DW } else { Size::W };
                asm.mov64_imm(R1, 0x1234).stx(size, R6, offset, R1).mov64_imm(R0, 1);
            }));
        }
    }
    for offset in (0..24).step_by(4).filter(|offset| *offset >= 12) {
        for (size, bytes) in [(Size::W, 4), (Size::H, 2), (Size::DW, 8)] {
            let name = format!("xdp field {offset} of {bytes}");
            cases.push(Case::new(&name, XDP, &frame, |asm| {
                asm.ldx(size, R0, R6, offset);
            }));
        }
    }
}

fn checksums(cases: &mut Vec<Case>) {
    let frame = ipv4(64);
    for (from, to, seed) in
        [(0, 0, 0), (0, 0, 5), (0, 0, -1), (4, 4, 0), (8, 8, 1), (0, 8, 0x12345), (8, 0, 0), (4, 8, -1)]
    {
        cases.push(Case::new(&format!("cls csum_diff {from} {to} {seed}"), CLS, &frame, |asm| {
            asm.st(Size::DW, R10, -16, 0x0102_0304).st(Size::DW, R10, -8, 0x7fff_ffff);
            asm.mov64_reg(R1, R10).add64_imm(R1, -16).mov64_imm(R2, from);
            asm.mov64_reg(R3, R10).add64_imm(R3, -8).mov64_imm(R4, to).mov64_imm(R5, seed).call_helper(28);
        }));
    }
    for (helper, name, flags) in [
        (10, "l3", &[0, 2, 4, 1, 0x12][..]),
        (11, "l4", &[0, 2, 4, 1, 0x12, 0x14, 0x10, 0x20, 0x22, 0x64, 0x100]),
    ] {
        for &flag in flags {
            for (at, from, to) in [
                (24, 0x0a00, 0x7f),
                (24, 0, 0x1234),
                (40, 0x1122_3344, 0x5566),
                (63, 1, 2),
                (62, 0, 7),
                (0x10000, 0, 0),
            ] {
                let name = format!("cls {name}_csum_replace {at} {from} {to} with {flag:#x}");
                cases.push(Case::new(&name, CLS, &frame, |asm| call(asm, helper, &[at, from, to, flag])));
            }
        }
    }
    for complete in [0, 4] {
        let with = With { flags: complete, ..With::default() };
        for level in 0..5 {
            let name = format!("cls csum_level {level} with {complete}");
            cases.push(Case::new(&name, CLS, &frame, |asm| call(asm, 135, &[level])).with(with));
        }
        let name = format!("cls store with sum {complete}");
        cases.push(Case::new(&name, CLS, &frame, |asm| call_bytes(asm, 9, 40, 8, 1)).with(with));
        let name = format!("cls store without sum {complete}");
        cases.push(Case::new(&name, CLS, &frame, |asm| call_bytes(asm, 9, 40, 8, 0)).with(with));
        cases.push(
            Case::new("cls csum_update", CLS, &frame, |asm| call(asm, 40, &[0]))
                .with(With { flags: 0, ..with }),
        );
    }
}

/// What contexts are taken, and how they come back.
fn contexts(cases: &mut Vec<Case>) {
    let frame = ipv4(64);
    let mut every = [0; 192];
    for offset in (0..192).step_by(4) {
        let mut context = [0; 192];
        context[offset] = 1;
        every[offset] = 1;
        let with = With { context: &context, ..With::default() };
        let pass = |asm: &mut Assembler| _ = asm.mov64_imm(R0, 1);
        cases.push(Case::new(&format!("cls context with {offset}"), CLS, &frame, pass).with(with));
    }
    for wire_len in [64_u32, 63, 65536, 65537] {
        let mut context = [0; 192];
        context[160..164].copy_from_slice(&wire_len.to_ne_bytes());
        let with = With { context: &context, ..With::default() };
        cases.push(
            Case::new(&format!("cls wire_len {wire_len}"), CLS, &frame, |asm| {
                asm.ldx(Size::W, R0, R6, 160);
            })
            .with(with),
        );
    }
    for words in [
        [0, 64, 0, 0, 0, 0],
        [0, 40, 0, 0, 0, 0],
        [4, 64, 0, 0, 0, 0],
        [40, 64, 0, 1, 0, 0],
        [64, 64, 0, 0, 0, 0],
        [8, 4, 0, 0, 0, 0],
        [220, 64, 0, 0, 0, 0],
    ] {
        let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let with = With { context: &context, ..With::default() };
        for (name, helper, delta) in
            [("nothing", 188, 0), ("head", 44, 4), ("meta", 54, -8), ("tail", 65, -6)]
        {
            let name = format!("xdp context {words:?} and {name}");
            cases.push(Case::new(&name, XDP, &frame, |asm| call(asm, helper, &[delta])).with(with));
        }
    }
}

//! Programs that nobody wrote.

use skep_asm::{Insn, Reg, Size};
use skep_sys::abi::ProgType;

use super::generator::Random;
use super::{CLS, Case, R0, R6, R7, R8, R10, XDP, call, call_bytes, ipv4, ipv6, mix, vlan};

impl Random {
    fn below(&mut self, end: u64) -> i32 {
        (self.next() % end) as i32
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// A program that loads from some packet by the instructions of old filters: inside, across the end, from the headers of
/// link and network on, and from where nothing is. One that fails ends the program.
pub(crate) fn random_loads(seed: u64) -> Case {
    let mut r = Random::new(seed);
    let prog_type = r.of(&[CLS, ProgType::SOCKET_FILTER]);
    let len = r.of(&[15, 34, 54, 64, 300]);
    let data = if r.below(4) == 0 { ipv6(len.max(60)) } else { ipv4(len.max(34)) };
    let data = &data[..len.min(data.len())];
    let size = data.len() as u64;
    Case::new(&format!("loads {seed}"), prog_type, data, |asm| {
        asm.mov64_imm(R7, 0);
        for _ in 0..1 + r.below(6) {
            let from = r.of(&[0, 0, 0, 0, 0, 0, -0x10_0000, -0x20_0000]);
            let at = match r.below(12) {
                0 => -r.below(64),
                1 => r.below(1 << 30) + r.below(1 << 30),
                2 => from + r.below(size + 8),
                _ => from + r.below(size.saturating_sub(18).max(1)),
            };
            let wide = r.of(&[Size::B, Size::H, Size::W]);
            if r.below(2) == 0 {
                asm.ld_abs(wide, at);
            } else {
                let index = r.of(&[0, 1, -1, 14, 1 << 20, i32::MIN]);
                asm.mov64_imm(R8, index).ld_ind(wide, R8, at.wrapping_sub(index));
            }
            mix(asm);
        }
        asm.mov64_reg(R0, R7);
    })
}

/// A program that calls some helpers with arguments that nobody would think of, on some packet.
pub(crate) fn random(seed: u64) -> Case {
    let mut r = Random::new(seed);
    let prog_type = r.of(&[CLS, XDP]);
    let len = r.of(&[54, 64, 100, 1500, 3000]);
    let data = match r.below(5) {
        0 => ipv6(len.max(60)),
        1 => vlan(&[(0x8100, r.below(4096) as u16)]),
        2 => vlan(&[(0x88a8, 1), (0x8100, 2)]),
        _ => ipv4(len),
    };
    let flags = if prog_type == CLS && r.below(4) == 0 { 4 } else { 0 };
    let size = data.len() as u64;
    let mut case = Case::new(&format!("random {seed}"), prog_type, &data, |asm| {
        asm.mov64_imm(R7, 0);
        for _ in 0..1 + r.below(5) {
            let at = r.below(size + 40);
            let number = r.below(1 << 30);
            if prog_type == XDP {
                match r.below(5) {
                    0 => call(asm, 44, &[r.below(400) - 300]),
                    1 => call(asm, 54, &[(r.below(80) - 60) * r.of(&[1, 4])]),
                    2 => call(asm, 65, &[r.below(600) - 300]),
                    3 => call_bytes(asm, 189, at, 1 + r.below(16), 0),
                    _ => call_bytes(asm, 190, at, 1 + r.below(16), 0),
                }
            } else {
                // A sum over a packet that ends before its network header is a bug of the kernel, which ends the thread.
                let what = if flags == 0 { r.below(12) } else { 3 + r.below(9) };
                match what {
                    0 => call(asm, 38, &[r.below(size + 200), 0]),
                    1 => call(asm, 43, &[r.below(200), 0]),
                    2 => call(asm, 50, &[r.below(100) - 50, r.below(2), r.of(&[0, 0, 2, 4, 18, 32, 128])]),
                    3 => call(asm, 31, &[r.of(&[0xdd86, 8]), 0]),
                    4 => call(asm, 18, &[r.of(&[0x81, 0xa888]), r.below(4096)]),
                    5 => call(asm, 19, &[]),
                    6 => call_bytes(asm, 9, at, 1 + r.below(16), r.of(&[0, 1, 2, 3])),
                    7 => call_bytes(asm, 26, at, 1 + r.below(16), 0),
                    8 => call(asm, 10, &[at, number, number + 7, r.of(&[0, 2, 4])]),
                    9 => call(asm, 11, &[at, number, number + 7, r.of(&[2, 4, 0x12, 0x14, 0x24])]),
                    10 => call(asm, 39, &[at]),
                    _ => call(asm, 135, &[r.below(4)]),
                }
            }
            mix(asm);
            asm.ldx(Size::DW, R0, R10, -16);
            if prog_type == CLS {
                for field in [0, 16, 20, 24, 28] {
                    asm.ldx(Size::W, R0, R6, field);
                    mix(asm);
                }
            }
        }
        asm.mov64_reg(R0, R7);
    });
    // The stack is read, whatever was called.
    case.insns.insert(1, Insn::new(0x7a, R10, Reg::R0, -16, 0));
    case.insns.insert(2, Insn::new(0x7a, R10, Reg::R0, -8, 0));
    case.flags = flags;
    case
}

use skep::asm::{Reg, Size};
use skep::sys::abi::{Errno, ProgFlags, ProgType};

use super::Arg::{Imm, Reg as R};
use super::{Script, World, errno, has_functions};

const LEN: i32 = 188;
const ADJUST_TAIL: i32 = 65;
const ADJUST_META: i32 = 54;

/// Bytes of a packet of several pieces that come into the first one.
pub(super) fn pulled(world: &World<'_>) {
    if !has_functions(world, "pulled_packets", &["bpf_xdp_pull_data"]) {
        return;
    }
    let packet: Vec<u8> = (0..9000u32).map(|at| (at % 251) as u8).collect();
    // The first piece is as long as a page lets it be, so that only the room before it is left.
    let first = 4096 - 256 - 320u64;
    let room = 256 - 40;
    let mut script = Script::of(world, ProgType::XDP);
    script.builder.flags(ProgFlags::XDP_HAS_FRAGS);
    script.builder.asm().mov64_reg(Reg::R6, Reg::R1);
    let linear = |script: &mut Script| {
        let asm = script.builder.asm();
        asm.ldx(Size::W, Reg::R2, Reg::R6, 0).ldx(Size::W, Reg::R9, Reg::R6, 4).sub64_reg(Reg::R9, Reg::R2);
        script.note_reg(Reg::R9);
    };
    let pull = |script: &mut Script, len: u64| {
        script.kfunc("bpf_xdp_pull_data", &[R(Reg::R6), Imm(len as i64)]);
        script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
        script.note();
        linear(script);
    };
    linear(&mut script);
    pull(&mut script, 64);
    pull(&mut script, 9001);
    pull(&mut script, first + room + 1);
    pull(&mut script, first + 16);
    script.call(LEN, &[R(Reg::R6)]).note();
    // The byte that was the first of the second piece.
    let asm = script.builder.asm();
    asm.ldx(Size::W, Reg::R2, Reg::R6, 0).ldx(Size::W, Reg::R3, Reg::R6, 4).mov64_reg(Reg::R4, Reg::R2);
    asm.add64_imm(Reg::R4, first as i32 + 1).mov64_imm(Reg::R9, -1);
    asm.jmp64_reg(skep::asm::Cond::Gt, Reg::R4, Reg::R3, "short");
    asm.ldx(Size::B, Reg::R9, Reg::R4, -1).label("short");
    script.note_reg(Reg::R9);
    // All that is left fits when the packet is shorter.
    script.call(ADJUST_META, &[R(Reg::R6), Imm(-8)]).note();
    script.call(ADJUST_TAIL, &[R(Reg::R6), Imm(-(9000 - first as i64 - 32))]).note();
    pull(&mut script, first + 32);
    script.call(LEN, &[R(Reg::R6)]).note();
    let noted = script.exit(2).run_on(&packet);
    let einval = errno(Errno::EINVAL);
    let moved = u64::from(packet[first as usize]);
    let expected = [
        &[first][..],
        &[0, first, einval, first, einval, first],
        &[0, first + 16, 9000, moved],
        &[0, 0, 0, first + 32, first + 32],
    ];
    assert_eq!(noted, expected.concat());
}

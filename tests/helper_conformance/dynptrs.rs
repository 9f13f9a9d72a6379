use skep::asm::Reg;
use skep::sys::abi::{Errno, ProgType};

use super::Arg::{Data, Imm, Reg as R, Stack};
use super::{Script, World, errno, has_functions, has_helper};

const FROM_MEM: i32 = 197;
const READ: i32 = 201;
const WRITE: i32 = 202;
const DATA: i32 = 203;

const EINVAL: u64 = errno(Errno::EINVAL);
const E2BIG: u64 = errno(Errno::E2BIG);
const ERANGE: u64 = errno(Errno::ERANGE);

pub(super) fn memory(world: &World<'_>) {
    // Kernels without that function do not let go of a dynptr by writing another one in its place.
    if !has_helper(world, "dynptrs", FROM_MEM, ProgType::SOCKET_FILTER)
        || !has_functions(world, "dynptrs", &["bpf_dynptr_adjust"])
    {
        return;
    }
    let mut script = Script::new(world);
    script.data(0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    script.call(FROM_MEM, &[Data(0), Imm(12), Imm(1), Stack(-16)]).note();
    script.call(READ, &[Stack(-24), Imm(8), Stack(-16), Imm(0), Imm(0)]).note();
    script.call(DATA, &[Stack(-16), Imm(0), Imm(1)]).note_if_set();
    script.call(FROM_MEM, &[Data(0), Imm(12), Imm(0), Stack(-16)]).note();
    for (at, flags) in [(0, 0), (4, 0), (5, 0), (12, 0), (-1, 0), (0, 1)] {
        script.stack(-24, 0);
        script.call(READ, &[Stack(-24), Imm(8), Stack(-16), Imm(at), Imm(flags)]).note().note_stack(-24);
    }
    script.stack(-24, 0x0102);
    script.call(WRITE, &[Stack(-16), Imm(10), Stack(-24), Imm(2), Imm(0)]).note();
    script.call(WRITE, &[Stack(-16), Imm(11), Stack(-24), Imm(2), Imm(0)]).note();
    script.call(WRITE, &[Stack(-16), Imm(0), Stack(-24), Imm(2), Imm(2)]).note();
    script.call(DATA, &[Stack(-16), Imm(11), Imm(2)]).note_if_set();
    script.call(DATA, &[Stack(-16), Imm(4), Imm(8)]);
    script.note_target();
    let noted = script.exit(0).run();
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let at = |at: usize| super::number(&bytes[at..at + 8]);
    let reads = [0, at(0), 0, at(4), E2BIG, 0, E2BIG, 0, E2BIG, 0, EINVAL, 0];
    let mut written = bytes;
    written[10..].copy_from_slice(&[2, 1]);
    let rest = [0, E2BIG, EINVAL, 0, super::number(&written[4..])];
    assert_eq!(noted, [&[EINVAL, EINVAL, 0, 0][..], &reads, &rest].concat());
    assert_eq!(script.shared(0, 12), written);
}

pub(super) fn functions(world: &World<'_>) {
    let names = [
        "bpf_dynptr_adjust",
        "bpf_dynptr_is_null",
        "bpf_dynptr_is_rdonly",
        "bpf_dynptr_size",
        "bpf_dynptr_clone",
        "bpf_dynptr_slice",
    ];
    if !has_functions(world, "dynptr_functions", &names) {
        return;
    }
    let mut script = Script::new(world);
    let bytes: Vec<u8> = (1..33).collect();
    script.data(0, &bytes);
    script.call(FROM_MEM, &[Data(0), Imm(32), Imm(0), Stack(-16)]).note();
    // Only the lower half counts of what is no number of 64 bits.
    let note = |script: &mut Script| {
        script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
        script.note();
    };
    let ask = |script: &mut Script, name: &str, at: i32| {
        script.kfunc(name, &[Stack(at)]);
        // A bool is a byte.
        if name != "bpf_dynptr_size" {
            script.builder.asm().and64_imm(Reg::R0, 0xff);
        }
        note(script);
    };
    ask(&mut script, "bpf_dynptr_is_null", -16);
    ask(&mut script, "bpf_dynptr_is_rdonly", -16);
    ask(&mut script, "bpf_dynptr_size", -16);
    script.kfunc("bpf_dynptr_clone", &[Stack(-16), Stack(-32)]);
    note(&mut script);
    for (start, end) in [(8, 24), (9, 8), (0, 17), (17, 17), (2, 10)] {
        script.kfunc("bpf_dynptr_adjust", &[Stack(-16), Imm(start), Imm(end)]);
        note(&mut script);
    }
    ask(&mut script, "bpf_dynptr_size", -16);
    ask(&mut script, "bpf_dynptr_size", -32);
    script.call(READ, &[Stack(-40), Imm(8), Stack(-16), Imm(0), Imm(0)]).note().note_stack(-40);
    for at in [0, 25] {
        script.stack(-48, 0);
        script.kfunc("bpf_dynptr_slice", &[Stack(-32), Imm(at), Stack(-48), Imm(8)]);
        script.note_target();
    }
    // Null ones.
    script.call(FROM_MEM, &[Data(0), Imm(32), Imm(7), Stack(-64)]).note();
    ask(&mut script, "bpf_dynptr_is_null", -64);
    ask(&mut script, "bpf_dynptr_is_rdonly", -64);
    ask(&mut script, "bpf_dynptr_size", -64);
    script.kfunc("bpf_dynptr_adjust", &[Stack(-64), Imm(0), Imm(0)]);
    note(&mut script);
    script.kfunc("bpf_dynptr_clone", &[Stack(-64), Stack(-80)]);
    note(&mut script);
    let noted = script.exit(0).run();
    let at = |at: usize| super::number(&bytes[at..at + 8]);
    let first = [0, 0, 0, 32, 0, 0, EINVAL, ERANGE, ERANGE, 0, 8, 32];
    let second = [0, at(10), at(0), u64::MAX, EINVAL, 1, 0, EINVAL, EINVAL, EINVAL];
    assert_eq!(noted, [&first[..], &second].concat());

    if !has_functions(world, "dynptr_functions", &["bpf_dynptr_copy", "bpf_dynptr_memset"]) {
        return;
    }
    let mut script = Script::new(world);
    script.data(0, &bytes);
    script.call(FROM_MEM, &[Data(0), Imm(16), Imm(0), Stack(-16)]).note();
    script.call(FROM_MEM, &[Data(16), Imm(16), Imm(0), Stack(-32)]).note();
    for (to, from, len) in [(0, 8, 8), (9, 0, 8), (0, 9, 8)] {
        script.kfunc("bpf_dynptr_copy", &[Stack(-32), Imm(to), Stack(-16), Imm(from), Imm(len)]);
        note(&mut script);
    }
    for (at, len) in [(12, 4), (13, 4)] {
        script.kfunc("bpf_dynptr_memset", &[Stack(-32), Imm(at), Imm(len), Imm(0xaa)]);
        note(&mut script);
    }
    assert_eq!(script.exit(0).run(), [0, 0, 0, E2BIG, E2BIG, 0, E2BIG]);
    let mut expected = bytes.clone();
    expected.copy_within(8..16, 16);
    expected[28..].fill(0xaa);
    assert_eq!(script.shared(0, 32), expected);
}

pub(super) fn packets(world: &World<'_>) {
    let names = ["bpf_dynptr_from_skb", "bpf_dynptr_from_xdp", "bpf_dynptr_slice_rdwr", "bpf_dynptr_size"];
    if !has_functions(world, "dynptrs_of_packets", &names) {
        return;
    }
    let packet: Vec<u8> = (0..64).collect();
    let at = |at: usize| super::number(&packet[at..at + 8]);
    for (kind, from) in [
        (ProgType::XDP, "bpf_dynptr_from_xdp"),
        (ProgType::SCHED_CLS, "bpf_dynptr_from_skb"),
        (ProgType::SOCKET_FILTER, "bpf_dynptr_from_skb"),
    ] {
        let mut script = Script::of(world, kind);
        script.builder.asm().mov64_reg(Reg::R6, Reg::R1);
        let note = |script: &mut Script| {
            script.builder.asm().lsh64_imm(Reg::R0, 32).arsh64_imm(Reg::R0, 32);
            script.note();
        };
        script.kfunc(from, &[R(Reg::R6), Imm(1), Stack(-16)]);
        note(&mut script);
        script.kfunc(from, &[R(Reg::R6), Imm(0), Stack(-16)]);
        note(&mut script);
        script.kfunc("bpf_dynptr_size", &[Stack(-16)]);
        note(&mut script);
        for offset in [0, 40, 60] {
            script.stack(-24, 0);
            script.call(READ, &[Stack(-24), Imm(8), Stack(-16), Imm(offset), Imm(0)]).note().note_stack(-24);
        }
        script.stack(-24, 0x0506);
        script.call(WRITE, &[Stack(-16), Imm(20), Stack(-24), Imm(8), Imm(0)]).note();
        script.kfunc("bpf_dynptr_slice", &[Stack(-16), Imm(20), Imm(0), Imm(8)]);
        script.note_target();
        // Socket filters see the packet without its Ethernet header, and do not write it.
        let filter = kind == ProgType::SOCKET_FILTER;
        if !filter {
            script.kfunc("bpf_dynptr_slice_rdwr", &[Stack(-16), Imm(28), Imm(0), Imm(8)]);
            script.note_target();
            script.call(DATA, &[Stack(-16), Imm(0), Imm(8)]).note_if_set();
        }
        let noted = script.exit(0).run_on(&packet);
        let start = if filter { 14 } else { 0 };
        let first = [EINVAL, 0, 64 - start as u64, 0, at(start), 0, at(start + 40), E2BIG, 0];
        let rest = if filter { vec![EINVAL, at(34)] } else { vec![0, 0x0506, at(28), 0] };
        assert_eq!(noted, [&first[..], &rest].concat(), "{kind}");
    }
}

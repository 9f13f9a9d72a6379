//! What programs find in a context and leave in it, and how far a frame can be changed.

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sys::LoadedProgram;
use skep_sys::abi::ProgType;
use skep_sys::request::TestRun;

use super::{NO, load, packet, run, text};
use crate::bodies::{Outcome, Script};

/// Fields of `struct __sk_buff` that have a name in the rows.
const NAMES: [(usize, &str); 16] = [
    (8, "mark"),
    (32, "priority"),
    (36, "ingress_ifindex"),
    (40, "ifindex"),
    (48, "cb0"),
    (52, "cb1"),
    (56, "cb2"),
    (60, "cb3"),
    (64, "cb4"),
    (152, "tstamp"),
    (160, "wire_len"),
    (164, "gso_segs"),
    (176, "gso_size"),
    (180, "tstamp_type"),
    (184, "hwtstamp"),
    (0, "len"),
];
const CONTEXT: usize = 192;

/// The name of the word there, or its offset.
fn name(offset: usize) -> String {
    NAMES
        .iter()
        .find(|(at, _)| *at == offset)
        .map_or_else(|| offset.to_string(), |(_, name)| format!("\"{name}\""))
}

fn word(context: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(context[offset..offset + 4].try_into().unwrap())
}

/// Which words of a context may be given, and which are set afterwards.
pub(super) fn context_fields(s: &mut Script<'_>, prog: &LoadedProgram) {
    let frame = packet(64);
    let is_accepted = |offset: usize| {
        let mut context = [0; CONTEXT];
        context[offset..offset + 4].copy_from_slice(&1u32.to_ne_bytes());
        run(prog, &frame, |r| r.ctx_in = &context).is_ok()
    };
    let accepted: Vec<String> = (0..CONTEXT).step_by(4).filter(|at| is_accepted(*at)).map(name).collect();
    s.row("ctx_in: single nonzero field (=1) accepted", format!("[{}]", accepted.join(", ")));
    let mut out = [0; CONTEXT];
    let ran = run(prog, &frame, |r| r.ctx_out = &mut out);
    s.row("ctx_in none, ctx_out=192", format!("{} len field={}", text(&ran), word(&out, 0)));
    let set = (0..CONTEXT).step_by(4).filter(|at| word(&out, *at) != 0);
    let set: Vec<String> = set.map(|at| format!("{}: {}", name(at), word(&out, at))).collect();
    s.row("ctx_out contents (nonzero fields)", format!("{{{}}}", set.join(", ")));
}

pub(super) fn sched_cls(mut s: Script<'_>) {
    let kernel = s.kernel;
    let load = |build: &dyn Fn(&mut Assembler)| {
        let loaded = load(kernel, ProgType::SCHED_CLS, NO, |code| {
            build(code);
            code
        });
        loaded.unwrap()
    };
    let frame = packet(64);
    let writes = load(&|code| {
        code.mov64_imm(Reg::R2, 77);
        for offset in [8, 48, 32] {
            code.stx(Size::W, Reg::R1, offset, Reg::R2);
        }
        code.mov64_imm(Reg::R0, 0);
    });
    let mut out = [0; CONTEXT];
    let ran = run(&writes, &frame, |r| r.ctx_out = &mut out);
    let outcome = match ran {
        Ok(_) => format!("[{}, {}, {}]", word(&out, 8), word(&out, 48), word(&out, 32)),
        Err((errno, _)) => errno.text(),
    };
    s.row("writes mark,cb[0],priority -> ctx_out", outcome);
    let counts = load(&|code| {
        code.ldx(Size::W, Reg::R0, Reg::R1, 48).add64_imm(Reg::R0, 1).stx(Size::W, Reg::R1, 48, Reg::R0);
    });
    let ran = run(&counts, &frame, |r| r.repeat = 10);
    s.row("repeat=10, cb[0]++ -> retval", ran.map(|r| r.retval.to_string()).map_err(|(errno, _)| errno));
    let longer = load(&|code| {
        code.mov64_imm(Reg::R2, 100).mov64_imm(Reg::R3, 0).call_helper(38);
    });
    let ran = run(&longer, &frame, |_| {});
    let outcome = ran.map(|r| format!("[{}, {}]", r.retval, r.data_size_out)).map_err(|(errno, _)| errno);
    s.row("bpf_skb_change_tail(100) -> retval,data_size_out", outcome);
}

/// Code that goes to `short` unless the frame has `len` bytes; its first one is at R2.
fn frame_start(code: &mut Assembler, len: i32) {
    code.ldx(Size::W, Reg::R2, Reg::R1, 0).ldx(Size::W, Reg::R3, Reg::R1, 4).mov64_reg(Reg::R4, Reg::R2);
    code.add64_imm(Reg::R4, len).mov64_imm(Reg::R0, -1).jmp64_reg(Cond::Gt, Reg::R4, Reg::R3, "short");
}

pub(super) fn xdp(s: &mut Script<'_>) {
    let kernel = s.kernel;
    let load = |build: &dyn Fn(&mut Assembler)| {
        let loaded = load(kernel, ProgType::XDP, NO, |code| {
            build(code);
            code.label("short")
        });
        loaded.unwrap()
    };
    let counts = load(&|code| {
        frame_start(code, 1);
        code.ldx(Size::B, Reg::R0, Reg::R2, 0).add64_imm(Reg::R0, 1).stx(Size::B, Reg::R2, 0, Reg::R0);
    });
    let (frame, mut out) = ([0; 64], [0; 64]);
    let mut request = TestRun::default();
    (request.data_in, request.data_out, request.repeat) = (&frame, &mut out, 5);
    let ran = counts.test_run(&mut request).map(|r| r.retval);
    let outcome = ran.map(|retval| format!("[{retval}, {}]", out[0])).map_err(|(errno, _)| errno);
    s.row("data[0]++ repeat=5 -> retval,data_out[0]", outcome);

    let takes_time = |repeat| run(&counts, &frame, |r| r.repeat = repeat).is_ok_and(|r| r.duration_ns > 0);
    s.row("repeat=0 vs 1 durations", format!("[{}, {}]", takes_time(0), takes_time(1)));

    // The frame says by how much.
    let adjust = |helper| {
        load(&move |code| {
            frame_start(code, 4);
            code.ldx(Size::W, Reg::R2, Reg::R2, 0).call_helper(helper);
        })
    };
    let takes = |prog: &LoadedProgram, delta: i32| {
        let mut frame = packet(64);
        frame[..4].copy_from_slice(&delta.to_ne_bytes());
        run(prog, &frame, |_| {}).is_ok_and(|r| r.retval == 0)
    };
    for (name, helper) in [("head", 44), ("meta", 54)] {
        let prog = adjust(helper);
        let taken: Vec<i32> = (-300..=0).filter(|delta| takes(&prog, *delta)).collect();
        let text =
            format!("[{}, {}, {:?}, {:?}]", taken[0], taken.len(), &taken[..4], &taken[taken.len() - 4..]);
        s.row(&format!("bpf_xdp_adjust_{name} most negative ok / all ok deltas count"), text);
    }
    let tail = adjust(65);
    let most = (0..5000).rev().find(|delta| takes(&tail, *delta));
    s.row(
        "bpf_xdp_adjust_tail max grow for 64B packet",
        most.map_or("none".to_owned(), |most| most.to_string()),
    );
}

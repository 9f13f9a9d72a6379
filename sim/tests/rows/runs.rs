//! Test runs: which kinds can be run, with what input, and what they answer.

mod details;

use std::os::fd::AsFd;

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sys::abi::{AttachType, Errno, ProgFlags, ProgType, TestRunFlags};
use skep_sys::request::{ProgLoad, TestRun, TestRunResult};
use skep_sys::{Kernel, LoadedProgram};

use crate::bodies::{Outcome, Script};

const ON_CPU: TestRunFlags = TestRunFlags::from_bits_retain(1);
const LIVE_FRAMES: TestRunFlags = TestRunFlags::from_bits_retain(2);
const CHECKSUM_COMPLETE: TestRunFlags = TestRunFlags::from_bits_retain(4);

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    for &(subject, prog_type, attach_type) in KINDS {
        matrix(Script::new(kernel, subject, lines), prog_type, attach_type);
    }
    refused(kernel, lines);
    for (subject, prog_type) in [
        ("socket_filter", ProgType::SOCKET_FILTER),
        ("sched_cls", ProgType::SCHED_CLS),
        ("cgroup_skb", ProgType::CGROUP_SKB),
        ("lwt_in", ProgType::LWT_IN),
    ] {
        buffers(Script::new(kernel, subject, lines), prog_type);
    }
    details::sched_cls(Script::new(kernel, "sched_cls", lines));
    xdp(Script::new(kernel, "xdp", lines));
    raw_tp(Script::new(kernel, "raw_tp", lines));
    syscall(Script::new(kernel, "syscall", lines));
    sk_lookup(Script::new(kernel, "sk_lookup", lines));
    packet_sizes(kernel, lines);
}

const NO: AttachType = AttachType(0);

const KINDS: &[(&str, ProgType, AttachType)] = &[
    ("socket_filter", ProgType::SOCKET_FILTER, NO),
    ("kprobe", ProgType::KPROBE, NO),
    ("sched_cls", ProgType::SCHED_CLS, NO),
    ("sched_act", ProgType::SCHED_ACT, NO),
    ("tracepoint", ProgType::TRACEPOINT, NO),
    ("xdp", ProgType::XDP, NO),
    ("perf_event", ProgType::PERF_EVENT, NO),
    ("cgroup_skb", ProgType::CGROUP_SKB, NO),
    ("cgroup_sock", ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE),
    ("lwt_in", ProgType::LWT_IN, NO),
    ("lwt_out", ProgType::LWT_OUT, NO),
    ("lwt_xmit", ProgType::LWT_XMIT, NO),
    ("sock_ops", ProgType::SOCK_OPS, NO),
    ("sk_skb", ProgType::SK_SKB, NO),
    ("cgroup_device", ProgType::CGROUP_DEVICE, NO),
    ("sk_msg", ProgType::SK_MSG, NO),
    ("raw_tp", ProgType::RAW_TRACEPOINT, NO),
    ("cgroup_sock_addr", ProgType::CGROUP_SOCK_ADDR, AttachType::CGROUP_INET4_CONNECT),
    ("lwt_seg6local", ProgType::LWT_SEG6LOCAL, NO),
    ("sk_reuseport", ProgType::SK_REUSEPORT, NO),
    ("flow_dissector", ProgType::FLOW_DISSECTOR, NO),
    ("cgroup_sysctl", ProgType::CGROUP_SYSCTL, NO),
    ("raw_tp_writable", ProgType::RAW_TRACEPOINT_WRITABLE, NO),
    ("cgroup_sockopt", ProgType::CGROUP_SOCKOPT, AttachType::CGROUP_GETSOCKOPT),
    ("sk_lookup", ProgType::SK_LOOKUP, AttachType::SK_LOOKUP),
    ("syscall", ProgType::SYSCALL, NO),
    ("netfilter", ProgType::NETFILTER, AttachType::NETFILTER),
];

/// Kinds that do not load without more.
fn refused(kernel: &Kernel, lines: &mut Vec<String>) {
    let loaded = load(kernel, ProgType::LIRC_MODE2, NO, |code| code.mov64_imm(Reg::R0, 1));
    Script::new(kernel, "lirc_mode2", lines).row("load", loaded);
}

fn load(
    kernel: &Kernel,
    prog_type: ProgType,
    attach_type: AttachType,
    build: impl FnOnce(&mut Assembler) -> &mut Assembler,
) -> Result<LoadedProgram, Errno> {
    let mut code = Assembler::new();
    build(&mut code).exit();
    let insns = code.finish().unwrap();
    let mut request = ProgLoad::new(prog_type, &insns, "GPL");
    request.expected_attach_type = attach_type;
    if prog_type == ProgType::SYSCALL {
        request.flags = ProgFlags::SLEEPABLE;
    }
    kernel.prog_load(&request, None)
}

/// A frame of that length with an IPv4 packet in it.
fn packet(len: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0; 6]);
    frame.extend([8, 0]);
    frame.extend([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    frame.resize(len, 0);
    frame
}

type Ran = Result<TestRunResult, (Errno, TestRunResult)>;

fn text(ran: &Ran) -> String {
    match ran {
        Ok(r) => format!("ok retval={} dsz_out={} csz_out={}", r.retval, r.data_size_out, r.ctx_size_out),
        Err((errno, _)) => errno.text(),
    }
}

/// The error, the return value and the length of the packet.
fn brief(ran: &Ran) -> String {
    let (errno, r) = match ran {
        Ok(r) => ("ok".to_owned(), r),
        Err((errno, r)) => (errno.text(), r),
    };
    format!("{errno} {} {}", r.retval, r.data_size_out)
}

/// A run with changes to a request that is empty.
fn run<'a>(prog: &LoadedProgram, data: &'a [u8], change: impl FnOnce(&mut TestRun<'a>)) -> Ran {
    let mut request = TestRun::default();
    request.data_in = data;
    change(&mut request);
    prog.test_run(&mut request)
}

fn matrix(mut s: Script<'_>, prog_type: ProgType, attach_type: AttachType) {
    let prog = match load(s.kernel, prog_type, attach_type, |code| code.mov64_imm(Reg::R0, 1)) {
        Ok(prog) => prog,
        // Kinds that the kernel does not have.
        Err(_) => return,
    };
    let frame = packet(64);
    let (mut data, mut context) = (vec![0; 256], vec![0; 192]);
    s.row("no args at all", text(&run(&prog, &[], |_| {})));
    let ran = prog.test_run(&mut with_out(&frame, &mut data));
    s.row("data_in=pkt(64) data_out=256", text(&ran));
    s.row("data_in=pkt no data_out", text(&run(&prog, &frame, |_| {})));
    s.row("data_in=13 bytes", text(&run(&prog, &frame[..13], |_| {})));
    s.row("data_in=14 bytes", text(&run(&prog, &frame[..14], |_| {})));
    let ran = prog.test_run(&mut with_out(&frame, &mut data[..16]));
    s.row("data_out too small (16)", brief(&ran));
    s.row("ctx_in=96 zero bytes", text(&run(&prog, &[], |r| r.ctx_in = &[0; 96])));
    let mut request = with_out(&frame, &mut data);
    request.ctx_in = &[0; 192];
    request.ctx_out = &mut context;
    s.row("data_in + ctx_in zeros(192) ctx_out(192)", text(&prog.test_run(&mut request)));
    let ran = run(&prog, &frame, |r| r.repeat = 10);
    let (errno, result) = match &ran {
        Ok(r) => ("ok".to_owned(), r),
        Err((errno, r)) => (errno.text(), r),
    };
    let time = if result.duration_ns > 0 { "dur>0" } else { "dur=0" };
    s.row("repeat=10", format!("{errno} {} {time}", result.retval));
    let flagged = |flags| text(&run(&prog, &frame, |r| r.flags = flags));
    s.row("flags=ON_CPU data_in", flagged(ON_CPU));
    s.row("flags=XDP_LIVE_FRAMES data_in", flagged(LIVE_FRAMES));
    s.row("flags=SKB_CHECKSUM_COMPLETE data_in", flagged(CHECKSUM_COMPLETE));
    s.row("flags=8 data_in", flagged(TestRunFlags::from_bits_retain(8)));
    s.row("batch_size=8 no live", text(&run(&prog, &frame, |r| r.batch_size = 8)));
}

fn with_out<'a>(frame: &'a [u8], out: &'a mut [u8]) -> TestRun<'a> {
    let mut request = TestRun::default();
    request.data_in = frame;
    request.data_out = out;
    request
}

/// Fields of a context of socket buffers.
const FIELDS: [(&str, i16); 14] = [
    ("len", 0),
    ("pkt_type", 4),
    ("mark", 8),
    ("protocol", 16),
    ("vlan_present", 20),
    ("priority", 32),
    ("ingress_ifindex", 36),
    ("ifindex", 40),
    ("hash", 68),
    ("napi_id", 84),
    ("family", 88),
    ("wire_len", 160),
    ("gso_segs", 164),
    ("gso_size", 176),
];

fn buffers(mut s: Script<'_>, prog_type: ProgType) {
    let kernel = s.kernel;
    let frame = packet(64);
    for (field, offset) in FIELDS {
        let loaded = load(kernel, prog_type, NO, |code| code.ldx(Size::W, Reg::R0, Reg::R1, offset));
        let outcome = match loaded {
            Err(errno) => format!("LOAD {}", errno.text()),
            Ok(prog) => match run(&prog, &frame, |_| {}) {
                Ok(r) => format!("{:#x} (ok)", r.retval),
                Err((errno, _)) => errno.text(),
            },
        };
        s.row(&format!("ctx.{field} default"), outcome);
    }
    for (label, size, offset) in [
        ("LD_ABS B[0]", Size::B, 0),
        ("LD_ABS H[12]", Size::H, 12),
        ("LD_ABS H[1000] (OOB: program returns)", Size::H, 1000),
    ] {
        let loaded =
            load(kernel, prog_type, NO, |code| code.mov64_reg(Reg::R6, Reg::R1).ld_abs(size, offset));
        let outcome = match loaded {
            Err(errno) => errno.text(),
            Ok(prog) => match run(&prog, &frame, |_| {}) {
                Ok(r) => format!("{:#x}", r.retval),
                Err((errno, _)) => errno.text(),
            },
        };
        s.row(label, outcome);
    }
    let retval = |loaded: Result<LoadedProgram, Errno>, hex: bool| match loaded {
        Err(errno) => errno.text(),
        Ok(prog) => match run(&prog, &frame, |_| {}) {
            Ok(r) if hex => format!("{:#x}", r.retval),
            Ok(r) => r.retval.to_string(),
            Err((errno, _)) => errno.text(),
        },
    };
    let length = load(kernel, prog_type, NO, |code| {
        code.ldx(Size::W, Reg::R2, Reg::R1, 76).ldx(Size::W, Reg::R0, Reg::R1, 80).sub64_reg(Reg::R0, Reg::R2)
    });
    s.row("data_end-data", retval(length, false));
    let first = load(kernel, prog_type, NO, |code| {
        code.ldx(Size::W, Reg::R2, Reg::R1, 76)
            .ldx(Size::W, Reg::R3, Reg::R1, 80)
            .mov64_reg(Reg::R4, Reg::R2);
        code.add64_imm(Reg::R4, 1).mov64_imm(Reg::R0, 0).jmp64_reg(Cond::Gt, Reg::R4, Reg::R3, "short");
        code.ldx(Size::B, Reg::R0, Reg::R2, 0).label("short")
    });
    s.row("*(u8*)data (eth dst=0xff / ip ver=0x45)", retval(first, true));
    let prog = load(kernel, prog_type, NO, |code| code.mov64_imm(Reg::R0, 1)).unwrap();
    let context = |input: &[u8], out: usize| {
        let mut out = vec![0; out];
        text(&run(&prog, &frame, |r| {
            r.ctx_in = input;
            r.ctx_out = &mut out;
        }))
    };
    for size in [1, 4, 100, 191, 192, 193, 200, 256] {
        s.row(&format!("ctx_in size={size} ctx_out=256"), context(&vec![0; size], 256));
    }
    let mut tail = vec![0; 200];
    tail[199] = 1;
    s.row("ctx_in size=200 nonzero tail", context(&tail, 256));
    details::context_fields(&mut s, &prog);
    s.row("ctx_out=100", context(&[0; 192], 100));
    for len in [1500, 1514, 3000, 3520, 4000, 65535] {
        s.row(&format!("data_in len={len}"), text(&run(&prog, &packet(len), |_| {})));
    }
}

fn xdp(mut s: Script<'_>) {
    let kernel = s.kernel;
    let load = |build: &dyn Fn(&mut Assembler)| {
        load(kernel, ProgType::XDP, NO, |code| {
            build(code);
            code
        })
        .unwrap()
    };
    let length = load(&|code| {
        code.ldx(Size::W, Reg::R2, Reg::R1, 0).ldx(Size::W, Reg::R0, Reg::R1, 4).sub64_reg(Reg::R0, Reg::R2);
    });
    for len in [14, 64, 1500, 3520, 3576, 3584, 4000, 9000] {
        let ran = run(&length, &packet(len), |_| {});
        s.row(&format!("data_end-data for data_in={len}"), text(&ran));
    }
    for (field, offset) in [("ingress_ifindex", 12), ("rx_queue_index", 16)] {
        let prog = load(&|code| {
            code.ldx(Size::W, Reg::R0, Reg::R1, offset);
        });
        let ran = run(&prog, &packet(64), |_| {});
        let outcome = ran.map(|r| format!("{:#x}", r.retval)).map_err(|(errno, _)| errno);
        s.row(&format!("ctx.{field} default"), outcome);
    }
    for (name, helper, deltas) in [
        ("head", 44, &[-256, -257, -192, 20, 50, 51][..]),
        ("tail", 65, &[-50, -51, -60, 100, 1000, 3000, 3300, 4000]),
        ("meta", 54, &[-4, -32, -36, -256, 4]),
    ] {
        for &delta in deltas {
            let prog = load(&|code| {
                code.mov64_imm(Reg::R2, delta).call_helper(helper);
            });
            let outcome = match run(&prog, &packet(64), |_| {}) {
                Ok(r) => format!("{} {}", r.retval.cast_signed(), r.data_size_out),
                Err((errno, _)) => errno.text(),
            };
            s.row(&format!("bpf_xdp_adjust_{name}({delta}) retval,dsz_out"), outcome);
        }
    }
    for (label, value) in [("invalid action 99 returned as-is", 99), ("retval -1", -1)] {
        let prog = load(&|code| {
            code.mov64_imm(Reg::R0, value);
        });
        let outcome = match run(&prog, &packet(64), |_| {}) {
            Ok(r) if value < 0 => format!("{:#x}", r.retval),
            Ok(r) => r.retval.to_string(),
            Err((errno, _)) => errno.text(),
        };
        s.row(label, outcome);
    }
    details::xdp(&mut s);
    let pass = load(&|code| {
        code.mov64_imm(Reg::R0, 2);
    });
    contexts(&mut s, &pass);
    let mut data = vec![0; 256];
    let mut live = with_out(&[], &mut data);
    let frame = packet(64);
    live.data_in = &frame;
    live.flags = LIVE_FRAMES;
    s.row("LIVE_FRAMES data_out given", text(&pass.test_run(&mut live)));
    let batch = |repeat, batch_size| {
        text(&run(&pass, &frame, |r| {
            (r.flags, r.repeat, r.batch_size) = (LIVE_FRAMES, repeat, batch_size);
        }))
    };
    s.row("LIVE_FRAMES repeat=64 batch=8", batch(64, 8));
    s.row("LIVE_FRAMES batch=300 (>256)", batch(1, 300));
}

/// The words of a context.
fn numbers(context: &[u8; 24]) -> String {
    let words = context.chunks_exact(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap()).to_string());
    words.collect::<Vec<_>>().join(", ")
}

/// What `xdp_md` a run takes: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn contexts(s: &mut Script<'_>, pass: &LoadedProgram) {
    let frame = packet(64);
    let context = |words: [u32; 6]| {
        let mut out = [0; 24];
        let input = words.map(u32::to_ne_bytes).concat();
        let ran = run(pass, &frame, |r| {
            r.ctx_in = &input;
            r.ctx_out = &mut out;
        });
        match ran {
            Ok(_) => {
                format!("{} ctx_out=({})", text(&ran), numbers(&out))
            }
            Err(_) => text(&ran),
        }
    };
    for (label, words) in [
        ("all zero", [0; 6]),
        ("data_end=64", [0, 64, 0, 0, 0, 0]),
        ("data_end=63", [0, 63, 0, 0, 0, 0]),
        ("data=4,end=64", [4, 64, 0, 0, 0, 0]),
        ("data=4,meta=0,end=64", [4, 64, 0, 0, 0, 0]),
        ("data=4,meta=4", [4, 64, 4, 0, 0, 0]),
        ("data=8,end=68", [8, 68, 0, 0, 0, 0]),
        ("data=3", [3, 64, 0, 0, 0, 0]),
        ("data=36", [36, 64, 0, 0, 0, 0]),
        ("ingress_ifindex=1", [0, 64, 0, 1, 0, 0]),
        ("ingress_ifindex=1 rxq=0", [0, 64, 0, 1, 0, 0]),
    ] {
        s.row(&format!("ctx_in xdp_md {label}"), context(words));
    }
    s.row("ctx_in xdp_md ingress 1 rxq 99", context([0, 64, 0, 1, 99, 0]));
    s.row("ctx_in xdp_md ingress 9999", context([0, 64, 0, 9999, 0, 0]));
    s.row("ctx_in xdp_md rxq=1 only", context([0, 64, 0, 0, 1, 0]));
    s.row("ctx_in xdp_md egress_ifindex=1", context([0, 64, 0, 0, 0, 1]));
    let mut out = [1; 24];
    let ran = run(pass, &frame, |r| r.ctx_out = &mut out);
    s.row("ctx_out without ctx_in", format!("{} ({})", text(&ran), numbers(&out)));
    for size in [4, 12, 20, 23, 24, 25, 32] {
        let (input, mut out) = (vec![0; size], [0; 24]);
        let ran = run(pass, &frame, |r| {
            r.ctx_in = &input;
            r.ctx_out = &mut out;
        });
        s.row(&format!("ctx_in size={size} (zeros)"), text(&ran));
    }
}

fn raw_tp(mut s: Script<'_>) {
    let kernel = s.kernel;
    let load = |build: &dyn Fn(&mut Assembler)| {
        load(kernel, ProgType::RAW_TRACEPOINT, NO, |code| {
            build(code);
            code
        })
        .unwrap()
    };
    let reads = load(&|code| {
        code.ldx(Size::DW, Reg::R0, Reg::R1, 8);
    });
    for size in [8, 16, 96, 97, 104] {
        let context = vec![5; size];
        let ran = run(&reads, &[], |r| r.ctx_in = &context);
        s.row(&format!("ctx_in size={size} (prog reads arg1)"), text(&ran));
    }
    s.row("ctx_in size=0 (prog reads arg1)", text(&run(&reads, &[], |_| {})));
    let zero = load(&|code| {
        code.mov64_imm(Reg::R0, 0);
    });
    let on = |cpu, flags| text(&run(&zero, &[], |r| (r.cpu, r.flags) = (cpu, flags)));
    s.row("flags=ON_CPU cpu=1", on(1, ON_CPU));
    s.row("flags=ON_CPU cpu=99", on(9999, ON_CPU));
    s.row("cpu=1 without flag", on(1, TestRunFlags::empty()));
    s.row("repeat=1", text(&run(&zero, &[], |r| r.repeat = 1)));
    let mut out = [0; 16];
    s.row("ctx_out", text(&run(&zero, &[], |r| r.ctx_out = &mut out)));
    let cpu = load(&|code| {
        code.call_helper(8);
    });
    let ran = run(&cpu, &[], |r| (r.cpu, r.flags) = (1, ON_CPU));
    let outcome = ran.map(|r| r.retval.to_string()).map_err(|(errno, _)| errno);
    s.row("smp_processor_id on cpu 1", outcome);
    let wide = load(&|code| {
        code.ld_imm64(Reg::R0, 0x1_0000_0001);
    });
    let ran = run(&wide, &[], |_| {}).map(|r| format!("{:#x}", r.retval)).map_err(|(errno, _)| errno);
    s.row("64-bit return truncated to u32", ran);
}

fn syscall(mut s: Script<'_>) {
    let kernel = s.kernel;
    // Writes its own return value into the context.
    let loaded = load(kernel, ProgType::SYSCALL, NO, |code| {
        code.mov64_imm(Reg::R0, 2).stx(Size::DW, Reg::R1, 0, Reg::R0)
    });
    let Ok(prog) = loaded else { return };
    for size in [4, 7, 8, 16, 65535, 65536] {
        let mut context = vec![0; size];
        let ran = run(&prog, &[], |r| r.ctx = &mut context);
        s.row(&format!("prog touches ctx[0..8): ctx_in={size}, ctx_out=0"), text(&ran));
    }
    s.row("prog touches ctx[0..8): ctx_in=0, ctx_out=0", text(&run(&prog, &[], |_| {})));
    let mut context = vec![0; 16];
    let ran = run(&prog, &[], |r| r.ctx = &mut context);
    s.row("ctx_out=0 with ctx_in=16", text(&ran));
    s.row("ctx_in buffer itself modified in place", context[..8].to_vec().text().replace("ok:", ""));
    // A length of the output is refused, whatever it is.
    for size in [0, 4, 8, 16, 65535, 65536] {
        let (mut context, mut out) = (vec![0; size], vec![0; size.min(64)]);
        let ran = run(&prog, &[], |r| (r.ctx, r.ctx_out) = (&mut context, &mut out));
        s.row(&format!("ctx_in={size} ctx_out=min(..,64)"), text(&ran));
    }
    let refused = |change: fn(&mut TestRun<'_>)| {
        let mut context = vec![0; 16];
        let mut request = TestRun::default();
        request.ctx = &mut context;
        change(&mut request);
        text(&prog.test_run(&mut request))
    };
    s.row("repeat=1", refused(|r| r.repeat = 1));
    s.row("flags=ON_CPU", refused(|r| r.flags = ON_CPU));
    let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
    let loaded = kernel.prog_load(&ProgLoad::new(ProgType::SYSCALL, &insns, "GPL"), None);
    s.row("load without F_SLEEPABLE", loaded);
}

fn sk_lookup(mut s: Script<'_>) {
    let prog = load(s.kernel, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP, |code| code.mov64_imm(Reg::R0, 1));
    let prog = prog.unwrap();
    for size in [64, 72, 56] {
        let mut context = vec![0; size];
        // Behind the cookie: the family and the protocol.
        context[8..12].copy_from_slice(&2u32.to_ne_bytes());
        context[12..16].copy_from_slice(&6u32.to_ne_bytes());
        let mut out = vec![0; 72];
        let ran = run(&prog, &[], |r| {
            r.ctx_in = &context;
            r.ctx_out = &mut out;
        });
        s.row(&format!("ctx_in AF_INET/TCP size {size}"), text(&ran));
    }
    let _ = prog.as_fd();
}

/// How short and how long a packet may be.
fn packet_sizes(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, prog_type, attach_type) in [
        ("socket_filter", ProgType::SOCKET_FILTER, NO),
        ("sched_cls", ProgType::SCHED_CLS, NO),
        ("cgroup_skb", ProgType::CGROUP_SKB, NO),
        ("netfilter", ProgType::NETFILTER, AttachType::NETFILTER),
    ] {
        let Ok(prog) = load(kernel, prog_type, attach_type, |code| code.mov64_imm(Reg::R0, 1)) else {
            continue;
        };
        let mut s = Script::new(kernel, subject, lines);
        for len in [14, 15, 20, 33, 34, 3521, 3530, 3584, 3600, 3776, 3777] {
            s.row(&format!("data_in={len}"), text(&run(&prog, &packet(len), |_| {})));
        }
    }
}

//! Test runs of programs of each kind, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod support;

use std::io::Read;

use skep::asm::{Cond, Reg, Size};
use skep::btf::Kind;
use skep::map::Map;
use skep::program::{FlowKeys, NfHookState, ProgramBuilder, RunInput, SkBuff, SkLookup, XdpMd};
use skep::sys::Feature;
use skep::sys::abi::{AttachType, Errno, MapFlags, MapType, ProgFlags, ProgType, StreamId};
use skep::sys::request::MapCreate;
use skep::{Error, Kernel, Program};
use support::{chain, linux, skip};

/// A program of a kind that `write` writes, if the kernel knows the kind.
fn program(test: &str, prog_type: ProgType, write: impl FnOnce(&mut ProgramBuilder)) -> Option<Program> {
    let kernel = linux(test)?;
    if kernel.has(Feature::ProgType(prog_type)).is_unsupported() {
        skip(test, format!("this kernel has no programs of kind {prog_type}"));
        return None;
    }
    let mut builder = ProgramBuilder::new(prog_type, "GPL");
    builder.name(test);
    write(&mut builder);
    match builder.load(&kernel) {
        Ok(program) => Some(program),
        Err(error) => panic!("{}\n{}", chain(&error), error.verifier_log().unwrap_or_default()),
    }
}

/// Whether the kernel's types have this one, by which an option of test runs is told that is as old.
fn knows(kernel: &Kernel, kind: Kind, name: &str) -> bool {
    kernel.btf().is_ok_and(|btf| btf.find(name.as_bytes(), kind).is_some())
}

/// What programs print into streams with.
const PRINTS: [&str; 2] = ["bpf_stream_vprintk", "bpf_stream_vprintk_impl"];

fn prints(kernel: &Kernel) -> bool {
    PRINTS.iter().any(|name| knows(kernel, Kind::FUNC, name))
}

/// Whether an option is one that the kernel refuses since it does not know it.
fn is_refused(result: &Result<skep::program::RunOutput, Error>) -> bool {
    result.as_ref().is_err_and(|error| error.errno() == Some(Errno::EINVAL))
}

/// An IPv4 packet with nothing in it.
fn packet() -> [u8; 64] {
    let mut packet = [0; 64];
    packet[12..14].copy_from_slice(&[0x08, 0x00]);
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&[0, 50]);
    packet[22..24].copy_from_slice(&[64, 6]);
    packet
}

#[test]
fn xdp() {
    // The length of the packet, or of the metadata when there is any.
    let Some(program) = program("xdp", ProgType::XDP, |builder| {
        builder
            .asm()
            .ldx(Size::W, Reg::R2, Reg::R1, 0)
            .ldx(Size::W, Reg::R0, Reg::R1, 4)
            .ldx(Size::W, Reg::R3, Reg::R1, 8)
            .sub64_reg(Reg::R0, Reg::R2)
            .jmp64_reg(Cond::Eq, Reg::R2, Reg::R3, "done")
            .mov64_reg(Reg::R0, Reg::R2)
            .sub64_reg(Reg::R0, Reg::R3)
            .label("done")
            .exit();
    }) else {
        return;
    };
    let packet = packet();
    let output = program.run(&RunInput::packet(&packet)).unwrap();
    assert_eq!((output.retval, output.data.as_slice(), output.ctx.len()), (64, packet.as_slice(), 0));
    let output = program.run(&RunInput::packet(&packet).repeat(100)).unwrap();
    assert_eq!(output.retval, 64);

    // The same with the end said and left to be said.
    let input = RunInput::packet(&packet).context(&XdpMd { data: 8, data_end: 64, ..XdpMd::default() });
    let said = program.run(&input);
    let input = RunInput::packet(&packet).context(&XdpMd { data: 8, ..XdpMd::default() });
    let unsaid = program.run(&input);
    assert_eq!(said.is_ok(), unsaid.is_ok(), "{unsaid:?}");
    match unsaid {
        Ok(output) => {
            assert_eq!((output.retval, output.data.len()), (8, 64));
            let context: XdpMd = output.context().unwrap();
            assert_eq!((context.data, context.data_end), (8, 64));
        }
        // Contexts came in the same release as links to perf events.
        result if is_refused(&result) && Kernel::linux().has(Feature::PerfLink).is_unsupported() => {
            skip("xdp", "this kernel takes no context for XDP (Linux 5.15)");
        }
        Err(error) => panic!("{error}"),
    }

    match program.run(&RunInput::packet(&packet[..5])) {
        Err(error) => assert_eq!(
            error.to_string(),
            "program `xdp`: run it (xdp: it takes a packet of at least 14 bytes, and has 5)"
        ),
        // Older kernels put it behind a header that is not there.
        Ok(output) => assert_eq!(output.retval, 5),
    }
    match program.run(&RunInput::packet(&packet).on_cpu(0)) {
        Err(error) => {
            assert!(error.to_string().contains("it takes no RUN_ON_CPU"), "{error}");
            assert_eq!(error.errno(), Some(Errno::EINVAL));
        }
        // Older kernels do not look at it.
        Ok(output) => assert_eq!(output.retval, 64),
    }
}

#[test]
fn xdp_that_grows() {
    const ADJUST_HEAD: i32 = 44;
    let Some(program) = program("xdp_that_grows", ProgType::XDP, |builder| {
        builder.asm().mov64_imm(Reg::R2, -32).call_helper(ADJUST_HEAD).mov64_imm(Reg::R0, 2).exit();
    }) else {
        return;
    };
    let packet = packet();
    let output = program.run(&RunInput::packet(&packet)).unwrap();
    assert_eq!((output.retval, output.data.len()), (2, 96));
    assert_eq!(output.data[32..], packet);
}

#[test]
fn xdp_with_live_frames() {
    let name = "xdp_with_live_frames";
    let counted =
        linux(name).map(|kernel| Map::create(&kernel, &MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap());
    let Some(counted) = counted else { return };
    let kernel = counted.kernel().clone();
    let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
    builder.name(name).load_map_value(Reg::R1, &counted, 0);
    builder
        .asm()
        .mov64_imm(Reg::R2, 1)
        .atomic(skep::asm::AtomicOp::Add, Size::DW, Reg::R1, 0, Reg::R2)
        .mov64_imm(Reg::R0, 1) // XDP_DROP
        .exit();
    let program = builder.load(&kernel).unwrap();
    let result = program.run(&RunInput::packet(&packet()).repeat(20).live_frames(8));
    if !knows(&kernel, Kind::STRUCT, "xdp_test_data") {
        assert!(is_refused(&result), "{result:?}");
        return skip(name, "this kernel sends no frames (Linux 5.18)");
    }
    let output = result.unwrap();
    assert!(output.data.is_empty());
    assert_eq!(counted.lookup(&[0; 4]).unwrap(), Some(20u64.to_ne_bytes().to_vec()));
    let error = program.run(&RunInput::packet(&packet()).live_frames(100_000)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::E2BIG));
}

/// A program that answers the mark of a packet, and sets it to 9.
fn marks(builder: &mut ProgramBuilder) {
    builder
        .asm()
        .ldx(Size::W, Reg::R0, Reg::R1, 8)
        .mov64_imm(Reg::R2, 9)
        .stx(Size::W, Reg::R1, 8, Reg::R2)
        .exit();
}

#[test]
fn traffic_control() {
    let name = "traffic_control";
    for kind in [ProgType::SCHED_CLS, ProgType::SCHED_ACT] {
        let Some(program) = program(name, kind, marks) else { return };
        let packet = packet();
        let input = RunInput::packet(&packet).context(&SkBuff { mark: 7, ..SkBuff::default() }).repeat(1);
        match program.run(&input) {
            Ok(output) => {
                assert_eq!((output.retval, output.data.as_slice()), (7, packet.as_slice()));
                assert_eq!(output.context::<SkBuff>().unwrap().mark, 9);
            }
            Err(error) => panic!("{error}"),
        }
        let input = RunInput::packet(&packet).context(&SkBuff { hash: 7, ..SkBuff::default() });
        let error = program.run(&input).unwrap_err();
        assert!(
            error.to_string().contains("of the context, SkBuff, a run takes only some fields"),
            "{error}"
        );
        match program.run(&RunInput::packet(&packet).checksum_complete()) {
            Ok(output) => assert_eq!(output.retval, 0),
            // It came in the same release as what programs print with.
            result if is_refused(&result) && !prints(&Kernel::linux()) => {
                skip(name, "this kernel computes no checksum (Linux 6.17)");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_packet_that_grows() {
    const CHANGE_TAIL: i32 = 38;
    let Some(program) = program("a_packet_that_grows", ProgType::SCHED_CLS, |builder| {
        builder.asm().mov64_imm(Reg::R2, 8_000).mov64_imm(Reg::R3, 0).call_helper(CHANGE_TAIL).exit();
    }) else {
        return;
    };
    let output = program.run(&RunInput::packet(&packet())).unwrap();
    assert_eq!((output.retval, output.data.len()), (0, 8_000));
    assert_eq!(output.data[..64], packet());
}

#[test]
fn other_socket_buffers() {
    let name = "other_socket_buffers";
    let kinds = [
        (ProgType::SOCKET_FILTER, AttachType(0)),
        (ProgType::CGROUP_SKB, AttachType::CGROUP_INET_INGRESS),
        (ProgType::LWT_IN, AttachType(0)),
        (ProgType::LWT_OUT, AttachType(0)),
        (ProgType::LWT_XMIT, AttachType(0)),
        (ProgType::LWT_SEG6LOCAL, AttachType(0)),
    ];
    for (kind, attach_type) in kinds {
        let loaded = program(name, kind, |builder| {
            builder.expected_attach_type(attach_type).asm().mov64_imm(Reg::R0, 1).exit();
        });
        let Some(program) = loaded else { continue };
        let packet = packet();
        let output = program.run(&RunInput::packet(&packet));
        if kind == ProgType::LWT_SEG6LOCAL
            && let Err(error) = &output
        {
            assert_eq!(error.errno(), Some(Errno::ENOTSUPP), "newer kernels run none by themselves");
            continue;
        }
        let output = output.unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((output.retval, output.data.len()), (1, 64), "{kind}");
    }
}

#[test]
fn flow_dissector() {
    let Some(program) = program("flow_dissector", ProgType::FLOW_DISSECTOR, |builder| {
        builder
            .asm()
            .ldx(Size::DW, Reg::R2, Reg::R1, 144)
            .mov64_imm(Reg::R3, 34)
            .stx(Size::H, Reg::R2, 2, Reg::R3)
            .ldx(Size::W, Reg::R4, Reg::R2, 48)
            .stx(Size::H, Reg::R2, 4, Reg::R4)
            .mov64_imm(Reg::R0, 0)
            .exit();
    }) else {
        return;
    };
    let packet = packet();
    let output = program.run(&RunInput::packet(&packet)).unwrap();
    let keys = output.flow_keys().unwrap();
    assert!(output.retval <= 1, "older kernels answer whether the program was content");
    assert_eq!((output.data.len(), keys.thoff, keys.addr_proto), (56, 34, 0));
    assert_eq!(keys.nhoff, 14);
    let input = RunInput::packet(&packet).context(&FlowKeys { flags: 1, ..FlowKeys::default() });
    let keys = program.run(&input).unwrap().flow_keys().unwrap();
    assert_eq!((keys.flags, keys.addr_proto), (1, 1));
}

#[test]
fn sk_lookup() {
    let name = "sk_lookup";
    let Some(program) = program(name, ProgType::SK_LOOKUP, |builder| {
        builder
            .expected_attach_type(AttachType::SK_LOOKUP)
            .asm()
            .ldx(Size::W, Reg::R2, Reg::R1, 60)
            .mov64_imm(Reg::R0, 1)
            .jmp64_imm(Cond::Eq, Reg::R2, 80, "done")
            .mov64_imm(Reg::R0, 0)
            .label("done")
            .exit();
    }) else {
        return;
    };
    let lookup = SkLookup { family: 2, protocol: 6, local_port: 80, ..SkLookup::default() };
    let output = program.run(&RunInput::new().context(&lookup));
    if !knows(&Kernel::linux(), Kind::FUNC, "bpf_prog_test_run_sk_lookup") {
        assert_eq!(output.unwrap_err().errno(), Some(Errno::ENOTSUPP));
        return skip(name, "this kernel runs none (Linux 5.13)");
    }
    let output = output.unwrap();
    assert_eq!(output.retval, 1);
    assert_eq!(output.context::<SkLookup>().unwrap(), lookup);
    let other = SkLookup { local_port: 81, ..lookup };
    assert_eq!(program.run(&RunInput::new().context(&other)).unwrap().retval, 0);
    let error = program.run(&RunInput::new()).unwrap_err();
    assert!(error.to_string().contains("it needs a context, of type SkLookup"), "{error}");
}

#[test]
fn raw_tracepoint() {
    let name = "raw_tracepoint";
    let Some(program) = program(name, ProgType::RAW_TRACEPOINT, |builder| {
        builder
            .asm()
            .ldx(Size::DW, Reg::R0, Reg::R1, 0)
            .ldx(Size::DW, Reg::R2, Reg::R1, 8)
            .add64_reg(Reg::R0, Reg::R2)
            .exit();
    }) else {
        return;
    };
    let output = program.run(&RunInput::args(&[30, 4]));
    if !knows(&Kernel::linux(), Kind::FUNC, "bpf_prog_test_run_raw_tp") {
        assert_eq!(output.unwrap_err().errno(), Some(Errno::ENOTSUPP));
        return skip(name, "this kernel runs none (Linux 5.10)");
    }
    let output = output.unwrap();
    assert_eq!((output.retval, output.data.len(), output.ctx.len()), (34, 0, 0));
    assert_eq!(program.run(&RunInput::args(&[30, 5]).on_cpu(0)).unwrap().retval, 35);
    let error = program.run(&RunInput::args(&[30])).unwrap_err();
    assert!(error.to_string().contains("it may read more arguments than the 1 that there are"), "{error}");
    let error = program.run(&RunInput::args(&[30, 4]).on_cpu(1 << 20)).unwrap_err();
    assert!(error.to_string().contains("CPU 1048576 is not there"), "{error}");
    let packet = packet();
    let error = program.run(&RunInput::packet(&packet).repeat(3)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("it takes no packet") && text.contains("it cannot be repeated"), "{text}");
}

#[test]
fn syscall() {
    let Some(program) = program("syscall", ProgType::SYSCALL, |builder| {
        builder
            .flags(ProgFlags::SLEEPABLE)
            .asm()
            .ldx(Size::DW, Reg::R2, Reg::R1, 0)
            .add64_imm(Reg::R2, 5)
            .stx(Size::DW, Reg::R1, 8, Reg::R2)
            .mov64_imm(Reg::R0, 3)
            .exit();
    }) else {
        return;
    };
    let output = program.run(&RunInput::new().context(&[7u64, 0])).unwrap();
    assert_eq!((output.retval, output.context::<[u64; 2]>()), (3, Some([7, 12])));
    let error = program.run(&RunInput::new().context(&[7u64, 0]).repeat(2)).unwrap_err();
    assert!(error.to_string().contains("it cannot be repeated"), "{error}");
}

#[test]
fn netfilter() {
    let Some(program) = program("netfilter", ProgType::NETFILTER, |builder| {
        builder.expected_attach_type(AttachType::NETFILTER).asm().mov64_imm(Reg::R0, 1).exit();
    }) else {
        return;
    };
    let packet = packet();
    assert_eq!(program.run(&RunInput::packet(&packet)).unwrap().retval, 1);
    let input = RunInput::packet(&packet).context(&NfHookState { hook: 0, pf: 2, ..NfHookState::default() });
    assert_eq!(program.run(&input).unwrap().retval, 1);
    let input = RunInput::packet(&packet).context(&NfHookState { pf: 77, ..NfHookState::default() });
    assert!(program.run(&input).unwrap_err().to_string().contains("of the context, NfHookState"));
}

#[test]
fn struct_ops() {
    let name = "struct_ops";
    if !knows(&Kernel::linux(), Kind::STRUCT, "bpf_struct_ops_bpf_dummy_ops") {
        return skip(name, "this kernel has no table to test with (Linux 5.16, CONFIG_NET)");
    }
    let Some(program) = program(name, ProgType::STRUCT_OPS, |builder| {
        builder.expected_attach_type(AttachType(0)).attach_to("bpf_dummy_ops");
        builder.asm().mov64_imm(Reg::R0, 42).exit();
    }) else {
        return;
    };
    match program.run(&RunInput::args(&[0])) {
        Ok(output) => assert_eq!(output.retval, 42),
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            skip(name, "this kernel runs them only with a state in memory (Linux 6.10)");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn kinds_that_do_not_run_by_themselves() {
    let name = "kinds_that_do_not_run_by_themselves";
    let Some(program) = program(name, ProgType::CGROUP_SOCK_ADDR, |builder| {
        builder.expected_attach_type(AttachType::CGROUP_INET4_CONNECT).asm().mov64_imm(Reg::R0, 1).exit();
    }) else {
        return;
    };
    let error = program.run(&RunInput::new()).unwrap_err();
    assert_eq!(error.kind(), skep::ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("no kernel runs cgroup_sock_addr programs by themselves: attach it"),
        "{error}"
    );
}

#[test]
fn what_a_program_writes_is_read() {
    let name = "what_a_program_writes_is_read";
    let Some(kernel) = linux(name) else { return };
    // Where both have types, programs call the one without a suffix.
    let Some(print) = PRINTS.into_iter().find(|name| knows(&kernel, Kind::FUNC, name)) else {
        return skip(name, "this kernel has no streams (Linux 6.17)");
    };
    let mut request = MapCreate::new(MapType::ARRAY, 4, 16, 1);
    request.flags = MapFlags::RDONLY_PROG;
    let format = Map::create(&kernel, &request).unwrap();
    format.update(&[0; 4], b"value %d\n\0\0\0\0\0\0\0", Default::default()).unwrap();
    format.freeze().unwrap();
    let mut builder = ProgramBuilder::new(ProgType::SCHED_CLS, "GPL");
    builder.name("prints").asm().mov64_imm(Reg::R1, StreamId::STDOUT.0.cast_signed());
    builder.load_map_value(Reg::R2, &format, 0);
    builder
        .asm()
        .st(Size::DW, Reg::R10, -8, 42)
        .mov64_reg(Reg::R3, Reg::R10)
        .add64_imm(Reg::R3, -8)
        .mov64_imm(Reg::R4, 8)
        .mov64_imm(Reg::R5, 0);
    builder.call_kfunc(print).asm().exit();
    let program = match builder.load(&kernel) {
        Ok(program) => program,
        Err(error) => panic!("{}\n{}", chain(&error), error.verifier_log().unwrap_or_default()),
    };
    let written = program.run(&RunInput::packet(&packet()).repeat(2)).unwrap().retval.cast_signed();
    if written == -Errno::ENOMEM.0 {
        // It takes no lock, so some machines have none at all, such as those that defer setting up their memory.
        return skip(name, "this kernel has no memory for streams");
    }
    assert_eq!(written, 0);
    let mut text = String::new();
    let mut stdout = program.stream(StreamId::STDOUT);
    let mut first = [0; 5];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"value");
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, " 42\nvalue 42\n");
    assert_eq!(stdout.read(&mut first).unwrap(), 0);
    program.run(&RunInput::packet(&packet())).unwrap();
    assert_eq!(stdout.read_to_string(&mut text).unwrap(), 9);
    text.clear();
    program.stream(StreamId::STDERR).read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

//! Programs of sockets do what they were seen to do on Linux 6.18, and what only a simulated kernel can be asked.

#![allow(missing_docs)]

mod socket_bodies;

use std::os::fd::AsFd;

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sim::{Effect, SimKernel, SockOp, Socket, SocketCall, SocketId, TcpEvent};
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{LinkCreate, LinkTarget, ProgLoad};
use skep_sys::{Kernel, LinkFd, LoadedProgram};
use socket_bodies::simulated::Simulated;

const GOLDEN: &str = include_str!("../../testdata/golden/sockets_6.18.txt");

#[test]
fn programs_of_sockets() {
    let mut golden = std::collections::BTreeMap::new();
    for block in GOLDEN.split("\n\n") {
        let (name, lines) = block.split_once('\n').unwrap();
        golden.insert(name, lines.trim_end());
    }
    let bodies = socket_bodies::all::<Simulated>();
    assert_eq!(golden.len(), bodies.len());
    for (name, body) in bodies {
        let found = body(&Simulated::new()).unwrap().join("\n");
        assert_eq!(found, golden[name.as_str()], "{name}");
    }
}

fn load(kernel: &Kernel, kind: ProgType, name: &str, write: impl FnOnce(&mut Assembler)) -> LoadedProgram {
    let mut asm = Assembler::new();
    asm.mov64_reg(Reg::R6, Reg::R1);
    write(&mut asm);
    let insns = asm.exit().finish().unwrap();
    let mut request = ProgLoad::new(kind, &insns, "GPL");
    request.name = name;
    kernel.prog_load(&request, None).unwrap()
}

fn attach_to_group(sim: &SimKernel, kernel: &Kernel, prog: &LoadedProgram, path: &str) -> LinkFd {
    let group = sim.open_cgroup(path).unwrap();
    let kind = AttachType::CGROUP_SOCK_OPS;
    kernel.link_create(&LinkCreate::new(prog.as_fd(), LinkTarget::Fd(group.as_fd()), kind)).unwrap()
}

/// A program that writes a number into `reply` in an event, asks to be told of everything when a socket connects, and refuses
/// or not.
fn replies(kernel: &Kernel, name: &str, op: u32, reply: i32, value: i32) -> LoadedProgram {
    load(kernel, ProgType::SOCK_OPS, name, |asm| {
        asm.ldx(Size::W, Reg::R7, Reg::R6, 0);
        asm.jmp64_imm(Cond::Ne, Reg::R7, op.cast_signed(), "out");
        asm.mov64_imm(Reg::R1, reply).stx(Size::W, Reg::R6, 4, Reg::R1);
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0x17f).call_helper(59);
        asm.label("out").mov64_imm(Reg::R0, value);
    })
}

fn pair() -> (SimKernel, Kernel, SocketId, SocketId) {
    let sim = SimKernel::new();
    sim.add_cgroup("/outer").unwrap();
    sim.add_cgroup("/outer/inner").unwrap();
    let server = sim.add_socket(Socket::tcp("10.0.0.1:80".parse().unwrap()));
    let client = sim.add_socket(Socket::tcp("10.0.0.2:0".parse().unwrap()).cgroup("/outer/inner"));
    let kernel = Kernel::new(sim.clone());
    assert!(sim.fire(TcpEvent::listen(server)).unwrap().runs.is_empty());
    (sim, kernel, server, client)
}

#[test]
fn programs_of_groups_share_their_context() {
    let (sim, kernel, server, client) = pair();
    let inner = replies(&kernel, "inner", SockOp::TIMEOUT_INIT.0, 77, 1);
    let outer = replies(&kernel, "outer", SockOp::RWND_INIT.0, 9, 1);
    let _links = (
        attach_to_group(&sim, &kernel, &outer, "/outer"),
        attach_to_group(&sim, &kernel, &inner, "/outer/inner"),
    );
    let outcome = sim.fire(SocketCall::connect(client, "10.0.0.1:80".parse().unwrap())).unwrap();
    assert_eq!(outcome.result, Ok(()));
    let told: Vec<_> = outcome.tcp.iter().map(|run| (run.op.0, &*run.program, run.reply)).take(6).collect();
    // The programs of the group of the socket come first; the outer one sees what they left.
    assert_eq!(
        told,
        [
            (3, "inner", 0),
            (3, "outer", 0),
            (2, "inner", 0),
            (2, "outer", 9),
            (1, "inner", 77),
            (1, "outer", 77)
        ]
    );
    // Flags that there are not are the answer, and not set.
    assert_eq!(sim.socket(client).unwrap().callback_flags, 0x7f);
    assert!(outcome.effects.contains(&Effect::CallbackFlags { socket: client, flags: 0x7f }));
    let peer = outcome.peer.unwrap();
    assert_eq!((sim.peer(client), sim.accept(server), sim.accept(server)), (Some(peer), Some(peer), None));
    // What happens by itself on Linux, a test lets happen.
    let outcome = sim.fire(TcpEvent::round_trip(client, 800)).unwrap();
    assert_eq!(outcome.ops(), [SockOp::RTT_CB; 2]);
    assert_eq!(outcome.runs[0].args, [800, 807, 0, 0]);
    let ops = |event: TcpEvent| sim.fire(event).unwrap().ops();
    assert_eq!(ops(TcpEvent::retransmit(client)), [SockOp::RETRANS_CB; 2]);
    assert_eq!(ops(TcpEvent::timeout(client)), [SockOp::RTO_CB; 2]);
    assert_eq!(sim.socket(client).unwrap().tcp.total_retrans, 1);
    // Sockets of other groups are nobody's business.
    assert_eq!(ops(TcpEvent::retransmit(peer)), []);
    // The end of the client is told that the other one is closed.
    let told = [SockOp::PARSE_HDR_OPT_CB, SockOp::PARSE_HDR_OPT_CB, SockOp::STATE_CB, SockOp::STATE_CB];
    assert_eq!(ops(TcpEvent::close(peer)), told);
}

#[test]
fn what_cannot_happen_is_said() {
    let (sim, _kernel, _, client) = pair();
    let udp = sim.add_socket(Socket::udp("10.0.0.1:53".parse().unwrap()));
    let errno = |event: TcpEvent| sim.fire(event).unwrap_err().errno();
    assert_eq!(errno(TcpEvent::listen(udp)), Some(Errno::EOPNOTSUPP));
    assert_eq!(errno(TcpEvent::close(SocketId(99))), Some(Errno::ENOENT));
    assert_eq!(errno(TcpEvent::close(client).cpu(64)), Some(Errno::ENXIO));
    // An end without another one in this kernel.
    let outcome = sim.fire(SocketCall::connect(client, "10.9.9.9:1".parse().unwrap())).unwrap();
    assert_eq!((outcome.result, outcome.peer), (Ok(()), None));
    assert_eq!(errno(TcpEvent::listen(client)), Some(Errno::EINVAL));
    assert_ne!(sim.socket(client).unwrap().local.port(), 0);
    let _ = sim.fire(TcpEvent::close(client)).unwrap();
    assert_eq!(sim.socket(client), None);
}

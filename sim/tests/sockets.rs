//! Programs of sockets do what they were seen to do on Linux 6.18, and what only a simulated kernel can be asked.

#![allow(missing_docs)]

mod programs;
mod socket_bodies;

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Cond, Reg, Size, SwapWidth};
use skep_sim::{
    Effect, Fate, Moved, Receive, ReceiveBytes, Route, RouteKind, SendBytes, SimKernel, SockOp, Socket,
    SocketCall, SocketId, TcpEvent,
};
use skep_sys::abi::{AttachType, Errno, MapType, ProgType, UpdateFlags};
use skep_sys::request::{LinkCreate, LinkTarget, MapCreate};
use skep_sys::{Kernel, LinkFd, LoadedProgram, MapFd};
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
    load_as(kernel, kind, AttachType(0), name, write)
}

/// Its context is in `r6`.
fn load_as(
    kernel: &Kernel,
    kind: ProgType,
    attach: AttachType,
    name: &str,
    write: impl FnOnce(&mut Assembler),
) -> LoadedProgram {
    programs::load_as(kernel, kind, attach, name, |asm| {
        asm.mov64_reg(Reg::R6, Reg::R1);
        write(asm);
    })
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
    // A connection that is closed before anybody accepted it waits for nobody.
    // One to an address of this machine needs somebody there.
    let own = "10.0.0.7".parse::<std::net::IpAddr>().unwrap();
    sim.add_route(Route::new(own, 32, 1).kind(RouteKind::Local).table(255));
    let connect = |from: &str, port: u16| {
        let client = sim.add_socket(Socket::tcp(from.parse().unwrap()));
        sim.fire(SocketCall::connect(client, (own, port).into())).unwrap().result
    };
    assert_eq!(connect("10.0.0.7:0", 82), Err(Errno::ECONNREFUSED));
    sim.add_socket(Socket::tcp((own, 82).into()).listening());
    assert_eq!(connect("10.0.0.7:0", 82), Ok(()));
    let server = sim.add_socket(Socket::tcp("10.0.0.1:81".parse().unwrap()).listening());
    let client = sim.add_socket(Socket::tcp("10.0.0.2:0".parse().unwrap()));
    let outcome = sim.fire(SocketCall::connect(client, "10.0.0.1:81".parse().unwrap())).unwrap();
    for end in [client, outcome.peer.unwrap()] {
        let _ = sim.fire(TcpEvent::close(end)).unwrap();
    }
    assert_eq!(sim.accept(server), None);
    assert_eq!(sim.fire(TcpEvent::close(server)).unwrap().migrated, []);
}

fn map(kernel: &Kernel, kind: MapType, key: u32, value: u32) -> MapFd {
    kernel.map_create(&MapCreate::new(kind, key, value, 8)).unwrap()
}

fn put(sim: &SimKernel, map: &MapFd, key: u32, socket: SocketId) -> Result<(), Option<Errno>> {
    let fd = sim.open_socket(socket).unwrap();
    let put = map.update_fd(&key.to_ne_bytes(), fd.as_fd(), UpdateFlags::empty());
    put.map_err(|error| error.errno())
}

/// Puts a key on the stack of a program.
fn key(asm: &mut Assembler, register: Reg, value: i32) {
    asm.st(Size::W, Reg::R10, -4, value).mov64_reg(register, Reg::R10).add64_imm(register, -4);
}

/// A program that chooses the socket at a place of a map, and answers something.
fn selects(kernel: &Kernel, attach: AttachType, map: &MapFd, place: i32, value: i32) -> LoadedProgram {
    load_as(kernel, ProgType::SK_REUSEPORT, attach, "selects", |asm| {
        asm.mov64_reg(Reg::R1, Reg::R6).ld_map_fd(Reg::R2, map.as_fd().as_raw_fd());
        key(asm, Reg::R3, place);
        asm.mov64_imm(Reg::R4, 0).call_helper(82).mov64_imm(Reg::R0, value);
    })
}

#[test]
fn programs_choose_among_sockets_that_share_a_port() {
    let (sim, kernel, _, client) = pair();
    let at = "10.0.0.1:443".parse().unwrap();
    let listeners = [(); 3].map(|()| sim.add_socket(Socket::tcp(at).reuse_port().listening()));
    assert_eq!(sim.sharing_port(listeners[0]), listeners);
    let array = map(&kernel, MapType::REUSEPORT_SOCKARRAY, 4, 8);
    assert_eq!(put(&sim, &array, 0, client), Err(Some(Errno::EINVAL)));
    for (place, listener) in (0..).zip(listeners) {
        put(&sim, &array, place, listener).unwrap();
    }
    assert_eq!(put(&sim, &array, 5, listeners[0]), Err(Some(Errno::EBUSY)));
    let elsewhere = sim.add_socket(Socket::tcp("10.0.0.1:444".parse().unwrap()).reuse_port().listening());
    put(&sim, &array, 6, elsewhere).unwrap();
    let mut cookie = [0; 8];
    array.lookup(&1_u32.to_ne_bytes(), &mut cookie, UpdateFlags::empty()).unwrap();
    assert_eq!(u64::from_ne_bytes(cookie), listeners[1].0);

    let connect = || {
        let client = sim.add_socket(Socket::tcp("10.0.0.2:0".parse().unwrap()));
        let outcome = sim.fire(SocketCall::connect(client, at)).unwrap();
        (outcome.result, listeners.into_iter().find(|listener| sim.accept(*listener).is_some()))
    };
    // Without a program one of them has it.
    assert!(matches!(connect(), (Ok(()), Some(_))));
    let select = AttachType::SK_REUSEPORT_SELECT;
    for place in 0..3 {
        sim.attach_reuseport(listeners[0], selects(&kernel, select, &array, place, 1)).unwrap();
        assert_eq!(connect(), (Ok(()), Some(listeners[place as usize])));
        assert!(sim.take_effects().contains(&Effect::SocketSelected { socket: listeners[place as usize] }));
    }
    sim.attach_reuseport(listeners[1], selects(&kernel, select, &array, 1, 0)).unwrap();
    assert_eq!(connect(), (Err(Errno::ECONNREFUSED), None));
    // One of another port cannot be chosen, and what a program left open is decided by the hash.
    sim.attach_reuseport(listeners[1], selects(&kernel, select, &array, 6, 1)).unwrap();
    assert!(matches!(connect(), (Ok(()), Some(_))));

    // Connections that nobody accepted are moved where a program says so.
    let migrate = AttachType::SK_REUSEPORT_SELECT_OR_MIGRATE;
    sim.attach_reuseport(listeners[1], selects(&kernel, migrate, &array, 2, 1)).unwrap();
    let outcome = sim.fire(SocketCall::connect(client, at)).unwrap();
    let peer = outcome.peer.unwrap();
    let moved = sim.fire(TcpEvent::close(listeners[2])).unwrap().migrated;
    // The one that the program chooses is gone from the map with its socket, so one of the others has it.
    assert_eq!((moved.len(), moved[0].0), (1, peer));
    assert!(listeners[..2].contains(&moved[0].1.unwrap()), "{moved:?}");
    assert_eq!(sim.accept(moved[0].1.unwrap()), Some(peer));
    sim.detach_reuseport(listeners[0]).unwrap();
    assert_eq!(sim.detach_reuseport(listeners[0]), Err(Errno::ENOENT));
}

#[test]
fn packets_go_to_the_socket_that_a_program_chooses() {
    let sim = SimKernel::builder().interface("eth0", 2).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let at = "10.0.0.2:53".parse().unwrap();
    let sockets = [(); 2].map(|()| sim.add_socket(Socket::udp(at).reuse_port()));
    let array = map(&kernel, MapType::SOCKMAP, 4, 8);
    for (place, socket) in (0..).zip(sockets) {
        put(&sim, &array, place, socket).unwrap();
    }
    // The first byte of what is sent is the place.
    let prog = load_as(&kernel, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT, "byte", |asm| {
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 8).mov64_reg(Reg::R3, Reg::R10);
        asm.add64_imm(Reg::R3, -8).mov64_imm(Reg::R4, 1).st(Size::W, Reg::R10, -8, 0).call_helper(26);
        asm.ldx(Size::W, Reg::R1, Reg::R10, -8).stx(Size::W, Reg::R10, -4, Reg::R1);
        asm.mov64_reg(Reg::R1, Reg::R6).ld_map_fd(Reg::R2, array.as_fd().as_raw_fd());
        asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -4).mov64_imm(Reg::R4, 0).call_helper(82);
        // The ports are at the begin of what is seen, and the protocol is that of the packet.
        asm.ldx(Size::DW, Reg::R7, Reg::R6, 0).ldx(Size::DW, Reg::R8, Reg::R6, 8);
        asm.mov64_reg(Reg::R1, Reg::R7).add64_imm(Reg::R1, 8).mov64_imm(Reg::R0, 0);
        asm.jmp64_reg(Cond::Gt, Reg::R1, Reg::R8, "end");
        asm.ldx(Size::H, Reg::R1, Reg::R7, 2);
        asm.jmp64_imm(Cond::Ne, Reg::R1, i32::from(53_u16.to_be()), "end");
        asm.ldx(Size::W, Reg::R1, Reg::R6, 24).jmp64_imm(Cond::Ne, Reg::R1, 17, "end");
        asm.mov64_imm(Reg::R0, 1).label("end");
    });
    sim.attach_reuseport(sockets[0], prog).unwrap();
    for (place, socket) in (0..).zip(sockets) {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0];
        frame.extend([0x45, 0, 0, 36, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0, 53, 0, 16, 0, 0, place, 0, 0, 0, 0, 0, 0, 0]);
        let passage = sim.fire(Receive::new("eth0", frame)).unwrap();
        assert_eq!(passage.fate, Fate::Delivered { ifindex: 2, socket: Some(socket) });
    }
}

#[test]
fn sockets_are_found_in_maps() {
    let (sim, kernel, server, client) = pair();
    let sockmap = map(&kernel, MapType::SOCKMAP, 4, 8);
    put(&sim, &sockmap, 0, server).unwrap();
    // A program sends all connections to the socket in the map, whatever their port.
    let prog = load_as(&kernel, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP, "steer", |asm| {
        asm.ld_map_fd(Reg::R1, sockmap.as_fd().as_raw_fd());
        key(asm, Reg::R2, 0);
        asm.call_helper(1).jmp64_imm(Cond::Eq, Reg::R0, 0, "out").mov64_reg(Reg::R7, Reg::R0);
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R7).mov64_imm(Reg::R3, 0).call_helper(124);
        asm.mov64_reg(Reg::R1, Reg::R7).call_helper(86);
        asm.label("out").mov64_imm(Reg::R0, 1);
    });
    let netns = sim.open_netns().unwrap();
    let target = LinkTarget::Fd(netns.as_fd());
    let _link = kernel.link_create(&LinkCreate::new(prog.as_fd(), target, AttachType::SK_LOOKUP)).unwrap();
    let outcome = sim.fire(SocketCall::connect(client, "10.7.7.7:7777".parse().unwrap())).unwrap();
    let peer = outcome.peer.unwrap();
    assert_eq!(sim.accept(server), Some(peer));
    assert_eq!(sim.socket(peer).unwrap().local, "10.7.7.7:7777".parse().unwrap());
    // A socket that is closed is in no map any more.
    let _ = sim.fire(TcpEvent::close(server)).unwrap();
    let mut cookie = [0; 8];
    let found = sockmap.lookup(&0_u32.to_ne_bytes(), &mut cookie, UpdateFlags::empty());
    assert_eq!(found.map_err(|error| error.errno()), Err(Some(Errno::ENOENT)));
}

/// Both ends of connections are put into a map as they are made, and messages go to the other end past the network.
#[test]
fn connections_are_spliced() {
    let (sim, kernel, server, _) = pair();
    let hash = map(&kernel, MapType::SOCKHASH, 4, 8);
    let fd = hash.as_fd().as_raw_fd();
    let ports = |asm: &mut Assembler, from: i16, to: i16| {
        // The key is the port of the end, in the order of the machine.
        asm.ldx(Size::W, Reg::R1, Reg::R6, from);
        if to == 1 {
            asm.to_be(SwapWidth::B32, Reg::R1);
        }
        asm.stx(Size::W, Reg::R10, -4, Reg::R1);
    };
    let put = load(&kernel, ProgType::SOCK_OPS, "put", |asm| {
        asm.ldx(Size::W, Reg::R7, Reg::R6, 0);
        asm.jmp64_imm(Cond::Eq, Reg::R7, 4, "put").jmp64_imm(Cond::Ne, Reg::R7, 5, "out").label("put");
        ports(asm, 68, 0);
        asm.mov64_reg(Reg::R1, Reg::R6).ld_map_fd(Reg::R2, fd).mov64_reg(Reg::R3, Reg::R10);
        asm.add64_imm(Reg::R3, -4).mov64_imm(Reg::R4, 0).call_helper(70);
        asm.label("out").mov64_imm(Reg::R0, 1);
    });
    let splice = load(&kernel, ProgType::SK_MSG, "splice", |asm| {
        ports(asm, 60, 1);
        asm.mov64_reg(Reg::R1, Reg::R6).ld_map_fd(Reg::R2, fd).mov64_reg(Reg::R3, Reg::R10);
        asm.add64_imm(Reg::R3, -4).mov64_imm(Reg::R4, 1).call_helper(71);
    });
    let target = LinkTarget::Fd(hash.as_fd());
    let request = LinkCreate::new(splice.as_fd(), target, AttachType::SK_MSG_VERDICT);
    let _splice = kernel.link_create(&request).unwrap();
    let _put = attach_to_group(&sim, &kernel, &put, "/");
    let client = sim.add_socket(Socket::tcp("10.0.0.2:5000".parse().unwrap()));
    let outcome = sim.fire(SocketCall::connect(client, "10.0.0.1:80".parse().unwrap())).unwrap();
    let peer = outcome.peer.unwrap();
    for (from, to) in [(client, peer), (peer, client)] {
        let outcome = sim.fire(SendBytes::new(from, "ping")).unwrap();
        assert_eq!(outcome.result, Ok(4));
        assert_eq!(outcome.moved, [Moved::Received { socket: to, bytes: b"ping".to_vec() }]);
        assert_eq!(outcome.effects, [Effect::SocketRedirect { socket: to, ingress: true }]);
        assert_eq!(outcome.verdicts[0].program, "splice");
        assert_eq!(sim.read(to), b"ping");
    }
    // Nothing of that went through the connection.
    assert_eq!(sim.socket(client).unwrap().tcp.data_segs_out, 0);
    // It is a socket of two maps with programs that no map takes.
    let other = map(&kernel, MapType::SOCKMAP, 4, 8);
    let target = LinkTarget::Fd(other.as_fd());
    let request = LinkCreate::new(splice.as_fd(), target, AttachType::SK_MSG_VERDICT);
    let link = kernel.link_create(&request).unwrap();
    assert_eq!(self::put(&sim, &other, 0, client), Err(Some(Errno::EBUSY)));
    drop(link);
    self::put(&sim, &other, 0, client).unwrap();
    // Another machine sends something.
    let outcome = sim.fire(ReceiveBytes::new(client, "pong")).unwrap();
    assert_eq!(outcome.moved, [Moved::Received { socket: client, bytes: b"pong".to_vec() }]);
    // The program goes with the last of the maps that the socket is in.
    hash.delete(&5000_u32.to_ne_bytes()).unwrap();
    assert_eq!(sim.fire(SendBytes::new(client, "ping")).unwrap().verdicts.len(), 1);
    assert_eq!(sim.read(peer), b"ping");
    other.delete(&0_u32.to_ne_bytes()).unwrap();
    let outcome = sim.fire(SendBytes::new(client, "by itself")).unwrap();
    assert!(outcome.verdicts.is_empty());
    assert_eq!(sim.read(peer), b"by itself");
    let _ = sim.remove_socket(server);
}

#[test]
fn sockets_have_structs() {
    let btf = include_bytes!("../../testdata/btf/6.18.btf");
    let sim = SimKernel::builder().btf(btf.to_vec()).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let server = sim.add_socket(Socket::tcp("[::1]:80".parse().unwrap()));
    let seen = map(&kernel, MapType::ARRAY, 4, 8);
    let prog = load(&kernel, ProgType::SOCK_OPS, "cast", |asm| {
        asm.ldx(Size::DW, Reg::R7, Reg::R6, 184).jmp64_imm(Cond::Eq, Reg::R7, 0, "out");
        for (place, helper) in (0..).zip([136, 137, 138, 139, 140, 178, 196]) {
            asm.mov64_reg(Reg::R1, Reg::R7).call_helper(helper).stx(Size::DW, Reg::R10, -16, Reg::R0);
            asm.ld_map_fd(Reg::R1, seen.as_fd().as_raw_fd());
            key(asm, Reg::R2, place);
            asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -16).mov64_imm(Reg::R4, 0).call_helper(2);
        }
        asm.label("out").mov64_imm(Reg::R0, 1);
    });
    let _link = attach_to_group(&sim, &kernel, &prog, "/");
    assert_eq!(sim.fire(TcpEvent::listen(server)).unwrap().ops(), [SockOp::TCP_LISTEN_CB]);
    let object = sim.socket_object(server).unwrap();
    // These types are a part of those of a kernel, and have none of IPv6.
    assert_eq!(object.type_name(), "struct tcp_sock");
    let found = [0_u32, 1, 2, 3, 4, 5, 6].map(|place| {
        let mut value = [0; 8];
        seen.lookup(&place.to_ne_bytes(), &mut value, UpdateFlags::empty()).unwrap();
        u64::from_ne_bytes(value)
    });
    let address = object.address();
    assert_eq!(found, [address, address, 0, 0, 0, 0, 0]);
    let common = |field: &str| object.get(&format!("inet_conn.icsk_inet.sk.__sk_common.{field}")).unwrap();
    assert_eq!((common("skc_family"), common("skc_num"), common("skc_state")), (10, 80, 10));
    assert_eq!(object.get("snd_cwnd").unwrap(), 10);
}

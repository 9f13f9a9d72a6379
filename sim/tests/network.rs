//! Packets on their way through the programs of a simulated kernel.

#![allow(missing_docs)]

mod programs;

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use programs::load_as;
use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sim::{
    Destination, Dropper, Effect, EventError, Fate, Interface, Receive, Route, SimKernel, Socket, SocketCall,
    Transmit,
};
use skep_sys::abi::{AttachType, Errno, LinkType, MapType, ProgType, UpdateFlags};
use skep_sys::request::{LinkAnchor, LinkCreate, LinkPlace, LinkTarget, MapCreate, NetfilterHook, TestRun};
use skep_sys::{Kernel, LinkFd, LoadedProgram};

const ETH0: u32 = 2;

/// A kernel with two devices: `eth0` and one end of a pair.
fn kernel() -> (SimKernel, Kernel) {
    let sim = SimKernel::builder().interface("eth0", ETH0).build().unwrap();
    (sim.clone(), Kernel::new(sim))
}

fn load(kernel: &Kernel, kind: ProgType, name: &str, write: impl FnOnce(&mut Assembler)) -> LoadedProgram {
    load_as(kernel, kind, AttachType(0), name, write)
}

/// A program that returns a number.
fn returns(kernel: &Kernel, kind: ProgType, name: &str, value: i32) -> LoadedProgram {
    load(kernel, kind, name, |asm| _ = asm.mov64_imm(Reg::R0, value))
}

fn attach(kernel: &Kernel, prog: &LoadedProgram, target: LinkTarget<'_>, kind: AttachType) -> LinkFd {
    kernel.link_create(&LinkCreate::new(prog.as_fd(), target, kind)).unwrap()
}

/// A UDP packet to `10.0.0.2:53` in a frame.
fn packet() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x12, 0x34, 0, 53, 0, 30, 0, 0]);
    frame.resize(64, 0);
    frame
}

fn redirect(asm: &mut Assembler, ifindex: u32, flags: i32) {
    asm.mov64_imm(Reg::R1, ifindex.cast_signed()).mov64_imm(Reg::R2, flags).call_helper(23);
}

#[test]
fn programs_run_in_order() {
    let (sim, kernel) = kernel();
    sim.add_cgroup("/web").unwrap();
    sim.add_cgroup("/web/dns").unwrap();
    let socket = sim.add_socket(Socket::udp("10.0.0.2:53".parse().unwrap()).cgroup("/web/dns"));
    let xdp = returns(&kernel, ProgType::XDP, "xdp", 2);
    let first = load(&kernel, ProgType::SCHED_CLS, "first", |asm| {
        asm.mov64_imm(Reg::R2, 7).stx(Size::W, Reg::R1, 8, Reg::R2).mov64_imm(Reg::R0, -1);
    });
    let second = returns(&kernel, ProgType::SCHED_CLS, "second", 0);
    let third = returns(&kernel, ProgType::SCHED_CLS, "third", 0);
    let (inner, outer) = (
        returns(&kernel, ProgType::CGROUP_SKB, "inner", 1),
        returns(&kernel, ProgType::CGROUP_SKB, "outer", 1),
    );
    let nf = load_as(&kernel, ProgType::NETFILTER, AttachType::NETFILTER, "nf", |asm| {
        _ = asm.mov64_imm(Reg::R0, 1)
    });
    let device = LinkTarget::Ifindex(ETH0);
    let _xdp = attach(&kernel, &xdp, device, AttachType::XDP);
    let _third = attach(&kernel, &third, device, AttachType::TCX_INGRESS);
    let second_link = attach(&kernel, &second, device, AttachType::TCX_INGRESS);
    let mut request = LinkCreate::new(first.as_fd(), device, AttachType::TCX_INGRESS);
    request.anchor = LinkAnchor::First;
    let _first = kernel.link_create(&request).unwrap();
    drop(second_link);
    let mut request = LinkCreate::new(second.as_fd(), device, AttachType::TCX_INGRESS);
    request.anchor = LinkAnchor::BeforeProg(third.as_fd());
    let second_link = kernel.link_create(&request).unwrap();
    let groups = [sim.open_cgroup("/web/dns").unwrap(), sim.open_cgroup("/web").unwrap()];
    let ingress = AttachType::CGROUP_INET_INGRESS;
    let _inner = attach(&kernel, &inner, LinkTarget::Fd(groups[0].as_fd()), ingress);
    let outer_link = attach(&kernel, &outer, LinkTarget::Fd(groups[1].as_fd()), ingress);
    let mut request = LinkCreate::new(nf.as_fd(), LinkTarget::Loaded, AttachType::NETFILTER);
    request.netfilter = Some(NetfilterHook::new(2, 0, -100));
    let nf_link = kernel.link_create(&request).unwrap();

    let passage = sim.receive("eth0", &packet()).unwrap();
    // The second program says that the packet passes, so the third does not see it.
    assert_eq!(passage.programs(), ["xdp", "first", "second", "nf", "inner", "outer"]);
    assert_eq!(passage.fate, Fate::Delivered { ifindex: ETH0, socket: Some(socket) });
    assert_eq!((passage.mark, &passage.packet), (7, &packet()));
    assert_eq!(passage.effects, [Effect::Delivered { ifindex: ETH0, packet: packet() }]);

    // What links say of themselves.
    let info = second_link.info().unwrap();
    assert_eq!(info.place, LinkPlace::Tcx { ifindex: ETH0, attach_type: AttachType::TCX_INGRESS });
    assert_eq!(
        nf_link.info().unwrap().place,
        LinkPlace::Netfilter { family: 2, hook: 0, priority: -100, flags: 0 }
    );
    assert_eq!(outer_link.info().unwrap().link_type, LinkType::CGROUP);

    // Another program takes the place of one.
    outer_link.update(&returns(&kernel, ProgType::CGROUP_SKB, "no", 0), None).unwrap();
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Dropped { ifindex: ETH0, by: Dropper::Cgroup });
    assert_eq!(passage.programs()[5], "no");
    outer_link.detach().unwrap();
    assert!(!sim.receive("eth0", &packet()).unwrap().is_dropped());
    // What is attached to a group goes with it.
    sim.remove_socket(socket);
    assert_eq!(sim.remove_cgroup("/web"), Err(Errno::EBUSY));
    sim.remove_cgroup("/web/dns").unwrap();
}

#[test]
fn orders_have_rules() {
    let (_sim, kernel) = kernel();
    let [one, two] = ["one", "two"].map(|name| returns(&kernel, ProgType::SCHED_CLS, name, -1));
    let device = LinkTarget::Ifindex(ETH0);
    let link = attach(&kernel, &one, device, AttachType::TCX_EGRESS);
    let errno = |change: &dyn Fn(&mut LinkCreate<'_>)| {
        let mut request = LinkCreate::new(two.as_fd(), device, AttachType::TCX_EGRESS);
        change(&mut request);
        kernel.link_create(&request).err()
    };
    assert_eq!(errno(&|request| request.target = LinkTarget::Ifindex(99)), Some(Errno::ENODEV));
    assert_eq!(errno(&|request| request.flags = 1 << 20), Some(Errno::EINVAL));
    assert_eq!(
        errno(&|request| request.anchor = LinkAnchor::BeforeProgId(skep_sys::abi::ProgId(999))),
        Some(Errno::ENOENT)
    );
    assert_eq!(errno(&|request| request.expected_revision = 7), Some(Errno::ESTALE));
    assert_eq!(errno(&|request| request.attach_type = AttachType::CGROUP_INET_EGRESS), Some(Errno::EINVAL));
    assert_eq!(errno(&|_| ()), None);
    let again = LinkCreate::new(one.as_fd(), device, AttachType::TCX_EGRESS);
    assert_eq!(kernel.link_create(&again).err(), Some(Errno::EEXIST));
    drop(link);
}

#[test]
fn packets_go_through_pairs_of_devices() {
    let (sim, kernel) = kernel();
    let host = sim.add_interface(Interface::new("host")).unwrap();
    let guest = sim.add_interface(Interface::new("guest").peer(host)).unwrap();
    // What comes to eth0 leaves through the device of the host, and the guest receives it.
    let to_guest = load(&kernel, ProgType::SCHED_CLS, "to_guest", |asm| redirect(asm, host, 0));
    let _link = attach(&kernel, &to_guest, LinkTarget::Ifindex(ETH0), AttachType::TCX_INGRESS);
    let guard = returns(&kernel, ProgType::XDP, "guard", 2);
    let guard_link = attach(&kernel, &guard, LinkTarget::Ifindex(guest), AttachType::XDP);
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Delivered { ifindex: guest, socket: None });
    assert_eq!(passage.programs(), ["to_guest", "guard"]);
    assert_eq!(passage.effects[0], Effect::Redirect { to: Destination::Egress(host) });
    assert_eq!(passage.effects[1], Effect::Transmitted { ifindex: host, packet: packet() });
    // And what the guest's XDP program sends back leaves through the pair again.
    guard_link.update(&returns(&kernel, ProgType::XDP, "back", 3), None).unwrap();
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Delivered { ifindex: host, socket: None });
    // Two that send to each other end.
    let pong = load(&kernel, ProgType::XDP, "pong", |asm| redirect(asm, host, 0));
    guard_link.update(&pong, None).unwrap();
    let ping = load(&kernel, ProgType::XDP, "ping", |asm| redirect(asm, host, 0));
    let _ping = attach(&kernel, &ping, LinkTarget::Ifindex(host), AttachType::XDP);
    let passage = sim.receive("guest", &packet()).unwrap();
    assert!(matches!(passage.fate, Fate::Dropped { by: Dropper::Loop, .. }), "{}", passage.fate);
    // Links go with their device.
    sim.remove_interface(guest).unwrap();
    assert_eq!(guard_link.info().unwrap().place, LinkPlace::Xdp { ifindex: 0 });
    assert_eq!(sim.receive("guest", &packet()).unwrap_err().errno(), Some(Errno::ENODEV));
}

#[test]
fn maps_of_devices_send_packets() {
    let (sim, kernel) = kernel();
    let other = sim.add_interface(Interface::new("other")).unwrap();
    let map = kernel.map_create(&MapCreate::new(MapType::DEVMAP, 4, 8, 4)).unwrap();
    let egress = load_as(&kernel, ProgType::XDP, AttachType::XDP_DEVMAP, "egress", |asm| {
        // Only what is meant for the other device passes.
        asm.ldx(Size::W, Reg::R2, Reg::R1, 20).mov64_imm(Reg::R0, 2);
        asm.jmp64_imm(Cond::Eq, Reg::R2, other.cast_signed(), "pass").mov64_imm(Reg::R0, 1).label("pass");
    });
    let value = [other.to_ne_bytes(), egress.as_fd().as_raw_fd().to_ne_bytes()].concat();
    map.update(&1u32.to_ne_bytes(), &value, UpdateFlags::empty()).unwrap();
    let program = |key: i32, flags: i32| {
        load(&kernel, ProgType::XDP, "spread", |asm| {
            asm.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd()).mov64_imm(Reg::R2, key).mov64_imm(Reg::R3, flags);
            asm.call_helper(51);
        })
    };
    let link = attach(&kernel, &program(1, 0), LinkTarget::Ifindex(ETH0), AttachType::XDP);
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Transmitted { ifindex: other });
    assert_eq!(passage.programs(), ["spread", "egress"]);
    // Where there is no device, the flags say what is done.
    link.update(&program(0, 2), None).unwrap();
    assert_eq!(sim.receive("eth0", &packet()).unwrap().fate, Fate::Delivered { ifindex: ETH0, socket: None });
    link.update(&program(0, 8 | 16), None).unwrap();
    assert_eq!(sim.receive("eth0", &packet()).unwrap().fate, Fate::Transmitted { ifindex: other });
}

/// Programs choose sockets for packets that no connection is for.
#[test]
fn programs_choose_sockets() {
    let (sim, kernel) = kernel();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let any = sim.add_socket(Socket::udp(address("10.9.9.9:9")));
    let choose = load(&kernel, ProgType::SCHED_CLS, "choose", |asm| {
        asm.mov64_reg(Reg::R6, Reg::R1).st(Size::DW, Reg::R10, -8, 0).st(Size::DW, Reg::R10, -16, 0);
        // saddr 0, daddr 10.9.9.9, port 9.
        asm.mov64_imm(Reg::R2, i32::from_ne_bytes([10, 9, 9, 9])).stx(Size::W, Reg::R10, -12, Reg::R2);
        asm.mov64_imm(Reg::R2, i32::from(9u16.to_be())).stx(Size::H, Reg::R10, -6, Reg::R2);
        asm.mov64_reg(Reg::R2, Reg::R10)
            .add64_imm(Reg::R2, -16)
            .mov64_imm(Reg::R3, 12)
            .mov64_imm(Reg::R4, -1);
        asm.mov64_imm(Reg::R5, 0).call_helper(85).jmp64_imm(Cond::Eq, Reg::R0, 0, "pass");
        asm.mov64_reg(Reg::R7, Reg::R0)
            .mov64_reg(Reg::R1, Reg::R6)
            .mov64_reg(Reg::R2, Reg::R0)
            .mov64_imm(Reg::R3, 0);
        asm.call_helper(124).mov64_reg(Reg::R1, Reg::R7).call_helper(86).label("pass").mov64_imm(Reg::R0, 0);
    });
    let link = attach(&kernel, &choose, LinkTarget::Ifindex(ETH0), AttachType::TCX_INGRESS);
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Delivered { ifindex: ETH0, socket: Some(any) });
    assert!(passage.effects.contains(&Effect::SocketAssigned { socket: any }));
    drop(link);
    // A program that looks up sockets may say that there is none.
    let none = load_as(&kernel, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP, "none", |asm| {
        _ = asm.mov64_imm(Reg::R0, 0)
    });
    let netns: OwnedFd = sim.open_netns().unwrap();
    let _link = attach(&kernel, &none, LinkTarget::Fd(netns.as_fd()), AttachType::SK_LOOKUP);
    sim.add_socket(Socket::udp(address("10.0.0.2:53")));
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Delivered { ifindex: ETH0, socket: None });
    // A connected socket needs no choice.
    let connected = sim.add_socket(Socket::udp(address("10.0.0.2:53")).connected(address("10.0.0.1:4660")));
    let passage = sim.receive("eth0", &packet()).unwrap();
    assert_eq!(passage.fate, Fate::Delivered { ifindex: ETH0, socket: Some(connected) });
    assert!(passage.verdicts.is_empty());
}

#[test]
fn packets_of_sockets_are_filtered_on_their_way_out() {
    let (sim, kernel) = kernel();
    sim.add_cgroup("/web").unwrap();
    let socket = sim.add_socket(Socket::udp("10.0.0.2:53".parse().unwrap()).cgroup("web").mark(5));
    let small = load(&kernel, ProgType::CGROUP_SKB, "small", |asm| {
        // 50 bytes, since such programs do not see the link header.
        asm.ldx(Size::W, Reg::R2, Reg::R1, 0).mov64_imm(Reg::R0, 1).jmp64_imm(Cond::Le, Reg::R2, 50, "pass");
        asm.mov64_imm(Reg::R0, 0).label("pass");
    });
    let group = sim.open_cgroup("/web").unwrap();
    let _link = attach(&kernel, &small, LinkTarget::Fd(group.as_fd()), AttachType::CGROUP_INET_EGRESS);
    let passage = sim.fire(Transmit::new("eth0", packet()).socket(socket)).unwrap();
    assert_eq!((passage.fate, passage.mark), (Fate::Transmitted { ifindex: ETH0 }, 5));
    let mut long = packet();
    long.push(0);
    assert!(sim.fire(Transmit::new("eth0", long.clone()).socket(socket)).unwrap().is_dropped());
    assert!(!sim.transmit("eth0", &long).unwrap().is_dropped(), "nobody's packet");
}

#[test]
fn a_packet_that_is_read_past_its_end() {
    let (sim, kernel) = kernel();
    let wild = load(&kernel, ProgType::XDP, "wild", |asm| {
        asm.ldx(Size::W, Reg::R2, Reg::R1, 0).ldx(Size::W, Reg::R0, Reg::R2, 62);
    });
    let _link = attach(&kernel, &wild, LinkTarget::Ifindex(ETH0), AttachType::XDP);
    let Err(EventError::Fault(fault)) = sim.receive("eth0", &packet()) else { panic!("no fault") };
    assert!(
        fault.kind.to_string().ends_with("offset 62 of the packet, which has 64 bytes"),
        "{}",
        fault.kind
    );
    // A pointer from before the packet changed leads nowhere.
    let stale = load(&kernel, ProgType::XDP, "stale", |asm| {
        asm.mov64_reg(Reg::R6, Reg::R1)
            .ldx(Size::W, Reg::R7, Reg::R1, 0)
            .mov64_imm(Reg::R2, 4)
            .call_helper(44);
        asm.ldx(Size::B, Reg::R0, Reg::R7, 20);
    });
    let mut run = TestRun::default();
    let frame = packet();
    run.data_in = &frame;
    assert_eq!(stale.test_run(&mut run).unwrap_err().0, Errno::EFAULT);
    let text = sim.last_fault().unwrap().kind.to_string();
    assert!(text.contains("before a helper changed it"), "{text}");
}

#[test]
fn routes_are_found() {
    let (sim, kernel) = kernel();
    sim.add_route(Route::new([10, 0, 0, 0], 8, ETH0).via([192, 168, 0, 1]));
    sim.add_neighbour(ETH0, [192, 168, 0, 1], [2, 2, 2, 2, 2, 2]);
    let lookup = load(&kernel, ProgType::XDP, "lookup", |asm| {
        asm.mov64_reg(Reg::R6, Reg::R1);
        for at in (-64..0).step_by(8) {
            asm.st(Size::DW, Reg::R10, at, 0);
        }
        asm.st(Size::B, Reg::R10, -64, 2).st(Size::W, Reg::R10, -56, 1);
        asm.mov64_imm(Reg::R2, i32::from_ne_bytes([10, 1, 2, 3])).stx(Size::W, Reg::R10, -32, Reg::R2);
        asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -64).mov64_imm(Reg::R3, 64).mov64_imm(Reg::R4, 0);
        asm.mov64_reg(Reg::R1, Reg::R6).call_helper(69).jmp64_imm(Cond::Ne, Reg::R0, 0, "out");
        // The device and the last byte of the address that it leads to.
        asm.ldx(Size::W, Reg::R0, Reg::R10, -56).lsh64_imm(Reg::R0, 8).ldx(Size::B, Reg::R1, Reg::R10, -1);
        asm.add64_reg(Reg::R0, Reg::R1).label("out");
    });
    let frame = packet();
    let run = || {
        let mut run = TestRun::default();
        run.data_in = &frame;
        lookup.test_run(&mut run).unwrap().retval
    };
    assert_eq!(run(), ETH0 << 8 | 2);
    sim.change_interface(1, |lo| lo.forwarding = false).unwrap();
    assert_eq!(run(), 5, "forwarding is off");
    assert_eq!(sim.receive("eth0", &[0; 13]).unwrap_err().errno(), Some(Errno::EINVAL));
    assert_eq!(
        sim.fire(Receive::new("eth0", frame.clone()).cpu(99)).unwrap_err().errno(),
        Some(Errno::ENXIO)
    );
}

/// Programs of control groups send a connection elsewhere, and refuse others.
#[test]
fn connections_are_sent_elsewhere() {
    let (sim, kernel) = kernel();
    sim.add_cgroup("/web").unwrap();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let client = sim.add_socket(Socket::tcp(address("10.0.0.1:0")).cgroup("/web"));
    let group = sim.open_cgroup("/web").unwrap();
    let connect = AttachType::CGROUP_INET4_CONNECT;
    // 10.0.0.9:80 becomes 127.0.0.1:8080.
    let balance = load_as(&kernel, ProgType::CGROUP_SOCK_ADDR, connect, "balance", |asm| {
        asm.mov64_imm(Reg::R0, 1)
            .ldx(Size::W, Reg::R2, Reg::R1, 4)
            .mov64_imm(Reg::R3, i32::from_ne_bytes([10, 0, 0, 9]));
        asm.jmp64_reg(Cond::Ne, Reg::R2, Reg::R3, "out");
        asm.mov64_imm(Reg::R2, i32::from_ne_bytes([127, 0, 0, 1])).stx(Size::W, Reg::R1, 4, Reg::R2);
        asm.mov64_imm(Reg::R2, i32::from(8080u16.to_be())).stx(Size::W, Reg::R1, 24, Reg::R2).label("out");
    });
    let link = attach(&kernel, &balance, LinkTarget::Fd(group.as_fd()), connect);
    for own in ["127.0.0.1:8080", "[::1]:80"] {
        sim.add_socket(Socket::tcp(address(own)).listening());
    }
    let outcome = sim.fire(SocketCall::connect(client, address("10.0.0.9:80"))).unwrap();
    assert_eq!((outcome.result, outcome.address), (Ok(()), address("127.0.0.1:8080")));
    assert_eq!(sim.socket(client).unwrap().remote, Some(address("127.0.0.1:8080")));
    let outcome = sim.fire(SocketCall::connect(client, address("10.0.0.8:80"))).unwrap();
    assert_eq!(outcome.address, address("10.0.0.8:80"));
    // Programs for IPv4 do not see IPv6.
    let outcome = sim.fire(SocketCall::connect(client, address("[::1]:80"))).unwrap();
    assert!(outcome.verdicts.is_empty());
    let no = load_as(&kernel, ProgType::CGROUP_SOCK_ADDR, connect, "no", |asm| _ = asm.mov64_imm(Reg::R0, 0));
    link.update(&no, None).unwrap();
    let outcome = sim.fire(SocketCall::connect(client, address("10.0.0.9:80"))).unwrap();
    assert_eq!(outcome.result, Err(Errno::EPERM));
    assert_eq!(sim.socket(client).unwrap().remote, Some(address("[::1]:80")), "as it was");
    let errno = no_such(&sim).errno();
    assert_eq!(errno, Some(Errno::ENOENT));
}

fn no_such(sim: &SimKernel) -> EventError {
    sim.fire(SocketCall::bind(skep_sim::SocketId(999), "10.0.0.1:1".parse().unwrap())).unwrap_err()
}

use skep::asm::{Cond, Reg, Size};
use skep::sys::abi::{AttachType as A, Errno, ProgType};

use super::{Attached, Host, Opt, Script, at, may_return, negative, sets_retval};

pub(super) fn creation(host: &dyn Host) {
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE);
    for field in [4, 8, 12] {
        script.note_field(Size::W, field); // family, type, protocol
    }
    script.note_field(Size::W, 16);
    script.set_field(16, 7).set_field(20, 3); // mark and priority
    let create = script.attach(1);
    let stream = host.socket(true).unwrap();
    assert_eq!(create.notes(), [2, 1, 6, 0]);
    assert_eq!(host.get(stream, Opt::Mark), Ok(7));
    assert_eq!(host.get(stream, Opt::Priority), Ok(3));
    let messages = host.socket(false).unwrap();
    assert_eq!(create.notes(), [2, 2, 17, 0]);
    host.close(messages);

    let no = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE).attach(0);
    assert_eq!(host.socket(true).map(drop), Err(Errno::EPERM));
    drop(no);
    if sets_retval(host, "creation") {
        answers(host, &create);
    }
    drop(create);

    let socket = host.socket(true).unwrap();
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_RELEASE);
    script.note_field(Size::W, 16).note_field(Size::W, 8);
    let release = script.attach(0);
    host.set(socket, Opt::Mark, 99).unwrap();
    host.close(socket);
    assert_eq!(release.notes(), [99, 1]);
    host.close(stream);
    assert_eq!(release.notes(), [7, 1]);
}

/// What several programs answer, of which the first notes what it sees.
fn answers(host: &dyn Host, create: &Attached<'_>) {
    // One that says no; the others run all the same.
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE);
    script.builder.asm().call_helper(186); // get_retval
    script.note(Reg::R0);
    let no = script.attach(0);
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE);
    script.builder.asm().call_helper(186);
    script.note(Reg::R0);
    let last = script.attach(1);
    create.clear();
    assert_eq!(host.socket(true).map(drop), Err(Errno::EPERM));
    assert_eq!(create.notes(), [2, 1, 6, 0]);
    assert_eq!((no.notes(), last.notes()), ([0], [negative(Errno::EPERM)]));
    // The last word is that of the last one.
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE);
    let other = script.set_retval(-Errno::ENOSPC.0).attach(1);
    assert_eq!(host.socket(true).map(drop), Err(Errno::ENOSPC));
    drop(other);
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET_SOCK_CREATE);
    let yes = script.set_retval(0).attach(1);
    host.close(host.socket(true).unwrap());
    drop((yes, no, last));
}

/// `user_ip4`, `user_port`, `msg_src_ip4` of a `struct bpf_sock_addr`.
const IP: i16 = 4;
const PORT: i16 = 24;
const SOURCE: i16 = 40;

/// An address or a port as programs see it.
fn ip(octets: [u8; 4]) -> i32 {
    i32::from_ne_bytes(octets)
}

fn port(port: u16) -> i32 {
    port.to_be().into()
}

pub(super) fn binding(host: &dyn Host) {
    let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND);
    for field in [0, IP, PORT, 28, 32, 36] {
        script.note_field(Size::W, field);
    }
    script.set_field(IP, ip([127, 0, 0, 7])).set_field(PORT, port(20_207));
    let bind = script.attach(1);
    let socket = host.socket(true).unwrap();
    host.bind(socket, at("127.0.0.1:20107")).unwrap();
    assert_eq!(bind.notes(), [2, ip([127, 0, 0, 1]) as u64, port(20_107) as u64, 2, 1, 6]);
    assert_eq!(host.local(socket), Ok(at("127.0.0.7:20207")));

    // The second bit is about a privilege.
    let socket = host.socket(true).unwrap();
    let privilege = may_return(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND, 3);
    if !privilege {
        println!("skip: binding: programs of this kernel give no privilege to bind");
    }
    for (value, result) in [(0, Err(Errno::EPERM)), (2, Err(Errno::EPERM))] {
        if value > 1 && !privilege {
            continue;
        }
        let no = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND).attach(value);
        assert_eq!(host.bind(socket, at("127.0.0.1:0")), result);
        drop(no);
    }
    drop(bind);
    let value = if privilege { 3 } else { 1 };
    let yes = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND).attach(value);
    host.bind(socket, at("127.0.0.1:20108")).unwrap();
    drop(yes);
    if !sets_retval(host, "binding") {
        return;
    }
    let socket = host.socket(false).unwrap();
    let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_BIND);
    let other = script.set_retval(-Errno::EADDRINUSE.0).attach(0);
    assert_eq!(host.bind(socket, at("127.0.0.1:0")), Err(Errno::EADDRINUSE));
    drop(other);
}

pub(super) fn bound(host: &dyn Host) {
    let mut script = Script::new(host, ProgType::CGROUP_SOCK, A::CGROUP_INET4_POST_BIND);
    for field in [4, 8, 24, 44] {
        script.note_field(Size::W, field); // family, type, src_ip4, src_port
    }
    let bound = script.attach(0);
    let socket = host.socket(false).unwrap();
    assert_eq!(host.bind(socket, at("127.0.0.1:20109")), Err(Errno::EPERM));
    assert_eq!(bound.notes(), [2, 2, ip([127, 0, 0, 1]) as u64, 20_109]);
    // It is not bound.
    assert_eq!(host.local(socket), Ok(at("0.0.0.0:0")));
    drop(bound);
    match host.bind(socket, at("127.0.0.1:20110")) {
        // Before Linux 5.17 the port that was refused stayed with the socket.
        Err(Errno::EINVAL) if !sets_retval(host, "bound") => return,
        answer => answer.unwrap(),
    }
    assert_eq!(host.local(socket), Ok(at("127.0.0.1:20110")));
}

pub(super) fn connecting(host: &dyn Host) {
    let server = host.socket(true).unwrap();
    host.bind(server, at("127.0.0.1:20111")).unwrap();
    host.listen(server);

    // To another address, from another one.
    let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_CONNECT);
    for field in [IP, PORT] {
        script.note_field(Size::W, field);
    }
    script.set_field(IP, ip([127, 0, 0, 1])).set_field(PORT, port(20_111));
    // bpf_bind(ctx, &(struct sockaddr_in) { AF_INET, 0, 127.0.0.9 }, len)
    script.stack(-16, [2, 0, 0, 0, 127, 0, 0, 9]).stack(-8, [0; 8]);
    let bind = |script: &mut Script<'_>, len| {
        let asm = script.builder.asm();
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -16);
        asm.mov64_imm(Reg::R3, len).call_helper(64);
        script.note(Reg::R0);
    };
    bind(&mut script, 1);
    bind(&mut script, 15);
    script.stack(-16, [77, 0, 0, 0, 127, 0, 0, 9]);
    bind(&mut script, 16);
    script.stack(-16, [2, 0, 0, 0, 127, 0, 0, 9]);
    bind(&mut script, 16);
    let connect = script.attach(1);
    let client = host.socket(true).unwrap();
    host.connect(client, at("10.255.0.1:9")).unwrap();
    let there = [ip([10, 255, 0, 1]) as u64, port(9) as u64];
    let [einval, eafnosupport] = [Errno::EINVAL, Errno::EAFNOSUPPORT].map(negative);
    let noted: [u64; 6] = connect.notes();
    assert_eq!(noted[..2], there);
    assert_eq!(noted[2..], [einval, einval, eafnosupport, 0]);
    assert_eq!(host.peer(client), Ok(at("127.0.0.1:20111")));
    assert_eq!(host.local(client).unwrap().ip(), at("127.0.0.9:0").ip());
    drop(connect);

    let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_INET4_CONNECT);
    let no = script.attach(0);
    let client = host.socket(true).unwrap();
    assert_eq!(host.connect(client, at("127.0.0.1:20111")), Err(Errno::EPERM));
    assert!(host.peer(client).is_err());
    drop(no);
}

/// `op` and `args` of a `struct bpf_sock_ops`, and how many events there are.
const OP: i16 = 0;
const ARGS: i16 = 4;
const OPS: usize = 16;

/// Nobody listens: programs see a connection begin, and a socket that is as it was.
pub(super) fn refused_connections(host: &dyn Host) {
    let server = host.socket(true).unwrap();
    host.bind(server, at("127.0.0.1:20114")).unwrap();
    let mut script = Script::new(host, ProgType::SOCK_OPS, A::CGROUP_SOCK_OPS);
    // How often there was each event; and for each state the one before, and one more.
    script.notes.address(&mut script.builder, Reg::R8);
    let asm = script.builder.asm();
    asm.ldx(Size::W, Reg::R7, Reg::R6, OP).jmp64_imm(Cond::Ge, Reg::R7, OPS as i32, "end");
    asm.mov64_reg(Reg::R1, Reg::R7).lsh64_imm(Reg::R1, 3).mov64_reg(Reg::R2, Reg::R8);
    asm.add64_reg(Reg::R2, Reg::R1).ldx(Size::DW, Reg::R1, Reg::R2, 0).add64_imm(Reg::R1, 1);
    asm.stx(Size::DW, Reg::R2, 0, Reg::R1);
    asm.jmp64_imm(Cond::Ne, Reg::R7, 3, "connects").mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 4);
    asm.call_helper(59).label("connects").jmp64_imm(Cond::Ne, Reg::R7, 10, "end");
    asm.ldx(Size::W, Reg::R1, Reg::R6, ARGS + 4).jmp64_imm(Cond::Ge, Reg::R1, OPS as i32, "end");
    asm.lsh64_imm(Reg::R1, 3).add64_reg(Reg::R8, Reg::R1).ldx(Size::W, Reg::R1, Reg::R6, ARGS);
    asm.add64_imm(Reg::R1, 1).stx(Size::DW, Reg::R8, OPS as i16 * 8, Reg::R1).label("end");
    let told = script.attach(1);

    let client = host.socket(true).unwrap();
    assert_eq!(host.connect(client, at("127.0.0.1:20114")), Err(Errno::ECONNREFUSED));
    let mut expected = [0; OPS * 2];
    for op in [3, 2, 1, 6, 10] {
        expected[op] = 1; // what a connection begins with, and its end
    }
    expected[OPS + 7] = 3; // from SYN_SENT to CLOSE
    assert_eq!(told.notes(), expected);
    // The address that it was given for this is not its own any more; the port may be.
    assert_eq!(host.local(client).unwrap().ip(), at("0.0.0.0:0").ip());
    assert!(host.peer(client).is_err());
    drop(told);

    // One that was bound stays so.
    let bound = host.socket(true).unwrap();
    host.bind(bound, at("127.0.0.8:20115")).unwrap();
    assert_eq!(host.connect(bound, at("127.0.0.1:20114")), Err(Errno::ECONNREFUSED));
    assert_eq!(host.local(bound), Ok(at("127.0.0.8:20115")));
    // The same sockets, when somebody listens; but no address stands for the own one.
    host.listen(server);
    assert_eq!(host.connect(bound, at("0.0.0.0:20114")), Err(Errno::ECONNREFUSED));
    for socket in [client, bound] {
        host.connect(socket, at("127.0.0.1:20114")).unwrap();
        assert_eq!(host.peer(socket), Ok(at("127.0.0.1:20114")));
    }
    // Of a socket without one, it stands for that of the loopback device.
    let last = host.socket(true).unwrap();
    host.connect(last, at("0.0.0.0:20114")).unwrap();
    assert_eq!(host.peer(last), Ok(at("127.0.0.1:20114")));
}

pub(super) fn messages(host: &dyn Host) {
    let server = host.socket(false).unwrap();
    host.bind(server, at("127.0.0.1:20112")).unwrap();
    let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UDP4_SENDMSG);
    for field in [IP, PORT, SOURCE, 32] {
        script.note_field(Size::W, field);
    }
    script.set_field(IP, ip([127, 0, 0, 1])).set_field(PORT, port(20_112));
    let send = script.attach(1);
    let client = host.socket(false).unwrap();
    host.send(client, at("10.255.0.1:9")).unwrap();
    assert_eq!(send.notes(), [ip([10, 255, 0, 1]) as u64, port(9) as u64, 0, 2]);
    drop(send);
    // Only the bit of binding is about something else.
    let no = Script::new(host, ProgType::CGROUP_SOCK_ADDR, A::CGROUP_UDP4_SENDMSG).attach(0);
    assert_eq!(host.send(client, at("127.0.0.1:20112")), Err(Errno::EPERM));
    drop(no);
}

pub(super) fn names(host: &dyn Host) {
    let server = host.socket(true).unwrap();
    host.bind(server, at("127.0.0.1:20113")).unwrap();
    host.listen(server);
    let client = host.socket(true).unwrap();
    host.connect(client, at("127.0.0.1:20113")).unwrap();
    for (attach_type, own) in [(A::CGROUP_INET4_GETPEERNAME, false), (A::CGROUP_INET4_GETSOCKNAME, true)] {
        let mut script = Script::new(host, ProgType::CGROUP_SOCK_ADDR, attach_type);
        script.note_field(Size::W, IP);
        // Only the address that was asked for.
        let asm = script.builder.asm();
        asm.ldx(Size::W, Reg::R8, Reg::R6, PORT).jmp64_imm(Cond::Eq, Reg::R8, 0, "end");
        script.set_field(IP, ip([192, 0, 2, 1])).set_field(PORT, port(443));
        script.builder.asm().label("end");
        let name = script.attach(1);
        let (local, peer) = (host.local(client).unwrap(), host.peer(client).unwrap());
        let (told, other) = if own { (local, peer) } else { (peer, local) };
        assert_eq!(told, at("192.0.2.1:443"));
        assert_eq!(other.ip(), at("127.0.0.1:0").ip());
        assert_eq!(name.notes(), [ip([127, 0, 0, 1]) as u64]);
    }
}

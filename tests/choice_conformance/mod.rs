//! Which socket a packet or a connection goes to, where programs choose: by what socket lookup programs assign, and by what
//! programs of shared ports select. On Linux between real sockets.

mod cookies;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use skep::Kernel;
use skep::asm::{Cond, Reg, Size};
use skep::map::Map;
use skep::program::{Program, ProgramBuilder};
use skep::sys::LinkFd;
use skep::sys::abi::{AttachType, Errno, MapType, ProgType, UpdateFlags};
use skep::sys::request::{LinkCreate, LinkTarget, MapCreate};

use crate::support::notes::Notes;

/// A kernel with a network of its own, in which there is the loopback device.
pub(crate) trait Host {
    fn kernel(&self) -> &Kernel;
    fn netns(&self) -> OwnedFd;
    /// Sets a number below `/proc/sys`.
    fn set(&self, setting: &str, value: u32);
    /// A socket that is bound to an address; one of TCP listens. Answers its number.
    fn socket(&self, stream: bool, at: SocketAddr, shares: bool) -> usize;
    fn descriptor(&self, socket: usize) -> OwnedFd;
    /// Lets a program choose among the sockets that share the port of one; whether that can be done.
    fn choose_by(&self, socket: usize, program: &Program) -> bool;
    /// Sends a message there, or connects. Answers which socket has it.
    fn send(&self, stream: bool, to: SocketAddr, message: &[u8]) -> Result<Option<usize>, Errno>;
}

/// A body, by what it does.
pub(crate) type Body = fn(&dyn Host);

crate::support::bodies! { ($) choice_conformance;
    lookups_assign: lookups_assign,
    lookups_are_refused: lookups_are_refused,
    lookups_follow_each_other: lookups_follow_each_other,
    shared_ports: shared_ports,
    shared_ports_are_refused: shared_ports_are_refused,
    cookies: cookies::cookies,
}

const SELECT: i32 = 82;
const RELEASE: i32 = 86;
const ASSIGN: i32 = 124;
const LOAD_BYTES: i32 = 26;
const PASS: i32 = 1;
const DROP: i32 = 0;
const REFUSED: Result<Option<usize>, Errno> = Err(Errno::ECONNREFUSED);

fn addresses(port: u16) -> [SocketAddr; 2] {
    [format!("127.0.0.1:{port}").parse().unwrap(), format!("[::1]:{port}").parse().unwrap()]
}

fn map(host: &dyn Host, kind: MapType, value: u32, entries: u32) -> Map {
    Map::create(host.kernel(), &MapCreate::new(kind, 4, value, entries)).unwrap()
}

fn put(host: &dyn Host, map: &Map, place: u32, socket: usize) {
    try_put(host, map, place, socket).unwrap();
}

fn try_put(host: &dyn Host, map: &Map, place: u32, socket: usize) -> Result<(), Option<Errno>> {
    let socket = host.descriptor(socket);
    let put = map.as_map_fd().update_fd(&place.to_ne_bytes(), socket.as_fd(), UpdateFlags::empty());
    put.map_err(|error| error.errno())
}

/// A program under construction, whose context is in `r6`, and the numbers that it notes.
struct Script<'h> {
    host: &'h dyn Host,
    builder: ProgramBuilder,
    notes: Notes,
    labels: u32,
}

/// Where `struct bpf_sk_lookup` has the device.
const DEVICE: i16 = 64;

impl<'h> Script<'h> {
    fn new(host: &'h dyn Host, prog_type: ProgType, attach_type: AttachType) -> Script<'h> {
        let mut builder = ProgramBuilder::new(prog_type, "GPL");
        builder.name("chooses").expected_attach_type(attach_type);
        builder.asm().mov64_reg(Reg::R6, Reg::R1);
        Script { host, builder, notes: Notes::new(host.kernel()), labels: 0 }
    }

    fn lookup(host: &'h dyn Host) -> Script<'h> {
        Script::new(host, ProgType::SK_LOOKUP, AttachType::SK_LOOKUP)
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("label{}", self.labels)
    }

    /// Notes a register other than `r1`.
    fn note(&mut self, reg: Reg) -> &mut Self {
        self.notes.reg(&mut self.builder, reg);
        self
    }

    fn note_field(&mut self, size: Size, at: i16) -> &mut Self {
        self.notes.field(&mut self.builder, size, Reg::R6, at);
        self
    }

    /// Notes the device that a packet came by, or 1 where kernels do not tell it (before Linux 5.17).
    fn note_device(&mut self) -> &mut Self {
        let mut asks = ProgramBuilder::new(ProgType::SK_LOOKUP, "GPL");
        asks.name("asks").expected_attach_type(AttachType::SK_LOOKUP);
        asks.asm().ldx(Size::W, Reg::R7, Reg::R1, DEVICE).mov64_imm(Reg::R0, PASS).exit();
        match asks.load(self.host.kernel()) {
            Ok(_) => self.note_field(Size::W, DEVICE),
            Err(error) => {
                assert_eq!(error.errno(), Some(Errno::EACCES), "{error}");
                self.builder.asm().mov64_imm(Reg::R7, 1);
                self.note(Reg::R7)
            }
        }
    }

    /// Assigns the socket at a place of a map, if there is one, and notes the answer.
    fn assign(&mut self, sockets: &Map, place: i32, flags: i32) -> &mut Self {
        let none = self.label();
        self.builder.load_map(Reg::R1, sockets);
        let asm = self.builder.asm();
        asm.st(Size::W, Reg::R10, -4, place)
            .mov64_reg(Reg::R2, Reg::R10)
            .add64_imm(Reg::R2, -4)
            .call_helper(1);
        asm.mov64_imm(Reg::R8, -1).jmp64_imm(Cond::Eq, Reg::R0, 0, &*none).mov64_reg(Reg::R7, Reg::R0);
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R7).mov64_imm(Reg::R3, flags);
        asm.call_helper(ASSIGN).mov64_reg(Reg::R8, Reg::R0).mov64_reg(Reg::R1, Reg::R7).call_helper(RELEASE);
        asm.label(none);
        self.note(Reg::R8)
    }

    /// Assigns none, and notes the answer.
    fn assign_none(&mut self, flags: i32) -> &mut Self {
        let asm = self.builder.asm();
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 0).mov64_imm(Reg::R3, flags).call_helper(ASSIGN);
        asm.mov64_reg(Reg::R8, Reg::R0);
        self.note(Reg::R8)
    }

    /// Selects the socket at a place of a map, and notes the answer.
    fn select(&mut self, sockets: &Map, place: i32, flags: i32) -> &mut Self {
        self.builder.asm().st(Size::W, Reg::R10, -4, place);
        self.select_noted(sockets, flags)
    }

    fn select_noted(&mut self, sockets: &Map, flags: i32) -> &mut Self {
        self.builder.asm().mov64_reg(Reg::R1, Reg::R6);
        self.builder.load_map(Reg::R2, sockets);
        let asm = self.builder.asm();
        asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -4).mov64_imm(Reg::R4, flags).call_helper(SELECT);
        asm.mov64_reg(Reg::R8, Reg::R0);
        self.note(Reg::R8)
    }

    fn end(&mut self, verdict: i32) -> Program {
        self.builder.asm().mov64_imm(Reg::R0, verdict).exit();
        self.builder.load(self.host.kernel()).unwrap_or_else(|error| {
            panic!("{error}: {}", error.verifier_log().unwrap_or("no log"));
        })
    }

    /// Attaches it to the network.
    fn attach(&mut self, verdict: i32) -> LinkFd {
        let program = self.end(verdict);
        let netns = self.host.netns();
        let target = LinkTarget::Fd(netns.as_fd());
        let request = LinkCreate::new(program.as_fd(), target, AttachType::SK_LOOKUP);
        self.host.kernel().link_create(&request).unwrap()
    }

    fn notes<const N: usize>(&self) -> [u64; N] {
        self.notes.read()
    }
}

const fn errno(errno: Errno) -> u64 {
    (-errno.0 as i64).cast_unsigned()
}

/// A socket gets what is for an address that nobody is bound to.
fn lookups_assign(host: &dyn Host) {
    for stream in [false, true] {
        for ((at, to), family) in addresses(7001).into_iter().zip(addresses(7777)).zip([2u64, 10]) {
            let socket = host.socket(stream, at, false);
            let sockets = map(host, MapType::SOCKMAP, 8, 2);
            put(host, &sockets, 0, socket);
            assert_eq!(host.send(stream, to, b"none"), REFUSED);
            assert_eq!(host.send(stream, at, b"own"), Ok(Some(socket)));
            let mut script = Script::lookup(host);
            for field in [8, 12, 60] {
                script.note_field(Size::W, field);
            }
            script.note_device();
            if family == 2 {
                script.note_field(Size::W, 16).note_field(Size::W, 40);
            } else {
                script.note_field(Size::W, 32).note_field(Size::W, 56);
            }
            let link = script.assign(&sockets, 0, 0).attach(PASS);
            assert_eq!(host.send(stream, to, b"assigned"), Ok(Some(socket)), "{to} {stream}");
            let ip = u64::from(if family == 2 { u32::from_ne_bytes([127, 0, 0, 1]) } else { 1u32.to_be() });
            let protocol = if stream { 6 } else { 17 };
            assert_eq!(script.notes(), [family, protocol, 7777, 1, ip, ip, 0], "{to} {stream}");
            // What is assigned comes before who is bound there, and after who is connected.
            let bound = host.socket(stream, to, false);
            assert_eq!(host.send(stream, to, b"assigned"), Ok(Some(socket)));
            drop(link);
            assert_eq!(host.send(stream, to, b"bound"), Ok(Some(bound)));
        }
    }
}

/// What cannot be assigned, and verdicts.
fn lookups_are_refused(host: &dyn Host) {
    let [four, six] = addresses(7011);
    let to = addresses(7012)[0];
    let sockets = map(host, MapType::SOCKMAP, 8, 8);
    let [one, two] = [four, addresses(7013)[0]].map(|at| host.socket(false, at, false));
    for (place, socket) in
        (0..).zip([one, two, host.socket(false, six, false), host.socket(true, four, false)])
    {
        put(host, &sockets, place, socket);
    }
    let mut script = Script::lookup(host);
    // Flags that there are not, another family, another protocol.
    script.assign(&sockets, 0, 4).assign(&sockets, 2, 0).assign(&sockets, 3, 0);
    // The second one only in place of the first, and none only so too.
    script.assign(&sockets, 0, 0).assign(&sockets, 1, 0).assign(&sockets, 1, 1).assign_none(0).assign_none(1);
    script.assign(&sockets, 0, 0);
    let link = script.attach(PASS);
    assert_eq!(host.send(false, to, b"?"), Ok(Some(one)));
    let expected = [
        errno(Errno::EINVAL),
        errno(Errno::EAFNOSUPPORT),
        errno(Errno::EPROTOTYPE),
        0,
        errno(Errno::EEXIST),
        0,
        errno(Errno::EEXIST),
        0,
        0,
    ];
    assert_eq!(script.notes(), expected);
    drop(link);
    // Dropped, whatever was assigned; and without a socket the usual one is looked for.
    let link = Script::lookup(host).assign(&sockets, 0, 0).attach(DROP);
    assert_eq!(host.send(false, to, b"dropped"), REFUSED);
    assert_eq!(host.send(false, four, b"dropped"), REFUSED);
    drop(link);
    let link = Script::lookup(host).assign(&sockets, 7, 0).attach(PASS);
    assert_eq!((host.send(false, to, b"?"), host.send(false, four, b"?")), (REFUSED, Ok(Some(one))));
    drop(link);
}

/// Programs run in their order; the last that assigned has it, and none that drops.
fn lookups_follow_each_other(host: &dyn Host) {
    let to = addresses(7022)[0];
    let sockets = map(host, MapType::SOCKMAP, 8, 8);
    let both = [7020, 7021].map(|port| host.socket(false, addresses(port)[0], false));
    for (place, socket) in (0..).zip(both) {
        put(host, &sockets, place, socket);
    }
    for (first, second, expected) in [
        ((0, PASS), (1, PASS), Ok(Some(both[1]))),
        ((0, PASS), (7, PASS), Ok(Some(both[0]))),
        ((7, PASS), (1, PASS), Ok(Some(both[1]))),
        ((0, PASS), (1, DROP), Ok(Some(both[0]))),
        ((0, DROP), (1, PASS), Ok(Some(both[1]))),
        ((0, DROP), (7, PASS), REFUSED),
        ((7, PASS), (7, DROP), REFUSED),
    ] {
        let mut scripts = [first, second].map(|(place, verdict)| {
            let mut script = Script::lookup(host);
            // The one before has not assigned anything that this one sees.
            let link = script.assign(&sockets, place, 1).attach(verdict);
            (script, link)
        });
        assert_eq!(host.send(false, to, b"?"), expected, "{first:?} {second:?}");
        scripts.reverse();
    }
}

/// A program of a shared port sees the packet from its transport header on, and selects by what is in it.
fn shared_ports(host: &dyn Host) {
    for stream in [false, true] {
        for at in addresses(if stream { 7031 } else { 7030 }) {
            let group = [(); 3].map(|()| host.socket(stream, at, true));
            let sockets = map(host, MapType::REUSEPORT_SOCKARRAY, 8, 4);
            for (place, socket) in (0..).zip(group) {
                put(host, &sockets, place, socket);
            }
            assert!(host.send(stream, at, b"?").unwrap().is_some_and(|socket| group.contains(&socket)));
            for place in [2, 0, 1] {
                let mut script = Script::new(host, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT);
                // The length, the protocols, whether the port is bound for all addresses.
                for field in [16, 20, 24, 28] {
                    script.note_field(Size::W, field);
                }
                // The port that the packet is for, in what lies there and in what can be copied.
                let far = script.label();
                let asm = script.builder.asm();
                asm.ldx(Size::DW, Reg::R2, Reg::R6, 0)
                    .ldx(Size::DW, Reg::R3, Reg::R6, 8)
                    .mov64_imm(Reg::R7, -1);
                asm.mov64_reg(Reg::R4, Reg::R2).add64_imm(Reg::R4, 8).jmp64_reg(
                    Cond::Gt,
                    Reg::R4,
                    Reg::R3,
                    &*far,
                );
                asm.ldx(Size::H, Reg::R7, Reg::R2, 2).label(far);
                script.note(Reg::R7);
                let asm = script.builder.asm();
                asm.st(Size::DW, Reg::R10, -16, 0).mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 2);
                asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -16).mov64_imm(Reg::R4, 2);
                asm.call_helper(LOAD_BYTES).ldx(Size::DW, Reg::R7, Reg::R10, -16);
                script.note(Reg::R7);
                let program = script.select(&sockets, place, 0).end(PASS);
                if !host.choose_by(group[0], &program) {
                    return;
                }
                assert_eq!(host.send(stream, at, b"12345"), Ok(Some(group[place as usize])), "{at} {stream}");
                let [len, eth, ip, any, port, copied, answer] = script.notes();
                // How long a first segment is depends on its options.
                assert!(if stream { len >= 20 } else { len == 13 }, "{len}");
                let eth_protocol: u16 = if at.is_ipv4() { 0x0800 } else { 0x86dd };
                let expected = (u64::from(eth_protocol.to_be()), if stream { 6 } else { 17 }, 0);
                assert_eq!((eth, ip, any), expected, "{at} {stream}");
                let wanted = u64::from(at.port().to_be());
                assert_eq!((port, copied, answer), (wanted, wanted, 0), "{at} {stream}");
            }
        }
    }
}

/// What cannot be selected, and verdicts.
fn shared_ports_are_refused(host: &dyn Host) {
    let at = addresses(7040)[0];
    let group = [(); 2].map(|()| host.socket(false, at, true));
    let [four, six] = addresses(7041);
    let other = host.socket(false, four, true);
    let others = [host.socket(false, six, true), host.socket(true, four, true)];
    let sockets = map(host, MapType::REUSEPORT_SOCKARRAY, 8, 8);
    for (place, socket) in (0..).zip([group[0], group[1], other, others[0], others[1]]) {
        put(host, &sockets, place, socket);
    }
    let select = |script: &mut Script<'_>, place: i32, flags: i32| _ = script.select(&sockets, place, flags);
    let mut script = Script::new(host, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT);
    for (place, flags) in [(7, 0), (99, 0), (2, 0), (3, 0), (4, 0)] {
        select(&mut script, place, flags);
    }
    let program = script.end(PASS);
    if !host.choose_by(group[0], &program) {
        return;
    }
    // Nothing was selected: the hash decides.
    assert!(host.send(false, at, b"?").unwrap().is_some_and(|socket| group.contains(&socket)));
    let expected = [
        errno(Errno::ENOENT),
        errno(Errno::ENOENT),
        errno(Errno::EBADFD),
        errno(Errno::EAFNOSUPPORT),
        errno(Errno::EPROTOTYPE),
    ];
    assert_eq!(script.notes(), expected);
    // The last one counts, and a verdict comes before it.
    for (verdict, expected) in [(PASS, Ok(Some(group[0]))), (DROP, REFUSED)] {
        let mut script = Script::new(host, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT);
        select(&mut script, 1, 0);
        // Nobody looks at flags.
        select(&mut script, 0, 5);
        assert!(host.choose_by(group[1], &script.end(verdict)));
        assert_eq!(host.send(false, at, b"?"), expected);
    }
    // What a lookup program assigns is one of the group, unless it says that it is that one. No socket is in maps of both
    // kinds, nor in two of those for shared ports.
    let group = [(); 2].map(|()| host.socket(false, addresses(7043)[0], true));
    let assigned = map(host, MapType::SOCKMAP, 8, 1);
    put(host, &assigned, 0, group[0]);
    put(host, &sockets, 1, group[1]);
    assert_eq!(try_put(host, &sockets, 0, group[0]), Err(Some(Errno::EBUSY)));
    assert_eq!(try_put(host, &assigned, 0, group[1]), Err(Some(Errno::EBUSY)));
    let second = map(host, MapType::REUSEPORT_SOCKARRAY, 8, 1);
    assert_eq!(try_put(host, &second, 0, group[1]), Err(Some(Errno::EBUSY)));
    let mut script = Script::new(host, ProgType::SK_REUSEPORT, AttachType::SK_REUSEPORT_SELECT);
    select(&mut script, 1, 0);
    assert!(host.choose_by(group[0], &script.end(PASS)));
    let elsewhere = addresses(7042)[0];
    for (flags, expected) in [(0, group[1]), (2, group[0])] {
        let link = Script::lookup(host).assign(&assigned, 0, flags).attach(PASS);
        assert_eq!(host.send(false, elsewhere, b"?"), Ok(Some(expected)), "flags {flags}");
        drop(link);
    }
}

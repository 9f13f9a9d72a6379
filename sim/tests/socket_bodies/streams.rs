//! Programs of maps of sockets: what becomes of bytes that are sent through them.

use std::os::fd::AsFd;

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sys::abi::{AttachType, MapType, ProgType, UpdateFlags};
use skep_sys::request::MapCreate;
use skep_sys::{Kernel, MapFd};

use super::{Body, Network, attach, load};

/// Writes a program that is given its context in r6 and a map of two sockets.
type Write = fn(&mut Assembler, i32);

/// How a helper is called that takes the context and a map: with a number, or a key on the stack.
fn redirect(asm: &mut Assembler, map: i32, helper: i32, key: i32, flags: i32) {
    asm.mov64_reg(Reg::R1, Reg::R6).ld_map_fd(Reg::R2, map);
    asm.mov64_imm(Reg::R3, key).mov64_imm(Reg::R4, flags).call_helper(helper);
}

/// Calls a helper with the context and numbers.
fn call(asm: &mut Assembler, helper: i32, arguments: &[i32]) {
    asm.mov64_reg(Reg::R1, Reg::R6);
    for (register, argument) in [Reg::R2, Reg::R3, Reg::R4].into_iter().zip(arguments) {
        asm.mov64_imm(register, *argument);
    }
    asm.call_helper(helper);
}

/// Loads `data` and `data_end` of a message, and leaves for `out` when there are not so many bytes.
fn with_data(asm: &mut Assembler, bytes: i32) {
    asm.ldx(Size::DW, Reg::R7, Reg::R6, 0).ldx(Size::DW, Reg::R8, Reg::R6, 8);
    asm.mov64_reg(Reg::R1, Reg::R7).add64_imm(Reg::R1, bytes);
    asm.jmp64_reg(Cond::Gt, Reg::R1, Reg::R8, "out");
}

/// Programs that see messages as they are sent.
const MESSAGES: &[(&str, Write)] = &[
    ("pass", |asm, _| _ = asm.mov64_imm(Reg::R0, 1)),
    ("drop", |asm, _| _ = asm.mov64_imm(Reg::R0, 0)),
    ("an unknown verdict", |asm, _| _ = asm.mov64_imm(Reg::R0, 7)),
    ("to another socket, which sends it", |asm, map| redirect(asm, map, 60, 1, 0)),
    ("to another socket, which receives it", |asm, map| redirect(asm, map, 60, 1, 1)),
    ("to itself, which receives it", |asm, map| redirect(asm, map, 60, 0, 1)),
    ("to a socket that is not there", |asm, map| redirect(asm, map, 60, 3, 0)),
    ("to another socket with a flag that there is not", |asm, map| redirect(asm, map, 60, 1, 2)),
    ("to another socket, and drops it", |asm, map| {
        redirect(asm, map, 60, 1, 0);
        asm.mov64_imm(Reg::R0, 0);
    }),
    ("for three bytes, and for the rest anew", |asm, _| {
        call(asm, 61, &[3]);
        with_data(asm, 1);
        asm.ldx(Size::B, Reg::R1, Reg::R7, 0).mov64_imm(Reg::R0, 1);
        asm.jmp64_imm(Cond::Ne, Reg::R1, i32::from(b'l'), "end");
        asm.label("out").mov64_imm(Reg::R0, 0).label("end");
    }),
    ("three bytes to another socket", |asm, map| {
        call(asm, 61, &[3]);
        with_data(asm, 1);
        asm.ldx(Size::B, Reg::R1, Reg::R7, 0).mov64_imm(Reg::R0, 1);
        asm.jmp64_imm(Cond::Ne, Reg::R1, i32::from(b'l'), "end");
        redirect(asm, map, 60, 1, 1);
        asm.ja("end").label("out").mov64_imm(Reg::R0, 0).label("end");
    }),
    ("for more bytes than there are", |asm, map| {
        call(asm, 61, &[20]);
        redirect(asm, map, 60, 1, 1);
    }),
    ("waits for eight bytes", |asm, _| {
        call(asm, 62, &[8]);
        asm.mov64_imm(Reg::R0, 1);
    }),
    ("waits for eight bytes and sends them elsewhere", |asm, map| {
        call(asm, 62, &[8]);
        redirect(asm, map, 60, 1, 1);
    }),
    ("writes into it", |asm, _| {
        with_data(asm, 2);
        asm.st(Size::B, Reg::R7, 1, i32::from(b'E'));
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("removes its begin", |asm, _| {
        call(asm, 91, &[0, 2, 0]);
        asm.mov64_imm(Reg::R0, 1);
    }),
    ("removes its middle", |asm, _| {
        call(asm, 91, &[1, 3, 0]);
        asm.mov64_imm(Reg::R0, 1);
    }),
    ("removes its end", |asm, _| {
        call(asm, 91, &[3, 2, 0]);
        asm.mov64_imm(Reg::R0, 1);
    }),
    ("removes more than there is", |asm, _| {
        call(asm, 91, &[2, 9, 0]);
        with_data(asm, 1);
        asm.stx(Size::B, Reg::R7, 0, Reg::R0);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("removes a part and drops the rest", |asm, _| {
        call(asm, 91, &[0, 2, 0]);
        asm.mov64_imm(Reg::R0, 0);
    }),
    ("inserts bytes before it", |asm, _| {
        call(asm, 90, &[0, 2, 0]);
        with_data(asm, 2);
        asm.st(Size::H, Reg::R7, 0, 0x3e3e);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("inserts bytes and reaches them", |asm, _| {
        call(asm, 90, &[2, 3, 0]);
        call(asm, 63, &[2, 5, 0]);
        with_data(asm, 3);
        asm.st(Size::H, Reg::R7, 0, 0x2d2d).st(Size::B, Reg::R7, 2, 0x2d);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("inserts bytes and sees what is before them", |asm, _| {
        call(asm, 90, &[2, 3, 0]);
        call(asm, 63, &[2, 5, 0]);
        with_data(asm, 3);
        asm.st(Size::H, Reg::R7, 0, 0x2d2d).st(Size::B, Reg::R7, 2, 0x2d);
        call(asm, 91, &[5, 1, 0]);
        asm.ldx(Size::DW, Reg::R7, Reg::R6, 0).ldx(Size::DW, Reg::R8, Reg::R6, 8);
        asm.mov64_reg(Reg::R1, Reg::R7).add64_imm(Reg::R1, 3);
        asm.jmp64_reg(Cond::Gt, Reg::R1, Reg::R8, "out");
        asm.st(Size::B, Reg::R7, 0, i32::from(b'X'));
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("inserts bytes behind its end", |asm, _| {
        call(asm, 90, &[9, 2, 0]);
        with_data(asm, 1);
        asm.stx(Size::B, Reg::R7, 0, Reg::R0);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("reaches more than there is", |asm, _| {
        call(asm, 63, &[0, 99, 0]);
        with_data(asm, 1);
        asm.stx(Size::B, Reg::R7, 0, Reg::R0);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("reaches nothing", |asm, _| {
        call(asm, 63, &[2, 2, 0]);
        with_data(asm, 1);
        asm.stx(Size::B, Reg::R7, 0, Reg::R0);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("reaches its middle and writes there", |asm, _| {
        call(asm, 63, &[2, 4, 0]);
        with_data(asm, 2);
        asm.st(Size::H, Reg::R7, 0, 0x2a2a);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("writes its size and family into it", |asm, _| {
        with_data(asm, 2);
        asm.ldx(Size::W, Reg::R1, Reg::R6, 68).stx(Size::B, Reg::R7, 0, Reg::R1);
        asm.ldx(Size::W, Reg::R1, Reg::R6, 16).stx(Size::B, Reg::R7, 1, Reg::R1);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
];

/// Programs that see what comes in: what says where a message ends, if there is one, and what says what becomes of it.
const PARTS: &[(&str, Option<Write>, Write)] = &[
    ("pass", None, |asm, _| _ = asm.mov64_imm(Reg::R0, 1)),
    ("drop", None, |asm, _| _ = asm.mov64_imm(Reg::R0, 0)),
    ("to another socket, which sends it", None, |asm, map| redirect(asm, map, 52, 1, 0)),
    ("to another socket, which receives it", None, |asm, map| redirect(asm, map, 52, 1, 1)),
    ("to a socket that is not there", None, |asm, map| redirect(asm, map, 52, 3, 0)),
    ("to another socket with a flag that there is not", None, |asm, map| redirect(asm, map, 52, 1, 2)),
    ("messages of three bytes", Some(|asm, _| _ = asm.mov64_imm(Reg::R0, 3)), |asm, _| {
        asm.mov64_imm(Reg::R0, 1);
    }),
    (
        "messages of three bytes to another socket",
        Some(|asm, _| _ = asm.mov64_imm(Reg::R0, 3)),
        |asm, map| {
            redirect(asm, map, 52, 1, 1);
        },
    ),
    ("messages of all there is", Some(|asm, _| _ = asm.ldx(Size::W, Reg::R0, Reg::R6, 0)), |asm, map| {
        redirect(asm, map, 52, 1, 0);
    }),
    ("writes the length and the port of its end into it", None, |asm, _| {
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 2).call_helper(39);
        asm.ldx(Size::W, Reg::R7, Reg::R6, 76).ldx(Size::W, Reg::R8, Reg::R6, 80);
        asm.mov64_reg(Reg::R1, Reg::R7).add64_imm(Reg::R1, 2);
        asm.jmp64_reg(Cond::Gt, Reg::R1, Reg::R8, "out");
        asm.ldx(Size::W, Reg::R1, Reg::R6, 0).stx(Size::B, Reg::R7, 0, Reg::R1);
        asm.ldx(Size::W, Reg::R1, Reg::R6, 88).stx(Size::B, Reg::R7, 1, Reg::R1);
        asm.label("out").mov64_imm(Reg::R0, 1);
    }),
    ("stores bytes", None, |asm, _| {
        asm.st(Size::H, Reg::R10, -8, 0x3d3d).mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 1);
        asm.mov64_reg(Reg::R3, Reg::R10).add64_imm(Reg::R3, -8).mov64_imm(Reg::R4, 2).mov64_imm(Reg::R5, 0);
        asm.call_helper(9).mov64_imm(Reg::R0, 1);
    }),
];

/// Two connections through a kernel, of which one end each is in a map.
struct Connections<N: Network> {
    listener: N::Socket,
    /// A client with its server, then another.
    ends: [N::Socket; 4],
}

impl<N: Network> Connections<N> {
    fn new(network: &N) -> Connections<N> {
        let listener = network.listen();
        let one = network.connect(&listener);
        let its = network.accept(&listener);
        let other = network.connect(&listener);
        let others = network.accept(&listener);
        Connections { listener, ends: [one, its, other, others] }
    }

    /// What was read at each end, and is not empty.
    fn read(&self, network: &N) -> String {
        let names = ["client", "server", "other client", "other server"];
        let read = names.into_iter().zip(&self.ends).map(|(name, end)| (name, network.read(end)));
        let lines = read.filter(|(_, bytes)| !bytes.is_empty());
        let lines: Vec<_> = lines.map(|(name, bytes)| format!("{name}: {}", bytes.escape_ascii())).collect();
        if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") }
    }

    fn close(self, network: &N) {
        self.ends.into_iter().for_each(|end| network.close(end));
        network.close(self.listener);
    }
}

fn sockmap(kernel: &Kernel) -> MapFd {
    kernel.map_create(&MapCreate::new(MapType::SOCKMAP, 4, 4, 8)).unwrap()
}

fn put<N: Network>(network: &N, map: &MapFd, key: u32, socket: &N::Socket) {
    let fd = network.fd(socket);
    map.update_fd(&key.to_ne_bytes(), fd.as_fd(), UpdateFlags::empty()).unwrap();
}

fn message<N: Network>(network: &N, write: Write) -> Option<Vec<String>> {
    use std::os::fd::AsRawFd;

    let kernel = network.kernel();
    let map = sockmap(kernel);
    let prog = load(kernel, ProgType::SK_MSG, |asm| write(asm, map.as_fd().as_raw_fd()))?;
    let _link = attach(kernel, &prog, map.as_fd(), AttachType::SK_MSG_VERDICT)?;
    let connections = Connections::new(network);
    put(network, &map, 0, &connections.ends[0]);
    put(network, &map, 1, &connections.ends[2]);
    let mut lines = Vec::new();
    for bytes in ["hello", "world"] {
        lines.push(format!("{:?}", network.send(&connections.ends[0], bytes.as_bytes())));
    }
    // A kernel may send a part later than the next one is given to it.
    network.settle();
    lines.push(connections.read(network));
    connections.close(network);
    Some(lines)
}

fn part<N: Network>(network: &N, parser: Option<Write>, verdict: Write) -> Option<Vec<String>> {
    use std::os::fd::AsRawFd;

    let kernel = network.kernel();
    let map = sockmap(kernel);
    let fd = map.as_fd().as_raw_fd();
    let parser = match parser {
        Some(write) => Some(load(kernel, ProgType::SK_SKB, |asm| write(asm, fd))?),
        None => None,
    };
    let verdict = load(kernel, ProgType::SK_SKB, |asm| verdict(asm, fd))?;
    let parse = AttachType::SK_SKB_STREAM_PARSER;
    let _parser = match &parser {
        Some(parser) => Some(attach(kernel, parser, map.as_fd(), parse)?),
        None => None,
    };
    let _verdict = attach(kernel, &verdict, map.as_fd(), AttachType::SK_SKB_STREAM_VERDICT)?;
    let connections = Connections::new(network);
    put(network, &map, 0, &connections.ends[1]);
    put(network, &map, 1, &connections.ends[3]);
    let mut lines = Vec::new();
    for bytes in ["hello", "world"] {
        lines.push(format!("{:?}", network.send(&connections.ends[0], bytes.as_bytes())));
    }
    // A kernel may send a part later than the next one is given to it.
    lines.push(connections.read(network));
    connections.close(network);
    Some(lines)
}

/// What maps of sockets answer to user space.
fn maps<N: Network>(network: &N) -> Option<Vec<String>> {
    let kernel = network.kernel();
    let connections = Connections::new(network);
    let mut lines = Vec::new();
    for kind in [MapType::SOCKMAP, MapType::SOCKHASH] {
        let map = kernel.map_create(&MapCreate::new(kind, 4, 8, 2)).unwrap();
        let mut note = |what: &str, result: Result<(), skep_sys::MapError>| {
            lines.push(format!("{kind} {what}: {:?}", result.err().map(|error| error.errno())));
        };
        let key = |index: u32| index.to_ne_bytes();
        let flags = UpdateFlags::from_bits_retain;
        let [one, other] = [&connections.ends[0], &connections.listener].map(|socket| network.fd(socket));
        let mut value = [0; 8];
        note("lookup of nothing", map.lookup(&key(0), &mut value, flags(0)));
        note("update of nothing", map.update_fd(&key(0), one.as_fd(), flags(2)));
        note("update", map.update_fd(&key(0), one.as_fd(), flags(0)));
        note("update of a new one again", map.update_fd(&key(0), one.as_fd(), flags(1)));
        note("update with unknown flags", map.update_fd(&key(1), one.as_fd(), flags(3)));
        note("the same at another place", map.update_fd(&key(1), one.as_fd(), flags(1)));
        note("one that listens takes the place", map.update_fd(&key(1), other.as_fd(), flags(2)));
        note("past the end", map.update_fd(&key(2), other.as_fd(), flags(0)));
        note("lookup", map.lookup(&key(0), &mut value, flags(0)));
        let mut next = [0; 4];
        note("next", map.next_key(None, &mut next).map(drop));
        note("delete", map.delete(&key(0)));
        note("delete again", map.delete(&key(0)));
        note("lookup of what was deleted", map.lookup(&key(0), &mut value, flags(0)));
    }
    connections.close(network);
    Some(lines)
}

pub(super) fn all<N: Network + 'static>() -> Vec<Body<N>> {
    let mut all: Vec<Body<N>> = vec![("maps of sockets".to_owned(), Box::new(maps))];
    for (name, write) in MESSAGES {
        all.push((format!("a message: {name}"), Box::new(|network: &N| message(network, *write))));
    }
    for (name, parser, verdict) in PARTS {
        all.push((format!("a part: {name}"), Box::new(|network: &N| part(network, *parser, *verdict))));
    }
    all
}

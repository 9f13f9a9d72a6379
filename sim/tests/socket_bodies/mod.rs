//! Programs of sockets, tried with connections of one machine with itself: what came of each is written down as lines.

#![allow(dead_code, reason = "each test target uses a part")]

#[cfg(target_os = "linux")]
pub(crate) mod linux;
pub(crate) mod simulated;
mod streams;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use skep_asm::{Assembler, Cond, Reg, Size};
use skep_sys::abi::{AttachType, MapType, ProgType, UpdateFlags};
use skep_sys::request::{LinkCreate, LinkTarget, MapCreate, ProgLoad};
use skep_sys::{Kernel, LinkFd, LoadedProgram, MapFd};

/// A kernel, and connections through it.
pub(crate) trait Network {
    /// A socket.
    type Socket;

    fn kernel(&self) -> &Kernel;
    /// The directory of the control group whose sockets these are.
    fn group(&self) -> BorrowedFd<'_>;
    /// A socket that listens.
    fn listen(&self) -> Self::Socket;
    fn connect(&self, to: &Self::Socket) -> Self::Socket;
    fn accept(&self, listener: &Self::Socket) -> Self::Socket;
    fn send(&self, socket: &Self::Socket, bytes: &[u8]) -> Result<usize, i32>;
    /// What there is to read.
    fn read(&self, socket: &Self::Socket) -> Vec<u8>;
    /// Lets everything be sent that waits for more.
    fn settle(&self);
    fn close(&self, socket: Self::Socket);
    fn fd(&self, socket: &Self::Socket) -> OwnedFd;
    fn port(&self, socket: &Self::Socket) -> u16;
}

/// Something that is tried, with its name. It answers nothing where its programs cannot be loaded or attached.
pub(crate) type Body<N> = (String, Box<dyn Fn(&N) -> Option<Vec<String>>>);

/// Everything that is tried.
pub(crate) fn all<N: Network + 'static>() -> Vec<Body<N>> {
    let mut all: Vec<Body<N>> = Vec::new();
    for flags in [0, 4, 0x5f, 0x7f] {
        let body = move |network: &N| life_of_a_connection(network, flags);
        all.push((format!("a connection with flags {flags:#x}"), Box::new(body)));
    }
    all.extend(streams::all());
    all
}

fn load(kernel: &Kernel, kind: ProgType, write: impl FnOnce(&mut Assembler)) -> Option<LoadedProgram> {
    let mut asm = Assembler::new();
    // Programs find their context in r6, too.
    asm.mov64_reg(Reg::R6, Reg::R1);
    write(&mut asm);
    let insns = asm.exit().finish().unwrap();
    kernel.prog_load(&ProgLoad::new(kind, &insns, "GPL"), None).ok()
}

/// What a program of TCP writes down: words of its context, and what a helper answered.
const RECORD: usize = 32;
/// Experimental option, as the programs write it.
const OPTION: i32 = 0x5a5a_04fd;

/// A queue that programs write what they see into.
fn queue(kernel: &Kernel) -> MapFd {
    kernel.map_create(&MapCreate::new(MapType::QUEUE, 0, RECORD as u32, 1024)).unwrap()
}

/// A program of TCP that writes everything down, sets all flags in the events `at`, and uses options of headers.
fn observer(kernel: &Kernel, queue: &MapFd, flags: i32, at: &[i32]) -> Option<LoadedProgram> {
    load(kernel, ProgType::SOCK_OPS, |asm| {
        for (index, offset) in [0, 4, 8, 88, 72, 68, 212].into_iter().enumerate() {
            asm.ldx(Size::W, Reg::R1, Reg::R6, offset).stx(
                Size::W,
                Reg::R10,
                -32 + index as i16 * 4,
                Reg::R1,
            );
        }
        asm.st(Size::W, Reg::R10, -4, 0).ldx(Size::W, Reg::R7, Reg::R6, 0);
        // Options of headers.
        asm.jmp64_imm(Cond::Ne, Reg::R7, 14, "not_len");
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, 4).mov64_imm(Reg::R3, 0).call_helper(144);
        asm.stx(Size::W, Reg::R10, -4, Reg::R0).ja("push");
        asm.label("not_len").jmp64_imm(Cond::Ne, Reg::R7, 15, "not_write");
        asm.st(Size::W, Reg::R10, -40, OPTION);
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -40);
        asm.mov64_imm(Reg::R3, 4).mov64_imm(Reg::R4, 0).call_helper(143);
        asm.stx(Size::W, Reg::R10, -4, Reg::R0).ja("push");
        // What came in.
        asm.label("not_write");
        for op in [4, 5, 13] {
            asm.jmp64_imm(Cond::Eq, Reg::R7, op, "look");
        }
        asm.ja("flags").label("look");
        asm.st(Size::W, Reg::R10, -40, OPTION);
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -40);
        asm.mov64_imm(Reg::R3, 4).mov64_imm(Reg::R4, 0).call_helper(142);
        asm.stx(Size::W, Reg::R10, -4, Reg::R0);
        asm.label("flags");
        for op in at {
            asm.jmp64_imm(Cond::Eq, Reg::R7, *op, "set");
        }
        asm.ja("push").label("set");
        asm.mov64_reg(Reg::R1, Reg::R6).mov64_imm(Reg::R2, flags).call_helper(59);
        asm.label("push").ld_map_fd(Reg::R1, queue.as_fd().as_raw_fd());
        asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -32).mov64_imm(Reg::R3, 0).call_helper(87);
        asm.st(Size::W, Reg::R10, -4, -1).mov64_imm(Reg::R1, -1).stx(Size::W, Reg::R6, 4, Reg::R1);
        asm.mov64_imm(Reg::R0, 1);
    })
}

fn attach(kernel: &Kernel, prog: &LoadedProgram, to: BorrowedFd<'_>, kind: AttachType) -> Option<LinkFd> {
    kernel.link_create(&LinkCreate::new(prog.as_fd(), LinkTarget::Fd(to), kind)).ok()
}

/// A line for each record, of the side that a port belongs to.
fn records(queue: &MapFd, server: u16, of_server: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut record = [0; RECORD];
    while queue.lookup_and_delete(&[], &mut record, UpdateFlags::empty()).is_ok() {
        let word = |at: usize| i32::from_ne_bytes(record[at * 4..][..4].try_into().unwrap());
        let [op, mut first, mut second, state, full, port, flags, answer] = std::array::from_fn(word);
        // How long packets take, and sequence numbers, are not the same twice.
        if matches!(op, 9 | 12) {
            (first, second) = (0, 0);
        }
        // Before data are cut, the size is asked for as often as a kernel likes.
        if op == 14 && first == 1 || (port == i32::from(server)) != of_server {
            continue;
        }
        lines.push(format!(
            "op {op} args {first} {second} state {state} full {full} flags {flags:#x} answer {answer}"
        ));
    }
    lines
}

/// What programs of TCP are told of a connection, by each side: with flags that are set as soon as can be.
pub(crate) fn life_of_a_connection<N: Network>(network: &N, flags: i32) -> Option<Vec<String>> {
    let kernel = network.kernel();
    let queue = queue(kernel);
    let prog = observer(kernel, &queue, flags, &[3, 11])?;
    let _link = attach(kernel, &prog, network.group(), AttachType::CGROUP_SOCK_OPS)?;
    let listener = network.listen();
    let port = network.port(&listener);
    let client = network.connect(&listener);
    let server = network.accept(&listener);
    network.send(&client, b"hello").unwrap();
    let received = network.read(&server);
    network.send(&server, b"world").unwrap();
    let answered = network.read(&client);
    if (&*received, &*answered) != (b"hello", b"world") {
        // Where a machine lets it wait, it comes later.
        return Some(vec![format!(
            "{:?} and {:?} came in time",
            received.escape_ascii().to_string(),
            answered.escape_ascii().to_string()
        )]);
    }
    network.close(client);
    assert_eq!(network.read(&server), b"");
    network.close(server);
    network.close(listener);
    let mut lines = Vec::new();
    let mut both: Vec<[u8; RECORD]> = Vec::new();
    let mut record = [0; RECORD];
    while queue.lookup_and_delete(&[], &mut record, UpdateFlags::empty()).is_ok() {
        both.push(record);
    }
    for of_server in [false, true] {
        for record in &both {
            queue.update(&[], record, UpdateFlags::empty()).unwrap();
        }
        let side = if of_server { "server" } else { "client" };
        lines.extend(records(&queue, port, of_server).into_iter().map(|line| format!("{side}: {line}")));
    }
    Some(lines)
}

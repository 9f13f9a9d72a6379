//! What programs of control groups do to what processes do, on any kernel: bodies that the test binaries run on theirs.

#![allow(clippy::print_stdout)]

mod devices;
mod hooks;
mod options;
mod sockets;
mod sysctls;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use skep::asm::{Assembler, Reg, Size};
use skep::program::{Program, ProgramBuilder};
use skep::sys::abi::{AttachFlags, AttachType, Errno, ProgType};
use skep::sys::request::{LinkAnchor, LinkTarget, ProgAttach, ProgDetach, ProgLoad};
use skep::sys::{Feature, Kernel};

use crate::support::notes::Notes;

/// A body: what it does on a kernel.
pub(crate) type Body = fn(&dyn Host);

/// A kernel, and processes in it that make system calls in a control group.
pub(crate) trait Host {
    fn kernel(&self) -> &Kernel;
    /// The group that all of it happens in.
    fn group(&self) -> &OwnedFd;
    /// Makes a socket of IPv4, for streams or messages. Answers its number.
    fn socket(&self, stream: bool) -> Result<usize, Errno>;
    fn bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno>;
    fn listen(&self, socket: usize);
    fn connect(&self, socket: usize, address: SocketAddr) -> Result<(), Errno>;
    /// `getsockname` and `getpeername`.
    fn local(&self, socket: usize) -> Result<SocketAddr, Errno>;
    fn peer(&self, socket: usize) -> Result<SocketAddr, Errno>;
    fn send(&self, socket: usize, to: SocketAddr) -> Result<(), Errno>;
    fn close(&self, socket: usize);
    /// `SO_MARK`, `SO_PRIORITY`, `SO_RCVBUF`, `SO_KEEPALIVE` or `TCP_CONGESTION`.
    fn set(&self, socket: usize, option: Opt, value: u32) -> Result<(), Errno>;
    fn get(&self, socket: usize, option: Opt) -> Result<u32, Errno>;
    /// Reads below `/proc/sys`.
    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno>;
    fn set_sysctl(&self, name: &str, value: &[u8]) -> Result<(), Errno>;
    /// Opens a character device to read, and perhaps to write.
    fn open_device(&self, path: &str, number: (u32, u32), write: bool) -> Result<(), Errno>;
    /// Says that programs cannot be attached to hooks of security: what a test goes without, and why.
    fn lacks(&self, what: &str, reason: &str);
    /// Makes a socket and closes it, past the hook `socket_create`.
    fn create(&self, stream: bool) -> Result<(), Errno>;
    /// Binds a socket, past the hook `socket_bind`.
    fn secure_bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno>;
    /// Does something in another group.
    fn outside(&self, act: &mut dyn FnMut());
}

/// Options that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
    Mark,
    Priority,
    ReceiveBuffer,
    KeepAlive,
}

impl Opt {
    pub(crate) fn name(self) -> i32 {
        match self {
            Opt::Mark => 36,
            Opt::Priority => 12,
            Opt::ReceiveBuffer => 8,
            Opt::KeepAlive => 9,
        }
    }
}

crate::support::bodies! { ($) cgroup_conformance;
    creation: sockets::creation,
    binding: sockets::binding,
    bound: sockets::bound,
    connecting: sockets::connecting,
    refused_connections: sockets::refused_connections,
    messages: sockets::messages,
    names: sockets::names,
    setting: options::setting,
    getting: options::getting,
    helpers: options::helpers,
    reading_settings: sysctls::reading,
    writing_settings: sysctls::writing,
    devices: devices::devices,
    security: hooks::verdicts,
}

/// A program that is attached to the group, and what it notes.
struct Script<'h> {
    host: &'h dyn Host,
    builder: ProgramBuilder,
    attach_type: AttachType,
    notes: Notes,
}

/// A program that is attached until it is dropped.
struct Attached<'h> {
    host: &'h dyn Host,
    program: Program,
    attach_type: AttachType,
    notes: Notes,
}

impl<'h> Script<'h> {
    fn new(host: &'h dyn Host, prog_type: ProgType, attach_type: AttachType) -> Script<'h> {
        let mut builder = ProgramBuilder::new(prog_type, "GPL");
        builder.name("script").expected_attach_type(attach_type);
        builder.asm().mov64_reg(Reg::R6, Reg::R1);
        Script { host, builder, attach_type, notes: Notes::new(host.kernel()) }
    }

    /// Notes a register other than `r1`.
    fn note(&mut self, reg: Reg) -> &mut Self {
        self.notes.reg(&mut self.builder, reg);
        self
    }

    /// Notes a field of the context, whose address is in `r6`.
    fn note_field(&mut self, size: Size, at: i16) -> &mut Self {
        self.notes.field(&mut self.builder, size, Reg::R6, at);
        self
    }

    /// Notes 8 bytes of the stack.
    fn note_stack(&mut self, at: i16) -> &mut Self {
        self.notes.field(&mut self.builder, Size::DW, Reg::R10, at);
        self
    }

    /// Writes a field of the context.
    fn set_field(&mut self, at: i16, value: i32) -> &mut Self {
        self.builder.asm().mov64_imm(Reg::R7, value).stx(Size::W, Reg::R6, at, Reg::R7);
        self
    }

    /// Puts 8 bytes on the stack.
    fn stack(&mut self, at: i16, bytes: [u8; 8]) -> &mut Self {
        self.builder.asm().ld_imm64(Reg::R7, u64::from_le_bytes(bytes)).stx(Size::DW, Reg::R10, at, Reg::R7);
        self
    }

    /// `bpf_set_retval(value)`.
    fn set_retval(&mut self, value: i32) -> &mut Self {
        self.builder.asm().mov64_imm(Reg::R1, value).call_helper(187);
        self
    }

    /// Returns a number, and attaches the program beside what is attached.
    fn attach(&mut self, value: i32) -> Attached<'h> {
        self.builder.asm().mov64_imm(Reg::R0, value).exit();
        self.attach_as_is()
    }

    fn attach_as_is(&mut self) -> Attached<'h> {
        self.try_attach().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The reason why it cannot be loaded or attached.
    fn try_attach(&mut self) -> Result<Attached<'h>, String> {
        let program = self.builder.load(self.host.kernel()).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            format!("{error}: {cause}: {}", error.verifier_log().unwrap_or("no log"))
        })?;
        let target = LinkTarget::Fd(self.host.group().as_fd());
        let mut request = ProgAttach::new(program.as_fd(), target, self.attach_type);
        request.flags = AttachFlags::ALLOW_MULTI;
        self.host.kernel().prog_attach(&request).map_err(|errno| format!("attach: {errno}"))?;
        let (attach_type, notes) = (self.attach_type, self.notes.clone());
        Ok(Attached { host: self.host, program, attach_type, notes })
    }
}

impl Attached<'_> {
    /// What it noted, up to a number.
    fn notes<const N: usize>(&self) -> [u64; N] {
        self.notes.read()
    }

    /// Forgets what it noted.
    fn clear(&self) {
        self.notes.clear();
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let target = LinkTarget::Fd(self.host.group().as_fd());
        let request = ProgDetach::new(self.program.as_fd(), target, self.attach_type);
        self.host.kernel().prog_detach(&request).unwrap();
    }
}

/// Whether programs can say what is answered (Linux 5.18): they say yes or no on older kernels. Helpers name the release
/// here and below: what came with it cannot be asked for, but a helper that came with it can.
fn sets_retval(host: &dyn Host, what: &str) -> bool {
    let sets = host.kernel().has(Feature::Helper(ProgType::CGROUP_SOCK, 187)).is_supported();
    if !sets {
        println!("skip: {what}: this kernel has no helper bpf_set_retval");
    }
    sets
}

/// Whether groups put programs before and after others (Linux 6.17).
fn ordered(host: &dyn Host) -> bool {
    let mut script = Script::new(host, ProgType::CGROUP_SYSCTL, AttachType::CGROUP_SYSCTL);
    script.builder.asm().mov64_imm(Reg::R0, 1).exit();
    let program = script.builder.load(host.kernel()).unwrap();
    let target = LinkTarget::Fd(host.group().as_fd());
    let mut request = ProgAttach::new(program.as_fd(), target, script.attach_type);
    request.flags = AttachFlags::ALLOW_MULTI;
    request.anchor = LinkAnchor::First;
    let answer = host.kernel().prog_attach(&request);
    if answer.is_ok() {
        host.kernel().prog_detach(&ProgDetach::new(program.as_fd(), target, script.attach_type)).unwrap();
    }
    answer.is_ok()
}

/// Whether programs may return a number, from a hook.
fn may_return(host: &dyn Host, prog_type: ProgType, attach_type: AttachType, value: i32) -> bool {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, value).exit();
    let insns = asm.finish().unwrap();
    let mut request = ProgLoad::new(prog_type, &insns, "GPL");
    request.expected_attach_type = attach_type;
    host.kernel().prog_load(&request, None).is_ok()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An errno as programs see it.
fn negative(errno: Errno) -> u64 {
    i64::from(errno.0).wrapping_neg() as u64
}

//! Programs of TCP: when they are run, and what they see.

use std::fmt;

use skep_sys::abi::{AttachType, ProgId};

use super::EventError;
use super::socket_life::no_socket;
use crate::kernel::SimKernel;
use crate::link::Place;
use crate::net::{Hook, Socket, SocketId};
use crate::packet::buffer::Buffer;
use crate::packet::tcp::{self, HEADER, Header, OPTIONS_MAX};
use crate::packet::{Segment, SockOps};
use crate::vm::{Trap, Vm};

/// What programs of TCP are told of (`BPF_SOCK_OPS_...`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SockOp(pub u32);

/// The constants of [`SockOp`], with their names.
macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl SockOp {
            $($(#[$doc])* pub const $name: SockOp = SockOp($number);)*

            /// Its name, of those that are known.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

ops! {
    /// Nothing.
    VOID = 0;
    /// How long a first segment waits for its answer; `reply` is ticks of the kernel.
    TIMEOUT_INIT = 1;
    /// How large a window is offered at first; `reply` is packets.
    RWND_INIT = 2;
    /// A socket connects.
    TCP_CONNECT_CB = 3;
    /// A connection that this side began is there.
    ACTIVE_ESTABLISHED_CB = 4;
    /// A connection that the other side began is there.
    PASSIVE_ESTABLISHED_CB = 5;
    /// Whether congestion is to be told of in packets.
    NEEDS_ECN = 6;
    /// The least time that packets take.
    BASE_RTT = 7;
    /// A segment was not acknowledged in time: retransmits, time, whether the connection ends by it.
    RTO_CB = 8;
    /// A segment was sent again: its number, how many segments, and an error.
    RETRANS_CB = 9;
    /// A socket changes its state: the old and the new one.
    STATE_CB = 10;
    /// A socket begins to listen.
    TCP_LISTEN_CB = 11;
    /// A packet was acknowledged: how long it took, and how long packets take.
    RTT_CB = 12;
    /// A header came in.
    PARSE_HDR_OPT_CB = 13;
    /// How much room options need in a header that is to be sent.
    HDR_OPT_LEN_CB = 14;
    /// Options can be written into a header.
    WRITE_HDR_OPT_CB = 15;
}

impl fmt::Debug for SockOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SockOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "SockOp({})", self.0),
        }
    }
}

/// A program of TCP (`BPF_PROG_TYPE_SOCK_OPS`) that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SockOpsRun {
    /// What it was told of.
    pub op: SockOp,
    /// The socket. For a connection that is not there yet, it is the one that listens.
    pub socket: SocketId,
    /// What `args` held before all programs.
    pub args: [u32; 4],
    /// Name of the program.
    pub program: String,
    /// Its id.
    pub prog_id: ProgId,
    /// What it returned: 1 unless it refuses.
    pub value: u32,
    /// What `reply` held afterwards.
    pub reply: u32,
}

/// What a socket wants to have programs told of (`BPF_SOCK_OPS_..._CB_FLAG`).
pub(super) mod flag {
    pub(crate) const RTO: u32 = 1;
    pub(crate) const RETRANS: u32 = 1 << 1;
    pub(crate) const STATE: u32 = 1 << 2;
    pub(crate) const RTT: u32 = 1 << 3;
    pub(crate) const PARSE_ALL: u32 = 1 << 4;
    pub(crate) const PARSE_UNKNOWN: u32 = 1 << 5;
    pub(crate) const WRITE: u32 = 1 << 6;
}

/// The first argument where no segment is to be sent yet (`BPF_WRITE_HDR_TCP_CURRENT_MSS`).
const CURRENT_MSS: u32 = 1;

/// Whom an event is about.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// A socket, by its cookie.
    Full(u64),
    /// A connection that is not there yet, and the socket that listens.
    Request { listener: u64, socket: Box<Socket> },
}

/// A segment as a program sees it.
#[derive(Default)]
struct Shown<'a> {
    /// The part of its header that is seen, and the room behind it.
    header: &'a [u8],
    room: usize,
    len: usize,
    flags: u8,
}

/// What programs are told.
#[derive(Default)]
struct Told<'a> {
    args: [u32; 4],
    shown: Option<Shown<'a>>,
    /// What is left for options.
    remaining: usize,
    /// The first segment of the connection.
    syn: Option<&'a [u8]>,
}

/// What came of programs.
struct Answer {
    allowed: bool,
    remaining: usize,
    /// The header as they left it.
    header: Vec<u8>,
}

/// Runs programs of TCP, and notes each.
pub(super) struct Tcp<'k> {
    pub(super) kernel: &'k SimKernel,
    pub(super) cpu: u32,
    pub(super) runs: Vec<SockOpsRun>,
}

impl<'k> Tcp<'k> {
    pub(super) fn new(kernel: &'k SimKernel, cpu: u32) -> Tcp<'k> {
        Tcp { kernel, cpu, runs: Vec::new() }
    }

    pub(super) fn socket(&self, cookie: u64) -> Result<Socket, EventError> {
        self.kernel.0.world().net.socket(cookie).cloned().ok_or_else(|| no_socket(SocketId(cookie)))
    }

    /// Changes a socket, if it is there.
    pub(super) fn change(&self, cookie: u64, change: impl FnOnce(&mut Socket)) {
        if let Some(socket) = self.kernel.0.world().net.socket_mut(cookie) {
            change(socket);
        }
    }

    /// Tells programs of something without a segment.
    pub(super) fn tell(&mut self, who: &Who, op: SockOp, args: [u32; 4]) -> Result<(), EventError> {
        self.call(who, op, Told { args, ..Told::default() }).map(drop)
    }

    /// As [`tell`](Tcp::tell), with a segment that came in.
    pub(super) fn tell_of(&mut self, who: &Who, op: SockOp, segment: &[u8]) -> Result<(), EventError> {
        let flags = segment.get(13).copied().unwrap_or(0);
        let shown = Shown { header: segment, room: 0, len: segment.len(), flags };
        self.call(who, op, Told { shown: Some(shown), ..Told::default() }).map(drop)
    }

    /// Runs the programs of the socket's control groups, which share their context.
    fn call(&mut self, who: &Who, op: SockOp, told: Told<'_>) -> Result<Answer, EventError> {
        let Told { args, shown, remaining, syn } = told;
        let (owner, socket) = match who {
            Who::Full(cookie) => (*cookie, self.socket(*cookie)?),
            Who::Request { listener, socket } => (*listener, (**socket).clone()),
        };
        let mut answer = Answer { allowed: true, remaining, header: Vec::new() };
        let group = self.socket(owner)?.cgroup;
        let attach_type = AttachType::CGROUP_SOCK_OPS;
        let chain = self.kernel.0.cgroup_chain(&group, attach_type);
        let Some(first) = chain.first() else { return Ok(answer) };

        let mut vm = Vm::new(self.kernel, &first.prog(), self.cpu);
        let mut context = SockOps::new(op.0, args, socket);
        context.remaining = remaining;
        let syn = syn.map(<[u8]>::to_vec);
        context.syn = syn.or_else(|| self.kernel.0.world().net.stream(owner).and_then(|s| s.syn.clone()));
        let faulted = |vm: &Vm, trap: Trap| EventError::Fault(vm.fault_of(trap));
        if let Who::Full(cookie) = who {
            let address = vm.socket_address(*cookie).map_err(|trap| faulted(&vm, trap))?;
            context.full = Some((*cookie, address));
        }
        if let Some(shown) = &shown {
            let buffer = Buffer::new(&mut vm.memory, 0, shown.header, shown.room);
            let buffer = buffer.map_err(|trap| faulted(&vm, trap))?;
            buffer.protect(&mut vm.memory);
            context.segment = Some(Segment { buffer, len: shown.len as u32, flags: shown.flags }); // below 2^32
        }
        let at = vm.memory.add_context(Box::new(context)).map_err(|trap| faulted(&vm, trap))?;
        for link in &chain {
            let prog = link.prog();
            if let Place::Net(Hook::Cgroup { id, .. }) = link.place {
                vm.held.set_cgroup(id, attach_type);
            }
            let value = vm.run(&prog, at).map_err(|fault| {
                self.kernel.0.world().faults.add((*fault).clone());
                EventError::Fault(fault)
            })? as u32;
            answer.allowed &= value & 1 != 0;
            let reply = vm.memory.context::<SockOps>().map_or(0, |context| context.args[0]);
            self.runs.push(SockOpsRun {
                op,
                socket: SocketId(owner),
                args,
                program: prog.name().to_owned(),
                prog_id: ProgId(prog.id),
                value,
                reply,
            });
        }
        if let Some(context) = vm.memory.context::<SockOps>().cloned() {
            answer.remaining = context.remaining;
            answer.header = context.segment.map_or(Vec::new(), |s| s.buffer.bytes(&vm.memory).to_vec());
        }
        Ok(answer)
    }

    /// What a socket wants to be told of.
    fn wants(&self, who: &Who) -> u32 {
        let (Who::Full(cookie) | Who::Request { listener: cookie, .. }) = who;
        self.kernel.0.world().net.socket(*cookie).map_or(0, |socket| socket.callback_flags)
    }

    /// Tells of something that the socket wants to be told of.
    pub(super) fn tell_if(
        &mut self,
        cookie: u64,
        wanted: u32,
        op: SockOp,
        args: [u32; 4],
    ) -> Result<(), EventError> {
        let who = Who::Full(cookie);
        if self.wants(&who) & wanted != 0 { self.tell(&who, op, args) } else { Ok(()) }
    }

    /// Changes the state of a socket, of which programs are told before.
    pub(super) fn set_state(&mut self, cookie: u64, state: u32) -> Result<(), EventError> {
        let old = self.socket(cookie)?.state;
        self.tell_if(cookie, flag::STATE, SockOp::STATE_CB, [old, state, 0, 0])?;
        self.change(cookie, |socket| socket.state = state);
        Ok(())
    }

    /// Asks how much room options will need, before data are cut into segments.
    pub(super) fn ask_size(&mut self, cookie: u64) -> Result<(), EventError> {
        let who = Who::Full(cookie);
        if self.wants(&who) & flag::WRITE == 0 {
            return Ok(());
        }
        // Established connections send times, and nothing more by themselves.
        let told = Told { args: [CURRENT_MSS, 0, 0, 0], remaining: OPTIONS_MAX - 12, ..Told::default() };
        self.call(&who, SockOp::HDR_OPT_LEN_CB, told).map(drop)
    }

    /// The header of a segment that is sent, with the options that programs write.
    pub(super) fn header(
        &mut self,
        who: &Who,
        flags: u8,
        payload: usize,
        syn: Option<&[u8]>,
    ) -> Result<Vec<u8>, EventError> {
        let socket = match who {
            Who::Full(cookie) => self.socket(*cookie)?,
            Who::Request { socket, .. } => (**socket).clone(),
        };
        let header = Header {
            source: socket.local.port(),
            destination: socket.remote_port(),
            sequence: socket.tcp.snd_nxt,
            acknowledged: if flags & tcp::ACK != 0 { socket.tcp.rcv_nxt } else { 0 },
            flags,
        };
        let now = (self.kernel.0.now() / 1_000_000) as u32; // its low half, in milliseconds
        let mut options = header.options(socket.tcp.mss_cache, now);
        let remaining = OPTIONS_MAX.saturating_sub(options.len());
        let mut reserved = 0;
        if self.wants(who) & flag::WRITE != 0 {
            let shown = Shown { len: payload, flags, ..Shown::default() };
            let told = Told { shown: Some(shown), remaining, syn, ..Told::default() };
            let answer = self.call(who, SockOp::HDR_OPT_LEN_CB, told)?;
            if answer.allowed {
                reserved = remaining.saturating_sub(answer.remaining).next_multiple_of(4);
            }
        }
        let first = HEADER + options.len();
        options.resize(options.len() + reserved, 1);
        let mut bytes = header.bytes(&options);
        if reserved > 0 {
            let shown = Shown {
                header: bytes.get(..first).unwrap_or_default(),
                room: reserved,
                len: bytes.len() + payload,
                flags,
            };
            let told = Told { shown: Some(shown), remaining: reserved, syn, ..Told::default() };
            let answer = self.call(who, SockOp::WRITE_HDR_OPT_CB, told)?;
            let written = answer.header.get(first..).unwrap_or_default();
            if answer.allowed
                && let Some(to) = bytes.get_mut(first..first + written.len())
            {
                to.copy_from_slice(written);
            }
        }
        Ok(bytes)
    }

    /// A segment comes in at a socket, which may want to look at its header.
    pub(super) fn arrive(&mut self, cookie: u64, segment: &[u8], payload: usize) -> Result<(), EventError> {
        self.change(cookie, |socket| {
            socket.tcp.segs_in = socket.tcp.segs_in.wrapping_add(1);
            if payload > 0 {
                socket.tcp.data_segs_in = socket.tcp.data_segs_in.wrapping_add(1);
            }
        });
        let who = Who::Full(cookie);
        let wants = self.wants(&who);
        let unknown = || tcp::has_unknown_option(segment.get(HEADER..).unwrap_or_default());
        let state = self.socket(cookie)?.state;
        // What comes before a connection is there is shown when it is.
        let early = matches!(state, super::tcp::SYN_SENT | super::tcp::SYN_RECV | super::tcp::LISTEN);
        if early || !(wants & flag::PARSE_ALL != 0 || wants & flag::PARSE_UNKNOWN != 0 && unknown()) {
            return Ok(());
        }
        let flags = segment.get(13).copied().unwrap_or(0);
        let len = segment.len() + payload;
        let shown = Shown { header: segment, room: 0, len, flags };
        let told = Told { shown: Some(shown), ..Told::default() };
        self.call(&who, SockOp::PARSE_HDR_OPT_CB, told).map(drop)
    }
}

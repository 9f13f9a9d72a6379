//! Bytes that go through sockets, past the programs of maps of sockets.

use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgId};

use super::packet::Verdict;
use super::scene::check_cpu;
use super::sock_ops::{SockOpsRun, Tcp, Who};
use super::tcp::{self, is_tcp};
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{ESTABLISHED, Effect, Psock, SockVerdict, SocketId};
use crate::packet::tcp::{ACK, PSH};
use crate::packet::{Message, Rules, SkBuff, SkMsg, Skb};
use crate::prog::Prog;
use crate::vm::{Trap, Vm};

/// Sockets that bytes may be redirected through.
const HOPS_MAX: u32 = 32;
/// The longest message that a parser waits for.
const UNPARSED_MAX: usize = 1 << 24;
/// What programs say that let bytes through (`SK_PASS`).
const PASS: u32 = 1;

/// A process sends bytes through a socket of TCP that is connected.
///
/// If the socket is in a map of sockets with an `sk_msg` program, that says what becomes of them. The other end, where this kernel
/// has it, receives them: the parser and verdict programs of its map see them, and what they let through can be
/// [read](SimKernel::read). What goes to another machine is [kept](SimKernel::sent).
///
/// ```
/// use skep_sim::{SendBytes, SimKernel, Socket, SocketCall};
///
/// let sim = SimKernel::new();
/// let server = sim.add_socket(Socket::tcp("10.0.0.1:80".parse()?).listening());
/// let client = sim.add_socket(Socket::tcp("10.0.0.2:0".parse()?));
/// sim.fire(SocketCall::connect(client, "10.0.0.1:80".parse()?))?;
/// let peer = sim.accept(server).unwrap();
/// let outcome = sim.fire(SendBytes::new(client, "GET /"))?;
/// assert_eq!(outcome.result, Ok(5));
/// assert_eq!(sim.read(peer), b"GET /");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendBytes {
    socket: SocketId,
    bytes: Vec<u8>,
    cpu: u32,
}

impl SendBytes {
    /// Bytes for a socket.
    pub fn new(socket: SocketId, bytes: impl Into<Vec<u8>>) -> SendBytes {
        SendBytes { socket, bytes: bytes.into(), cpu: 0 }
    }

    /// The CPU that it happens on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }
}

/// Bytes come in at a socket from another machine: a part of a stream, or a datagram. If the socket is in a map of sockets, its
/// parser and verdict programs (`sk_skb`) say what becomes of them.
///
/// Behind a parser, a verdict program sees its message and nothing else. Linux shows it the rest of the segment, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveBytes {
    socket: SocketId,
    bytes: Vec<u8>,
    cpu: u32,
}

impl ReceiveBytes {
    /// Bytes for a socket.
    pub fn new(socket: SocketId, bytes: impl Into<Vec<u8>>) -> ReceiveBytes {
        ReceiveBytes { socket, bytes: bytes.into(), cpu: 0 }
    }

    /// The CPU that it happens on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }
}

/// What became of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Moved {
    /// They wait to be read from a socket.
    Received {
        /// The socket.
        socket: SocketId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// They were sent to another machine through a socket.
    Sent {
        /// The socket.
        socket: SocketId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// They are gone.
    Dropped {
        /// The socket that they were at.
        socket: SocketId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// They wait for more, as a program said (`bpf_msg_cork_bytes`, or a parser that has not seen a whole message).
    Waiting {
        /// The socket that they are at.
        socket: SocketId,
        /// How many wait there now.
        bytes: usize,
    },
}

/// What became of bytes that were sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells what became of the bytes"]
pub struct StreamOutcome {
    /// What the process that sends is told: how many bytes were taken, [`Errno::EACCES`] when a program dropped them,
    /// [`Errno::EPIPE`] for a socket that is not connected.
    pub result: Result<usize, Errno>,
    /// Where they went, in order.
    pub moved: Vec<Moved>,
    /// The programs of maps of sockets that saw them, in order.
    pub verdicts: Vec<Verdict>,
    /// The programs of TCP that were told of something, in order.
    pub tcp: Vec<SockOpsRun>,
    /// What programs did to the network, in order.
    pub effects: Vec<Effect>,
}

/// Bytes on their way.
struct Flow<'k> {
    kernel: &'k SimKernel,
    tcp: Tcp<'k>,
    verdicts: Vec<Verdict>,
    moved: Vec<Moved>,
    hops: u32,
}

fn trapped(vm: &Vm, trap: Trap) -> EventError {
    EventError::Fault(vm.fault_of(trap))
}

impl<'k> Flow<'k> {
    fn begin(kernel: &'k SimKernel, socket: SocketId, cpu: u32) -> Result<(Flow<'k>, u64), EventError> {
        check_cpu(kernel, cpu)?;
        let tcp = Tcp::new(kernel, cpu);
        tcp.socket(socket.0)?;
        let start = kernel.0.world().net.noted();
        Ok((Flow { kernel, tcp, verdicts: Vec::new(), moved: Vec::new(), hops: 0 }, start))
    }

    fn end(self, result: Result<usize, Errno>, start: u64) -> StreamOutcome {
        let effects = self.kernel.0.world().net.effects_since(start);
        StreamOutcome { result, moved: self.moved, verdicts: self.verdicts, tcp: self.tcp.runs, effects }
    }

    /// Runs a program and notes what it said.
    fn run(
        &mut self,
        vm: &mut Vm,
        prog: &Arc<Prog>,
        attach_type: AttachType,
        context: u64,
    ) -> Result<u32, EventError> {
        let value = vm.run(prog, context).map_err(|fault| {
            self.kernel.0.world().faults.add((*fault).clone());
            EventError::Fault(fault)
        })? as u32;
        let program = prog.name().to_owned();
        self.verdicts.push(Verdict { program, prog_id: ProgId(prog.id), attach_type, value });
        Ok(value)
    }

    fn psock(&self, cookie: u64) -> Option<Psock> {
        self.kernel.0.psock(cookie)
    }

    fn change_psock(&self, cookie: u64, change: impl FnOnce(&mut Psock)) {
        change(&mut self.kernel.0.world().net.stream_mut(cookie).psock);
    }

    /// A process sends bytes. An `sk_msg` program may have them wait, let parts through, and send them elsewhere.
    fn send(&mut self, cookie: u64, bytes: Vec<u8>) -> Result<Result<usize, Errno>, EventError> {
        let attach_type = AttachType::SK_MSG_VERDICT;
        let psock = self.psock(cookie).and_then(|psock| psock.prog(attach_type).map(|prog| (psock, prog)));
        let mut copied = bytes.len();
        let Some((psock, prog)) = psock else {
            self.push(cookie, bytes)?;
            return Ok(Ok(copied));
        };
        let mut message = psock.corked;
        message.extend(&bytes);
        let new = bytes.len() as u32; // no process sends 4 GB at once
        if psock.cork > new {
            let waiting = message.len();
            self.change_psock(cookie, |psock| {
                psock.cork -= new; // checked above
                psock.corked = message;
            });
            self.moved.push(Moved::Waiting { socket: SocketId(cookie), bytes: waiting });
            return Ok(Ok(copied));
        }
        let asks_anew = psock.cork > 0;
        self.change_psock(cookie, |psock| (psock.cork, psock.corked) = (0, Vec::new()));
        let mut verdict = psock.verdict.filter(|_| !asks_anew);
        let mut apply = psock.apply;
        while !message.is_empty() {
            let before = message.len();
            let said = match verdict {
                Some(verdict) => verdict,
                None => {
                    let (said, changed, cork) = self.ask(cookie, &prog, message)?;
                    message = changed;
                    apply = said.1;
                    if cork as usize > message.len() {
                        let waiting = message.len();
                        self.change_psock(cookie, |psock| {
                            psock.cork = cork - waiting as u32; // it is more
                            psock.corked = message;
                        });
                        self.moved.push(Moved::Waiting { socket: SocketId(cookie), bytes: waiting });
                        return Ok(Ok(copied));
                    }
                    said.0
                }
            };
            let len = if apply > 0 { message.len().min(apply as usize) } else { message.len() };
            let part: Vec<u8> = message.drain(..len).collect();
            apply -= if apply > 0 { len as u32 } else { 0 }; // not more than it
            verdict = (apply > 0).then_some(said);
            self.change_psock(cookie, |psock| (psock.apply, psock.verdict) = (apply, verdict));
            match said {
                SockVerdict::Pass => self.push(cookie, part)?,
                SockVerdict::Redirect(to, ingress) => self.redirect(cookie, to, ingress, part)?,
                SockVerdict::Drop => {
                    // What the program cut off was not sent either, and what it added does not count.
                    copied = (copied + message.len()).saturating_sub(before); // both are in memory
                    self.moved.push(Moved::Dropped { socket: SocketId(cookie), bytes: part });
                    return Ok(if copied > 0 { Ok(copied) } else { Err(Errno::EACCES) });
                }
            }
        }
        Ok(Ok(copied))
    }

    /// Asks an `sk_msg` program. Answers what it said and for how many bytes, the message as it left it, and for how many
    /// bytes it waits.
    #[allow(clippy::type_complexity, reason = "three things that one run tells")]
    fn ask(
        &mut self,
        cookie: u64,
        prog: &Arc<Prog>,
        bytes: Vec<u8>,
    ) -> Result<((SockVerdict, u32), Vec<u8>, u32), EventError> {
        let mut vm = Vm::new(self.kernel, prog, self.tcp.cpu);
        let socket = self.tcp.socket(cookie)?;
        let address = vm.socket_address(cookie).map_err(|trap| trapped(&vm, trap))?;
        let message = Message::new(&mut vm.memory, bytes).map_err(|trap| trapped(&vm, trap))?;
        let context = SkMsg { message, socket, cookie, address, apply: 0, cork: 0, redirect: None };
        let at = vm.memory.add_context(Box::new(context)).map_err(|trap| trapped(&vm, trap))?;
        let value = self.run(&mut vm, prog, AttachType::SK_MSG_VERDICT, at)?;
        let left = vm.memory.with_context(|context: &mut SkMsg, memory| {
            (context.message.whole(memory), context.apply, context.cork, context.redirect)
        });
        let (message, apply, cork, redirect) = left.unwrap_or_default();
        let verdict = match (value, redirect) {
            (PASS, Some((to, ingress))) => SockVerdict::Redirect(to, ingress),
            (PASS, None) => SockVerdict::Pass,
            _ => SockVerdict::Drop,
        };
        Ok(((verdict, apply), message, cork))
    }

    /// Sends bytes to another socket, or has it receive them: one that is in a map of sockets.
    fn redirect(&mut self, from: u64, to: u64, ingress: bool, bytes: Vec<u8>) -> Result<(), EventError> {
        if self.psock(to).is_none() {
            self.moved.push(Moved::Dropped { socket: SocketId(from), bytes });
            return Ok(());
        }
        if ingress { self.deliver(to, bytes) } else { self.push(to, bytes) }
    }

    /// Bytes wait to be read.
    fn deliver(&mut self, cookie: u64, bytes: Vec<u8>) -> Result<(), EventError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.tcp.socket(cookie)?;
        self.kernel.0.world().net.stream_mut(cookie).inbox.extend(&bytes);
        self.moved.push(Moved::Received { socket: SocketId(cookie), bytes });
        Ok(())
    }

    /// Bytes leave through a socket.
    fn push(&mut self, cookie: u64, bytes: Vec<u8>) -> Result<(), EventError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.hops += 1; // not many
        let state = self.tcp.socket(cookie)?;
        if self.hops > HOPS_MAX || is_tcp(&state) && state.state != ESTABLISHED {
            self.moved.push(Moved::Dropped { socket: SocketId(cookie), bytes });
            return Ok(());
        }
        let peer = self.kernel.0.world().net.stream(cookie).and_then(|stream| stream.peer);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut segment = Vec::new();
        if is_tcp(&state) {
            self.tcp.ask_size(cookie)?;
            segment = self.tcp.header(&Who::Full(cookie), PSH | ACK, bytes.len(), None)?;
            tcp::sent(&self.tcp, cookie, 0, len);
        }
        if is_tcp(&state) {
            let ack = match peer {
                Some(peer) => {
                    self.tcp.arrive(peer, &segment, bytes.len())?;
                    self.tcp.change(peer, |socket| {
                        socket.tcp.rcv_nxt = socket.tcp.rcv_nxt.wrapping_add(len);
                        socket.tcp.bytes_received = socket.tcp.bytes_received.wrapping_add(len.into());
                    });
                    let ack = self.tcp.header(&Who::Full(peer), ACK, 0, None)?;
                    tcp::sent(&self.tcp, peer, 0, 0);
                    ack
                }
                None => tcp::plain_header(&self.tcp.socket(cookie)?.other_end(), ACK),
            };
            self.tcp.change(cookie, |socket| {
                socket.tcp.snd_una = socket.tcp.snd_nxt;
                socket.tcp.bytes_acked = socket.tcp.bytes_acked.wrapping_add(len.into());
                socket.tcp.delivered = socket.tcp.delivered.wrapping_add(1);
            });
            self.tcp.arrive(cookie, &ack, 0)?;
            tcp::measured(&mut self.tcp, cookie)?;
        }
        let Some(peer) = peer else {
            self.kernel.0.world().net.stream_mut(cookie).outbox.extend(&bytes);
            self.moved.push(Moved::Sent { socket: SocketId(cookie), bytes });
            return Ok(());
        };
        self.incoming(peer, bytes)
    }

    /// Bytes come in at a socket: its parser finds messages, its verdict says what becomes of each.
    fn incoming(&mut self, cookie: u64, bytes: Vec<u8>) -> Result<(), EventError> {
        let Some(psock) = self.psock(cookie) else { return self.deliver(cookie, bytes) };
        let stream = psock.prog(AttachType::SK_SKB_STREAM_VERDICT);
        let parser = psock.prog(AttachType::SK_SKB_STREAM_PARSER).filter(|_| stream.is_some());
        let (verdict, attach_type) = match (stream, psock.prog(AttachType::SK_SKB_VERDICT)) {
            (Some(prog), _) => (prog, AttachType::SK_SKB_STREAM_VERDICT),
            (None, Some(prog)) => (prog, AttachType::SK_SKB_VERDICT),
            (None, None) => return self.deliver(cookie, bytes),
        };
        let Some(parser) = parser else { return self.judge(cookie, &verdict, attach_type, bytes) };
        let mut all = psock.unparsed;
        all.extend(bytes);
        while !all.is_empty() {
            let attach_type = AttachType::SK_SKB_STREAM_PARSER;
            let (len, ..) = self.part(cookie, &parser, attach_type, &all)?;
            match usize::try_from(len as i32) {
                Ok(len) if (1..=all.len()).contains(&len) => {
                    let message: Vec<u8> = all.drain(..len).collect();
                    self.judge(cookie, &verdict, AttachType::SK_SKB_STREAM_VERDICT, message)?;
                }
                Ok(len) if len <= UNPARSED_MAX && all.len() < UNPARSED_MAX => break,
                // It is no stream of messages.
                _ => {
                    self.moved
                        .push(Moved::Dropped { socket: SocketId(cookie), bytes: std::mem::take(&mut all) });
                }
            }
        }
        if !all.is_empty() {
            self.moved.push(Moved::Waiting { socket: SocketId(cookie), bytes: all.len() });
        }
        self.change_psock(cookie, |psock| psock.unparsed = all);
        Ok(())
    }

    /// Asks a verdict program what becomes of a message.
    fn judge(
        &mut self,
        cookie: u64,
        prog: &Arc<Prog>,
        attach_type: AttachType,
        bytes: Vec<u8>,
    ) -> Result<(), EventError> {
        let (value, bytes, redirect) = self.part(cookie, prog, attach_type, &bytes)?;
        match (value, redirect) {
            (PASS, Some((to, ingress))) => self.redirect(cookie, to, ingress, bytes),
            (PASS, None) => self.deliver(cookie, bytes),
            _ => {
                self.moved.push(Moved::Dropped { socket: SocketId(cookie), bytes });
                Ok(())
            }
        }
    }

    /// Runs a program that sees a part of a stream. Answers what it returned, the bytes as it left them, and where they go.
    #[allow(clippy::type_complexity, reason = "three things that one run tells")]
    fn part(
        &mut self,
        cookie: u64,
        prog: &Arc<Prog>,
        attach_type: AttachType,
        bytes: &[u8],
    ) -> Result<(u32, Vec<u8>, Option<(u64, bool)>), EventError> {
        let mut vm = Vm::new(self.kernel, prog, self.tcp.cpu);
        let socket = self.tcp.socket(cookie)?;
        // Its headers have been taken off.
        let ether_type = if socket.family == 2 { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&[0; 12][..], &ether_type, bytes].concat();
        let mut skb = Skb::received(&mut vm.memory, &frame).map_err(|trap| trapped(&vm, trap))?;
        (skb.socket, skb.priority) = (Some(cookie), socket.priority);
        let address = vm.socket_address(cookie).map_err(|trap| trapped(&vm, trap))?;
        let mut context = SkBuff::new(skb, Rules::SkSkb);
        context.set_socket(address, &socket);
        let at = vm.memory.add_context(Box::new(context)).map_err(|trap| trapped(&vm, trap))?;
        let value = self.run(&mut vm, prog, attach_type, at)?;
        let left =
            vm.memory.with_context(|context: &mut SkBuff, memory| context.skb.buffer.bytes(memory).to_vec());
        Ok((value, left.unwrap_or_default(), vm.packet.socket_redirect.take()))
    }
}

impl Event for SendBytes {
    type Outcome = StreamOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<StreamOutcome, EventError> {
        let (mut flow, start) = Flow::begin(kernel, self.socket, self.cpu)?;
        let socket = flow.tcp.socket(self.socket.0)?;
        if !is_tcp(&socket) {
            let what = format!("socket {} is not one of TCP", self.socket);
            return Err(EventError::Errno { errno: Errno::EOPNOTSUPP, what });
        }
        let result = match socket.state {
            ESTABLISHED => flow.send(self.socket.0, self.bytes)?,
            _ => Err(Errno::EPIPE),
        };
        Ok(flow.end(result, start))
    }
}

impl Event for ReceiveBytes {
    type Outcome = StreamOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<StreamOutcome, EventError> {
        let (mut flow, start) = Flow::begin(kernel, self.socket, self.cpu)?;
        let len = self.bytes.len();
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        flow.tcp.change(self.socket.0, |socket| {
            if is_tcp(socket) {
                let t = &mut socket.tcp;
                t.rcv_nxt = t.rcv_nxt.wrapping_add(count);
                t.bytes_received = t.bytes_received.wrapping_add(count.into());
                t.segs_in = t.segs_in.wrapping_add(1);
                t.data_segs_in = t.data_segs_in.wrapping_add(1);
            }
        });
        flow.incoming(self.socket.0, self.bytes)?;
        Ok(flow.end(Ok(len), start))
    }
}

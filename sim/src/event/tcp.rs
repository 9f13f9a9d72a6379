//! What happens to TCP connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use skep_sys::abi::Errno;

use super::road::Road;
use super::scene::check_cpu;
use super::sock_ops::{SockOp, SockOpsRun, Tcp, Who, flag};
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{Effect, SOCK_STREAM, Socket, SocketId, Stream};
use crate::packet::tcp::{ACK, FIN, SYN};

/// States of a TCP socket.
pub(super) const ESTABLISHED: u32 = 1;
pub(super) const SYN_SENT: u32 = 2;
pub(super) const SYN_RECV: u32 = 3;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
pub(super) const LISTEN: u32 = 10;
const NEW_SYN_RECV: u32 = 12;
/// The first port that a socket without one is given.
const PORTS: u16 = 32_768;
/// Level and name of the option that keeps the first segment of connections (`TCP_SAVE_SYN`).
const SAVE_SYN: (i32, i32) = (6, 27);
/// How long a first segment waits for its answer, in microseconds (`TCP_TIMEOUT_INIT`).
const TIMEOUT: u32 = 1_000_000;

/// Something that happens to a TCP socket, of which the programs of its control groups are told
/// (`BPF_PROG_TYPE_SOCK_OPS`). [`SocketCall::connect`](crate::SocketCall::connect) makes connections.
///
/// Programs are told what Linux tells them, and in its order. Each part of data is acknowledged at once, and the end of one side
/// together with that of the other. Before data are sent, the size of options is asked for once, which Linux does
/// several times. No time passes: packets take as long as [`round_trip`](TcpEvent::round_trip) said, a microsecond at first. What
/// programs answer (a time, a window) is told ([`SockOpsRun::reply`]) and changes nothing.
///
/// ```
/// use skep_sim::{SimKernel, Socket, SocketCall, TcpEvent};
///
/// let sim = SimKernel::new();
/// let server = sim.add_socket(Socket::tcp("10.0.0.1:80".parse()?));
/// let client = sim.add_socket(Socket::tcp("10.0.0.2:0".parse()?));
/// sim.fire(TcpEvent::listen(server))?;
/// let outcome = sim.fire(SocketCall::connect(client, "10.0.0.1:80".parse()?))?;
/// assert_eq!(outcome.result, Ok(()));
/// // The other end belongs to a socket that waits to be accepted.
/// assert_eq!(sim.accept(server), outcome.peer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpEvent {
    socket: SocketId,
    kind: Kind,
    cpu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listen,
    Close,
    State(u32),
    RoundTrip(u32),
    Retransmit,
    Timeout,
}

impl TcpEvent {
    fn new(socket: SocketId, kind: Kind) -> TcpEvent {
        TcpEvent { socket, kind, cpu: 0 }
    }

    /// The socket begins to listen.
    pub fn listen(socket: SocketId) -> TcpEvent {
        TcpEvent::new(socket, Kind::Listen)
    }

    /// The process closes the socket. One of a connection is gone when its other end is closed, too; the end itself is gone at
    /// once where this kernel does not have the other one. Connections that nobody accepted from a socket that
    /// listens go to another socket of its port if a program says so (`BPF_SK_REUSEPORT_SELECT_OR_MIGRATE`).
    pub fn close(socket: SocketId) -> TcpEvent {
        TcpEvent::new(socket, Kind::Close)
    }

    /// The socket comes into a state: `BPF_TCP_ESTABLISHED` (1) and its like.
    pub fn state(socket: SocketId, state: u32) -> TcpEvent {
        TcpEvent::new(socket, Kind::State(state))
    }

    /// A packet was acknowledged after so many microseconds. It counts for an eighth in the time that packets take
    /// ([`TcpState::srtt_us`](crate::TcpState::srtt_us), which is eight times that).
    pub fn round_trip(socket: SocketId, microseconds: u32) -> TcpEvent {
        TcpEvent::new(socket, Kind::RoundTrip(microseconds))
    }

    /// A segment is sent again.
    pub fn retransmit(socket: SocketId) -> TcpEvent {
        TcpEvent::new(socket, Kind::Retransmit)
    }

    /// A segment was not acknowledged in time.
    pub fn timeout(socket: SocketId) -> TcpEvent {
        TcpEvent::new(socket, Kind::Timeout)
    }

    /// The CPU that it happens on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }
}

/// What happened to a TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOutcome {
    /// The programs that were told, in order.
    pub runs: Vec<SockOpsRun>,
    /// Connections that nobody accepted from a socket that was closed, and the socket that has them now. Without one they are
    /// gone.
    pub migrated: Vec<(SocketId, Option<SocketId>)>,
    /// What programs did to the network, in order.
    pub effects: Vec<Effect>,
}

impl TcpOutcome {
    /// What programs were told of, in order, and how often each.
    pub fn ops(&self) -> Vec<SockOp> {
        self.runs.iter().map(|run| run.op).collect()
    }
}

impl Event for TcpEvent {
    type Outcome = TcpOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<TcpOutcome, EventError> {
        check_cpu(kernel, self.cpu)?;
        let start = kernel.0.world().net.noted();
        let mut tcp = Tcp::new(kernel, self.cpu);
        let cookie = self.socket.0;
        let socket = tcp.socket(cookie)?;
        let mut migrated = Vec::new();
        if !is_tcp(&socket) {
            let what = format!("socket {cookie} is not one of TCP");
            return Err(EventError::Errno { errno: Errno::EOPNOTSUPP, what });
        }
        match self.kind {
            Kind::Listen => {
                if socket.state != CLOSE && socket.state != LISTEN {
                    let what = format!("socket {cookie}, which is connected");
                    return Err(EventError::Errno { errno: Errno::EINVAL, what });
                }
                tcp.change(cookie, |socket| socket.state = LISTEN);
                tcp.tell(&Who::Full(cookie), SockOp::TCP_LISTEN_CB, [0; 4])?;
            }
            Kind::Close if socket.state == LISTEN => {
                tcp.set_state(cookie, CLOSE)?;
                migrated = close_listener(kernel, &mut tcp, cookie)?;
            }
            Kind::Close => close(&mut tcp, cookie)?,
            Kind::State(state) => tcp.set_state(cookie, state)?,
            Kind::RoundTrip(microseconds) => round_trip(&mut tcp, cookie, microseconds)?,
            Kind::Retransmit => {
                tcp.change(cookie, |socket| {
                    socket.tcp.total_retrans = socket.tcp.total_retrans.wrapping_add(1);
                    socket.tcp.segs_out = socket.tcp.segs_out.wrapping_add(1);
                });
                let args = [socket.tcp.snd_una, 1, 0, 0];
                tcp.tell_if(cookie, flag::RETRANS, SockOp::RETRANS_CB, args)?;
            }
            Kind::Timeout => {
                // The time doubles with each.
                let retransmits = socket.tcp.icsk_retransmits;
                let after = TIMEOUT.checked_shl(retransmits.min(7)).unwrap_or(TIMEOUT);
                let args = [retransmits, after / 1000, 0, 0];
                tcp.tell_if(cookie, flag::RTO, SockOp::RTO_CB, args)?;
                tcp.change(cookie, |socket| {
                    socket.tcp.icsk_retransmits = socket.tcp.icsk_retransmits.wrapping_add(1);
                });
            }
        }
        let effects = kernel.0.world().net.effects_since(start);
        Ok(TcpOutcome { runs: tcp.runs, migrated, effects })
    }
}

pub(super) fn is_tcp(socket: &Socket) -> bool {
    socket.kind == SOCK_STREAM && socket.protocol == 6
}

fn round_trip(tcp: &mut Tcp<'_>, cookie: u64, microseconds: u32) -> Result<(), EventError> {
    tcp.change(cookie, |socket| {
        let t = &mut socket.tcp;
        // As the kernel smooths it: eight times the mean.
        t.srtt_us = match t.srtt_us {
            0 => microseconds.saturating_mul(8),
            srtt => (srtt - srtt / 8).saturating_add(microseconds), // an eighth is not more
        };
        t.rtt_min = if t.rtt_min == 0 { microseconds } else { t.rtt_min.min(microseconds) };
    });
    let srtt = tcp.socket(cookie)?.tcp.srtt_us;
    tcp.tell_if(cookie, flag::RTT, SockOp::RTT_CB, [microseconds, srtt, 0, 0])
}

/// What was sent is acknowledged at once: packets take as long as before, and where that is not known as short as can be.
pub(super) fn measured(tcp: &mut Tcp<'_>, cookie: u64) -> Result<(), EventError> {
    let srtt = tcp.socket(cookie)?.tcp.srtt_us;
    round_trip(tcp, cookie, (srtt / 8).max(1))
}

/// The number of the first byte of a connection, which nothing but the socket tells.
fn first_number(cookie: u64) -> u32 {
    (cookie as u32).wrapping_mul(0x9e37_79b1) // any number will do
}

/// A socket connects. Answers the socket of the other end, where this kernel has the one that listens there; an error where that
/// would have to be here and is not.
pub(super) fn connect(
    tcp: &mut Tcp<'_>,
    client: u64,
    to: SocketAddr,
) -> Result<Result<Option<SocketId>, Errno>, EventError> {
    let kernel = tcp.kernel;
    let who = Who::Full(client);
    let bound = tcp.socket(client)?.local;
    let to = this_machine(to, bound);
    if bound.port() == 0 {
        let port = free_port(kernel);
        tcp.change(client, |socket| socket.local.set_port(port));
    }
    tcp.change(client, |socket| {
        socket.choose_address(to);
        socket.remote = Some(to);
        socket.state = CLOSE;
        (socket.tcp.snd_nxt, socket.tcp.snd_una) = (first_number(client), first_number(client));
    });
    tcp.set_state(client, SYN_SENT)?;
    tcp.tell(&who, SockOp::TCP_CONNECT_CB, [0; 4])?;
    tcp.tell(&who, SockOp::RWND_INIT, [0; 4])?;
    tcp.tell(&who, SockOp::TIMEOUT_INIT, [0; 4])?;
    tcp.tell(&who, SockOp::NEEDS_ECN, [0; 4])?;
    let syn = tcp.header(&who, SYN, 0, None)?;
    sent(tcp, client, 1, 0);

    let from = tcp.socket(client)?;
    let mut road = Road::new(kernel, tcp.cpu);
    let ends = ((from.local.ip(), from.local.port()), (to.ip(), to.port()));
    let listener = match road.find_listener(6, ends, &syn)? {
        Some(Ok(cookie)) => Some(cookie),
        Some(Err(errno)) => return refused(tcp, client, bound, errno),
        None if kernel.0.world().net.is_local(to.ip()) => {
            return refused(tcp, client, bound, Errno::ECONNREFUSED);
        }
        None => None,
    };
    let number = first_number(listener.map_or(client + 1, |listener| listener.wrapping_add(client)));
    let mut request = from.clone();
    (request.local, request.remote, request.state) = (to, Some(from.local), NEW_SYN_RECV);
    (request.tcp.snd_nxt, request.tcp.rcv_nxt) = (number, from.tcp.snd_nxt);
    // The answer: of a socket here, or as any other kernel gives it.
    let synack = match listener {
        Some(listener) => {
            tcp.change(listener, |socket| socket.tcp.segs_in = socket.tcp.segs_in.wrapping_add(1));
            let who = Who::Request { listener, socket: Box::new(request) };
            tcp.tell(&who, SockOp::RWND_INIT, [0; 4])?;
            tcp.tell(&who, SockOp::TIMEOUT_INIT, [0; 4])?;
            let synack = tcp.header(&who, SYN | ACK, 0, Some(&syn))?;
            tcp.tell(&who, SockOp::NEEDS_ECN, [0; 4])?;
            synack
        }
        None => plain_header(&request, SYN | ACK),
    };
    tcp.change(client, |socket| {
        let t = &mut socket.tcp;
        (t.rcv_nxt, t.snd_una) = (number.wrapping_add(1), t.snd_nxt);
        t.segs_in = t.segs_in.wrapping_add(1);
    });
    measured(tcp, client)?;
    tcp.set_state(client, ESTABLISHED)?;
    tcp.tell_of(&who, SockOp::ACTIVE_ESTABLISHED_CB, &synack)?;
    let ack = tcp.header(&who, ACK, 0, None)?;
    sent(tcp, client, 0, 0);
    let Some(listener) = listener else { return Ok(Ok(None)) };
    accept_from(tcp, listener, client, number, (&syn, &ack)).map(|peer| Ok(Some(peer)))
}

/// The first segment was answered with a reset: the socket has the address again that it was bound to, if it was. A port that it
/// was given stays with it.
fn refused(
    tcp: &mut Tcp<'_>,
    client: u64,
    bound: SocketAddr,
    errno: Errno,
) -> Result<Result<Option<SocketId>, Errno>, EventError> {
    tcp.set_state(client, CLOSE)?;
    tcp.change(client, |socket| {
        socket.local.set_ip(bound.ip());
        socket.remote = None;
    });
    Ok(Err(errno))
}

/// Who connects to no address means this machine: its loopback device, or the own address of a socket of IPv4.
fn this_machine(to: SocketAddr, bound: SocketAddr) -> SocketAddr {
    let own = match (to, bound.ip()) {
        _ if !to.ip().is_unspecified() => to.ip(),
        (SocketAddr::V4(_), IpAddr::V4(own)) if !own.is_unspecified() => own.into(),
        (SocketAddr::V4(_), _) => Ipv4Addr::LOCALHOST.into(),
        (SocketAddr::V6(_), _) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(own, to.port())
}

/// The socket that listens has the answer of the client: there is a connection.
fn accept_from(
    tcp: &mut Tcp<'_>,
    listener: u64,
    client: u64,
    number: u32,
    (syn, ack): (&[u8], &[u8]),
) -> Result<SocketId, EventError> {
    let (parent, from) = (tcp.socket(listener)?, tcp.socket(client)?);
    let mut child = parent.clone();
    let to = from.remote.unwrap_or(parent.local);
    (child.local, child.remote, child.state) = (to, Some(from.local), SYN_RECV);
    child.tcp = crate::net::TcpState {
        snd_nxt: number.wrapping_add(1),
        snd_una: number.wrapping_add(1),
        rcv_nxt: from.tcp.snd_nxt,
        segs_in: 2,
        segs_out: 1,
        ..Socket::tcp(to).tcp
    };
    let saves = parent.options.get(&SAVE_SYN).is_some_and(|value| value.iter().any(|byte| *byte != 0));
    let child = {
        let mut world = tcp.kernel.0.world();
        let id = world.net.add_socket(child);
        let syn = saves.then(|| syn.to_vec());
        *world.net.stream_mut(id.0) = Stream { peer: Some(client), syn, ..Stream::default() };
        world.net.stream_mut(client).peer = Some(id.0);
        id
    };
    measured(tcp, child.0)?;
    tcp.tell_of(&Who::Full(child.0), SockOp::PASSIVE_ESTABLISHED_CB, ack)?;
    tcp.set_state(child.0, ESTABLISHED)?;
    tcp.kernel.0.world().net.stream_mut(listener).backlog.push_back(child.0);
    Ok(child)
}

/// Counts a segment that was sent, with so many numbers and bytes.
pub(super) fn sent(tcp: &Tcp<'_>, cookie: u64, numbers: u32, bytes: u32) {
    tcp.change(cookie, |socket| {
        let t = &mut socket.tcp;
        t.snd_nxt = t.snd_nxt.wrapping_add(numbers).wrapping_add(bytes);
        t.segs_out = t.segs_out.wrapping_add(1);
        if bytes > 0 {
            t.data_segs_out = t.data_segs_out.wrapping_add(1);
        }
    });
}

/// The header of a segment in which no program writes.
pub(super) fn plain_header(socket: &Socket, flags: u8) -> Vec<u8> {
    let header = crate::packet::tcp::Header {
        source: socket.local.port(),
        destination: socket.remote_port(),
        sequence: socket.tcp.snd_nxt,
        acknowledged: socket.tcp.rcv_nxt,
        flags,
    };
    header.bytes(&header.options(socket.tcp.mss_cache, 0))
}

/// A port that no socket has.
fn free_port(kernel: &SimKernel) -> u16 {
    let world = kernel.0.world();
    let is_free = |port: &u16| world.net.sockets().all(|(_, socket)| socket.local.port() != *port);
    (PORTS..u16::MAX).find(is_free).unwrap_or(PORTS)
}

/// One end of a connection is closed.
fn close(tcp: &mut Tcp<'_>, cookie: u64) -> Result<(), EventError> {
    let state = tcp.socket(cookie)?.state;
    let peer = tcp.kernel.0.world().net.stream(cookie).and_then(|stream| stream.peer);
    match (state, peer) {
        (ESTABLISHED, peer) => {
            tcp.set_state(cookie, FIN_WAIT1)?;
            let fin = tcp.header(&Who::Full(cookie), FIN | ACK, 0, None)?;
            sent(tcp, cookie, 1, 0);
            // The other end acknowledges it with its own end.
            if let Some(peer) = peer {
                tcp.arrive(peer, &fin, 0)?;
                return tcp.set_state(peer, CLOSE_WAIT);
            }
            let fin = plain_header(&tcp.socket(cookie)?.other_end(), FIN | ACK);
            ended(tcp, cookie, &fin)?;
        }
        (CLOSE_WAIT, peer) => {
            tcp.set_state(cookie, LAST_ACK)?;
            let fin = tcp.header(&Who::Full(cookie), FIN | ACK, 0, None)?;
            sent(tcp, cookie, 1, 0);
            let ack = match peer {
                Some(peer) => ended(tcp, peer, &fin)?,
                None => plain_header(&tcp.socket(cookie)?.other_end(), ACK),
            };
            tcp.arrive(cookie, &ack, 0)?;
            measured(tcp, cookie)?;
            tcp.set_state(cookie, CLOSE)?;
            tcp.kernel.0.forget_socket(cookie);
        }
        (FIN_WAIT1 | FIN_WAIT2 | LAST_ACK, _) => {}
        _ => {
            if state != CLOSE {
                tcp.set_state(cookie, CLOSE)?;
            }
            tcp.kernel.0.forget_socket(cookie);
        }
    }
    Ok(())
}

/// The other end of a socket that was closed first is closed, too. Answers the last segment.
fn ended(tcp: &mut Tcp<'_>, cookie: u64, fin: &[u8]) -> Result<Vec<u8>, EventError> {
    tcp.arrive(cookie, fin, 0)?;
    measured(tcp, cookie)?;
    tcp.set_state(cookie, FIN_WAIT2)?;
    let ack = tcp.header(&Who::Full(cookie), ACK, 0, None)?;
    sent(tcp, cookie, 0, 0);
    tcp.set_state(cookie, CLOSE)?;
    tcp.kernel.0.forget_socket(cookie);
    Ok(ack)
}

/// A socket that listened is gone. Its connections go to another socket, or with it.
fn close_listener(
    kernel: &SimKernel,
    tcp: &mut Tcp<'_>,
    listener: u64,
) -> Result<Vec<(SocketId, Option<SocketId>)>, EventError> {
    let waiting = std::mem::take(&mut kernel.0.world().net.stream_mut(listener).backlog);
    let mut migrated = Vec::new();
    for child in waiting {
        let mut road = Road::new(kernel, tcp.cpu);
        let to = road.migrate(listener, child)?;
        match to {
            Some(to) => {
                let mut world = kernel.0.world();
                world.net.stream_mut(to).backlog.push_back(child);
            }
            None => {
                let peer = kernel.0.world().net.stream(child).and_then(|stream| stream.peer);
                tcp.set_state(child, CLOSE)?;
                kernel.0.forget_socket(child);
                if let Some(peer) = peer {
                    tcp.set_state(peer, CLOSE)?;
                }
            }
        }
        migrated.push((SocketId(child), to.map(SocketId)));
    }
    kernel.0.forget_socket(listener);
    Ok(migrated)
}

impl SimKernel {
    /// Takes the connection that waits longest at a socket that listens, as `accept` does.
    pub fn accept(&self, listener: SocketId) -> Option<SocketId> {
        self.0.world().net.stream_mut(listener.0).backlog.pop_front().map(SocketId)
    }

    /// The other end of a connection, where it is in this kernel.
    pub fn peer(&self, socket: SocketId) -> Option<SocketId> {
        self.0.world().net.stream(socket.0).and_then(|stream| stream.peer).map(SocketId)
    }

    /// Takes the bytes that wait to be read from a socket.
    pub fn read(&self, socket: SocketId) -> Vec<u8> {
        std::mem::take(&mut self.0.world().net.stream_mut(socket.0).inbox)
    }

    /// Takes the bytes that were sent through a socket whose other end this kernel does not have.
    pub fn sent(&self, socket: SocketId) -> Vec<u8> {
        std::mem::take(&mut self.0.world().net.stream_mut(socket.0).outbox)
    }
}

//! System calls on sockets, as the programs of control groups see them.

use std::net::{IpAddr, SocketAddr};

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Said};
use super::packet::Verdict;
use super::scene::Scene;
use super::scene::check_cpu;
use super::sock_ops::{SockOpsRun, Tcp};
use super::socket_life::no_socket;
use super::tcp::{self, is_tcp};
use super::unix::Seen;
use super::{Event, EventError, socket_life};
use crate::kernel::SimKernel;
use crate::net::{AF_INET6, Effect, Socket, SocketId};
use crate::packet::SockAddr;

/// What a process does with a socket and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Bind,
    Connect,
    SendMessage,
    ReceiveMessage,
    PeerName,
    SocketName,
}

/// A process binds, connects or asks a socket, or sends or receives a message: the programs of the socket's control groups see
/// the address, may put another one in its place, and may refuse. Those that see bound sockets come after a `bind`.
///
/// A connection of TCP to an address of this machine needs a socket that [listens](crate::TcpEvent::listen) there: else it is
/// refused, [`Errno::ECONNREFUSED`]. This machine's are the addresses of the loopback device, and those that a
/// [`Route`](crate::Route) says it of ([`RouteKind::Local`](crate::RouteKind::Local)). Who answers at any other address the kernel
/// cannot know: somebody does, unless one of its own sockets listens there.
///
/// ```
/// use skep_sim::{SimKernel, Socket, SocketCall};
/// use skep_sys::abi::Errno;
///
/// let sim = SimKernel::new();
/// let client = sim.add_socket(Socket::tcp("10.0.0.1:0".parse()?));
/// // No program is attached: the address stays as it is.
/// let outcome = sim.fire(SocketCall::connect(client, "10.0.0.9:80".parse()?))?;
/// assert_eq!(outcome.result, Ok(()));
/// assert_eq!(outcome.address, "10.0.0.9:80".parse()?);
/// let client = sim.add_socket(Socket::tcp("127.0.0.1:0".parse()?));
/// let outcome = sim.fire(SocketCall::connect(client, "127.0.0.1:80".parse()?))?;
/// assert_eq!(outcome.result, Err(Errno::ECONNREFUSED));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketCall {
    call: Call,
    socket: SocketId,
    address: SocketAddr,
    source: Option<IpAddr>,
    cpu: u32,
}

impl SocketCall {
    fn new(call: Call, socket: SocketId, address: SocketAddr) -> SocketCall {
        SocketCall { call, socket, address, source: None, cpu: 0 }
    }

    /// `bind`.
    pub fn bind(socket: SocketId, address: SocketAddr) -> SocketCall {
        SocketCall::new(Call::Bind, socket, address)
    }

    /// `connect`.
    pub fn connect(socket: SocketId, address: SocketAddr) -> SocketCall {
        SocketCall::new(Call::Connect, socket, address)
    }

    /// `sendmsg` to an address, through a socket of UDP that is not connected.
    pub fn send(socket: SocketId, to: SocketAddr) -> SocketCall {
        SocketCall::new(Call::SendMessage, socket, to)
    }

    /// `recvmsg` of a message that came from an address.
    pub fn receive(socket: SocketId, from: SocketAddr) -> SocketCall {
        SocketCall::new(Call::ReceiveMessage, socket, from)
    }

    /// `getpeername`, which would answer the address.
    pub fn peer_name(socket: SocketId, address: SocketAddr) -> SocketCall {
        SocketCall::new(Call::PeerName, socket, address)
    }

    /// `getsockname`, which would answer the address.
    pub fn socket_name(socket: SocketId, address: SocketAddr) -> SocketCall {
        SocketCall::new(Call::SocketName, socket, address)
    }

    /// The address that a message is sent from.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The CPU that it happens on: 0 by default.
    pub fn cpu(mut self, cpu: u32) -> Self {
        self.cpu = cpu;
        self
    }

    fn attach_type(&self) -> AttachType {
        use AttachType as A;

        let (four, six) = match self.call {
            Call::Bind => (A::CGROUP_INET4_BIND, A::CGROUP_INET6_BIND),
            Call::Connect => (A::CGROUP_INET4_CONNECT, A::CGROUP_INET6_CONNECT),
            Call::SendMessage => (A::CGROUP_UDP4_SENDMSG, A::CGROUP_UDP6_SENDMSG),
            Call::ReceiveMessage => (A::CGROUP_UDP4_RECVMSG, A::CGROUP_UDP6_RECVMSG),
            Call::PeerName => (A::CGROUP_INET4_GETPEERNAME, A::CGROUP_INET6_GETPEERNAME),
            Call::SocketName => (A::CGROUP_INET4_GETSOCKNAME, A::CGROUP_INET6_GETSOCKNAME),
        };
        if self.address.is_ipv4() { four } else { six }
    }
}

/// What became of a system call on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the call was refused"]
pub struct SocketOutcome {
    /// What the process is told: an error when a program refused, [`Errno::EPERM`] unless it said which
    /// (`bpf_set_retval`); [`Errno::ECONNREFUSED`] when nobody listens there.
    pub result: Result<(), Errno>,
    /// The address as programs left it.
    pub address: SocketAddr,
    /// The address that a message is sent from, if a program chose one.
    pub source: Option<IpAddr>,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
    /// The other end of a connection, where this kernel has the socket that listens there.
    pub peer: Option<SocketId>,
    /// The programs of TCP that were told of the connection, in order.
    pub tcp: Vec<SockOpsRun>,
    /// What they did to the network, in order.
    pub effects: Vec<Effect>,
}

impl Event for SocketCall {
    type Outcome = SocketOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<SocketOutcome, EventError> {
        let socket = kernel.socket(self.socket).ok_or_else(|| no_socket(self.socket))?;
        check_cpu(kernel, self.cpu)?;
        group::check_group(kernel, &socket.cgroup)?;
        let attach_type = self.attach_type();
        let start = kernel.0.world().net.noted();
        let mut context = SockAddr::new(self.address, socket.kind, socket.protocol, attach_type);
        if let Some(source) = self.source {
            context.set_source(source);
        }
        context.cookie = self.socket.0;
        let scene = Scene { cpu: self.cpu, ..Scene::default() };
        let chain = kernel.0.cgroup_chain(&socket.cgroup, attach_type);
        let mut seen = Seen(context);
        let mut said = group::run(kernel, &scene, &chain, &mut seen, 0)?;
        let context = seen.0;
        let mut result = said.result();
        let source = context.source();
        let mut tcp = Tcp::new(kernel, self.cpu);
        let mut peer = None;
        if result.is_ok() && self.call == Call::Connect && is_tcp(&socket) {
            match tcp::connect(&mut tcp, self.socket.0, context.address())? {
                Ok(other) => peer = other,
                Err(errno) => result = Err(errno),
            }
        } else if result.is_ok() {
            self.carry_out(kernel, context.address());
            if self.call == Call::Bind {
                let after = self.post_bind(kernel, &scene, &socket)?;
                result = after.result();
                said.verdicts.extend(after.verdicts);
            }
        }
        Ok(SocketOutcome {
            result,
            address: context.address(),
            source: (!source.is_unspecified()).then_some(source),
            peer,
            tcp: tcp.runs,
            verdicts: said.verdicts,
            effects: kernel.0.world().net.effects_since(start),
        })
    }
}

impl SocketCall {
    /// Binds or connects the socket, as nobody refused.
    fn carry_out(&self, kernel: &SimKernel, address: SocketAddr) {
        let mut world = kernel.0.world();
        let Some(socket) = world.net.socket_mut(self.socket.0) else { return };
        match self.call {
            Call::Bind => {
                socket.local = address;
                world.net.give_port(self.socket.0);
            }
            Call::Connect => {
                // A program may have bound it meanwhile.
                let connected = socket.clone().connected(address);
                (socket.remote, socket.state) = (connected.remote, connected.state);
                socket.choose_address(address);
                world.net.give_port(self.socket.0);
            }
            _ => {}
        }
    }

    /// The programs that see a socket once it is bound, and may have it unbound.
    fn post_bind(&self, kernel: &SimKernel, scene: &Scene, before: &Socket) -> Result<Said, EventError> {
        let attach_type = if before.family == AF_INET6 {
            AttachType::CGROUP_INET6_POST_BIND
        } else {
            AttachType::CGROUP_INET4_POST_BIND
        };
        let said = socket_life::run(kernel, scene, self.socket, attach_type)?;
        if said.result().is_err()
            && let Some(socket) = kernel.0.world().net.socket_mut(self.socket.0)
        {
            socket.local = before.local;
        }
        Ok(said)
    }
}

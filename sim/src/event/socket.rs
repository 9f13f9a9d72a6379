//! System calls on sockets, as the programs of control groups see them.

use std::net::{IpAddr, SocketAddr};

use skep_sys::abi::{AttachType, Errno, ProgId};

use super::packet::Verdict;
use super::sock_ops::{SockOpsRun, Tcp};
use super::tcp::{self, is_tcp};
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::link::Place;
use crate::net::{Effect, Hook, Socket, SocketId};
use crate::packet::SockAddr;
use crate::vm::Vm;

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
/// the address, may put another one in its place, and may refuse.
///
/// ```
/// use skep_sim::{SimKernel, Socket, SocketCall};
///
/// let sim = SimKernel::new();
/// let client = sim.add_socket(Socket::tcp("10.0.0.1:0".parse()?));
/// // No program is attached: the address stays as it is.
/// let outcome = sim.fire(SocketCall::connect(client, "10.0.0.9:80".parse()?))?;
/// assert_eq!(outcome.result, Ok(()));
/// assert_eq!(outcome.address, "10.0.0.9:80".parse()?);
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
    /// (`bpf_set_retval`).
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
        let what = || format!("socket {}", self.socket);
        let errno = |errno| EventError::Errno { errno, what: what() };
        let socket = kernel.socket(self.socket).ok_or_else(|| errno(Errno::ENOENT))?;
        if self.cpu >= kernel.0.config().cpus {
            return Err(EventError::Errno { errno: Errno::ENXIO, what: format!("CPU {}", self.cpu) });
        }
        let attach_type = self.attach_type();
        let start = kernel.0.world().net.noted();
        let mut context = SockAddr::new(self.address, socket.kind, socket.protocol, attach_type);
        if let Some(source) = self.source {
            context.set_source(source);
        }
        context.cookie = self.socket.0;
        let mut verdicts = Vec::new();
        let mut retval = 0;
        for link in kernel.0.cgroup_chain(&socket.cgroup, attach_type) {
            let prog = link.prog();
            let mut vm = Vm::new(kernel, &prog, self.cpu);
            if let Place::Net(Hook::Cgroup { id, attach_type, .. }) = link.place {
                vm.held.set_cgroup(id, attach_type);
            }
            vm.packet.retval = retval;
            let faulted = |vm: &Vm, trap| EventError::Fault(vm.fault_of(trap));
            context.socket = vm.socket_address(self.socket.0).map_err(|trap| faulted(&vm, trap))?;
            let at = vm.memory.add_context(Box::new(context.clone())).map_err(|trap| faulted(&vm, trap))?;
            let value = vm.run(&prog, at).map_err(|fault| {
                kernel.0.world().faults.add((*fault).clone());
                EventError::Fault(fault)
            })? as u32;
            if let Some(after) = vm.memory.context::<SockAddr>() {
                context = after.clone();
            }
            retval = vm.packet.retval;
            // A program that says no has the process told so, unless one has said more.
            if value & 1 == 0 && retval >= 0 {
                retval = -Errno::EPERM.0;
            }
            let program = prog.name().to_owned();
            verdicts.push(Verdict { program, prog_id: ProgId(prog.id), attach_type, value });
        }
        let result = if retval < 0 { Err(Errno(-retval)) } else { Ok(()) };
        let source = context.source();
        let mut tcp = Tcp::new(kernel, self.cpu);
        let mut peer = None;
        let mut result = result;
        if result.is_ok() && self.call == Call::Connect && is_tcp(&socket) {
            match tcp::connect(&mut tcp, self.socket.0, context.address())? {
                Ok(other) => peer = other,
                Err(errno) => result = Err(errno),
            }
        } else if result.is_ok() {
            self.carry_out(kernel, &socket, context.address());
        }
        Ok(SocketOutcome {
            result,
            address: context.address(),
            source: (!source.is_unspecified()).then_some(source),
            verdicts,
            peer,
            tcp: tcp.runs,
            effects: kernel.0.world().net.effects_since(start),
        })
    }
}

impl SocketCall {
    /// Binds or connects the socket, as nobody refused.
    fn carry_out(&self, kernel: &SimKernel, before: &Socket, address: SocketAddr) {
        let mut world = kernel.0.world();
        let Some(socket) = world.net.socket_mut(self.socket.0) else { return };
        match self.call {
            Call::Bind => socket.local = address,
            Call::Connect => {
                let connected = before.clone().connected(address);
                (socket.remote, socket.state) = (connected.remote, connected.state);
            }
            _ => {}
        }
    }
}

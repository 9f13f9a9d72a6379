//! System calls on Unix sockets, as the programs of control groups see them.

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Subject};
use super::packet::Verdict;
use super::scene::Scene;
use super::socket_life::no_socket;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{AF_UNIX, Effect, SocketId};
use crate::packet::SockAddr;
use crate::vm::{Trap, Vm};

/// A process connects or asks a Unix socket, or sends or receives a message through one: the programs of the socket's control
/// group may put another path in the place of the one that is meant (`bpf_sock_addr_set_sun_path`), and may refuse. Linux 6.7.
///
/// ```
/// use skep_sim::{SimKernel, Socket, UnixCall};
///
/// let sim = SimKernel::new();
/// let client = sim.add_socket(Socket::unix_stream());
/// let outcome = sim.fire(UnixCall::connect(client, "/run/server.sock"))?;
/// assert_eq!((outcome.result, outcome.path.as_slice()), (Ok(()), b"/run/server.sock".as_slice()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct UnixCall {
    attach_type: AttachType,
    socket: SocketId,
    path: Vec<u8>,
    scene: Scene,
}

/// What became of a system call on a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the call was refused"]
pub struct UnixOutcome {
    /// What the process is told: [`Errno::EPERM`] when a program refused, unless it said something else (`bpf_set_retval`).
    pub result: Result<(), Errno>,
    /// The path as programs left it. One in the abstract namespace begins with a zero.
    pub path: Vec<u8>,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
    /// What they did to the network, in order.
    pub effects: Vec<Effect>,
}

super::scene::scene!(UnixCall);

impl UnixCall {
    fn new(attach_type: AttachType, socket: SocketId, path: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall { attach_type, socket, path: path.into(), scene: Scene::default() }
    }

    /// `connect`.
    pub fn connect(socket: SocketId, path: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall::new(AttachType::CGROUP_UNIX_CONNECT, socket, path)
    }

    /// `sendmsg` to a path.
    pub fn send(socket: SocketId, to: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall::new(AttachType::CGROUP_UNIX_SENDMSG, socket, to)
    }

    /// `recvmsg` of a message that came from a path.
    pub fn receive(socket: SocketId, from: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall::new(AttachType::CGROUP_UNIX_RECVMSG, socket, from)
    }

    /// `getpeername`, which would answer the path.
    pub fn peer_name(socket: SocketId, path: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall::new(AttachType::CGROUP_UNIX_GETPEERNAME, socket, path)
    }

    /// `getsockname`, which would answer the path.
    pub fn socket_name(socket: SocketId, path: impl Into<Vec<u8>>) -> UnixCall {
        UnixCall::new(AttachType::CGROUP_UNIX_GETSOCKNAME, socket, path)
    }
}

impl Event for UnixCall {
    type Outcome = UnixOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<UnixOutcome, EventError> {
        self.scene.check(kernel)?;
        let socket = kernel.socket(self.socket).ok_or_else(|| no_socket(self.socket))?;
        if socket.family != AF_UNIX {
            let what = format!("socket {}, which is no Unix socket", self.socket);
            return Err(EventError::new(Errno::EINVAL, what));
        }
        group::check_group(kernel, &socket.cgroup)?;
        let start = kernel.0.world().net.noted();
        let chain = kernel.0.cgroup_chain(&socket.cgroup, self.attach_type);
        let mut seen = Seen(SockAddr::of_unix(self.path, socket.kind, self.attach_type, self.socket.0));
        let said = group::run(kernel, &self.scene, &chain, &mut seen, 0)?;
        Ok(UnixOutcome {
            result: said.result(),
            path: seen.0.path.unwrap_or_default(),
            verdicts: said.verdicts,
            effects: kernel.0.world().net.effects_since(start),
        })
    }
}

/// An address in the memory of runs.
pub(super) struct Seen(pub(super) SockAddr);

impl Subject for Seen {
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap> {
        self.0.socket = vm.socket_address(self.0.cookie)?;
        vm.memory.add_context(Box::new(self.0.clone()))
    }

    fn end(&mut self, vm: &mut Vm) {
        if let Some(after) = vm.memory.context::<SockAddr>() {
            self.0 = after.clone();
        }
    }
}

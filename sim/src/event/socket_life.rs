//! Sockets that are made and go.

use skep_sys::abi::{AttachType, Errno};

use super::group::{self, Subject};
use super::packet::Verdict;
use super::scene::Scene;
use super::{Event, EventError};
use crate::kernel::SimKernel;
use crate::net::{AF_INET, AF_INET6, Effect, Socket, SocketId};
use crate::packet::SockContext;
use crate::vm::{Trap, Vm};

/// A process makes a socket: the programs of its control group for new sockets see it, may change its mark, priority and
/// device, and may refuse it. Only sockets of IPv4 and IPv6 pass them.
///
/// ```
/// use skep_sim::{SimKernel, Socket, SocketCreate};
///
/// let sim = SimKernel::new();
/// sim.add_cgroup("/web")?;
/// let made = sim.fire(SocketCreate::new(Socket::tcp("0.0.0.0:0".parse()?).cgroup("/web")))?;
/// let socket = made.result?;
/// assert_eq!(sim.socket(socket).unwrap().cgroup, "/web");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SocketCreate {
    socket: Socket,
    scene: Scene,
}

/// What became of a new socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it tells whether the socket was refused"]
pub struct SocketCreated {
    /// The socket, or what the process is told: [`Errno::EPERM`] when a program refused, unless it said something else
    /// (`bpf_set_retval`).
    pub result: Result<SocketId, Errno>,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
    /// What they did to the network, in order.
    pub effects: Vec<Effect>,
}

super::scene::scene!(SocketCreate);

impl SocketCreate {
    /// A socket as it is to be made.
    pub fn new(socket: Socket) -> SocketCreate {
        SocketCreate { socket, scene: Scene::default() }
    }
}

impl Event for SocketCreate {
    type Outcome = SocketCreated;

    fn happen(self, kernel: &SimKernel) -> Result<SocketCreated, EventError> {
        self.scene.check(kernel)?;
        let start = kernel.0.world().net.noted();
        let socket = kernel.add_socket(self.socket);
        let said = run(kernel, &self.scene, socket, AttachType::CGROUP_INET_SOCK_CREATE);
        let result = match &said {
            Ok(said) => said.result(),
            Err(_) => Err(Errno::EFAULT),
        };
        if result.is_err() {
            kernel.remove_socket(socket);
        }
        Ok(SocketCreated {
            result: result.map(|()| socket),
            verdicts: said?.verdicts,
            effects: kernel.0.world().net.effects_since(start),
        })
    }
}

/// A process closes a socket: the programs of its control group for that see it, and cannot keep it.
#[derive(Clone, Debug)]
#[must_use]
pub struct SocketRelease {
    socket: SocketId,
    scene: Scene,
}

/// What a closed socket was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketReleased {
    /// What it was at last.
    pub socket: Socket,
    /// The programs that saw it, in order.
    pub verdicts: Vec<Verdict>,
}

super::scene::scene!(SocketRelease);

impl SocketRelease {
    /// The socket that is closed.
    pub fn new(socket: SocketId) -> SocketRelease {
        SocketRelease { socket, scene: Scene::default() }
    }
}

impl Event for SocketRelease {
    type Outcome = SocketReleased;

    fn happen(self, kernel: &SimKernel) -> Result<SocketReleased, EventError> {
        self.scene.check(kernel)?;
        let said = run(kernel, &self.scene, self.socket, AttachType::CGROUP_INET_SOCK_RELEASE)?;
        let socket = kernel.remove_socket(self.socket).ok_or_else(|| no_socket(self.socket))?;
        Ok(SocketReleased { socket, verdicts: said.verdicts })
    }
}

pub(super) fn no_socket(socket: SocketId) -> EventError {
    EventError::new(Errno::ENOENT, format!("there is no socket {socket}; `SimKernel::add_socket` adds one"))
}

/// Runs the programs that see a socket itself (`__cgroup_bpf_run_filter_sk`).
pub(super) fn run(
    kernel: &SimKernel,
    scene: &Scene,
    socket: SocketId,
    attach_type: AttachType,
) -> Result<group::Said, EventError> {
    let known = kernel.socket(socket).ok_or_else(|| no_socket(socket))?;
    if !matches!(known.family, AF_INET | AF_INET6) {
        return Ok(group::Said::default());
    }
    group::check_group(kernel, &known.cgroup)?;
    let chain = kernel.0.cgroup_chain(&known.cgroup, attach_type);
    group::run(kernel, scene, &chain, &mut Whole { socket, attach_type }, 0)
}

/// A socket as the context itself.
struct Whole {
    socket: SocketId,
    attach_type: AttachType,
}

impl Subject for Whole {
    fn begin(&mut self, vm: &mut Vm) -> Result<u64, Trap> {
        let context =
            SockContext { cookie: self.socket.0, attach_type: self.attach_type, kernel: vm.kernel.clone() };
        let address = vm.memory.add_context(Box::new(context))?;
        vm.name_socket(address, self.socket.0);
        Ok(address)
    }

    fn end(&mut self, _: &mut Vm) {}
}

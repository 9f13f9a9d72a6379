//! Connections of a simulated kernel.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use skep_sim::{SendBytes, SimKernel, Socket, SocketCall, SocketId, TcpEvent};
use skep_sys::Kernel;

use super::Network;

pub(crate) struct Simulated {
    pub(crate) sim: SimKernel,
    kernel: Kernel,
    group: OwnedFd,
}

impl Simulated {
    pub(crate) fn new() -> Simulated {
        let sim = SimKernel::new();
        sim.add_cgroup("/test").unwrap();
        let group = sim.open_cgroup("/test").unwrap();
        Simulated { kernel: Kernel::new(sim.clone()), sim, group }
    }

    fn add(&self, port: u16) -> SocketId {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        self.sim.add_socket(Socket::tcp(at).cgroup("/test"))
    }
}

impl Network for Simulated {
    type Socket = SocketId;

    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn group(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    fn listen(&self) -> SocketId {
        let socket = self.add(80);
        self.sim.fire(TcpEvent::listen(socket)).unwrap();
        socket
    }

    fn connect(&self, to: &SocketId) -> SocketId {
        let socket = self.add(0);
        let to = self.sim.socket(*to).unwrap().local;
        assert_eq!(self.sim.fire(SocketCall::connect(socket, to)).unwrap().result, Ok(()));
        socket
    }

    fn accept(&self, listener: &SocketId) -> SocketId {
        self.sim.accept(*listener).unwrap()
    }

    fn send(&self, socket: &SocketId, bytes: &[u8]) -> Result<usize, i32> {
        self.sim.fire(SendBytes::new(*socket, bytes)).unwrap().result.map_err(|errno| errno.0)
    }

    fn read(&self, socket: &SocketId) -> Vec<u8> {
        self.sim.read(*socket)
    }

    fn settle(&self) {}

    fn close(&self, socket: SocketId) {
        let _ = self.sim.fire(TcpEvent::close(socket)).unwrap();
    }

    fn fd(&self, socket: &SocketId) -> OwnedFd {
        self.sim.open_socket(*socket).unwrap()
    }

    fn port(&self, socket: &SocketId) -> u16 {
        self.sim.socket(*socket).unwrap().local.port()
    }
}

//! What programs of control groups do, on a simulated kernel.

#![allow(missing_docs)]

mod cgroup_conformance;
mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use cgroup_conformance::{Host, Opt};
use skep::sim::{
    DeviceAccess, OptionCall, SimKernel, Socket, SocketCall, SocketCreate, SocketId, SocketRelease, Sysctl,
    TcpEvent,
};
use skep::sys::Kernel;
use skep::sys::abi::Errno;

const GROUP: &str = "/test";
const SOL_SOCKET: i32 = 1;

struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
    group: OwnedFd,
    sockets: RefCell<Vec<SocketId>>,
}

impl Simulated {
    fn id(&self, socket: usize) -> SocketId {
        self.sockets.borrow()[socket]
    }

    fn of(&self, socket: usize) -> Socket {
        self.sim.socket(self.id(socket)).unwrap()
    }
}

impl Host for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn group(&self) -> &OwnedFd {
        &self.group
    }

    fn socket(&self, stream: bool) -> Result<usize, Errno> {
        let none = "0.0.0.0:0".parse().unwrap();
        let socket = if stream { Socket::tcp(none) } else { Socket::udp(none) };
        let made = self.sim.fire(SocketCreate::new(socket.cgroup(GROUP))).unwrap();
        let mut sockets = self.sockets.borrow_mut();
        sockets.push(made.result?);
        Ok(sockets.len() - 1)
    }

    fn bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::bind(self.id(socket), address)).unwrap().result
    }

    fn listen(&self, socket: usize) {
        let _ = self.sim.fire(TcpEvent::listen(self.id(socket))).unwrap();
    }

    fn connect(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::connect(self.id(socket), address)).unwrap().result
    }

    fn local(&self, socket: usize) -> Result<SocketAddr, Errno> {
        let local = self.of(socket).local;
        let outcome = self.sim.fire(SocketCall::socket_name(self.id(socket), local)).unwrap();
        outcome.result.map(|()| outcome.address)
    }

    fn peer(&self, socket: usize) -> Result<SocketAddr, Errno> {
        let remote = self.of(socket).remote.ok_or(Errno::ENOENT)?;
        let outcome = self.sim.fire(SocketCall::peer_name(self.id(socket), remote)).unwrap();
        outcome.result.map(|()| outcome.address)
    }

    fn send(&self, socket: usize, to: SocketAddr) -> Result<(), Errno> {
        self.sim.fire(SocketCall::send(self.id(socket), to)).unwrap().result
    }

    fn close(&self, socket: usize) {
        self.sim.fire(SocketRelease::new(self.id(socket))).unwrap();
    }

    fn set(&self, socket: usize, option: Opt, value: u32) -> Result<(), Errno> {
        let call = OptionCall::set(self.id(socket), SOL_SOCKET, option.name(), value.to_ne_bytes());
        self.sim.fire(call).unwrap().result
    }

    fn get(&self, socket: usize, option: Opt) -> Result<u32, Errno> {
        let call = OptionCall::get(self.id(socket), SOL_SOCKET, option.name()).room(4);
        let outcome = self.sim.fire(call).unwrap();
        outcome.result.map(|()| u32::from_ne_bytes(outcome.value.try_into().unwrap()))
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        self.sim.fire(Sysctl::read(name).cgroup(GROUP)).unwrap().result
    }

    fn set_sysctl(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        self.sim.fire(Sysctl::write(name, value).cgroup(GROUP)).unwrap().result.map(drop)
    }

    fn open_device(&self, _: &str, (major, minor): (u32, u32), write: bool) -> Result<(), Errno> {
        let access = DeviceAccess::character(major, minor).cgroup(GROUP).read();
        self.sim.fire(if write { access.write() } else { access }).unwrap().result
    }
}

fn run(_: &str, body: cgroup_conformance::Body) {
    let sim = SimKernel::new();
    sim.add_cgroup(GROUP).unwrap();
    sim.set_sysctl("kernel/domainname", "(none)");
    let group = sim.open_cgroup(GROUP).unwrap();
    let kernel = Kernel::new(sim.clone());
    body(&Simulated { sim, kernel, group, sockets: RefCell::default() });
}

cgroup_conformance::tests! { run }

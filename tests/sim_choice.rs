//! Which simulated socket a packet goes to.

#![allow(missing_docs)]

mod choice_conformance;
mod support;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use choice_conformance::Host;
use skep::Kernel;
use skep::program::Program;
use skep::sim::{Fate, Receive, SimKernel, Socket, SocketCall, SocketId};
use skep::sys::abi::Errno;

struct Simulated {
    sim: SimKernel,
    kernel: Kernel,
    sockets: RefCell<Vec<SocketId>>,
}

impl Simulated {
    fn number(&self, socket: SocketId) -> Option<usize> {
        self.sockets.borrow().iter().position(|known| *known == socket)
    }
}

impl Host for Simulated {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn netns(&self) -> OwnedFd {
        self.sim.open_netns().unwrap()
    }

    fn set(&self, setting: &str, value: u32) {
        self.sim.set_sysctl(setting, format!("{value}\n"));
    }

    fn socket(&self, stream: bool, at: SocketAddr, shares: bool) -> usize {
        let socket = if stream { Socket::tcp(at).listening() } else { Socket::udp(at) };
        let socket = if shares { socket.reuse_port() } else { socket };
        self.sockets.borrow_mut().push(self.sim.add_socket(socket));
        self.sockets.borrow().len() - 1
    }

    fn descriptor(&self, socket: usize) -> OwnedFd {
        self.sim.open_socket(self.sockets.borrow()[socket]).unwrap()
    }

    fn choose_by(&self, socket: usize, program: &Program) -> bool {
        self.sim.attach_reuseport(self.sockets.borrow()[socket], program.as_fd()).unwrap();
        true
    }

    fn send(&self, stream: bool, to: SocketAddr, message: &[u8]) -> Result<Option<usize>, Errno> {
        let from = SocketAddr::new(to.ip(), if stream { 0 } else { 40_000 });
        if stream {
            let client = self.sim.add_socket(Socket::tcp(from));
            self.sim.fire(SocketCall::connect(client, to)).unwrap().result?;
            let listeners = self.sockets.borrow().clone();
            return Ok(listeners.iter().position(|listener| self.sim.accept(*listener).is_some()));
        }
        match self.sim.fire(Receive::new("lo", frame(from, to, message))).unwrap().fate {
            Fate::Delivered { socket: Some(socket), .. } => Ok(self.number(socket)),
            Fate::Delivered { socket: None, .. } | Fate::Dropped { .. } => Err(Errno::ECONNREFUSED),
            fate => panic!("{fate}"),
        }
    }
}

/// A datagram on the loopback device.
fn frame(from: SocketAddr, to: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    let len = (message.len() + 8) as u8;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([8, 0, 0x45, 0, 0, len + 20, 0, 1, 0, 0, 64, 17, 0, 0]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, len, 17, 64]);
            frame.extend([from.octets(), to.octets()].concat());
        }
        _ => panic!("{from} and {to}"),
    }
    frame.extend([from.port().to_be_bytes(), to.port().to_be_bytes(), [0, len], [0, 0]].concat());
    frame.extend(message);
    frame
}

fn run(_: &str, body: choice_conformance::Body) {
    let sim = SimKernel::new();
    body(&Simulated { kernel: Kernel::new(sim.clone()), sim, sockets: RefCell::default() });
}

choice_conformance::tests! { run }

//! Which socket a packet goes to on the running kernel, in a network namespace of its own. Needs root.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod choice_conformance;
mod support;

use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use choice_conformance::Host;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use skep::Kernel;
use skep::program::Program;
use skep::sys::abi::{Errno, ProgType};
use support::time::PATIENCE;

struct Linux {
    kernel: Kernel,
    sockets: RefCell<Vec<(bool, OwnedFd)>>,
}

impl Linux {
    /// The socket that has something, which is taken from it.
    fn take(&self, stream: bool) -> Option<usize> {
        let sockets = self.sockets.borrow();
        sockets.iter().position(|(is_stream, socket)| {
            let socket = socket.try_clone().unwrap();
            let taken = match (stream, *is_stream) {
                (true, true) => TcpListener::from(socket).accept().map(drop),
                (false, false) => UdpSocket::from(socket).recv(&mut [0; 64]).map(drop),
                _ => return false,
            };
            match taken {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            }
        })
    }

    fn wait(&self, stream: bool) -> Option<usize> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(socket) = self.take(stream) {
                return Some(socket);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Host for Linux {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn netns(&self) -> OwnedFd {
        File::open("/proc/thread-self/ns/net").unwrap().into()
    }

    fn set(&self, setting: &str, value: u32) {
        std::fs::write(format!("/proc/sys/{setting}"), value.to_string()).unwrap();
    }

    fn socket(&self, stream: bool, at: SocketAddr, shares: bool) -> usize {
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = if stream { SockType::Stream } else { SockType::Datagram };
        let made = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).unwrap();
        // Connections of before do not keep the port.
        setsockopt(&made, sockopt::ReuseAddr, &stream).unwrap();
        setsockopt(&made, sockopt::ReusePort, &shares).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&made), &SockaddrStorage::from(at)).unwrap();
        if stream {
            listen(&made, Backlog::new(16).unwrap()).unwrap();
        }
        self.sockets.borrow_mut().push((stream, made));
        self.sockets.borrow().len() - 1
    }

    fn descriptor(&self, socket: usize) -> OwnedFd {
        self.sockets.borrow()[socket].1.try_clone().unwrap()
    }

    fn choose_by(&self, socket: usize, program: &Program) -> bool {
        // No library here has this option of a socket: somebody else sets it who has both as input and output.
        const SO_ATTACH_REUSEPORT_EBPF: u32 = 52;
        let set = format!(
            "import socket\nsocket.socket(fileno=0).setsockopt(socket.SOL_SOCKET, {SO_ATTACH_REUSEPORT_EBPF}, 1)"
        );
        let program = program.as_fd().try_clone_to_owned().unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", &set]).stdin(Stdio::from(self.descriptor(socket))).stdout(Stdio::from(program));
        match python.status() {
            Ok(status) => assert!(status.success(), "{status}"),
            Err(error) => {
                support::skip(
                    "shared_ports",
                    format_args!("nobody can attach the program: python3: {error}"),
                );
                return false;
            }
        }
        true
    }

    fn send(&self, stream: bool, to: SocketAddr, message: &[u8]) -> Result<Option<usize>, Errno> {
        let errno = |error: std::io::Error| Errno(error.raw_os_error().unwrap());
        if stream {
            let _client = TcpStream::connect_timeout(&to, PATIENCE).map_err(errno)?;
            return Ok(self.wait(true));
        }
        let client = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        client.connect(to).unwrap();
        client.send(message).map_err(errno)?;
        let start = Instant::now();
        // It comes to somebody, or it is said that there is nobody.
        client.set_nonblocking(true).unwrap();
        while start.elapsed() < PATIENCE {
            if let Some(socket) = self.take(false) {
                return Ok(Some(socket));
            }
            match client.recv(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                answer => return answer.map(|_| None).map_err(errno),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }
}

/// One at a time: a process that one of them starts has the links of the others too until it executes its program, and they count
/// as long as anybody has them.
static ONE: Mutex<()> = Mutex::new(());

fn run(name: &str, body: choice_conformance::Body) {
    let _one = ONE.lock();
    let Some(kernel) = support::linux(name) else { return };
    if kernel.has(skep::sys::Feature::ProgType(ProgType::SK_LOOKUP)).is_unsupported() {
        return support::skip(name, "this kernel has no socket lookup programs");
    }
    let work = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            return support::denied(name, format_args!("no network namespace of its own: {errno}"));
        }
        match Command::new("ip").args(["link", "set", "lo", "up"]).status() {
            Ok(status) if status.success() => {}
            status => return support::skip(name, format_args!("the loopback device stays down: {status:?}")),
        }
        body(&Linux { kernel, sockets: RefCell::default() });
    };
    let ended = std::thread::scope(|scope| scope.spawn(work).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

choice_conformance::tests! { run }

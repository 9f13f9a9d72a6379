//! What programs of control groups do, on the running kernel.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)] // a skipped test says so

mod cgroup_conformance;
mod support;

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cgroup_conformance::{Host, Opt};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect,
    getpeername, getsockname, getsockopt, listen, sendto, setsockopt, socket, sockopt,
};
use skep::sys::Kernel;
use skep::sys::abi::Errno;
use support::groups::{self, Groups};
use support::{denied, linux, skip};

/// The process is in one group at a time.
static LOCK: Mutex<()> = Mutex::new(());

struct Linux {
    kernel: Kernel,
    before: PathBuf,
    group: OwnedFd,
    sockets: RefCell<Vec<Option<OwnedFd>>>,
    /// It goes when it is empty.
    groups: Groups,
    _lock: MutexGuard<'static, ()>,
}

fn errno<T>(result: nix::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno(error as i32))
}

fn io<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error: Error| Errno(error.raw_os_error().unwrap_or(0)))
}

fn raw(address: SocketAddr) -> SockaddrIn {
    match address {
        SocketAddr::V4(address) => SockaddrIn::from(address),
        SocketAddr::V6(_) => panic!("an address of IPv4"),
    }
}

fn told(address: SockaddrIn) -> SocketAddr {
    SocketAddrV4::new(address.ip(), address.port()).into()
}

impl Linux {
    /// Puts the process into a group of its own, in the hierarchy of the second version.
    fn new(name: &str, kernel: Kernel, lock: MutexGuard<'static, ()>) -> Option<Linux> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        let before = groups::root()?.join(own);
        let groups = Groups::new(name)?;
        fs::write(groups.path().join("cgroup.procs"), "0").ok()?;
        let group = groups.open();
        // A setting of the test's own, and ports, where a loopback device can be had with them.
        unshare(CloneFlags::CLONE_NEWUTS).ok()?;
        let ip = |arguments: &[&str]| {
            let done = Command::new("ip").args(arguments).stdout(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        if ip(&["link", "show", "lo"]) && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
            assert!(ip(&["link", "set", "lo", "up"]), "the loopback device stays down");
        }
        Some(Linux { kernel, before, group, groups, sockets: RefCell::default(), _lock: lock })
    }

    fn with<T>(&self, number: usize, with: impl FnOnce(&OwnedFd) -> T) -> T {
        with(self.sockets.borrow()[number].as_ref().expect("an open socket"))
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        self.sockets.borrow_mut().clear();
        // A group goes when it is empty; nothing depends on it.
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
    }
}

impl Host for Linux {
    fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn group(&self) -> &OwnedFd {
        &self.group
    }

    fn socket(&self, stream: bool) -> Result<usize, Errno> {
        let kind = if stream { SockType::Stream } else { SockType::Datagram };
        let made = errno(socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None))?;
        let mut sockets = self.sockets.borrow_mut();
        sockets.push(Some(made));
        Ok(sockets.len() - 1)
    }

    fn bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.with(socket, |socket| errno(bind(socket.as_raw_fd(), &raw(address))))
    }

    fn listen(&self, socket: usize) {
        self.with(socket, |socket| listen(socket, Backlog::new(8).unwrap()).unwrap());
    }

    fn connect(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.with(socket, |socket| errno(connect(socket.as_raw_fd(), &raw(address))))
    }

    fn local(&self, socket: usize) -> Result<SocketAddr, Errno> {
        self.with(socket, |socket| errno(getsockname(socket.as_raw_fd())).map(told))
    }

    fn peer(&self, socket: usize) -> Result<SocketAddr, Errno> {
        self.with(socket, |socket| errno(getpeername(socket.as_raw_fd())).map(told))
    }

    fn send(&self, socket: usize, to: SocketAddr) -> Result<(), Errno> {
        self.with(socket, |socket| {
            errno(sendto(socket.as_raw_fd(), b"x", &raw(to), MsgFlags::empty())).map(drop)
        })
    }

    fn close(&self, socket: usize) {
        self.sockets.borrow_mut()[socket] = None;
    }

    fn set(&self, socket: usize, option: Opt, value: u32) -> Result<(), Errno> {
        self.with(socket, |socket| {
            errno(match option {
                Opt::Mark => setsockopt(socket, sockopt::Mark, &value),
                Opt::Priority => setsockopt(socket, sockopt::Priority, &value.cast_signed()),
                Opt::ReceiveBuffer => setsockopt(socket, sockopt::RcvBuf, &(value as usize)),
                Opt::KeepAlive => setsockopt(socket, sockopt::KeepAlive, &(value != 0)),
            })
        })
    }

    fn get(&self, socket: usize, option: Opt) -> Result<u32, Errno> {
        self.with(socket, |socket| {
            errno(match option {
                Opt::Mark => getsockopt(socket, sockopt::Mark),
                Opt::Priority => getsockopt(socket, sockopt::Priority).map(i32::cast_unsigned),
                Opt::ReceiveBuffer => getsockopt(socket, sockopt::RcvBuf).map(|size| size as u32),
                Opt::KeepAlive => getsockopt(socket, sockopt::KeepAlive).map(u32::from),
            })
        })
    }

    fn sysctl(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; 256];
        let mut file = io(File::open(format!("/proc/sys/{name}")))?;
        let count = io(file.read(&mut bytes))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn set_sysctl(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        let mut file = io(OpenOptions::new().write(true).open(format!("/proc/sys/{name}")))?;
        io(file.write(value)).map(drop)
    }

    fn open_device(&self, path: &str, _: (u32, u32), write: bool) -> Result<(), Errno> {
        io(OpenOptions::new().read(true).write(write).open(path)).map(drop)
    }

    fn lacks(&self, what: &str, reason: &str) {
        skip(what, reason);
    }

    fn create(&self, stream: bool) -> Result<(), Errno> {
        let kind = if stream { SockType::Stream } else { SockType::Datagram };
        let protocol = if stream { SockProtocol::Tcp } else { SockProtocol::Udp };
        errno(socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, protocol)).map(drop)
    }

    fn secure_bind(&self, socket: usize, address: SocketAddr) -> Result<(), Errno> {
        self.bind(socket, address)
    }

    fn outside(&self, act: &mut dyn FnMut()) {
        fs::write(self.before.join("cgroup.procs"), "0").unwrap();
        act();
        fs::write(self.groups.path().join("cgroup.procs"), "0").unwrap();
    }
}

fn run(name: &str, body: cgroup_conformance::Body) {
    let Some(kernel) = linux(name) else { return };
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    match Linux::new(name, kernel, lock) {
        Some(host) => body(&host),
        None => denied(name, "no control group and names of its own can be made"),
    }
}

cgroup_conformance::tests! { run }

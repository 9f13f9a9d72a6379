//! What descriptors of the process stand for that no simulated kernel gave out: sockets, files, processes, directories.
//!
//! Such things exist in the kernel that the process runs on. A simulated kernel does not touch them; it asks what they
//! are, so that its maps take and refuse them as Linux does, and knows them again by their inodes.

use std::fs::{self, Metadata};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrV4, SocketAddrV6, SocketType, sockopt};
use skep_sys::abi::Errno;

use crate::fd::Inode;

/// What a descriptor stands for, by its number: `EBADF` for one that is not open.
fn metadata(number: i32) -> Result<Metadata, Errno> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    fs::metadata(format!("/dev/fd/{number}")).map_err(|_| Errno::EBADF)
}

/// The inode behind a descriptor of any kind, or `EBADF`.
pub(crate) fn inode(number: i32) -> Result<Inode, Errno> {
    metadata(number).map(|meta| Inode::of(&meta))
}

/// The inode of a socket: `EBADF` for what is not open, `ENOTSOCK` for something else.
pub(crate) fn socket_inode(number: i32) -> Result<Inode, Errno> {
    let meta = metadata(number)?;
    if meta.file_type().is_socket() { Ok(Inode::of(&meta)) } else { Err(Errno::ENOTSOCK) }
}

/// The process that a pidfd stands for: `EBADF` for something else, `ENOENT` for one that is gone.
pub(crate) fn process(number: i32) -> Result<i32, Errno> {
    metadata(number)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).map_err(|_| Errno::EBADF)?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or(Errno::EBADF)?;
    match pid.trim().parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(Errno::ENOENT),
    }
}

/// The inode of a directory, which stands for a cgroup: `EBADF` for something else, and where only the second version
/// is taken, for one of the first. There need not be cgroups where a test runs, so any directory will do.
pub(crate) fn cgroup(number: i32, v1: bool) -> Result<Inode, Errno> {
    let meta = metadata(number)?;
    if !meta.is_dir() || !v1 && is_cgroup_v1(number) {
        return Err(Errno::EBADF);
    }
    Ok(Inode::of(&meta))
}

#[cfg(target_os = "linux")]
fn is_cgroup_v1(number: i32) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, statfs};

    let path = format!("/proc/self/fd/{number}");
    statfs(&*path).is_ok_and(|fs| fs.filesystem_type() == CGROUP_SUPER_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_cgroup_v1(_: i32) -> bool {
    false
}

/// Whether the process has a descriptor of that inode.
pub(crate) fn is_open(inode: Inode) -> bool {
    let Ok(entries) = fs::read_dir("/dev/fd") else { return true };
    entries.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(|meta| Inode::of(&meta) == inode))
}

/// Which socket it is: one of the process, or one of the simulated network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketKey {
    Process(Inode),
    Simulated,
}

/// A socket, and what of its state decides whether a map takes it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) key: SocketKey,
    /// `SO_COOKIE`.
    pub(crate) cookie: u64,
    pub(crate) family: AddressFamily,
    pub(crate) kind: SocketType,
    pub(crate) connected: bool,
    pub(crate) listening: bool,
    /// Whether it has a local port.
    pub(crate) bound: bool,
    pub(crate) reuses_port: bool,
}

impl Socket {
    /// The socket behind a descriptor, or `ENOTSOCK`.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Socket, Errno> {
        let errno = |error: rustix::io::Errno| Errno(error.raw_os_error());
        let kind = sockopt::socket_type(fd).map_err(errno)?;
        // Not every family has names.
        let name = rustix::net::getsockname(fd).ok();
        let inode = Inode::of_fd(fd)?;
        Ok(Socket {
            key: SocketKey::Process(inode),
            cookie: cookie(fd, inode)?,
            family: family(fd, name.as_ref()),
            kind,
            connected: rustix::net::getpeername(fd).is_ok(),
            listening: listening(fd),
            bound: name.and_then(port).is_some_and(|port| port != 0),
            reuses_port: sockopt::socket_reuseport(fd).unwrap_or(false),
        })
    }

    /// One of the simulated network.
    pub(crate) fn simulated(cookie: u64, socket: &crate::net::Socket) -> Socket {
        let family = u16::try_from(socket.family).unwrap_or(0);
        Socket {
            key: SocketKey::Simulated,
            cookie,
            family: AddressFamily::from_raw(family),
            kind: SocketType::from_raw(socket.kind),
            connected: socket.remote.is_some()
                && (socket.protocol != 6 || socket.state == crate::net::ESTABLISHED),
            listening: socket.state == crate::net::LISTEN,
            bound: socket.local.port() != 0,
            reuses_port: socket.reuse_port,
        }
    }

    pub(crate) fn is_internet(&self) -> bool {
        matches!(self.family, AddressFamily::INET | AddressFamily::INET6)
    }

    /// `AF_XDP`.
    pub(crate) fn is_xdp(&self) -> bool {
        self.family.as_raw() == 44
    }
}

fn port(address: SocketAddrAny) -> Option<u16> {
    let v4 = SocketAddrV4::try_from(address.clone()).map(|address| address.port());
    v4.or_else(|_| SocketAddrV6::try_from(address).map(|address| address.port())).ok()
}

#[cfg(target_os = "linux")]
fn family(fd: BorrowedFd<'_>, _: Option<&SocketAddrAny>) -> AddressFamily {
    sockopt::socket_domain(fd).unwrap_or(AddressFamily::UNSPEC)
}

#[cfg(not(target_os = "linux"))]
fn family(_: BorrowedFd<'_>, name: Option<&SocketAddrAny>) -> AddressFamily {
    name.map_or(AddressFamily::UNSPEC, SocketAddrAny::address_family)
}

#[cfg(target_os = "linux")]
fn cookie(fd: BorrowedFd<'_>, _: Inode) -> Result<u64, Errno> {
    sockopt::socket_cookie(fd).map_err(|error| Errno(error.raw_os_error()))
}

/// Where sockets have no cookies, their inode is as good.
#[cfg(not(target_os = "linux"))]
fn cookie(_: BorrowedFd<'_>, inode: Inode) -> Result<u64, Errno> {
    Ok(inode.number())
}

#[cfg(target_os = "linux")]
fn listening(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_acceptconn(fd).unwrap_or(false)
}

/// Not every system can be asked.
#[cfg(not(target_os = "linux"))]
fn listening(_: BorrowedFd<'_>) -> bool {
    false
}

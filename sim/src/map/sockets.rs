//! Maps of sockets (`BPF_MAP_TYPE_SOCKMAP`, `_SOCKHASH`, `_REUSEPORT_SOCKARRAY`, `_XSKMAP`).
//!
//! The sockets are those of the simulated network, and those of the process. A map does not keep a socket open; once the
//! process has closed it, or it has gone from the network, it is in the map no more. One of the process that lives on in another
//! process is not seen there, and programs find only those of the network.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use rustix::net::SocketType;
use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, copy, index, next_index};
use super::hash::Table;
use super::{EXIST, NOEXIST};
use crate::outside::{Socket, SocketKey, is_open, socket_inode};

/// A socket in a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    key: SocketKey,
    cookie: u64,
}

impl Held {
    fn of(socket: &Socket) -> Held {
        Held { key: socket.key, cookie: socket.cookie }
    }

    /// Those of the simulated network are taken out when they go.
    fn is_open(&self) -> bool {
        match self.key {
            SocketKey::Process(inode) => is_open(inode),
            SocketKey::Simulated => true,
        }
    }

    fn simulated(&self) -> Option<u64> {
        (self.key == SocketKey::Simulated).then_some(self.cookie)
    }
}

/// Answers with a socket's cookie, where values have room for one.
fn answer(held: Option<Held>, value: &mut [u8]) -> Result<(), Errno> {
    if value.len() != size_of::<u64>() {
        return Err(Errno::ENOSPC);
    }
    let held = held.filter(Held::is_open).ok_or(Errno::ENOENT)?;
    copy(value, &held.cookie.to_ne_bytes())
}

/// What the kernel answers to a number that cannot be the descriptor of a socket. One that is cannot be looked at:
/// only [`Elements::update_fd`] is handed a descriptor.
fn refuse_number(kind: MapType, value: &[u8]) -> Result<(), Errno> {
    let number = match (<[u8; 4]>::try_from(value), <[u8; 8]>::try_from(value)) {
        (Ok(value), _) => u64::from(u32::from_ne_bytes(value)),
        (_, Ok(value)) => u64::from_ne_bytes(value),
        _ => return Err(Errno::EFAULT),
    };
    // Some take 4 bytes for a signed number, and some for one that is not.
    let signed = value.len() == 4 && matches!(kind, MapType::XSKMAP | MapType::REUSEPORT_SOCKARRAY);
    let too_large = if signed { Errno::EBADF } else { Errno::EINVAL };
    socket_inode(i32::try_from(number).map_err(|_| too_large)?)?;
    Err(Errno::EOPNOTSUPP)
}

/// Whether a socket map takes the socket: one of TCP that is connected or listens, one of UDP with a port, and those
/// of Unix unless they are streams without a peer.
fn redirectable(socket: &Socket) -> Result<(), Errno> {
    let stream = socket.kind == SocketType::STREAM;
    let datagram = socket.kind == SocketType::DGRAM;
    let taken = if socket.is_internet() {
        stream && (socket.connected || socket.listening) || datagram && socket.bound
    } else {
        socket.family == rustix::net::AddressFamily::UNIX && (datagram || stream && socket.connected)
    };
    if taken { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn check_flags(flags: u64, there: bool) -> Result<(), Errno> {
    match flags {
        NOEXIST if there => Err(Errno::EEXIST),
        EXIST if !there => Err(Errno::ENOENT),
        _ => Ok(()),
    }
}

/// Sockets by index.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    kind: MapType,
    max_entries: u32,
    slots: BTreeMap<u32, Held>,
}

impl Sockets {
    pub(super) fn new(kind: MapType, max_entries: u32) -> Self {
        Sockets { kind, max_entries, slots: BTreeMap::new() }
    }

    fn held(&self, key: &[u8]) -> Result<Option<Held>, Errno> {
        Ok(self.slots.get(&index(key)?).copied().filter(Held::is_open))
    }

    /// Whether a slot may hold a socket, in the kernel's order of questions.
    fn check(&self, key: &[u8], socket: &Socket, flags: u64, busy: bool) -> Result<(), Errno> {
        let held = self.held(key)?;
        match self.kind {
            MapType::REUSEPORT_SOCKARRAY => {
                check_flags(flags, held.is_some())?;
                if !socket.is_internet() {
                    return Err(Errno::ENOTSUPP);
                }
                let ready = socket.bound && (socket.listening || socket.kind == SocketType::DGRAM);
                if !ready || !socket.reuses_port {
                    return Err(Errno::EINVAL);
                }
                if busy || self.holds(socket) { Err(Errno::EBUSY) } else { Ok(()) }
            }
            MapType::XSKMAP => {
                if !socket.is_xdp() {
                    return Err(Errno::EOPNOTSUPP);
                }
                let same = held == Some(Held::of(socket));
                if same { Ok(()) } else { check_flags(flags, held.is_some()) }
            }
            _ => {
                redirectable(socket)?;
                self.check_place(key, flags)?;
                if busy { Err(Errno::EBUSY) } else { check_flags(flags, held.is_some()) }
            }
        }
    }

    fn check_place(&self, key: &[u8], flags: u64) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        if index(key)? >= self.max_entries { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

impl Elements for Sockets {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        if self.kind == MapType::XSKMAP {
            return Err(Errno::EOPNOTSUPP);
        }
        answer(self.held(key)?, value)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if self.kind != MapType::SOCKMAP {
            self.check_place(key, flags)?;
        }
        refuse_number(self.kind, value)
    }

    fn update_fd(&mut self, key: &[u8], fd: BorrowedFd<'_>, flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if self.kind != MapType::SOCKMAP {
            self.check_place(key, flags)?;
        }
        self.put_socket(key, &Socket::of(fd)?, flags, false)
    }

    fn put_socket(&mut self, key: &[u8], socket: &Socket, flags: u64, busy: bool) -> Result<(), Errno> {
        self.check(key, socket, flags, busy)?;
        self.slots.insert(index(key)?, Held::of(socket));
        Ok(())
    }

    fn forget_socket(&mut self, cookie: u64) {
        self.slots.retain(|_, held| held.simulated() != Some(cookie));
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let there = self.held(key)?.is_some();
        let index = index(key)?;
        self.slots.remove(&index);
        match self.kind {
            MapType::REUSEPORT_SOCKARRAY if index >= self.max_entries => Err(Errno::E2BIG),
            MapType::REUSEPORT_SOCKARRAY if !there => Err(Errno::ENOENT),
            MapType::XSKMAP if index >= self.max_entries => Err(Errno::EINVAL),
            MapType::SOCKMAP if !there => Err(Errno::EINVAL),
            _ => Ok(()),
        }
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn holds(&self, socket: &Socket) -> bool {
        self.slots.values().any(|held| *held == Held::of(socket))
    }

    fn has_socket(&self, key: &[u8]) -> bool {
        self.held(key).ok().flatten().is_some()
    }

    fn simulated_socket(&self, key: &[u8]) -> Option<u64> {
        self.slots.get(&index(key).ok()?)?.simulated()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

/// Sockets by any key.
#[derive(Clone, Debug)]
pub(super) struct SocketHash(Table<Held>);

impl SocketHash {
    pub(super) fn new(max_entries: u32) -> Self {
        SocketHash(Table::new(max_entries))
    }
}

impl Elements for SocketHash {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        answer(self.0.get(key).copied(), value)
    }

    fn update(&mut self, _: &[u8], value: &[u8], _: u64, _: Resolve<'_>) -> Result<(), Errno> {
        refuse_number(MapType::SOCKHASH, value)
    }

    fn update_fd(&mut self, key: &[u8], fd: BorrowedFd<'_>, flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        self.put_socket(key, &Socket::of(fd)?, flags, false)
    }

    fn put_socket(&mut self, key: &[u8], socket: &Socket, flags: u64, busy: bool) -> Result<(), Errno> {
        redirectable(socket)?;
        self.0.retain(Held::is_open);
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        if busy {
            return Err(Errno::EBUSY);
        }
        self.0.check_flags(key, flags)?;
        self.0.set(key, Held::of(socket))
    }

    fn forget_socket(&mut self, cookie: u64) {
        self.0.retain(|held| held.simulated() != Some(cookie));
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.0.retain(Held::is_open);
        self.0.remove(key).map(drop)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.0.next_key_where(key, next, Held::is_open)
    }

    fn has_socket(&self, key: &[u8]) -> bool {
        self.0.get(key).is_some_and(Held::is_open)
    }

    fn simulated_socket(&self, key: &[u8]) -> Option<u64> {
        self.0.get(key)?.simulated()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }
}

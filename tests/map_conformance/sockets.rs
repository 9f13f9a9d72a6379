//! Maps of sockets.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, sockopt};
use skep::map::{MapErrorKind, ReuseportArray, SockHash, SockMap, XskMap};
use skep::sys::Kernel;
use skep::sys::abi::{Errno, MapType, UpdateFlags};

use crate::support::time::eventually;

use super::descriptors::{is_simulated, try_map};
use super::{ANY, assert_error};

fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn cookie(socket: impl AsFd) -> Option<u64> {
    Some(sockopt::socket_cookie(socket).unwrap())
}

/// Both ends of a connection and the socket that listens.
fn tcp() -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

/// A socket that is neither bound nor connected.
fn idle(kind: SocketType) -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, kind, None).unwrap()
}

pub(super) fn sock_map(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::SOCKMAP, 4, 8, 3) else { return };
    let sockets: SockMap = map.typed().unwrap();
    assert_eq!((sockets.len(), sockets.is_empty()), (3, false));
    assert_eq!(sockets.cookie(0).unwrap(), None);
    let (listener, client, server) = tcp();
    sockets.set(0, &client, UpdateFlags::NOEXIST).unwrap();
    sockets.set(1, &listener, ANY).unwrap();
    assert_eq!(sockets.cookie(0).unwrap(), cookie(&client));
    assert_eq!(
        sockets.iter().map(|slot| slot.unwrap()).collect::<Vec<_>>(),
        [(0, cookie(&client).unwrap()), (1, cookie(&listener).unwrap())]
    );
    let udp = udp();
    sockets.set(2, &udp, ANY).unwrap();
    // A socket may be in several slots, and another one may take its place.
    sockets.set(1, &client, UpdateFlags::EXIST).unwrap();
    assert_eq!(sockets.cookie(1).unwrap(), cookie(&client));

    let unsupported = (MapErrorKind::Unsupported, Some(Errno::EOPNOTSUPP));
    let error = sockets.set(0, idle(SocketType::STREAM), ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), unsupported);
    match sockets.set(2, idle(SocketType::DGRAM), ANY) {
        Err(error) => assert_eq!((error.kind(), error.errno()), unsupported),
        // Some kernels take UDP sockets without a port (6.1).
        Ok(()) => assert!(!is_simulated(kernel)),
    }
    sockets.set(2, &udp, ANY).unwrap();
    let error = sockets.set(0, File::open("/dev/null").unwrap(), ANY).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTSOCK));
    assert!(error.to_string().ends_with("that is no socket"), "{error}");
    assert_error(sockets.set(0, &udp, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(sockets.set(3, &udp, ANY), MapErrorKind::Full, Some(Errno::E2BIG));

    assert!(sockets.remove(2).unwrap());
    assert!(!sockets.remove(2).unwrap());
    assert_error(sockets.set(2, &udp, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    assert_error(sockets.remove(3), MapErrorKind::Invalid, Some(Errno::EINVAL));
    drop((client, server));
    gone(|| sockets.cookie(0).unwrap().is_none());
    gone(|| sockets.iter().count() == 0);
}

/// Waits for what a closed socket leaves behind: the kernel closes it later than the descriptor.
#[track_caller]
fn gone(done: impl Fn() -> bool) {
    eventually(done, || "the socket is there still");
}

pub(super) fn sock_hash(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::SOCKHASH, 6, 8, 2) else { return };
    let sockets: SockHash<[u8; 6]> = map.typed().unwrap();
    let (first, second, third) = ([1; 6], [2; 6], [3; 6]);
    assert_eq!(sockets.cookie(&first).unwrap(), None);
    let (listener, client, _server) = tcp();
    sockets.insert(&first, &client, UpdateFlags::NOEXIST).unwrap();
    sockets.insert(&second, &listener, ANY).unwrap();
    assert_eq!(sockets.cookie(&first).unwrap(), cookie(&client));
    assert_error(sockets.insert(&third, &client, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(
        sockets.insert(&third, &client, UpdateFlags::EXIST),
        MapErrorKind::NotFound,
        Some(Errno::ENOENT),
    );
    assert_error(
        sockets.insert(&first, &client, UpdateFlags::NOEXIST),
        MapErrorKind::Exists,
        Some(Errno::EEXIST),
    );
    let error = sockets.insert(&first, idle(SocketType::STREAM), ANY).unwrap_err();
    assert_eq!(error.kind(), MapErrorKind::Unsupported);
    let mut all: Vec<_> = sockets.iter().map(|element| element.unwrap()).collect();
    all.sort();
    assert_eq!(all, [(first, cookie(&client).unwrap()), (second, cookie(&listener).unwrap())]);
    assert!(sockets.remove(&first).unwrap());
    assert!(!sockets.remove(&first).unwrap());
    drop(listener);
    gone(|| sockets.keys().count() == 0);
    assert!(!sockets.remove(&second).unwrap());
}

/// Cookies do not fit into values of four bytes.
pub(super) fn short_values(kernel: &Kernel) {
    let socket = udp();
    let map = try_map(kernel, MapType::SOCKMAP, 4, 4, 1);
    if let Some(sockets) = map.map(|map| map.typed::<SockMap>().unwrap()) {
        sockets.set(0, &socket, ANY).unwrap();
        assert_error(sockets.cookie(0), MapErrorKind::Mismatch, None);
        assert!(sockets.remove(0).unwrap());
    }
    let map = try_map(kernel, MapType::SOCKHASH, 4, 4, 1);
    if let Some(sockets) = map.map(|map| map.typed::<SockHash<u32>>().unwrap()) {
        sockets.insert(&9, &socket, ANY).unwrap();
        assert_error(sockets.iter().next().unwrap(), MapErrorKind::Mismatch, None);
        assert_eq!(sockets.keys().collect::<Result<Vec<_>, _>>().unwrap(), [9]);
    }
}

/// A UDP socket with a port that others may have too.
fn shared() -> UdpSocket {
    let socket = idle(SocketType::DGRAM);
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.into()
}

pub(super) fn reuseport_array(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::REUSEPORT_SOCKARRAY, 4, 8, 2) else { return };
    let sockets: ReuseportArray = map.typed().unwrap();
    assert_eq!((sockets.len(), sockets.cookie(0).unwrap()), (2, None));
    let (socket, other) = (shared(), shared());
    sockets.set(0, &socket, UpdateFlags::NOEXIST).unwrap();
    assert_eq!(sockets.cookie(0).unwrap(), cookie(&socket));
    assert_eq!(sockets.iter().map(|slot| slot.unwrap()).collect::<Vec<_>>(), [(0, cookie(&socket).unwrap())]);
    let error = sockets.set(1, &socket, ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Busy, Some(Errno::EBUSY)));
    let error = sockets.set(1, udp(), ANY).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EINVAL));
    assert!(error.to_string().contains("SO_REUSEPORT"), "{error}");
    assert_error(sockets.set(0, &other, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_error(sockets.set(1, &other, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    assert_error(sockets.set(2, &other, ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    sockets.set(0, &other, UpdateFlags::EXIST).unwrap();
    assert_eq!(sockets.cookie(0).unwrap(), cookie(&other));
    assert!(sockets.remove(0).unwrap());
    assert!(!sockets.remove(0).unwrap());
    assert_error(sockets.remove(2), MapErrorKind::Full, Some(Errno::E2BIG));
    sockets.set(1, &other, ANY).unwrap();
    drop(other);
    gone(|| sockets.cookie(1).unwrap().is_none());
}

pub(super) fn xsk_map(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::XSKMAP, 4, 4, 2) else { return };
    let sockets: XskMap = map.typed().unwrap();
    assert_eq!((sockets.len(), sockets.is_empty()), (2, false));
    let error = sockets.set(0, udp(), ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::Unsupported, Some(Errno::EOPNOTSUPP)));
    assert_eq!(
        sockets.set(0, File::open("/dev/null").unwrap(), ANY).unwrap_err().errno(),
        Some(Errno::ENOTSOCK)
    );
    assert_error(sockets.set(2, udp(), ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    sockets.remove(0).unwrap();
    assert_error(sockets.remove(2), MapErrorKind::Invalid, Some(Errno::EINVAL));

    let xdp = || rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None);
    let (socket, other) = match (xdp(), xdp()) {
        (Ok(socket), Ok(other)) => (socket, other),
        (Err(error), _) | (_, Err(error)) => return println!("skip: xsk_map: no AF_XDP socket: {error}"),
    };
    const ENOBUFS: Errno = Errno(105);
    if sockets.set(0, &socket, ANY).is_err_and(|error| error.errno() == Some(ENOBUFS)) {
        return println!("skip: xsk_map: this kernel takes only sockets that are bound to a queue");
    }
    sockets.remove(0).unwrap();
    assert_error(sockets.set(0, &socket, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
    sockets.set(0, &socket, ANY).unwrap();
    sockets.set(0, &socket, UpdateFlags::NOEXIST).unwrap();
    assert_error(sockets.set(0, &other, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    sockets.set(0, &other, UpdateFlags::EXIST).unwrap();
    sockets.remove(0).unwrap();
    assert_error(sockets.set(0, &socket, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
}

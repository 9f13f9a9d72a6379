//! Helpers that find, read and change sockets.

use std::net::IpAddr;

use skep_sys::abi::Errno;

use super::{check_context, with_skb};
use crate::helper::{answer, negative};
use crate::net::{CLOSE, Effect, LISTEN, NETNS_COOKIE, SOCK_STREAM, SocketId};
use crate::packet::{SkBuff, SkLookup, Xdp};
use crate::vm::{FaultKind, Region, Trap, Vm};

const TCP: u32 = 6;
const UDP: u32 = 17;
/// A user who is nobody (`overflowuid`).
const NOBODY: u64 = 65534;

/// The socket that an argument is: a pointer to one, or the context of a program that has one.
pub(super) fn socket_of(vm: &mut Vm, address: u64) -> Result<Option<u64>, Trap> {
    if let Some(cookie) = vm.socket_at(address) {
        return Ok(Some(cookie));
    }
    match vm.memory.region(address) {
        Some(Region::Context) => {
            if let Some(context) = vm.memory.context::<SkBuff>() {
                return Ok(context.skb.socket);
            }
            Ok(vm.context_socket())
        }
        _ => Err(FaultKind::NotA { what: "socket", address }.into()),
    }
}

/// `bpf_get_socket_cookie(ctx or sk)`.
pub(super) fn cookie(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    if address == 0 {
        return Ok(0);
    }
    if vm.memory.region(address).is_none()
        && let Some(cookie) = described(vm, address)
    {
        return Ok(cookie);
    }
    Ok(socket_of(vm, address)?.unwrap_or(0))
}

/// The cookie of a socket that a test described in the kernel's memory, which gets one when it is asked for first.
fn described(vm: &Vm, address: u64) -> Option<u64> {
    const COOKIE: &str = "__sk_common.skc_cookie.counter";

    let memory = vm.kernel.memory();
    memory.read(address, 8).ok()?;
    let sock = memory.object_at("sock", address).ok()?;
    match sock.get(COOKIE).ok()? {
        0 => {
            let cookie = vm.kernel.0.world().net.next_cookie();
            sock.set(COOKIE, cookie).ok()?;
            Some(cookie)
        }
        cookie => u64::try_from(cookie).ok(),
    }
}

/// `bpf_get_socket_uid(skb)`.
pub(super) fn uid(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = with_skb(vm, context, |skb, _| Ok(skb.socket))?;
    let world = vm.kernel.0.world();
    Ok(cookie.and_then(|cookie| world.net.socket(cookie)).map_or(NOBODY, |socket| socket.uid.into()))
}

/// `bpf_get_netns_cookie(ctx)`.
pub(super) fn netns_cookie(_: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    Ok(NETNS_COOKIE)
}

/// Finds the socket that a packet with the addresses of a `struct bpf_sock_tuple` is for.
fn find(
    vm: &mut Vm,
    protocol: u32,
    [context, tuple, len, netns, flags]: [u64; 5],
) -> Result<Option<u64>, Trap> {
    check_context(vm, context)?;
    let bytes = vm.memory.bytes(tuple, len as u32 as usize)?;
    let half = match bytes.len() {
        12 => 4,
        36 => 16,
        _ => return Ok(None),
    };
    // Namespaces other than the one that there is have no sockets.
    let there = (netns as i32) < 0 && netns <= u64::from(u32::MAX) || netns as i64 == -1;
    if flags != 0 || !there && netns != 0 {
        return Ok(None);
    }
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes = bytes.get(at..at + half)?;
        match bytes.len() {
            4 => bytes.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(*octets)),
            _ => bytes.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(*octets)),
        }
    };
    let port =
        |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_be_bytes(*b));
    let (Some(source), Some(destination)) = (ip(0), ip(half)) else { return Ok(None) };
    let ifindex = ingress(vm);
    let (source, destination) = ((source, port(half * 2)), (destination, port(half * 2 + 2)));
    Ok(vm.kernel.0.world().net.find_socket(protocol, source, destination, ifindex))
}

/// The device that the packet came in by.
fn ingress(vm: &mut Vm) -> u32 {
    if let Some(xdp) = vm.memory.context::<Xdp>() {
        return xdp.ingress_ifindex;
    }
    vm.memory.context::<SkBuff>().map_or(0, |context| context.skb.ifindex)
}

fn found(vm: &mut Vm, cookie: Option<u64>) -> Result<u64, Trap> {
    cookie.map_or(Ok(0), |cookie| vm.socket_address(cookie))
}

/// `bpf_sk_lookup_tcp(ctx, tuple, size, netns, flags)`.
pub(super) fn lookup_tcp(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    let cookie = find(vm, TCP, args)?;
    found(vm, cookie)
}

/// `bpf_skc_lookup_tcp(ctx, tuple, size, netns, flags)`.
pub(super) fn lookup_tcp_common(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    lookup_tcp(vm, args)
}

/// `bpf_sk_lookup_udp(ctx, tuple, size, netns, flags)`.
pub(super) fn lookup_udp(vm: &mut Vm, args: [u64; 5]) -> Result<u64, Trap> {
    let cookie = find(vm, UDP, args)?;
    found(vm, cookie)
}

/// `bpf_sk_release(sk)`.
pub(super) fn release(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    match vm.socket_at(address) {
        Some(_) => Ok(0),
        None => Err(FaultKind::NotA { what: "socket", address }.into()),
    }
}

/// `bpf_sk_fullsock(sk)`: all sockets here are whole ones.
pub(super) fn fullsock(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    Ok(if vm.socket_at(address).is_some() { address } else { 0 })
}

/// `bpf_tcp_sock(sk)`.
pub(super) fn tcp_sock(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(cookie) = vm.socket_at(address) else { return Ok(0) };
    let bytes = {
        let world = vm.kernel.0.world();
        world.net.socket(cookie).filter(|socket| socket.protocol == TCP).map(|socket| socket.tcp_bytes())
    };
    bytes.map_or(Ok(0), |bytes| vm.socket_view(cookie, "a TCP socket", bytes))
}

/// `bpf_get_listener_sock(sk)`.
pub(super) fn listener(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(cookie) = vm.socket_at(address) else { return Ok(0) };
    let listens = vm.kernel.0.world().net.socket(cookie).is_some_and(|socket| socket.state == LISTEN);
    if listens { vm.socket_address(cookie) } else { Ok(0) }
}

/// `bpf_sk_assign(ctx, sk, flags)`, of tc and of socket lookup programs.
pub(super) fn assign(vm: &mut Vm, [context, address, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    check_context(vm, context)?;
    if vm.memory.context::<SkLookup>().is_some() {
        return assign_lookup(vm, address, flags);
    }
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let Some(cookie) = vm.socket_at(address) else { return Ok(negative(Errno::EINVAL)) };
    with_skb(vm, context, |skb, _| {
        skb.socket = Some(cookie);
        Ok(())
    })?;
    vm.kernel.0.world().net.note(Effect::SocketAssigned { socket: SocketId(cookie) });
    Ok(0)
}

fn assign_lookup(vm: &mut Vm, address: u64, flags: u64) -> Result<u64, Trap> {
    const REPLACE: u64 = 1;
    const NO_REUSEPORT: u64 = 2;
    const UDP: u32 = 17;

    let cookie = if address == 0 { None } else { vm.socket_at(address) };
    if flags & !(REPLACE | NO_REUSEPORT) != 0 || address != 0 && cookie.is_none() {
        return Ok(negative(Errno::EINVAL));
    }
    let socket = cookie.and_then(|cookie| vm.kernel.0.world().net.socket(cookie).cloned());
    let refused = vm.memory.with_context(|context: &mut SkLookup, _| {
        let errno = match &socket {
            // A socket of a connection cannot be given the packets of others.
            Some(socket) if socket.kind == SOCK_STREAM && socket.state != LISTEN => {
                Some(Errno::ESOCKTNOSUPPORT)
            }
            Some(socket) if socket.protocol == UDP && socket.state != CLOSE => Some(Errno::ESOCKTNOSUPPORT),
            Some(socket) if socket.protocol != context.protocol => Some(Errno::EPROTOTYPE),
            Some(socket) if socket.family != context.family && !socket.takes_both() => {
                Some(Errno::EAFNOSUPPORT)
            }
            _ if context.selected.is_some() && flags & REPLACE == 0 => Some(Errno::EEXIST),
            _ => None,
        };
        if errno.is_none() {
            context.selected = cookie;
            context.selected_address = address;
            context.no_reuseport = flags & NO_REUSEPORT != 0;
        }
        errno
    });
    if let Some(Some(errno)) = refused {
        return Ok(negative(errno));
    }
    if let Some(cookie) = cookie {
        vm.kernel.0.world().net.note(Effect::SocketAssigned { socket: SocketId(cookie) });
    }
    Ok(0)
}

/// `bpf_setsockopt(ctx or sk, level, name, value, len)`.
pub(super) fn set_option(vm: &mut Vm, [at, level, name, value, len]: [u64; 5]) -> Result<u64, Trap> {
    let Some(cookie) = socket_of(vm, at)? else { return Ok(negative(Errno::EINVAL)) };
    let bytes = vm.memory.bytes(value, len as u32 as usize)?;
    let (level, name) = (level as i32, name as i32);
    let result = {
        let mut world = vm.kernel.0.world();
        let set = world.net.socket_mut(cookie).ok_or(Errno::EINVAL).and_then(|socket| {
            socket.program_option(level, name, bytes.len())?;
            socket.set_option(level, name, &bytes)
        });
        if set.is_ok() {
            world.net.note(Effect::OptionSet { socket: SocketId(cookie), level, name, value: bytes });
        }
        set
    };
    vm.refresh_socket(cookie);
    Ok(answer(result))
}

/// `bpf_getsockopt(ctx or sk, level, name, value, len)`.
pub(super) fn get_option(vm: &mut Vm, [at, level, name, to, len]: [u64; 5]) -> Result<u64, Trap> {
    let Some(cookie) = socket_of(vm, at)? else { return Ok(negative(Errno::EINVAL)) };
    let len = len as u32 as usize;
    vm.memory.check(to, len, true)?;
    let (level, name) = (level as i32, name as i32);
    let found = {
        let world = vm.kernel.0.world();
        let socket = world.net.socket(cookie).ok_or(Errno::EINVAL);
        socket.and_then(|socket| {
            socket.program_option(level, name, len)?;
            socket.option(level, name)
        })
    };
    // What is refused leaves zeros.
    let mut bytes = found.clone().unwrap_or_default();
    bytes.resize(len, 0);
    vm.memory.write(to, &bytes)?;
    Ok(answer(found.map(drop)))
}

/// `bpf_sock_destroy(sock)`: ends a connection, or what listens, with `ECONNABORTED`.
pub(super) fn destroy(vm: &mut Vm, [address, ..]: [u64; 5]) -> Result<u64, Trap> {
    let Some(cookie) = vm.socket_at(address) else {
        return Err(FaultKind::NotA { what: "socket", address }.into());
    };
    let destroyed = vm.kernel.0.world().net.destroy(cookie);
    vm.refresh_socket(cookie);
    Ok(answer(destroyed))
}

//! Helpers that give a socket an address, and the address of a system call a path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use skep_sys::abi::Errno;

use super::socket::socket_of;
use crate::helper::negative;
use crate::net::{AF_INET, AF_INET6, AF_UNIX, Effect, SocketId};
use crate::packet::SockAddr;
use crate::vm::{FaultKind, Trap, Vm};

/// Longest path (`UNIX_PATH_MAX`).
const PATH_MAX: usize = 108;

/// `bpf_bind(ctx, addr, addr_len)`.
pub(super) fn bind(vm: &mut Vm, [context, address, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    let bytes = vm.memory.bytes(address, len as u32 as usize)?;
    let Some(cookie) = socket_of(vm, context)? else { return Ok(negative(Errno::EINVAL)) };
    let Some(family) = bytes.first_chunk().map(|family| u32::from(u16::from_ne_bytes(*family))) else {
        return Ok(negative(Errno::EINVAL));
    };
    let port =
        bytes.get(2..).and_then(|bytes| bytes.first_chunk()).map_or(0, |port| u16::from_be_bytes(*port));
    let ip: Option<IpAddr> = match family {
        AF_INET if bytes.len() >= 16 => bytes
            .get(4..)
            .and_then(|b| b.first_chunk())
            .map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into()),
        AF_INET6 if bytes.len() >= 24 => bytes
            .get(8..)
            .and_then(|b| b.first_chunk())
            .map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into()),
        AF_INET | AF_INET6 => None,
        _ => return Ok(negative(Errno::EAFNOSUPPORT)),
    };
    let Some(ip) = ip else { return Ok(negative(Errno::EINVAL)) };
    let address = SocketAddr::new(ip, port);
    let result = vm.kernel.0.world().net.bind(cookie, address);
    if let Err(errno) = result {
        return Ok(negative(errno));
    }
    vm.kernel.0.world().net.note(Effect::Bound { socket: SocketId(cookie), address });
    vm.refresh_socket(cookie);
    Ok(0)
}

/// `bpf_sock_addr_set_sun_path(sa_kern, sun_path, sun_path__sz)`.
pub(super) fn set_path(vm: &mut Vm, [context, path, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    super::check_context(vm, context)?;
    let path = vm.memory.bytes(path, len as u32 as usize)?;
    let Some(address) = vm.memory.context::<SockAddr>() else {
        return Err(FaultKind::NotA { what: "address of a system call", address: context }.into());
    };
    if address.family() != AF_UNIX || path.is_empty() || path.len() > PATH_MAX {
        return Ok(negative(Errno::EINVAL));
    }
    address.path = Some(path);
    Ok(0)
}

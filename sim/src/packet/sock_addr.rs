//! `struct bpf_sock_addr`: the address of a system call, which programs may change.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use skep_sys::abi::AttachType;

use crate::net::{AF_INET6, AF_UNIX};
use crate::vm::{Context, Memory};
use crate::words::{narrow_any, widen_any};

/// Offsets of the structure.
mod at {
    pub(super) const USER_IP4: usize = 4;
    pub(super) const USER_IP6: usize = 8;
    pub(super) const USER_PORT: usize = 24;
    pub(super) const MSG_SRC_IP4: usize = 40;
    pub(super) const MSG_SRC_IP6: usize = 44;
    pub(super) const SK: usize = 64;
}

/// An address that a program looks at.
#[derive(Clone, Debug)]
pub(crate) struct SockAddr {
    bytes: [u8; 64],
    /// That of a Unix socket, which programs only change.
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) attach_type: AttachType,
    pub(crate) cookie: u64,
    pub(crate) socket: u64,
}

impl SockAddr {
    pub(crate) fn new(address: SocketAddr, kind: u32, protocol: u32, attach_type: AttachType) -> SockAddr {
        let mut context = SockAddr::empty(attach_type);
        let family: u32 = if address.is_ipv4() { 2 } else { 10 };
        context.put(0, &family.to_ne_bytes());
        context.put(28, &family.to_ne_bytes());
        context.put(32, &kind.to_ne_bytes());
        context.put(36, &protocol.to_ne_bytes());
        context.put(at::USER_PORT, &address.port().to_be_bytes());
        context.put_ip(address.ip(), at::USER_IP4, at::USER_IP6);
        context
    }

    fn empty(attach_type: AttachType) -> SockAddr {
        SockAddr { bytes: [0; 64], path: None, attach_type, cookie: 0, socket: 0 }
    }

    /// The path of a Unix socket.
    pub(crate) fn of_unix(path: Vec<u8>, kind: u32, attach_type: AttachType, cookie: u64) -> SockAddr {
        let mut context = SockAddr { path: Some(path), cookie, ..SockAddr::empty(attach_type) };
        context.put(0, &AF_UNIX.to_ne_bytes());
        context.put(28, &AF_UNIX.to_ne_bytes());
        context.put(32, &kind.to_ne_bytes());
        context
    }

    /// `AF_INET` or another.
    pub(crate) fn family(&self) -> u32 {
        self.bytes.first_chunk().map_or(0, |family| u32::from_ne_bytes(*family))
    }

    fn put(&mut self, place: usize, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(place..place + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn put_ip(&mut self, address: IpAddr, four: usize, six: usize) {
        match address {
            IpAddr::V4(address) => self.put(four, &address.octets()),
            IpAddr::V6(address) => self.put(six, &address.octets()),
        }
    }

    /// The address that a message comes from.
    pub(crate) fn set_source(&mut self, address: IpAddr) {
        self.put_ip(address, at::MSG_SRC_IP4, at::MSG_SRC_IP6);
    }

    fn ip(&self, four: usize, six: usize) -> IpAddr {
        let part = |place: usize| self.bytes.get(place..).unwrap_or_default();
        if self.is_v6() {
            part(six).first_chunk().map_or([0; 16], |octets: &[u8; 16]| *octets).into()
        } else {
            part(four).first_chunk().map_or([0; 4], |octets: &[u8; 4]| *octets).into()
        }
    }

    fn is_v6(&self) -> bool {
        self.family() == AF_INET6
    }

    /// The address as it is now.
    pub(crate) fn address(&self) -> SocketAddr {
        let port = self.bytes.get(at::USER_PORT..).and_then(|bytes| bytes.first_chunk());
        SocketAddr::new(self.ip(at::USER_IP4, at::USER_IP6), port.map_or(0, |port| u16::from_be_bytes(*port)))
    }

    pub(crate) fn source(&self) -> IpAddr {
        self.ip(at::MSG_SRC_IP4, at::MSG_SRC_IP6)
    }

    /// Whether a field is one of the family of the hook.
    fn is_visible(&self, place: usize) -> bool {
        use AttachType as A;

        let v6 = self.is_v6();
        let message = matches!(self.attach_type, A::CGROUP_UDP4_SENDMSG | A::CGROUP_UDP6_SENDMSG);
        match place {
            at::USER_IP4..28 if self.path.is_some() => false,
            at::USER_IP4..at::USER_IP6 => !v6,
            at::USER_IP6..at::USER_PORT => v6,
            at::MSG_SRC_IP4..at::MSG_SRC_IP6 => message && !v6,
            at::MSG_SRC_IP6..60 => message && v6,
            _ => place < 40,
        }
    }
}

impl Context for SockAddr {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let (place, len) = (offset as usize, len as usize);
        if place == at::SK && len == 8 {
            return Some(self.socket);
        }
        // Only addresses of IPv6 are read as double words.
        let wide = matches!(place, at::USER_IP6..at::USER_PORT | at::MSG_SRC_IP6..60);
        if !place.is_multiple_of(len.min(4)) || len == 8 && !wide || !self.is_visible(place) {
            return None;
        }
        self.bytes.get(place..place + len).map(widen_any)
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        let place = offset as usize;
        let wide = matches!(place, at::USER_IP6..at::USER_PORT | at::MSG_SRC_IP6..60);
        let writable = matches!(place, at::USER_IP4..28 | at::MSG_SRC_IP4..60);
        if !writable || !(len == 4 || len == 8 && wide) || !place.is_multiple_of(4) || !self.is_visible(place)
        {
            return None;
        }
        narrow_any(value, self.bytes.get_mut(place..place + len as usize)?);
        Some(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

//! `struct sk_reuseport_md`: a packet for one of the sockets that share a port.

use std::any::Any;

use super::buffer::Buffer;
use crate::vm::{Context, Memory};
use crate::words::widen_any;

/// The context of programs that choose one of the sockets.
#[derive(Debug)]
pub(crate) struct SkReuseport {
    /// The packet from its transport header on.
    pub(crate) buffer: Buffer,
    /// All of it, and where the transport header begins: network header first.
    pub(crate) packet: Vec<u8>,
    pub(crate) transport: usize,
    pub(crate) eth_protocol: u16,
    pub(crate) ip_protocol: u32,
    /// Whether the group is bound to no address.
    pub(crate) bind_inany: bool,
    pub(crate) hash: u32,
    /// The socket that was found, and its address for the program.
    pub(crate) socket: (u64, u64),
    /// The socket that is to be moved to another one.
    pub(crate) migrating: Option<(u64, u64)>,
    pub(crate) selected: Option<u64>,
}

impl Context for SkReuseport {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let narrow = |value: u32, start: u32| {
            let from = offset.checked_sub(start)? as usize;
            value.to_ne_bytes().get(from..from + len as usize).map(widen_any)
        };
        if !offset.is_multiple_of(len) {
            return None;
        }
        match (offset, len) {
            (0, 8) => Some(self.buffer.data_address()),
            (8, 8) => Some(self.buffer.end_address()),
            (16..20, 1 | 2 | 4) => narrow(self.buffer.len() as u32, 16), // far below 2^32
            (20..24, 1 | 2 | 4) => narrow(self.eth_protocol.to_be().into(), 20),
            (24..28, 1 | 2 | 4) => narrow(self.ip_protocol, 24),
            (28..32, 1 | 2 | 4) => narrow(self.bind_inany.into(), 28),
            (32, 4) => Some(self.hash.into()),
            (40, 8) => Some(self.socket.1),
            (48, 8) => Some(self.migrating.map_or(0, |(_, address)| address)),
            _ => None,
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

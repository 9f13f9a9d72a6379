//! `struct bpf_sk_lookup`: a packet that a socket is looked for.

use std::any::Any;
use std::net::IpAddr;

use crate::vm::{Context, Memory};
use crate::words::widen_any;

/// The context of programs that choose the socket for a packet.
#[derive(Clone, Debug)]
pub(crate) struct SkLookup {
    pub(crate) family: u32,
    pub(crate) protocol: u32,
    pub(crate) remote: (IpAddr, u16),
    pub(crate) local: (IpAddr, u16),
    pub(crate) ingress_ifindex: u32,
    /// Cookie of the socket that was chosen, and its address for the program.
    pub(crate) selected: Option<u64>,
    pub(crate) selected_address: u64,
    /// Whether the socket is to be taken itself, and none of those that share its port.
    pub(crate) no_reuseport: bool,
}

impl SkLookup {
    fn bytes(&self) -> [u8; 72] {
        let mut bytes = [0; 72];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(to) = bytes.get_mut(at..at + value.len()) {
                to.copy_from_slice(value);
            }
        };
        put(8, &self.family.to_ne_bytes());
        put(12, &self.protocol.to_ne_bytes());
        for (address, four, six) in [(self.remote.0, 16, 20), (self.local.0, 40, 44)] {
            match address {
                IpAddr::V4(address) => put(four, &address.octets()),
                IpAddr::V6(address) => put(six, &address.octets()),
            }
        }
        put(36, &self.remote.1.to_be_bytes());
        put(60, &u32::from(self.local.1).to_ne_bytes());
        put(64, &self.ingress_ifindex.to_ne_bytes());
        bytes
    }
}

impl Context for SkLookup {
    /// Words of which parts can be read, and the socket.
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let at = offset as usize;
        if !offset.is_multiple_of(len) {
            return None;
        }
        match (offset, len) {
            (0, 8) => Some(self.selected_address),
            (8.., 1 | 2 | 4) => self.bytes().get(at..at + len as usize).map(widen_any),
            _ => None,
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

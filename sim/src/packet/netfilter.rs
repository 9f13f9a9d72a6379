//! `struct bpf_nf_ctx`: a packet in a netfilter hook.

use std::any::Any;

use super::skb::Skb;
use crate::vm::{Context, Memory};

/// The context of netfilter programs: two pointers to what the kernel's types describe.
#[derive(Debug)]
pub(crate) struct Netfilter {
    pub(crate) skb: Skb,
    /// Address of `struct nf_hook_state`.
    pub(crate) state: u64,
    /// Address that stands for the packet.
    pub(crate) packet: u64,
}

impl Context for Netfilter {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        match (offset, len) {
            (0, 8) => Some(self.state),
            (8, 8) => Some(self.packet),
            _ => None,
        }
    }

    fn packet(&mut self, memory: &mut Memory, offset: i64, to: &mut [u8]) -> Option<()> {
        self.skb.load(memory, usize::try_from(offset).ok()?, to)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

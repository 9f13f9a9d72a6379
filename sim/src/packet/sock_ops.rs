//! `struct bpf_sock_ops`: what happens to a TCP connection.

use std::any::Any;

use super::buffer::Buffer;
use super::sk_buff::Addresses;
use crate::net::Socket;
use crate::vm::{Context, Memory};

/// Offsets of the structure.
mod at {
    pub(super) const ARGS: u32 = 4;
    pub(super) const FAMILY: u32 = 20;
    pub(super) const IS_FULLSOCK: u32 = 72;
    pub(super) const SND_CWND: u32 = 76;
    pub(super) const CB_FLAGS: u32 = 84;
    pub(super) const STATE: u32 = 88;
    pub(super) const SACKED_OUT: u32 = 160;
    pub(super) const TXHASH: u32 = 164;
    pub(super) const BYTES_RECEIVED: u32 = 168;
    pub(super) const BYTES_ACKED: u32 = 176;
    pub(super) const SK: u32 = 184;
    pub(super) const SKB_DATA: u32 = 192;
    pub(super) const SKB_DATA_END: u32 = 200;
    pub(super) const SKB_LEN: u32 = 208;
    pub(super) const SKB_TCP_FLAGS: u32 = 212;
    pub(super) const SKB_HWTSTAMP: u32 = 216;
}

/// A segment that a program is shown.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The part of its header that can be seen.
    pub(crate) buffer: Buffer,
    /// Length of what belongs to it now.
    pub(crate) len: u32,
    /// Flags of the header: `FIN` is 1, `SYN` 2, `ACK` 16.
    pub(crate) flags: u8,
}

/// The context of programs of TCP.
#[derive(Clone, Debug)]
pub(crate) struct SockOps {
    pub(crate) op: u32,
    /// Arguments of the event, of which the first is the answer, too.
    pub(crate) args: [u32; 4],
    /// The socket, or what is known of one that is not whole yet.
    pub(crate) socket: Socket,
    /// Cookie of the socket and its address for the program, where it is a whole one.
    pub(crate) full: Option<(u64, u64)>,
    pub(crate) txhash: u32,
    pub(crate) segment: Option<Segment>,
    /// Bytes that are left for options of a header.
    pub(crate) remaining: usize,
    /// The header of the first segment of the connection, where it is at hand.
    pub(crate) syn: Option<Vec<u8>>,
}

impl SockOps {
    pub(crate) fn new(op: u32, args: [u32; 4], socket: Socket) -> SockOps {
        SockOps { op, args, socket, full: None, txhash: 0, segment: None, remaining: 0, syn: None }
    }

    /// The words that only a whole socket has.
    fn tcp_word(&self, offset: u32) -> Option<u32> {
        let index = (offset - at::SND_CWND) / 4; // it is not before
        let word = match index as usize {
            2 => self.socket.callback_flags,
            3 => self.socket.state,
            index @ 0..2 => *self.socket.tcp.words().get(index)?,
            index => *self.socket.tcp.words().get(index - 2)?, // it is above 3
        };
        Some(if self.full.is_some() || offset == at::STATE { word } else { 0 })
    }

    fn word(&self, offset: u32) -> Option<u32> {
        let segment = self.segment.as_ref();
        Some(match offset {
            0 => self.op,
            at::ARGS..at::FAMILY => *self.args.get((offset - at::ARGS) as usize / 4)?,
            at::FAMILY..at::IS_FULLSOCK => Addresses::of(&self.socket).word(offset - at::FAMILY)?,
            at::IS_FULLSOCK => self.full.is_some().into(),
            at::SND_CWND..=at::SACKED_OUT => self.tcp_word(offset)?,
            at::TXHASH => self.txhash,
            at::SKB_LEN => segment.map_or(0, |segment| segment.len),
            at::SKB_TCP_FLAGS => segment.map_or(0, |segment| segment.flags.into()),
            _ => return None,
        })
    }
}

const _: () = assert!(at::CB_FLAGS == at::SND_CWND + 8 && at::STATE == at::CB_FLAGS + 4);

impl Context for SockOps {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        if !offset.is_multiple_of(len) {
            return None;
        }
        let segment = self.segment.as_ref();
        let full = self.full.is_some();
        match (offset, len) {
            (at::BYTES_RECEIVED, 8) => Some(if full { self.socket.tcp.bytes_received } else { 0 }),
            (at::BYTES_ACKED, 8) => Some(if full { self.socket.tcp.bytes_acked } else { 0 }),
            (at::SK, 8) => Some(self.full.map_or(0, |(_, address)| address)),
            (at::SKB_DATA, 8) => Some(segment.map_or(0, |segment| segment.buffer.data_address())),
            (at::SKB_DATA_END, 8) => Some(segment.map_or(0, |segment| segment.buffer.end_address())),
            (at::SKB_HWTSTAMP, 8) => Some(0),
            (at::BYTES_RECEIVED..at::SKB_LEN, _) => None,
            (_, 4) => self.word(offset).map(u64::from),
            _ => None,
        }
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        if len != 4 || !offset.is_multiple_of(4) {
            return None;
        }
        match offset {
            at::ARGS..at::FAMILY => {
                *self.args.get_mut((offset - at::ARGS) as usize / 4)? = value as u32; // the low half
            }
            at::TXHASH => self.txhash = value as u32, // the low half
            _ => return None,
        }
        Some(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lie_where_the_structure_has_them() {
        let mut socket = Socket::tcp(([10, 0, 0, 1], 80).into()).connected(([10, 0, 0, 2], 9).into());
        socket.tcp.sacked_out = 22;
        socket.callback_flags = 0x40;
        let mut context = SockOps::new(4, [1, 2, 3, 4], socket);
        assert_eq!(context.word(16), Some(4));
        assert_eq!(context.word(84), Some(0));
        assert_eq!(context.word(88), Some(1));
        context.full = Some((1, 2));
        assert_eq!(context.word(84), Some(0x40));
        assert_eq!(context.word(160), Some(22));
        assert_eq!(context.word(68), Some(80));
    }
}

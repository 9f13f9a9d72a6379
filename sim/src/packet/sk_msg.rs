//! `struct sk_msg_md`: what a process sends through a socket.

use std::any::Any;

use super::buffer::Buffer;
use super::sk_buff::Addresses;
use crate::net::Socket;
use crate::vm::{Context, Memory, Trap};

/// `struct sk_msg_md`: a message that a process sends.
#[derive(Debug)]
pub(crate) struct SkMsg {
    pub(crate) message: Message,
    pub(crate) socket: Socket,
    pub(crate) cookie: u64,
    /// Address of the socket for the program.
    pub(crate) address: u64,
    /// For how many bytes the verdict is.
    pub(crate) apply: u32,
    /// How many bytes are waited for.
    pub(crate) cork: u32,
    /// Where it is sent instead, and whether it is received there.
    pub(crate) redirect: Option<(u64, bool)>,
}

/// A message in pieces, as it lies in a list of pages: the program sees one range.
#[derive(Debug)]
pub(crate) struct Message {
    pieces: Vec<Vec<u8>>,
    /// The piece that is seen, where in it, and the memory that it is in.
    shown: (usize, usize),
    buffer: Buffer,
}

impl Message {
    pub(crate) fn new(memory: &mut Memory, bytes: Vec<u8>) -> Result<Message, Trap> {
        let buffer = Buffer::new(memory, 0, &bytes, 0)?;
        Ok(Message { pieces: vec![bytes], shown: (0, 0), buffer })
    }

    /// Takes over what the program wrote.
    fn collect(&mut self, memory: &Memory) {
        let (piece, from) = self.shown;
        let bytes = self.buffer.bytes(memory);
        if let Some(to) = self.pieces.get_mut(piece).and_then(|piece| piece.get_mut(from..from + bytes.len()))
        {
            to.copy_from_slice(bytes);
        }
    }

    /// Shows a range of a piece, and takes all pointers into the message away.
    fn show(&mut self, memory: &mut Memory, piece: usize, from: usize, len: usize) -> Result<(), Trap> {
        let all = self.pieces.get(piece).map_or(&[][..], |piece| piece);
        let bytes = all.get(from..from + len).unwrap_or_default().to_vec();
        self.shown = (piece, from);
        self.buffer.edit(memory, |room, at| {
            (at.meta, at.data, at.end) = (0, 0, bytes.len());
            *room = bytes;
        })
    }

    /// Shows the first piece, as after each change.
    fn show_first(&mut self, memory: &mut Memory) -> Result<(), Trap> {
        let len = self.pieces.first().map_or(0, Vec::len);
        self.show(memory, 0, 0, len)
    }

    /// All bytes as they are now.
    pub(crate) fn whole(&mut self, memory: &Memory) -> Vec<u8> {
        self.collect(memory);
        self.pieces.concat()
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// The piece that a place is in, and where that begins.
    fn piece_at(&self, place: usize) -> Option<(usize, usize)> {
        let mut start = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            if place < start + piece.len() {
                return Some((index, start));
            }
            start += piece.len();
        }
        None
    }

    /// Shows `start..end` in one piece (`bpf_msg_pull_data`). `None` when it is not all there.
    pub(crate) fn pull(&mut self, memory: &mut Memory, start: usize, end: usize) -> Result<Option<()>, Trap> {
        let Some((first, offset)) = self.piece_at(start).filter(|_| start < end && end <= self.len()) else {
            return Ok(None);
        };
        self.collect(memory);
        let (mut last, mut have) = (first, self.pieces.get(first).map_or(0, Vec::len));
        while offset + have < end {
            last += 1; // the end is in one of them
            have += self.pieces.get(last).map_or(0, Vec::len);
        }
        let joined: Vec<u8> = self.pieces.drain(first..=last).flatten().collect();
        self.pieces.insert(first, joined);
        self.show(memory, first, start - offset, end - start)?; // the piece begins before the start
        Ok(Some(()))
    }

    /// Cuts a piece in two at a place, which then begins one.
    fn cut(&mut self, place: usize) -> usize {
        let Some((index, offset)) = self.piece_at(place) else { return self.pieces.len() };
        if place == offset {
            return index;
        }
        let Some(piece) = self.pieces.get_mut(index) else { return index };
        let rest = piece.split_off(place - offset); // inside of it
        self.pieces.insert(index + 1, rest);
        index + 1
    }

    /// Inserts zeros (`bpf_msg_push_data`). `None` when the place is behind the end.
    pub(crate) fn push(&mut self, memory: &mut Memory, start: usize, len: usize) -> Result<Option<()>, Trap> {
        if start > self.len() {
            return Ok(None);
        }
        self.collect(memory);
        let at = self.cut(start);
        self.pieces.insert(at, vec![0; len]);
        self.show_first(memory)?;
        Ok(Some(()))
    }

    /// Removes bytes (`bpf_msg_pop_data`). `None` when they are not all there.
    pub(crate) fn pop(&mut self, memory: &mut Memory, start: usize, len: usize) -> Result<Option<()>, Trap> {
        if self.piece_at(start).is_none() || start + len > self.len() {
            return Ok(None);
        }
        self.collect(memory);
        let from = self.cut(start);
        let to = self.cut(start + len);
        self.pieces.drain(from..to);
        if self.pieces.is_empty() {
            self.pieces.push(Vec::new());
        }
        self.show_first(memory)?;
        Ok(Some(()))
    }
}

impl Context for SkMsg {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        match (offset, len) {
            (0, 8) => Some(self.message.buffer.data_address()),
            (8, 8) => Some(self.message.buffer.end_address()),
            (16..=64, 4) if offset.is_multiple_of(4) => {
                Addresses::of(&self.socket).word(offset - 16).map(u64::from)
            }
            (68, 4) => Some(self.message.len() as u64),
            (72, 8) => Some(self.address),
            _ => None,
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

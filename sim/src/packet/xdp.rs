//! Packets as XDP programs see them (`struct xdp_buff`).

use std::any::Any;

use skep_sys::abi::Errno;

use super::buffer::Buffer;
use crate::net::Hints;
use crate::vm::{Context, Memory, Trap};

/// Size of the memory that a frame lies in.
pub(crate) const FRAME: usize = 4096;
/// Room before a frame (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM: usize = 256;
/// Room that the kernel keeps at the end of a frame for `struct skb_shared_info`.
pub(crate) const TAILROOM: usize = 320;
/// Bytes at the begin of a frame that `struct xdp_frame` takes.
const FRAME_HEADER: usize = 40;
/// Length of an Ethernet header, which a packet always keeps.
pub(crate) const ETH_LEN: usize = 14;
/// Most bytes of metadata that fit into the kernel's field for their number, and are a multiple of 4.
const META_MAX: usize = 252;
/// Offset or length above which the helpers for bytes refuse (`0xffff`).
const ACCESS_MAX: usize = 0xffff;

/// A packet, its parts beyond the first page, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Xdp {
    pub(crate) buffer: Buffer,
    /// The rest of a packet that is longer than its first part.
    pub(crate) frags: Vec<Vec<u8>>,
    pub(crate) ingress_ifindex: u32,
    pub(crate) rx_queue: u32,
    /// The device that it is about to leave through, where programs of a device map may ask.
    pub(crate) egress_ifindex: Option<u32>,
    /// What the device says of it.
    pub(crate) hints: Hints,
}

impl Xdp {
    /// A packet with a headroom, the first bytes of it metadata.
    pub(crate) fn new(memory: &mut Memory, headroom: usize, meta: usize, linear: &[u8]) -> Result<Xdp, Trap> {
        let tailroom = FRAME.saturating_sub(headroom + linear.len());
        let mut buffer = Buffer::new(memory, headroom, linear, tailroom)?;
        buffer.data = (headroom + meta).min(buffer.end);
        Ok(Xdp {
            buffer,
            frags: Vec::new(),
            ingress_ifindex: 1,
            rx_queue: 0,
            egress_ifindex: None,
            hints: Hints::default(),
        })
    }

    pub(crate) fn frags_len(&self) -> usize {
        self.frags.iter().map(Vec::len).sum()
    }

    /// Length of the whole packet (`xdp_get_buff_len`).
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() + self.frags_len()
    }

    /// The packet in one piece, without metadata.
    pub(crate) fn whole(&self, memory: &Memory) -> Vec<u8> {
        let mut bytes = self.buffer.bytes(memory).to_vec();
        self.frags.iter().for_each(|frag| bytes.extend_from_slice(frag));
        bytes
    }

    /// `bpf_xdp_adjust_head`: moves the begin of the packet.
    pub(crate) fn adjust_head(&mut self, memory: &mut Memory, delta: i32) -> Result<Result<(), Errno>, Trap> {
        self.buffer.edit(memory, |bytes, at| {
            let meta = at.data - at.meta; // metadata is before the packet
            let data = at.data.checked_add_signed(delta as isize).ok_or(Errno::EINVAL)?;
            if data < FRAME_HEADER + meta || data + ETH_LEN > at.end {
                return Err(Errno::EINVAL);
            }
            if meta > 0 {
                bytes.copy_within(at.meta..at.data, data - meta); // both lie inside of the frame
            }
            (at.meta, at.data) = (data - meta, data); // `data` is at least `meta`
            Ok(())
        })
    }

    /// `bpf_xdp_adjust_meta`: moves the begin of the metadata.
    pub(crate) fn adjust_meta(&mut self, memory: &mut Memory, delta: i32) -> Result<Result<(), Errno>, Trap> {
        self.buffer.edit(memory, |_, at| {
            let meta = at.meta.checked_add_signed(delta as isize).ok_or(Errno::EINVAL)?;
            if meta < FRAME_HEADER || meta > at.data {
                return Err(Errno::EINVAL);
            }
            if bad_meta(at.data - meta) {
                return Err(Errno::EACCES);
            }
            at.meta = meta;
            Ok(())
        })
    }

    /// `bpf_xdp_adjust_tail`: moves the end of the packet.
    pub(crate) fn adjust_tail(&mut self, memory: &mut Memory, delta: i32) -> Result<Result<(), Errno>, Trap> {
        let change = delta.unsigned_abs() as usize;
        if let Some(last) = self.frags.last_mut() {
            let room = FRAME.saturating_sub(last.len());
            let grows = delta >= 0;
            if grows && change <= room {
                last.resize(last.len() + change, 0);
            }
            let answer = match grows {
                true if change > room => Err(Errno::EINVAL),
                true => Ok(()),
                false => self.shrink(change),
            };
            self.buffer.renew(memory)?;
            return Ok(answer);
        }
        self.buffer.edit(memory, |bytes, at| {
            let end = at.end.checked_add_signed(delta as isize).ok_or(Errno::EINVAL)?;
            if end > FRAME - TAILROOM || end < at.data + ETH_LEN {
                return Err(Errno::EINVAL);
            }
            if let Some(new) = bytes.get_mut(at.end..end) {
                new.fill(0);
            }
            at.end = end;
            Ok(())
        })
    }

    /// Takes bytes from the end of a packet that has parts.
    fn shrink(&mut self, mut by: usize) -> Result<(), Errno> {
        if by + ETH_LEN > self.len() {
            return Err(Errno::EINVAL);
        }
        while by > 0
            && let Some(last) = self.frags.last_mut()
        {
            let part = by.min(last.len());
            last.truncate(last.len() - part);
            by -= part; // at most `by`
            if last.is_empty() {
                self.frags.pop();
            }
        }
        self.buffer.end -= by; // what is left of it is in the first part
        Ok(())
    }

    /// `bpf_xdp_pull_data`: moves bytes from the parts behind the first one into it, and that towards the begin of its frame where there
    /// is no room behind it.
    pub(crate) fn pull_data(&mut self, memory: &mut Memory, len: usize) -> Result<Result<(), Errno>, Trap> {
        let (linear, whole) = (self.buffer.len(), self.len());
        if len <= linear {
            self.buffer.renew(memory)?;
            return Ok(Ok(()));
        }
        let mut rest = std::mem::take(&mut self.frags);
        let pulled = self.buffer.edit(memory, |bytes, at| {
            let headroom = at.meta.checked_sub(FRAME_HEADER).ok_or(Errno::EINVAL)?;
            let tailroom = (FRAME - TAILROOM).saturating_sub(at.end);
            let delta = len - linear; // it is longer
            if len > whole || delta > headroom + tailroom {
                return Err(Errno::EINVAL);
            }
            let shift = delta.saturating_sub(tailroom);
            bytes.copy_within(at.meta..at.end, at.meta - shift); // the metadata are behind the headroom
            (at.meta, at.data, at.end) = (at.meta - shift, at.data - shift, at.end - shift); // as are the others
            let mut missing = delta;
            for part in &mut rest {
                let count = missing.min(part.len());
                if let Some(to) = bytes.get_mut(at.end..at.end + count) {
                    to.copy_from_slice(part.get(..count).unwrap_or_default());
                }
                part.drain(..count); // not more than there is
                at.end += count;
                missing -= count; // at most as much
            }
            Ok(())
        });
        rest.retain(|part| !part.is_empty());
        self.frags = rest;
        pulled
    }

    fn in_range(&self, at: u64, len: usize) -> Result<usize, Errno> {
        let at = usize::try_from(at as u32).map_err(|_| Errno::EFAULT)?;
        if at > ACCESS_MAX || len > ACCESS_MAX {
            return Err(Errno::EFAULT);
        }
        if at + len > self.len() { Err(Errno::EINVAL) } else { Ok(at) }
    }

    /// `bpf_xdp_load_bytes`.
    pub(crate) fn load_bytes(&self, memory: &Memory, at: u64, to: &mut [u8]) -> Result<(), Errno> {
        let at = self.in_range(at, to.len())?;
        self.copy(memory, at, to).ok_or(Errno::EINVAL)
    }

    fn copy(&self, memory: &Memory, at: usize, to: &mut [u8]) -> Option<()> {
        if let Some(bytes) = self.buffer.bytes(memory).get(at..at + to.len()) {
            to.copy_from_slice(bytes);
            return Some(());
        }
        let parts = std::iter::once(self.buffer.bytes(memory)).chain(self.frags.iter().map(Vec::as_slice));
        let mut bytes = parts.flatten().skip(at);
        for byte in to {
            *byte = *bytes.next()?;
        }
        Some(())
    }

    /// `bpf_xdp_store_bytes`.
    pub(crate) fn store_bytes(&mut self, memory: &mut Memory, at: u64, from: &[u8]) -> Result<(), Errno> {
        let at = self.in_range(at, from.len())?;
        let linear = self.buffer.bytes_mut(memory);
        let parts = std::iter::once(linear).chain(self.frags.iter_mut().map(Vec::as_mut_slice));
        for (to, byte) in parts.flatten().skip(at).zip(from) {
            *to = *byte;
        }
        Ok(())
    }
}

/// Whether there may not be so many bytes of metadata (`xdp_metalen_invalid`).
pub(crate) fn bad_meta(len: usize) -> bool {
    !len.is_multiple_of(4) || len > META_MAX
}

impl Context for Xdp {
    /// `struct xdp_md`, whose fields are words.
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        if len != 4 {
            return None;
        }
        Some(match offset {
            0 => self.buffer.data_address(),
            4 => self.buffer.end_address(),
            8 => self.buffer.meta_address(),
            12 => self.ingress_ifindex.into(),
            16 => self.rx_queue.into(),
            20 => self.egress_ifindex?.into(),
            _ => return None,
        })
    }

    fn packet(&mut self, memory: &mut Memory, offset: i64, to: &mut [u8]) -> Option<()> {
        let at = usize::try_from(offset).ok()?;
        self.copy(memory, at, to)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

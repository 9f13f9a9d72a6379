//! Socket buffers (`struct sk_buff`): a packet and what the network stack knows of it.

use skep_sys::abi::Errno;

use super::buffer::Buffer;
use super::checksum::{self, Sum};
use super::vlan::{ETH_QINQ, ETH_VLAN, VLAN_LEN, Vlan, tag};
use super::xdp::ETH_LEN;
use crate::vm::{Memory, Trap};

/// EtherTypes.
pub(crate) const ETH_IPV4: u16 = 0x0800;
pub(crate) const ETH_IPV6: u16 = 0x86dd;
/// The smallest number that is an EtherType and no length (`ETH_P_802_3_MIN`).
const ETH_TYPE_MIN: u16 = 0x0600;
/// What the kernel calls frames with a length: those of Novell (`ETH_P_802_3`), whose packet begins with ones, and others
/// (`ETH_P_802_2`).
const ETH_802_3: u16 = 1;
const ETH_802_2: u16 = 4;
/// Room before a packet that the stack allocates (`NET_SKB_PAD`).
pub(crate) const HEADROOM: usize = 64;
/// The longest packet that helpers make (`BPF_SKB_MAX_LEN`).
pub(crate) const LEN_MAX: usize = 16064;

/// What is known of the checksum of the packet (`ip_summed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    None,
    /// The card has checked it, and so many inner ones.
    Unnecessary(u8),
    /// The sum of everything after the link header.
    Complete,
}

/// The key of a tunnel that metadata of a packet hold (`struct bpf_tunnel_key`), and the options behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) key: [u8; 44],
    pub(crate) options: Vec<u8>,
    /// Whether it is one that a program gave to a packet that leaves.
    pub(crate) outgoing: bool,
    pub(crate) ipv6: bool,
}

/// A packet with everything that programs can ask of it.
#[derive(Clone, Debug)]
pub(crate) struct Skb {
    pub(crate) buffer: Buffer,
    /// Where headers begin, in the region of the buffer.
    pub(crate) mac: usize,
    pub(crate) network: usize,
    /// Length of the link header as the stack notes it where packets come in, which test runs leave out.
    pub(crate) mac_len: usize,
    pub(crate) transport: Option<usize>,
    pub(crate) protocol: u16,
    pub(crate) vlan: Option<Vlan>,
    pub(crate) pkt_type: u8,
    pub(crate) mark: u32,
    pub(crate) queue_mapping: u16,
    pub(crate) priority: u32,
    /// The device that it came in by.
    pub(crate) ingress_ifindex: u32,
    pub(crate) ifindex: u32,
    pub(crate) tc_index: u16,
    pub(crate) tc_classid: u16,
    pub(crate) cb: [u8; 20],
    pub(crate) hash: Option<u32>,
    pub(crate) tstamp: u64,
    pub(crate) tstamp_type: u8,
    pub(crate) wire_len: u32,
    pub(crate) gso_segs: u16,
    pub(crate) gso_size: u16,
    pub(crate) hwtstamp: u64,
    pub(crate) checksum: Checksum,
    /// The sum of everything after the link header, kept right while it is known.
    pub(crate) csum: Sum,
    pub(crate) encapsulated: bool,
    /// Cookie of the socket that it belongs to.
    pub(crate) socket: Option<u64>,
    pub(crate) tunnel: Option<Tunnel>,
}

impl Skb {
    /// A frame as a driver hands it to the stack (`eth_type_trans`): the packet begins after the link header.
    pub(crate) fn received(memory: &mut Memory, frame: &[u8]) -> Result<Skb, Trap> {
        let mut buffer = Buffer::new(memory, HEADROOM, frame, 0)?;
        let mac = buffer.data;
        buffer.data = (mac + ETH_LEN).min(buffer.end);
        buffer.meta = buffer.data;
        buffer.show(memory);
        let network = buffer.data;
        let mut skb = Skb {
            buffer,
            mac,
            network,
            mac_len: 0,
            transport: None,
            protocol: ether_type(frame),
            vlan: None,
            pkt_type: packet_type(frame, [0; 6]),
            mark: 0,
            queue_mapping: 0,
            priority: 0,
            ingress_ifindex: 0,
            ifindex: 1,
            tc_index: 0,
            tc_classid: 0,
            cb: [0; 20],
            hash: None,
            tstamp: 0,
            tstamp_type: 0,
            wire_len: 0,
            gso_segs: 0,
            gso_size: 0,
            hwtstamp: 0,
            checksum: Checksum::None,
            csum: Sum(0),
            encapsulated: false,
            socket: None,
            tunnel: None,
        };
        skb.wire_len = skb.len32();
        Ok(skb)
    }

    pub(crate) fn len32(&self) -> u32 {
        self.buffer.len() as u32 // far below 2^32
    }

    /// Lets the packet begin with its link header, as tc programs see it.
    pub(crate) fn show_link_header(&mut self, memory: &mut Memory) {
        self.buffer.data = self.mac;
        self.buffer.meta = self.mac;
        self.buffer.show(memory);
    }

    /// Puts metadata before a packet that begins with its link header.
    pub(crate) fn set_meta(&mut self, memory: &mut Memory, meta: &[u8]) {
        let Some(from) = self.buffer.data.checked_sub(meta.len()) else { return };
        if let Some(to) = self.buffer.room_mut(memory).get_mut(from..from + meta.len()) {
            to.copy_from_slice(meta);
        }
        self.buffer.meta = from;
        self.buffer.show(memory);
    }

    /// The packet with its link header.
    pub(crate) fn frame(&self, memory: &Memory) -> Vec<u8> {
        let from = self.mac.min(self.buffer.data);
        let mut frame = self.buffer.room(memory).get(from..self.buffer.end).unwrap_or_default().to_vec();
        if let Some(vlan) = self.vlan {
            tag(&mut frame, vlan);
        }
        frame
    }

    /// Bytes of the packet from where it begins now.
    pub(crate) fn load(&self, memory: &Memory, at: usize, to: &mut [u8]) -> Option<()> {
        let end = at.checked_add(to.len())?;
        to.copy_from_slice(self.buffer.bytes(memory).get(at..end)?);
        Some(())
    }

    /// Bytes of the packet from one of its headers, `bpf_skb_load_bytes_relative`.
    pub(crate) fn load_from(&self, memory: &Memory, start: usize, at: usize, to: &mut [u8]) -> Option<()> {
        let from = start.checked_add(at)?;
        let end = from.checked_add(to.len()).filter(|end| *end <= self.buffer.end)?;
        to.copy_from_slice(self.buffer.room(memory).get(from..end)?);
        Some(())
    }

    fn network_offset(&self) -> usize {
        self.network.saturating_sub(self.buffer.data)
    }

    /// Where the network header begins, counted from where the link header does.
    fn mac_len(&self) -> usize {
        self.network.saturating_sub(self.mac)
    }

    /// Length of the network header that helpers keep whole (`bpf_skb_net_base_len`).
    fn base_len(&self) -> Option<usize> {
        match self.protocol {
            ETH_IPV4 => Some(20),
            ETH_IPV6 => Some(40),
            _ => None,
        }
    }

    /// Makes room before the packet.
    fn reserve(&mut self, memory: &mut Memory, room: usize) -> Result<(), Trap> {
        let more = room.saturating_sub(self.buffer.data).next_multiple_of(HEADROOM);
        if more == 0 {
            return Ok(());
        }
        self.buffer.edit(memory, |bytes, at| {
            bytes.splice(0..0, std::iter::repeat_n(0, more));
            at.meta += more;
            at.data += more;
            at.end += more;
        })?;
        self.mac += more;
        self.network += more;
        // That there is no transport header is the number 65535 for the kernel, which it adds the new room to as to any other: a
        // header appears before where the room ends.
        self.transport = Some(self.transport.map_or(more - 1, |at| at + more)); // `more` is not 0
        Ok(())
    }

    /// Inserts zeros after the first `off` bytes, which move to the front (`bpf_skb_net_hdr_push`).
    fn insert(&mut self, memory: &mut Memory, off: usize, len: usize) -> Result<(), Trap> {
        self.reserve(memory, len)?;
        let off = off.min(self.buffer.len());
        self.buffer.edit(memory, |bytes, at| {
            let data = at.data - len; // room was made
            bytes.copy_within(at.data..at.data + off, data); // not more than the packet has
            if let Some(new) = bytes.get_mut(data + off..data + off + len) {
                new.fill(0);
            }
            (at.meta, at.data) = (data, data);
        })?;
        let with_transport = self.transport == Some(self.network);
        self.mac = self.mac.saturating_sub(len);
        self.network = self.network.saturating_sub(len);
        if with_transport {
            self.transport = Some(self.network);
        }
        Ok(())
    }

    /// Takes bytes that the packet will not have any more out of its sum, or those that it has got into it.
    fn resum(&mut self, memory: &Memory, from: usize, len: usize, change: impl FnOnce(Sum, Sum) -> Sum) {
        if self.checksum == Checksum::Complete {
            let bytes = self.buffer.bytes(memory).get(from..from + len).unwrap_or_default();
            self.csum = change(self.csum, Sum(0).add_bytes(bytes));
        }
    }

    /// Removes bytes after the first `off` bytes, which move back (`bpf_skb_net_hdr_pop`).
    fn remove(&mut self, memory: &mut Memory, off: usize, len: usize) -> Result<Result<(), Errno>, Trap> {
        if off + len > self.buffer.len() {
            return Ok(Err(Errno::ENOMEM));
        }
        self.resum(memory, off, len, Sum::minus);
        self.buffer.edit(memory, |bytes, at| {
            bytes.copy_within(at.data..at.data + off, at.data + len); // checked above
            at.data += len;
            at.meta = at.data;
        })?;
        let with_transport = self.transport == Some(self.network);
        self.mac += len;
        self.network += len;
        if with_transport {
            self.transport = Some(self.network);
        }
        Ok(Ok(()))
    }

    /// `bpf_skb_change_tail`: cuts or pads the packet.
    pub(crate) fn change_tail(&mut self, memory: &mut Memory, len: usize) -> Result<Result<(), Errno>, Trap> {
        let transport = self.transport.filter(|at| *at > self.buffer.data);
        let least = transport.unwrap_or(self.network).saturating_sub(self.buffer.data);
        if len > LEN_MAX || len < least {
            self.buffer.renew(memory)?;
            return Ok(Err(Errno::EINVAL));
        }
        if self.encapsulated {
            return Ok(Err(Errno::ENOTSUPP));
        }
        if len != self.buffer.len() && self.checksum == Checksum::Complete {
            self.checksum = Checksum::None;
        }
        self.buffer.edit(memory, |bytes, at| {
            let end = at.data + len;
            bytes.truncate(at.end);
            bytes.resize(end, 0);
            at.end = end;
        })?;
        (self.gso_size, self.gso_segs) = (0, 0);
        Ok(Ok(()))
    }

    /// `bpf_skb_change_head`: room for a link header.
    pub(crate) fn change_head(&mut self, memory: &mut Memory, room: i32) -> Result<Result<(), Errno>, Trap> {
        let room = match usize::try_from(room) {
            Ok(room) if self.buffer.len() + room <= LEN_MAX => room,
            _ => {
                self.buffer.renew(memory)?;
                return Ok(Err(Errno::EINVAL));
            }
        };
        self.insert(memory, 0, room)?;
        // Only the link header moves.
        self.network += room;
        self.mac = self.buffer.data;
        Ok(Ok(()))
    }

    /// `bpf_skb_change_proto`: from IPv4 to IPv6 or back, with room for the header.
    pub(crate) fn change_proto(&mut self, memory: &mut Memory, to: u16) -> Result<Result<(), Errno>, Trap> {
        let off = self.mac_len();
        let answer = match (self.protocol, to) {
            (ETH_IPV4, ETH_IPV6) => {
                self.insert(memory, off, 20)?;
                Ok(())
            }
            (ETH_IPV6, ETH_IPV4) => self.remove(memory, off, 20)?,
            _ => Err(Errno::ENOTSUPP),
        };
        if answer.is_ok() {
            self.protocol = to;
            self.hash = None;
        }
        self.buffer.renew(memory)?;
        Ok(answer)
    }

    /// `bpf_skb_vlan_push`.
    pub(crate) fn push_vlan(
        &mut self,
        memory: &mut Memory,
        proto: u16,
        tci: u16,
    ) -> Result<Result<(), Errno>, Trap> {
        let proto = if matches!(proto, ETH_VLAN | ETH_QINQ) { proto } else { ETH_VLAN };
        if let Some(old) = self.vlan {
            if self.buffer.len() < 12 {
                self.buffer.renew(memory)?;
                return Ok(Err(Errno::ENOMEM));
            }
            self.insert(memory, 12, VLAN_LEN)?;
            if let Some(tag) = self.buffer.bytes_mut(memory).get_mut(12..16) {
                tag.copy_from_slice(&[old.proto.to_be_bytes(), old.tci.to_be_bytes()].concat());
            }
            self.resum(memory, 12, VLAN_LEN, Sum::plus);
            self.protocol = old.proto;
        }
        self.vlan = Some(Vlan { proto, tci });
        self.buffer.renew(memory)?;
        Ok(Ok(()))
    }

    /// `bpf_skb_vlan_pop`.
    pub(crate) fn pop_vlan(&mut self, memory: &mut Memory) -> Result<Result<(), Errno>, Trap> {
        let answer = match self.vlan.take() {
            Some(_) => Ok(()),
            None if !is_vlan(self.protocol) => return self.buffer.renew(memory).map(Ok),
            None => self.remove_tag(memory)?.map(drop),
        };
        // The next tag moves to where the first one was.
        if answer.is_ok() && is_vlan(self.protocol) {
            let proto = self.protocol;
            match self.remove_tag(memory)? {
                Ok(tci) => self.vlan = Some(Vlan { proto, tci }),
                Err(errno) => return Ok(Err(errno)),
            }
        }
        self.buffer.renew(memory)?;
        Ok(answer)
    }

    /// Takes the first tag out of the packet (`__skb_vlan_pop`).
    fn remove_tag(&mut self, memory: &mut Memory) -> Result<Result<u16, Errno>, Trap> {
        let mut tag = [0; 6];
        if self.load(memory, 12, &mut tag).is_none() {
            return Ok(Err(Errno::ENOMEM));
        }
        let [_, _, tci_high, tci_low, type_high, type_low] = tag;
        let mut next = [0; 2];
        let _ = self.load(memory, 18, &mut next);
        if let Err(errno) = self.remove(memory, 12, VLAN_LEN)? {
            return Ok(Err(errno));
        }
        self.network = (self.network - VLAN_LEN).max(self.mac + ETH_LEN); // removing has added as much
        let inner = u16::from_be_bytes([type_high, type_low]);
        self.protocol = protocol(inner, next);
        Ok(Ok(u16::from_be_bytes([tci_high, tci_low])))
    }

    /// `bpf_skb_adjust_room`: makes or takes room after the link header or the network header.
    pub(crate) fn adjust_room(
        &mut self,
        memory: &mut Memory,
        delta: i32,
        mode: u32,
        flags: u64,
    ) -> Result<Result<(), Errno>, Trap> {
        let answer = match self.check_room(delta, mode, flags) {
            Ok(off) => {
                let len = delta.unsigned_abs() as usize;
                if delta < 0 {
                    self.shrink_room(memory, off, len, flags)?
                } else {
                    self.grow_room(memory, off, len, flags)?
                }
            }
            Err(errno) => Err(errno),
        };
        if answer.is_ok()
            && flags & room::NO_CSUM_RESET == 0
            && let Checksum::Unnecessary(_) = self.checksum
        {
            self.checksum = Checksum::None;
        }
        self.buffer.renew(memory)?;
        Ok(answer)
    }

    /// The place at which room is made or taken.
    fn check_room(&self, delta: i32, mode: u32, flags: u64) -> Result<usize, Errno> {
        let (len, shrink) = (delta.unsigned_abs() as usize, delta < 0);
        if flags & !room::ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if len > 0xfff {
            return Err(Errno::EFAULT);
        }
        let base = self.base_len().ok_or(Errno::ENOTSUPP)?;
        let off = match mode {
            0 => self.mac_len() + base,
            1 => self.mac_len(),
            _ => return Err(Errno::ENOTSUPP),
        };
        let least = match flags & (room::DECAP_IPV4 | room::DECAP_IPV6) {
            0 => base,
            _ if !shrink => return Err(Errno::EINVAL),
            room::DECAP_IPV4 => 20,
            room::DECAP_IPV6 => 40,
            _ => return Err(Errno::EINVAL),
        };
        // A packet that was cut in front of its network header has a huge number of bytes behind that.
        let now = self.len32().wrapping_sub(self.network_offset() as u32) as usize; // offsets are below 2^17
        let fits = if shrink {
            len < now && now - len >= least
        } else {
            self.buffer.len() + len <= LEN_MAX || self.gso_size > 0
        };
        if fits { Ok(off) } else { Err(Errno::ENOTSUPP) }
    }

    fn shrink_room(
        &mut self,
        memory: &mut Memory,
        off: usize,
        len: usize,
        flags: u64,
    ) -> Result<Result<(), Errno>, Trap> {
        if flags & !(room::FIXED_GSO | room::DECAP_IPV4 | room::DECAP_IPV6 | room::NO_CSUM_RESET) != 0 {
            return Ok(Err(Errno::EINVAL));
        }
        let answer = self.remove(memory, off, len)?;
        if answer.is_ok() {
            if flags & room::DECAP_IPV4 != 0 {
                self.protocol = ETH_IPV4;
            } else if flags & room::DECAP_IPV6 != 0 {
                self.protocol = ETH_IPV6;
            }
        }
        Ok(answer)
    }

    fn grow_room(
        &mut self,
        memory: &mut Memory,
        off: usize,
        len: usize,
        flags: u64,
    ) -> Result<Result<(), Errno>, Trap> {
        let inner_mac = (flags >> 56) as usize; // eight bits
        let encap = flags & (room::ENCAP_IPV4 | room::ENCAP_IPV6);
        if encap != 0 {
            let both = room::ENCAP_GRE | room::ENCAP_UDP;
            if encap == room::ENCAP_IPV4 | room::ENCAP_IPV6
                || flags & both == both
                || flags & room::ENCAP_ETH != 0 && inner_mac < ETH_LEN
            {
                return Ok(Err(Errno::EINVAL));
            }
            if self.encapsulated {
                return Ok(Err(Errno::EALREADY));
            }
            if inner_mac > len {
                return Ok(Err(Errno::EINVAL));
            }
        }
        let mac_len = self.mac_len();
        if off > self.buffer.len() {
            return Ok(Err(Errno::ENOMEM));
        }
        self.insert(memory, off, len)?;
        if encap != 0 {
            self.encapsulated = true;
            self.network = self.mac + mac_len;
            let ipv6 = flags & room::ENCAP_IPV6 != 0;
            if flags & (room::ENCAP_GRE | room::ENCAP_UDP) != 0 {
                self.transport = Some(self.buffer.data + mac_len + if ipv6 { 40 } else { 20 });
            }
            self.protocol = if ipv6 { ETH_IPV6 } else { ETH_IPV4 };
        }
        Ok(Ok(()))
    }

    /// The sum of everything from the network header.
    pub(crate) fn sum(&self, memory: &Memory) -> Sum {
        let from = self.network.max(self.buffer.data);
        let bytes = self.buffer.room(memory).get(from..self.buffer.end).unwrap_or_default();
        Sum(0).add_bytes(bytes)
    }

    /// The hash of the flow, made when it is first asked for. That of the kernel has a random key, so that no number is
    /// the right one.
    pub(crate) fn hash(&mut self, memory: &Memory) -> u32 {
        if let Some(hash) = self.hash {
            return hash;
        }
        let flow =
            super::flow::Flow::of(self.protocol, self.buffer.room(memory).get(self.network..self.buffer.end));
        // 0 says that there is none: what belongs to no flow has one too.
        let hash = flow.map_or(1, |flow| flow.hash());
        *self.hash.insert(hash)
    }

    /// Whether the sum that is kept is that of the packet.
    pub(crate) fn has_sum(&self, memory: &Memory) -> bool {
        checksum::fold(self.csum) == checksum::fold(self.sum(memory))
    }
}

/// Flags of `bpf_skb_adjust_room`.
mod room {
    pub(super) const FIXED_GSO: u64 = 1;
    pub(super) const ENCAP_IPV4: u64 = 1 << 1;
    pub(super) const ENCAP_IPV6: u64 = 1 << 2;
    pub(super) const ENCAP_GRE: u64 = 1 << 3;
    pub(super) const ENCAP_UDP: u64 = 1 << 4;
    pub(super) const NO_CSUM_RESET: u64 = 1 << 5;
    pub(super) const ENCAP_ETH: u64 = 1 << 6;
    pub(super) const DECAP_IPV4: u64 = 1 << 7;
    pub(super) const DECAP_IPV6: u64 = 1 << 8;
    /// These and the length of the inner link header.
    pub(super) const ALL: u64 = 0xff << 56 | 0x1ff;
}

fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, ETH_VLAN | ETH_QINQ)
}

/// The EtherType of a frame.
pub(crate) fn ether_type(frame: &[u8]) -> u16 {
    let at = |place| frame.get(place).copied().unwrap_or_default();
    protocol(u16::from_be_bytes([at(12), at(13)]), [at(14), at(15)])
}

/// What the kernel makes of an EtherType, and of what follows where it is none.
fn protocol(number: u16, next: [u8; 2]) -> u16 {
    match number {
        ETH_TYPE_MIN.. => number,
        _ if next == [0xff, 0xff] => ETH_802_3,
        _ => ETH_802_2,
    }
}

/// Whom a frame is for: `PACKET_HOST`, `_BROADCAST`, `_MULTICAST` or `_OTHERHOST`. The loopback device, whose address is all
/// zero, has no broadcasts.
pub(crate) fn packet_type(frame: &[u8], mac: [u8; 6]) -> u8 {
    match frame.first_chunk::<6>() {
        Some(to) if *to == mac => 0,
        Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) if mac != [0; 6] => 1,
        Some([first, ..]) if first & 1 != 0 => 2,
        _ => 3,
    }
}

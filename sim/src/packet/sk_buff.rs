//! `struct __sk_buff`: what programs read and write of a socket buffer, each kind its own part.

use std::any::Any;
use std::net::IpAddr;

use skep_sys::abi::ProgType;

use super::skb::Skb;
use crate::net::Socket;
use crate::vm::{Context, Memory};
use crate::words::{narrow_any, widen_any};

/// Which kind of program looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    Filter,
    Tc,
    Cgroup,
    Lwt,
    SkSkb,
    FlowDissector,
}

impl Rules {
    pub(crate) fn of(kind: ProgType) -> Rules {
        match kind {
            ProgType::SCHED_CLS | ProgType::SCHED_ACT => Rules::Tc,
            ProgType::CGROUP_SKB => Rules::Cgroup,
            ProgType::SK_SKB => Rules::SkSkb,
            ProgType::FLOW_DISSECTOR => Rules::FlowDissector,
            ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT | ProgType::LWT_SEG6LOCAL => Rules::Lwt,
            _ => Rules::Filter,
        }
    }

    /// Whether programs see the link header.
    pub(crate) fn has_link_header(self) -> bool {
        self == Rules::Tc
    }
}

/// A socket buffer as the context of a program.
#[derive(Debug)]
pub(crate) struct SkBuff {
    pub(crate) skb: Skb,
    rules: Rules,
    /// Address of the packet's socket for the program, 0 for none.
    socket: u64,
    /// What `family` to `local_port` say.
    addresses: Addresses,
    /// Address of `struct bpf_flow_keys`.
    pub(crate) flow_keys: u64,
}

/// The fields from `family` to `local_port`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    family: u32,
    remote_ip4: u32,
    local_ip4: u32,
    remote_ip6: [u8; 16],
    local_ip6: [u8; 16],
    remote_port: u16,
    local_port: u16,
}

impl Addresses {
    pub(crate) fn of(socket: &Socket) -> Addresses {
        let mut addresses = Addresses { family: socket.family, ..Addresses::default() };
        match socket.remote_ip() {
            IpAddr::V4(address) => addresses.remote_ip4 = u32::from_ne_bytes(address.octets()),
            IpAddr::V6(address) => addresses.remote_ip6 = address.octets(),
        }
        match socket.local.ip() {
            IpAddr::V4(address) => addresses.local_ip4 = u32::from_ne_bytes(address.octets()),
            IpAddr::V6(address) => addresses.local_ip6 = address.octets(),
        }
        addresses.remote_port = socket.remote_port();
        addresses.local_port = socket.local.port();
        addresses
    }

    /// A field by its offset from `family`, as a word.
    pub(crate) fn word(&self, offset: u32) -> Option<u32> {
        let part = |bytes: &[u8; 16], at: u32| {
            let word = bytes.get(at as usize..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*word))
        };
        match offset {
            0 => Some(self.family),
            4 => Some(self.remote_ip4),
            8 => Some(self.local_ip4),
            12..=24 => part(&self.remote_ip6, offset - 12),
            28..=40 => part(&self.local_ip6, offset - 28),
            // In the order of the network, at the upper end of the word where that is not the machine's.
            44 if cfg!(target_endian = "little") => Some(u32::from(self.remote_port.to_be()) << 16),
            44 => Some(self.remote_port.into()),
            48 => Some(self.local_port.into()),
            _ => None,
        }
    }
}

/// Offsets in `struct __sk_buff`.
mod at {
    pub(super) const MARK: u32 = 8;
    pub(super) const QUEUE_MAPPING: u32 = 12;
    pub(super) const PRIORITY: u32 = 32;
    pub(super) const TC_INDEX: u32 = 44;
    pub(super) const CB: u32 = 48;
    pub(super) const CB_END: u32 = 68;
    pub(super) const TC_CLASSID: u32 = 72;
    pub(super) const DATA: u32 = 76;
    pub(super) const DATA_END: u32 = 80;
    pub(super) const FAMILY: u32 = 88;
    pub(super) const LOCAL_PORT: u32 = 136;
    pub(super) const DATA_META: u32 = 140;
    pub(super) const FLOW_KEYS: u32 = 144;
    pub(super) const TSTAMP: u32 = 152;
    pub(super) const WIRE_LEN: u32 = 160;
    pub(super) const SK: u32 = 168;
    pub(super) const TSTAMP_TYPE: u32 = 180;
    pub(super) const HWTSTAMP: u32 = 184;
    pub(super) const END: u32 = 192;
}

impl SkBuff {
    pub(crate) fn new(skb: Skb, rules: Rules) -> SkBuff {
        SkBuff { skb, rules, socket: 0, addresses: Addresses::default(), flow_keys: 0 }
    }

    /// Tells the address of the packet's socket, and what is in it.
    pub(crate) fn set_socket(&mut self, address: u64, socket: &Socket) {
        self.socket = address;
        self.addresses = Addresses::of(socket);
    }

    /// Whether the kind of program may see a field at all.
    fn may_read(&self, offset: u32) -> bool {
        use Rules::{Cgroup, Filter, FlowDissector, Lwt, SkSkb, Tc};

        let rules = self.rules;
        if rules == FlowDissector {
            return matches!(offset, at::DATA | at::DATA_END | at::FLOW_KEYS);
        }
        match offset {
            at::TC_CLASSID..at::DATA | at::DATA_META..at::FLOW_KEYS => rules == Tc,
            at::DATA..at::FAMILY if offset < at::DATA_END + 4 => rules != Filter,
            at::FAMILY..=at::LOCAL_PORT => matches!(rules, Cgroup | SkSkb),
            at::FLOW_KEYS..at::TSTAMP => false,
            at::TSTAMP..at::WIRE_LEN => matches!(rules, Tc | Cgroup),
            at::WIRE_LEN..164 => rules == Tc,
            at::MARK..at::QUEUE_MAPPING => rules != SkSkb,
            at::HWTSTAMP.. => matches!(rules, Tc | Cgroup),
            at::SK..176 => rules != Lwt || offset == at::SK,
            _ => true,
        }
    }

    fn may_write(&self, offset: u32) -> bool {
        let tc = self.rules == Rules::Tc;
        match offset {
            at::CB..at::CB_END => self.rules != Rules::FlowDissector,
            at::MARK => matches!(self.rules, Rules::Tc | Rules::Cgroup | Rules::Lwt),
            at::PRIORITY => !matches!(self.rules, Rules::Filter | Rules::FlowDissector),
            at::TC_INDEX => tc || self.rules == Rules::SkSkb,
            at::TC_CLASSID | at::QUEUE_MAPPING => tc,
            at::TSTAMP => tc || self.rules == Rules::Cgroup,
            _ => false,
        }
    }

    /// The fields that are words, by offset.
    fn word(&mut self, offset: u32) -> Option<u32> {
        let skb = &self.skb;
        Some(match offset {
            0 => skb.len32(),
            4 => skb.pkt_type.into(),
            at::MARK => skb.mark,
            at::QUEUE_MAPPING => skb.queue_mapping.into(),
            16 => skb.protocol.to_be().into(),
            20 => skb.vlan.is_some().into(),
            24 => skb.vlan.map_or(0, |vlan| vlan.tci).into(),
            28 => skb.vlan.map_or(0, |vlan| vlan.proto.to_be()).into(),
            at::PRIORITY => skb.priority,
            36 => skb.ingress_ifindex,
            40 => skb.ifindex,
            at::TC_INDEX => skb.tc_index.into(),
            68 => skb.hash.unwrap_or(0),
            at::TC_CLASSID => skb.tc_classid.into(),
            84 => 0,
            at::FAMILY..=at::LOCAL_PORT => self.addresses.word(offset - at::FAMILY)?,
            at::WIRE_LEN => skb.wire_len,
            164 => skb.gso_segs.into(),
            176 => skb.gso_size.into(),
            _ => return None,
        })
    }
}

impl Context for SkBuff {
    fn load(&mut self, _: &mut Memory, offset: u32, len: u32) -> Option<u64> {
        let end = offset.checked_add(len)?;
        if !offset.is_multiple_of(len) || end > at::END || !self.may_read(offset) {
            return None;
        }
        let (skb, place) = (&self.skb, offset as usize);
        match (offset, len) {
            (at::CB..at::CB_END, _) if end <= at::CB_END => {
                let from = place - at::CB as usize; // offsets from its begin on
                skb.cb.get(from..from + len as usize).map(widen_any)
            }
            (at::DATA, 4) => Some(skb.buffer.data_address()),
            (at::DATA_END, 4) => Some(skb.buffer.end_address()),
            (at::DATA_META, 4) => Some(skb.buffer.meta_address()),
            (at::FLOW_KEYS, 8) => Some(self.flow_keys),
            (at::TSTAMP, 8) => Some(skb.tstamp),
            (at::HWTSTAMP, 8) => Some(skb.hwtstamp),
            (at::SK, 8) => Some(self.socket),
            (at::TSTAMP_TYPE, 1) => (self.rules == Rules::Tc).then(|| skb.tstamp_type.into()),
            (_, 8) => None,
            _ => {
                // A part of a word.
                let word = self.word(offset & !3)?.to_ne_bytes();
                let from = place % 4;
                word.get(from..from + len as usize).map(widen_any)
            }
        }
    }

    fn store(&mut self, _: &mut Memory, offset: u32, len: u32, value: u64) -> Option<()> {
        if !offset.is_multiple_of(len) || !self.may_read(offset) || !self.may_write(offset) {
            return None;
        }
        let (skb, word) = (&mut self.skb, value as u32);
        match (offset, len) {
            (at::CB..at::CB_END, _) => {
                let from = (offset - at::CB) as usize; // offsets from its begin on
                narrow_any(value, skb.cb.get_mut(from..from + len as usize)?);
            }
            (at::TSTAMP, 8) => skb.tstamp = value,
            (at::MARK, 4) => skb.mark = word,
            (at::PRIORITY, 4) => skb.priority = word,
            (at::TC_INDEX, 4) => skb.tc_index = word as u16,
            (at::TC_CLASSID, 4) => skb.tc_classid = word as u16,
            (at::QUEUE_MAPPING, 4) if word < 0xffff => skb.queue_mapping = word as u16,
            // A number that no queue has is not written.
            (at::QUEUE_MAPPING, 4) => {}
            _ => return None,
        }
        Some(())
    }

    /// Packet loads of classic BPF count from where the packet begins; from two places below zero they count from the
    /// network and the link header (`SKF_NET_OFF`, `SKF_LL_OFF`).
    fn packet(&mut self, memory: &mut Memory, offset: i64, to: &mut [u8]) -> Option<()> {
        const NETWORK: i64 = -0x10_0000;
        const LINK: i64 = -0x20_0000;

        match offset {
            0.. => self.skb.load(memory, usize::try_from(offset).ok()?, to),
            NETWORK.. => {
                self.skb.load_from(memory, self.skb.network, usize::try_from(offset - NETWORK).ok()?, to)
            }
            LINK.. => self.skb.load_from(memory, self.skb.mac, usize::try_from(offset - LINK).ok()?, to),
            _ => None,
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

//! Addresses and ports of a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::skb::{ETH_IPV4, ETH_IPV6};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Source and destination; none for a protocol without, and for later fragments.
    pub(crate) ports: Option<(u16, u16)>,
    /// Where the transport header begins.
    pub(crate) transport: usize,
}

impl Flow {
    /// Reads the network header of a packet and the ports behind it.
    pub(crate) fn of(ether_type: u16, packet: Option<&[u8]>) -> Option<Flow> {
        let packet = packet?;
        match ether_type {
            ETH_IPV4 => ipv4(packet),
            ETH_IPV6 => ipv6(packet),
            _ => None,
        }
    }

    /// A number that is the same for all packets of a flow, in both directions.
    pub(crate) fn hash(&self) -> u32 {
        let end = |address: IpAddr, port: u16| {
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            match address {
                IpAddr::V4(address) => address.octets().into_iter().for_each(&mut add),
                IpAddr::V6(address) => address.octets().into_iter().for_each(&mut add),
            }
            port.to_be_bytes().into_iter().for_each(&mut add);
            hash
        };
        let (source, destination) = self.ports.unwrap_or_default();
        let both = end(self.source, source).wrapping_add(end(self.destination, destination));
        let mixed = both.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(self.protocol);
        ((mixed >> 32) as u32).max(1) // the upper half; 0 says that there is none
    }
}

fn ports(protocol: u8, segment: &[u8]) -> Option<(u16, u16)> {
    if !matches!(protocol, TCP | UDP | SCTP) {
        return None;
    }
    let [a, b, c, d] = *segment.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn ipv4(packet: &[u8]) -> Option<Flow> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [version, _, _, _, _, _, frag_high, frag_low, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *header;
    let transport = usize::from(version & 15) * 4;
    if version >> 4 != 4 || transport < 20 {
        return None;
    }
    let fragment = u16::from_be_bytes([frag_high, frag_low]) & 0x1fff;
    let segment = packet.get(transport..).unwrap_or_default();
    Some(Flow {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
        ports: if fragment == 0 { ports(protocol, segment) } else { None },
        transport,
    })
}

fn ipv6(packet: &[u8]) -> Option<Flow> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let [version, _, _, _, _, _, protocol, _, addresses @ ..] = header;
    if version >> 4 != 6 {
        return None;
    }
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let destination: [u8; 16] = destination.try_into().ok()?;
    // Options before the segment.
    let (mut protocol, mut at) = (*protocol, 0);
    while matches!(protocol, 0 | 43 | 60) {
        let [next, len] = *rest.get(at..)?.first_chunk()?;
        (protocol, at) = (next, at + (usize::from(len) + 1) * 8);
    }
    Some(Flow {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol,
        ports: ports(protocol, rest.get(at..).unwrap_or_default()),
        transport: 40 + at,
    })
}

//! VLAN tags.

pub(crate) const ETH_VLAN: u16 = 0x8100;
pub(super) const ETH_QINQ: u16 = 0x88a8;
pub(super) const VLAN_LEN: usize = 4;
/// Bytes of the two addresses at the begin of a frame.
const ADDRESSES: usize = 12;

/// A tag that is kept beside the packet, as cards take it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vlan {
    pub(crate) proto: u16,
    pub(crate) tci: u16,
}

/// Puts a tag into a frame, behind its addresses.
pub(crate) fn tag(frame: &mut Vec<u8>, vlan: Vlan) {
    let at = frame.len().min(ADDRESSES);
    frame.splice(at..at, [vlan.proto.to_be_bytes(), vlan.tci.to_be_bytes()].concat());
}

/// Takes the tag out of a frame, if it has one (`skb_vlan_untag`).
pub(crate) fn untag(frame: &mut Vec<u8>) -> Option<Vlan> {
    let [p0, p1, t0, t1, _, _] = *frame.get(ADDRESSES..)?.first_chunk()?;
    let proto = u16::from_be_bytes([p0, p1]);
    if proto != ETH_VLAN && proto != ETH_QINQ {
        return None;
    }
    frame.drain(ADDRESSES..ADDRESSES + VLAN_LEN); // there are six bytes
    Some(Vlan { proto, tci: u16::from_be_bytes([t0, t1]) })
}

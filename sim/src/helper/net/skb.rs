//! Helpers that read and change socket buffers.

use skep_sys::abi::Errno;

use super::with_skb;
use crate::helper::{answer, negative};
use crate::packet::SkReuseport;
use crate::packet::checksum::{self, Sum};
use crate::packet::skb::{Checksum, ETH_IPV4, ETH_IPV6};
use crate::vm::{Trap, Vm};

const INT_MAX: u32 = i32::MAX as u32;
/// Flags of `bpf_skb_store_bytes`.
const RECOMPUTE_CSUM: u64 = 1;
const INVALIDATE_HASH: u64 = 2;

/// Loads bytes to the program's memory, which is filled with zeros where there are none.
fn load(
    vm: &mut Vm,
    context: u64,
    to: u64,
    len: u64,
    read: impl FnOnce(&crate::packet::Skb, &crate::vm::Memory, &mut [u8]) -> Option<()>,
) -> Result<u64, Trap> {
    let len = len as u32 as usize;
    vm.memory.check(to, len, true)?;
    let mut bytes = vec![0; len];
    let loaded = with_skb(vm, context, |skb, memory| Ok(read(skb, memory, &mut bytes)))?;
    if loaded.is_none() {
        bytes.fill(0);
    }
    vm.memory.write(to, &bytes)?;
    Ok(answer(loaded.ok_or(Errno::EFAULT)))
}

/// As [`load`] in a program that chooses a socket.
fn load_reuseport(vm: &mut Vm, at: u32, to: u64, len: u64, from_network: bool) -> Result<Option<u64>, Trap> {
    if vm.memory.context::<SkReuseport>().is_none() {
        return Ok(None);
    }
    let len = len as u32 as usize;
    vm.memory.check(to, len, true)?;
    let mut bytes = vec![0; len];
    let loaded = super::stream::load_reuseport(vm, at as usize, from_network, &mut bytes);
    vm.memory.write(to, &bytes)?;
    Ok(Some(answer(if loaded == Some(true) { Ok(()) } else { Err(Errno::EFAULT) })))
}

/// `bpf_skb_load_bytes(skb, offset, to, len)`.
pub(super) fn load_bytes(vm: &mut Vm, [context, at, to, len, _]: [u64; 5]) -> Result<u64, Trap> {
    let at = at as u32;
    if let Some(loaded) = load_reuseport(vm, at, to, len, false)? {
        return Ok(loaded);
    }
    load(
        vm,
        context,
        to,
        len,
        |skb, memory, bytes| {
            if at > INT_MAX { None } else { skb.load(memory, at as usize, bytes) }
        },
    )
}

/// `bpf_skb_load_bytes_relative(skb, offset, to, len, start)`: from the link header or the network header.
pub(super) fn load_bytes_relative(vm: &mut Vm, [context, at, to, len, start]: [u64; 5]) -> Result<u64, Trap> {
    let at = at as u32;
    // Its packet is known from the network header on.
    if start as u32 == 1
        && let Some(loaded) = load_reuseport(vm, at, to, len, true)?
    {
        return Ok(loaded);
    }
    load(vm, context, to, len, |skb, memory, bytes| {
        let from = match start as u32 {
            0 => skb.mac,
            1 => skb.network,
            _ => return None,
        };
        if at > 0xffff { None } else { skb.load_from(memory, from, at as usize, bytes) }
    })
}

/// `bpf_skb_store_bytes(skb, offset, from, len, flags)`.
pub(super) fn store_bytes(vm: &mut Vm, [context, at, from, len, flags]: [u64; 5]) -> Result<u64, Trap> {
    let bytes = vm.memory.bytes(from, len as u32 as usize)?;
    let at = at as u32;
    with_skb(vm, context, |skb, memory| {
        skb.buffer.renew(memory)?;
        if flags & !(RECOMPUTE_CSUM | INVALIDATE_HASH) != 0 {
            return Ok(negative(Errno::EINVAL));
        }
        let end = (at as usize).saturating_add(bytes.len());
        let place = if at > INT_MAX { None } else { skb.buffer.bytes_mut(memory).get_mut(at as usize..end) };
        let Some(place) = place else { return Ok(negative(Errno::EFAULT)) };
        if flags & RECOMPUTE_CSUM != 0 && skb.checksum == Checksum::Complete {
            let old = Sum(0).add_bytes(place);
            let (old, new) = (old.at(at as usize), Sum(0).add_bytes(&bytes).at(at as usize));
            skb.csum = skb.csum.minus(old).plus(new);
        }
        place.copy_from_slice(&bytes);
        if flags & INVALIDATE_HASH != 0 {
            skb.hash = None;
        }
        Ok(0)
    })
}

/// `bpf_skb_pull_data(skb, len)`.
pub(super) fn pull_data(vm: &mut Vm, [context, len, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| {
        skb.buffer.renew(memory)?;
        let fits = len as u32 as usize <= skb.buffer.len();
        Ok(answer(if fits { Ok(()) } else { Err(Errno::ENOMEM) }))
    })
}

/// `bpf_skb_change_tail(skb, len, flags)`.
pub(super) fn change_tail(vm: &mut Vm, [context, len, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| {
        if flags != 0 {
            return skb.buffer.renew(memory).map(|()| negative(Errno::EINVAL));
        }
        skb.change_tail(memory, len as u32 as usize).map(answer)
    })
}

/// `bpf_skb_change_head(skb, room, flags)`.
pub(super) fn change_head(vm: &mut Vm, [context, room, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| {
        if flags != 0 {
            return skb.buffer.renew(memory).map(|()| negative(Errno::EINVAL));
        }
        skb.change_head(memory, room as i32).map(answer)
    })
}

/// `bpf_skb_change_proto(skb, proto, flags)`.
pub(super) fn change_proto(vm: &mut Vm, [context, proto, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| {
        if flags != 0 {
            return skb.buffer.renew(memory).map(|()| negative(Errno::EINVAL));
        }
        skb.change_proto(memory, u16::from_be(proto as u16)).map(answer)
    })
}

/// `bpf_skb_change_type(skb, type)`.
pub(super) fn change_type(vm: &mut Vm, [context, kind, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| {
        let kind = kind as u32;
        if skb.pkt_type > 3 || kind > 3 {
            return Ok(negative(Errno::EINVAL));
        }
        skb.pkt_type = kind as u8; // at most 3
        Ok(0)
    })
}

/// `bpf_skb_adjust_room(skb, delta, mode, flags)`.
pub(super) fn adjust_room(vm: &mut Vm, [context, delta, mode, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| skb.adjust_room(memory, delta as i32, mode as u32, flags)).map(answer)
}

/// `bpf_skb_vlan_push(skb, proto, tci)`.
pub(super) fn vlan_push(vm: &mut Vm, [context, proto, tci, ..]: [u64; 5]) -> Result<u64, Trap> {
    let proto = u16::from_be(proto as u16);
    with_skb(vm, context, |skb, memory| skb.push_vlan(memory, proto, tci as u16)).map(answer)
}

/// `bpf_skb_vlan_pop(skb)`.
pub(super) fn vlan_pop(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| skb.pop_vlan(memory)).map(answer)
}

/// `bpf_get_hash_recalc(skb)`.
pub(super) fn hash_recalc(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| Ok(skb.hash(memory).into()))
}

/// `bpf_set_hash_invalid(skb)`.
pub(super) fn set_hash_invalid(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| {
        skb.hash = None;
        Ok(0)
    })
}

/// `bpf_set_hash(skb, hash)`.
pub(super) fn set_hash(vm: &mut Vm, [context, hash, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| {
        skb.hash = Some(hash as u32);
        Ok(0)
    })
}

/// `bpf_get_route_realm(skb)`: packets here have no realm.
pub(super) fn route_realm(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |_, _| Ok(0))
}

/// `bpf_skb_set_tstamp(skb, tstamp, type)`.
pub(super) fn set_tstamp(vm: &mut Vm, [context, tstamp, kind, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| {
        if !matches!(skb.protocol, ETH_IPV4 | ETH_IPV6) {
            return Ok(negative(Errno::EOPNOTSUPP));
        }
        match kind as u32 {
            // Real time, which has no number.
            0 if tstamp == 0 => (skb.tstamp, skb.tstamp_type) = (0, 0),
            kind @ 1..=2 if tstamp != 0 => (skb.tstamp, skb.tstamp_type) = (tstamp, kind as u8), // 1 or 2
            _ => return Ok(negative(Errno::EINVAL)),
        }
        Ok(0)
    })
}

/// `bpf_skb_ecn_set_ce(skb)`: marks that there is congestion, if the packet can be marked. Answers 1 when it is.
pub(super) fn ecn_set_ce(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| {
        let network = skb.network;
        let end = skb.buffer.end;
        let Some(header) = skb.buffer.room_mut(memory).get_mut(network..end) else { return Ok(0) };
        Ok(match (skb.protocol, header) {
            (ETH_IPV4, header @ [_, _, ..]) if header.len() >= 20 => mark_ipv4(header),
            (ETH_IPV6, [_, class, ..]) => {
                // The two bits are the lowest of the traffic class, in the middle of the second byte.
                let marked = *class & 0x30 != 0;
                if marked {
                    *class |= 0x30;
                }
                u64::from(marked)
            }
            _ => 0,
        })
    })
}

fn mark_ipv4(header: &mut [u8]) -> u64 {
    let pair = |header: &[u8], at: usize| {
        header
            .get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |pair: &[u8; 2]| u16::from_ne_bytes(*pair))
    };
    let old = pair(header, 0);
    let Some(tos) = header.get_mut(1) else { return 0 };
    if *tos & 3 == 0 {
        return 0;
    }
    *tos |= 3;
    let sum = checksum::replace16(pair(header, 10), old, pair(header, 0));
    if let Some(to) = header.get_mut(10..12) {
        to.copy_from_slice(&sum.to_ne_bytes());
    }
    1
}

//! Helpers that send packets elsewhere.

use skep_sys::abi::{Errno, MapType, ProgType};

use super::{check_context, with_skb};
use crate::helper::{EFFECT, negative};
use crate::net::{Destination, Effect};
use crate::packet::Redirect;
use crate::vm::{Trap, Vm};

/// What programs return for their packet to be redirected.
const TC_REDIRECT: u64 = 7;
const TC_SHOT: u64 = 2;
const XDP_REDIRECT: u64 = 4;
/// Flags of `bpf_redirect`.
const INGRESS: u64 = 1;
/// Flags of `bpf_redirect_map`: two bits for what is returned when there is no target, and those of device maps.
const ACTION: u64 = 3;
const BROADCAST: u64 = 1 << 3;
const EXCLUDE_INGRESS: u64 = 1 << 4;

/// Notes where the packet goes.
fn note(vm: &mut Vm, redirect: Redirect) {
    vm.kernel.0.world().net.note(Effect::Redirect { to: redirect.to });
    vm.packet.redirect = Some(redirect);
}

fn simple(vm: &mut Vm, to: Destination) {
    note(vm, Redirect { to, prog: None, devices: Vec::new() });
}

/// `bpf_redirect(ifindex, flags)`.
pub(super) fn redirect(vm: &mut Vm, [ifindex, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let ifindex = ifindex as u32;
    if vm.prog().prog_type == ProgType::XDP {
        if flags != 0 {
            return Ok(0);
        }
        simple(vm, Destination::Egress(ifindex));
        return Ok(XDP_REDIRECT);
    }
    if flags & !INGRESS != 0 {
        return Ok(TC_SHOT);
    }
    simple(
        vm,
        if flags & INGRESS != 0 { Destination::Ingress(ifindex) } else { Destination::Egress(ifindex) },
    );
    Ok(TC_REDIRECT)
}

/// `bpf_redirect_peer(ifindex, flags)`.
pub(super) fn peer(vm: &mut Vm, [ifindex, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    if flags != 0 {
        return Ok(TC_SHOT);
    }
    simple(vm, Destination::Peer(ifindex as u32));
    Ok(TC_REDIRECT)
}

/// `bpf_redirect_neigh(ifindex, params, len, flags)`.
pub(super) fn neigh(vm: &mut Vm, [ifindex, params, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize;
    if flags != 0 || len > 0 && len < 20 {
        return Ok(TC_SHOT);
    }
    if len > 0 {
        vm.memory.check(params, len, false)?;
    }
    simple(vm, Destination::Neighbour(ifindex as u32));
    Ok(TC_REDIRECT)
}

/// `bpf_redirect_map(map, key, flags)`.
pub(super) fn map(vm: &mut Vm, [map, key, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    let kind = map.shape.kind;
    let devices = matches!(kind, MapType::DEVMAP | MapType::DEVMAP_HASH);
    let allowed = if devices { ACTION | BROADCAST | EXCLUDE_INGRESS } else { ACTION };
    if flags & !allowed != 0 {
        return Ok(0);
    }
    let key = key as u32;
    if flags & BROADCAST != 0 {
        let exclude = match vm.memory.context::<crate::packet::Xdp>() {
            Some(xdp) if flags & EXCLUDE_INGRESS != 0 => xdp.ingress_ifindex,
            _ => 0,
        };
        let mut all = Vec::new();
        let mut at = vec![0; 4];
        let mut next = map.next_key(crate::fd::Access::ALL, None, &mut at);
        while next.is_ok() && all.len() < map.shape.max_entries as usize {
            all.extend(map.target(&at).map(|(device, _)| device).filter(|device| *device != exclude));
            let last = at.clone();
            next = map.next_key(crate::fd::Access::ALL, Some(&last), &mut at);
        }
        vm.spend(all.len() as u64 * EFFECT); // each key is looked up
        let to = Destination::Broadcast(skep_sys::abi::MapId(map.id));
        note(vm, Redirect { to, prog: None, devices: all });
        return Ok(XDP_REDIRECT);
    }
    if kind == MapType::XSKMAP {
        if !map.has_socket(&key.to_ne_bytes()) {
            return Ok(flags & ACTION);
        }
        simple(vm, Destination::Xsk(key));
        return Ok(XDP_REDIRECT);
    }
    let Some((target, prog)) = map.target(&key.to_ne_bytes()) else { return Ok(flags & ACTION) };
    let to = if devices { Destination::Egress(target) } else { Destination::Cpu(key) };
    note(vm, Redirect { to, prog, devices: Vec::new() });
    Ok(XDP_REDIRECT)
}

/// `bpf_clone_redirect(skb, ifindex, flags)`.
pub(super) fn clone_redirect(vm: &mut Vm, [context, ifindex, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    check_context(vm, context)?;
    let ifindex = ifindex as u32;
    let (packet, ingress) = with_skb(vm, context, |skb, memory| {
        skb.buffer.renew(memory)?;
        let from = skb.mac.min(skb.buffer.data);
        let bytes = skb.buffer.room(memory).get(from..skb.buffer.end).unwrap_or_default();
        Ok((bytes.to_vec(), flags & INGRESS != 0))
    })?;
    let mut world = vm.kernel.0.world();
    let device = world.net.interfaces.get(&ifindex);
    let Some(device) = device.filter(|_| flags & !INGRESS == 0) else { return Ok(negative(Errno::EINVAL)) };
    if !device.up {
        return Ok(negative(Errno::ENETDOWN));
    }
    let to = if ingress { Destination::Ingress(ifindex) } else { Destination::Egress(ifindex) };
    world.net.note(Effect::Clone { to, packet: packet.clone() });
    drop(world);
    vm.spend(EFFECT + packet.len() as u64); // a length in memory
    vm.packet.clones.push((to, packet));
    Ok(0)
}

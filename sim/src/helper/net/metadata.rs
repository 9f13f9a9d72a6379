//! Functions that ask the device what it knows of a packet (`bpf_xdp_metadata_…`).

use skep_sys::abi::Errno;

use super::check_context;
use crate::helper::{HelperFn, negative};
use crate::net::{Hints, XdpHints};
use crate::packet::Xdp;
use crate::vm::{FaultKind, Trap, Vm};

pub(in crate::helper) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_xdp_metadata_rx_timestamp", timestamp),
    ("bpf_xdp_metadata_rx_hash", hash),
    ("bpf_xdp_metadata_rx_vlan_tag", vlan_tag),
];

/// What the device says, if its driver has such a function.
fn ask<T>(
    vm: &mut Vm,
    context: u64,
    hint: XdpHints,
    of: impl FnOnce(Hints) -> Option<T>,
) -> Result<Result<T, Errno>, Trap> {
    check_context(vm, context)?;
    let Some(xdp) = vm.memory.context::<Xdp>() else {
        return Err(FaultKind::NotA { what: "context of an XDP program", address: context }.into());
    };
    let (hints, ifindex) = (xdp.hints, xdp.ingress_ifindex);
    let device = vm.kernel.0.world().net.interfaces.get(&ifindex).map(|device| device.xdp_hints);
    if !device.is_some_and(|known| known.contains(hint)) {
        return Ok(Err(Errno::EOPNOTSUPP));
    }
    Ok(of(hints).ok_or(Errno::ENODATA))
}

/// `bpf_xdp_metadata_rx_timestamp(ctx, timestamp)`.
fn timestamp(vm: &mut Vm, [context, to, ..]: [u64; 5]) -> Result<u64, Trap> {
    match ask(vm, context, XdpHints::TIMESTAMP, |hints| hints.timestamp)? {
        Ok(timestamp) => vm.memory.write(to, &timestamp.to_ne_bytes()).map(|()| 0),
        Err(errno) => Ok(negative(errno)),
    }
}

/// `bpf_xdp_metadata_rx_hash(ctx, hash, rss_type)`.
fn hash(vm: &mut Vm, [context, to, kind_to, ..]: [u64; 5]) -> Result<u64, Trap> {
    match ask(vm, context, XdpHints::HASH, |hints| hints.hash)? {
        Ok((hash, kind)) => {
            vm.memory.write(to, &hash.to_ne_bytes())?;
            vm.memory.write(kind_to, &kind.to_ne_bytes()).map(|()| 0)
        }
        Err(errno) => Ok(negative(errno)),
    }
}

/// `bpf_xdp_metadata_rx_vlan_tag(ctx, vlan_proto, vlan_tci)`.
fn vlan_tag(vm: &mut Vm, [context, to, tci_to, ..]: [u64; 5]) -> Result<u64, Trap> {
    match ask(vm, context, XdpHints::VLAN_TAG, |hints| hints.vlan)? {
        Ok((protocol, tci)) => {
            vm.memory.write(to, &protocol.to_be_bytes())?;
            vm.memory.write(tci_to, &tci.to_ne_bytes()).map(|()| 0)
        }
        Err(errno) => Ok(negative(errno)),
    }
}

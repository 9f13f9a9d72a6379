//! Helpers that work on packets and sockets.

mod bind;
mod cgroup;
mod checksum;
pub(super) mod conntrack;
mod cookie;
mod fib;
pub(super) mod metadata;
mod redirect;
mod skb;
mod skc;
mod sock_ops;
mod socket;
mod stream;
mod sysctl;
mod tunnel;
mod xdp;

use super::HelperFn;
use crate::packet::{Netfilter, SK_BUFF_NAME, SkBuff, Skb, Xdp};
use crate::vm::{FaultKind, Handle, Memory, Region, Trap, Vm};

/// Kernel functions, by name.
pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_sock_addr_set_sun_path", bind::set_path),
    ("bpf_sock_destroy", socket::destroy),
    ("bpf_sock_ops_enable_tx_tstamp", sock_ops::enable_tx_timestamp),
    ("bpf_xdp_pull_data", xdp::pull_data),
];

/// The helper with a number.
pub(super) fn builtin(number: i32) -> Option<HelperFn> {
    Some(match number {
        9 => skb::store_bytes,
        10 => checksum::replace_l3,
        11 => checksum::replace_l4,
        13 => redirect::clone_redirect,
        18 => skb::vlan_push,
        19 => skb::vlan_pop,
        20 => tunnel::get_key,
        21 => tunnel::set_key,
        23 => redirect::redirect,
        24 => skb::route_realm,
        26 => skb::load_bytes,
        28 => checksum::diff,
        29 => tunnel::get_options,
        30 => tunnel::set_options,
        31 => skb::change_proto,
        32 => skb::change_type,
        33 => cgroup::skb_under_cgroup,
        34 => skb::hash_recalc,
        38 => skb::change_tail,
        39 => skb::pull_data,
        40 => checksum::update,
        41 => skb::set_hash_invalid,
        43 => skb::change_head,
        44 => xdp::adjust_head,
        46 => socket::cookie,
        47 => socket::uid,
        48 => skb::set_hash,
        49 => socket::set_option,
        50 => skb::adjust_room,
        51 => redirect::map,
        54 => xdp::adjust_meta,
        57 => socket::get_option,
        64 => bind::bind,
        65 => xdp::adjust_tail,
        66 => tunnel::get_xfrm_state,
        68 => skb::load_bytes_relative,
        69 => fib::lookup,
        73 => tunnel::push_encap,
        79 => cgroup::skb_cgroup_id,
        83 => cgroup::skb_ancestor_cgroup_id,
        84 => socket::lookup_tcp,
        85 => socket::lookup_udp,
        86 => socket::release,
        95 => socket::fullsock,
        96 => socket::tcp_sock,
        97 => skb::ecn_set_ce,
        98 => socket::listener,
        99 => socket::lookup_tcp_common,
        122 => socket::netns_cookie,
        124 => socket::assign,
        128 => cgroup::sk_cgroup_id,
        129 => cgroup::sk_ancestor_cgroup_id,
        135 => checksum::level,
        152 => redirect::neigh,
        155 => redirect::peer,
        163 => fib::check_mtu,
        186 => cgroup::get_retval,
        187 => cgroup::set_retval,
        188 => xdp::buff_len,
        189 => xdp::load_bytes,
        190 => xdp::store_bytes,
        192 => skb::set_tstamp,
        _ => return of_sockets(number),
    })
}

/// The helpers of programs of sockets.
fn of_sockets(number: i32) -> Option<HelperFn> {
    let mut all = [cookie::HELPERS, skc::HELPERS, sock_ops::HELPERS, stream::HELPERS, sysctl::HELPERS]
        .into_iter()
        .flatten();
    all.find(|(known, _)| *known == number).map(|(_, function)| *function)
}

/// Whether an address is that of the context.
fn check_context(vm: &Vm, address: u64) -> Result<(), Trap> {
    match vm.memory.region(address) {
        Some(Region::Context | Region::Handle(Handle::Other(SK_BUFF_NAME, _))) => Ok(()),
        Some(Region::View(view)) if view.what() == SK_BUFF_NAME => Ok(()),
        _ => Err(FaultKind::NotA { what: "context of the program", address }.into()),
    }
}

/// Where the metadata before the packet of a `__sk_buff` begin and end.
pub(super) fn meta_bounds(vm: &mut Vm, context: u64) -> Result<(u64, u64), Trap> {
    with_skb(vm, context, |skb, _| Ok((skb.buffer.meta_address(), skb.buffer.data_address())))
}

/// Does something with the packet of an XDP program.
fn with_xdp<T>(
    vm: &mut Vm,
    context: u64,
    with: impl FnOnce(&mut Xdp, &mut Memory) -> Result<T, Trap>,
) -> Result<T, Trap> {
    check_context(vm, context)?;
    let missing = || Err(FaultKind::NotA { what: "context of an XDP program", address: context }.into());
    vm.memory.with_context(with).unwrap_or_else(missing)
}

/// Does something with the socket buffer that the context is, or has.
fn with_skb<T>(
    vm: &mut Vm,
    context: u64,
    with: impl FnOnce(&mut Skb, &mut Memory) -> Result<T, Trap>,
) -> Result<T, Trap> {
    check_context(vm, context)?;
    if vm.memory.context::<SkBuff>().is_some() {
        let answer = vm.memory.with_context(|context: &mut SkBuff, memory| with(&mut context.skb, memory));
        return answer
            .unwrap_or_else(|| Err(FaultKind::NotA { what: "socket buffer", address: context }.into()));
    }
    let answer = vm.memory.with_context(|context: &mut Netfilter, memory| with(&mut context.skb, memory));
    answer.unwrap_or_else(|| Err(FaultKind::NotA { what: "socket buffer", address: context }.into()))
}

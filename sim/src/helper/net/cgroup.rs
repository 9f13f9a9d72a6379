//! Helpers that tell control groups of sockets, and of hooks what they answer.

use skep_sys::abi::{Errno, MapType};

use super::socket::socket_of;
use super::with_skb;
use crate::helper::map::map_of;
use crate::helper::negative;
use crate::packet::Sockopt;
use crate::vm::{Trap, Vm};

/// The groups that a socket is in, from the inside. No socket is in the root.
fn groups(vm: &Vm, cookie: Option<u64>) -> Vec<u64> {
    let world = vm.kernel.0.world();
    let path = cookie.and_then(|cookie| world.net.socket(cookie)).map_or("/", |socket| &socket.cgroup);
    let id = world.net.cgroups.get(path).map_or(1, |group| group.id);
    world.net.cgroups.ancestors(id)
}

fn id(vm: &Vm, cookie: Option<u64>) -> u64 {
    groups(vm, cookie).first().copied().unwrap_or(0)
}

/// The group at a level, counted from the root, which has 0.
fn ancestor(vm: &Vm, cookie: Option<u64>, level: u64) -> u64 {
    let level = usize::try_from(level as i32).unwrap_or(usize::MAX);
    groups(vm, cookie).iter().rev().nth(level).copied().unwrap_or(0)
}

/// `bpf_skb_cgroup_id(skb)`.
pub(super) fn skb_cgroup_id(vm: &mut Vm, [context, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = with_skb(vm, context, |skb, _| Ok(skb.socket))?;
    Ok(id(vm, cookie))
}

/// `bpf_skb_under_cgroup(skb, map, index)`.
pub(super) fn skb_under_cgroup(vm: &mut Vm, [context, map, index, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = with_skb(vm, context, |skb, _| Ok(skb.socket))?;
    let map = map_of(vm, map, "bpf_skb_under_cgroup", |kind| kind == MapType::CGROUP_ARRAY)?;
    let index = index as u32;
    if index >= map.shape.max_entries {
        return Ok(negative(Errno::E2BIG));
    }
    let Some(id) = map.cgroup_id(index) else { return Ok(negative(Errno::EAGAIN)) };
    if cookie.is_none() {
        return Ok(negative(Errno::ENOENT));
    }
    Ok(groups(vm, cookie).contains(&id).into())
}

/// `bpf_skb_ancestor_cgroup_id(skb, level)`.
pub(super) fn skb_ancestor_cgroup_id(vm: &mut Vm, [context, level, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = with_skb(vm, context, |skb, _| Ok(skb.socket))?;
    Ok(ancestor(vm, cookie, level))
}

/// `bpf_sk_cgroup_id(sk)`.
pub(super) fn sk_cgroup_id(vm: &mut Vm, [socket, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = socket_of(vm, socket)?;
    Ok(id(vm, cookie))
}

/// `bpf_sk_ancestor_cgroup_id(sk, level)`.
pub(super) fn sk_ancestor_cgroup_id(vm: &mut Vm, [socket, level, ..]: [u64; 5]) -> Result<u64, Trap> {
    let cookie = socket_of(vm, socket)?;
    Ok(ancestor(vm, cookie, level))
}

/// `bpf_get_retval()`.
pub(super) fn get_retval(vm: &mut Vm, _: [u64; 5]) -> Result<u64, Trap> {
    let of_option = vm.memory.context::<Sockopt>().map(|option| option.retval);
    Ok(i64::from(of_option.unwrap_or(vm.packet.retval)) as u64)
}

/// `bpf_set_retval(retval)`.
pub(super) fn set_retval(vm: &mut Vm, [retval, ..]: [u64; 5]) -> Result<u64, Trap> {
    let retval = retval as i32;
    match vm.memory.context::<Sockopt>() {
        Some(option) => option.retval = retval,
        None => vm.packet.retval = retval,
    }
    Ok(0)
}

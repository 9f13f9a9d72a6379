//! Helpers of programs that see what goes through sockets, and of those that choose a socket.

use skep_sys::abi::{Errno, MapType};

use super::check_context;
use crate::helper::map::map_of;
use crate::helper::{HelperFn, memory, negative};
use crate::net::{Effect, SocketId};
use crate::packet::{SkMsg, SkReuseport};
use crate::vm::{FaultKind, Memory, Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (52, |vm, [context, map, key, flags, _]| {
        redirect_part(vm, context, (map, MapType::SOCKMAP), Key::Index(key as u32), flags)
    }),
    (60, |vm, [context, map, key, flags, _]| {
        redirect_message(vm, context, (map, MapType::SOCKMAP), Key::Index(key as u32), flags)
    }),
    (61, |vm, [context, bytes, ..]| apply(vm, context, bytes as u32)),
    (62, |vm, [context, bytes, ..]| cork(vm, context, bytes as u32)),
    (63, pull),
    (71, |vm, [context, map, key, flags, _]| {
        redirect_message(vm, context, (map, MapType::SOCKHASH), Key::At(key), flags)
    }),
    (72, |vm, [context, map, key, flags, _]| {
        redirect_part(vm, context, (map, MapType::SOCKHASH), Key::At(key), flags)
    }),
    (82, select_reuseport),
    (90, push),
    (91, pop),
];

const DROP: u64 = 0;
const PASS: u64 = 1;
/// The target receives it, and does not send it (`BPF_F_INGRESS`).
const INGRESS: u64 = 1;

/// A key in a register, or where it lies.
enum Key {
    Index(u32),
    At(u64),
}

/// Does something with the message of a program.
fn with_message<T>(
    vm: &mut Vm,
    context: u64,
    with: impl FnOnce(&mut SkMsg, &mut Memory) -> Result<T, Trap>,
) -> Result<T, Trap> {
    check_context(vm, context)?;
    let missing = || Err(FaultKind::NotA { what: "context of an sk_msg program", address: context }.into());
    vm.memory.with_context(with).unwrap_or_else(missing)
}

/// Changes the message or what is shown of it. It is put together anew, and so the program pays for all of its bytes.
fn change(
    vm: &mut Vm,
    context: u64,
    with: impl FnOnce(&mut SkMsg, &mut Memory) -> Result<u64, Trap>,
) -> Result<u64, Trap> {
    let (answer, len) = with_message(vm, context, |message, memory| {
        let answer = with(message, memory)?;
        Ok((answer, message.message.len()))
    })?;
    vm.spend(len as u64); // a length in memory
    Ok(answer)
}

/// The socket that something is sent to: one that has a connection, or takes datagrams.
fn target(vm: &mut Vm, (map, kind): (u64, MapType), key: Key) -> Result<Option<u64>, Trap> {
    let map = map_of(vm, map, "a redirect to a socket", |found| found == kind)?;
    let found = match key {
        Key::Index(index) => map.simulated_socket(&index.to_ne_bytes()),
        Key::At(at) => {
            memory::with_bytes(vm, at, map.shape.key_size as usize, |_, key| Ok(map.simulated_socket(key)))?
        }
    };
    let world = vm.kernel.0.world();
    Ok(found.filter(|cookie| world.net.socket(*cookie).is_some_and(|socket| socket.takes_redirects())))
}

/// `bpf_msg_redirect_map(msg, map, key, flags)`, `bpf_msg_redirect_hash`.
fn redirect_message(
    vm: &mut Vm,
    context: u64,
    map: (u64, MapType),
    key: Key,
    flags: u64,
) -> Result<u64, Trap> {
    let found = target(vm, map, key)?;
    let is_tcp =
        |cookie: u64| vm.kernel.0.world().net.socket(cookie).is_some_and(|socket| socket.protocol == 6);
    let ingress = flags & INGRESS != 0;
    let found = found.filter(|cookie| flags & !INGRESS == 0 && (ingress || is_tcp(*cookie)));
    let Some(cookie) = found else { return Ok(DROP) };
    with_message(vm, context, |message, _| {
        message.redirect = Some((cookie, ingress));
        Ok(())
    })?;
    vm.kernel.0.world().net.note(Effect::SocketRedirect { socket: SocketId(cookie), ingress });
    Ok(PASS)
}

/// `bpf_sk_redirect_map(skb, map, key, flags)`, `bpf_sk_redirect_hash`.
fn redirect_part(vm: &mut Vm, context: u64, map: (u64, MapType), key: Key, flags: u64) -> Result<u64, Trap> {
    check_context(vm, context)?;
    let found = target(vm, map, key)?;
    let Some(cookie) = found.filter(|_| flags & !INGRESS == 0) else { return Ok(DROP) };
    let ingress = flags & INGRESS != 0;
    vm.packet.socket_redirect = Some((cookie, ingress));
    vm.kernel.0.world().net.note(Effect::SocketRedirect { socket: SocketId(cookie), ingress });
    Ok(PASS)
}

/// `bpf_msg_apply_bytes(msg, bytes)`.
fn apply(vm: &mut Vm, context: u64, bytes: u32) -> Result<u64, Trap> {
    with_message(vm, context, |message, _| {
        message.apply = bytes;
        Ok(())
    })?;
    vm.kernel.0.world().net.note(Effect::ApplyBytes { bytes });
    Ok(0)
}

/// `bpf_msg_cork_bytes(msg, bytes)`.
fn cork(vm: &mut Vm, context: u64, bytes: u32) -> Result<u64, Trap> {
    with_message(vm, context, |message, _| {
        message.cork = bytes;
        Ok(())
    })?;
    vm.kernel.0.world().net.note(Effect::CorkBytes { bytes });
    Ok(0)
}

/// What changed a message, or that it could not.
fn changed(answer: Option<()>) -> u64 {
    answer.map_or(negative(Errno::EINVAL), |()| 0)
}

/// `bpf_msg_pull_data(msg, start, end, flags)`.
fn pull(vm: &mut Vm, [context, start, end, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let (start, end) = (start as u32 as usize, end as u32 as usize); // the helper takes 32 bits
    change(vm, context, |message, memory| {
        if flags != 0 {
            return Ok(negative(Errno::EINVAL));
        }
        message.message.pull(memory, start, end).map(changed)
    })
}

/// `bpf_msg_push_data(msg, start, len, flags)`.
fn push(vm: &mut Vm, [context, start, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    /// No message is as long as that.
    const LEN_MAX: usize = 1 << 20;

    let (start, len) = (start as u32 as usize, len as u32 as usize); // the helper takes 32 bits
    change(vm, context, |message, memory| match (flags, len) {
        (1.., _) => Ok(negative(Errno::EINVAL)),
        (_, 0) => Ok(0),
        (_, LEN_MAX..) => Ok(negative(Errno::ENOMEM)),
        _ => message.message.push(memory, start, len).map(changed),
    })
}

/// `bpf_msg_pop_data(msg, start, len, flags)`.
fn pop(vm: &mut Vm, [context, start, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let (start, len) = (start as u32 as usize, len as u32 as usize); // the helper takes 32 bits
    change(vm, context, |message, memory| match (flags, len) {
        (1.., _) => Ok(negative(Errno::EINVAL)),
        (_, 0) => Ok(0),
        _ => message.message.pop(memory, start, len).map(changed),
    })
}

/// `bpf_sk_select_reuseport(ctx, map, key, flags)`.
fn select_reuseport(vm: &mut Vm, [context, map, key, ..]: [u64; 5]) -> Result<u64, Trap> {
    check_context(vm, context)?;
    let takes = |kind| matches!(kind, MapType::REUSEPORT_SOCKARRAY | MapType::SOCKMAP | MapType::SOCKHASH);
    let map = map_of(vm, map, "bpf_sk_select_reuseport", takes)?;
    let missing = || FaultKind::NotA { what: "context of an sk_reuseport program", address: context };
    let found = vm.memory.context::<SkReuseport>().map(|context| context.socket.0).ok_or_else(missing)?;
    let selected =
        memory::with_bytes(vm, key, map.shape.key_size as usize, |_, key| Ok(map.simulated_socket(key)))?;
    let Some(selected) = selected else { return Ok(negative(Errno::ENOENT)) };
    let refused = {
        let net = &vm.kernel.0.world().net;
        match (net.socket(found), net.socket(selected)) {
            (_, None) => Some(Errno::ENOENT),
            (None, _) => Some(Errno::ENOENT),
            (Some(found), Some(selected)) => match selected.shared() {
                None if map.shape.kind == MapType::REUSEPORT_SOCKARRAY => Some(Errno::ENOENT),
                // It never shared a port.
                None => Some(Errno::EINVAL),
                Some(_) if found.protocol != selected.protocol => Some(Errno::EPROTOTYPE),
                Some(_) if found.family != selected.family => Some(Errno::EAFNOSUPPORT),
                Some(_) if found.local != selected.local => Some(Errno::EBADFD),
                Some(_) => None,
            },
        }
    };
    if let Some(errno) = refused {
        return Ok(negative(errno));
    }
    if let Some(context) = vm.memory.context::<SkReuseport>() {
        context.selected = Some(selected);
    }
    vm.kernel.0.world().net.note(Effect::SocketSelected { socket: SocketId(selected) });
    Ok(0)
}

/// Bytes of the packet of a program that chooses a socket: from its transport header on, or from its network header.
pub(super) fn load_reuseport(vm: &mut Vm, offset: usize, from_network: bool, to: &mut [u8]) -> Option<bool> {
    let context = vm.memory.context::<SkReuseport>()?;
    let start = if from_network { 0 } else { context.transport };
    let found = start.checked_add(offset).and_then(|from| context.packet.get(from..)?.get(..to.len()));
    match found {
        Some(found) => to.copy_from_slice(found),
        None => to.fill(0),
    }
    Some(found.is_some())
}

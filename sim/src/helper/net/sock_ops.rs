//! Helpers of programs of TCP: what they are told of, and options of headers.

use skep_sys::abi::{Errno, MapType};

use super::check_context;
use crate::helper::map::map_of;
use crate::helper::{HelperFn, memory, negative};
use crate::net::{Effect, SocketId};
use crate::packet::SockOps;
use crate::packet::tcp::{self, Found, HEADER};
use crate::vm::{FaultKind, Trap, Vm};

pub(super) const HELPERS: &[(i32, HelperFn)] = &[
    (53, |vm, args| map_update(vm, args, MapType::SOCKMAP)),
    (59, callback_flags),
    (70, |vm, args| map_update(vm, args, MapType::SOCKHASH)),
    (142, load_option),
    (143, store_option),
    (144, reserve),
];

/// All flags that there are (`BPF_SOCK_OPS_ALL_CB_FLAGS`).
const ALL_FLAGS: u32 = 0x7f;
/// The option is one of the first segment (`BPF_LOAD_HDR_OPT_TCP_SYN`).
const OF_SYN: u64 = 1;
/// Events in which a socket may be put into a map: a connection is there, or the socket listens.
const MAPPED: [u32; 3] = [4, 5, 11];
/// Events in which room for options is asked for, and in which they are written.
const HDR_OPT_LEN: u32 = 14;
const WRITE_HDR_OPT: u32 = 15;

/// Does something with the context of a program of TCP.
fn with_context<T>(
    vm: &mut Vm,
    context: u64,
    with: impl FnOnce(&mut SockOps, &mut crate::vm::Memory) -> Result<T, Trap>,
) -> Result<T, Trap> {
    check_context(vm, context)?;
    let missing = || Err(FaultKind::NotA { what: "context of a sock_ops program", address: context }.into());
    vm.memory.with_context(with).unwrap_or_else(missing)
}

/// `bpf_sock_ops_cb_flags_set(ctx, flags)`: answers the flags that there are not.
fn callback_flags(vm: &mut Vm, [context, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let flags = flags as u32; // the helper takes an int
    let cookie = with_context(vm, context, |context, _| {
        let cookie = context.full.map(|(cookie, _)| cookie);
        if cookie.is_some() {
            context.socket.callback_flags = flags & ALL_FLAGS;
        }
        Ok(cookie)
    })?;
    let Some(cookie) = cookie else { return Ok(negative(Errno::EINVAL)) };
    let mut world = vm.kernel.0.world();
    if let Some(socket) = world.net.socket_mut(cookie) {
        socket.callback_flags = flags & ALL_FLAGS;
    }
    world.net.note(Effect::CallbackFlags { socket: SocketId(cookie), flags: flags & ALL_FLAGS });
    Ok((flags & !ALL_FLAGS).into())
}

/// `bpf_sock_ops_enable_tx_tstamp(skops, flags)`.
pub(super) fn enable_tx_timestamp(vm: &mut Vm, [context, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    /// A packet is about to be sent (`BPF_SOCK_OPS_TSTAMP_SENDMSG_CB`).
    const SENDMSG: u32 = 20;

    let (op, cookie) = with_context(vm, context, |context, _| Ok((context.op, context.full.map(|f| f.0))))?;
    if op != SENDMSG {
        return Ok(negative(Errno::EOPNOTSUPP));
    }
    if flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    if let Some(cookie) = cookie {
        vm.kernel.0.world().net.note(Effect::TimestampRequested { socket: SocketId(cookie) });
    }
    Ok(0)
}

/// `bpf_sock_map_update(ctx, map, key, flags)` and `bpf_sock_hash_update`: puts the socket of the event into a map.
fn map_update(vm: &mut Vm, [context, map, key, flags, _]: [u64; 5], kind: MapType) -> Result<u64, Trap> {
    let map = map_of(vm, map, "bpf_sock_map_update", |found| found == kind)?;
    let (op, cookie) = with_context(vm, context, |context, _| Ok((context.op, context.full.map(|f| f.0))))?;
    let Some(cookie) = cookie.filter(|_| MAPPED.contains(&op)) else {
        return Ok(negative(Errno::EOPNOTSUPP));
    };
    memory::with_bytes(vm, key, map.shape.key_size as usize, |vm, key| {
        Ok(crate::helper::answer(vm.kernel.0.put_socket_as_program(&map, key, cookie, flags, false)))
    })
}

/// The option that a program looks for or writes: its kind, and the number that shared kinds begin with.
fn wanted(option: &[u8], magic: std::ops::RangeInclusive<usize>) -> Option<(u8, &[u8])> {
    let [kind, len, ..] = *option else { return None };
    // Experimental ones.
    if matches!(kind, 253 | 254) {
        let number = option.get(2..usize::from(len)).filter(|number| magic.contains(&number.len()))?;
        return Some((kind, number));
    }
    Some((kind, &[]))
}

/// `bpf_load_hdr_opt(ctx, search_and_result, len, flags)`: the option that is found, and its length.
fn load_option(vm: &mut Vm, [context, at, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize; // the helper takes 32 bits
    vm.memory.check(at, len, true)?;
    let search = vm.memory.bytes(at, len)?;
    let [kind, said, ..] = *search else { return Ok(negative(Errno::EINVAL)) };
    if flags & !OF_SYN != 0 || usize::from(said) > len || kind < 2 {
        return Ok(negative(Errno::EINVAL));
    }
    let magic = match kind {
        253 | 254 => match wanted(&search, 2..=4).filter(|_| matches!(said, 4 | 6)) {
            Some((_, magic)) => magic,
            None => return Ok(negative(Errno::EINVAL)),
        },
        _ if said != 0 => return Ok(negative(Errno::EINVAL)),
        _ => &[],
    };
    let options = with_context(vm, context, |context, memory| {
        if flags & OF_SYN != 0 {
            let syn = context.syn.as_deref().ok_or(Errno::ENOENT);
            return Ok(syn.map(|syn| syn.get(HEADER..).unwrap_or_default().to_vec()));
        }
        let segment = context.segment.as_ref().filter(|_| context.op != HDR_OPT_LEN).ok_or(Errno::EPERM);
        Ok(segment.map(|segment| segment.buffer.bytes(memory).get(HEADER..).unwrap_or_default().to_vec()))
    })?;
    let options = match options {
        Ok(options) => options,
        Err(errno) => return Ok(negative(errno)),
    };
    let found = match tcp::find_option(&options, kind, magic) {
        Found::At(found) => options.get(found..).unwrap_or_default(),
        Found::Missing { .. } => return Ok(negative(Errno::ENOMSG)),
        Found::Broken => return Ok(negative(Errno::EFAULT)),
    };
    let whole = found.get(1).map_or(0, |len| usize::from(*len));
    vm.memory.write(at, found.get(..whole.min(len)).unwrap_or_default())?;
    Ok(if whole > len { negative(Errno::ENOSPC) } else { whole as u64 })
}

/// `bpf_store_hdr_opt(ctx, option, len, flags)`.
fn store_option(vm: &mut Vm, [context, at, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize; // the helper takes 32 bits
    let option = vm.memory.bytes(at, len)?;
    let stored = with_context(vm, context, |context, memory| {
        if context.op != WRITE_HDR_OPT {
            return Ok(Err(Errno::EPERM));
        }
        let [kind, said, ..] = *option else { return Ok(Err(Errno::EINVAL)) };
        let whole = usize::from(said);
        if flags != 0 || whole > len || kind < 2 {
            return Ok(Err(Errno::EINVAL));
        }
        if whole > context.remaining {
            return Ok(Err(Errno::ENOSPC));
        }
        let magic = match kind {
            253 | 254 if whole < 4 => return Ok(Err(Errno::EINVAL)),
            // Two bytes of the number tell them apart.
            253 | 254 => option.get(2..4).unwrap_or_default(),
            _ => &[],
        };
        let Some(segment) = &mut context.segment else { return Ok(Err(Errno::EPERM)) };
        let there = segment.buffer.bytes(memory).get(HEADER..).unwrap_or_default();
        match tcp::find_option(there, kind, magic) {
            Found::At(_) => return Ok(Err(Errno::EEXIST)),
            Found::Broken => return Ok(Err(Errno::EFAULT)),
            Found::Missing { ended: true } => return Ok(Err(Errno::ENOSPC)),
            Found::Missing { ended: false } => {}
        }
        let option = option.get(..whole).unwrap_or_default();
        let end = segment.buffer.end;
        if let Some(to) = segment.buffer.room_mut(memory).get_mut(end..end + whole) {
            to.copy_from_slice(option);
        }
        segment.buffer.end = end + whole; // there was room
        segment.buffer.show(memory);
        context.remaining -= whole; // checked above
        Ok(Ok(option.to_vec()))
    })?;
    Ok(match stored {
        Ok(option) => {
            vm.kernel.0.world().net.note(Effect::HeaderOption { option });
            0
        }
        Err(errno) => negative(errno),
    })
}

/// `bpf_reserve_hdr_opt(ctx, len, flags)`.
fn reserve(vm: &mut Vm, [context, len, flags, ..]: [u64; 5]) -> Result<u64, Trap> {
    let len = len as u32 as usize; // the helper takes 32 bits
    with_context(vm, context, |context, _| {
        Ok(crate::helper::answer(if context.op != HDR_OPT_LEN {
            Err(Errno::EPERM)
        } else if flags != 0 || len < 2 {
            Err(Errno::EINVAL)
        } else if len > context.remaining {
            Err(Errno::ENOSPC)
        } else {
            context.remaining -= len; // checked above
            Ok(())
        }))
    })
}

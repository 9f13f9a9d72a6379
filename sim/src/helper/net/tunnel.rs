//! Helpers for tunnels: keys and options in the metadata of a packet.

use skep_sys::abi::Errno;

use super::with_skb;
use crate::helper::negative;
use crate::net::Effect;
use crate::packet::Tunnel;
use crate::packet::checksum::{Sum, fold};
use crate::vm::{Trap, Vm};

/// `sizeof(struct bpf_tunnel_key)` as it is, and as it was.
const KEY: usize = 44;
const SIZES: [usize; 4] = [8, 24, 28, KEY];
/// Flags of `bpf_skb_get_tunnel_key` and `bpf_skb_set_tunnel_key`.
const TUNINFO_IPV6: u64 = 1;
const TUNINFO_FLAGS: u64 = 1 << 4;
const SET_FLAGS: u64 = 0x3f;
/// Most bytes of options (`IP_TUNNEL_OPTS_MAX`).
const OPTIONS_MAX: usize = 255;

/// `bpf_skb_get_tunnel_key(skb, key, size, flags)`.
pub(super) fn get_key(vm: &mut Vm, [context, key, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize;
    vm.memory.check(key, size, true)?;
    let tunnel = with_skb(vm, context, |skb, _| Ok(skb.tunnel.clone()))?;
    let answer = match &tunnel {
        None => Err(Errno::EINVAL),
        Some(tunnel) if flags & !(TUNINFO_IPV6 | TUNINFO_FLAGS) != 0 || tunnel.outgoing => Err(Errno::EINVAL),
        Some(tunnel) if tunnel.ipv6 != (flags & TUNINFO_IPV6 != 0) => Err(Errno::EPROTO),
        Some(_) if !SIZES.contains(&size) => Err(Errno::EINVAL),
        Some(tunnel) if tunnel.ipv6 && size < 24 => Err(Errno::EINVAL),
        Some(tunnel) => Ok(tunnel.key.get(..size).unwrap_or_default()),
    };
    match answer {
        Ok(bytes) => {
            vm.memory.write(key, bytes)?;
            Ok(0)
        }
        Err(errno) => {
            vm.memory.write(key, &vec![0; size])?;
            Ok(negative(errno))
        }
    }
}

/// `bpf_skb_set_tunnel_key(skb, key, size, flags)`.
pub(super) fn set_key(vm: &mut Vm, [context, key, size, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize;
    let bytes = vm.memory.bytes(key, size)?;
    if flags & !SET_FLAGS != 0 || !SIZES.contains(&size) {
        return Ok(negative(Errno::EINVAL));
    }
    let mut whole = [0; KEY];
    if let Some(to) = whole.get_mut(..size) {
        to.copy_from_slice(&bytes);
    }
    // The flow label has 20 bits, and only IPv6 has one; the padding is zero.
    let label = whole.get(24..28).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b));
    let ipv6 = flags & TUNINFO_IPV6 != 0;
    if !ipv6 && label != 0 || label & !0xfffff != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    with_skb(vm, context, |skb, _| {
        skb.tunnel = Some(Tunnel { key: whole, options: Vec::new(), outgoing: true, ipv6 });
        Ok(())
    })?;
    vm.kernel.0.world().net.note(Effect::Tunnel { key: bytes, options: Vec::new() });
    Ok(0)
}

/// `bpf_skb_get_tunnel_opt(skb, opt, size)`: how many bytes there are.
pub(super) fn get_options(vm: &mut Vm, [context, to, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize;
    vm.memory.check(to, size, true)?;
    let tunnel = with_skb(vm, context, |skb, _| Ok(skb.tunnel.clone()))?;
    let mut bytes = vec![0; size];
    let answer = match tunnel {
        Some(tunnel) if tunnel.options.is_empty() => negative(Errno::ENOENT),
        Some(tunnel) if tunnel.options.len() > size => negative(Errno::ENOMEM),
        Some(tunnel) => {
            if let Some(to) = bytes.get_mut(..tunnel.options.len()) {
                to.copy_from_slice(&tunnel.options);
            }
            tunnel.options.len() as u64
        }
        None => negative(Errno::ENOENT),
    };
    vm.memory.write(to, &bytes)?;
    Ok(answer)
}

/// `bpf_skb_set_tunnel_opt(skb, opt, size)`.
pub(super) fn set_options(vm: &mut Vm, [context, from, size, ..]: [u64; 5]) -> Result<u64, Trap> {
    let size = size as u32 as usize;
    let bytes = vm.memory.bytes(from, size)?;
    let key = with_skb(vm, context, |skb, _| {
        let Some(tunnel) = skb.tunnel.as_mut().filter(|tunnel| tunnel.outgoing && size.is_multiple_of(4))
        else {
            return Ok(Err(Errno::EINVAL));
        };
        if size > OPTIONS_MAX {
            return Ok(Err(Errno::ENOMEM));
        }
        tunnel.options = bytes.clone();
        Ok(Ok(tunnel.key.to_vec()))
    })?;
    match key {
        Ok(key) => {
            vm.kernel.0.world().net.note(Effect::Tunnel { key, options: bytes });
            Ok(0)
        }
        Err(errno) => Ok(negative(errno)),
    }
}

/// `bpf_skb_get_xfrm_state(skb, index, state, size, flags)`: packets here came through no transformation.
pub(super) fn get_xfrm_state(vm: &mut Vm, [context, _, to, size, _]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |_, _| Ok(()))?;
    vm.memory.write(to, &vec![0; (size as u32 as usize).min(4096)])?;
    Ok(negative(Errno::EINVAL))
}

/// `bpf_lwt_push_encap(skb, type, header, len)`: the header is put before the packet.
pub(super) fn push_encap(vm: &mut Vm, [context, mode, header, len, _]: [u64; 5]) -> Result<u64, Trap> {
    const IP: u32 = 2;

    let mut bytes = vm.memory.bytes(header, len as u32 as usize)?;
    let mode = mode as u32;
    let words = bytes.first().map_or(0, |first| usize::from(first & 15));
    let valid = match bytes.first().map(|first| first >> 4) {
        _ if mode > IP => false,
        Some(4) if mode == IP => (20..=256).contains(&bytes.len()) && bytes.len() >= words * 4,
        Some(6) if mode == IP => (40..=256).contains(&bytes.len()),
        _ => mode != IP && bytes.len() >= 8 && bytes.len() % 8 == 0,
    };
    // The kernel counts the checksum of a header of IPv4 that comes without.
    if valid && mode == IP && bytes.starts_with(&[0x40 | words as u8]) && bytes.get(10..12) == Some(&[0; 2]) {
        let sum = fold(Sum(0).add_bytes(bytes.get(..words * 4).unwrap_or_default()));
        bytes.splice(10..12, sum.to_ne_bytes());
    }
    let answer = with_skb(vm, context, |skb, memory| {
        if !valid {
            skb.buffer.renew(memory)?;
            return Ok(negative(Errno::EINVAL));
        }
        let room = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        if mode == IP {
            if let Err(errno) = skb.change_head(memory, room)? {
                return Ok(negative(errno));
            }
            if let Some(to) = skb.buffer.bytes_mut(memory).get_mut(..bytes.len()) {
                to.copy_from_slice(&bytes);
            }
            skb.network = skb.buffer.data;
            let version = bytes.first().map(|first| first >> 4);
            skb.protocol = if version == Some(6) { 0x86dd } else { 0x0800 };
            skb.encapsulated = true;
        }
        Ok(0)
    })?;
    if answer == 0 {
        vm.kernel.0.world().net.note(Effect::Encapsulated { mode, header: bytes });
    }
    Ok(answer)
}

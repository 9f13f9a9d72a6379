//! Helpers that keep checksums right.

use skep_sys::abi::Errno;

use super::with_skb;
use crate::features::Features;
use crate::helper::negative;
use crate::packet::checksum::{Sum, replace, replace_by, replace16};
use crate::packet::skb::Checksum;
use crate::vm::{Trap, Vm};

/// Bits of the flags that hold the size of what has changed.
const SIZE: u64 = 0xf;
const PSEUDO_HEADER: u64 = 1 << 4;
const MARK_MANGLED_0: u64 = 1 << 5;
const MARK_ENFORCE: u64 = 1 << 6;
const IPV6: u64 = 1 << 7;
/// How a UDP checksum says that it is zero and there nevertheless.
const MANGLED_0: u16 = 0xffff;
/// Most inner checksums that a card checks (`SKB_MAX_CSUM_LEVEL`).
const LEVEL_MAX: u8 = 3;

/// What older kernels could take at once, in bytes (`MAX_BPF_STACK`).
const DIFF_MAX: u32 = 512;

/// The difference in 32 bits, as older kernels answer it on x86: the sum of the words and of the opposite of those before.
fn wide_diff(old: &[u8], new: &[u8], seed: u32) -> u64 {
    let words = |bytes: &[u8], flip: u32| -> u64 {
        let words = bytes.as_chunks::<4>().0.iter();
        words.map(|word| u64::from(u32::from_ne_bytes(*word) ^ flip)).sum() // not more than 128
    };
    let sum = words(old, u32::MAX) + words(new, 0) + u64::from(seed);
    // What is carried is added, which may carry once more.
    let once = (sum >> 32) + (sum & u64::from(u32::MAX));
    (once >> 32) + (once & u64::from(u32::MAX))
}

/// `bpf_csum_diff(from, from_size, to, to_size, seed)`: the difference in 16 bits.
pub(super) fn diff(vm: &mut Vm, [from, from_size, to, to_size, seed]: [u64; 5]) -> Result<u64, Trap> {
    let (from_size, to_size, seed) = (from_size as u32, to_size as u32, Sum(seed as u32));
    if (from_size | to_size) % 4 != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let folds = vm.kernel.0.features().contains(Features::CSUM_DIFF_FOLDS);
    if !folds && from_size.saturating_add(to_size) > DIFF_MAX {
        return Ok(negative(Errno::EINVAL));
    }
    let old = if from_size > 0 { vm.memory.bytes(from, from_size as usize)? } else { Vec::new() };
    let new = if to_size > 0 { vm.memory.bytes(to, to_size as usize)? } else { Vec::new() };
    if !folds {
        return Ok(wide_diff(&old, &new, seed.0));
    }
    let sum = match (from_size, to_size) {
        (0, 0) => seed,
        (0, _) => seed.add_bytes(&new),
        (_, 0) => Sum(!Sum(!seed.0).add_bytes(&old).0),
        _ => seed.add_bytes(&new).minus(Sum(0).add_bytes(&old)),
    };
    Ok(sum.folded().into())
}

/// Writes a new checksum at an offset of the packet.
fn at_offset(
    vm: &mut Vm,
    context: u64,
    at: u64,
    new: impl FnOnce(Option<&mut Sum>, u16) -> Result<u16, Errno>,
) -> Result<u64, Trap> {
    let at = at as u32;
    with_skb(vm, context, |skb, memory| {
        skb.buffer.renew(memory)?;
        let place = at as usize;
        let bytes = match at {
            0..=0xffff if at.is_multiple_of(2) => skb.buffer.bytes_mut(memory).get_mut(place..place + 2),
            _ => None,
        };
        let Some([first, second]) = bytes else { return Ok(negative(Errno::EFAULT)) };
        let known = (skb.checksum == Checksum::Complete).then_some(&mut skb.csum);
        match new(known, u16::from_ne_bytes([*first, *second])) {
            Ok(sum) => {
                [*first, *second] = sum.to_ne_bytes();
                Ok(0)
            }
            Err(errno) => Ok(negative(errno)),
        }
    })
}

/// `bpf_l3_csum_replace(skb, offset, from, to, flags)`.
pub(super) fn replace_l3(vm: &mut Vm, [context, at, from, to, flags]: [u64; 5]) -> Result<u64, Trap> {
    if flags & !SIZE != 0 {
        return renewed(vm, context, Errno::EINVAL);
    }
    at_offset(vm, context, at, |_, sum| match flags & SIZE {
        0 if from != 0 => Err(Errno::EINVAL),
        0 => Ok(replace_by(sum, to as u32)),
        2 => Ok(replace16(sum, from as u16, to as u16)),
        4 => Ok(replace(sum, from as u32, to as u32)),
        _ => Err(Errno::EINVAL),
    })
}

/// `bpf_l4_csum_replace(skb, offset, from, to, flags)`.
pub(super) fn replace_l4(vm: &mut Vm, [context, at, from, to, flags]: [u64; 5]) -> Result<u64, Trap> {
    if flags & !(SIZE | PSEUDO_HEADER | MARK_MANGLED_0 | MARK_ENFORCE | IPV6) != 0 {
        return renewed(vm, context, Errno::EINVAL);
    }
    at_offset(vm, context, at, |known, sum| {
        if flags & (MARK_MANGLED_0 | MARK_ENFORCE) == MARK_MANGLED_0 && sum == 0 {
            return Ok(0);
        }
        // What is only summed up, and is no part of the packet, changes the sum of the packet.
        let pseudo = |known: Option<&mut Sum>, from: u32, to: u32| {
            if flags & PSEUDO_HEADER != 0
                && let Some(sum) = known
            {
                *sum = Sum(!Sum(!sum.0).minus(Sum(from)).plus(Sum(to)).0);
            }
        };
        let new = match flags & SIZE {
            0 if from != 0 => return Err(Errno::EINVAL),
            0 => {
                if flags & IPV6 == 0 {
                    pseudo(known, 0, to as u32);
                }
                replace_by(sum, to as u32)
            }
            2 => {
                pseudo(known, from as u16 as u32, to as u16 as u32);
                replace(sum, from as u16 as u32, to as u16 as u32)
            }
            4 => {
                pseudo(known, from as u32, to as u32);
                replace(sum, from as u32, to as u32)
            }
            _ => return Err(Errno::EINVAL),
        };
        Ok(if flags & MARK_MANGLED_0 != 0 && new == 0 { MANGLED_0 } else { new })
    })
}

fn renewed(vm: &mut Vm, context: u64, errno: Errno) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, memory| skb.buffer.renew(memory))?;
    Ok(negative(errno))
}

/// `bpf_csum_update(skb, sum)`.
pub(super) fn update(vm: &mut Vm, [context, more, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| match skb.checksum {
        Checksum::Complete => {
            skb.csum = skb.csum.plus(Sum(more as u32));
            Ok(skb.csum.0.into())
        }
        _ => Ok(negative(Errno::ENOTSUPP)),
    })
}

/// `bpf_csum_level(skb, level)`: asks for, raises, lowers or resets the number of checksums that were checked.
pub(super) fn level(vm: &mut Vm, [context, what, ..]: [u64; 5]) -> Result<u64, Trap> {
    with_skb(vm, context, |skb, _| {
        skb.checksum = match (what, skb.checksum) {
            (0, Checksum::Unnecessary(level)) => return Ok(level.into()),
            (0, _) => return Ok(negative(Errno::EACCES)),
            (1, Checksum::Unnecessary(level)) => Checksum::Unnecessary((level + 1).min(LEVEL_MAX)),
            (1, Checksum::None) => Checksum::Unnecessary(0),
            (2, Checksum::Unnecessary(0)) | (3, Checksum::Unnecessary(_)) => Checksum::None,
            (2, Checksum::Unnecessary(level)) => Checksum::Unnecessary(level - 1), // it is not 0
            (1..=3, other) => other,
            _ => return Ok(negative(Errno::EINVAL)),
        };
        Ok(0)
    })
}

//! Kernel functions of arenas.

use skep_sys::abi::Errno;

use super::{HelperFn, answer, negative};
use crate::vm::{Trap, Vm};

pub(super) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_arena_alloc_pages", alloc_pages),
    ("bpf_arena_free_pages", free_pages),
    ("bpf_arena_reserve_pages", reserve_pages),
];

const PAGE: u64 = 4096;
/// What filling a page with zeros counts as, in instructions.
const EMPTYING: u64 = 64;

/// `bpf_arena_alloc_pages(map, address, pages, node, flags)`: the address of user space, or null.
fn alloc_pages(vm: &mut Vm, [map, address, count, _, flags]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    if !map.is_arena() || flags != 0 {
        return Ok(0);
    }
    let at = vm.arena_of(&map)?;
    let first = match address {
        0 => None,
        _ if !address.is_multiple_of(PAGE) => return Ok(0),
        // Of an address beyond the arena the kernel looks at the low half, too.
        _ => Some(page_of(at.user, address)),
    };
    if !map.has_room_for_pages(count as u32) {
        return Ok(0);
    }
    let given = map.with_arena(|arena| arena.allocate(first, count as u32)).flatten();
    map.settle_pages();
    vm.spend(given.map_or(0, |_| count as u32).into());
    Ok(given.map_or(0, |page| at.user.wrapping_add(u64::from(page) * PAGE)))
}

/// The page with an address, of which the kernel looks at the low half.
fn page_of(user: u64, address: u64) -> u32 {
    (address as u32).wrapping_sub(user as u32) / PAGE as u32 // not zero
}

/// `bpf_arena_free_pages(map, address, pages)`.
fn free_pages(vm: &mut Vm, [map, address, count, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    if map.is_arena() && address != 0 {
        let at = vm.arena_of(&map)?;
        let released = map.with_arena(|arena| arena.release(page_of(at.user, address), count as u32));
        map.settle_pages();
        let (pages, emptied) = released.unwrap_or_default();
        vm.spend(u64::from(pages) + u64::from(emptied) * EMPTYING);
    }
    Ok(0)
}

/// `bpf_arena_reserve_pages(map, address, pages)`: pages that are not to be given away.
fn reserve_pages(vm: &mut Vm, [map, address, count, ..]: [u64; 5]) -> Result<u64, Trap> {
    let map = vm.memory.map(map)?;
    if !map.is_arena() {
        return Ok(negative(Errno::EINVAL));
    }
    if count as u32 == 0 {
        return Ok(0);
    }
    if !address.is_multiple_of(PAGE) {
        return Ok(0);
    }
    let at = vm.arena_of(&map)?;
    let reserved = map.with_arena(|arena| arena.reserve(page_of(at.user, address), count as u32));
    Ok(answer(reserved.unwrap_or(Err(Errno::EINVAL))))
}

//! Arenas: addresses of user space, and those that a program accesses.
//!
//! A program keeps pointers into its arena as user space has them, and casts them before it accesses what they point to. Here the
//! latter are the arena's region. Addresses of user space in the arena can be accessed, too, as the kernel lets it.

use std::sync::Arc;

use super::Vm;
use super::fault::{FaultKind, Trap};
use super::memory::{Shared, What, number, offset};
use crate::map::Map;

/// Where an arena is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArenaAt {
    /// Id of the map.
    pub(crate) map: u32,
    /// Its address in user space, and its length.
    pub(crate) user: u64,
    pub(crate) len: u64,
    /// The address of its region.
    pub(crate) region: u64,
}

impl ArenaAt {
    /// Whether an address lies in its region.
    fn is_region(&self, address: u64) -> bool {
        number(address) == number(self.region)
    }
}

impl Vm {
    /// The arena of the program that runs.
    fn arena(&mut self) -> Result<ArenaAt, Trap> {
        let map = self.prog.code.maps.iter().find(|map| map.is_arena()).cloned();
        let map = map.ok_or(FaultKind::NotA { what: "program with an arena", address: 0 })?;
        self.arena_of(&map)
    }

    /// Where an arena is in this run.
    pub(crate) fn arena_of(&mut self, map: &Arc<Map>) -> Result<ArenaAt, Trap> {
        if let Some(arena) = self.memory.arena().filter(|arena| arena.map == map.id) {
            return Ok(arena);
        }
        let start = map.with_arena(|arena| arena.start()).flatten();
        let (Some(user), Some(words)) = (start, map.arena()) else {
            let message = format!("arena `{}` has no address: map it first, or give it one", map.name);
            return Err(FaultKind::Helper { message }.into());
        };
        let len = size_of_val(&*words);
        let shared = Shared { what: What::Value(map.clone()), words, start: 0, len, writable: true };
        let region = self.memory.add_shared(shared)?;
        let arena = ArenaAt { map: map.id, user, len: len as u64, region };
        self.memory.set_arena(arena);
        Ok(arena)
    }

    /// `addr_space_cast(address, 0, 1)`.
    pub(super) fn arena_to_kernel(&mut self, address: u64) -> Result<u64, Trap> {
        let arena = self.arena()?;
        // The kernel looks at the low half only; null stays null.
        let at = u64::from((address as u32).wrapping_sub(arena.user as u32));
        Ok(match address {
            0 => 0,
            _ if arena.is_region(address) => address,
            _ => arena.region + at,
        })
    }

    /// `addr_space_cast(address, 1, 0)`.
    pub(super) fn arena_to_user(&mut self, address: u64) -> Result<u64, Trap> {
        let arena = self.arena()?;
        Ok(match address {
            _ if arena.is_region(address) => arena.user.wrapping_add(offset(address) as u64),
            _ if address as u32 == 0 => 0,
            _ => arena.user & !0xffff_ffff | u64::from(address as u32),
        })
    }
}

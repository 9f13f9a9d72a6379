//! Arenas: addresses of user space, and those that a program accesses.
//!
//! A program keeps pointers into its arena as user space has them, and casts them before it accesses what they point to. Here the
//! latter lie in the arena's regions, with the low half that the former have, since the kernel goes by that half alone. What
//! lies outside of the arena, or in a page that is not there, is read as zeros, and what is written to it is lost, as on Linux.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Vm;
use super::fault::{FaultKind, Trap};
use super::memory::number;
use super::region::Region;
use crate::map::{Arena, ArenaPages, Map};
use crate::words::{load_shared, read_shared, store_shared, write_shared};

/// Where an arena is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArenaAt {
    /// Id of the map.
    pub(crate) map: u32,
    /// Its address in user space, and its length.
    pub(crate) user: u64,
    pub(crate) len: u64,
    /// The address of its region.
    region: u64,
}

impl ArenaAt {
    /// The address to access what has one in user space, of which only the low half counts.
    pub(super) fn access(self, address: u64) -> u64 {
        self.region | u64::from(address as u32)
    }

    /// Whether it is an address of user space in the arena, or the low half of any.
    pub(super) fn has(self, address: u64) -> bool {
        address >> 32 == 0 || address.checked_sub(self.user).is_some_and(|at| at < self.len)
    }

    /// Whether an address lies in its region.
    fn is_region(self, address: u64) -> bool {
        number(address) == number(self.region)
    }
}

/// The memory of an arena.
#[derive(Debug)]
pub(crate) struct ArenaMemory {
    pages: ArenaPages,
    /// The low half of its address in user space.
    user: u32,
}

impl ArenaMemory {
    /// Where bytes with this low half of an address are in the words, if they are there.
    pub(super) fn place(&self, address: u64, len: usize) -> Option<usize> {
        let at = (address as u32).wrapping_sub(self.user) as usize;
        self.pages.there.has(at, len).then_some(self.pages.start + at)
    }

    pub(super) fn load<const N: usize>(&self, address: u64) -> u64 {
        self.place(address, N).map_or(0, |at| load_shared::<N>(&self.pages.words, at))
    }

    pub(super) fn store<const N: usize>(&self, address: u64, value: u64) {
        if let Some(at) = self.place(address, N) {
            store_shared::<N>(&self.pages.words, at, value);
        }
    }

    pub(super) fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.pages.words.get(at / 8)
    }

    pub(super) fn read(&self, address: u64, to: &mut [u8]) {
        match self.place(address, to.len()) {
            Some(at) => read_shared(&self.pages.words, at, to),
            None => to.fill(0),
        }
    }

    pub(super) fn write(&self, address: u64, from: &[u8]) {
        if let Some(at) = self.place(address, from.len()) {
            write_shared(&self.pages.words, at, from);
        }
    }
}

impl Vm {
    /// The arena of the program that runs.
    fn arena(&mut self) -> Result<ArenaAt, Trap> {
        let map = self.prog.code.maps.iter().find(|map| map.is_arena());
        let map = map.ok_or(FaultKind::NotA { what: "program with an arena", address: 0 })?;
        if let Some(arena) = self.memory.arena().filter(|arena| arena.map == map.id) {
            return Ok(arena);
        }
        let map = map.clone();
        self.arena_of(&map)
    }

    /// Where an arena is in this run.
    pub(crate) fn arena_of(&mut self, map: &Arc<Map>) -> Result<ArenaAt, Trap> {
        if let Some(arena) = self.memory.arena().filter(|arena| arena.map == map.id) {
            return Ok(arena);
        }
        let start = map.with_arena(|arena| arena.start()).flatten();
        let (Some(user), Some(pages)) = (start, map.with_arena(Arena::memory).flatten()) else {
            let message = format!("arena `{}` has no address: map it first, or give it one", map.name);
            return Err(FaultKind::Helper { message }.into());
        };
        let len = pages.len as u64;
        let memory = Arc::new(ArenaMemory { pages, user: user as u32 });
        // What lies before and behind it is found by its low half, too.
        self.memory.add(Region::Arena(memory.clone()))?;
        let region = self.memory.add(Region::Arena(memory.clone()))?;
        self.memory.add(Region::Arena(memory))?;
        let arena = ArenaAt { map: map.id, user, len, region };
        self.memory.set_arena(arena);
        Ok(arena)
    }

    /// `addr_space_cast(address, 0, 1)`. Null stays null.
    pub(super) fn arena_to_kernel(&mut self, address: u64) -> Result<u64, Trap> {
        let arena = self.arena()?;
        Ok(match address {
            0 => 0,
            _ if arena.is_region(address) => address,
            _ => arena.access(address),
        })
    }

    /// `addr_space_cast(address, 1, 0)`.
    pub(super) fn arena_to_user(&mut self, address: u64) -> Result<u64, Trap> {
        let arena = self.arena()?;
        Ok(match address as u32 {
            // In an arena whose address has a low half of zeros this is its start.
            0 if !arena.is_region(address) => 0,
            low => match u64::from(low.wrapping_sub(arena.user as u32)) {
                at if at < arena.len => arena.user.wrapping_add(at),
                _ => arena.user & !0xffff_ffff | u64::from(low),
            },
        })
    }
}

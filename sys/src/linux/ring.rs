//! The memory of ring buffers, and who in this process has it.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Mapping, object, system};
use crate::abi::{Errno, MapFlags, MapId, MapType};
use crate::request::MapMemory;
use crate::ring::RingMemory;
use crate::shared::SharedMemory;

/// The rings whose memory is held. The running kernel is one for the whole process, whatever handles there are of it.
static HELD: Mutex<BTreeSet<MapId>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<MapId>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a ring's memory is held, until it is dropped. The mapping keeps the map, and with it the id.
pub(super) struct Claim(MapId);

impl Claim {
    fn new(map: MapId) -> Result<Claim, Errno> {
        if held().insert(map) { Ok(Claim(map)) } else { Err(Errno::EBUSY) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        held().remove(&self.0);
    }
}

pub(super) fn open(map: BorrowedFd<'_>) -> Result<RingMemory, Errno> {
    // The kernel's positions are words of its own size.
    if !cfg!(target_pointer_width = "64") {
        return Err(Errno::EOPNOTSUPP);
    }
    let info = object::map_info(map)?;
    let produces = match info.map_type {
        MapType::RINGBUF => false,
        MapType::USER_RINGBUF => true,
        _ => return Err(Errno::EINVAL),
    };
    let claim = Claim::new(info.id)?;
    let page = system::page_size() as usize;
    // The data comes twice in a row.
    let data = (info.max_entries as usize).checked_mul(2).and_then(|data| data.checked_add(page));
    let producer =
        MapMemory { writable: produces, ..MapMemory::new(page as u64, data.ok_or(Errno::EINVAL)?) };
    let consumer = MapMemory { writable: !produces, ..MapMemory::new(0, page) };
    let consumer = SharedMemory::mapping(Mapping::new(map, consumer)?);
    let producer = SharedMemory::mapping(Mapping::new(map, producer)?);
    let memory = RingMemory::mapped(consumer, producer, produces)?.with_claim(Box::new(claim));
    let overwrites = info.flags.contains(MapFlags::RB_OVERWRITE);
    Ok(if overwrites { memory.overwriting() } else { memory })
}

/// What a mapping has to hold through which the memory of a ring could change that [`open`] gives out; nothing for others.
/// [`Errno::EBUSY`] when that was given out.
pub(super) fn claim(map: BorrowedFd<'_>, memory: MapMemory) -> Result<Option<Claim>, Errno> {
    let info = object::map_info(map)?;
    let first_page = memory.offset == 0 && memory.len as u64 <= u64::from(system::page_size());
    let needs_claim = match info.map_type {
        MapType::RINGBUF => memory.writable,
        // What a writer has at hand is written without atomic operations, and may not even be read by them.
        MapType::USER_RINGBUF => memory.writable || !first_page,
        _ => false,
    };
    if needs_claim { Claim::new(info.id).map(Some) } else { Ok(None) }
}

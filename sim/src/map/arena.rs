//! Arenas: memory that programs and user space share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;
use skep_sys::request::MapMemory;

use super::create::PAGE_SIZE;
use super::elements::{Elements, Resolve, Words};

/// Longest mapping beyond the end of an arena that is given: it has to be kept in one piece with it.
const BEYOND_MAX: u64 = 1 << 28;
/// Longest mapping that the kernel gives.
const MAPPING_MAX: u64 = 4 << 30;

/// The pages of an arena. They are there from the first mapping on.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    /// Size in bytes.
    size: u64,
    /// Where it has to be mapped, and how much of it, once that is known.
    place: Option<(u64, u64)>,
    words: Option<Arc<[AtomicU64]>>,
}

impl Arena {
    /// `address` is where user space wants it, 0 for no wish.
    pub(super) fn new(pages: u32, address: u64) -> Self {
        let size = u64::from(pages) * u64::from(PAGE_SIZE);
        Arena { size, place: (address != 0).then_some((address, size)), words: None }
    }
}

/// Length of a mapping in whole pages.
fn whole(memory: MapMemory) -> Result<u64, Errno> {
    let len = memory.len.checked_next_multiple_of(PAGE_SIZE as usize).filter(|len| *len > 0);
    len.map(|len| len as u64).ok_or(Errno::EINVAL)
}

impl Elements for Arena {
    fn lookup(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn update(&mut self, _: &[u8], _: &[u8], _: u64, _: Resolve<'_>) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn next_key(&self, _: Option<&[u8]>, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn check_place(&self, memory: MapMemory) -> Result<(), Errno> {
        let len = whole(memory)?;
        if memory.offset != 0 {
            return Err(Errno::EINVAL);
        }
        // Programs keep pointers into it, so all mappings are at one address, and of one length.
        match self.place {
            Some((_, mapped)) if len > mapped => Err(Errno::E2BIG),
            Some((address, mapped)) if len != mapped || memory.address != Some(address) => Err(Errno::EINVAL),
            None if len > MAPPING_MAX => Err(Errno::E2BIG),
            _ => Ok(()),
        }
    }

    fn mmap(&mut self, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let len = whole(memory)?;
        if len > self.size && self.words.is_none() {
            let words = usize::try_from(len.min(BEYOND_MAX) / 8).map_err(|_| Errno::ENOMEM)?;
            self.words = Some(SharedMemory::zeroed_words(words));
        }
        let words = self.arena().ok_or(Errno::ENOMEM)?;
        let view = SharedMemory::heap_part(words, 0, memory.len, memory.writable).ok_or(Errno::ENOMEM)?;
        self.place.get_or_insert((view.address() as u64, len));
        Ok(view)
    }

    fn arena(&mut self) -> Option<Arc<[AtomicU64]>> {
        // The kernel has none beyond 4 GiB. As there, pages take memory when they are touched.
        let count = usize::try_from(self.size / 8).ok()?;
        Some(self.words.get_or_insert_with(|| SharedMemory::zeroed_words(count)).clone())
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.words.iter().cloned().collect()
    }
}

//! Arenas: memory that programs and user space share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;
use skep_sys::request::MapMemory;

use super::create::PAGE_SIZE;
use super::elements::{Elements, Resolve, Words};

/// The pages of an arena. They are there from the first mapping on.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    /// Size in bytes.
    size: u64,
    /// Where it has to be mapped, once that is known.
    address: Option<u64>,
    words: Option<Arc<[AtomicU64]>>,
}

impl Arena {
    /// `address` is where user space wants it, 0 for no wish.
    pub(super) fn new(pages: u32, address: u64) -> Self {
        let address = (address != 0).then_some(address);
        Arena { size: u64::from(pages) * u64::from(PAGE_SIZE), address, words: None }
    }
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

    fn mmap(&mut self, memory: MapMemory) -> Result<SharedMemory, Errno> {
        let MapMemory { offset, len, writable, .. } = memory;
        // Only once there is a mapping does the kernel tell that one is too long.
        if offset == 0 && len as u64 > self.size && self.address.is_some() {
            return Err(Errno::E2BIG);
        }
        // Programs keep pointers into it, so it is mapped at one address or not at all.
        let elsewhere = self.address.is_some_and(|address| memory.address != Some(address));
        if offset != 0 || len as u64 != self.size || elsewhere {
            return Err(Errno::EINVAL);
        }
        let view = SharedMemory::heap(self.arena().ok_or(Errno::ENOMEM)?, writable);
        self.address.get_or_insert(view.address() as u64);
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

//! Arenas: memory that programs and user space share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;

use super::create::PAGE_SIZE;
use super::elements::{Elements, Resolve, Words};

/// The pages of an arena. They are there from the first mapping on.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    /// Size in bytes.
    size: u64,
    words: Option<Arc<[AtomicU64]>>,
}

impl Arena {
    pub(super) fn new(pages: u32) -> Self {
        Arena { size: u64::from(pages) * u64::from(PAGE_SIZE), words: None }
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

    fn mmap(&mut self, offset: u64, len: usize, writable: bool) -> Result<SharedMemory, Errno> {
        // Only once there is a mapping does the kernel tell that one is too long.
        if offset == 0 && len as u64 > self.size && self.words.is_some() {
            return Err(Errno::E2BIG);
        }
        if offset != 0 || len as u64 != self.size {
            return Err(Errno::EINVAL);
        }
        Ok(SharedMemory::heap(self.arena().ok_or(Errno::ENOMEM)?, writable))
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

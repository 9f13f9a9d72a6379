//! Arenas: memory that programs and user space share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
pub(crate) struct Arena {
    /// Size in bytes.
    size: u64,
    /// Where it has to be mapped, and how much of it, once that is known.
    place: Option<(u64, u64)>,
    words: Option<Arc<[AtomicU64]>>,
    /// A bit for each page that a program was given.
    given: Vec<u64>,
}

impl Arena {
    /// `address` is where user space wants it, 0 for no wish.
    pub(super) fn new(pages: u32, address: u64) -> Self {
        let size = u64::from(pages) * u64::from(PAGE_SIZE);
        Arena { size, place: (address != 0).then_some((address, size)), words: None, given: Vec::new() }
    }
}

/// What programs ask of an arena's pages.
impl Arena {
    fn page_count(&self) -> u32 {
        u32::try_from(self.size / u64::from(PAGE_SIZE)).unwrap_or(u32::MAX)
    }

    fn is_given(&self, page: u32) -> bool {
        self.given.get(page as usize / 64).is_some_and(|word| word >> (page % 64) & 1 != 0)
    }

    fn set_given(&mut self, page: u32, given: bool) {
        let word = page as usize / 64;
        if self.given.len() <= word {
            self.given.resize(word + 1, 0);
        }
        if let Some(word) = self.given.get_mut(word) {
            *word = if given { *word | 1 << (page % 64) } else { *word & !(1 << (page % 64)) };
        }
    }

    /// Gives away `count` pages, from `first` on if that is given. Answers the first.
    pub(crate) fn give(&mut self, first: Option<u32>, count: u32) -> Option<u32> {
        let last = self.page_count().checked_sub(count).filter(|_| count > 0)?;
        let is_free = |arena: &Arena, first: u32| (first..first + count).all(|page| !arena.is_given(page)); // inside
        let first = match first {
            Some(first) if first > last => return None,
            Some(first) => Some(first).filter(|first| is_free(self, *first)),
            None => self.first_free(last, count),
        }?;
        (first..first + count).for_each(|page| self.set_given(page, true)); // inside
        Some(first)
    }

    /// The first of `count` pages in a row that are free.
    fn first_free(&self, last: u32, count: u32) -> Option<u32> {
        let (mut first, mut page) = (0, 0);
        while first <= last {
            if page >= first + count {
                return Some(first); // inside
            }
            if self.is_given(page) {
                first = page + 1; // inside
            }
            page += 1; // inside
        }
        None
    }

    /// Takes pages back. What was in them is gone.
    pub(crate) fn take(&mut self, first: u32, count: u32) {
        let end = first.saturating_add(count).min(self.page_count());
        for page in first..end {
            self.set_given(page, false);
        }
        if let Some(words) = &self.words {
            let words_of = |page: u32| page as usize * (PAGE_SIZE as usize / 8);
            for word in words.get(words_of(first)..words_of(end)).unwrap_or_default() {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Where user space has it, once that is known.
    pub(crate) fn start(&self) -> Option<u64> {
        self.place.map(|(address, _)| address)
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

    fn pages(&mut self) -> Option<&mut Arena> {
        Some(self)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        self.words.iter().cloned().collect()
    }
}

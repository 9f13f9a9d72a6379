//! Arenas: memory that programs and user space share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_sys::abi::Errno;
use skep_sys::request::MapMemory;
use skep_sys::{SharedMemory, TouchedPages};

use super::create::PAGE_SIZE;
use super::elements::{Elements, Resolve, Words};

/// Longest mapping beyond the end of an arena that is given: it has to be kept in one piece with it.
const BEYOND_MAX: u64 = 1 << 28;
/// Longest mapping that the kernel gives.
const MAPPING_MAX: u64 = 4 << 30;
/// Words of a page.
const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

/// The pages of an arena. Which of them are there is known apart from which may be given to programs: some are kept free.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    /// Size in bytes.
    size: u64,
    /// Where it has to be mapped, and how much of it, once that is known.
    place: Option<(u64, u64)>,
    memory: Option<ArenaPages>,
    free: Free,
}

/// The memory of an arena.
#[derive(Clone, Debug)]
pub(crate) struct ArenaPages {
    pub(crate) words: Arc<[AtomicU64]>,
    /// Its first byte in the words, whose address is a multiple of a page's size.
    pub(crate) start: usize,
    /// Length in bytes.
    pub(crate) len: usize,
    /// The pages that are there.
    pub(crate) there: Arc<TouchedPages>,
}

impl ArenaPages {
    fn new(len: usize) -> ArenaPages {
        let words = SharedMemory::zeroed_words(len / 8 + PAGE_WORDS);
        let start = words.as_ptr().addr().wrapping_neg() % PAGE_SIZE as usize; // not zero
        ArenaPages { words, start, len, there: Arc::new(TouchedPages::new(len.div_ceil(PAGE_SIZE as usize))) }
    }
}

/// Pages that nobody has.
#[derive(Clone, Debug, Default)]
struct Free {
    /// Ranges of pages by the first one: how many.
    ranges: BTreeMap<u32, u32>,
    /// The same by how many, so that the smallest is found that suffices, and of those the first.
    sizes: BTreeSet<(u32, Reverse<u32>)>,
}

impl Free {
    fn insert(&mut self, first: u32, count: u32) {
        if count > 0 {
            self.ranges.insert(first, count);
            self.sizes.insert((count, Reverse(first)));
        }
    }

    fn remove(&mut self, first: u32, count: u32) {
        self.ranges.remove(&first);
        self.sizes.remove(&(count, Reverse(first)));
    }

    /// The range that a page is in: the first page and the one behind the last.
    fn around(&self, page: u32) -> Option<(u32, u32)> {
        let (&first, &count) = self.ranges.range(..=page).next_back()?;
        let end = first.saturating_add(count);
        (page < end).then_some((first, end))
    }

    fn has(&self, first: u32, count: u32) -> bool {
        self.around(first).is_some_and(|(_, end)| first.checked_add(count).is_some_and(|last| last <= end))
    }

    /// The first page of the smallest range that suffices.
    fn find(&self, count: u32) -> Option<u32> {
        let size = self.sizes.range((count, Reverse(u32::MAX))..).next()?.0;
        let last = self.sizes.range(..=(size, Reverse(0))).next_back()?;
        Some(last.1.0)
    }

    /// Takes pages, free or not.
    fn take(&mut self, first: u32, count: u32) {
        let end = first.saturating_add(count);
        let mut page = first;
        while page < end {
            match self.around(page) {
                Some((from, to)) => {
                    self.remove(from, to - from); // the range is not empty
                    self.insert(from, page - from); // the page is inside
                    self.insert(end.min(to), to.saturating_sub(end));
                    page = to;
                }
                None => match self.ranges.range(page..).next() {
                    Some((&next, _)) => page = next,
                    None => break,
                },
            }
        }
    }

    /// Gives pages back, free or not.
    fn give(&mut self, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        self.take(first, count);
        let (mut from, mut to) = (first, first.saturating_add(count));
        if let Some((before, end)) = from.checked_sub(1).and_then(|page| self.around(page)) {
            self.remove(before, end - before); // the range is not empty
            from = before;
        }
        if let Some((start, behind)) = self.around(to) {
            self.remove(start, behind - start); // the range is not empty
            to = behind;
        }
        self.insert(from, to - from); // the range is not empty
    }
}

impl Arena {
    /// `address` is where user space wants it, 0 for no wish.
    pub(super) fn new(pages: u32, address: u64) -> Self {
        let size = u64::from(pages) * u64::from(PAGE_SIZE);
        let mut free = Free::default();
        free.insert(0, pages);
        Arena { size, place: (address != 0).then_some((address, size)), memory: None, free }
    }
}

/// What programs ask of an arena's pages.
impl Arena {
    /// How many pages user space has.
    fn page_count(&self) -> u32 {
        let bytes = self.place.map_or(self.size, |(_, len)| len);
        u32::try_from(bytes / u64::from(PAGE_SIZE)).unwrap_or(u32::MAX)
    }

    /// Its memory.
    pub(crate) fn memory(&mut self) -> Option<ArenaPages> {
        let len = self.place.map_or(0, |(_, len)| len);
        self.memory_of(len)
    }

    /// Its memory, where `len` bytes are mapped. As for the kernel, pages take memory when they are touched.
    fn memory_of(&mut self, len: u64) -> Option<ArenaPages> {
        // The kernel has none beyond 4 GiB.
        let len = usize::try_from(len.min(BEYOND_MAX).max(self.size)).ok()?;
        Some(self.memory.get_or_insert_with(|| ArenaPages::new(len)).clone())
    }

    /// Takes the pages that user space has touched.
    fn settle(&mut self) {
        let Some(memory) = &self.memory else { return };
        let free = &mut self.free;
        memory.there.each_new(|page| free.take(u32::try_from(page).unwrap_or(u32::MAX), 1));
    }

    /// Gives away `count` pages, from `first` on if that is given. Answers the first.
    pub(crate) fn allocate(&mut self, first: Option<u32>, count: u32) -> Option<u32> {
        let last = self.page_count().checked_sub(count).filter(|_| count > 0)?;
        self.settle();
        let first = match first {
            Some(first) => Some(first).filter(|first| *first <= last && self.free.has(*first, count)),
            None => self.free.find(count),
        }?;
        self.free.take(first, count);
        let there = self.memory()?.there;
        for page in first..first.saturating_add(count) {
            there.set(page as usize);
        }
        Some(first)
    }

    /// Keeps pages from being given away.
    pub(crate) fn reserve(&mut self, first: u32, count: u32) -> Result<(), Errno> {
        if first.checked_add(count).is_none_or(|end| end > self.page_count()) {
            return Err(Errno::EINVAL);
        }
        self.settle();
        if !self.free.has(first, count) {
            return Err(Errno::EBUSY);
        }
        self.free.take(first, count);
        Ok(())
    }

    /// Takes pages back. What was in them is gone. Answers how many pages that were, and how many of them had been there.
    pub(crate) fn release(&mut self, first: u32, count: u32) -> (u32, u32) {
        let end = first.saturating_add(count).min(self.page_count());
        let count = end.saturating_sub(first);
        self.settle();
        self.free.give(first, count);
        let Some(ArenaPages { words, start, there, .. }) = &self.memory else { return (count, 0) };
        let mut emptied = 0;
        for page in first..end {
            if !there.clear(page as usize) {
                continue; // it takes no memory, and is not to take any now
            }
            emptied += 1; // at most as many as there are
            let first = start / 8 + page as usize * PAGE_WORDS;
            for word in words.get(first..first + PAGE_WORDS).unwrap_or_default() {
                word.store(0, Ordering::Relaxed);
            }
        }
        (count, emptied)
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
        let ArenaPages { words, start, there, .. } = self.memory_of(len).ok_or(Errno::ENOMEM)?;
        let view = SharedMemory::heap_part(words, start, memory.len, memory.writable);
        let view = view.ok_or(Errno::ENOMEM)?.with_touched(there);
        self.place.get_or_insert((view.address() as u64, len));
        Ok(view)
    }

    fn pages(&mut self) -> Option<&mut Arena> {
        Some(self)
    }

    fn pieces(&self) -> usize {
        let pages = self.memory.as_ref().map_or(0, |memory| memory.there.how_many());
        pages.saturating_mul(PAGE_SIZE as usize)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn shared_words(&self) -> Vec<Words> {
        let memory = self.memory.iter();
        memory.flat_map(|memory| [memory.words.clone(), memory.there.words()]).collect()
    }
}

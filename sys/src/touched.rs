//! Which pages of memory were touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which pages of some memory are there, because someone touched them or asked for them: what a page table tells a kernel,
/// for the arenas of simulated ones. Pages have 4096 bytes.
#[derive(Debug)]
pub struct TouchedPages {
    /// A bit for each page, and in the last word how many of them are set: where the words are put back, so is their number.
    words: Arc<[AtomicU64]>,
    count: usize,
    /// Those that were touched and not yet heard of.
    new: Arc<[AtomicU64]>,
    any_new: AtomicBool,
}

const PAGE: usize = 4096;

impl TouchedPages {
    /// So many pages of which none is there.
    pub fn new(count: usize) -> TouchedPages {
        let bits = count.div_ceil(64);
        TouchedPages {
            words: crate::SharedMemory::zeroed_words(bits + 1),
            count,
            new: crate::SharedMemory::zeroed_words(bits),
            any_new: AtomicBool::new(false),
        }
    }

    /// Whether all pages of a range of bytes are there.
    #[inline]
    pub fn has(&self, at: usize, len: usize) -> bool {
        let Some(last) = at.checked_add(len.max(1) - 1) else { return false };
        (at / PAGE..=last / PAGE).all(|page| self.is(page))
    }

    #[inline]
    fn is(&self, page: usize) -> bool {
        self.word(page).is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 != 0)
    }

    /// The word with the bit of a page.
    #[inline]
    fn word(&self, page: usize) -> Option<&AtomicU64> {
        self.words.get(page / 64).filter(|_| page < self.count)
    }

    fn set_count(&self) -> Option<&AtomicU64> {
        self.words.last()
    }

    /// Notes that a range of bytes was accessed.
    pub fn touch(&self, at: usize, len: usize) {
        let Some(last) = len.checked_sub(1).and_then(|rest| at.checked_add(rest)) else { return };
        for page in at / PAGE..=last / PAGE {
            if page < self.count && !self.is(page) {
                self.set(page);
                if let Some(word) = self.new.get(page / 64) {
                    word.fetch_or(1 << (page % 64), Ordering::Relaxed);
                }
                self.any_new.store(true, Ordering::Release);
            }
        }
    }

    /// Says that a page is there.
    pub fn set(&self, page: usize) {
        let bit = 1 << (page % 64);
        if let Some(word) = self.word(page)
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
            && let Some(count) = self.set_count()
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that a page is not there any more. Answers whether it was.
    pub fn clear(&self, page: usize) -> bool {
        let bit = 1 << (page % 64);
        let was = self.word(page).is_some_and(|word| word.fetch_and(!bit, Ordering::Relaxed) & bit != 0);
        if let Some(count) = self.set_count().filter(|_| was) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        was
    }

    /// How many pages are there.
    pub fn how_many(&self) -> usize {
        self.set_count().map_or(0, |count| count.load(Ordering::Relaxed) as usize)
    }

    /// Calls `each` with every page that was touched since the last time.
    pub fn each_new(&self, mut each: impl FnMut(usize)) {
        if !self.any_new.swap(false, Ordering::Acquire) {
            return;
        }
        for (nth, word) in self.new.iter().enumerate() {
            // Most are zero, and reading takes less than writing.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::Relaxed);
            while bits != 0 {
                each(nth * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1; // it is not zero
            }
        }
    }

    /// The words that tell which pages are there, for snapshots.
    pub fn words(&self) -> Arc<[AtomicU64]> {
        self.words.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_by_touch_and_are_told_of_once() {
        let pages = TouchedPages::new(70);
        assert!(!pages.has(0, 1));
        pages.touch(4095, 2);
        pages.touch(69 * PAGE, 10 * PAGE);
        pages.touch(5, 0);
        pages.set(3);
        let mut new = Vec::new();
        pages.each_new(|page| new.push(page));
        assert_eq!(new, [0, 1, 69]);
        pages.each_new(|page| panic!("{page} was told of"));
        assert!(pages.has(0, 2 * PAGE) && pages.has(3 * PAGE, 8) && !pages.has(PAGE, PAGE + 1));
        assert!(!pages.has(69 * PAGE + 4090, 8) && !pages.has(usize::MAX, 8));
        assert_eq!(pages.how_many(), 4);
        let before: Vec<u64> = pages.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
        assert!(pages.clear(1) && !pages.clear(1) && !pages.clear(1000));
        assert_eq!(pages.how_many(), 3);
        assert!(!pages.has(PAGE, 1));
        pages.touch(PAGE, 1);
        pages.each_new(|page| assert_eq!(page, 1));
        pages.set(1);
        pages.set(68);
        assert_eq!(pages.how_many(), 5);
        pages.words().iter().zip(before).for_each(|(word, before)| word.store(before, Ordering::Relaxed));
        assert_eq!(pages.how_many(), 4);
    }
}

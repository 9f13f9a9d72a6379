//! What a snapshot keeps of a map.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::elements::{Elements, Words};
use super::ring::PAGE_WORDS;
use super::{Map, State};
use crate::object::Object;

/// Words that are kept together, or left out where all of them are zero.
const PAGE: usize = 512;

/// The contents of a map at one moment.
#[derive(Debug)]
pub(crate) struct SavedMap {
    frozen: bool,
    /// Shares its words with the map.
    elements: Mutex<Box<dyn Elements>>,
    words: Vec<SavedWords>,
}

/// Words, and what they held. They are written back in place: programs, mappings and timers keep what they point to.
#[derive(Debug)]
struct SavedWords {
    words: Words,
    /// The pages that were not zero, by where they start.
    pages: Vec<(usize, Box<[u64]>)>,
}

impl SavedWords {
    fn new(words: Words) -> SavedWords {
        let mut pages = Vec::new();
        for (start, page) in (0..).step_by(PAGE).zip(words.chunks(PAGE)) {
            let held: Box<[u64]> = page.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            if held.iter().any(|&word| word != 0) {
                pages.push((start, held));
            }
        }
        SavedWords { words, pages }
    }

    fn write_back(&self) {
        let mut pages = self.pages.iter().peekable();
        for (start, page) in (0..).step_by(PAGE).zip(self.words.chunks(PAGE)) {
            match pages.next_if(|(at, _)| *at == start) {
                Some((_, held)) => {
                    page.iter().zip(held).for_each(|(word, &held)| word.store(held, Ordering::Relaxed))
                }
                // What was never touched takes no memory, and is not to take any now.
                None => page
                    .iter()
                    .filter(|word| word.load(Ordering::Relaxed) != 0)
                    .for_each(|word| word.store(0, Ordering::Relaxed)),
            }
        }
    }
}

impl Map {
    /// Keeps what the map holds now.
    pub(crate) fn save(&self) -> SavedMap {
        let state = self.state();
        let words = state.elements.shared_words().into_iter().map(SavedWords::new).collect();
        SavedMap { frozen: state.frozen, elements: Mutex::new(state.elements.boxed()), words }
    }

    /// Whether [`restore`](Map::restore) can do it, or why not.
    pub(crate) fn can_restore(&self, saved: &SavedMap) -> Result<(), &'static str> {
        let mut kept = saved.elements.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.state().elements.ring(), kept.ring()) {
            // Its words are those of the other one, so what was unread is told by what was kept of them.
            (Some(now), Some(_)) => match saved.words.as_slice() {
                [memory] if now.is_held() => now.can_unread(memory.word(0), memory.word(PAGE_WORDS)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Gives the map what it held then. Answers whether it is a ring that holds records now.
    pub(crate) fn restore(&self, saved: &SavedMap) -> bool {
        let mut state = self.state();
        let State { frozen, elements, .. } = &mut *state;
        *frozen = saved.frozen;
        if let Some(ring) = elements.ring()
            && ring.is_held()
        {
            // A reader knows where it is. What it has not read since then it is not to find.
            if let [memory] = saved.words.as_slice()
                && !ring.is_at(memory.word(0), memory.word(PAGE_WORDS))
            {
                ring.discard_unread();
            }
            return ring.available().is_ok_and(|bytes| bytes > 0);
        }
        let mut restored = saved.elements.lock().unwrap_or_else(PoisonError::into_inner).boxed();
        saved.words.iter().for_each(SavedWords::write_back);
        if let Some(ring) = restored.ring() {
            ring.forget_holder();
        }
        *elements = restored;
        self.settle(&state);
        let State { elements, .. } = &mut *state;
        elements.ring().is_some_and(|ring| ring.available().is_ok_and(|bytes| bytes > 0))
    }

    /// The objects that it keeps alive.
    pub(crate) fn refers_to(&self) -> Vec<Object> {
        let types = self.btf.iter().map(|types| Object::Btf(Arc::clone(&types.btf)));
        types.chain(self.state().elements.held()).collect()
    }
}

impl SavedWords {
    /// What a word held.
    fn word(&self, at: usize) -> u64 {
        let page = self.pages.iter().find(|(start, _)| *start == at - at % PAGE);
        page.and_then(|(_, held)| held.get(at % PAGE)).copied().unwrap_or(0)
    }
}

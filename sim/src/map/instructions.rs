//! Places of a program's instructions (`BPF_MAP_TYPE_INSN_ARRAY`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skep_asm::Insn;
use skep_sys::abi::{Errno, MapType};

use super::elements::{Elements, Resolve, copy, index, next_index};
use super::{EXIST, Map, NOEXIST};

/// Size of `struct bpf_insn_array_value`: the index that user space writes, and what the kernel makes of it.
const VALUE: usize = 16;

/// The indexes that user space wrote, those that are not 0.
#[derive(Debug)]
pub(crate) struct Instructions {
    max_entries: u32,
    original: HashMap<u32, u32>,
    /// Whether a program has it. A map is for one, and for no other when that is gone.
    used: Arc<AtomicBool>,
    /// Whether there was one, which tells where its instructions went: nowhere here, where none are changed.
    xlated: bool,
}

/// A map of instructions that is for the program that is being loaded.
#[derive(Debug)]
pub(crate) struct PlacesHold {
    used: Arc<AtomicBool>,
    kept: bool,
}

impl PlacesHold {
    /// The program was loaded, so that it has the map.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for PlacesHold {
    fn drop(&mut self) {
        if !self.kept {
            self.used.store(false, Ordering::Relaxed);
        }
    }
}

impl Instructions {
    pub(super) fn new(max_entries: u32) -> Self {
        Instructions { max_entries, original: HashMap::new(), used: Arc::default(), xlated: false }
    }

    /// All indexes, once each and ascending.
    fn places(&self) -> BTreeSet<usize> {
        let mut places: BTreeSet<usize> = self.original.values().map(|place| *place as usize).collect();
        if self.original.len() < self.max_entries as usize {
            places.insert(0);
        }
        places
    }

    /// Takes it for a program (`bpf_insn_array_init`).
    fn hold(&mut self, insns: &[Insn]) -> Result<PlacesHold, Errno> {
        let begins = |place: usize| {
            let before = place.checked_sub(1).and_then(|before| insns.get(before));
            place < insns.len() && !before.is_some_and(Insn::is_ld_imm64)
        };
        if !self.places().into_iter().all(begins) {
            return Err(Errno::EINVAL);
        }
        if self.used.swap(true, Ordering::Relaxed) {
            return Err(Errno::EBUSY);
        }
        self.xlated = true;
        Ok(PlacesHold { used: self.used.clone(), kept: false })
    }
}

impl Map {
    /// Takes a map of instructions for a program with these. None for other maps.
    pub(crate) fn hold_places(&self, insns: &[Insn]) -> Result<Option<PlacesHold>, Errno> {
        if self.shape.kind != MapType::INSN_ARRAY {
            return Ok(None);
        }
        let mut state = self.state();
        if !state.frozen {
            return Err(Errno::EINVAL);
        }
        state.elements.instructions().map(|places| places.hold(insns)).transpose()
    }

    /// Where a map of instructions leads, ascending. None for other maps.
    pub(crate) fn jump_table(&self) -> Option<Vec<usize>> {
        let mut state = self.state();
        Some(state.elements.instructions()?.places().into_iter().collect())
    }

    /// The slot that the element at an offset of a map of instructions has, where each takes eight bytes.
    pub(crate) fn table_entry(&self, at: usize) -> Option<u32> {
        let index = u32::try_from(at / 8)
            .ok()
            .filter(|index| at.is_multiple_of(8) && *index < self.shape.max_entries)?;
        Some(self.state().elements.instructions()?.original.get(&index).copied().unwrap_or(0))
    }
}

impl Elements for Instructions {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        let original = self.original.get(&index).copied().unwrap_or(0);
        let mut found = [0; VALUE];
        found[..4].copy_from_slice(&original.to_ne_bytes()); // of 16 bytes
        if self.xlated {
            found[4..8].copy_from_slice(&original.to_ne_bytes()); // of 16 bytes
        }
        copy(value, &found)
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, _: Resolve<'_>) -> Result<(), Errno> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags == NOEXIST {
            return Err(Errno::EEXIST);
        }
        let [written, xlated, jitted, _] = *value.as_chunks::<4>().0 else { return Err(Errno::EFAULT) };
        if xlated != [0; 4] || jitted != [0; 4] {
            return Err(Errno::EINVAL);
        }
        self.original.insert(index, u32::from_ne_bytes(written));
        Ok(())
    }

    fn delete(&mut self, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn instructions(&mut self) -> Option<&mut Instructions> {
        Some(self)
    }

    fn boxed(&self) -> Box<dyn Elements> {
        let used = Arc::new(AtomicBool::new(self.used.load(Ordering::Relaxed)));
        Box::new(Instructions { used, original: self.original.clone(), ..*self })
    }
}

use std::fmt;
use std::iter::FusedIterator;

use skep_sys::abi::UpdateFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::error::MapError;
use super::handle::Map;
use super::kinds::{INSTRUCTION_ARRAY, view};
use super::plain::PlainData;

/// Where an instruction of a program is (`struct bpf_insn_array_value`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InstructionPlace {
    /// Its index in the program as it was loaded.
    pub original: u32,
    /// Its index in the program as the verifier left it; `u32::MAX` when it is gone.
    pub xlated: u32,
    /// Its offset in bytes in the compiled program; 0 when it is not compiled.
    pub jitted: u32,
    padding: u32,
}

impl InstructionPlace {
    /// The instruction with this index in the program as it will be loaded; the rest is for the kernel to fill in.
    pub fn of(original: u32) -> InstructionPlace {
        InstructionPlace { original, ..InstructionPlace::default() }
    }
}

impl PlainData for InstructionPlace {
    const SHAPE: &'static super::Layout = &super::Layout {
        name: "InstructionPlace",
        size: size_of::<Self>(),
        // Objects declare it as bytes or words; it is the kernel's own structure, so its size tells.
        kind: super::LayoutKind::Opaque,
    };
}

/// Instructions of a program, and where they are once it is loaded (`BPF_MAP_TYPE_INSN_ARRAY`, Linux 6.19). Made by
/// [`Map::typed`].
///
/// It is for one program. Before that is loaded, the array is filled with indexes of its instructions and frozen; the
/// program refers to the map, to jump to what it holds or only to be told. Afterwards the other fields are filled in.
///
/// ```
/// use skep::map::{InstructionArray, InstructionPlace, Map, MapErrorKind};
/// use skep::sim::{Features, SimKernel};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// // The simulated kernel is a 6.18 unless it is told otherwise.
/// let newer = SimKernel::builder().features(Features::default() | Features::INSN_ARRAY);
/// let kernel = skep::Kernel::new(newer.build().unwrap());
/// let map = Map::create(&kernel, &MapCreate::new(MapType::INSN_ARRAY, 4, 16, 2))?;
/// let marks: InstructionArray = map.typed()?;
/// marks.set(0, 5)?;
/// marks.set(1, 9)?;
/// map.freeze()?;
/// assert_eq!(marks.get(1)?, Some(InstructionPlace::of(9)));
/// assert_eq!(marks.set(1, 10).unwrap_err().kind(), MapErrorKind::Denied);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_INSN_ARRAY")]
pub struct InstructionArray {
    map: Map,
}

view!(InstructionArray, INSTRUCTION_ARRAY, |map| INSTRUCTION_ARRAY.check::<u32, InstructionPlace>(map));

impl InstructionArray {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the instruction of the element at `index` is; none outside of the array.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, index: u32) -> Result<Option<InstructionPlace>, MapError> {
        let mut place = InstructionPlace::default();
        let found = self.map.lookup_into(&index.to_ne_bytes(), place.as_mut_bytes(), UpdateFlags::empty())?;
        Ok(found.then_some(place))
    }

    /// Says which instruction of the program that will be loaded the element at `index` is for.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array;
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn set(&self, index: u32, instruction: u32) -> Result<(), MapError> {
        let place = InstructionPlace::of(instruction);
        self.map.update(&index.to_ne_bytes(), place.as_bytes(), UpdateFlags::empty())
    }

    /// All elements in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> InstructionArrayIter<'_> {
        InstructionArrayIter { view: self, index: 0 }
    }
}

impl<'a> IntoIterator for &'a InstructionArray {
    type Item = Result<InstructionPlace, MapError>;
    type IntoIter = InstructionArrayIter<'a>;

    fn into_iter(self) -> InstructionArrayIter<'a> {
        self.iter()
    }
}

/// The elements of an [`InstructionArray`], from [`InstructionArray::iter`].
#[derive(Debug)]
pub struct InstructionArrayIter<'a> {
    view: &'a InstructionArray,
    index: u32,
}

impl Iterator for InstructionArrayIter<'_> {
    type Item = Result<InstructionPlace, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.view.len() {
            return None;
        }
        let place = self.view.get(self.index).transpose();
        self.index = if let Some(Ok(_)) = place { self.index + 1 } else { u32::MAX };
        place
    }
}

impl FusedIterator for InstructionArrayIter<'_> {}

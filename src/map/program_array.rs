use std::fmt;
use std::iter::FusedIterator;

use skep_sys::LoadedProgram;
use skep_sys::abi::{ProgId, UpdateFlags};

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::kinds::{PROGRAM_ARRAY, view};

/// Programs to jump to with `bpf_tail_call` (`BPF_MAP_TYPE_PROG_ARRAY`, Linux 4.2). Made by [`Map::typed`].
///
/// All programs in it are of one type: that of the first one, or of the program that uses it. A jump to an empty element
/// goes on behind the call. User space reads ids of programs (Linux 4.16).
///
/// The kernel empties it when the last descriptor and pin are gone, even while programs use it: keep this handle, or the
/// object, or a pin.
///
/// ```
/// use skep::map::{Map, ProgramArray};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
/// use skep::{Loader, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kernel = skep::sim::kernel();
/// let object = Loader::new(&kernel).load(&Spec::open("examples/packet_counter.bpf.o")?)?;
/// let counter = object.program("count_packets")?;
///
/// let stages: ProgramArray = Map::create(&kernel, &MapCreate::new(MapType::PROG_ARRAY, 4, 4, 8))?.typed()?;
/// stages.set(2, counter)?;
/// assert_eq!(stages.get(2)?, Some(counter.info()?.id));
/// assert_eq!(stages.iter().count(), 1);
/// assert!(stages.remove(2)?);
/// assert_eq!(stages.get(2)?, None);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BPF_MAP_TYPE_PROG_ARRAY")]
pub struct ProgramArray {
    map: Map,
}

view!(ProgramArray, PROGRAM_ARRAY, |map| PROGRAM_ARRAY.check_fds::<u32>(map));

impl ProgramArray {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a program at `index`: a [`Program`](crate::Program), or one that was opened. Programs see it at once.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array,
    /// [`Invalid`](super::MapErrorKind::Invalid) when the program is of another type than those in it, or may not be jumped
    /// to; or when the program is another kernel's.
    pub fn set(&self, index: u32, program: impl AsRef<LoadedProgram>) -> Result<(), MapError> {
        let (key, flags) = (index.to_ne_bytes(), UpdateFlags::empty());
        let result = self.map.as_map_fd().update_program(&key, program.as_ref(), flags);
        result.map_err(|error| self.map.failed(MapOperation::Update, error))
    }

    /// Empties the element at `index`. Answers whether a program was there.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(&index.to_ne_bytes())
    }

    /// The id of the program at `index`; none for an empty element, and outside of the array.
    /// [`Kernel::prog_by_id`](skep_sys::Kernel::prog_by_id) opens it.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Unsupported`](super::MapErrorKind::Unsupported) before Linux 4.16.
    pub fn get(&self, index: u32) -> Result<Option<ProgId>, MapError> {
        let mut id = [0; 4];
        let found = self.map.lookup_into(&index.to_ne_bytes(), &mut id, UpdateFlags::empty())?;
        Ok(found.then_some(ProgId(u32::from_ne_bytes(id))))
    }

    /// The elements that are not empty: index and id of the program. It ends after the first error.
    pub fn iter(&self) -> ProgramArrayIter<'_> {
        ProgramArrayIter { view: self, index: 0 }
    }
}

impl<'a> IntoIterator for &'a ProgramArray {
    type Item = Result<(u32, ProgId), MapError>;
    type IntoIter = ProgramArrayIter<'a>;

    fn into_iter(self) -> ProgramArrayIter<'a> {
        self.iter()
    }
}

/// The programs of a [`ProgramArray`], from [`ProgramArray::iter`].
#[derive(Debug)]
pub struct ProgramArrayIter<'a> {
    view: &'a ProgramArray,
    index: u32,
}

impl Iterator for ProgramArrayIter<'_> {
    type Item = Result<(u32, ProgId), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.index < self.view.len() {
            let index = self.index;
            match self.view.get(index) {
                Ok(id) => {
                    self.index += 1; // it is below the length
                    if let Some(id) = id {
                        return Some(Ok((index, id)));
                    }
                }
                Err(error) => {
                    self.index = u32::MAX;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl FusedIterator for ProgramArrayIter<'_> {}

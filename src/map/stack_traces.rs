use std::fmt;
use std::iter::FusedIterator;

use skep_sys::abi::{MapFlags, UpdateFlags};

use super::error::{MapError, MapPart};
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{STACK_TRACES, check_part, view};

/// Size of `struct bpf_stack_build_id`.
const BUILD_ID_FRAME: usize = 32;

/// Stacks that programs noted with `bpf_get_stackid`, by the number that this gave them (`BPF_MAP_TYPE_STACK_TRACE`,
/// Linux 4.6). Made by [`Map::typed`].
///
/// A number is a hash of the stack: the same stack has the same number, and another one may take its place, or be refused,
/// by the flags of that call. A [`Symbolizer`](crate::symbols::Symbolizer) names the addresses. On simulated kernels
/// [`SimKernel::put_stack`](skep_sim::SimKernel::put_stack) puts stacks in.
///
/// ```
/// use skep::Kernel;
/// use skep::map::{Map, StackTraces};
/// use skep::sim::SimKernel;
/// use skep::symbols::Symbolizer;
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let table = "ffffffff81000000 T do_exit\nffffffff81000100 T do_syscall_64\n";
/// let sim = SimKernel::builder().symbols(table).build()?;
/// let kernel = Kernel::new(sim.clone());
/// let map = Map::create(&kernel, &MapCreate::new(MapType::STACK_TRACE, 4, 127 * 8, 1024))?;
/// sim.put_stack(map.id()?, 7, &[0xffff_ffff_8100_0010, 0xffff_ffff_8100_0122])?;
///
/// let stacks: StackTraces = map.typed()?;
/// let stack = stacks.get(7)?.expect("it was put there");
/// let names = Symbolizer::new(&kernel).kernel_stack(&stack)?;
/// let names: Vec<_> = names.into_iter().filter_map(|(_, symbol)| symbol?.name).collect();
/// assert_eq!(names, ["do_exit", "do_syscall_64"]);
/// assert!(stacks.remove(7)?);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "BPF_MAP_TYPE_STACK_TRACE")]
pub struct StackTraces {
    map: Map,
}

view!(StackTraces, STACK_TRACES, |map| {
    STACK_TRACES.check_kind(map)?;
    check_part::<u32>(map, MapPart::Key)
});

impl StackTraces {
    /// How many stacks it can hold.
    pub fn capacity(&self) -> u32 {
        self.map.max_entries()
    }

    /// How many frames of a stack it keeps; those further out are cut off.
    pub fn depth(&self) -> usize {
        self.map.value_len() / if self.has_build_ids() { BUILD_ID_FRAME } else { size_of::<u64>() }
    }

    /// Whether frames of processes are noted by the build id of their file
    /// ([`MapFlags::STACK_BUILD_ID`], Linux 4.17).
    pub fn has_build_ids(&self) -> bool {
        self.map.shape().flags.contains(MapFlags::STACK_BUILD_ID)
    }

    /// The stack with this number, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, id: u32) -> Result<Option<StackTrace>, MapError> {
        let mut trace = StackTrace::default();
        Ok(self.get_into(id, &mut trace)?.then_some(trace))
    }

    /// As [`get`](StackTraces::get), into a stack whose memory is used again. Answers whether there is one; if not, what
    /// is in `trace` is nobody's.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get_into(&self, id: u32, trace: &mut StackTrace) -> Result<bool, MapError> {
        trace.bytes.resize(self.map.value_len(), 0);
        trace.build_ids = self.has_build_ids();
        self.map.lookup_into(&id.to_ne_bytes(), &mut trace.bytes, UpdateFlags::empty())
    }

    /// Removes the stack with this number, so that it makes room. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Full`](super::MapErrorKind::Full) for a number beyond the
    /// [capacity](StackTraces::capacity).
    pub fn remove(&self, id: u32) -> Result<bool, MapError> {
        self.map.delete(&id.to_ne_bytes())
    }

    /// The numbers of all stacks, ascending; see [`Keys`] for what holds while the map changes.
    pub fn ids(&self) -> Keys<'_, u32> {
        Keys::new(&self.map)
    }

    /// All stacks with their numbers, with the guarantees of [`Keys`]; one that goes away before it is read is left out.
    pub fn iter(&self) -> StackTracesIter<'_> {
        StackTracesIter { view: self, ids: self.ids() }
    }
}

impl<'a> IntoIterator for &'a StackTraces {
    type Item = Result<(u32, StackTrace), MapError>;
    type IntoIter = StackTracesIter<'a>;

    fn into_iter(self) -> StackTracesIter<'a> {
        self.iter()
    }
}

/// The stacks of a [`StackTraces`], from [`StackTraces::iter`].
#[derive(Debug)]
pub struct StackTracesIter<'a> {
    view: &'a StackTraces,
    ids: Keys<'a, u32>,
}

impl Iterator for StackTracesIter<'_> {
    type Item = Result<(u32, StackTrace), MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let id = match self.ids.next()? {
                Ok(id) => id,
                Err(error) => return Some(Err(error)),
            };
            match self.view.get(id) {
                Ok(Some(trace)) => return Some(Ok((id, trace))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl FusedIterator for StackTracesIter<'_> {}

/// A stack: where it was, and where each call returns to, from the innermost.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StackTrace {
    /// As the kernel writes it.
    bytes: Vec<u8>,
    build_ids: bool,
}

/// Where a stack was, or where a call returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StackFrame {
    /// An address.
    Address(u64),
    /// A place in a file, which any process may have mapped anywhere.
    BuildId {
        /// The build id of the file, as linkers write it, with zeroes behind a shorter one.
        build_id: [u8; 20],
        /// Offset in the file.
        offset: u64,
    },
}

impl StackTrace {
    /// A stack of what a kernel or a program wrote: `u64` addresses (`bpf_get_stack`), or `struct bpf_stack_build_id`s with
    /// `BPF_F_USER_BUILD_ID`. What is no whole frame at the end is left out.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, build_ids: bool) -> StackTrace {
        StackTrace { bytes: bytes.into(), build_ids }
    }

    /// The frames, from the innermost. They end with the first empty one.
    pub fn frames(&self) -> impl Iterator<Item = StackFrame> + '_ {
        let size = if self.build_ids { BUILD_ID_FRAME } else { size_of::<u64>() };
        self.bytes.chunks_exact(size).map_while(move |frame| match self.build_ids {
            true => build_id_frame(frame),
            false => number(frame).filter(|&address| address != 0).map(StackFrame::Address),
        })
    }
}

/// `struct bpf_stack_build_id`: what it is, the build id, an offset or an address.
fn build_id_frame(frame: &[u8]) -> Option<StackFrame> {
    const VALID: u32 = 1;
    const ADDRESS: u32 = 2;
    let (status, rest) = frame.split_first_chunk()?;
    let (build_id, place) = rest.split_first_chunk()?;
    let place = number(place)?;
    match u32::from_ne_bytes(*status) {
        VALID => Some(StackFrame::BuildId { build_id: *build_id, offset: place }),
        ADDRESS => Some(StackFrame::Address(place)),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

impl fmt::Debug for StackTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{StackFrame, StackTrace};

    #[test]
    fn frames_end_with_an_empty_one() {
        let addresses = [1u64, 2, 0, 3].map(u64::to_ne_bytes).concat();
        let trace = StackTrace::from_bytes(addresses, false);
        let frames: Vec<_> = trace.frames().collect();
        assert_eq!(frames, [StackFrame::Address(1), StackFrame::Address(2)]);
        assert_eq!(format!("{trace:?}"), "[Address(1), Address(2)]");
        assert_eq!(StackTrace::from_bytes([1; 7], false).frames().count(), 0);
    }

    #[test]
    fn frames_of_files_have_build_ids() {
        let frame = |status: u32, place: u64| {
            let mut bytes = status.to_ne_bytes().to_vec();
            bytes.extend([7; 20]);
            bytes.extend(place.to_ne_bytes());
            bytes
        };
        let bytes = [frame(1, 5), frame(2, 6), frame(0, 0), frame(1, 9)].concat();
        let frames: Vec<_> = StackTrace::from_bytes(bytes, true).frames().collect();
        assert_eq!(frames, [StackFrame::BuildId { build_id: [7; 20], offset: 5 }, StackFrame::Address(6)]);
    }
}

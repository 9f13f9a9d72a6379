use skep_sys::abi::UpdateFlags;

use crate::map::MapError;

/// A map without keys that values are put into: a queue, a stack, a bloom filter.
///
/// ```
/// use skep::map::traits::{Pop, Push};
/// use skep::map::{MapErrorKind, memory};
/// use skep::sys::abi::UpdateFlags;
///
/// let jobs = memory::Queue::<u32>::new(2)?;
/// jobs.push(&1, UpdateFlags::empty())?;
/// jobs.push(&2, UpdateFlags::empty())?;
/// assert_eq!(jobs.push(&3, UpdateFlags::empty()).unwrap_err().kind(), MapErrorKind::Full);
/// jobs.push(&3, UpdateFlags::EXIST)?; // the oldest makes room
/// assert_eq!((jobs.peek()?, jobs.pop()?, jobs.pop()?, jobs.pop()?), (Some(2), Some(2), Some(3), None));
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub trait Push<V: ?Sized> {
    /// Puts a value in (`BPF_MAP_UPDATE_ELEM`). With [`UpdateFlags::EXIST`] the oldest value of a full queue or stack
    /// makes room.
    ///
    /// # Errors
    /// Of kind [`Full`](crate::map::MapErrorKind::Full); [`Invalid`](crate::map::MapErrorKind::Invalid) for flags
    /// that the kind does not take; [`Denied`](crate::map::MapErrorKind::Denied) for a frozen map.
    fn push(&self, value: &V, flags: UpdateFlags) -> Result<(), MapError>;
}

/// A map without keys that values are taken out of: the oldest of a queue, the newest of a stack.
pub trait Pop<V> {
    /// Takes out the next value, if there is one (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`).
    ///
    /// # Errors
    /// Of kind [`Denied`](crate::map::MapErrorKind::Denied) for a frozen map.
    fn pop(&self) -> Result<Option<V>, MapError>;

    /// The next value, which stays (`BPF_MAP_LOOKUP_ELEM`).
    ///
    /// # Errors
    /// Of kind [`Denied`](crate::map::MapErrorKind::Denied) for a map that was opened for writing.
    fn peek(&self) -> Result<Option<V>, MapError>;
}

/// A set that can be asked whether it has a value: a bloom filter.
pub trait Contains<V: ?Sized> {
    /// Whether the value was put in (`BPF_MAP_LOOKUP_ELEM`). A bloom filter can say yes of a value that was not, and
    /// never no of one that was.
    ///
    /// # Errors
    /// Of kind [`Denied`](crate::map::MapErrorKind::Denied) for a map that was opened for writing.
    fn contains(&self, value: &V) -> Result<bool, MapError>;
}

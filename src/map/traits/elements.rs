use std::ops::ControlFlow;

use skep_sys::abi::UpdateFlags;

use crate::map::MapError;

/// Elements that can be looked up by their keys.
///
/// ```
/// use skep::map::memory;
/// use skep::map::traits::{MapRead, MapWrite};
/// use skep::sys::abi::UpdateFlags;
///
/// let names = memory::HashMap::<u32, [u8; 4]>::new(8)?;
/// names.insert(&80, b"http", UpdateFlags::empty())?;
/// let names: &dyn MapRead<u32, [u8; 4]> = &names;
/// assert_eq!(names.get(&80)?.as_ref(), Some(b"http"));
/// assert!(!names.contains(&81)?);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub trait MapRead<K, V> {
    /// The value at `key`, if there is one (`BPF_MAP_LOOKUP_ELEM`). In a trie it is that of the longest prefix that
    /// holds `key`; in an array there is none outside of its indexes.
    ///
    /// # Errors
    /// The map cannot be read: of kind [`Denied`](crate::map::MapErrorKind::Denied) when it was opened for writing.
    fn get(&self, key: &K) -> Result<Option<V>, MapError>;

    /// Whether there is a value at `key`.
    ///
    /// # Errors
    /// As [`get`](MapRead::get).
    fn contains(&self, key: &K) -> Result<bool, MapError> {
        Ok(self.get(key)?.is_some())
    }
}

/// Elements that can be written.
pub trait MapWrite<K, V> {
    /// Writes the value at `key` (`BPF_MAP_UPDATE_ELEM`): whether or not there is one, unless the flags say otherwise.
    ///
    /// # Errors
    /// Of kind [`Full`](crate::map::MapErrorKind::Full), also for an index outside of an array;
    /// [`Exists`](crate::map::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`], always for arrays;
    /// [`NotFound`](crate::map::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Denied`](crate::map::MapErrorKind::Denied) for a frozen map;
    /// [`Length`](crate::map::MapErrorKind::Length) for values of another number of CPUs;
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for flags that do not belong together.
    fn insert(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), MapError>;
}

/// Elements that can be removed.
pub trait MapRemove<K> {
    /// Removes the element at `key` (`BPF_MAP_DELETE_ELEM`). Answers whether there was one; of a slot for an `AF_XDP` socket
    /// no kernel tells, and it answers `true`. A trie removes the very prefix, and no other that holds it.
    ///
    /// # Errors
    /// Of kind [`Denied`](crate::map::MapErrorKind::Denied) for a frozen map.
    fn remove(&self, key: &K) -> Result<bool, MapError>;
}

/// Elements that can be gone through.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use skep::map::memory;
/// use skep::map::traits::{MapIter, MapWrite};
/// use skep::sys::abi::UpdateFlags;
///
/// let totals = memory::Array::<u64>::new(3)?;
/// totals.insert(&1, &20, UpdateFlags::empty())?;
/// let mut first = None;
/// totals.visit(&mut |index, total| {
///     if total == 0 {
///         return ControlFlow::Continue(());
///     }
///     first = Some(index);
///     ControlFlow::Break(())
/// })?;
/// assert_eq!(first, Some(1));
/// assert_eq!(totals.to_vec()?, [(0, 0), (1, 20), (2, 0)]);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub trait MapIter<K, V> {
    /// Calls `each` with every element until it breaks. The order is the kernel's: that of the indexes in arrays,
    /// longer prefixes first in tries, any in hashes.
    ///
    /// `each` may change the map: the element that it was given may go away. For what others change meanwhile the
    /// guarantees of [`Keys`](crate::map::Keys) hold.
    ///
    /// # Errors
    /// Of kind [`IterationAborted`](crate::map::MapErrorKind::IterationAborted) when it began anew because of
    /// concurrent removals, after elements were given.
    fn visit(&self, each: &mut dyn FnMut(K, V) -> ControlFlow<()>) -> Result<(), MapError>;

    /// All elements.
    ///
    /// # Errors
    /// As [`visit`](MapIter::visit).
    fn to_vec(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut elements = Vec::new();
        self.visit(&mut |key, value| {
            elements.push((key, value));
            ControlFlow::Continue(())
        })?;
        Ok(elements)
    }
}

/// Elements that can be taken out in one step.
pub trait MapTake<K, V> {
    /// Removes the element at `key` and answers its value, so that no write of a program is lost in between
    /// (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`, Linux 5.14).
    ///
    /// # Errors
    /// Of kind [`Unsupported`](crate::map::MapErrorKind::Unsupported) on older kernels;
    /// [`Denied`](crate::map::MapErrorKind::Denied) for a frozen map.
    fn take(&self, key: &K) -> Result<Option<V>, MapError>;
}

/// Elements that can all be taken out.
///
/// ```
/// use skep::map::memory;
/// use skep::map::traits::{MapDrain, MapIter, MapWrite};
/// use skep::sys::abi::UpdateFlags;
///
/// let packets = memory::HashMap::<u32, u64>::new(8)?;
/// packets.insert(&1, &10, UpdateFlags::empty())?;
/// packets.insert(&2, &20, UpdateFlags::empty())?;
/// let mut sum = 0;
/// packets.drain_all(&mut |_, count| sum += count)?;
/// assert_eq!(sum, 30);
/// assert_eq!(packets.to_vec()?, []);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub trait MapDrain<K, V> {
    /// Takes out every element that is there and calls `each` with it. Nothing that programs count is lost: what they
    /// write meanwhile is taken or stays.
    ///
    /// # Errors
    /// As [`MapTake::take`] and [`MapIter::visit`]. `each` was called with all that was taken before.
    fn drain_all(&self, each: &mut dyn FnMut(K, V)) -> Result<(), MapError>;
}

/// A table: elements that can be looked up, written, removed and gone through.
///
/// It is there for `dyn MapTable<K, V>`, since a trait object has one trait. Whatever has the four has it.
///
/// ```
/// use std::sync::Arc;
///
/// use skep::map::memory;
/// use skep::map::traits::MapTable;
/// use skep::sys::abi::UpdateFlags;
///
/// let table: Arc<dyn MapTable<u32, u64> + Send + Sync> = Arc::new(memory::HashMap::new(8)?);
/// table.insert(&1, &10, UpdateFlags::NOEXIST)?;
/// assert_eq!(table.get(&1)?, Some(10));
/// assert_eq!(table.to_vec()?, [(1, 10)]);
/// assert!(table.remove(&1)?);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub trait MapTable<K, V>: MapRead<K, V> + MapWrite<K, V> + MapRemove<K> + MapIter<K, V> {}

impl<K, V, M> MapTable<K, V> for M where
    M: MapRead<K, V> + MapWrite<K, V> + MapRemove<K> + MapIter<K, V> + ?Sized
{
}

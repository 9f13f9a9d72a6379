use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{STACK, view};
use super::plain::PlainData;

/// Values of which the last one that came in is the first one out (`BPF_MAP_TYPE_STACK`, Linux 4.20).
/// Made by [`Map::typed`].
///
/// It has no keys, cannot be iterated, and nobody can tell how many values are in it.
///
/// ```
/// use skep::map::{Map, MapErrorKind, Stack};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::STACK, 0, 4, 2))?;
/// let jobs: Stack<u32> = map.typed()?;
/// jobs.push(&1)?;
/// jobs.push(&2)?;
/// assert_eq!(jobs.push(&3).unwrap_err().kind(), MapErrorKind::Full);
/// jobs.push_over(&4)?; // 1, the oldest, makes room
/// assert_eq!(jobs.peek()?, Some(4));
/// assert_eq!(jobs.drain().collect::<Result<Vec<_>, _>>()?, [4, 2]);
/// assert_eq!(jobs.pop()?, None);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_STACK")]
pub struct Stack<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

view!(Stack<V>, STACK, (), V);

impl<V> Stack<V> {
    /// How many values it can hold.
    pub fn capacity(&self) -> u32 {
        self.map.max_entries()
    }
}

impl<V: PlainData> Stack<V> {
    /// Puts a value on top of all others.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Full`](super::MapErrorKind::Full) when it holds as many as it can, and
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn push(&self, value: &V) -> Result<(), MapError> {
        self.map.update(&[], value.as_bytes(), UpdateFlags::empty())
    }

    /// Puts a value on top of all others; where there is no room, the oldest value goes ([`UpdateFlags::EXIST`]).
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn push_over(&self, value: &V) -> Result<(), MapError> {
        self.map.update(&[], value.as_bytes(), UpdateFlags::EXIST)
    }

    /// Takes the newest value out; none from an empty one.
    ///
    /// # Errors
    /// [`MapError::Failed`], of kind [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn pop(&self) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup_and_delete(&[], value.as_mut_bytes(), UpdateFlags::empty())?;
        Ok(found.then_some(value))
    }

    /// The newest value, which stays; none from an empty one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn peek(&self) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        let found = self.map.lookup_into(&[], value.as_mut_bytes(), UpdateFlags::empty())?;
        Ok(found.then_some(value))
    }

    /// Takes values out until there is none, those among them that others put in meanwhile. It ends after the first error.
    /// What is not iterated stays.
    pub fn drain(&self) -> StackDrain<'_, V> {
        StackDrain { view: Some(self) }
    }
}

/// Takes the values out of a [`Stack`]; from [`Stack::drain`].
#[derive(Debug)]
pub struct StackDrain<'a, V> {
    view: Option<&'a Stack<V>>,
}

impl<V: PlainData> Iterator for StackDrain<'_, V> {
    type Item = Result<V, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.view?.pop().transpose();
        if !matches!(value, Some(Ok(_))) {
            self.view = None;
        }
        value
    }
}

impl<V: PlainData> FusedIterator for StackDrain<'_, V> {}

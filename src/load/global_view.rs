use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use skep_sys::{SharedMemory, SharedMemoryError};

use super::object::{Object, ObjectMap};
use crate::error::Error;
use crate::map::{Atomic, MapError, MapLabel, PlainData, shared_memory};

/// A global variable of a loaded object in this process's memory, from [`Object::global_view`]: what is read and written is what
/// programs see, without a call of the kernel.
///
/// It is cheap to clone, and outlives the object. All views of one section share one mapping.
///
/// Integers are read and written in one access each ([`load`](GlobalView::load) and the rest). Values of other types are copied, by at
/// most eight bytes at once: one that others change meanwhile can be half old, half new.
///
/// ```
/// use skep::{Loader, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = Spec::open("examples/packet_counter.bpf.o")?;
/// let object = Loader::new(&skep::sim::kernel()).load(&spec)?;
/// let seen = object.global_view::<u64>("packets_seen")?;
/// seen.fetch_add(3)?;
/// assert_eq!(seen.load()?, 3);
/// assert_eq!(object.global::<u64>("packets_seen")?, 3);
///
/// let constant = object.global_view::<u32>("sample_every")?;
/// assert_eq!(constant.load()?, 1);
/// assert!(constant.store(5).is_err());
/// # Ok(())
/// # }
/// ```
pub struct GlobalView<V> {
    map: MapLabel,
    name: Arc<str>,
    memory: Arc<SharedMemory>,
    at: usize,
    types: PhantomData<fn() -> V>,
}

impl Object {
    /// A view of a global variable in memory that is shared with programs (Linux 5.5, for objects with BTF; variables of an arena
    /// from 6.9).
    ///
    /// `V` must have the variable's size.
    ///
    /// # Errors
    ///
    /// When there is no such variable, its size differs, or its section cannot be mapped: the source says why. Then
    /// [`global`](Object::global) and [`set_global`](Object::set_global) are there.
    pub fn global_view<V: PlainData>(&self, name: &str) -> Result<GlobalView<V>, Error> {
        let (global, _) = self.find_global(name)?;
        let section = self.maps.get(global.map.0).ok_or_else(|| self.no_section(name))?;
        if size_of::<V>() != global.size as usize {
            return Err(Error::global_size(self.name(), global, size_of::<V>()));
        }
        let (memory, at) = match &section.arena {
            Some(arena) => (arena.memory.clone(), arena.contents.saturating_add(global.offset as usize)),
            None => (self.section_memory(section, name)?, global.offset as usize),
        };
        if at.checked_add(size_of::<V>()).is_none_or(|end| end > memory.len()) {
            return Err(Error::global_size(self.name(), global, memory.len()));
        }
        let (map, name) = (section.name.as_str().into(), name.into());
        Ok(GlobalView { map, name, memory, at, types: PhantomData })
    }

    fn no_section(&self, name: &str) -> Error {
        self.missing("map of the variable", name, std::iter::empty())
    }

    /// The one mapping of a section.
    fn section_memory(&self, section: &ObjectMap, name: &str) -> Result<Arc<SharedMemory>, Error> {
        if let Some(memory) = section.memory.get() {
            return Ok(memory.clone());
        }
        let map = section.map.as_ref().ok_or_else(|| self.no_section(name))?;
        let memory = shared_memory(map, !section.role.is_read_only())
            .map_err(|source| Error::global_view(self.name(), name, source))?;
        Ok(section.memory.get_or_init(|| Arc::new(memory)).clone())
    }
}

impl<V> GlobalView<V> {
    /// Name of the variable.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.memory.is_writable()
    }

    fn failed(&self, source: SharedMemoryError) -> MapError {
        MapError::Memory { map: self.map.clone(), source }
    }
}

impl<V: PlainData> GlobalView<V> {
    /// A copy of the value as it is now.
    pub fn get(&self) -> V {
        let mut value = V::new_zeroed();
        // It was checked to be inside of the memory when the view was made.
        let _ = self.memory.read(self.at, value.as_mut_bytes());
        value
    }

    /// Writes the value.
    ///
    /// # Errors
    /// [`MapError::Memory`], of kind [`Denied`](crate::map::MapErrorKind::Denied), for a constant.
    pub fn set(&self, value: &V) -> Result<(), MapError> {
        self.memory.write(self.at, value.as_bytes()).map_err(|source| self.failed(source))
    }
}

impl<V: Atomic> GlobalView<V> {
    /// Reads the number in one access.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn load(&self) -> Result<V, MapError> {
        self.access(|memory, at| V::load(memory, at))
    }

    /// Writes the number in one access.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn store(&self, value: V) -> Result<(), MapError> {
        self.access(|memory, at| value.store(memory, at))
    }

    /// Writes the number and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn swap(&self, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.swap(memory, at))
    }

    /// Adds to the number, which wraps around, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn fetch_add(&self, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_add(memory, at))
    }

    /// Clears the bits of the number that `value` does not have, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn fetch_and(&self, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_and(memory, at))
    }

    /// Sets the bits of the number that `value` has, and answers what was there.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn fetch_or(&self, value: V) -> Result<V, MapError> {
        self.access(|memory, at| value.fetch_or(memory, at))
    }

    /// Writes `new` if `now` is there, in one step. Answers what was there, as an error if it was something else.
    ///
    /// # Errors
    /// [`MapError::Memory`]: of kind [`Denied`](crate::map::MapErrorKind::Denied) for a constant that would have to be written, of kind
    /// [`Invalid`](crate::map::MapErrorKind::Invalid) for a variable that does not lie at a multiple of its size.
    pub fn compare_exchange(&self, now: V, new: V) -> Result<Result<V, V>, MapError> {
        self.access(|memory, at| now.compare_exchange(new, memory, at))
    }

    fn access<T>(
        &self,
        work: impl FnOnce(&SharedMemory, usize) -> Result<T, SharedMemoryError>,
    ) -> Result<T, MapError> {
        work(&self.memory, self.at).map_err(|source| self.failed(source))
    }
}

impl<V> Clone for GlobalView<V> {
    fn clone(&self) -> Self {
        GlobalView {
            map: self.map.clone(),
            name: self.name.clone(),
            memory: self.memory.clone(),
            at: self.at,
            types: PhantomData,
        }
    }
}

impl<V> fmt::Debug for GlobalView<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalView")
            .field("name", &self.name)
            .field("writable", &self.is_writable())
            .finish_non_exhaustive()
    }
}

//! Elements whose keys or values are descriptors.

use std::iter::{FusedIterator, from_fn};
use std::os::fd::AsFd;

use skep_sys::LoadedProgram;
use skep_sys::abi::{ProgId, UpdateFlags};

use super::error::{MapError, MapOperation, MapPart};
use super::handle::Map;
use super::kinds::{ViewKind, check_part};
use super::plain::PlainData;

impl Map {
    /// Puts what a descriptor stands for into a map of sockets, cgroups or perf events (`BPF_MAP_UPDATE_ELEM`). The
    /// map does not need the descriptor any more afterwards.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn update_fd(&self, key: &[u8], value: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        let result = self.as_map_fd().update_fd(key, value.as_fd(), flags);
        result.map_err(|error| self.failed(MapOperation::Update, error))
    }

    /// Reads the value that belongs to what a descriptor stands for, in local storage (`BPF_MAP_LOOKUP_ELEM`). Answers
    /// whether there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn lookup_by_fd(
        &self,
        key: impl AsFd,
        value: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<bool, MapError> {
        let result = self.as_map_fd().lookup_by_fd(key.as_fd(), value, flags);
        self.found(MapOperation::Lookup, result)
    }

    /// Writes the value that belongs to what a descriptor stands for, in local storage (`BPF_MAP_UPDATE_ELEM`).
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn update_by_fd(&self, key: impl AsFd, value: &[u8], flags: UpdateFlags) -> Result<(), MapError> {
        let result = self.as_map_fd().update_by_fd(key.as_fd(), value, flags);
        result.map_err(|error| self.failed(MapOperation::Update, error))
    }

    /// Removes the value that belongs to what a descriptor stands for, in local storage (`BPF_MAP_DELETE_ELEM`).
    /// Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn delete_by_fd(&self, key: impl AsFd) -> Result<bool, MapError> {
        self.found(MapOperation::Delete, self.as_map_fd().delete_by_fd(key.as_fd()))
    }

    /// Writes a number and, where one is given, a program: a value of a map that packets are redirected through.
    pub(super) fn update_target(
        &self,
        key: u32,
        target: u32,
        program: Option<&LoadedProgram>,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        let result = self.as_map_fd().update_target(&key.to_ne_bytes(), target, program, flags);
        result.map_err(|error| self.failed(MapOperation::Update, error))
    }

    /// Reads a number and the program beside it, of a map whose values have 4 or 8 bytes.
    pub(super) fn lookup_target(&self, key: u32) -> Result<Option<(u32, Option<ProgId>)>, MapError> {
        let mut words = [0u32; 2];
        let len = self.value_len();
        let value = zerocopy::IntoBytes::as_mut_bytes(&mut words);
        // A map with longer values is refused by its length.
        let value = value.get_mut(..len).unwrap_or_default();
        let found = self.lookup_into(&key.to_ne_bytes(), value, UpdateFlags::empty())?;
        let [target, program] = words;
        Ok(found.then_some((target, (program != 0).then_some(ProgId(program)))))
    }

    /// The cookie of the socket at `key`, of a map whose values may be too short for one.
    pub(super) fn lookup_cookie(&self, key: &[u8]) -> Result<Option<u64>, MapError> {
        let mut cookie = [0; 8];
        if self.value_len() != cookie.len() {
            return Err(MapError::WrongValueSize {
                map: self.label(),
                asked: cookie.len(),
                there: self.value_len(),
            });
        }
        let found = self.lookup_into(key, &mut cookie, UpdateFlags::empty())?;
        Ok(found.then_some(u64::from_ne_bytes(cookie)))
    }

    /// What is in the slots of an array, in the order of their indexes. It ends after the first error.
    pub(super) fn slots<T>(
        &self,
        get: impl Fn(u32) -> Result<Option<T>, MapError>,
    ) -> impl FusedIterator<Item = Result<(u32, T), MapError>> {
        let mut indexes = 0..self.max_entries();
        let next = move || {
            for index in indexes.by_ref() {
                match get(index) {
                    Ok(Some(there)) => return Some(Ok((index, there))),
                    Ok(None) => {}
                    Err(error) => {
                        indexes = 0..0;
                        return Some(Err(error));
                    }
                }
            }
            None
        };
        from_fn(next).fuse()
    }
}

impl ViewKind {
    /// Refuses a map that has another kind than the view, other keys, or values whose size is none of these.
    pub(super) fn check_sizes<K: PlainData>(&self, map: &Map, values: &[usize]) -> Result<(), MapError> {
        self.check_kind(map)?;
        check_part::<K>(map, MapPart::Key)?;
        let there = map.shape().value_size as usize;
        match values.first() {
            Some(&asked) if !values.contains(&there) => {
                Err(MapError::WrongValueSize { map: map.label(), asked, there })
            }
            _ => Ok(()),
        }
    }
}

/// As `view!` for views whose values are no Rust type: they have 4 or 8 bytes, and the kernel gives them a meaning.
macro_rules! descriptor_view {
    ($view:ident $(<$param:ident>)?, $kind:expr, $key:ty, $values:expr) => {
        impl$(<$param: $crate::map::PlainData>)? TryFrom<Map> for $view$(<$param>)? {
            type Error = MapError;

            fn try_from(map: Map) -> Result<Self, MapError> {
                $kind.check_sizes::<$key>(&map, $values)?;
                Ok($view { map, types: PhantomData })
            }
        }

        impl$(<$param>)? $view$(<$param>)? {
            /// The map, of which this is a view.
            pub fn as_map(&self) -> &Map {
                &self.map
            }
        }

        impl$(<$param>)? From<$view$(<$param>)?> for Map {
            fn from(view: $view$(<$param>)?) -> Map {
                view.map
            }
        }

        impl$(<$param>)? Clone for $view$(<$param>)? {
            fn clone(&self) -> Self {
                $view { map: self.map.clone(), types: PhantomData }
            }
        }

        impl$(<$param>)? fmt::Debug for $view$(<$param>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple($kind.view).field(&self.map).finish()
            }
        }
    };
}
pub(super) use descriptor_view;

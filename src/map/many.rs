//! Writing and removing many elements.

use skep_sys::abi::{Errno, UpdateFlags};

use super::batch::lacks_batches;
use super::error::{MapError, MapOperation, MapPart};
use super::handle::Map;

/// Why not all of many elements were written or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped after {done} elements of map {}", error.label())]
pub struct ManyError {
    /// How many were done before the one that failed.
    pub done: usize,
    /// Why it failed.
    #[source]
    pub error: MapError,
}

impl From<MapError> for ManyError {
    fn from(error: MapError) -> ManyError {
        ManyError { done: 0, error }
    }
}

/// The reason alone, without how many were done.
impl From<ManyError> for MapError {
    fn from(many: ManyError) -> MapError {
        many.error
    }
}

impl Map {
    /// Writes many elements, with keys and values one behind the other (`BPF_MAP_UPDATE_BATCH`, Linux 5.6). It is not one step:
    /// the elements are written in order, and others see them one by one.
    ///
    /// Where the kernel or the kind of map has no batches, and with [`UpdateFlags::NOEXIST`] and [`UpdateFlags::EXIST`],
    /// which batches do not know, elements are written one by one.
    ///
    /// ```
    /// use skep::map::{Map, MapErrorKind};
    /// use skep::sys::abi::{MapType, UpdateFlags};
    /// use skep::sys::request::MapCreate;
    ///
    /// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::HASH, 1, 1, 3))?;
    /// map.insert_many(b"abc", b"123", UpdateFlags::empty())?;
    /// let full = map.insert_many(b"cde", b"456", UpdateFlags::empty()).unwrap_err();
    /// assert_eq!((full.done, full.error.kind()), (1, MapErrorKind::Full));
    /// assert_eq!(map.remove_many(b"axc")?, 2);
    /// # Ok::<(), skep::map::MapError>(())
    /// ```
    ///
    /// # Errors
    /// [`ManyError`] says how many were written before the one that failed, and why, as of [`update`](Map::update). Of
    /// kind [`Length`](super::MapErrorKind::Length), with none written, when keys and values are not as many, or have
    /// other lengths.
    pub fn insert_many(&self, keys: &[u8], values: &[u8], flags: UpdateFlags) -> Result<(), ManyError> {
        let fd = self.as_map_fd();
        let (key_len, value_len) = (self.key_len(), fd.value_len_with(flags));
        let count = self.count(keys)?;
        let want = value_len.saturating_mul(count); // no slice is as long as where this saturates
        if values.len() != want {
            let (map, part, asked) = (self.label(), MapPart::Value, values.len());
            return Err(MapError::WrongTotal { map, part, asked, count, there: value_len }.into());
        }
        let mut done = 0;
        if !flags.intersects(UpdateFlags::NOEXIST | UpdateFlags::EXIST) {
            while done < count {
                let (keys, values) = (behind(keys, done, key_len), behind(values, done, value_len));
                match fd.update_batch(keys, values, flags) {
                    // A kernel that says that it wrote nothing will not get further.
                    Ok(0) => break,
                    Ok(written) => done += written as usize,
                    Err(error) => {
                        done += error.done as usize;
                        if error.errno().is_some_and(|errno| lacks_batches(self, errno)) {
                            break;
                        }
                        let error = self.failed(MapOperation::UpdateBatch, error.error);
                        return Err(ManyError { done, error });
                    }
                }
            }
        }
        let (keys, values) = (behind(keys, done, key_len), behind(values, done, value_len));
        for (key, value) in keys.chunks_exact(key_len.max(1)).zip(values.chunks_exact(value_len.max(1))) {
            self.update(key, value, flags).map_err(|error| ManyError { done, error })?;
            done += 1; // at most as many as there are keys
        }
        Ok(())
    }

    /// Removes many elements, with keys one behind the other (`BPF_MAP_DELETE_BATCH`, Linux 5.6; one by one where the kernel
    /// or the kind of map does not have it). Answers how many there were: keys that are not there are passed over.
    ///
    /// # Errors
    /// [`ManyError`] says how many keys were dealt with before the one that failed, and why, as of
    /// [`delete`](Map::delete).
    pub fn remove_many(&self, keys: &[u8]) -> Result<usize, ManyError> {
        let (fd, key_len) = (self.as_map_fd(), self.key_len());
        let count = self.count(keys)?;
        let (mut done, mut removed) = (0, 0);
        while done < count {
            match fd.delete_batch(behind(keys, done, key_len)) {
                Ok(0) => break,
                Ok(gone) => {
                    done += gone as usize;
                    removed += gone as usize;
                }
                Err(error) => {
                    done += error.done as usize;
                    removed += error.done as usize;
                    match error.errno() {
                        Some(Errno::ENOENT) => done += 1,
                        Some(errno) if lacks_batches(self, errno) => break,
                        _ => {
                            let error = self.failed(MapOperation::DeleteBatch, error.error);
                            return Err(ManyError { done, error });
                        }
                    }
                }
            }
        }
        for key in behind(keys, done, key_len).chunks_exact(key_len.max(1)) {
            removed += usize::from(self.delete(key).map_err(|error| ManyError { done, error })?);
            done += 1; // at most as many as there are keys
        }
        Ok(removed)
    }

    /// How many keys there are in a slice.
    fn count(&self, keys: &[u8]) -> Result<usize, MapError> {
        let (got, size) = (keys.len(), self.key_len());
        match got.checked_div(size) {
            Some(count) if got.is_multiple_of(size) => Ok(count),
            None if got == 0 => Ok(0),
            count => {
                let (map, part, count) = (self.label(), MapPart::Key, count.unwrap_or_default());
                Err(MapError::WrongTotal { map, part, asked: got, count, there: size })
            }
        }
    }
}

/// What is behind the first so many.
fn behind(bytes: &[u8], count: usize, each: usize) -> &[u8] {
    bytes.get(count.saturating_mul(each)..).unwrap_or_default()
}

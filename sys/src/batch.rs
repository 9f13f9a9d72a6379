//! Many elements of a map in one call (`BPF_MAP_*_BATCH`, Linux 5.6).

use crate::abi::{Errno, UpdateFlags};
use crate::map_fd::{MapError, MapFd, MapRef};
use crate::request::{BatchRead, BatchWrite};

/// Bytes of a cursor at least. Kernels write 4 bytes or a key; the rest is for those to come, which are not told how
/// much room there is.
const CURSOR_MIN: usize = 64;

/// Where a batch read of one map goes on: for hashes a bucket's number, for others the last key.
///
/// It has room for what the kernel writes for this map, and a call refuses it for a map whose cursors have another length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCursor {
    bytes: Box<[u8]>,
    len: usize,
    begun: bool,
}

impl BatchCursor {
    /// The beginning of a map.
    pub fn new(map: &MapFd) -> BatchCursor {
        let len = map.as_map_ref().cursor_len();
        BatchCursor { bytes: vec![0; len.max(CURSOR_MIN)].into(), len, begun: false }
    }

    /// How many of its bytes mean something.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where to go on; none at the beginning.
    pub fn position(&self) -> Option<&[u8]> {
        self.begun.then(|| self.bytes.get(..self.len).unwrap_or_default()) // never longer than the bytes
    }

    /// Moves it, for backends. Only as many bytes as it has are taken.
    pub fn set_position(&mut self, position: &[u8]) {
        for (to, from) in self.bytes.iter_mut().take(self.len).zip(position) {
            *to = *from;
        }
        self.begun = true;
    }

    /// All of its memory, for a kernel that reads and writes it.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }
}

/// Why a batch ended before all of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch ended after {done} elements")]
pub struct BatchError {
    /// How many elements were done before.
    pub done: u32,
    /// Why it ended.
    #[source]
    pub error: MapError,
}

impl BatchError {
    /// What the kernel answered, if it was asked.
    pub fn errno(&self) -> Option<Errno> {
        self.error.errno()
    }
}

impl From<MapError> for BatchError {
    fn from(error: MapError) -> BatchError {
        BatchError { done: 0, error }
    }
}

impl MapRef<'_> {
    /// Length of a batch cursor in bytes: 4 for hashes, else that of a key, and at least 4.
    pub fn cursor_len(&self) -> usize {
        if self.shape().map_type.has_bucket_cursor() { 4 } else { self.key_len().max(4) }
    }
}

impl MapFd {
    /// Reads as many elements as there is room for keys, from the cursor on (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6; per-CPU
    /// arrays 5.13, maps of maps 6.0). Answers how many. The last ones come with an error, [`Errno::ENOENT`], which
    /// says how many.
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers: [`Errno::ENOENT`] at the end, [`Errno::ENOSPC`] when there is not room for
    /// all elements of one bucket of a hash, [`Errno::ENOTSUPP`] for kinds without batches, [`Errno::EINVAL`] on
    /// kernels without them.
    pub fn lookup_batch(
        &self,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<u32, BatchError> {
        let mut read = self.batch_read(cursor, keys, values, flags)?;
        let answer = self.kernel().backend().map_lookup_batch(self.as_map_ref(), &mut read);
        answer.map_err(stopped("lookup batch"))
    }

    /// As [`lookup_batch`](MapFd::lookup_batch), and removes what it reads (`BPF_MAP_LOOKUP_AND_DELETE_BATCH`,
    /// Linux 5.6): hashes only.
    ///
    /// # Errors
    /// As [`lookup_batch`](MapFd::lookup_batch).
    pub fn lookup_and_delete_batch(
        &self,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        flags: UpdateFlags,
    ) -> Result<u32, BatchError> {
        let mut read = self.batch_read(cursor, keys, values, flags)?;
        let answer = self.kernel().backend().map_lookup_and_delete_batch(self.as_map_ref(), &mut read);
        answer.map_err(stopped("lookup and delete batch"))
    }

    /// Writes elements in order until one fails (`BPF_MAP_UPDATE_BATCH`, Linux 5.6). Answers how many.
    ///
    /// # Errors
    /// Wrong lengths; what the kernel answers to the first element that fails, as [`update`](MapFd::update);
    /// [`Errno::EINVAL`] for other flags than [`UpdateFlags::LOCK`] (and since Linux 7.0 those of CPUs).
    pub fn update_batch(&self, keys: &[u8], values: &[u8], flags: UpdateFlags) -> Result<u32, BatchError> {
        let count = self.batch_count(keys)?;
        self.check_batch_values(values, count, flags)?;
        let write = BatchWrite { elem_flags: flags.bits(), ..BatchWrite::new(keys, values, count) };
        self.kernel().backend().map_update_batch(self.as_map_ref(), &write).map_err(stopped("update batch"))
    }

    /// Removes elements in order until one fails (`BPF_MAP_DELETE_BATCH`, Linux 5.6). Answers how many.
    ///
    /// # Errors
    /// A wrong length; what the kernel answers, [`Errno::ENOENT`] at the first key that is not there.
    pub fn delete_batch(&self, keys: &[u8]) -> Result<u32, BatchError> {
        let write = BatchWrite::new(keys, &[], self.batch_count(keys)?);
        self.kernel().backend().map_delete_batch(self.as_map_ref(), &write).map_err(stopped("delete batch"))
    }

    fn batch_read<'a>(
        &self,
        cursor: &'a mut BatchCursor,
        keys: &'a mut [u8],
        values: &'a mut [u8],
        flags: UpdateFlags,
    ) -> Result<BatchRead<'a>, MapError> {
        let (got, want) = (cursor.len(), self.as_map_ref().cursor_len());
        if got != want {
            return Err(MapError::CursorLength { got, want });
        }
        let count = self.batch_count(keys)?;
        self.check_batch_values(values, count, flags)?;
        Ok(BatchRead { elem_flags: flags.bits(), ..BatchRead::new(cursor, keys, values, count) })
    }

    /// The number of keys in a slice; 0 for kinds without keys, which have no batches.
    fn batch_count(&self, keys: &[u8]) -> Result<u32, MapError> {
        let (got, size) = (keys.len(), self.key_len());
        match got.checked_div(size) {
            Some(count) if count.checked_mul(size) == Some(got) => {
                u32::try_from(count).map_err(|_| MapError::KeyLength { got, want: u32::MAX as usize })
            }
            Some(_) => Err(MapError::KeyLength { got, want: got.next_multiple_of(size) }),
            None if got == 0 => Ok(0),
            None => Err(MapError::KeyLength { got, want: 0 }),
        }
    }

    fn check_batch_values(&self, values: &[u8], count: u32, flags: UpdateFlags) -> Result<(), MapError> {
        // Where this saturates, no slice is ever that long.
        let (got, want) = (values.len(), self.value_len_with(flags).saturating_mul(count as usize));
        if got == want { Ok(()) } else { Err(MapError::ValueLength { got, want }) }
    }
}

fn stopped(operation: &'static str) -> impl FnOnce((Errno, u32)) -> BatchError {
    move |(errno, done)| BatchError { done, error: MapError::Kernel { operation, errno } }
}

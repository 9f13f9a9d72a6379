//! Many elements in one call (`BPF_MAP_*_BATCH`).

use skep_sys::abi::Errno;
use skep_sys::request::{BatchRead, BatchWrite};

use super::elements::{Batches, Resolve, copy};
use super::{ALL_CPUS, CPU, LOCK, Map, State};
use crate::fd::Access;

type Answer = Result<u32, (Errno, u32)>;

fn refused(errno: Errno) -> (Errno, u32) {
    (errno, 0)
}

impl Map {
    pub(crate) fn read_batch(&self, access: Access, batch: &mut BatchRead<'_>, take: bool) -> Answer {
        let mut state = self.state();
        if !access.read {
            return Err(refused(Errno::EPERM));
        }
        if take {
            self.check_writable(&state, access).map_err(refused)?;
        }
        let wanted = if take { Batches::TAKE } else { Batches::LOOKUP };
        if !state.elements.batches().contains(wanted) {
            return Err(refused(Errno::ENOTSUPP));
        }
        self.check_flags(batch.elem_flags, LOCK | CPU).map_err(refused)?;
        self.check_room(batch.keys.len(), batch.values.len(), batch.count, batch.elem_flags)
            .map_err(refused)?;
        if batch.count == 0 {
            return Ok(0);
        }
        match state.elements.buckets() {
            Some(buckets) => self.read_buckets(&mut state, batch, take, buckets),
            None => self.read_keys(&mut state, batch),
        }
    }

    /// Whole buckets: one that does not fit is left for the next call, or is an error when it is the first.
    fn read_buckets(&self, state: &mut State, batch: &mut BatchRead<'_>, take: bool, buckets: u32) -> Answer {
        let mut done = 0;
        let mut bucket = match batch.cursor.position() {
            Some(bytes) => bytes.try_into().map(u32::from_ne_bytes).map_err(|_| refused(Errno::EFAULT))?,
            None => 0,
        };
        if bucket >= buckets {
            return Err((Errno::ENOENT, 0));
        }
        while let Some((found, keys)) = state.elements.bucket_from(bucket) {
            if keys.len() > (batch.count - done) as usize {
                batch.cursor.set_position(&found.to_ne_bytes());
                return if done == 0 { Err((Errno::ENOSPC, 0)) } else { Ok(done) };
            }
            for key in keys {
                self.put(state, batch, done, &key).map_err(|errno| (errno, 0))?;
                if take {
                    state.elements.delete(&key).map_err(|errno| (errno, 0))?;
                    self.settle(state);
                }
                done += 1; // at most the count, by the check above
            }
            bucket = found.saturating_add(1);
        }
        batch.cursor.set_position(&buckets.to_ne_bytes());
        Err((Errno::ENOENT, done))
    }

    /// Key by key from the last one on.
    fn read_keys(&self, state: &mut State, batch: &mut BatchRead<'_>) -> Answer {
        let mut done = 0;
        let size = self.shape.key_size as usize;
        let mut last = batch.cursor.position().map(|key| key.get(..size).unwrap_or_default().to_vec());
        while done < batch.count {
            let mut key = vec![0; size];
            match state.elements.next_key(last.as_deref(), &mut key) {
                Ok(()) => {}
                Err(errno) => return Err((errno, done)),
            }
            match self.put(state, batch, done, &key) {
                Ok(()) => {
                    batch.cursor.set_position(&key);
                    done += 1; // below the count
                }
                // A slot of an array of maps that is empty.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err((errno, 0)),
            }
            last = Some(key);
        }
        Ok(done)
    }

    /// Writes an element to its place in a batch.
    fn put(&self, state: &mut State, batch: &mut BatchRead<'_>, place: u32, key: &[u8]) -> Result<(), Errno> {
        let len = self.value_len(batch.elem_flags);
        let value = part_mut(batch.values, place, len)?;
        self.read(state, key, value, batch.elem_flags)?;
        copy(part_mut(batch.keys, place, key.len())?, key)
    }

    pub(crate) fn update_batch(
        &self,
        access: Access,
        batch: &BatchWrite<'_>,
        resolve: Resolve<'_>,
    ) -> Answer {
        let mut state = self.state();
        self.check_writable(&state, access).map_err(refused)?;
        if !state.elements.batches().contains(Batches::UPDATE) {
            return Err(refused(Errno::ENOTSUPP));
        }
        self.check_flags(batch.elem_flags, LOCK | CPU | ALL_CPUS).map_err(refused)?;
        self.check_room(batch.keys.len(), batch.values.len(), batch.count, batch.elem_flags)
            .map_err(refused)?;
        let len = self.value_len(batch.elem_flags);
        self.each(batch, |place, key| {
            let value = part(batch.values, place, len)?;
            self.write(&mut state, key, value, batch.elem_flags, resolve)
        })
    }

    pub(crate) fn delete_batch(&self, access: Access, batch: &BatchWrite<'_>) -> Answer {
        let mut state = self.state();
        self.check_writable(&state, access).map_err(refused)?;
        if !state.elements.batches().contains(Batches::DELETE) {
            return Err(refused(Errno::ENOTSUPP));
        }
        self.check_flags(batch.elem_flags, LOCK).map_err(refused)?;
        if (self.shape.key_size as usize).checked_mul(batch.count as usize) != Some(batch.keys.len()) {
            return Err(refused(Errno::EFAULT));
        }
        let done = self.each(batch, |_, key| state.elements.delete(key));
        self.settle(&state);
        done
    }

    fn each(&self, batch: &BatchWrite<'_>, mut work: impl FnMut(u32, &[u8]) -> Result<(), Errno>) -> Answer {
        for place in 0..batch.count {
            part(batch.keys, place, self.shape.key_size as usize)
                .and_then(|key| work(place, key))
                .map_err(|errno| (errno, place))?;
        }
        Ok(batch.count)
    }

    fn check_room(&self, keys: usize, values: usize, count: u32, flags: u64) -> Result<(), Errno> {
        let is = |got: usize, size: usize| size.checked_mul(count as usize) == Some(got);
        if is(keys, self.shape.key_size as usize) && is(values, self.value_len(flags)) {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }
}

fn part(bytes: &[u8], place: u32, len: usize) -> Result<&[u8], Errno> {
    let start = len.checked_mul(place as usize).ok_or(Errno::EFAULT)?;
    bytes.get(start..start.saturating_add(len)).ok_or(Errno::EFAULT)
}

fn part_mut(bytes: &mut [u8], place: u32, len: usize) -> Result<&mut [u8], Errno> {
    let start = len.checked_mul(place as usize).ok_or(Errno::EFAULT)?;
    bytes.get_mut(start..start.saturating_add(len)).ok_or(Errno::EFAULT)
}

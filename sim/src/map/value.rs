//! Values that a map shares with programs and mappings.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skep_sys::SharedMemory;
use skep_sys::abi::Errno;

use super::fields::{FieldKind, Fields};
use crate::words::{read_shared, write_shared};

/// The bytes of one value. They are in words that the map, programs and mappings hold together: what one writes, all
/// others see. Clones are the same value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    words: Arc<[AtomicU64]>,
    /// Where the value starts among the words, in bytes: a multiple of 8.
    start: usize,
    /// Length in bytes.
    len: usize,
}

impl Value {
    /// A value of zeros.
    pub(crate) fn new(len: usize) -> Value {
        let words = (0..len.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        Value { words, start: 0, len }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        let last = (!rest.is_empty()).then_some(&last);
        let words = whole.iter().chain(last).map(|word| AtomicU64::new(u64::from_ne_bytes(*word)));
        Value { words: words.collect(), start: 0, len: bytes.len() }
    }

    /// A part of words that are shared already; none that goes beyond them.
    pub(crate) fn within(words: &Arc<[AtomicU64]>, start: usize, len: usize) -> Option<Value> {
        let end = start.checked_add(len)?;
        (start.is_multiple_of(8) && end <= size_of_val(&**words)).then(|| Value {
            words: words.clone(),
            start,
            len,
        })
    }

    /// A part of this value.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Option<Value> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| Value::within(&self.words, self.start + offset, len)).flatten()
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The words that the value is in, and perhaps others.
    pub(crate) fn words(&self) -> &Arc<[AtomicU64]> {
        &self.words
    }

    /// Whether both are the same value.
    pub(crate) fn is(&self, other: &Value) -> bool {
        Arc::ptr_eq(&self.words, &other.words) && self.start == other.start
    }

    /// Where the value starts among the [words](Value::words), in bytes: a multiple of 8.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Copies the bytes at `offset`; `EFAULT` when they are not all inside.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Errno> {
        read_shared(self.at(offset, to.len())?, offset % 8, to);
        Ok(())
    }

    /// Writes the bytes at `offset`, and no neighbour's; `EFAULT` when they do not all fit.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> Result<(), Errno> {
        write_shared(self.at(offset, from.len())?, offset % 8, from);
        Ok(())
    }

    /// The words from that with `offset` on, where so many bytes are inside.
    fn at(&self, offset: usize, len: usize) -> Result<&[AtomicU64], Errno> {
        let end = offset.checked_add(len).ok_or(Errno::EFAULT)?;
        if end > self.len {
            return Err(Errno::EFAULT);
        }
        self.words.get((self.start + offset) / 8..).ok_or(Errno::EFAULT) // both are at most the size of the words
    }

    /// Takes the 4-byte lock at `offset`, as user space does for a copy that programs cannot tear. Who holds it is
    /// a program that runs, so it is waited for, but not for ever.
    fn lock(&self, offset: usize) -> Option<Locked<'_>> {
        const TRIES: u32 = 1 << 20;

        let word = self.words.get((self.start + offset) / 8)?;
        let shift = lock_shift(offset);
        for _ in 0..TRIES {
            let before = word.fetch_or(1 << shift, Ordering::Acquire);
            if before >> shift & 0xffff_ffff == 0 {
                return Some(Locked { word, shift });
            }
            std::thread::yield_now();
        }
        None
    }
}

/// A spin lock that is held.
struct Locked<'a> {
    word: &'a AtomicU64,
    shift: u32,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.word.fetch_and(!(0xffff_ffff << self.shift), Ordering::Release);
    }
}

/// By how many bits a 4-byte number at `offset` is shifted in its word.
fn lock_shift(offset: usize) -> u32 {
    let low = offset.is_multiple_of(8) == cfg!(target_endian = "little");
    if low { 0 } else { 32 }
}

/// How the values of a map lie in memory.
///
/// An element of a per-CPU kind is a value for each CPU, each at a multiple of 8 bytes; that of another kind is one value.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// Length of one value in bytes.
    size: usize,
    /// Number of values in an element of a per-CPU kind.
    cpus: Option<u32>,
    fields: Fields,
}

impl Form {
    pub(super) fn new(size: u32, cpus: Option<u32>, fields: Fields) -> Form {
        Form { size: size as usize, cpus, fields }
    }

    /// Bytes from one value to the next.
    pub(super) fn stride(&self) -> usize {
        self.size.next_multiple_of(8) // a size is 32 bits
    }

    /// Bytes of an element: as user space reads and writes it.
    pub(super) fn len(&self) -> usize {
        match self.cpus {
            Some(cpus) => self.stride().saturating_mul(cpus as usize),
            None => self.size,
        }
    }

    pub(super) fn is_per_cpu(&self) -> bool {
        self.cpus.is_some()
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// A new element.
    pub(super) fn element(&self, bytes: &[u8]) -> Value {
        let value = Value::from_bytes(bytes);
        self.initialize(&value);
        value
    }

    /// A new element in which only the value of one CPU is not zero, as a program makes it.
    pub(super) fn element_of(&self, cpu: u32, bytes: &[u8]) -> Value {
        let Some(_) = self.cpus else { return self.element(bytes) };
        let value = Value::new(self.len());
        if let Some(mine) = self.of(&value, cpu) {
            let _ = mine.write(0, bytes); // a value of the wrong length was refused
        }
        self.initialize(&value);
        value
    }

    /// Sets what a new element's fields begin with.
    pub(super) fn initialize(&self, value: &Value) {
        self.each_field(value, |value, at, kind| {
            let _ = value.write(at.start, kind.initial(at.len())); // it was found inside
        });
    }

    /// Writes an element over another, in place. The fields stay, and what they hold goes.
    pub(super) fn overwrite(&self, value: &Value, bytes: &[u8]) {
        if self.fields.is_empty() {
            let _ = value.write(0, bytes); // an element of the wrong length was refused
            return;
        }
        for (at, value) in self.parts(value).enumerate() {
            let from = at * self.stride(); // inside of the element
            if let Some(bytes) = bytes.get(from..from.saturating_add(self.size)) {
                self.write_around(&value, bytes);
            }
        }
        self.release(value);
    }

    /// Writes one CPU's value of an element, in place.
    pub(super) fn overwrite_of(&self, value: &Value, cpu: u32, bytes: &[u8]) {
        if let Some(mine) = self.of(value, cpu) {
            self.write_around(&mine, bytes);
        }
    }

    /// Writes a value while its spin lock is held.
    pub(super) fn overwrite_locked(&self, value: &Value, bytes: &[u8]) {
        let _held = self.fields.spin_lock().and_then(|offset| value.lock(offset));
        self.write_around(value, bytes);
    }

    /// Reads a value while its spin lock is held.
    pub(super) fn read_locked(&self, value: &Value, to: &mut [u8]) -> Result<(), Errno> {
        let _held = self.fields.spin_lock().and_then(|offset| value.lock(offset));
        value.read(0, to)
    }

    /// Writes a value, except for its fields.
    fn write_around(&self, value: &Value, bytes: &[u8]) {
        let mut done = 0;
        let end = bytes.len()..bytes.len();
        for Range { start, end } in self.fields.iter().map(|field| field.range()).chain(std::iter::once(end))
        {
            if let Some(bytes) = bytes.get(done..start) {
                let _ = value.write(done, bytes); // fields are inside of the value
            }
            done = end;
        }
    }

    /// Lets go of what the fields of an element hold: they are zero then. Locks and counts are left alone.
    pub(super) fn release(&self, value: &Value) {
        self.each_field(value, |value, at, kind| {
            if kind.is_freed() {
                let _ = value.write(at.start, kind.initial(at.len())); // it was found inside
            }
        });
    }

    fn each_field(&self, value: &Value, with: impl Fn(&Value, Range<usize>, FieldKind)) {
        if self.fields.is_empty() {
            return;
        }
        for value in self.parts(value) {
            for field in self.fields.iter() {
                with(&value, field.range(), field.kind);
            }
        }
    }

    /// The values of an element.
    fn parts(&self, value: &Value) -> impl Iterator<Item = Value> {
        (0..self.cpus.unwrap_or(1)).map_while(|cpu| self.of(value, cpu))
    }

    /// The value of one CPU: the only one for kinds that are not per-CPU; none for a CPU that there is not.
    pub(super) fn of(&self, value: &Value, cpu: u32) -> Option<Value> {
        match self.cpus {
            None => Some(value.clone()),
            Some(cpus) if cpu < cpus => value.part(self.stride().checked_mul(cpu as usize)?, self.size),
            Some(_) => None,
        }
    }
}

/// Zeroed words for so many bytes, which take memory when they are touched.
pub(super) fn zeroed(bytes: usize) -> Arc<[AtomicU64]> {
    SharedMemory::zeroed_words(bytes.div_ceil(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_read_and_written_alone() {
        let bytes: Vec<u8> = (1..=29).collect();
        for offset in 0..29 {
            for len in 0..=29 - offset {
                let value = Value::from_bytes(&bytes);
                let mut expected = bytes.clone();
                expected[offset..offset + len].fill(0xee);
                value.write(offset, &vec![0xee; len]).expect("inside");
                let mut all = vec![0; 29];
                value.read(0, &mut all).expect("inside");
                assert_eq!(all, expected, "{len} bytes at {offset}");
                let mut part = vec![0; len];
                value.read(offset, &mut part).expect("inside");
                assert_eq!(part, expected[offset..offset + len], "{len} bytes at {offset}");
            }
        }
        let value = Value::from_bytes(&bytes);
        assert_eq!(value.read(25, &mut [0; 5]), Err(Errno::EFAULT));
        assert_eq!(value.write(usize::MAX, &[0; 5]), Err(Errno::EFAULT));
    }

    #[test]
    fn parts_are_the_same_memory() {
        let value = Value::new(24);
        let part = value.part(8, 5).expect("inside");
        part.write(1, &[7]).expect("inside");
        let mut all = [0; 24];
        value.read(0, &mut all).expect("inside");
        assert_eq!(all[9], 7);
        assert_eq!((part.start(), part.len()), (8, 5));
        assert!(value.part(4, 4).is_none(), "not at a multiple of 8");
        assert!(value.part(16, 9).is_none(), "beyond the end");
    }

    #[test]
    fn a_lock_leaves_its_neighbour() {
        let value = Value::from_bytes(&[1, 2, 3, 4, 0, 0, 0, 0]);
        drop(value.lock(4).expect("free"));
        let mut all = [0; 8];
        value.read(0, &mut all).expect("inside");
        assert_eq!(all, [1, 2, 3, 4, 0, 0, 0, 0]);
        let held = value.lock(4).expect("free");
        value.read(0, &mut all).expect("inside");
        assert_ne!(all[4..], [0; 4]);
        drop(held);
    }
}

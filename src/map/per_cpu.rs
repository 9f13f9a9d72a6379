use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;
use zerocopy::IntoBytes;

use super::error::{MapError, MapOperation};
use super::handle::Map;
use super::many::ManyError;
use super::plain::PlainData;

/// What the kernel rounds the size of one CPU's value up to.
const ALIGN: usize = 8;

/// The value of an element of a per-CPU map: one `V` for each possible CPU, by its number.
///
/// They lie as the kernel passes them, each at a multiple of 8 bytes, so that an element is read and written without
/// being copied. Made by the map that they are for, such as
/// [`PerCpuHashMap::zeroed_values`](super::PerCpuHashMap::zeroed_values).
///
/// ```
/// use skep::map::PerCpuValues;
///
/// let mut values = PerCpuValues::from_fn(3, |cpu| cpu as u16 * 10);
/// values.set(1, &5);
/// assert_eq!(values.iter().collect::<Vec<_>>(), [0, 5, 20]);
/// assert_eq!(values.get(3), None);
/// assert_eq!(values.as_bytes().len(), 3 * 8);
/// ```
pub struct PerCpuValues<V> {
    bytes: Box<[u8]>,
    cpus: usize,
    types: PhantomData<fn() -> V>,
}

impl<V: PlainData> PerCpuValues<V> {
    /// Bytes from one value to the next.
    fn stride() -> usize {
        // The kernel has no values of more than 2^32 bytes, and a type can have no more than 2^63.
        size_of::<V>().next_multiple_of(ALIGN)
    }

    /// Zeroes for that many CPUs.
    pub fn zeroed(cpus: u32) -> PerCpuValues<V> {
        let cpus = cpus as usize;
        // Where this saturates, there is no memory for it.
        let bytes = vec![0; Self::stride().saturating_mul(cpus)].into();
        PerCpuValues { bytes, cpus, types: PhantomData }
    }

    /// A value for each of that many CPUs, made from its number.
    pub fn from_fn(cpus: u32, mut value: impl FnMut(u32) -> V) -> PerCpuValues<V> {
        let mut values = PerCpuValues::zeroed(cpus);
        for cpu in 0..cpus {
            values.set(cpu, &value(cpu));
        }
        values
    }

    /// Number of CPUs.
    pub fn len(&self) -> usize {
        self.cpus
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.cpus == 0
    }

    /// The value of a CPU; none when there is no such CPU.
    pub fn get(&self, cpu: u32) -> Option<V> {
        let (value, _) = V::read_from_prefix(self.bytes.get(self.offset(cpu)?..)?).ok()?;
        Some(value)
    }

    /// Changes the value of a CPU. Answers whether there is such a CPU.
    pub fn set(&mut self, cpu: u32, value: &V) -> bool {
        let slot = self.offset(cpu).and_then(|at| self.bytes.get_mut(at..));
        slot.is_some_and(|slot| value.write_to_prefix(slot).is_ok())
    }

    /// The values in the order of CPU numbers.
    pub fn iter(&self) -> PerCpuIter<'_, V> {
        let cpus = u32::try_from(self.cpus).unwrap_or(u32::MAX); // it was made of one
        PerCpuRef::new(&self.bytes, cpus).iter()
    }

    /// The values as the kernel takes them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Refuses values that are not for this map's number of CPUs.
    pub(super) fn check(&self, map: &Map) -> Result<(), MapError> {
        let (asked, there) = (self.cpus, map.values_per_element() as usize);
        if asked == there { Ok(()) } else { Err(MapError::WrongCpuCount { map: map.label(), asked, there }) }
    }

    fn offset(&self, cpu: u32) -> Option<usize> {
        let cpu = cpu as usize;
        if cpu < self.cpus { cpu.checked_mul(Self::stride()) } else { None }
    }
}

impl<V> Clone for PerCpuValues<V> {
    fn clone(&self) -> Self {
        PerCpuValues { bytes: self.bytes.clone(), cpus: self.cpus, types: PhantomData }
    }
}

impl<V: PlainData + PartialEq> PartialEq for PerCpuValues<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: PlainData + Eq> Eq for PerCpuValues<V> {}

impl<V: PlainData + fmt::Debug> fmt::Debug for PerCpuValues<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, V: PlainData> IntoIterator for &'a PerCpuValues<V> {
    type Item = V;
    type IntoIter = PerCpuIter<'a, V>;

    fn into_iter(self) -> PerCpuIter<'a, V> {
        self.iter()
    }
}

/// The values of an element of a per-CPU map in memory that others own, such as a batch (see
/// [`PerCpuBatches`](super::PerCpuBatches)).
pub struct PerCpuRef<'a, V> {
    bytes: &'a [u8],
    cpus: u32,
    types: PhantomData<fn() -> V>,
}

impl<'a, V: PlainData> PerCpuRef<'a, V> {
    /// Values as the kernel gives them, for that many CPUs.
    pub(super) fn new(bytes: &'a [u8], cpus: u32) -> PerCpuRef<'a, V> {
        PerCpuRef { bytes, cpus, types: PhantomData }
    }

    /// Number of CPUs.
    pub fn len(&self) -> usize {
        self.cpus as usize
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.cpus == 0
    }

    /// The value of a CPU; none when there is no such CPU.
    pub fn get(&self, cpu: u32) -> Option<V> {
        if cpu >= self.cpus {
            return None;
        }
        let start = PerCpuValues::<V>::stride().checked_mul(cpu as usize)?;
        Some(V::read_from_prefix(self.bytes.get(start..)?).ok()?.0)
    }

    /// The values in the order of CPU numbers.
    pub fn iter(&self) -> PerCpuIter<'a, V> {
        PerCpuIter { values: *self, cpu: 0 }
    }

    /// The values as the kernel gives them, each at a multiple of 8 bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values in memory of their own.
    pub fn to_values(&self) -> PerCpuValues<V> {
        PerCpuValues { bytes: self.bytes.into(), cpus: self.cpus as usize, types: PhantomData }
    }
}

impl<V> Clone for PerCpuRef<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for PerCpuRef<'_, V> {}

impl<V: PlainData + fmt::Debug> fmt::Debug for PerCpuRef<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, V: PlainData> IntoIterator for PerCpuRef<'a, V> {
    type Item = V;
    type IntoIter = PerCpuIter<'a, V>;

    fn into_iter(self) -> PerCpuIter<'a, V> {
        self.iter()
    }
}

/// The values of an element, from [`PerCpuValues::iter`] and [`PerCpuRef::iter`].
pub struct PerCpuIter<'a, V> {
    values: PerCpuRef<'a, V>,
    cpu: u32,
}

impl<V: PlainData> Iterator for PerCpuIter<'_, V> {
    type Item = V;

    fn next(&mut self) -> Option<V> {
        let value = self.values.get(self.cpu)?;
        self.cpu += 1; // there is a value, so it is below the number of CPUs
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.values.len().saturating_sub(self.cpu as usize);
        (left, Some(left))
    }
}

impl<V: PlainData> ExactSizeIterator for PerCpuIter<'_, V> {}
impl<V: PlainData> FusedIterator for PerCpuIter<'_, V> {}

impl<V> fmt::Debug for PerCpuIter<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerCpuIter").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

/// Elements that are written in one call, in bytes of their values.
const CHUNK: usize = 64 << 10;

/// Writes many elements, whose values are put one behind the other for it.
pub(super) fn insert_many<K: PlainData, V: PlainData>(
    map: &Map,
    keys: &[K],
    values: &[PerCpuValues<V>],
    flags: UpdateFlags,
) -> Result<(), ManyError> {
    if keys.len() != values.len() {
        let each = map.value_len();
        let (got, want) = (values.len().saturating_mul(each), keys.len().saturating_mul(each));
        let error = skep_sys::MapError::ValueLength { got, want };
        return Err(map.failed(MapOperation::UpdateBatch, error).into());
    }
    let size = (CHUNK / map.value_len().max(1)).max(1);
    let mut bytes = Vec::new();
    let mut done = 0;
    for (keys, values) in keys.chunks(size).zip(values.chunks(size)) {
        bytes.clear();
        for values in values {
            values.check(map).map_err(|error| ManyError { done, error })?;
            bytes.extend_from_slice(values.as_bytes());
        }
        map.insert_many(keys.as_bytes(), &bytes, flags)
            .map_err(|many| ManyError { done: done + many.done, ..many })?; // at most as many as there are keys
        done += keys.len(); // as above
    }
    Ok(())
}

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::batch::Reading;
use super::error::MapError;
use super::handle::Map;
use super::kinds::{PER_CPU_ARRAY, view};
use super::per_cpu::PerCpuValues;
use super::per_cpu_batches::{PerCpuBatchIter, PerCpuBatches};
use super::plain::PlainData;

/// An array with a value per CPU in each element, all of which always exist (`BPF_MAP_TYPE_PERCPU_ARRAY`, Linux 4.6).
/// Made by [`Map::typed`].
///
/// A program sees the value of the CPU that it runs on, user space those of all possible CPUs.
///
/// ```
/// use skep::map::{Map, PerCpuArray, PerCpuValues};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::PERCPU_ARRAY, 4, 2, 4))?;
/// let drops: PerCpuArray<u16> = map.typed()?;
/// drops.set(2, &PerCpuValues::from_fn(kernel.possible_cpus().unwrap(), |cpu| 1 + cpu as u16), UpdateFlags::empty())?;
/// let values = drops.get(2)?.expect("4 elements");
/// assert_eq!(values.iter().collect::<Vec<_>>(), [1, 2]);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_PERCPU_ARRAY")]
pub struct PerCpuArray<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

view!(PerCpuArray<V>, PER_CPU_ARRAY, u32, V);

impl<V> PerCpuArray<V> {
    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no elements, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V: PlainData> PerCpuArray<V> {
    /// Zeroes for every CPU, as many as an element of this map has.
    pub fn zeroed_values(&self) -> PerCpuValues<V> {
        PerCpuValues::zeroed(self.map.values_per_element())
    }

    /// The values at `index`, in memory of their own; none outside of the array.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, index: u32) -> Result<Option<PerCpuValues<V>>, MapError> {
        let mut values = self.zeroed_values();
        Ok(self.get_into(index, &mut values)?.then_some(values))
    }

    /// Reads the values at `index` into `values`, without allocating. Answers whether `index` is in the array; if not,
    /// `values` are as before.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`], [`MapError::Failed`].
    pub fn get_into(&self, index: u32, values: &mut PerCpuValues<V>) -> Result<bool, MapError> {
        values.check(&self.map)?;
        self.map.lookup_into(&index.to_ne_bytes(), values.bytes_mut(), UpdateFlags::empty())
    }

    /// Writes the values at `index`.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`]; [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is
    /// outside of the array; [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`Denied`](super::MapErrorKind::Denied) for a frozen map.
    pub fn set(&self, index: u32, values: &PerCpuValues<V>, flags: UpdateFlags) -> Result<(), MapError> {
        values.check(&self.map)?;
        self.map.update(&index.to_ne_bytes(), values.as_bytes(), flags)
    }

    /// The elements with their indexes in batches of so many, each one call of the kernel (Linux 5.13), without a copy; see
    /// [`Batches`](super::Batches).
    pub fn batches(&self, size: usize) -> PerCpuBatches<'_, u32, V> {
        PerCpuBatches::new(&self.map, Reading::Look, size)
    }

    /// The values of all elements with their indexes, in order, read in batches of so many.
    pub fn iter_batched(&self, size: usize) -> PerCpuBatchIter<'_, u32, V> {
        PerCpuBatchIter::new(&self.map, Reading::Look, size)
    }

    /// The values of all elements in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> PerCpuArrayIter<'_, V> {
        PerCpuArrayIter { view: self, index: 0 }
    }
}

impl<'a, V: PlainData> IntoIterator for &'a PerCpuArray<V> {
    type Item = Result<PerCpuValues<V>, MapError>;
    type IntoIter = PerCpuArrayIter<'a, V>;

    fn into_iter(self) -> PerCpuArrayIter<'a, V> {
        self.iter()
    }
}

/// The elements of a [`PerCpuArray`], from [`PerCpuArray::iter`].
#[derive(Debug)]
pub struct PerCpuArrayIter<'a, V> {
    view: &'a PerCpuArray<V>,
    index: u32,
}

impl<V: PlainData> Iterator for PerCpuArrayIter<'_, V> {
    type Item = Result<PerCpuValues<V>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.view.len() {
            return None;
        }
        let values = self.view.get(self.index).transpose();
        self.index = if let Some(Ok(_)) = values { self.index + 1 } else { u32::MAX };
        values
    }
}

impl<V: PlainData> FusedIterator for PerCpuArrayIter<'_, V> {}

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use skep_sys::abi::{Errno, MapType, UpdateFlags};
use skep_sys::request::MapCreate;
use zerocopy::IntoBytes;

use super::core::{Core, elements, memory, one, per_cpu};
use crate::map::traits::{MapIter, MapRead, MapWrite, PerCpu};
use crate::map::{MapError, MapOperation, PerCpuValues, PlainData};

/// An array in memory, as [`map::Array`](crate::map::Array) is one in a kernel. All elements exist and are zero at first.
///
/// ```
/// use skep::map::traits::{MapRead, MapWrite};
/// use skep::map::{MapErrorKind, memory};
/// use skep::sys::abi::UpdateFlags;
///
/// let limits = memory::Array::<u64>::new(2)?;
/// limits.insert(&1, &100, UpdateFlags::empty())?;
/// assert_eq!((limits.get(&0)?, limits.get(&1)?, limits.get(&2)?), (Some(0), Some(100), None));
/// let outside = limits.insert(&2, &100, UpdateFlags::empty()).unwrap_err();
/// assert_eq!(outside.kind(), MapErrorKind::Full);
/// # Ok::<(), skep::map::MapError>(())
/// ```
pub struct Array<V> {
    core: Core,
    types: PhantomData<fn() -> V>,
}

impl<V: PlainData> Array<V> {
    /// That many zeroes.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for what no kernel creates: no elements, or too many.
    pub fn new(max_entries: u32) -> Result<Array<V>, MapError> {
        let value_size = u32::try_from(size_of::<V>()).unwrap_or(u32::MAX);
        let request = MapCreate::new(MapType::ARRAY, 4, value_size, max_entries);
        Ok(Array { core: Core::new(&request, 1)?, types: PhantomData })
    }
}

memory!(Array<V>);
elements!(Array<V>, u32, V, one);

/// An array in memory with a value per CPU in each element, as [`map::PerCpuArray`](crate::map::PerCpuArray) is one in a
/// kernel.
pub struct PerCpuArray<V> {
    core: Core,
    types: PhantomData<fn() -> V>,
}

impl<V: PlainData> PerCpuArray<V> {
    /// That many elements, each of a zero for every CPU, as on a machine with so many possible CPUs.
    ///
    /// # Errors
    /// [`MapError::Unavailable`] for what no kernel creates: no elements, too many, or values of more than 32768 bytes.
    pub fn new(max_entries: u32, cpus: u32) -> Result<PerCpuArray<V>, MapError> {
        let value_size = u32::try_from(size_of::<V>()).unwrap_or(u32::MAX);
        let request = MapCreate::new(MapType::PERCPU_ARRAY, 4, value_size, max_entries);
        Ok(PerCpuArray { core: Core::new(&request, cpus)?, types: PhantomData })
    }
}

memory!(PerCpuArray<V>);
elements!(PerCpuArray<V>, u32, PerCpuValues<V>, per_cpu);

impl<V> PerCpu for PerCpuArray<V> {
    fn cpus(&self) -> u32 {
        self.core.map().values_per_element()
    }
}

/// A map whose elements have a value for each possible CPU, as
/// [`PerCpuValues`](crate::map::PerCpuValues).
///
/// Who only reads need not know how many these are; who makes values to write does.
///
/// ```
/// use skep::map::traits::{MapIter, MapWrite, PerCpu};
/// use skep::map::{MapError, PerCpuValues, memory};
/// use skep::sys::abi::UpdateFlags;
///
/// fn reset(counters: &(impl MapIter<u32, PerCpuValues<u64>> + MapWrite<u32, PerCpuValues<u64>> + PerCpu)) -> Result<(), MapError> {
///     for (key, _) in counters.to_vec()? {
///         counters.insert(&key, &PerCpuValues::zeroed(counters.cpus()), UpdateFlags::EXIST)?;
///     }
///     Ok(())
/// }
///
/// let counters = memory::PerCpuHashMap::<u32, u64>::new(8, 4)?;
/// counters.insert(&1, &PerCpuValues::from_fn(4, u64::from), UpdateFlags::empty())?;
/// reset(&counters)?;
/// assert_eq!(counters.to_vec()?, [(1, PerCpuValues::zeroed(4))]);
/// # Ok::<(), MapError>(())
/// ```
pub trait PerCpu {
    /// Number of values in an element: the kernel's possible CPUs.
    fn cpus(&self) -> u32;
}

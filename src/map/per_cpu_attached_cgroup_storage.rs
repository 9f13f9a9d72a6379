use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{PER_CPU_ATTACHED_CGROUP_STORAGE, view};
use super::per_cpu::PerCpuValues;
use super::plain::PlainData;

/// Values per CPU that belong to attachments of programs to cgroups (`BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE`,
/// Linux 4.20). Made by [`Map::typed`].
///
/// In everything else it is as [`AttachedCgroupStorage`](super::AttachedCgroupStorage).
///
/// ```
/// use skep::map::{AttachedCgroupKey, Map, PerCpuAttachedCgroupStorage};
/// use skep::sys::abi::{AttachType, MapType};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::PERCPU_CGROUP_STORAGE, 16, 8, 0))?;
/// let packets: PerCpuAttachedCgroupStorage<AttachedCgroupKey, u64> = map.typed()?;
/// let attach_type = AttachType::CGROUP_INET_INGRESS.0;
/// assert!(packets.get(&AttachedCgroupKey { cgroup: 4711, attach_type, padding: 0 })?.is_none());
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE")]
pub struct PerCpuAttachedCgroupStorage<K, V> {
    map: Map,
    types: PhantomData<fn() -> (K, V)>,
}

view!(PerCpuAttachedCgroupStorage<K, V>, PER_CPU_ATTACHED_CGROUP_STORAGE, K, V);

impl<K: PlainData, V: PlainData> PerCpuAttachedCgroupStorage<K, V> {
    /// Zeroes for every CPU, as many as an element of this map has.
    pub fn zeroed_values(&self) -> PerCpuValues<V> {
        PerCpuValues::zeroed(self.map.values_per_element())
    }

    /// The values at `key`, if there are any, in memory of their own.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, key: &K) -> Result<Option<PerCpuValues<V>>, MapError> {
        let mut values = self.zeroed_values();
        Ok(self.get_into(key, &mut values)?.then_some(values))
    }

    /// Reads the values at `key` into `values`, without allocating. Answers whether there are any; if not, `values`
    /// are as before.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`], [`MapError::Failed`].
    pub fn get_into(&self, key: &K, values: &mut PerCpuValues<V>) -> Result<bool, MapError> {
        values.check(&self.map)?;
        self.map.lookup_into(key.as_bytes(), values.bytes_mut(), UpdateFlags::empty())
    }

    /// Replaces the values at `key`. Only attaching a program makes them.
    ///
    /// # Errors
    /// [`MapError::WrongCpuCount`]; [`MapError::Failed`] of kind [`NotFound`](super::MapErrorKind::NotFound) when there
    /// are none.
    pub fn set(&self, key: &K, values: &PerCpuValues<V>, flags: UpdateFlags) -> Result<(), MapError> {
        values.check(&self.map)?;
        self.map.update(key.as_bytes(), values.as_bytes(), flags)
    }

    /// All keys; see [`Keys`] for what holds while the map changes. Some old kernels (5.10) give one more after the last,
    /// which has no value; [`iter`](Self::iter) leaves it out.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All elements, with the guarantees of [`Keys`]; one whose key goes away before it is read is left out.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(K, PerCpuValues<V>), MapError>> {
        self.keys().filter_map(|key| match key {
            Ok(key) => match self.get(&key) {
                Ok(values) => values.map(|values| Ok((key, values))),
                Err(error) => Some(Err(error)),
            },
            Err(error) => Some(Err(error)),
        })
    }
}

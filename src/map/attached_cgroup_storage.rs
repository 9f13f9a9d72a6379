use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::abi::UpdateFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::PlainData;
use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::{ATTACHED_CGROUP_STORAGE, view};

/// Values that belong to attachments of programs to cgroups (`BPF_MAP_TYPE_CGROUP_STORAGE`, Linux 4.19). Made by
/// [`Map::typed`].
///
/// The kernel makes a value when a program that uses the map is attached to a cgroup, and removes it with the cgroup or the
/// map. A key is an [`AttachedCgroupKey`]: one value for each cgroup and attach type. From Linux 5.9 on it can be a
/// [`u64`] instead, the cgroup's id: one value for each cgroup.
///
/// The kernel calls these maps deprecated, and has [`CgroupStorage`](super::CgroupStorage) in their place.
///
/// ```
/// use skep::map::{AttachedCgroupStorage, Map};
/// use skep::sys::abi::MapType;
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::CGROUP_STORAGE, 8, 8, 0))?;
/// let packets: AttachedCgroupStorage<u64, u64> = map.typed()?;
/// assert_eq!(packets.get(&4711)?, None);
/// assert_eq!(packets.keys().count(), 0);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_CGROUP_STORAGE")]
pub struct AttachedCgroupStorage<K, V> {
    map: Map,
    types: PhantomData<fn() -> (K, V)>,
}

/// An attachment of programs to a cgroup (`struct bpf_cgroup_storage_key`).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    PlainData,
)]
#[plain_data(crate = "crate")]
#[repr(C)]
pub struct AttachedCgroupKey {
    /// Id of the cgroup, which is the inode number of its directory.
    pub cgroup: u64,
    /// Number of the attach type, as [`AttachType`](skep_sys::abi::AttachType) has it.
    pub attach_type: u32,
    /// Nothing.
    pub padding: u32,
}

view!(AttachedCgroupStorage<K, V>, ATTACHED_CGROUP_STORAGE, K, V);

impl<K: PlainData, V: PlainData> AttachedCgroupStorage<K, V> {
    /// The value at `key`, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = V::new_zeroed();
        Ok(self.get_into(key, &mut value)?.then_some(value))
    }

    /// Reads the value at `key` into `value`. Answers whether there is one; if not, `value` is as before.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get_into(&self, key: &K, value: &mut V) -> Result<bool, MapError> {
        self.map.lookup_into(key.as_bytes(), value.as_mut_bytes(), UpdateFlags::empty())
    }

    /// Replaces the value at `key`. Only attaching a program makes one.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`NotFound`](super::MapErrorKind::NotFound) when there is none.
    pub fn set(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update(key.as_bytes(), value.as_bytes(), flags)
    }

    /// All keys; see [`Keys`] for what holds while the map changes. Some old kernels (5.10) give one more after the last,
    /// which has no value; [`iter`](Self::iter) leaves it out.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All elements, with the guarantees of [`Keys`]; one whose key goes away before it is read is left out.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(K, V), MapError>> {
        self.keys().filter_map(|key| match key {
            Ok(key) => match self.get(&key) {
                Ok(value) => value.map(|value| Ok((key, value))),
                Err(error) => Some(Err(error)),
            },
            Err(error) => Some(Err(error)),
        })
    }
}

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::CGROUP_ARRAY;

/// Cgroups, which programs ask whether a task or packet belongs to (`BPF_MAP_TYPE_CGROUP_ARRAY`, Linux 4.8). Made by
/// [`Map::typed`].
///
/// A cgroup is given by a descriptor of its directory on a cgroup file system of version 2. What is in a slot cannot be
/// asked for from user space. The simulated kernel takes any directory.
///
/// ```
/// use std::fs::File;
///
/// use skep::map::{CgroupArray, Map};
/// use skep::sys::abi::{Errno, MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::CGROUP_ARRAY, 4, 4, 1))?;
/// let watched: CgroupArray = map.typed()?;
/// watched.set(0, File::open("/")?, UpdateFlags::empty())?;
/// let error = watched.set(0, File::open("/dev/null")?, UpdateFlags::empty()).unwrap_err();
/// assert_eq!(error.errno(), Some(Errno::EBADF));
/// assert!(watched.remove(0)?);
/// assert!(!watched.remove(0)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_CGROUP_ARRAY")]
pub struct CgroupArray {
    map: Map,
    types: PhantomData<()>,
}

descriptor_view!(CgroupArray, CGROUP_ARRAY, u32, &[4]);

impl CgroupArray {
    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no slots, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a cgroup into the slot at `index`. No flags are taken.
    ///
    /// # Errors
    /// [`MapError::Failed`]: [`Errno::EBADF`](skep_sys::abi::Errno::EBADF) for what is no cgroup of version 2, of kind
    /// [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn set(&self, index: u32, cgroup: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_fd(&index.to_ne_bytes(), cgroup, flags)
    }

    /// Empties the slot at `index`. Answers whether there was a cgroup in it.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(&index.to_ne_bytes())
    }
}

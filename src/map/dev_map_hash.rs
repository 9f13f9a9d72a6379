use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::LoadedProgram;
use skep_sys::abi::UpdateFlags;

use super::descriptors::descriptor_view;
use super::dev_map::Device;
use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::DEV_MAP_HASH;

/// Network devices by any number, which XDP programs redirect packets to (`BPF_MAP_TYPE_DEVMAP_HASH`, Linux 5.4). Made
/// by [`Map::typed`].
///
/// Values have 4 bytes, or 8 with room for a program that runs on each packet that is about to leave (Linux 5.8). The
/// kernel forgets a device that goes away.
///
/// ```
/// use skep::map::{DevMapHash, Device, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::DEVMAP_HASH, 4, 8, 16))?;
/// let by_network: DevMapHash = map.typed()?;
/// by_network.insert(0x0a00_0000, 1, UpdateFlags::NOEXIST)?;
/// assert_eq!(by_network.get(0x0a00_0000)?, Some(Device { ifindex: 1, program: None }));
/// assert!(by_network.remove(0x0a00_0000)?);
/// assert!(!by_network.remove(0x0a00_0000)?);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_DEVMAP_HASH")]
pub struct DevMapHash {
    map: Map,
    types: PhantomData<()>,
}

descriptor_view!(DevMapHash, DEV_MAP_HASH, u32, &[4, 8]);

impl DevMapHash {
    /// The device at `key`, if there is one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, key: u32) -> Result<Option<Device>, MapError> {
        let target = self.map.lookup_target(key)?;
        Ok(target.map(|(ifindex, program)| Device { ifindex, program }))
    }

    /// Puts a device at `key`. [`UpdateFlags::EXIST`] says nothing here: a missing element is made.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when there is no such device;
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`]; [`Full`](super::MapErrorKind::Full).
    pub fn insert(&self, key: u32, ifindex: u32, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_target(key, ifindex, None, flags)
    }

    /// As [`insert`](DevMapHash::insert), with a program that runs on each packet that is about to leave there
    /// (Linux 5.8). It is an XDP program that was loaded for
    /// [`AttachType::XDP_DEVMAP`](skep_sys::abi::AttachType::XDP_DEVMAP).
    ///
    /// # Errors
    /// As [`insert`](DevMapHash::insert); of kind [`Invalid`](super::MapErrorKind::Invalid) for another program, and
    /// [`Length`](super::MapErrorKind::Length) when the map's values have no room for one.
    pub fn insert_with_program(
        &self,
        key: u32,
        ifindex: u32,
        program: &LoadedProgram,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.map.update_target(key, ifindex, Some(program), flags)
    }

    /// Removes the element at `key`. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: u32) -> Result<bool, MapError> {
        self.map.delete(&key.to_ne_bytes())
    }

    /// All keys; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, u32> {
        Keys::new(&self.map)
    }

    /// All elements, with the guarantees of [`Keys`]; one whose key goes away before it is read is left out.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(u32, Device), MapError>> {
        self.keys().filter_map(|key| match key {
            Ok(key) => self.get(key).map(|device| device.map(|device| (key, device))).transpose(),
            Err(error) => Some(Err(error)),
        })
    }
}

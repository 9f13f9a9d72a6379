use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use skep_sys::LoadedProgram;
use skep_sys::abi::{ProgId, UpdateFlags};

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::DEV_MAP;

/// Network devices by index, which XDP programs redirect packets to (`BPF_MAP_TYPE_DEVMAP`, Linux 4.14). Made by
/// [`Map::typed`].
///
/// Values have 4 bytes, or 8 with room for a program that runs on each packet that is about to leave (Linux 5.8). The
/// kernel forgets a device that goes away.
///
/// ```
/// use skep::map::{DevMap, Device, Map};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let kernel = skep::sim::kernel();
/// let map = Map::create(&kernel, &MapCreate::new(MapType::DEVMAP, 4, 4, 16))?;
/// let ports: DevMap = map.typed()?;
/// ports.set(3, 1, UpdateFlags::empty())?;
/// assert_eq!(ports.get(3)?, Some(Device { ifindex: 1, program: None }));
/// assert_eq!(ports.iter().count(), 1);
/// ports.remove(3)?;
/// assert_eq!(ports.get(3)?, None);
/// # Ok::<(), skep::map::MapError>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_DEVMAP")]
pub struct DevMap {
    map: Map,
    types: PhantomData<()>,
}

/// A network device that packets are redirected to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Device {
    /// Its index.
    pub ifindex: u32,
    /// The program that runs on packets that are about to leave there.
    pub program: Option<ProgId>,
}

descriptor_view!(DevMap, DEV_MAP, u32, &[4, 8]);

impl DevMap {
    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no slots, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device at `index`; none for an empty slot and outside of the map.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn get(&self, index: u32) -> Result<Option<Device>, MapError> {
        let target = self.map.lookup_target(index)?;
        Ok(target.map(|(ifindex, program)| Device { ifindex, program }))
    }

    /// Puts a device into the slot at `index`. The index 0, which no device has, empties it.
    ///
    /// Slots count as taken: [`UpdateFlags::NOEXIST`] is always refused, and [`UpdateFlags::EXIST`] says nothing.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when there is no such device,
    /// [`Full`](super::MapErrorKind::Full) when `index` is outside of the map.
    pub fn set(&self, index: u32, ifindex: u32, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_target(index, ifindex, None, flags)
    }

    /// As [`set`](DevMap::set), with a program that runs on each packet that is about to leave there (Linux 5.8). It is
    /// an XDP program that was loaded for [`AttachType::XDP_DEVMAP`](skep_sys::abi::AttachType::XDP_DEVMAP).
    ///
    /// # Errors
    /// As [`set`](DevMap::set); of kind [`Invalid`](super::MapErrorKind::Invalid) for another program, and
    /// [`Length`](super::MapErrorKind::Length) when the map's values have no room for one.
    pub fn set_with_program(
        &self,
        index: u32,
        ifindex: u32,
        program: &LoadedProgram,
        flags: UpdateFlags,
    ) -> Result<(), MapError> {
        self.map.update_target(index, ifindex, Some(program), flags)
    }

    /// Empties the slot at `index`, which may be empty already.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when `index` is outside of the map.
    pub fn remove(&self, index: u32) -> Result<(), MapError> {
        self.map.delete(&index.to_ne_bytes()).map(drop)
    }

    /// The slots that hold a device, in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(u32, Device), MapError>> {
        self.map.slots(|index| self.get(index))
    }
}

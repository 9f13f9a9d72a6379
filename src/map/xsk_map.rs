use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::XSK_MAP;

/// `AF_XDP` sockets, which XDP programs redirect packets to (`BPF_MAP_TYPE_XSKMAP`, Linux 4.18). Made by
/// [`Map::typed`].
///
/// What is in a slot cannot be asked for from user space. The kernel forgets a socket that is closed.
///
/// ```
/// use std::net::UdpSocket;
///
/// use skep::map::{Map, MapErrorKind, XskMap};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let mut request = MapCreate::new(MapType::XSKMAP, 4, 4, 8);
/// request.name = "queues";
/// let queues: XskMap = Map::create(&skep::sim::kernel(), &request)?.typed()?;
/// let error = queues.set(0, UdpSocket::bind("127.0.0.1:0")?, UpdateFlags::empty()).unwrap_err();
/// assert_eq!(error.kind(), MapErrorKind::Unsupported);
/// assert_eq!(error.to_string(), "cannot update an element of map `queues`: that is no AF_XDP socket");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_XSKMAP")]
pub struct XskMap {
    map: Map,
    types: PhantomData<()>,
}

descriptor_view!(XskMap, XSK_MAP, u32, &[4]);

impl XskMap {
    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no slots, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a socket into the slot at `index`.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Unsupported`](super::MapErrorKind::Unsupported) for a socket of another family,
    /// [`Errno::ENOTSOCK`](skep_sys::abi::Errno::ENOTSOCK) for what is no socket;
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`] and another socket there;
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Full`](super::MapErrorKind::Full) when `index` is outside of the map.
    pub fn set(&self, index: u32, socket: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_fd(&index.to_ne_bytes(), socket, flags)
    }

    /// Empties the slot at `index`, which may be empty already.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when `index` is outside of the map.
    pub fn remove(&self, index: u32) -> Result<(), MapError> {
        self.map.delete(&index.to_ne_bytes()).map(drop)
    }
}

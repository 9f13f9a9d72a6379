use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::REUSEPORT_ARRAY;

/// Sockets that share a port, among which a program chooses the one that a packet or connection is for
/// (`BPF_MAP_TYPE_REUSEPORT_SOCKARRAY`, Linux 4.19). Made by [`Map::typed`].
///
/// It takes TCP sockets that listen and UDP sockets with a port, both with `SO_REUSEPORT`. A socket can be in one slot of
/// one map only. With values of 8 bytes its cookie can be read back. The kernel forgets a socket that is closed.
///
/// ```
/// use std::net::UdpSocket;
///
/// use skep::map::{Map, MapErrorKind, ReuseportArray};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let mut request = MapCreate::new(MapType::REUSEPORT_SOCKARRAY, 4, 8, 2);
/// request.name = "workers";
/// let workers: ReuseportArray = Map::create(&skep::sim::kernel(), &request)?.typed()?;
/// let error = workers.set(0, UdpSocket::bind("127.0.0.1:0")?, UpdateFlags::empty()).unwrap_err();
/// assert_eq!(error.kind(), MapErrorKind::Invalid);
/// assert!(error.to_string().contains("SO_REUSEPORT"));
/// assert_eq!(workers.cookie(0)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY")]
pub struct ReuseportArray {
    map: Map,
    types: PhantomData<()>,
}

descriptor_view!(ReuseportArray, REUSEPORT_ARRAY, u32, &[4, 8]);

impl ReuseportArray {
    /// Number of slots.
    pub fn len(&self) -> u32 {
        self.map.max_entries()
    }

    /// Whether it has no slots, which no kernel allows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cookie (`SO_COOKIE`) of the socket at `index`; none for an empty slot and outside of the map.
    ///
    /// # Errors
    /// [`MapError::WrongValueSize`] for a map whose values have 4 bytes, [`MapError::Failed`].
    pub fn cookie(&self, index: u32) -> Result<Option<u64>, MapError> {
        self.map.lookup_cookie(&index.to_ne_bytes())
    }

    /// Puts a socket into the slot at `index`.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) for a socket that does not listen, has no
    /// port or not got `SO_REUSEPORT` before it was bound; [`Busy`](super::MapErrorKind::Busy) for one that is in such
    /// an array already; [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn set(&self, index: u32, socket: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_fd(&index.to_ne_bytes(), socket, flags)
    }

    /// Empties the slot at `index`. Answers whether there was a socket in it.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Full`](super::MapErrorKind::Full) when `index` is outside of the array.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        self.map.delete(&index.to_ne_bytes())
    }

    /// The slots that hold a socket with its cookie, in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(u32, u64), MapError>> {
        self.map.slots(|index| self.cookie(index))
    }
}

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::{Errno, UpdateFlags};

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::kinds::SOCK_MAP;

/// Sockets by index, which programs redirect data to (`BPF_MAP_TYPE_SOCKMAP`, Linux 4.14). Made by [`Map::typed`].
///
/// It takes TCP sockets that are connected or listen (from Linux 4.14 and 5.6 on), UDP sockets with a port (5.7), and
/// Unix sockets (5.15). Values have 4 bytes, or 8: then the socket's cookie can be read back (5.8). The kernel forgets a
/// socket that is closed.
///
/// ```
/// use std::net::UdpSocket;
///
/// use skep::map::{Map, SockMap};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::SOCKMAP, 4, 8, 2))?;
/// let peers: SockMap = map.typed()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// peers.set(1, &socket, UpdateFlags::empty())?;
/// assert!(peers.cookie(1)?.is_some());
/// drop(socket);
/// assert_eq!(peers.cookie(1)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_SOCKMAP")]
pub struct SockMap {
    map: Map,
    types: PhantomData<()>,
}

descriptor_view!(SockMap, SOCK_MAP, u32, &[4, 8]);

impl SockMap {
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
    /// [`MapError::Failed`] of kind [`Unsupported`](super::MapErrorKind::Unsupported) for a socket that is not of these
    /// kinds or not connected, [`Errno::ENOTSOCK`] for what is no socket;
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Full`](super::MapErrorKind::Full) when `index` is outside of the map.
    pub fn set(&self, index: u32, socket: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_fd(&index.to_ne_bytes(), socket, flags)
    }

    /// Empties the slot at `index`. Answers whether there was a socket in it.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Invalid`](super::MapErrorKind::Invalid) when `index` is outside of the map.
    pub fn remove(&self, index: u32) -> Result<bool, MapError> {
        match self.map.delete(&index.to_ne_bytes()) {
            // What the kernel says of an empty slot.
            Err(error) if error.errno() == Some(Errno::EINVAL) && index < self.len() => Ok(false),
            result => result,
        }
    }

    /// The slots that hold a socket with its cookie, in the order of their indexes. It ends after the first error.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(u32, u64), MapError>> {
        self.map.slots(|index| self.cookie(index))
    }
}

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::descriptors::descriptor_view;
use super::error::MapError;
use super::handle::Map;
use super::keys::Keys;
use super::kinds::SOCK_HASH;
use super::plain::PlainData;

/// Sockets by any key, which programs redirect data to (`BPF_MAP_TYPE_SOCKHASH`, Linux 4.18). Made by [`Map::typed`].
///
/// It takes the same sockets as [`SockMap`](super::SockMap). Values have 4 bytes, or 8: then the socket's cookie can be
/// read back (Linux 5.8). The kernel forgets a socket that is closed.
///
/// ```
/// use std::net::UdpSocket;
///
/// use skep::map::{Map, SockHash};
/// use skep::sys::abi::{MapType, UpdateFlags};
/// use skep::sys::request::MapCreate;
///
/// let map = Map::create(&skep::sim::kernel(), &MapCreate::new(MapType::SOCKHASH, 6, 8, 16))?;
/// let by_peer: SockHash<[u8; 6]> = map.typed()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let peer = [127, 0, 0, 1, 0, 53];
/// by_peer.insert(&peer, &socket, UpdateFlags::NOEXIST)?;
/// assert!(by_peer.cookie(&peer)?.is_some());
/// assert!(by_peer.remove(&peer)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_SOCKHASH")]
pub struct SockHash<K> {
    map: Map,
    types: PhantomData<fn() -> K>,
}

descriptor_view!(SockHash<K>, SOCK_HASH, K, &[4, 8]);

impl<K: PlainData> SockHash<K> {
    /// The cookie (`SO_COOKIE`) of the socket at `key`, if there is one.
    ///
    /// # Errors
    /// [`MapError::WrongValueSize`] for a map whose values have 4 bytes, [`MapError::Failed`].
    pub fn cookie(&self, key: &K) -> Result<Option<u64>, MapError> {
        self.map.lookup_cookie(key.as_bytes())
    }

    /// Puts a socket at `key`.
    ///
    /// # Errors
    /// [`MapError::Failed`] of kind [`Unsupported`](super::MapErrorKind::Unsupported) for a socket that is not of these
    /// kinds or not connected, [`Errno::ENOTSOCK`](skep_sys::abi::Errno::ENOTSOCK) for what is no socket;
    /// [`Exists`](super::MapErrorKind::Exists) with [`UpdateFlags::NOEXIST`];
    /// [`NotFound`](super::MapErrorKind::NotFound) with [`UpdateFlags::EXIST`];
    /// [`Full`](super::MapErrorKind::Full).
    pub fn insert(&self, key: &K, socket: impl AsFd, flags: UpdateFlags) -> Result<(), MapError> {
        self.map.update_fd(key.as_bytes(), socket, flags)
    }

    /// Removes the element at `key`. Answers whether there was one.
    ///
    /// # Errors
    /// [`MapError::Failed`].
    pub fn remove(&self, key: &K) -> Result<bool, MapError> {
        self.map.delete(key.as_bytes())
    }

    /// All keys; see [`Keys`] for what holds while the map changes.
    pub fn keys(&self) -> Keys<'_, K> {
        Keys::new(&self.map)
    }

    /// All keys and the cookies of their sockets, with the guarantees of [`Keys`]; one whose key goes away before it is
    /// read is left out.
    pub fn iter(&self) -> impl FusedIterator<Item = Result<(K, u64), MapError>> {
        self.keys().filter_map(|key| match key {
            Ok(key) => match self.cookie(&key) {
                Ok(cookie) => cookie.map(|cookie| Ok((key, cookie))),
                Err(error) => Some(Err(error)),
            },
            Err(error) => Some(Err(error)),
        })
    }
}

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{SK_STORAGE, view};
use super::plain::PlainData;
use super::storage::storage;

/// Values that belong to sockets, and go with them
/// (`BPF_MAP_TYPE_SK_STORAGE`, Linux 5.2). Made by [`Map::typed`].
///
/// A socket is given by its descriptor. What a program keeps for a connection can be read here, and set before it begins.
///
/// The kernel cannot list the sockets that have a value. Such maps are created without a capacity, with [`MapFlags::NO_PREALLOC`], and with
/// BTF types of key and value; the key is an `int`.
///
/// [`MapFlags::NO_PREALLOC`]: skep_sys::abi::MapFlags::NO_PREALLOC
///
/// ```
/// use std::os::fd::AsFd;
/// use std::net::UdpSocket;
///
/// use skep::btf::{BtfBuilder, IntEncoding};
/// use skep::map::{Map, SkStorage};
/// use skep::sys::abi::{MapFlags, MapType, UpdateFlags};
/// use skep::sys::request::{MapBtf, MapCreate};
///
/// let kernel = skep::sim::kernel();
/// let mut types = BtfBuilder::new();
/// let int = types.add_int("int", 4, IntEncoding::SIGNED)?.0;
/// let types = kernel.btf_load(types.finish()?.bytes(), None)?;
/// let mut request = MapCreate::new(MapType::SK_STORAGE, 4, 4, 0);
/// request.flags = MapFlags::NO_PREALLOC;
/// request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
/// let marks: SkStorage<i32> = Map::create(&kernel, &request)?.typed()?;
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// marks.insert(&socket, &7, UpdateFlags::NOEXIST)?;
/// assert_eq!(marks.get(&socket)?, Some(7));
/// assert!(marks.remove(&socket)?);
/// assert_eq!(marks.get(&socket)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_SK_STORAGE")]
pub struct SkStorage<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

storage!(
    SkStorage,
    SK_STORAGE,
    "socket",
    "[`Errno::ENOTSOCK`](skep_sys::abi::Errno::ENOTSOCK) for what is no socket"
);

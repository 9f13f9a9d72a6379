use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{INODE_STORAGE, view};
use super::plain::PlainData;
use super::storage::storage;

/// Values that belong to inodes, and go when these leave the kernel's memory
/// (`BPF_MAP_TYPE_INODE_STORAGE`, Linux 5.10). Made by [`Map::typed`].
///
/// An inode is given by an open file of any kind.
///
/// The kernel cannot list the inodes that have a value. Such maps are created without a capacity, with [`MapFlags::NO_PREALLOC`], and with
/// BTF types of key and value; the key is an `int`.
///
/// [`MapFlags::NO_PREALLOC`]: skep_sys::abi::MapFlags::NO_PREALLOC
///
/// ```
/// use std::os::fd::AsFd;
/// use std::fs::File;
///
/// use skep::btf::{BtfBuilder, IntEncoding};
/// use skep::map::{Map, InodeStorage};
/// use skep::sys::abi::{MapFlags, MapType, UpdateFlags};
/// use skep::sys::request::{MapBtf, MapCreate};
///
/// let kernel = skep::sim::kernel();
/// let mut types = BtfBuilder::new();
/// let int = types.add_int("int", 4, IntEncoding::SIGNED)?.0;
/// let types = kernel.btf_load(types.finish()?.bytes(), None)?;
/// let mut request = MapCreate::new(MapType::INODE_STORAGE, 4, 4, 0);
/// request.flags = MapFlags::NO_PREALLOC;
/// request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
/// let labels: InodeStorage<i32> = Map::create(&kernel, &request)?.typed()?;
///
/// let file = File::open("/")?;
/// labels.insert(&file, &7, UpdateFlags::NOEXIST)?;
/// assert_eq!(labels.get(&file)?, Some(7));
/// assert!(labels.remove(&file)?);
/// assert_eq!(labels.get(&file)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_INODE_STORAGE")]
pub struct InodeStorage<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

storage!(
    InodeStorage,
    INODE_STORAGE,
    "file",
    "[`Errno::EBADF`](skep_sys::abi::Errno::EBADF) for what is no open file"
);

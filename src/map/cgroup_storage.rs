use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{CGRP_STORAGE, view};
use super::plain::PlainData;
use super::storage::storage;

/// Values that belong to cgroups, and go with them
/// (`BPF_MAP_TYPE_CGRP_STORAGE`, Linux 6.2). Made by [`Map::typed`].
///
/// A cgroup is given by a descriptor of its directory. The simulated kernel takes any directory.
///
/// Storage that belongs to the attachment of a program to a cgroup is [`AttachedCgroupStorage`](super::AttachedCgroupStorage).
///
/// The kernel cannot list the cgroups that have a value. Such maps are created without a capacity, with [`MapFlags::NO_PREALLOC`], and with
/// BTF types of key and value; the key is an `int`.
///
/// [`MapFlags::NO_PREALLOC`]: skep_sys::abi::MapFlags::NO_PREALLOC
///
/// ```
/// use std::os::fd::AsFd;
/// use std::fs::File;
///
/// use skep::btf::{BtfBuilder, IntEncoding};
/// use skep::map::{Map, CgroupStorage};
/// use skep::sys::abi::{MapFlags, MapType, UpdateFlags};
/// use skep::sys::request::{MapBtf, MapCreate};
///
/// let kernel = skep::sim::kernel();
/// let mut types = BtfBuilder::new();
/// let int = types.add_int("int", 4, IntEncoding::SIGNED)?.0;
/// let types = kernel.btf_load(types.finish()?.bytes(), None)?;
/// let mut request = MapCreate::new(MapType::CGRP_STORAGE, 4, 4, 0);
/// request.flags = MapFlags::NO_PREALLOC;
/// request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
/// let budgets: CgroupStorage<i32> = Map::create(&kernel, &request)?.typed()?;
///
/// let cgroup = File::open("/")?;
/// budgets.insert(&cgroup, &7, UpdateFlags::NOEXIST)?;
/// assert_eq!(budgets.get(&cgroup)?, Some(7));
/// assert!(budgets.remove(&cgroup)?);
/// assert_eq!(budgets.get(&cgroup)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_CGRP_STORAGE")]
pub struct CgroupStorage<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

storage!(
    CgroupStorage,
    CGRP_STORAGE,
    "cgroup",
    "[`Errno::EBADF`](skep_sys::abi::Errno::EBADF) for what is no cgroup"
);

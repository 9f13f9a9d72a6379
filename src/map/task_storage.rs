use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::error::MapError;
use super::handle::Map;
use super::kinds::{TASK_STORAGE, view};
use super::plain::PlainData;
use super::storage::storage;

/// Values that belong to tasks, and go with them
/// (`BPF_MAP_TYPE_TASK_STORAGE`, Linux 5.11). Made by [`Map::typed`].
///
/// A task is given by a pidfd (`pidfd_open(2)`): a process by its main thread, another thread by one that was opened with
/// `PIDFD_THREAD` (Linux 6.9).
///
/// The kernel cannot list the tasks that have a value. Such maps are created without a capacity, with [`MapFlags::NO_PREALLOC`], and with
/// BTF types of key and value; the key is an `int`.
///
/// [`MapFlags::NO_PREALLOC`]: skep_sys::abi::MapFlags::NO_PREALLOC
///
/// ```
/// use std::os::fd::AsFd;
///
/// use skep::btf::{BtfBuilder, IntEncoding};
/// use skep::map::{Map, TaskStorage};
/// use skep::sys::abi::{MapFlags, MapType, UpdateFlags};
/// use skep::sys::request::{MapBtf, MapCreate};
///
/// let kernel = skep::sim::kernel();
/// let mut types = BtfBuilder::new();
/// let int = types.add_int("int", 4, IntEncoding::SIGNED)?.0;
/// let types = kernel.btf_load(types.finish()?.bytes(), None)?;
/// let mut request = MapCreate::new(MapType::TASK_STORAGE, 4, 4, 0);
/// request.flags = MapFlags::NO_PREALLOC;
/// request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
/// let marks: TaskStorage<i32> = Map::create(&kernel, &request)?.typed()?;
///
/// # #[cfg(target_os = "linux")] {
/// use rustix::process::{PidfdFlags, getpid, pidfd_open};
///
/// let process = pidfd_open(getpid(), PidfdFlags::empty())?;
/// marks.insert(&process, &7, UpdateFlags::NOEXIST)?;
/// assert_eq!(marks.get(&process)?, Some(7));
/// assert!(marks.remove(&process)?);
/// assert_eq!(marks.get(&process)?, None);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "BPF_MAP_TYPE_TASK_STORAGE")]
pub struct TaskStorage<V> {
    map: Map,
    types: PhantomData<fn() -> V>,
}

storage!(
    TaskStorage,
    TASK_STORAGE,
    "task",
    "[`Errno::EBADF`](skep_sys::abi::Errno::EBADF) for what is no pidfd"
);

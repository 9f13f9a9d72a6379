//! What values of local storage belong to, as far as the simulated kernel has it: its sockets, tasks, files and control groups,
//! by the descriptors that user space has of them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapType};

use crate::fd::Access;
use crate::kernel::{Inner, SimKernel};
use crate::map::{Map, Owner};
use crate::object::Object;

impl Inner {
    /// Whose value of a map a key means, where the map is local storage and the key a descriptor that this kernel gave out of
    /// something of its own.
    pub(crate) fn owner(&self, map: &Map, key: &[u8]) -> Result<Option<Owner>, Errno> {
        if !map.is_storage() {
            return Ok(None);
        }
        let Ok(number) = key.try_into().map(i32::from_ne_bytes) else { return Ok(None) };
        let Ok(object) = self.object_number(number) else { return Ok(None) };
        Ok(match (map.shape.kind, object) {
            (MapType::SK_STORAGE, Object::Socket(cookie)) => {
                self.world().net.socket(cookie).ok_or(Errno::EBADF)?;
                Some(Owner::Simulated(cookie))
            }
            (MapType::TASK_STORAGE, Object::Task(pid)) => {
                self.world().tasks.get(pid).ok_or(Errno::ENOENT)?;
                Some(Owner::Process(pid.cast_signed()))
            }
            (MapType::CGRP_STORAGE, Object::Cgroup(id)) => Some(Owner::Cgroup(id)),
            (MapType::INODE_STORAGE, Object::File(inode)) => Some(Owner::Simulated(inode)),
            _ => None,
        })
    }

    /// Forgets all values that belong to something that has gone.
    pub(crate) fn forget_owner(&self, kind: MapType, owner: Owner) {
        let maps: Vec<Arc<Map>> = self.state().maps.iter().filter(|map| map.shape.kind == kind).collect();
        for map in maps {
            // There need not be one.
            let _ = map.storage_delete(owner);
        }
    }
}

impl SimKernel {
    /// Opens a task, as `pidfd_open(2)` does: the key of its value in a map of the kind `TASK_STORAGE`.
    ///
    /// # Errors
    /// [`Errno::ESRCH`] when there is no such task, [`Errno::EINVAL`] when it is not the first thread of its process.
    pub fn open_task(&self, pid: u32) -> Result<OwnedFd, Errno> {
        let leads = self.0.world().tasks.get(pid).map(|task| task.tgid() == pid).ok_or(Errno::ESRCH)?;
        if !leads {
            return Err(Errno::EINVAL);
        }
        self.0.open(Object::Task(pid), Access::ALL)
    }

    /// Opens the file with a path, as programs see it ([`file_object`](SimKernel::file_object)): the key of its inode's value in a
    /// map of the kind `INODE_STORAGE`.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when the kernel has no types, so that programs see no files.
    pub fn open_file(&self, path: &str) -> Result<OwnedFd, Errno> {
        let inode = self.inode_object(path).map_err(|_| Errno::ENOENT)?;
        self.0.open(Object::File(inode.address()), Access::ALL)
    }
}

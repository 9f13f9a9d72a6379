//! The `task_struct` of tasks.

use crate::image::{ImageError, KernelObject, TASK_SIZE};
use crate::kernel::SimKernel;
use crate::world::Task;

/// Parents of parents whose structs are made.
const ANCESTORS_MAX: u32 = 64;

impl SimKernel {
    /// The `task_struct` of a task, as programs find it with `bpf_get_current_task`, to set what is not known of a
    /// [`Task`]. The task is added when it does not exist.
    ///
    /// ```
    /// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
    /// # let sim = skep_sim::SimKernel::builder().btf(btf).build()?;
    /// let task = sim.task_object(1000)?;
    /// assert_eq!(task.get("real_parent.tgid")?, 1);
    /// task.set("exit_code", 256)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`].
    pub fn task_object(&self, pid: u32) -> Result<KernelObject, ImageError> {
        if self.0.world().tasks.get(pid).is_none() {
            self.add_task(Task::new(pid));
        }
        let (btf, ty) = self.0.type_named("task_struct")?;
        let address = self.task_address(pid).ok_or(ImageError::NoBtf)?;
        Ok(KernelObject::new(self, &btf, address, ty))
    }

    /// A `struct file` of a path, whose directories are dentries up to the root: an argument of `vfs_open`, `file_open` and their like.
    /// `bpf_d_path` finds the path again. All files of a path have the same inode, to which [`open_file`](SimKernel::open_file) leads.
    ///
    /// ```
    /// # let btf = std::fs::read("../testdata/btf/6.18.btf")?;
    /// # let sim = skep_sim::SimKernel::builder().btf(btf).build()?;
    /// let file = sim.file_object("/etc/passwd")?;
    /// let directory = file.at("f_path.dentry.d_parent")?;
    /// assert_eq!(sim.memory().read(directory.get("d_name.name")?.try_into()?, 4)?, b"etc\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ImageError::NoBtf`], [`ImageError::NoType`].
    pub fn file_object(&self, path: &str) -> Result<KernelObject, ImageError> {
        let file = self.memory().object("file")?;
        let root = self.memory().object("dentry")?;
        root.set("d_name.name", "/")?.set("d_parent", &root)?;
        let mut dentry = root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let next = self.memory().object("dentry")?;
            next.set("d_name.name", name)?.set("d_parent", &dentry)?;
            let _ = next.set("d_name.len", name.len()); // it has it
            dentry = next;
        }
        file.set("f_path.dentry", &dentry)?;
        // Types that were cut down may have no inodes.
        if let Ok(inode) = self.inode_object(path) {
            let _ = file.set("f_inode", &inode);
            let _ = dentry.set("d_inode", &inode);
        }
        Ok(file)
    }

    /// The `struct inode` of a path: the same for all files of it.
    pub(crate) fn inode_object(&self, path: &str) -> Result<KernelObject, ImageError> {
        let known = self.0.world().structures.inodes.get(path).copied();
        if let Some(address) = known {
            return self.memory().object_at("inode", address);
        }
        let inode = self.memory().object("inode")?;
        let number = {
            let inodes = &mut self.0.world().structures.inodes;
            inodes.insert(path.to_owned(), inode.address());
            inodes.len() + 1 // the root of a file system is 2
        };
        let _ = inode.set("i_ino", number);
        Ok(inode)
    }

    /// The descriptors of a process and the addresses of their files, which are made at first.
    pub(crate) fn open_files(&self, pid: u32) -> Vec<(u32, u64)> {
        let files = {
            let world = self.0.world();
            world.tasks.get(pid).map(|task| task.files().clone()).unwrap_or_default()
        };
        let mut open = Vec::new();
        for (fd, path) in files {
            let known = self.0.world().structures.files.get(&(pid, fd)).copied();
            let Some(address) = known.or_else(|| Some(self.file_object(&path).ok()?.address())) else {
                continue;
            };
            self.0.world().structures.files.insert((pid, fd), address);
            open.push((fd, address));
        }
        open
    }

    /// The address of a task's struct, which is made at first. Without BTF nothing but zero is there.
    pub(crate) fn task_address(&self, pid: u32) -> Option<u64> {
        self.task_address_at(pid, ANCESTORS_MAX)
    }

    fn task_address_at(&self, pid: u32, depth: u32) -> Option<u64> {
        let task = self.0.world().tasks.get(pid).cloned()?;
        if task.object.is_some() {
            return task.object;
        }
        let object = self.memory().object("task_struct");
        let address = object.as_ref().map_or_else(|_| self.memory().put(&[0; 4096]), KernelObject::address);
        if let Some(task) = self.0.world().tasks.get_mut(pid) {
            task.object = Some(address);
        }
        if let Ok(object) = object {
            self.fill_task(&object, &task, depth.checked_sub(1));
        }
        Some(address)
    }

    /// Sets the fields that the kernel has; which ones these are depends on its version.
    fn fill_task(&self, object: &KernelObject, task: &Task, depth: Option<u32>) {
        let (uid, gid) = task.owner();
        let numbers: [(&str, u64); 6] = [
            ("pid", task.pid().into()),
            ("tgid", task.tgid().into()),
            ("start_time", task.started()),
            ("start_boottime", task.started()),
            ("real_start_time", task.started()),
            ("thread_pid.numbers[0].nr", task.pid().into()),
        ];
        for (path, value) in numbers {
            let _ = object.set(path, value);
        }
        let group = task.cgroup_path().last().copied().unwrap_or_default();
        let _ = match self.cgroup_address(group) {
            // The same structure for all that are in the group, to which values can belong.
            Some(address) => object.set("cgroups.dfl_cgrp", address),
            None => object.set("cgroups.dfl_cgrp.kn.id", group),
        };
        let _ = object.set("comm", task.comm_bytes());
        if let Ok(cred) = self.memory().object("cred") {
            for (path, value) in [
                ("uid", uid),
                ("euid", uid),
                ("suid", uid),
                ("fsuid", uid),
                ("gid", gid),
                ("egid", gid),
                ("sgid", gid),
                ("fsgid", gid),
            ] {
                let _ = cred.set(path, value);
            }
            let _ = object.set("cred", &cred);
            let _ = object.set("real_cred", &cred);
        }
        let Some(depth) = depth else { return };
        let other = |pid: u32| {
            if pid == task.pid() { Some(object.address()) } else { self.task_address_at(pid, depth) }
        };
        if let Some(parent) = other(task.parent_pid()) {
            let _ = object.set("real_parent", parent);
            let _ = object.set("parent", parent);
        }
        if let Some(leader) = other(task.tgid()) {
            let _ = object.set("group_leader", leader);
        }
    }

    /// Where the registers of a task are that it entered the kernel with.
    pub(crate) fn task_regs_address(&self, pid: u32) -> Option<u64> {
        let task = self.0.world().tasks.get(pid).cloned()?;
        if task.regs_address.is_some() {
            return task.regs_address;
        }
        let address = self.memory().put(&task.regs().bytes());
        self.0.world().tasks.get_mut(pid)?.regs_address = Some(address);
        Some(address)
    }

    /// A region of a process's memory and the file that is mapped there, by what `/proc/PID/maps` says.
    pub(crate) fn mapping_at(&self, tgid: u32, address: u64) -> Option<Mapping> {
        self.mappings(tgid).into_iter().find(|mapping| (mapping.start..mapping.end).contains(&address))
    }

    /// A `vm_area_struct` of a region.
    pub(crate) fn vma(&self, mapping: &Mapping) -> u64 {
        let memory = self.memory();
        let Ok(object) = memory.object("vm_area_struct") else {
            return memory.put(&[0; 512]);
        };
        for (path, value) in [
            ("vm_start", mapping.start),
            ("vm_end", mapping.end),
            ("vm_flags", mapping.flags),
            ("vm_pgoff", mapping.offset >> 12),
        ] {
            // A kernel of another version may have none of that name.
            let _ = object.set(path, value);
        }
        if mapping.path.starts_with('/') {
            let name = mapping.path.rsplit('/').next().unwrap_or_default();
            let _ = object.set("vm_file.f_path.dentry.d_name.name", name);
            let _ = object.set("vm_file.f_path.dentry.d_name.len", name.len());
        }
        object.address()
    }

    /// The regions of a process's memory.
    pub(crate) fn mappings(&self, tgid: u32) -> Vec<Mapping> {
        let Some(text) = self.0.config().processes.get(&tgid) else { return Vec::new() };
        String::from_utf8_lossy(text).lines().filter_map(Mapping::parse).collect()
    }
}

/// A region of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// `VM_READ`, `VM_WRITE`, `VM_EXEC`, `VM_SHARED`.
    pub(crate) flags: u64,
    pub(crate) offset: u64,
    pub(crate) path: String,
}

impl Mapping {
    /// A line of `/proc/PID/maps`.
    fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next()?;
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let flags = [('r', 1), ('w', 2), ('x', 4), ('s', 8)];
        let flags =
            flags.into_iter().filter(|(letter, _)| rights.contains(*letter)).map(|(_, flag)| flag).sum();
        let path = fields.nth(2).unwrap_or_default().to_owned();
        (start < end && end <= TASK_SIZE).then_some(Mapping { start, end, flags, offset, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_from_their_lines() {
        let mapping =
            Mapping::parse("00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon");
        let wanted = Mapping {
            start: 0x40_0000,
            end: 0x45_2000,
            flags: 5,
            offset: 0x1000,
            path: "/usr/bin/dbus-daemon".to_owned(),
        };
        assert_eq!(mapping, Some(wanted));
        assert_eq!(Mapping::parse("garbage"), None);
    }
}

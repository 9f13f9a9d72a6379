//! Maps of cgroups, and values that belong to sockets, processes, files and cgroups.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use skep::asm::{Assembler, Reg, Size};
use skep::map::{
    AttachedCgroupKey, AttachedCgroupStorage, CgroupArray, CgroupStorage, InodeStorage, Map, MapErrorKind,
    PerCpuAttachedCgroupStorage, SkStorage, TaskStorage,
};
use skep::sys::abi::{AttachType, Errno, MapType, ProgType, UpdateFlags};
use skep::sys::request::{LinkCreate, LinkTarget, ProgLoad};
use skep::sys::{Kernel, LinkFd};

use super::descriptors::{Cgroup, is_simulated, storage, try_map};
use super::{ANY, assert_error};

pub(super) fn cgroup_array(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::CGROUP_ARRAY, 4, 4, 2) else { return };
    let Some(cgroup) = Cgroup::new(kernel, "array") else { return };
    let cgroups: CgroupArray = map.typed().unwrap();
    assert_eq!((cgroups.len(), cgroups.is_empty()), (2, false));
    cgroups.set(1, cgroup.open(), ANY).unwrap();
    let error = cgroups.set(0, File::open("/dev/null").unwrap(), ANY).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBADF));
    assert!(error.to_string().ends_with("that is no cgroup of version 2"), "{error}");
    assert_error(cgroups.set(2, cgroup.open(), ANY), MapErrorKind::Full, Some(Errno::E2BIG));
    assert_error(
        cgroups.set(0, cgroup.open(), UpdateFlags::NOEXIST),
        MapErrorKind::Invalid,
        Some(Errno::EINVAL),
    );
    assert!(cgroups.remove(1).unwrap());
    assert!(!cgroups.remove(1).unwrap());
    assert_error(cgroups.remove(2), MapErrorKind::Full, Some(Errno::E2BIG));
}

/// What holds for every kind of local storage.
macro_rules! storage_of {
    ($values:ident: $kernel:expr, $kind:expr, $view:ty, $owner:expr, $other:expr, $wrong:expr, $errno:expr) => {
        let Some(map) = storage($kernel, $kind) else { return };
        let $values: $view = map.typed().unwrap();
        let (owner, other) = ($owner, $other);
        assert_eq!($values.get(&owner).unwrap(), None);
        assert!(!$values.remove(&owner).unwrap());
        assert_error(
            $values.insert(&owner, &1, UpdateFlags::EXIST),
            MapErrorKind::NotFound,
            Some(Errno::ENOENT),
        );
        $values.insert(&owner, &7, UpdateFlags::NOEXIST).unwrap();
        $values.insert(&other, &8, ANY).unwrap();
        assert_error(
            $values.insert(&owner, &1, UpdateFlags::NOEXIST),
            MapErrorKind::Exists,
            Some(Errno::EEXIST),
        );
        assert_error(
            $values.insert(&owner, &1, UpdateFlags::LOCK),
            MapErrorKind::Invalid,
            Some(Errno::EINVAL),
        );
        assert_error($values.get_with(&owner, UpdateFlags::LOCK), MapErrorKind::Invalid, Some(Errno::EINVAL));
        // Another descriptor of the same owner finds the same value.
        let again = owner.as_fd().try_clone_to_owned().unwrap();
        assert_eq!($values.get(&again).unwrap(), Some(7));
        $values.insert(again, &9, UpdateFlags::EXIST).unwrap();
        let mut value = 0;
        assert!($values.get_into(&owner, &mut value).unwrap());
        assert_eq!((value, $values.get(&other).unwrap()), (9, Some(8)));

        let wrong = $wrong;
        for result in
            [$values.get(&wrong).map(drop), $values.insert(&wrong, &1, ANY), $values.remove(&wrong).map(drop)]
        {
            assert_eq!(result.unwrap_err().errno(), Some($errno));
        }
        assert!($values.remove(&owner).unwrap());
        assert!(!$values.remove(&owner).unwrap());
        assert_eq!($values.get(&owner).unwrap(), None);
        // There is no list of owners.
        let error = $values.as_map().next_key(None, &mut [0; 4]).unwrap_err();
        assert_eq!((error.kind(), error.errno()), (MapErrorKind::Unsupported, Some(Errno::ENOTSUPP)));
    };
}

pub(super) fn sk_storage(kernel: &Kernel) {
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    storage_of!(
        values: kernel,
        MapType::SK_STORAGE,
        SkStorage<i32>,
        socket(),
        socket(),
        File::open("/dev/null").unwrap(),
        Errno::ENOTSOCK
    );
}

/// A process of its own, which ends with the test.
struct Child(std::process::Child);

impl Child {
    fn new() -> Child {
        Child(std::process::Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(target_os = "linux")]
pub(super) fn task_storage(kernel: &Kernel) {
    use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

    let mut child = Child::new();
    let pid = Pid::from_child(&child.0);
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    storage_of!(
        values: kernel,
        MapType::TASK_STORAGE,
        TaskStorage<i32>,
        pidfd_open(getpid(), PidfdFlags::empty()).unwrap(),
        &process,
        File::open("/dev/null").unwrap(),
        Errno::EBADF
    );
    assert_eq!(values.get(&process).unwrap(), Some(8));
    child.end();
    assert_eq!(values.get(&process).unwrap(), None, "the process is gone");
}

#[cfg(not(target_os = "linux"))]
pub(super) fn task_storage(_: &Kernel) {
    println!("skip: task_storage: no pidfds");
}

pub(super) fn inode_storage(kernel: &Kernel) {
    let path = std::env::temp_dir().join(format!("skep_inode_{}", std::process::id()));
    let file = File::create(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let Some(map) = storage(kernel, MapType::INODE_STORAGE) else { return };
    let values: InodeStorage<i32> = map.typed().unwrap();
    // A closed descriptor cannot be given, so that there is no wrong one: any open file will do.
    match values.insert(kernel.map_create(&number_map()).unwrap(), &3, ANY) {
        // Some kernels know no values of inodes that are on no file system (5.10).
        Err(error) if !is_simulated(kernel) => assert_eq!(error.errno(), Some(Errno::EBADF)),
        result => result.unwrap(),
    }
    assert_eq!(values.get(&file).unwrap(), None);
    match values.insert(&file, &4, UpdateFlags::NOEXIST) {
        // On those only where BPF is among the kernel's security modules.
        Err(error) if !is_simulated(kernel) && error.errno() == Some(Errno::EBADF) => {
            return println!("skip: inode_storage: this kernel keeps no values of inodes");
        }
        result => result.unwrap(),
    }
    assert_error(values.insert(&file, &4, UpdateFlags::NOEXIST), MapErrorKind::Exists, Some(Errno::EEXIST));
    assert_eq!(values.get(file.try_clone().unwrap()).unwrap(), Some(4));
    assert!(values.remove(&file).unwrap());
    assert!(!values.remove(&file).unwrap());
    assert_error(values.insert(&file, &4, UpdateFlags::EXIST), MapErrorKind::NotFound, Some(Errno::ENOENT));
}

fn number_map() -> skep::sys::request::MapCreate<'static> {
    skep::sys::request::MapCreate::new(MapType::ARRAY, 4, 4, 1)
}

pub(super) fn cgroup_storage(kernel: &Kernel) {
    let Some(cgroup) = Cgroup::new(kernel, "storage") else { return };
    let Some(other) = Cgroup::new(kernel, "storage_other") else { return };
    storage_of!(
        values: kernel,
        MapType::CGRP_STORAGE,
        CgroupStorage<i32>,
        cgroup.open(),
        other.open(),
        File::open("/dev/null").unwrap(),
        Errno::EBADF
    );
}

/// Attaches a program to a cgroup that counts packets in the cgroup's storage.
fn attach(kernel: &Kernel, map: &Map, cgroup: &Cgroup) -> Option<LinkFd> {
    let mut code = Assembler::new();
    code.ld_map_fd(Reg::R1, map.as_fd().as_raw_fd())
        .mov64_imm(Reg::R2, 0)
        .call_helper(81) // get_local_storage
        .mov64_imm(Reg::R1, 1)
        .stx(Size::DW, Reg::R0, 0, Reg::R1)
        .mov64_imm(Reg::R0, 1)
        .exit();
    let code = code.finish().unwrap();
    let mut request = ProgLoad::new(ProgType::CGROUP_SKB, &code, "GPL");
    request.expected_attach_type = AttachType::CGROUP_INET_EGRESS;
    let program = kernel.prog_load(&request, None).unwrap();
    let target = cgroup.open();
    let target = LinkTarget::Fd(target.as_fd());
    match kernel.link_create(&LinkCreate::new(program.as_fd(), target, AttachType::CGROUP_INET_EGRESS)) {
        Ok(link) => Some(link),
        Err(errno) => {
            println!("skip: {}: no link to a cgroup: {errno}", map.map_type());
            None
        }
    }
}

pub(super) fn attached_cgroup_storage(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::CGROUP_STORAGE, 16, 8, 0) else { return };
    let Some(cgroup) = Cgroup::new(kernel, "attached") else { return };
    let values: AttachedCgroupStorage<AttachedCgroupKey, u64> = map.typed().unwrap();
    let key = AttachedCgroupKey {
        cgroup: std::fs::metadata(cgroup.path()).unwrap().ino(),
        attach_type: AttachType::CGROUP_INET_EGRESS.0,
        padding: 0,
    };
    assert_eq!(values.get(&key).unwrap(), None);
    assert_eq!(values.keys().count(), 0);
    let error = values.set(&key, &1, ANY).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (MapErrorKind::NotFound, Some(Errno::ENOENT)));
    assert!(error.to_string().ends_with("no program that uses it is attached to that cgroup"), "{error}");
    let Some(_link) = attach(kernel, &map, &cgroup) else { return };
    assert_eq!(values.get(&key).unwrap(), Some(0));
    values.set(&key, &5, ANY).unwrap();
    assert_eq!(values.iter().map(|element| element.unwrap()).collect::<Vec<_>>(), [(key, 5)]);
}

pub(super) fn per_cpu_attached_cgroup_storage(kernel: &Kernel) {
    let Some(map) = try_map(kernel, MapType::PERCPU_CGROUP_STORAGE, 8, 8, 0) else { return };
    let Some(cgroup) = Cgroup::new(kernel, "attached_cpus") else { return };
    let values: PerCpuAttachedCgroupStorage<u64, u64> = map.typed().unwrap();
    let key = std::fs::metadata(cgroup.path()).unwrap().ino();
    assert!(values.get(&key).unwrap().is_none());
    let mut sevens = values.zeroed_values();
    sevens.set(0, &7);
    assert_error(values.set(&key, &sevens, ANY), MapErrorKind::NotFound, Some(Errno::ENOENT));
    let Some(_link) = attach(kernel, &map, &cgroup) else { return };
    values.set(&key, &sevens, ANY).unwrap();
    let found = values.get(&key).unwrap().unwrap();
    assert_eq!(found.iter().sum::<u64>(), 7);
    let keys: Vec<u64> = values.iter().map(|element| element.unwrap().0).collect();
    assert_eq!(keys, [key]);
}

//! Maps whose values, or keys, are objects of the kernel: devices, CPUs, sockets, cgroups, tasks.
//!
//! What is written there and what is read are different things: a descriptor of a socket goes in, and its cookie comes
//! out.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use skep_sys::abi::UpdateFlags;

use super::{read, remove, visit, write};
use crate::map::traits::{MapIter, MapRead, MapRemove, MapWrite};
use crate::map::{
    CgroupArray, CgroupStorage, CpuMap, CpuQueue, DevMap, DevMapHash, Device, InodeStorage, MapError,
    PlainData, ReuseportArray, SkStorage, SockHash, SockMap, TaskStorage, XskMap,
};

/// Slots of devices and of CPUs: what is written is an index or a length, which is a number. The kernel does not say
/// whether a slot that was emptied held something.
macro_rules! slots {
    ($view:ty => $value:ty) => {
        read!([] $view: u32 => $value, |map, index| map.get(*index));
        write!([] $view: u32 => u32, |map, index, value, flags| map.set(*index, *value, flags));
        remove!([] $view: u32, |map, index| {
            let there = map.get(*index)?.is_some();
            map.remove(*index)?;
            Ok(there)
        });
        visit!([] $view: u32 => $value, |map| map.iter());
    };
}

slots!(DevMap => Device);
slots!(CpuMap => CpuQueue);

read!([] DevMapHash: u32 => Device, |map, key| map.get(*key));
write!([] DevMapHash: u32 => u32, |map, key, ifindex, flags| map.insert(*key, *ifindex, flags));
remove!([] DevMapHash: u32, |map, key| map.remove(*key));
visit!([] DevMapHash: u32 => Device, |map| map.iter());

/// Slots of sockets, which are read as cookies.
macro_rules! sockets {
    ($view:ty) => {
        read!([] $view: u32 => u64, |map, index| map.cookie(*index));
        write!([S: AsFd] $view: u32 => S, |map, index, socket, flags| map.set(*index, socket, flags));
        remove!([] $view: u32, |map, index| map.remove(*index));
        visit!([] $view: u32 => u64, |map| map.iter());
    };
}

sockets!(SockMap);
sockets!(ReuseportArray);

read!([K: PlainData] SockHash<K>: K => u64, |map, key| map.cookie(key));
write!([K: PlainData, S: AsFd] SockHash<K>: K => S, |map, key, socket, flags| map.insert(key, socket, flags));
remove!([K: PlainData] SockHash<K>: K, |map, key| map.remove(key));
visit!([K: PlainData] SockHash<K>: K => u64, |map| map.iter());

// These are written only, and of the first the kernel does not say what was there.
write!([S: AsFd] XskMap: u32 => S, |map, index, socket, flags| map.set(*index, socket, flags));
write!([S: AsFd] CgroupArray: u32 => S, |map, index, cgroup, flags| map.set(*index, cgroup, flags));
remove!([] CgroupArray: u32, |map, index| map.remove(*index));

/// Values that belong to what a descriptor stands for.
macro_rules! storage {
    ($view:ident) => {
        read!([O: AsFd, V: PlainData] $view<V>: O => V, |map, owner| map.get(owner));
        write!([O: AsFd, V: PlainData] $view<V>: O => V, |map, owner, value, flags| map.insert(owner, value, flags));
        remove!([O: AsFd, V: PlainData] $view<V>: O, |map, owner| map.remove(owner));
    };
}

storage!(SkStorage);
storage!(TaskStorage);
storage!(InodeStorage);
storage!(CgroupStorage);

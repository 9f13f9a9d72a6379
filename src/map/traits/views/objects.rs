//! Maps whose values, or keys, are objects of the kernel: devices, CPUs, sockets, cgroups, tasks, programs, maps.
//!
//! What is written there and what is read are different things: a descriptor of a socket goes in, and its cookie comes
//! out; a map goes in, and its id comes out.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use skep_sys::abi::{MapId, ProgId, UpdateFlags};
use skep_sys::{LoadedProgram, PerfEventFd};
use zerocopy::IntoBytes;

use super::{read, remove, visit, write};
use crate::map::traits::{MapIter, MapRead, MapRemove, MapWrite};
use crate::map::{
    ArrayOfMaps, CgroupArray, CgroupStorage, CpuMap, CpuQueue, DevMap, DevMapHash, Device, HashOfMaps,
    InodeStorage, InstructionArray, InstructionPlace, Map, MapError, MapOperation, PerfEventArray, PlainData,
    ProgramArray, ReuseportArray, SkStorage, SockHash, SockMap, StackTrace, StackTraces, TaskStorage, XskMap,
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

// These are written only.
write!([S: AsFd] XskMap: u32 => S, |map, index, socket, flags| map.set(*index, socket, flags));
// The kernel says neither before nor after whether there is a socket.
remove!([] XskMap: u32, |map, index| map.remove(*index).map(|()| true));
write!([S: AsFd] CgroupArray: u32 => S, |map, index, cgroup, flags| map.set(*index, cgroup, flags));
remove!([] CgroupArray: u32, |map, index| map.remove(*index));
write!([] PerfEventArray: u32 => PerfEventFd, |map, index, event, flags| {
    let result = map.as_map().as_map_fd().update_perf_event(&index.to_ne_bytes(), event, flags);
    result.map_err(|error| map.as_map().failed(MapOperation::Update, error))
});
remove!([] PerfEventArray: u32, |map, index| map.remove(*index));

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

read!([] ArrayOfMaps: u32 => MapId, |map, index| map.id(*index));
write!([] ArrayOfMaps: u32 => Map, |map, index, inner, flags| {
    let result = map.as_map().as_map_fd().update_map(&index.to_ne_bytes(), inner.as_map_fd(), flags);
    result.map_err(|error| map.as_map().failed(MapOperation::Update, error))
});
remove!([] ArrayOfMaps: u32, |map, index| map.remove(*index));
visit!([] ArrayOfMaps: u32 => MapId, |map| map.iter());

read!([K: PlainData] HashOfMaps<K>: K => MapId, |map, key| map.id(key));
write!([K: PlainData] HashOfMaps<K>: K => Map, |map, key, inner, flags| map.insert(key, inner, flags));
remove!([K: PlainData] HashOfMaps<K>: K, |map, key| map.remove(key));
visit!([K: PlainData] HashOfMaps<K>: K => MapId, |map| map.iter());

read!([] ProgramArray: u32 => ProgId, |map, index| map.get(*index));
write!([P: AsRef<LoadedProgram>] ProgramArray: u32 => P, |map, index, program, flags| {
    let result = map.as_map().as_map_fd().update_program(&index.to_ne_bytes(), program.as_ref(), flags);
    result.map_err(|error| map.as_map().failed(MapOperation::Update, error))
});
remove!([] ProgramArray: u32, |map, index| map.remove(*index));
visit!([] ProgramArray: u32 => ProgId, |map| map.iter());

read!([] InstructionArray: u32 => InstructionPlace, |map, index| map.get(*index));
write!([] InstructionArray: u32 => InstructionPlace, |map, index, place, flags| {
    map.as_map().update(&index.to_ne_bytes(), place.as_bytes(), flags)
});
visit!([] InstructionArray: u32 => InstructionPlace, |map| {
    (0..map.len()).zip(map.iter()).map(|(index, place)| Ok::<_, MapError>((index, place?)))
});

// Only programs write these.
read!([] StackTraces: u32 => StackTrace, |map, id| map.get(*id));
remove!([] StackTraces: u32, |map, id| map.remove(*id));
visit!([] StackTraces: u32 => StackTrace, |map| map.iter());

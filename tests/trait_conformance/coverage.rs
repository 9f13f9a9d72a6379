//! Each view has the traits of what the kernel does with maps of its kind, and no others.

use std::fs::File;
use std::marker::PhantomData;
use std::net::UdpSocket;

use skep::map::traits::{Contains, MapDrain, MapIter, MapRead, MapRemove, MapTake, MapWrite, Pop, Push};
use skep::map::{
    Arena, Array, ArrayOfMaps, AttachedCgroupStorage, BloomFilter, CgroupArray, CgroupStorage, CpuMap,
    CpuQueue, DevMap, DevMapHash, Device, HashMap, HashOfMaps, InodeStorage, InstructionArray,
    InstructionPlace, KINDS, LpmTrie, Map, PerCpuArray, PerCpuAttachedCgroupStorage, PerCpuHashMap,
    PerCpuValues, PerfEventArray, ProgramArray, Queue, ReuseportArray, SkStorage, SockHash, SockMap, Stack,
    StackTrace, StackTraces, TaskStorage, XskMap,
};
use skep::ring::{RingBuffer, UserRingBuffer};
use skep::sys::abi::{Errno, MapFlags, MapId, MapType, ProgId, UpdateFlags};
use skep::sys::request::MapCreate;
use skep::sys::{LoadedProgram, PerfEventFd};

use super::{ANY, KernelMaps};

/// Whether a type has a trait: an inherent constant, which is there where the bound holds, hides the one of a trait.
macro_rules! has {
    ($type:ty: $($bound:tt)*) => {{
        struct Asked<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "hidden where the bound holds")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for Asked<T> {}
        #[allow(dead_code, reason = "not there where the bound does not hold")]
        impl<T: ?Sized + $($bound)*> Asked<T> {
            const HAS: bool = true;
        }
        <Asked<$type>>::HAS
    }};
}

/// What can be done with the elements of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Operations {
    read: bool,
    write: bool,
    remove: bool,
    visit: bool,
    take: bool,
}

/// A view: the kind of map, sizes of keys and values, what it has.
struct Row {
    view: &'static str,
    map_type: MapType,
    sizes: (u32, u32),
    has: Operations,
    /// What the kernel has and the view does not, and why.
    without: &'static [(&'static str, &'static str)],
}

macro_rules! rows {
    ($($kind:ident ($key_size:literal, $value_size:literal) $view:ty: $key:ty => $read:ty, $write:ty $(, but [$($what:ident: $why:literal),+])?;)*) => {
        vec![$(Row {
            view: stringify!($view).split('<').next().unwrap(),
            map_type: MapType::$kind,
            sizes: ($key_size, $value_size),
            has: Operations {
                read: has!($view: MapRead<$key, $read>) || has!($view: Pop<$read>) || has!($view: Contains<$read>),
                write: has!($view: MapWrite<$key, $write>) || has!($view: Push<$write>),
                remove: has!($view: MapRemove<$key>),
                visit: has!($view: MapIter<$key, $read>),
                take: has!($view: MapTake<$key, $read>) || has!($view: Pop<$read>),
            },
            without: &[$($((stringify!($what), $why)),+)?],
        }),*]
    };
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    rows! {
        HASH (4, 8) HashMap<u32, u64>: u32 => u64, u64;
        LRU_HASH (4, 8) HashMap<u32, u64>: u32 => u64, u64;
        ARRAY (4, 8) Array<u64>: u32 => u64, u64;
        PERCPU_HASH (4, 8) PerCpuHashMap<u32, u64>: u32 => PerCpuValues<u64>, PerCpuValues<u64>;
        LRU_PERCPU_HASH (4, 8) PerCpuHashMap<u32, u64>: u32 => PerCpuValues<u64>, PerCpuValues<u64>;
        PERCPU_ARRAY (4, 8) PerCpuArray<u64>: u32 => PerCpuValues<u64>, PerCpuValues<u64>;
        PERF_EVENT_ARRAY (4, 4) PerfEventArray: u32 => u32, PerfEventFd, but [visit: "only indexes would be visited"];
        DEVMAP (4, 4) DevMap: u32 => Device, u32;
        DEVMAP_HASH (4, 4) DevMapHash: u32 => Device, u32;
        CPUMAP (4, 4) CpuMap: u32 => CpuQueue, u32;
        XSKMAP (4, 4) XskMap: u32 => u32, UdpSocket, but [visit: "only indexes would be visited"];
        SOCKMAP (4, 8) SockMap: u32 => u64, UdpSocket;
        SOCKHASH (4, 8) SockHash<u32>: u32 => u64, UdpSocket;
        REUSEPORT_SOCKARRAY (4, 8) ReuseportArray: u32 => u64, UdpSocket;
        CGROUP_ARRAY (4, 4) CgroupArray: u32 => u32, File, but [visit: "only indexes would be visited"];
        SK_STORAGE (4, 4) SkStorage<i32>: UdpSocket => i32, i32;
        TASK_STORAGE (4, 4) TaskStorage<i32>: File => i32, i32;
        INODE_STORAGE (4, 4) InodeStorage<i32>: File => i32, i32;
        CGRP_STORAGE (4, 4) CgroupStorage<i32>: File => i32, i32;
        CGROUP_STORAGE (8, 8) AttachedCgroupStorage<u64, u64>: u64 => u64, u64;
        PERCPU_CGROUP_STORAGE (8, 8) PerCpuAttachedCgroupStorage<u64, u64>: u64 => PerCpuValues<u64>, PerCpuValues<u64>;
        LPM_TRIE (8, 8) LpmTrie<skep::map::Ipv4Prefix, u64>: skep::map::Ipv4Prefix => u64, u64;
        QUEUE (0, 4) Queue<u32>: u32 => u32, u32;
        STACK (0, 4) Stack<u32>: u32 => u32, u32;
        BLOOM_FILTER (0, 4) BloomFilter<u32>: u32 => u32, u32;
        PROG_ARRAY (4, 4) ProgramArray: u32 => ProgId, LoadedProgram;
        ARRAY_OF_MAPS (4, 4) ArrayOfMaps: u32 => MapId, Map;
        HASH_OF_MAPS (4, 4) HashOfMaps<u32>: u32 => MapId, Map, but [take: "the map would be gone before it is opened by its id"];
        INSN_ARRAY (4, 16) InstructionArray: u32 => InstructionPlace, InstructionPlace;
        STACK_TRACE (4, 80) StackTraces: u32 => StackTrace, StackTrace, but [take: "only the newest kernels have it"];
        ARENA (0, 0) Arena: u32 => u32, u32;
        RINGBUF (0, 0) RingBuffer: u32 => u32, u32;
        USER_RINGBUF (0, 0) UserRingBuffer: u32 => u32, u32;
    }
}

/// Tells whether a kernel has an operation by how it refuses it.
fn lacks(result: Result<(), Option<Errno>>) -> bool {
    matches!(result, Err(Some(Errno::ENOTSUPP | Errno::EOPNOTSUPP)))
}

fn ask(map: &Map) -> Operations {
    let kind = map.map_type();
    let keys_are_descriptors = matches!(
        kind,
        MapType::SK_STORAGE | MapType::TASK_STORAGE | MapType::INODE_STORAGE | MapType::CGRP_STORAGE
    );
    // No descriptor, and index 0.
    let key = vec![if keys_are_descriptors { 0xff } else { 0 }; map.key_len()];
    let mut value = vec![0xff; map.value_len()];
    let mut next = key.clone();
    let fd = map.as_map_fd();
    let errno = |result: Result<(), skep::sys::MapError>| result.map_err(|error| error.errno());
    let read = errno(fd.lookup(&key, &mut value, ANY));
    let visit = errno(fd.next_key(None, &mut next));
    // Queues, stacks and rings have no keys to go through, and storage of objects has none that stay the same.
    let visit = !lacks(visit) && visit != Err(Some(Errno::EINVAL));
    // Indexes that exist are refused by arrays only; nothing is there that a map of sockets could remove.
    let remove = errno(fd.delete(&key));
    let remove = !lacks(remove) && (remove != Err(Some(Errno::EINVAL)) || kind == MapType::SOCKMAP);
    let take = errno(fd.lookup_and_delete(&key, &mut value, ANY));
    let take = !lacks(take) && take != Err(Some(Errno::EINVAL));
    value.fill(0xff);
    let write = errno(fd.update(&key, &value, UpdateFlags::empty()));
    let write = !lacks(write) && (write != Err(Some(Errno::EINVAL)) || kind != MapType::STACK_TRACE);
    Operations { read: !lacks(read) && read != Err(Some(Errno::EINVAL)), write, remove, visit, take }
}

fn make(maps: &KernelMaps, row: &Row) -> Option<Map> {
    if matches!(
        row.map_type,
        MapType::SK_STORAGE | MapType::TASK_STORAGE | MapType::INODE_STORAGE | MapType::CGRP_STORAGE
    ) {
        return super::objects::storage(maps, row.map_type);
    }
    let entries = match row.map_type {
        MapType::RINGBUF | MapType::USER_RINGBUF => 4096,
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => 0,
        _ => 2,
    };
    let mut request = MapCreate::new(row.map_type, row.sizes.0, row.sizes.1, entries);
    let inner;
    match row.map_type {
        MapType::LPM_TRIE => request.flags = MapFlags::NO_PREALLOC,
        MapType::ARENA => request.flags = MapFlags::MMAPABLE,
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
            inner = Map::create(&maps.0, &MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
            request.inner_map = Some(std::os::fd::AsFd::as_fd(&inner));
            return super::objects::created(&request, maps);
        }
        _ => {}
    }
    super::objects::created(&request, maps)
}

pub(crate) fn every_view(maps: &KernelMaps) {
    let rows = rows();
    for kind in KINDS {
        // What a struct_ops table takes is a table of functions, which is not to be mistaken for a value.
        let expected = if kind.view == "StructOpsMap" { 0 } else { kind.map_types.len() };
        assert_eq!(rows.iter().filter(|row| row.view == kind.view).count(), expected, "{}", kind.view);
    }
    for row in &rows {
        let Some(map) = make(maps, row) else { continue };
        let (kernel, view) = (ask(&map), row.has);
        let what = [
            ("read", kernel.read, view.read),
            ("write", kernel.write, view.write),
            ("remove", kernel.remove, view.remove),
            ("visit", kernel.visit, view.visit),
            ("take", kernel.take, view.take),
        ];
        for (operation, kernel, view) in what {
            let without = row.without.iter().find(|(name, _)| *name == operation);
            let place = format!("{operation} of {} ({})", row.view, row.map_type);
            match (kernel, view) {
                (true, false) => assert!(without.is_some(), "the kernel has {place}, the view has not"),
                (false, true) if operation == "take" => {
                    println!("skip: {place}: this kernel does not have it")
                }
                (false, true) => panic!("the view has {place}, the kernel has not"),
                (_, true) => assert!(without.is_none(), "{place} is there"),
                (false, false) => {}
            }
        }
    }
    assert!(has!(HashMap<u32, u64>: MapDrain<u32, u64>) && !has!(Array<u64>: MapDrain<u32, u64>));
}

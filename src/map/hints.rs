//! What error numbers mean for maps whose keys or values are descriptors.

use skep_sys::abi::{Errno, MapType};

use super::error::MapOperation;

/// Why such a map refused, where its kind gives the error number a meaning.
pub(super) fn of_descriptors(
    map_type: MapType,
    operation: MapOperation,
    errno: Errno,
) -> Option<&'static str> {
    if errno == Errno::ENOTSOCK {
        return Some("that is no socket");
    }
    Some(match (map_type, operation, errno) {
        (MapType::TASK_STORAGE, _, Errno::EBADF) => "that is no pidfd",
        (MapType::CGRP_STORAGE, _, Errno::EBADF) => "that is no cgroup",
        (MapType::CGROUP_ARRAY, MapOperation::Update, Errno::EBADF) => "that is no cgroup of version 2",
        (MapType::XSKMAP, MapOperation::Update, Errno::EOPNOTSUPP) => "that is no AF_XDP socket",
        (MapType::SOCKMAP | MapType::SOCKHASH, MapOperation::Update, Errno::EOPNOTSUPP) => {
            "the socket is of a kind that cannot be redirected to, or neither connected, nor listening, nor bound"
        }
        (MapType::REUSEPORT_SOCKARRAY, MapOperation::Update, Errno::EINVAL) => {
            "the socket neither listens nor has a port, or did not get SO_REUSEPORT before it was bound"
        }
        (MapType::REUSEPORT_SOCKARRAY, MapOperation::Update, Errno::EBUSY) => {
            "the socket is in such an array already"
        }
        (MapType::DEVMAP | MapType::DEVMAP_HASH, MapOperation::Update, Errno::EINVAL) => {
            "there is no such device, or the program is no XDP program that was loaded for XDP_DEVMAP"
        }
        (MapType::CPUMAP, MapOperation::Update, Errno::ENODEV) => "there is no such CPU",
        (MapType::CPUMAP, MapOperation::Update, Errno::EOVERFLOW) => "a queue has at most 16384 packets",
        (MapType::CPUMAP, MapOperation::Update, Errno::ENOMEM | Errno::EINVAL) => {
            "the program is no XDP program that was loaded for XDP_CPUMAP, or there is no memory for the queue"
        }
        (MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE, MapOperation::Update, Errno::ENOENT) => {
            "no program that uses it is attached to that cgroup"
        }
        (
            MapType::DEVMAP
            | MapType::CPUMAP
            | MapType::XSKMAP
            | MapType::SOCKMAP
            | MapType::REUSEPORT_SOCKARRAY
            | MapType::CGROUP_ARRAY
            | MapType::PERF_EVENT_ARRAY,
            MapOperation::Update | MapOperation::Delete,
            Errno::E2BIG,
        )
        | (MapType::DEVMAP | MapType::CPUMAP | MapType::XSKMAP, MapOperation::Delete, Errno::EINVAL) => {
            "the index is not below the number of slots"
        }
        (MapType::ARENA, MapOperation::Mmap, Errno::EOPNOTSUPP) => {
            "touching a page of one with BPF_F_SEGV_ON_FAULT that no program has allocated would end the process"
        }
        (MapType::ARENA, MapOperation::Mmap, Errno::EINVAL | Errno::EBUSY | Errno::EEXIST) => {
            "it, or something else, is mapped there already: use the handle that it was loaded or mapped with, or make \
             it with an address (map_extra)"
        }
        (MapType::DEVMAP | MapType::CPUMAP, MapOperation::Update, Errno::EEXIST) => {
            "slots of it count as taken"
        }
        _ => return None,
    })
}

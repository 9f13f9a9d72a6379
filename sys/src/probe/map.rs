//! Probes that create maps.

use std::os::fd::AsFd;

use super::{Probe, attempt, btf, control};
use crate::abi::{Errno, MapFlags, MapType, UpdateFlags};
use crate::batch::BatchCursor;
use crate::kernel::Kernel;
use crate::request::{MapBtf, MapCreate};

const CREATING: &str = "create a map";

fn array() -> MapCreate<'static> {
    MapCreate::new(MapType::ARRAY, 4, 4, 1)
}

pub(super) fn mmapable(kernel: &Kernel) -> Probe {
    let mut request = array();
    request.flags = MapFlags::MMAPABLE;
    attempt(CREATING, kernel.map_create(&request)).unless(|| control(CREATING, kernel.map_create(&array())))
}

/// A read of no elements, which a kernel that has batches grants.
pub(super) fn batch(kernel: &Kernel) -> Probe {
    match kernel.map_create(&MapCreate::new(MapType::HASH, 4, 4, 1)) {
        Ok(map) => {
            let answer =
                map.lookup_batch(&mut BatchCursor::new(&map), &mut [], &mut [], UpdateFlags::empty());
            attempt("read elements of a map in a batch", answer.map_err(|e| e.errno().unwrap_or(Errno::EIO)))
        }
        Err(errno) => Probe::unknown(CREATING, errno),
    }
}

pub(super) fn cpu_flags(kernel: &Kernel) -> Probe {
    match kernel.map_create(&MapCreate::new(MapType::PERCPU_ARRAY, 4, 8, 1)) {
        Ok(map) => {
            let answer = map.update(&[0; 4], &[0; 8], UpdateFlags::on_cpu(0));
            attempt("write the value of one CPU", answer.map_err(|e| e.errno().unwrap_or(Errno::EIO)))
        }
        Err(errno) => Probe::unknown(CREATING, errno),
    }
}

pub(super) fn kind(kernel: &Kernel, map_type: MapType) -> Probe {
    let probe = match map_type {
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => of_maps(kernel, map_type),
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            storage(kernel, map_type)
        }
        MapType::STRUCT_OPS => struct_ops(kernel),
        _ => attempt(CREATING, kernel.map_create(&smallest(map_type, kernel.page_size()))),
    };
    probe.unless(|| control(CREATING, kernel.map_create(&array())))
}

/// A map of this kind that a kernel that knows the kind cannot object to.
fn smallest(map_type: MapType, page: u32) -> MapCreate<'static> {
    let (key, value, entries, flags) = match map_type {
        MapType::STACK_TRACE => (4, 8, 1, MapFlags::empty()),
        // A prefix length and four bytes of address.
        MapType::LPM_TRIE => (8, 8, 1, MapFlags::NO_PREALLOC),
        // `struct bpf_cgroup_storage_key`; these have as many entries as they are attached.
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => (16, 8, 0, MapFlags::empty()),
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER => (0, 4, 1, MapFlags::empty()),
        MapType::RINGBUF | MapType::USER_RINGBUF => (0, 0, page, MapFlags::empty()),
        // Entries are pages.
        MapType::ARENA => (0, 0, 1, MapFlags::MMAPABLE),
        // `struct bpf_insn_array_val`.
        MapType::INSN_ARRAY => (4, 16, 1, MapFlags::empty()),
        MapType::RHASH => (4, 4, 1, MapFlags::NO_PREALLOC),
        _ => (4, 4, 1, MapFlags::empty()),
    };
    let mut request = MapCreate::new(map_type, key, value, entries);
    request.flags = flags;
    request
}

fn of_maps(kernel: &Kernel, map_type: MapType) -> Probe {
    match kernel.map_create(&array()) {
        Ok(inner) => {
            let mut request = MapCreate::new(map_type, 4, 4, 1);
            request.inner_map = Some(inner.as_fd());
            attempt(CREATING, kernel.map_create(&request))
        }
        Err(errno) => Probe::unknown(CREATING, errno),
    }
}

/// Local storage, which has to say the types of its key and value.
fn storage(kernel: &Kernel, map_type: MapType) -> Probe {
    let (bytes, key, value) = match btf::key_and_value() {
        Ok(parts) => parts,
        Err(reason) => return Probe::Unknown(reason),
    };
    match kernel.btf_load(&bytes, None) {
        Ok(btf) => {
            let mut request = MapCreate::new(map_type, 4, 8, 0);
            request.flags = MapFlags::NO_PREALLOC;
            request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: key.0, value_type: value.0 });
            attempt(CREATING, kernel.map_create(&request))
        }
        // Without BTF there are no such maps.
        Err(errno) => attempt::<()>("load BTF", Err(errno)),
    }
}

/// A map of a structure that is no `struct_ops`: a kernel that knows the kind says so in its own way.
fn struct_ops(kernel: &Kernel) -> Probe {
    let mut request = MapCreate::new(MapType::STRUCT_OPS, 4, 4, 1);
    request.vmlinux_value_type_id = 1;
    match kernel.map_create(&request) {
        Err(Errno::ENOTSUPP) => Probe::Supported,
        other => attempt(CREATING, other),
    }
}

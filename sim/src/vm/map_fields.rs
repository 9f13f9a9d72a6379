//! What programs read of a map itself, as of a `struct bpf_map` or the structure of its kind that begins with one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use skep_sys::abi::{MapFlags, MapType};

use crate::image::Layout;
use crate::kernel::Inner;
use crate::map::Map;

/// Where the kernel's structures of maps have the members that programs look at, by kind.
#[derive(Debug, Default)]
pub(crate) struct MapFields(Mutex<BTreeMap<MapType, Option<Arc<Layout>>>>);

/// A member and what it says.
type Member = (&'static str, fn(&Map) -> u64);

/// Members of `struct bpf_map`, as of one that is the first member of another structure.
const COMMON: &[Member] = &[
    ("map.map_type", |map| map.shape.kind.0.into()),
    ("map.key_size", |map| map.shape.key_size.into()),
    ("map.value_size", |map| map.shape.value_size.into()),
    ("map.max_entries", |map| map.shape.max_entries.into()),
    ("map.map_flags", |map| map.shape.flags.bits().into()),
    ("map.map_extra", |map| map.shape.map_extra),
    ("map.id", |map| map.id.into()),
    ("map.refcnt.counter", |_| 1),
    ("map.usercnt.counter", |_| 1),
];

/// Members that some kinds have.
const OWN: &[Member] = &[
    ("elem_size", element_size),
    ("index_mask", |map| u64::from(map.shape.max_entries.max(1)).next_power_of_two() - 1), // at least 1
    ("n_buckets", |map| u64::from(map.shape.max_entries.max(1)).next_power_of_two()),
    ("count.counter", count),
];

const NAME: &str = "map.name";

/// `struct htab_elem` without key and value.
const HASH_ELEMENT: u64 = 48;

fn element_size(map: &Map) -> u64 {
    let shape = &map.shape;
    let padded = |size: u32| u64::from(size).next_multiple_of(8);
    match shape.kind {
        MapType::HASH | MapType::LRU_HASH | MapType::HASH_OF_MAPS => {
            HASH_ELEMENT + padded(shape.key_size) + padded(shape.value_size)
        }
        // The values of the CPUs are elsewhere.
        MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH => HASH_ELEMENT + padded(shape.key_size) + 8,
        _ => padded(shape.value_size),
    }
}

/// How many elements a hash counts that allocates them one by one, unless it counts by CPU (`PERCPU_COUNTER_BATCH`).
fn count(map: &Map) -> u64 {
    let by_cpu = map.shape.max_entries / 2 > map.shape.cpus.saturating_mul(32);
    let counts = map.is_hash() && map.shape.flags.contains(MapFlags::NO_PREALLOC) && !by_cpu;
    if counts { map.values(0).len() as u64 } else { 0 }
}

/// The structure of a kind of map.
fn structure(kind: MapType) -> &'static str {
    match kind {
        MapType::ARRAY
        | MapType::PERCPU_ARRAY
        | MapType::PROG_ARRAY
        | MapType::PERF_EVENT_ARRAY
        | MapType::CGROUP_ARRAY
        | MapType::ARRAY_OF_MAPS => "bpf_array",
        MapType::HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_HASH
        | MapType::LRU_PERCPU_HASH
        | MapType::HASH_OF_MAPS => "bpf_htab",
        MapType::STACK_TRACE => "bpf_stack_map",
        MapType::LPM_TRIE => "lpm_trie",
        MapType::DEVMAP | MapType::DEVMAP_HASH => "bpf_dtab",
        MapType::CPUMAP => "bpf_cpu_map",
        MapType::XSKMAP => "xsk_map",
        MapType::SOCKMAP => "bpf_stab",
        MapType::SOCKHASH => "bpf_shtab",
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => "bpf_cgroup_storage_map",
        MapType::REUSEPORT_SOCKARRAY => "reuseport_array",
        MapType::QUEUE | MapType::STACK => "bpf_queue_stack",
        MapType::SK_STORAGE | MapType::INODE_STORAGE | MapType::TASK_STORAGE | MapType::CGRP_STORAGE => {
            "bpf_local_storage_map"
        }
        MapType::STRUCT_OPS => "bpf_struct_ops_map",
        MapType::RINGBUF | MapType::USER_RINGBUF => "bpf_ringbuf_map",
        MapType::BLOOM_FILTER => "bpf_bloom_filter",
        MapType::ARENA => "bpf_arena",
        _ => "bpf_map",
    }
}

impl MapFields {
    fn layout(&self, kernel: &Inner, kind: MapType) -> Option<Arc<Layout>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || {
            let common = || COMMON.iter().map(|(path, _)| *path).chain([NAME]);
            let own = OWN.iter().map(|(path, _)| *path);
            let whole = Layout::new(kernel, structure(kind), common().chain(own));
            // Types that are cut down to a few, and a kind that is newer than this, have the common part.
            let bare = || Layout::new(kernel, "bpf_map", common().map(bare_path));
            whole.filter(|layout| layout.has(NAME)).or_else(bare).map(Arc::new)
        };
        known.entry(kind).or_insert_with(find).clone()
    }

    /// The bytes at an offset of a map. What is not known of it is zero. `None` behind the end of its structure, and where
    /// the kernel has no types.
    pub(super) fn read(&self, kernel: &Inner, map: &Map, offset: usize, to: &mut [u8]) -> Option<()> {
        let layout = self.layout(kernel, map.shape.kind)?;
        let is_bare = !layout.has(NAME);
        let path = |path: &'static str| if is_bare { bare_path(path) } else { path };
        let values = COMMON.iter().chain(OWN).map(|(name, value)| (path(name), value(map)));
        let mut bytes = layout.object(values);
        layout.set_bytes(&mut bytes, path(NAME), map.name.as_bytes());
        to.copy_from_slice(bytes.get(offset..offset.checked_add(to.len())?)?);
        Some(())
    }
}

fn bare_path(path: &'static str) -> &'static str {
    path.strip_prefix("map.").unwrap_or(path)
}

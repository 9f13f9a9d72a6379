use std::os::fd::BorrowedFd;

use crate::abi::{MapFlags, MapType};

/// `BPF_MAP_CREATE`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MapCreate<'a> {
    /// Kind of the map.
    pub map_type: MapType,
    /// Size of a key in bytes.
    pub key_size: u32,
    /// Size of a value in bytes (of one CPU's value for per-CPU kinds).
    pub value_size: u32,
    /// Capacity; its unit depends on the kind (elements, bytes of a ring, pages of an arena).
    pub max_entries: u32,
    /// Creation flags.
    pub flags: MapFlags,
    /// Name of at most [`OBJ_NAME_MAX`](crate::abi::OBJ_NAME_MAX) bytes; empty for none (Linux 4.15).
    pub name: &'a str,
    /// NUMA node, used with [`MapFlags::NUMA_NODE`].
    pub numa_node: u32,
    /// Kind-specific parameter (`map_extra`, Linux 5.16).
    pub map_extra: u64,
    /// Prototype of the inner maps of a map of maps.
    pub inner_map: Option<BorrowedFd<'a>>,
    /// Types of key and value.
    pub btf: Option<MapBtf<'a>>,
    /// Type of the value in the kernel's BTF, for a map of a `struct_ops` structure, else 0 (Linux 5.6).
    pub vmlinux_value_type_id: u32,
    /// Loaded BTF of the module that [`vmlinux_value_type_id`](Self::vmlinux_value_type_id) belongs to (Linux 6.9);
    /// none for the kernel's own.
    pub value_type_module: Option<BorrowedFd<'a>>,
    /// Network device for an offloaded map.
    pub ifindex: u32,
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
}

impl<'a> MapCreate<'a> {
    /// A map with no name, no flags and no BTF.
    pub fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        MapCreate {
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: MapFlags::empty(),
            name: "",
            numa_node: 0,
            map_extra: 0,
            inner_map: None,
            btf: None,
            vmlinux_value_type_id: 0,
            value_type_module: None,
            ifindex: 0,
            token: None,
        }
    }
}

/// A part of a map's memory to map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapMemory {
    /// Where it starts, in bytes from the map's start; whole pages.
    pub offset: u64,
    /// How many bytes; whole pages.
    pub len: usize,
    /// Whether it can be written.
    pub writable: bool,
    /// Address in this process where it must be, and where nothing may be yet; none for any place. An arena that was
    /// made with an address is mapped there and nowhere else.
    pub address: Option<u64>,
}

impl MapMemory {
    /// That many bytes from `offset` on, to read, at any address.
    pub fn new(offset: u64, len: usize) -> Self {
        MapMemory { offset, len, writable: false, address: None }
    }
}

/// The BTF types of a map's key and value.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// Loaded BTF that the ids belong to.
    pub btf: BorrowedFd<'a>,
    /// Type id of the key, 0 for none.
    pub key_type: u32,
    /// Type id of the value, 0 for none.
    pub value_type: u32,
}

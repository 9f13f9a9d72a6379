use std::sync::Arc;

use skep_sys::abi::{Errno, MapType};
use skep_sys::request::MapCreate;

use crate::fd::Access;
use crate::map::{self, Map, Meter, Shape};

/// A map of no kernel: the elements of a simulated map and their rules, without a descriptor or an id.
///
/// It is what maps in memory are made of that ship with `skep`. There are the kinds whose elements are data: hashes and arrays
/// with their LRU and per-CPU kinds, tries, queues, stacks and bloom filters. It is cheap to clone; clones are the same map.
///
/// ```
/// use skep_sim::BareMap;
/// use skep_sys::abi::{Errno, MapType};
/// use skep_sys::request::MapCreate;
///
/// let map = BareMap::new(&MapCreate::new(MapType::HASH, 1, 1, 1), 1)?;
/// map.update(&[1], &[10], 0)?;
/// assert_eq!(map.update(&[2], &[20], 0), Err(Errno::E2BIG));
/// let mut value = [0];
/// map.lookup(&[1], &mut value, 0)?;
/// assert_eq!(value, [10]);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Debug)]
pub struct BareMap(Arc<Map>);

impl BareMap {
    /// An empty map as it is asked for, as on a machine with so many possible CPUs. Of the request, types, names and
    /// what gives rights are left out.
    ///
    /// # Errors
    /// What the kernel answers to such a request; [`Errno::EINVAL`] for other kinds.
    pub fn new(request: &MapCreate<'_>, cpus: u32) -> Result<BareMap, Errno> {
        let shape = Shape::of(request, cpus.max(1), false);
        let data = matches!(
            shape.kind,
            MapType::HASH
                | MapType::LRU_HASH
                | MapType::PERCPU_HASH
                | MapType::LRU_PERCPU_HASH
                | MapType::ARRAY
                | MapType::PERCPU_ARRAY
                | MapType::LPM_TRIE
                | MapType::QUEUE
                | MapType::STACK
                | MapType::BLOOM_FILTER
        );
        if !data {
            return Err(Errno::EINVAL);
        }
        map::check(&shape)?;
        let shape = shape.kept();
        let elements = shape.elements(None, &[])?;
        let meter = Arc::new(Meter::new(usize::MAX)); // there are no programs of strangers
        Ok(BareMap(Arc::new(Map::new(0, shape, request.name, None, None, elements, &meter))))
    }

    /// Kind.
    pub fn map_type(&self) -> MapType {
        self.0.shape.kind
    }

    /// Capacity in elements.
    pub fn max_entries(&self) -> u32 {
        self.0.shape.max_entries
    }

    /// Number of values in an element: the CPUs for per-CPU kinds, else 1.
    pub fn values_per_element(&self) -> u32 {
        if self.0.shape.kind.is_per_cpu() { self.0.shape.cpus } else { 1 }
    }

    /// Reads the value at `key` (`BPF_MAP_LOOKUP_ELEM`).
    ///
    /// # Errors
    /// The kernel's; [`Errno::EFAULT`] for a slice of a wrong length.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        self.0.lookup(Access::ALL, key, value, flags)
    }

    /// Writes the value at `key` (`BPF_MAP_UPDATE_ELEM`).
    ///
    /// # Errors
    /// As [`lookup`](BareMap::lookup).
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        // There is no descriptor that a value could stand for.
        self.0.update(Access::ALL, key, value, flags, &|_| Err(Errno::EBADF))
    }

    /// Removes the element at `key` (`BPF_MAP_DELETE_ELEM`).
    ///
    /// # Errors
    /// As [`lookup`](BareMap::lookup).
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.0.delete(Access::ALL, key)
    }

    /// Reads and removes the element at `key` (`BPF_MAP_LOOKUP_AND_DELETE_ELEM`).
    ///
    /// # Errors
    /// As [`lookup`](BareMap::lookup).
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        self.0.lookup_and_delete(Access::ALL, key, value, flags)
    }

    /// All keys as they are at one moment, in the order of `BPF_MAP_GET_NEXT_KEY`.
    ///
    /// # Errors
    /// What the kernel answers for a kind without keys.
    pub fn keys(&self) -> Result<Vec<Box<[u8]>>, Errno> {
        self.0.keys()
    }

    /// Forbids writing from now on (`BPF_MAP_FREEZE`).
    ///
    /// # Errors
    /// [`Errno::EPERM`] when it is frozen already.
    pub fn freeze(&self) -> Result<(), Errno> {
        self.0.freeze(Access::ALL, true)
    }
}

//! Maps whose values are other objects: programs and maps.
//!
//! User space writes a descriptor and reads back an id.

use std::collections::HashMap;
use std::sync::Arc;

use skep_sys::abi::{Errno, MapFlags, MapType, ProgType};

use super::elements::{Batches, Elements, Resolve, copy, index, next_index};
use super::hash::Table;
use super::{Map, Shape};
use crate::object::Object;
use crate::prog::Prog;

/// What the maps in a map of maps look like.
#[derive(Clone, Debug)]
pub(crate) struct InnerShape(Shape);

impl InnerShape {
    /// The shape of a prototype.
    pub(crate) fn of(prototype: &Map) -> Result<InnerShape, Errno> {
        if prototype.inner.is_some() {
            return Err(Errno::EINVAL);
        }
        match prototype.shape.kind {
            MapType::PROG_ARRAY
            | MapType::STRUCT_OPS
            | MapType::CGROUP_STORAGE
            | MapType::PERCPU_CGROUP_STORAGE => Err(Errno::ENOTSUPP),
            _ => Ok(InnerShape(prototype.shape.clone())),
        }
    }

    fn fits(&self, map: &Map) -> bool {
        let (a, b) = (&self.0, &map.shape);
        let same = a.kind == b.kind
            && a.key_size == b.key_size
            && a.value_size == b.value_size
            && a.flags == b.flags
            && a.fields == b.fields
            && map.inner.is_none();
        // Programs check an array's bounds against the prototype, except where it says that sizes differ.
        let same_size = a.kind != MapType::ARRAY
            || a.flags.contains(MapFlags::INNER_MAP)
            || a.max_entries == b.max_entries;
        same && same_size
    }
}

/// Finds the map that a value stands for.
fn inner_map(shape: &InnerShape, value: &[u8], resolve: Resolve<'_>) -> Result<Arc<Map>, Errno> {
    let object = resolve(number(value)?)?;
    let map = object.map()?;
    if shape.fits(map) { Ok(map.clone()) } else { Err(Errno::EINVAL) }
}

fn number(value: &[u8]) -> Result<i32, Errno> {
    value.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EFAULT)
}

/// Programs to jump to (`BPF_MAP_TYPE_PROG_ARRAY`) and arrays of maps (`BPF_MAP_TYPE_ARRAY_OF_MAPS`).
#[derive(Clone, Debug)]
pub(super) struct ObjectArray {
    max_entries: u32,
    slots: HashMap<u32, Object>,
    /// The shape of the maps, none for an array of programs.
    inner: Option<InnerShape>,
    /// The first program: all others must be of its kind.
    owner: Option<Arc<Prog>>,
}

impl ObjectArray {
    pub(super) fn new(max_entries: u32, inner: Option<InnerShape>) -> Self {
        ObjectArray { max_entries, slots: HashMap::new(), inner, owner: None }
    }
}

impl Elements for ObjectArray {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let id = match self.slots.get(&index(key)?).ok_or(Errno::ENOENT)? {
            Object::Map(map) => map.id,
            Object::Prog(prog) => prog.id,
            _ => return Err(Errno::ENOENT),
        };
        copy(value, &id.to_ne_bytes())
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        let object = match &self.inner {
            Some(shape) => Object::Map(inner_map(shape, value, resolve)?),
            None => {
                let object = resolve(number(value)?)?;
                let prog = object.prog()?;
                let owner = self.owner.get_or_insert_with(|| prog.clone());
                // Nobody knows by which device one comes to a program of an array.
                if owner.prog_type != prog.prog_type || prog.device.is_some() {
                    return Err(Errno::EINVAL);
                }
                object
            }
        };
        self.slots.insert(index, object);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        let index = index(key)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        self.slots.remove(&index).map(drop).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        next_index(key, self.max_entries, next)
    }

    fn batches(&self) -> Batches {
        if self.inner.is_some() { Batches::LOOKUP | Batches::UPDATE } else { Batches::empty() }
    }

    fn owner(&self) -> Option<ProgType> {
        self.owner.as_ref().map(|prog| prog.prog_type)
    }

    fn inner_map(&mut self, key: &[u8]) -> Option<Arc<Map>> {
        match self.slots.get(&index(key).ok()?) {
            Some(Object::Map(map)) => Some(map.clone()),
            _ => None,
        }
    }

    fn program(&self, index: u32) -> Option<Arc<Prog>> {
        match self.slots.get(&index) {
            Some(Object::Prog(prog)) => Some(prog.clone()),
            _ => None,
        }
    }

    fn release_held(&mut self) {
        if self.inner.is_none() {
            self.slots.clear();
            self.owner = None;
        }
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.slots.values().cloned().chain(self.owner.clone().map(Object::Prog)).collect()
    }
}

/// Hash tables of maps (`BPF_MAP_TYPE_HASH_OF_MAPS`).
#[derive(Clone, Debug)]
pub(super) struct HashOfMaps {
    table: Table<Arc<Map>>,
    inner: InnerShape,
}

impl HashOfMaps {
    pub(super) fn new(max_entries: u32, inner: InnerShape) -> Self {
        HashOfMaps { table: Table::new(max_entries), inner }
    }
}

impl Elements for HashOfMaps {
    fn lookup(&mut self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        copy(value, &self.table.get(key).ok_or(Errno::ENOENT)?.id.to_ne_bytes())
    }

    fn update(&mut self, key: &[u8], value: &[u8], flags: u64, resolve: Resolve<'_>) -> Result<(), Errno> {
        let map = inner_map(&self.inner, value, resolve)?;
        self.table.check_flags(key, flags)?;
        self.table.set(key, map)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), Errno> {
        self.table.remove(key).map(drop)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.table.next_key(key, next)
    }

    fn batches(&self) -> Batches {
        Batches::all()
    }

    fn buckets(&self) -> Option<u32> {
        Some(self.table.buckets())
    }

    fn bucket_from(&self, bucket: u32) -> Option<(u32, Vec<Arc<[u8]>>)> {
        self.table.bucket_from(bucket)
    }

    fn inner_map(&mut self, key: &[u8]) -> Option<Arc<Map>> {
        self.table.get(key).cloned()
    }

    fn boxed(&self) -> Box<dyn Elements> {
        Box::new(self.clone())
    }

    fn held(&self) -> Vec<Object> {
        self.table.iter().map(|(_, map)| Object::Map(map.clone())).collect()
    }
}

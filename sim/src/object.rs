//! The things that descriptors, pins and ids refer to.
//!
//! Whoever refers to an object holds an [`Arc`] of it: descriptors, pins, programs their maps, links their program.
//! Ids do not, so an object goes with its last holder, and its id with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use skep_sys::abi::Errno;

use crate::btf::BtfObject;
use crate::link::Link;
use crate::map::Map;
use crate::perf::PerfEvent;
use crate::prog::Prog;

/// A counted reference to an object of any kind.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Map(Arc<Map>),
    Prog(Arc<Prog>),
    Btf(Arc<BtfObject>),
    Link(Arc<Link>),
    Perf(Arc<PerfEvent>),
    Token,
    /// What keeps statistics on.
    Stats,
    /// The lock of a directory.
    Lock(PathBuf),
}

impl Object {
    /// The map, or `EINVAL` when it is something else.
    pub(crate) fn map(&self) -> Result<&Arc<Map>, Errno> {
        match self {
            Object::Map(map) => Ok(map),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The program, or `EINVAL` when it is something else.
    pub(crate) fn prog(&self) -> Result<&Arc<Prog>, Errno> {
        match self {
            Object::Prog(prog) => Ok(prog),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The BTF, or `EINVAL` when it is something else.
    pub(crate) fn btf(&self) -> Result<&Arc<BtfObject>, Errno> {
        match self {
            Object::Btf(btf) => Ok(btf),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The link, or `EINVAL` when it is something else.
    pub(crate) fn link(&self) -> Result<&Arc<Link>, Errno> {
        match self {
            Object::Link(link) => Ok(link),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The perf event, or `EINVAL` when it is something else.
    pub(crate) fn perf(&self) -> Result<&Arc<PerfEvent>, Errno> {
        match self {
            Object::Perf(event) => Ok(event),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The objects of one kind by their ids, which only grow.
#[derive(Debug)]
pub(crate) struct Ids<T> {
    last: u32,
    objects: BTreeMap<u32, Weak<T>>,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids { last: 0, objects: BTreeMap::new() }
    }
}

impl<T> Ids<T> {
    /// Makes an object with the next id.
    pub(crate) fn add(&mut self, make: impl FnOnce(u32) -> T) -> Result<Arc<T>, Errno> {
        let id = self.last.checked_add(1).filter(|&id| id < ID_END).ok_or(Errno::ENOSPC)?;
        self.last = id;
        let object = Arc::new(make(id));
        self.objects.insert(id, Arc::downgrade(&object));
        Ok(object)
    }

    /// The object with an id, or `ENOENT`.
    pub(crate) fn get(&self, id: u32) -> Result<Arc<T>, Errno> {
        self.objects.get(&id).and_then(Weak::upgrade).ok_or(Errno::ENOENT)
    }

    /// The smallest id after `id`: `ENOENT` when there is none, `EINVAL` when there can be none.
    pub(crate) fn next(&self, id: u32) -> Result<u32, Errno> {
        let first = id.checked_add(1).filter(|_| id < ID_END).ok_or(Errno::EINVAL)?;
        self.objects
            .range(first..)
            .find(|(_, object)| object.strong_count() > 0)
            .map(|(id, _)| *id)
            .ok_or(Errno::ENOENT)
    }

    /// Forgets the ids of objects that are gone.
    pub(crate) fn prune(&mut self) {
        self.objects.retain(|_, object| object.strong_count() > 0);
    }

    /// Number of objects that exist.
    pub(crate) fn count(&self) -> usize {
        self.objects.values().filter(|object| object.strong_count() > 0).count()
    }

    /// The objects that exist, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        self.objects.values().filter_map(Weak::upgrade)
    }
}

/// Ids stay below the kernel's `INT_MAX`.
const ID_END: u32 = i32::MAX as u32;

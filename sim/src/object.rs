//! The things that descriptors, pins and ids refer to.
//!
//! Whoever refers to an object holds an [`Arc`] of it: descriptors, pins, programs their maps, links their program.
//! Ids do not, so an object goes with its last holder, and its id with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use skep_sys::abi::Errno;

use crate::btf::BtfObject;
use crate::iter::Iter;
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
    /// A run of an iterator.
    Iter(Arc<Iter>),
    Token,
    /// A control group, by its id.
    Cgroup(u64),
    /// The network namespace.
    Netns,
    /// A socket of the simulated network, by its cookie.
    Socket(u64),
    /// A task, by its id.
    Task(u32),
    /// A file, by the address of its inode.
    File(u64),
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

    /// The objects that it keeps alive.
    pub(crate) fn refers_to(&self) -> Vec<Object> {
        match self {
            Object::Map(map) => map.refers_to(),
            Object::Prog(prog) => prog.refers_to(),
            Object::Link(link) => link.refers_to(),
            Object::Iter(iter) => vec![Object::Link(iter.link().clone())],
            _ => Vec::new(),
        }
    }

    /// What tells it from other objects of this kernel, for those that have ids, and perf events.
    pub(crate) fn identity(&self) -> Option<(u8, usize)> {
        Some(match self {
            Object::Map(map) => (0, Arc::as_ptr(map).addr()),
            Object::Prog(prog) => (1, Arc::as_ptr(prog).addr()),
            Object::Btf(btf) => (2, Arc::as_ptr(btf).addr()),
            Object::Link(link) => (3, Arc::as_ptr(link).addr()),
            Object::Perf(event) => (4, Arc::as_ptr(event).addr()),
            Object::Iter(iter) => (5, Arc::as_ptr(iter).addr()),
            Object::Token
            | Object::Stats
            | Object::Lock(_)
            | Object::Cgroup(_)
            | Object::Netns
            | Object::Task(_)
            | Object::File(_)
            | Object::Socket(_) => return None,
        })
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
    /// Those that only snapshots hold, as far as was noticed.
    hidden: BTreeSet<u32>,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids { last: 0, objects: BTreeMap::new(), hidden: BTreeSet::new() }
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

    fn exists(&self, id: u32, object: &Weak<T>) -> bool {
        object.strong_count() > 0 && (self.hidden.is_empty() || !self.hidden.contains(&id))
    }

    /// The object with an id, or `ENOENT`.
    pub(crate) fn get(&self, id: u32) -> Result<Arc<T>, Errno> {
        let found = self.objects.get(&id).filter(|object| self.exists(id, object));
        found.and_then(Weak::upgrade).ok_or(Errno::ENOENT)
    }

    /// The smallest id after `id`: `ENOENT` when there is none, `EINVAL` when there can be none.
    pub(crate) fn next(&self, id: u32) -> Result<u32, Errno> {
        let first = id.checked_add(1).filter(|_| id < ID_END).ok_or(Errno::EINVAL)?;
        self.objects
            .range(first..)
            .find(|(id, object)| self.exists(**id, object))
            .map(|(id, _)| *id)
            .ok_or(Errno::ENOENT)
    }

    /// Forgets the ids of objects that are gone.
    pub(crate) fn prune(&mut self) {
        self.objects.retain(|_, object| object.strong_count() > 0);
    }

    /// Number of objects that exist.
    pub(crate) fn count(&self) -> usize {
        self.objects.iter().filter(|(id, object)| self.exists(**id, object)).count()
    }

    /// The objects that exist, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<T>> {
        self.objects
            .iter()
            .filter(|(id, object)| self.exists(**id, object))
            .filter_map(|(_, object)| object.upgrade())
    }

    /// Lets those objects not exist that are only held by snapshots.
    pub(crate) fn hide_unless(&mut self, is_held: impl Fn(&Arc<T>) -> bool) {
        let hidden = self
            .objects
            .iter()
            .filter(|(_, object)| object.upgrade().is_some_and(|object| !is_held(&object)));
        self.hidden = hidden.map(|(id, _)| *id).collect();
    }

    /// What a snapshot keeps: the last id, and the objects with theirs.
    pub(crate) fn save(&self) -> (u32, Vec<(u32, Arc<T>)>) {
        let objects = self.objects.iter().filter(|(id, object)| self.exists(**id, object));
        (self.last, objects.filter_map(|(id, object)| Some((*id, object.upgrade()?))).collect())
    }

    pub(crate) fn restore(&mut self, (last, objects): &(u32, Vec<(u32, Arc<T>)>)) {
        self.last = *last;
        self.objects = objects.iter().map(|(id, object)| (*id, Arc::downgrade(object))).collect();
        self.hidden.clear();
    }
}

/// Ids stay below the kernel's `INT_MAX`.
const ID_END: u32 = i32::MAX as u32;

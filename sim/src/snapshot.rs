//! A kernel as it was at one moment, to go back to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bpffs::Bpffs;
use crate::btf::BtfObject;
use crate::kernel::{Inner, SimKernel, State};
use crate::link::{self, Link};
use crate::map::{Map, SavedMap};
use crate::object::Object;
use crate::perf::{PerfEvent, SavedPerf};
use crate::prog::Prog;
use crate::world::World;

/// What a simulated kernel held at one moment, made by [`SimKernel::snapshot`].
///
/// It costs a copy of the contents of all maps. Objects of which only a snapshot is left are not seen: they have no id, and
/// what they were attached to is free.
#[derive(Debug)]
pub struct Snapshot {
    kernel: Arc<()>,
    objects: Objects,
    maps: Vec<SavedMap>,
    bound: Vec<Vec<Arc<Map>>>,
    links: Vec<link::State>,
    direct: Vec<(Arc<Link>, link::State)>,
    perf: Vec<(Arc<PerfEvent>, SavedPerf)>,
    bpffs: Bpffs,
    memlock_raised: bool,
    offline: BTreeSet<u32>,
    perf_events: u64,
    world: World,
}

/// The objects that existed, with their ids.
#[derive(Debug)]
struct Objects {
    maps: (u32, Vec<(u32, Arc<Map>)>),
    progs: (u32, Vec<(u32, Arc<Prog>)>),
    btfs: (u32, Vec<(u32, Arc<BtfObject>)>),
    links: (u32, Vec<(u32, Arc<Link>)>),
}

/// Why a kernel cannot go back to a snapshot. It is as it was before then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The snapshot is one of another kernel.
    #[error("the snapshot is of another kernel")]
    OtherKernel,
    /// Descriptors are open of objects that were made since.
    #[error("{} made after the snapshot and still open; drop the handles first", objects.join(", "))]
    StillOpen {
        /// The objects: kind, name and id.
        objects: Vec<String>,
    },
    /// A ring cannot go back while its reader is there.
    #[error("ring buffer `{map}`: {why}")]
    Ring {
        /// The map.
        map: String,
        /// What is in the way.
        why: &'static str,
    },
}

impl SimKernel {
    /// Keeps what the kernel holds now: objects with their ids and pins, the contents of all maps (elements, their order of use,
    /// what waits in queues and rings), what is frozen, what links are attached to and what they run, the clock, random numbers, and
    /// everything that programs left behind. No program may run meanwhile.
    ///
    /// A fixture that takes long is made once, and each test goes back to it:
    ///
    /// ```
    /// use skep_sys::abi::MapType;
    /// use skep_sys::{Kernel, request::MapCreate};
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// let map = Kernel::new(sim.clone()).map_create(&MapCreate::new(MapType::HASH, 4, 4, 8))?;
    /// map.update(&[1; 4], &[1; 4], Default::default())?;
    /// let filled = sim.snapshot();
    ///
    /// map.delete(&[1; 4])?;
    /// sim.restore(&filled)?;
    /// let mut value = [0; 4];
    /// map.lookup(&[1; 4], &mut value, Default::default())?; // through the handle of before
    /// assert_eq!(value, [1; 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        let world = self.0.world().clone();
        let state = self.0.swept();
        let objects = Objects {
            maps: state.maps.save(),
            progs: state.progs.save(),
            btfs: state.btfs.save(),
            links: state.links.save(),
        };
        let (perf, direct) = (state.perf_events(), state.direct.clone());
        let mut snapshot = Snapshot {
            kernel: state.identity.clone(),
            objects,
            maps: Vec::new(),
            bound: Vec::new(),
            links: Vec::new(),
            direct: Vec::new(),
            perf: Vec::new(),
            bpffs: state.bpffs.clone(),
            memlock_raised: state.memlock_raised,
            offline: state.offline.clone(),
            perf_events: state.perf_events,
            world,
        };
        // Objects are locked only while the state is not.
        drop(state);
        snapshot.direct = direct.into_iter().map(|link| (link.clone(), link.save())).collect();
        snapshot.perf = perf.into_iter().map(|event| (event.clone(), event.save())).collect();
        snapshot.maps = snapshot.objects.maps.1.iter().map(|(_, map)| map.save()).collect();
        snapshot.bound = snapshot.objects.progs.1.iter().map(|(_, prog)| prog.save()).collect();
        snapshot.links = snapshot.objects.links.1.iter().map(|(_, link)| link.save()).collect();
        snapshot
    }

    /// Goes back to a snapshot. A snapshot can be gone back to any number of times.
    ///
    /// - Handles that were there then stay what they are: a map, program or link that is open is the same object, with the
    ///   contents of then. Memory that is mapped is written in place.
    /// - What was closed since is closed: an object is back if something of then holds it (a pin, another object).
    /// - Handles of objects that were made since have to be dropped before; the error names what is left.
    /// - A ring buffer whose reader is there then and now keeps its positions, which the reader knows: what it has not read is
    ///   discarded. It cannot go back to a moment when something was unread. Perf buffers that are mapped go on.
    /// - Which calls fail, which are recorded, and how the kernel was built does not change.
    ///
    /// No program may run meanwhile.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing has changed then.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), RestoreError> {
        let state = self.0.swept();
        if !Arc::ptr_eq(&state.identity, &snapshot.kernel) {
            return Err(RestoreError::OtherKernel);
        }
        let known = snapshot.known();
        let newer = |object: &&Object| object.identity().is_some_and(|identity| !known.contains(&identity));
        let objects: BTreeSet<String> = state.descriptors.objects().filter(newer).map(describe).collect();
        drop(state);
        if !objects.is_empty() {
            return Err(RestoreError::StillOpen { objects: objects.into_iter().collect() });
        }
        let maps = || snapshot.objects.maps.1.iter().map(|(_, map)| map).zip(&snapshot.maps);
        for (map, saved) in maps() {
            map.can_restore(saved).map_err(|why| RestoreError::Ring { map: map.name.clone(), why })?;
        }

        let readable: Vec<_> = maps().filter(|(map, saved)| map.restore(saved)).map(|(map, _)| map).collect();
        snapshot
            .objects
            .progs
            .1
            .iter()
            .zip(&snapshot.bound)
            .for_each(|((_, prog), saved)| prog.restore(saved));
        snapshot
            .objects
            .links
            .1
            .iter()
            .zip(&snapshot.links)
            .for_each(|((_, link), saved)| link.restore(saved));
        snapshot.direct.iter().for_each(|(link, saved)| link.restore(saved));
        snapshot.perf.iter().for_each(|(event, saved)| event.restore(saved));
        *self.0.world() = snapshot.world.clone();
        let mut state = self.0.state();
        let State { maps, progs, btfs, links, direct, bpffs, memlock_raised, offline, perf_events, .. } =
            &mut *state;
        maps.restore(&snapshot.objects.maps);
        progs.restore(&snapshot.objects.progs);
        btfs.restore(&snapshot.objects.btfs);
        links.restore(&snapshot.objects.links);
        // What only pins held is dropped once nothing is locked.
        let there = snapshot.direct.iter().map(|(link, _)| link.clone()).collect();
        let dropped = (std::mem::replace(bpffs, snapshot.bpffs.clone()), std::mem::replace(direct, there));
        *memlock_raised = snapshot.memlock_raised;
        offline.clone_from(&snapshot.offline);
        *perf_events = snapshot.perf_events;
        for map in readable {
            state.descriptors.wake(map);
        }
        drop(state);
        drop(dropped);
        drop(self.0.swept());
        self.0.abandon_unused();
        Ok(())
    }
}

impl Snapshot {
    /// Everything that existed.
    fn known(&self) -> BTreeSet<(u8, usize)> {
        let Objects { maps, progs, btfs, links } = &self.objects;
        let maps = maps.1.iter().map(|(_, map)| Object::Map(map.clone()));
        let progs = progs.1.iter().map(|(_, prog)| Object::Prog(prog.clone()));
        let btfs = btfs.1.iter().map(|(_, btf)| Object::Btf(btf.clone()));
        let links = links.1.iter().map(|(_, link)| Object::Link(link.clone()));
        let perf = self.perf.iter().map(|(event, _)| Object::Perf(event.clone()));
        let all = maps.chain(progs).chain(btfs).chain(links).chain(perf);
        all.filter_map(|object| object.identity()).collect()
    }
}

/// An object for who has to find its handle.
fn describe(object: &Object) -> String {
    match object {
        Object::Map(map) => format!("map `{}` (id {})", map.name, map.id),
        Object::Prog(prog) => format!("program `{}` (id {})", prog.name(), prog.id),
        Object::Btf(btf) => format!("BTF (id {})", btf.id),
        Object::Link(link) => format!("link (id {})", link.id),
        _ => "a perf event".to_owned(),
    }
}

impl Inner {
    /// Lets objects not exist of which only snapshots are left: those that no descriptor and no pin leads to.
    pub(crate) fn hide_unreachable(&self) {
        let state = self.state();
        let mut queue: Vec<Object> =
            state.descriptors.objects().chain(state.bpffs.objects()).cloned().collect();
        queue.extend(state.direct.iter().cloned().map(Object::Link));
        drop(state);
        let mut reached: BTreeMap<(u8, usize), Object> = BTreeMap::new();
        while let Some(object) = queue.pop() {
            if let Some(identity) = object.identity()
                && !reached.contains_key(&identity)
            {
                queue.extend(object.refers_to());
                reached.insert(identity, object);
            }
        }
        let reached =
            |object: Object| object.identity().is_some_and(|identity| reached.contains_key(&identity));
        let mut state = self.state();
        state.maps.hide_unless(|map| reached(Object::Map(map.clone())));
        state.progs.hide_unless(|prog| reached(Object::Prog(prog.clone())));
        state.btfs.hide_unless(|btf| btf.kernel || reached(Object::Btf(btf.clone())));
        state.links.hide_unless(|link| reached(Object::Link(link.clone())));
    }
}

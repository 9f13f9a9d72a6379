//! The simulated kernel: what it is made of, and what its calls have in common.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use skep_btf::{Btf, BtfError, Kind, Type, TypeId};
use skep_sys::MapRef;
use skep_sys::abi::{Errno, MapId, MapType};
use skep_sys::request::PerfEventOpen;

use crate::bpffs::Bpffs;
use crate::btf::BtfObject;
use crate::builder::Builder;
use crate::calls::CallHooks;
use crate::fd::{Access, Descriptors};
use crate::features::Features;
use crate::given::Given;
use crate::link::Link;
use crate::map::{Map, Meter};
use crate::object::{Ids, Object};
use crate::packet::Layouts;
use crate::perf::PerfEvent;
use crate::prog::{Draft, Prog, Target};
use crate::user::User;
use crate::vm::MapFields;
use crate::watch::Watching;
use crate::world::World;

/// A kernel in the process.
///
/// Clones are handles of the same kernel: give one to [`Kernel::new`](skep_sys::Kernel::new), keep another to look
/// into it. Several kernels in one process share nothing.
///
/// A descriptor is the read end of a pipe whose write end the kernel holds, so an open object takes two of the
/// process's descriptors. Closed ones are noticed when ids are asked for and from time to time when objects are made;
/// [`live`](SimKernel::live) notices them at once.
///
/// A ring's descriptor polls as readable as on Linux while records are left, whoever opened it and whenever, with these
/// differences: whoever reads all of them without looking for another one finds it readable once more; a record that wakes
/// nobody makes only those descriptors readable that are opened afterwards or whose reader comes to look; and it is
/// readable too when a user ring buffer has room, which on Linux makes it writable.
#[derive(Clone, Debug)]
pub struct SimKernel(pub(crate) Core);

/// The kernel behind the calls: what [`SimKernel`] does with each call, it does before this one has it.
#[derive(Clone, Debug)]
pub(crate) struct Core(pub(crate) Arc<Inner>, pub(crate) Option<Arc<User>>);

impl Deref for Core {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// `RLIMIT_MEMLOCK` as it was by default before Linux 5.16.
const MEMLOCK: usize = 64 << 10;

/// How many objects a simulated kernel holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Live {
    /// Maps.
    pub maps: usize,
    /// Programs.
    pub programs: usize,
    /// BTF objects that were loaded; those of the kernel and its modules do not count.
    pub btfs: usize,
    /// Links.
    pub links: usize,
    /// Pins and pin directories.
    pub pins: usize,
}

#[derive(Debug)]
pub(crate) struct Inner {
    config: Builder,
    /// What the values of maps take.
    pub(crate) meter: Arc<Meter>,
    vmlinux: Option<Arc<BtfObject>>,
    modules: Vec<Arc<BtfObject>>,
    made: Instant,
    state: Mutex<State>,
    world: Mutex<World>,
    calls: CallHooks,
    /// Descriptors that programs made, by number: the process has them without knowing.
    pub(crate) given: Given,
    watching: Watching,
    map_fields: MapFields,
    layouts: OnceLock<Layouts>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) descriptors: Descriptors,
    pub(crate) bpffs: Bpffs,
    pub(crate) maps: Ids<Map>,
    pub(crate) progs: Ids<Prog>,
    pub(crate) btfs: Ids<BtfObject>,
    pub(crate) links: Ids<Link>,
    /// Programs that are attached without a link.
    pub(crate) direct: Vec<Arc<Link>>,
    pub(crate) memlock_raised: bool,
    pub(crate) offline: BTreeSet<u32>,
    /// The last id of a perf event.
    pub(crate) perf_events: u64,
    /// Tells this kernel from others. Snapshots hold it.
    pub(crate) identity: Arc<()>,
}

impl Default for SimKernel {
    fn default() -> Self {
        SimKernel::new()
    }
}

impl SimKernel {
    /// A kernel with everything at its default; see [`Builder`].
    pub fn new() -> SimKernel {
        SimKernel(Core(Arc::new(Inner::new(Builder::default(), Ids::default(), None, Vec::new())), None))
    }

    /// Describes another kernel.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn from_builder(config: Builder, btf: Option<Btf>) -> Result<SimKernel, BtfError> {
        let mut ids = Ids::default();
        let mut add = |name: &str, btf| {
            let make = |id| BtfObject { id, name: name.to_owned(), kernel: true, btf };
            ids.add(make).ok()
        };
        let vmlinux = btf.and_then(|btf| add("vmlinux", btf));
        let mut modules = Vec::new();
        for (name, bytes) in &config.modules {
            let btf = match &vmlinux {
                Some(base) => Btf::parse_split(bytes.clone(), &base.btf)?,
                None => Btf::parse(bytes.clone())?,
            };
            modules.extend(add(name, btf));
        }
        Ok(SimKernel(Core(Arc::new(Inner::new(config, ids, vmlinux, modules)), None)))
    }

    /// How many objects there are now, closed descriptors noticed.
    ///
    /// ```
    /// use skep_sys::{Kernel, abi::MapType, request::MapCreate};
    ///
    /// let sim = skep_sim::SimKernel::new();
    /// let map = Kernel::new(sim.clone()).map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1))?;
    /// assert_eq!(sim.live().maps, 1);
    /// drop(map);
    /// assert_eq!(sim.live().maps, 0);
    /// # Ok::<(), skep_sys::abi::Errno>(())
    /// ```
    pub fn live(&self) -> Live {
        let state = self.0.swept();
        Live {
            maps: state.maps.count(),
            programs: state.progs.count(),
            btfs: state.btfs.iter().filter(|btf| !btf.kernel).count(),
            links: state.links.count(),
            pins: state.bpffs.paths().count(),
        }
    }

    /// Takes a CPU offline, or back online. What is bound to it counts and writes no more, also when it is back, as on
    /// Linux. Nothing happens when there is no such CPU, or it is the last one that is online.
    pub fn set_online(&self, cpu: u32, online: bool) {
        let mut state = self.0.state();
        if online {
            state.offline.remove(&cpu);
            return;
        }
        let cpus = self.0.config().cpus;
        if cpu >= cpus || state.offline.len() + 1 >= cpus as usize || !state.offline.insert(cpu) {
            return;
        }
        let held = state.perf_events();
        drop(state);
        let now = self.0.elapsed();
        for event in held.iter().filter(|event| event.cpu() == Some(cpu)) {
            event.go_off(now);
        }
    }

    /// Does what a program does on a CPU with `bpf_perf_event_output`: writes `data` to the perf event at an index of
    /// the map, of the CPU's number for none (`BPF_F_CURRENT_CPU`).
    ///
    /// # Errors
    /// What the program gets: [`Errno::ENOENT`] when there is no event, [`Errno::E2BIG`] when the map has no such index,
    /// [`Errno::EOPNOTSUPP`] when the event is of another CPU or does not count, [`Errno::ENOSPC`] when the ring is full or
    /// nobody has it mapped, [`Errno::EINVAL`] when the event is no
    /// [`BPF_OUTPUT`](skep_sys::abi::PerfEventKind::BPF_OUTPUT) or the map none of perf events.
    pub fn perf_event_output(
        &self,
        map: BorrowedFd<'_>,
        index: Option<u32>,
        cpu: u32,
        data: &[u8],
    ) -> Result<(), Errno> {
        let object = self.0.object(map)?;
        let event = object.map()?.perf_event(index.unwrap_or(cpu))?;
        event.output(cpu, data, self.0.elapsed())
    }

    /// Puts a stack into a stack trace map, as a program does that is given this number by `bpf_get_stackid`: the
    /// addresses from the innermost. In a map with build ids they stand as addresses, as of files without one.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] when there is no such map, [`Errno::EINVAL`] when it is of another kind,
    /// [`Errno::E2BIG`] when the number is not below its capacity.
    pub fn put_stack(&self, map: MapId, id: u32, addresses: &[u64]) -> Result<(), Errno> {
        let map = self.0.state().maps.get(map.0)?;
        map.put_stack(id, addresses)
    }

    /// The paths of all pins and pin directories, sorted.
    pub fn pins(&self) -> Vec<PathBuf> {
        self.0.state().bpffs.paths().map(PathBuf::from).collect()
    }
}

impl Inner {
    fn new(
        config: Builder,
        btfs: Ids<BtfObject>,
        vmlinux: Option<Arc<BtfObject>>,
        modules: Vec<Arc<BtfObject>>,
    ) -> Inner {
        let state = State {
            descriptors: Descriptors::default(),
            bpffs: Bpffs::new(config.mounts.iter().cloned()),
            maps: Ids::default(),
            progs: Ids::default(),
            btfs,
            links: Ids::default(),
            direct: Vec::new(),
            memlock_raised: false,
            offline: BTreeSet::new(),
            perf_events: 0,
            identity: Arc::new(()),
        };
        let world = Mutex::new(World::new(&config));
        let calls = CallHooks::new(&config.failing);
        let meter = Arc::new(Meter::new(config.host_memory));
        Inner {
            config,
            meter,
            vmlinux,
            modules,
            made: Instant::now(),
            state: Mutex::new(state),
            world,
            calls,
            given: Given::default(),
            watching: Watching::default(),
            map_fields: MapFields::default(),
            layouts: OnceLock::new(),
        }
    }

    pub(crate) fn config(&self) -> &Builder {
        &self.config
    }

    /// Gives a program its id.
    pub(crate) fn add_prog(&self, draft: Draft) -> Result<Arc<Prog>, Errno> {
        let prog = self.state().progs.add(|id| draft.with_id(id))?;
        self.watching.loaded(&prog);
        Ok(prog)
    }

    /// Who looks at programs.
    pub(crate) fn watching(&self) -> &Watching {
        &self.watching
    }

    /// What happens around calls.
    pub(crate) fn calls(&self) -> &CallHooks {
        &self.calls
    }

    pub(crate) fn features(&self) -> Features {
        self.config.features
    }

    /// The kernel's own BTF.
    pub(crate) fn vmlinux(&self) -> Option<&Arc<BtfObject>> {
        self.vmlinux.as_ref().filter(|_| self.features().contains(Features::KERNEL_BTF))
    }

    /// The types of the kernel and of its modules.
    pub(crate) fn kernel_types(&self) -> impl Iterator<Item = &Arc<BtfObject>> {
        self.vmlinux().into_iter().chain(&self.modules)
    }

    /// Nanoseconds since the kernel was made, for perf events, which count what really passes.
    pub(crate) fn elapsed(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Where the kernel's own types have the members of a map.
    pub(crate) fn map_fields(&self) -> &MapFields {
        &self.map_fields
    }

    /// Where the kernel's own types have the members of packets.
    pub(crate) fn layouts(&self) -> &Layouts {
        self.layouts.get_or_init(|| Layouts::new(self))
    }

    /// Nanoseconds since boot.
    pub(crate) fn now(&self) -> u64 {
        self.world().clock
    }

    /// Time, chance, and what programs left behind. It is locked for a moment only, never while a program runs.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that changes. No lock of an object may be taken while this one is held.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state after closed descriptors were noticed.
    pub(crate) fn swept(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let abandoned = state.sweep();
        let has_snapshots = Arc::strong_count(&state.identity) > 1;
        if abandoned.is_empty() && !has_snapshots {
            return state;
        }
        drop(state);
        abandoned.iter().for_each(|map| self.abandon(map));
        if has_snapshots {
            self.hide_unreachable();
        }
        let mut state = self.state();
        state.prune();
        state
    }

    /// The bytes that maps and programs may take together, if that is limited.
    pub(crate) fn memlock(&self) -> Option<usize> {
        let unlimited = self.features().contains(Features::MEMCG_ACCOUNT) || self.state().memlock_raised;
        (!unlimited).then_some(MEMLOCK)
    }

    /// `EPERM` when `more` bytes are more than may be locked, `ENOMEM` when they are more than there are.
    pub(crate) fn charge(&self, more: usize) -> Result<(), Errno> {
        let (lockable, memory) = (self.memlock(), self.config.memory_limit);
        if lockable.is_none() && memory.is_none() {
            return Ok(());
        }
        let state = self.swept();
        let maps = state.maps.iter().map(|map| map.shape.memory());
        let programs = state.progs.iter().map(|prog| prog.memory());
        let used = maps.chain(programs).fold(more, usize::saturating_add);
        if lockable.is_some_and(|limit| used > limit) {
            return Err(Errno::EPERM);
        }
        if memory.is_some_and(|limit| used > limit) { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// The state, from which what nobody holds any more has gone if memory is short.
    pub(crate) fn current(&self) -> MutexGuard<'_, State> {
        if self.meter.is_short() { self.swept() } else { self.state() }
    }

    /// What a descriptor stands for.
    pub(crate) fn object(&self, fd: BorrowedFd<'_>) -> Result<Object, Errno> {
        self.current().descriptors.get(fd).map(|(object, _)| object.clone())
    }

    /// What a descriptor that is given as a number stands for.
    pub(crate) fn object_number(&self, number: i32) -> Result<Object, Errno> {
        self.state().descriptors.get_number(number).map(|(object, _)| object.clone())
    }

    /// The map that a descriptor stands for, and what may be done through it.
    pub(crate) fn map(&self, fd: BorrowedFd<'_>) -> Result<(Arc<Map>, Access), Errno> {
        let state = self.current();
        let (object, access) = state.descriptors.get(fd)?;
        Ok((object.map()?.clone(), access))
    }

    /// As [`map`](Inner::map), for calls with many elements, which an old kernel does not have, or not for all kinds.
    pub(crate) fn batch_map(
        &self,
        map: MapRef<'_>,
        reads: bool,
        writes: bool,
    ) -> Result<(Arc<Map>, Access), (Errno, u32)> {
        if !self.features().contains(Features::MAP_BATCH) {
            return Err((Errno::EINVAL, 0));
        }
        let (map, access) = self.map(map.as_fd()).map_err(|errno| (errno, 0))?;
        let needs = match map.shape.kind {
            MapType::LPM_TRIE | MapType::PERCPU_ARRAY => Features::LPM_BATCH,
            MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => Features::MAP_IN_MAP_BATCH,
            _ => Features::empty(),
        };
        if self.features().contains(needs) {
            Ok((map, access))
        } else {
            Err((map.refusal(access, reads, writes), 0))
        }
    }

    /// The link on a network device, if one is attached.
    pub(crate) fn xdp_link(&self, ifindex: u32) -> Option<Arc<Link>> {
        let links: Vec<_> = self.swept().links.iter().collect();
        links.into_iter().find(|link| link.place.is_xdp(ifindex) && link.is_attached())
    }

    /// Whether a program is attached to a perf event.
    pub(crate) fn links_of_event(&self, event: &Arc<PerfEvent>) -> bool {
        let links: Vec<_> = self.swept().links.iter().collect();
        links.into_iter().any(|link| link.is_attached() && link.place.is_event(event))
    }

    /// Lets go of an object that was unpinned.
    pub(crate) fn release(&self, object: Object) {
        let Object::Map(map) = object else { return };
        if map.lets_go() && !self.swept().is_used(&map) {
            self.abandon(&map);
        }
    }

    /// Lets go of what a map holds of which there is neither a descriptor nor a pin: it may hold what holds it.
    fn abandon(&self, map: &Arc<Map>) {
        // What goes with them goes once nothing is locked.
        let timers = self.world().timers.forget(map);
        drop(timers);
        map.release_held();
    }

    /// The same for all maps.
    pub(crate) fn abandon_unused(&self) {
        let state = self.state();
        let unused: Vec<_> = state.maps.iter().filter(|map| map.lets_go() && !state.is_used(map)).collect();
        drop(state);
        unused.iter().for_each(|map| self.abandon(map));
    }

    /// Makes a perf event.
    pub(crate) fn perf_event_open(&self, request: &PerfEventOpen<'_>) -> Result<OwnedFd, Errno> {
        if let Some(group) = request.group {
            self.object(group)?.perf().map_err(|_| Errno::EBADF)?;
        }
        let now = self.elapsed();
        let mut state = self.state();
        let event = PerfEvent::open(request, state.perf_events + 1, self.config.cpus, now)?;
        if event.cpu().is_some_and(|cpu| state.offline.contains(&cpu)) {
            return Err(Errno::ENODEV);
        }
        state.perf_events += 1;
        drop(state);
        self.open(Object::Perf(Arc::new(event)), Access::ALL)
    }

    /// Opens a descriptor of an object.
    pub(crate) fn open(&self, object: Object, access: Access) -> Result<OwnedFd, Errno> {
        let due = self.state().descriptors.sweep_is_due();
        let ring = match &object {
            Object::Map(map) if map.is_ring() => Some(map.clone()),
            _ => None,
        };
        let mut state = if due { self.swept() } else { self.state() };
        let mut opened = state.descriptors.open(object.clone(), access);
        drop(state);
        if matches!(opened, Err(Errno::EMFILE | Errno::ENFILE)) {
            // The other ends of closed ones are open as long as nobody noticed.
            opened = self.swept().descriptors.open(object, access);
        }
        let fd = opened?;
        if let Some(map) = ring {
            self.settle(&map, fd.as_fd());
        }
        Ok(fd)
    }

    /// Makes a ring's descriptor ready if and only if Linux calls it ready. Done when nobody can be waiting for it: it is
    /// new, or its reader was here.
    pub(crate) fn settle(&self, map: &Map, fd: BorrowedFd<'_>) {
        let is_ready = || map.ring(|ring| ring.is_ready()).unwrap_or_default();
        if !is_ready() {
            // What cannot be read stays readable, and is asked for once more than needed.
            let _ = Descriptors::take_wakeups(fd);
        }
        // Also what came in between, whose wakeup was taken.
        if is_ready() && !Descriptors::is_readable(fd) {
            self.state().descriptors.wake_one(fd);
        }
    }

    /// Whether a descriptor or pin holds a map.
    pub(crate) fn is_held(&self, map: &Arc<Map>) -> bool {
        let is_it = |object: &Object| matches!(object, Object::Map(m) if Arc::ptr_eq(m, map));
        let state = self.swept();
        state.bpffs.objects().any(is_it) || state.descriptors.objects().any(is_it)
    }

    pub(crate) fn modules(&self) -> &[Arc<BtfObject>] {
        &self.modules
    }

    /// Number of parameters of what a program attaches to.
    pub(crate) fn parameters(&self, target: &Target) -> Option<usize> {
        self.prototype(target, |prototype| prototype.params().len())
    }

    /// Whether what a program attaches to returns something.
    pub(crate) fn returns_something(&self, target: &Target) -> bool {
        self.prototype(target, |prototype| !prototype.type_id().is_void()).unwrap_or(true)
    }

    fn prototype<T>(&self, target: &Target, get: impl FnOnce(Type<'_>) -> T) -> Option<T> {
        let btf = self.kernel_btfs().find(|btf| btf.id == target.obj_id)?;
        let mut ty = btf.btf.ty(TypeId(target.type_id)).ok()?;
        // A function has its prototype behind it, a tracepoint is a typedef of a pointer to one.
        for _ in 0..4 {
            if ty.kind() == Kind::FUNC_PROTO {
                return Some(get(ty));
            }
            ty = btf.btf.ty(ty.type_id()).ok()?;
        }
        None
    }

    /// Whether there is a tracepoint of that name.
    pub(crate) fn has_tracepoint(&self, name: &str) -> bool {
        let typed = |btf: &BtfObject| {
            btf.btf.find(format!("btf_trace_{name}").as_bytes(), skep_btf::Kind::TYPEDEF).is_some()
        };
        self.config.tracepoints.contains(name)
            || self.vmlinux.iter().chain(&self.modules).any(|btf| typed(btf))
    }
}

impl Drop for Inner {
    /// A program may be in an array of programs that it uses itself: then neither would ever go.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let maps: Vec<Arc<Map>> = state.maps.iter().collect();
        for map in maps {
            map.release_held();
        }
    }
}

impl State {
    /// Forgets closed descriptors. Answers the arrays of programs and perf events and the maps of timers that nobody has any more:
    /// what they hold has to be released, once this state is no longer locked.
    fn sweep(&mut self) -> Vec<Arc<Map>> {
        if !self.descriptors.sweep() {
            return Vec::new();
        }
        let arrays: Vec<Arc<Map>> = self.maps.iter().filter(|map| map.lets_go()).collect();
        self.prune();
        arrays.into_iter().filter(|map| !self.is_used(map)).collect()
    }

    /// Whether a descriptor or pin of a map is left.
    fn is_used(&self, map: &Arc<Map>) -> bool {
        let is_it = |object: &Object| matches!(object, Object::Map(m) if Arc::ptr_eq(m, map));
        // Perf events go with the descriptor that they were set by; a pin does not keep them.
        let pinned = map.shape.kind != MapType::PERF_EVENT_ARRAY && self.bpffs.objects().any(is_it);
        pinned || self.descriptors.objects().any(is_it)
    }

    /// The perf events that a descriptor is left of.
    pub(crate) fn perf_events(&self) -> Vec<Arc<PerfEvent>> {
        let events = self.descriptors.objects().filter_map(|object| match object {
            Object::Perf(event) => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }

    fn prune(&mut self) {
        self.maps.prune();
        self.progs.prune();
        self.btfs.prune();
        self.links.prune();
    }
}

//! What pinned sets do on every kernel.

#![allow(dead_code, reason = "each test target uses a part")]

pub(crate) mod deaths;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep::load::{Migration, NoteKind, OnMismatch};
use skep::map::{HashMap, PerCpuArray};
use skep::pinned::{Attachment, Exchange, PinnedSet, Recovery, Staged, Upgrade};
use skep::spec::Pinning;
use skep::sys::abi::{Errno, ProgId, UpdateFlags};
use skep::sys::request::LinkPlace;
use skep::sys::{Backend, ObjectKind};
use skep::{Error, Kernel, Loader, Spec};

use crate::support::time::eventually;

const ANY: UpdateFlags = UpdateFlags::empty();

/// Where a test works: a kernel, a directory on its bpffs that is not there yet, and network devices that nobody else uses.
pub(crate) struct World {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) kernel: Kernel,
    pub(crate) dir: PathBuf,
    pub(crate) devices: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        let kernel = self.kernel();
        if let Ok(upgrade) = Upgrade::begin(&kernel, &self.dir) {
            let set = upgrade.current();
            drop(upgrade);
            let _ = set.map(PinnedSet::remove);
        }
        let _ = self.backend.unpin(&self.dir.join("current"));
        let _ = self.backend.remove_pin_dir(&self.dir);
    }
}

pub(crate) fn open(name: &str) -> Spec {
    Spec::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).expect("test data")
}

/// The object in version 1, 2 and so on: the same, but for one map that gets longer. Its program has a name that nobody else's
/// has.
pub(crate) fn version(number: u32) -> Spec {
    let mut spec = open("xdp_count.o");
    let program = spec.programs.iter_mut().find(|program| program.name == "xdp_count").expect("it is there");
    program.name = own_program();
    let packets = spec.map_mut("packets").expect("it is there");
    // Few, since each entry is some calls when it is copied.
    packets.max_entries = 8 + number;
    // Loads pin it elsewhere; here that counts for nothing.
    packets.pinning = Pinning::ByName;
    spec
}

pub(crate) const KEYS: u8 = 6;

impl World {
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel.clone()
    }

    pub(crate) fn begin(&self) -> Upgrade {
        Upgrade::begin(&self.kernel(), &self.dir).expect("nobody else is there")
    }

    pub(crate) fn set(&self) -> PinnedSet {
        PinnedSet::open(&self.kernel(), &self.dir).expect("it can be read").expect("it is there")
    }

    /// Loads a version and says where it is to be attached.
    pub(crate) fn stage(&self, kernel: &Kernel, number: u32) -> Result<Staged, Error> {
        let upgrade = Upgrade::begin(kernel, &self.dir)?;
        let loader = Loader::new(kernel).on_mismatch(OnMismatch::Migrate(Migration::grow()));
        let mut staged = upgrade.load(&loader, &version(number))?;
        for device in &self.devices {
            staged.attach_as(device, &own_program(), Attachment::xdp(device.as_str()))?;
        }
        Ok(staged)
    }

    /// Puts a version in the place of what is there.
    pub(crate) fn install(&self, kernel: &Kernel, number: u32) -> Result<(), Error> {
        self.stage(kernel, number)?.switch()?.commit().map(drop)
    }

    /// Writes what no program writes meanwhile.
    pub(crate) fn fill(&self) {
        let flows: HashMap<[u8; 8], [u8; 16]> = self.set().map("flows").unwrap().typed().unwrap();
        let packets = self.set().map("packets").unwrap();
        for n in 0..KEYS {
            flows.insert(&[n + 1; 8], &[n; 16], ANY).unwrap();
            packets.update(&u32::from(n).to_ne_bytes(), &vec![n + 1; packets.value_len()], ANY).unwrap();
        }
    }

    /// The programs that each device runs.
    pub(crate) fn running(&self) -> Vec<Vec<ProgId>> {
        let kernel = self.kernel();
        let index = |name: &String| self.backend.ifindex(name.as_ref()).expect("it is there");
        let indexes: Vec<u32> = self.devices.iter().map(index).collect();
        let mut running = vec![Vec::new(); indexes.len()];
        for id in kernel.ids(ObjectKind::Link).map_while(Result::ok) {
            // Those of others come and go.
            let Ok(link) = kernel.link_by_id(skep::sys::abi::LinkId(id)) else { continue };
            let info = link.info().expect("it is open");
            let LinkPlace::Xdp { ifindex } = info.place else { continue };
            let Some(place) = indexes.iter().position(|index| *index == ifindex) else { continue };
            // Devices of other namespaces have the same indexes.
            let name = kernel.prog_by_id(info.prog_id).map(|program| program.name().to_owned());
            if name.is_ok_and(|name| name == own_program()) {
                running[place].push(info.prog_id);
            }
        }
        running
    }

    /// Whether one set, and nothing else, is there, attached in all places, with everything that was in it. Answers which.
    pub(crate) fn check(&self, what: &str) -> u64 {
        let set = self.set();
        let entries = self.backend.pin_dir_entries(&self.dir).expect("it can be listed");
        let names: Vec<String> =
            entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
        let generation = set.generation();
        assert_eq!(names, ["current".to_owned(), format!("gen-{generation}")], "{what}");
        let program =
            set.program(&own_program()).expect("it is there").info().expect("the kernel knows it").id;
        eventually(
            || self.running() == vec![vec![program]; self.devices.len()],
            || format!("{what}: {:?}, and the set's is {program}", self.running()),
        );
        let mut links: Vec<String> =
            set.links().expect("they are there").into_iter().map(|link| link.0).collect();
        links.sort();
        let mut devices = self.devices.clone();
        devices.sort();
        assert_eq!(links, devices, "{what}");
        for name in &devices {
            assert_eq!(set.link(name).expect("it is there").info().unwrap().prog_id, program, "{what}");
        }
        self.check_contents(&set, what);
        generation
    }

    fn check_contents(&self, set: &PinnedSet, what: &str) {
        let flows: HashMap<[u8; 8], [u8; 16]> = set.map("flows").unwrap().typed().unwrap();
        let mut entries: Vec<_> = flows.iter().map(Result::unwrap).collect();
        entries.sort_unstable();
        let expected: Vec<_> = (0..KEYS).map(|n| ([n + 1; 8], [n; 16])).collect();
        assert_eq!(entries, expected, "{what}");
        let packets = set.map("packets").unwrap();
        for n in 0..packets.max_entries() {
            let byte = u8::try_from(n + 1).ok().filter(|byte| *byte <= KEYS).unwrap_or(0);
            let value = packets.lookup(&n.to_ne_bytes()).unwrap().expect("arrays have all elements");
            assert_eq!(value, vec![byte; packets.value_len()], "{what}: {n}");
        }
        let typed: PerCpuArray<u64> = packets.typed().unwrap();
        assert!(typed.get(0).unwrap().is_some());
    }
}

/// Versions follow each other: links and maps that fit go on, others are made new, and what is left out goes.
pub(crate) fn versions_follow_each_other(world: &World) {
    let kernel = world.kernel();
    assert!(PinnedSet::open(&kernel, &world.dir).expect("it can be looked for").is_none());
    world.install(&kernel, 1).expect("nothing is in the way");
    world.fill();
    assert_eq!(world.check("version 1"), 1);
    let ids = |set: &PinnedSet| {
        let link = set.link(&world.devices[0]).unwrap().info().unwrap();
        (
            link.id,
            link.prog_id,
            set.map("flows").unwrap().id().unwrap(),
            set.map("packets").unwrap().id().unwrap(),
        )
    };
    let first = ids(&world.set());

    let staged = world.stage(&kernel, 2).expect("it loads");
    let notes = |kind| staged.object().report().of(kind).map(|note| note.subject.clone()).collect::<Vec<_>>();
    assert_eq!(
        (notes(NoteKind::Reused), notes(NoteKind::Replaced)),
        (vec!["flows".into()], vec!["packets".into()])
    );
    assert_eq!(world.running()[0], [first.1], "nothing is switched yet");
    let switched = staged.switch().expect("it can be switched");
    assert_ne!(world.running()[0], [first.1]);
    assert_eq!(world.set().generation(), 1, "it is not committed");
    let (object, set) = switched.commit().expect("it can be committed");
    assert_eq!(set.path(), world.dir.join("gen-2"));
    assert_eq!(world.check("version 2"), 2);
    let second = ids(&set);
    assert_eq!((second.0, second.2), (first.0, first.2), "the link and the map that fits go on");
    assert!(second.1 != first.1 && second.3 != first.3);
    assert_eq!(object.map("flows").unwrap().id().unwrap(), second.2);
    assert_eq!(set.map("packets").unwrap().max_entries(), version(2).map("packets").unwrap().max_entries);
    drop(object);

    // By the path that does not change.
    let map =
        kernel.map_open_pinned(world.dir.join("current/maps/flows"), skep::sys::abi::OpenFlags::empty());
    assert_eq!(map.expect("the link leads there").info().unwrap().id, second.2);
    let read_only = set.map_read_only("flows").unwrap();
    assert_eq!(read_only.update(&[9; 8], &[9; 16], ANY).unwrap_err().errno(), Some(Errno::EPERM));

    // The next version is attached in one place less, and has a map of its own.
    let loader = Loader::new(&kernel);
    let mut staged = world.begin().fresh("flows").load(&loader, &version(2)).expect("it loads");
    let (kept, gone) = world.devices.split_first().expect("there is a device");
    staged.attach_as(kept, &own_program(), Attachment::xdp(kept.as_str())).unwrap();
    let error = staged.attach_as(kept, &own_program(), Attachment::xdp(kept.as_str())).unwrap_err();
    assert!(error.to_string().contains("it was named before"), "{error}");
    assert!(staged.attach("no_such", Attachment::tracing()).is_err());
    assert!(staged.attach_as("a.b", &own_program(), Attachment::xdp("lo")).is_err());
    assert!(staged.attach_as("x", &own_program(), Attachment::xdp("a:b")).is_err());
    let (_, set) = staged.switch().expect("it can be switched").commit().expect("it can be committed");
    assert_ne!(set.map("flows").unwrap().id().unwrap(), second.2);
    assert_eq!(set.map("packets").unwrap().id().unwrap(), second.3);
    eventually(
        || world.running()[1..].iter().all(Vec::is_empty),
        || format!("{gone:?} {:?}", world.running()),
    );
    assert_eq!(world.running()[0].len(), 1);

    set.remove().expect("it can be removed");
    eventually(|| world.running().iter().all(Vec::is_empty), || format!("{:?}", world.running()));
    assert_eq!(world.backend.is_bpffs(&world.dir), Ok(false), "nothing is left");
}

/// What is not committed goes back, whenever it is dropped or refused.
pub(crate) fn what_is_not_committed_goes_back(world: &World) {
    let kernel = world.kernel();
    let staged = world.stage(&kernel, 1).expect("it loads");
    let error = Upgrade::begin(&kernel, &world.dir).expect_err("it is locked");
    assert_eq!(error.errno(), Some(Errno::EAGAIN));
    assert!(error.to_string().contains("another process has it locked"), "{error}");
    drop(staged);
    assert!(PinnedSet::open(&kernel, &world.dir).unwrap().is_none());
    drop(world.stage(&kernel, 1).expect("it loads").switch().expect("it can be switched"));
    eventually(|| world.running().iter().all(Vec::is_empty), || format!("{:?}", world.running()));

    world.install(&kernel, 1).expect("nothing is in the way");
    world.fill();
    let running = world.running();
    drop(world.stage(&kernel, 2).expect("it loads"));
    assert_eq!(world.check("staged"), 1);
    drop(world.stage(&kernel, 2).expect("it loads").switch().expect("it can be switched"));
    assert_eq!(world.check("switched"), 1);
    world
        .stage(&kernel, 2)
        .expect("it loads")
        .switch()
        .expect("it can be switched")
        .roll_back()
        .expect("it goes back");
    assert_eq!(world.check("rolled back"), 1);

    // The last place refuses.
    let mut staged = world.stage(&kernel, 2).expect("it loads");
    staged.attach_as("nowhere", &own_program(), Attachment::xdp("no-such")).unwrap();
    let error = staged.switch().expect_err("there is no such device");
    assert!(matches!(error, Error::Attach { .. }), "{error}");
    assert_eq!(world.check("refused"), 1);
    assert_eq!(world.running(), running);

    // So does a map that does not fit.
    let error =
        world.begin().load(&Loader::new(&kernel), &version(2)).expect_err("nothing says what to do with it");
    let source = std::error::Error::source(&error).expect("it has a cause").to_string();
    assert!(source.contains("the map of the version before differs"), "{source}");
    assert!(world.begin().keep("no_such").load(&Loader::new(&kernel), &version(1)).is_err());
    let elsewhere = skep::sim::kernel();
    assert!(world.begin().load(&Loader::new(&elsewhere), &version(1)).is_err());
    assert_eq!(world.check("unfit"), 1);
    assert_eq!(world.begin().recovery(), Recovery::None);
}

/// A directory with other things in it is refused, or they are left alone.
pub(crate) fn other_things_are_left_alone(world: &World) {
    let kernel = world.kernel();
    drop(world.begin());
    for name in ["others", "gen-01", "gen-x"] {
        world.backend.create_pin_dir(&world.dir.join(name)).unwrap();
    }
    world.install(&kernel, 1).expect("nothing is in the way");
    for name in ["others", "gen-01", "gen-x"] {
        world.backend.remove_pin_dir(&world.dir.join(name)).expect("it was left alone");
    }
    let current = world.dir.join("current");
    world.backend.unpin(&current).unwrap();
    for text in ["gen-", "elsewhere", "gen-18446744073709551616", "../gen-1"] {
        world.backend.symlink_pin(text.as_ref(), &current).unwrap();
        let error = Upgrade::begin(&kernel, &world.dir).expect_err("that is no set");
        assert!(error.to_string().contains("which is no set"), "{error}");
        assert!(PinnedSet::open(&kernel, &world.dir).is_err());
        world.backend.unpin(&current).unwrap();
    }
    assert_eq!(world.begin().recovery(), Recovery::RolledBack, "nothing counts, so all goes");
    eventually(|| world.running().iter().all(Vec::is_empty), || format!("{:?}", world.running()));
    let error = Upgrade::begin(&kernel, "/tmp/skep-not-a-bpffs").expect_err("it is not on a bpffs");
    assert!(error.to_string().contains("no bpffs is mounted there"), "{error}");
}

/// The variables of a version are its own, unless it is said that they go on.
pub(crate) fn variables_go_on_where_it_is_said(world: &World) {
    let kernel = world.kernel();
    let spec = open("globals.o");
    let loader = Loader::new(&kernel);
    let (object, _) = world.begin().load(&loader, &spec).unwrap().switch().unwrap().commit().unwrap();
    object.set_global("data_u32", &5u32).unwrap();
    object.set_global("bss_count", &6u64).unwrap();
    drop(object);
    let (object, _) =
        world.begin().keep(".bss").load(&loader, &spec).unwrap().switch().unwrap().commit().unwrap();
    assert_eq!(object.global::<u64>("bss_count").unwrap(), 6);
    assert_eq!(object.global::<u32>("data_u32").unwrap(), 0xa1b2_c3d4);
}

/// An object with one raw tracepoint program, of a name that nobody else has.
pub(crate) fn tracepoint_version() -> Spec {
    let mut spec = open("raw_tp.o");
    let index = spec.program_index("on_switch").expect("it is there");
    spec.load_only(index);
    let program = spec.programs.iter_mut().find(|program| program.name == "on_switch").expect("it is there");
    program.name = own_program();
    spec
}

/// The name of the program of this test, and of the processes that it starts.
pub(crate) fn own_program() -> String {
    format!("p{}", std::env::var("SKEP_TEST_PROGRAM").unwrap_or_else(|_| std::process::id().to_string()))
}

pub(crate) fn install_tracepoint(world: &World, kernel: &Kernel, order: Exchange) -> Result<(), Error> {
    let upgrade = Upgrade::begin(kernel, &world.dir)?;
    let mut staged = upgrade.load(&Loader::new(kernel), &tracepoint_version())?;
    let attachment = Attachment::raw_tracepoint("sched_switch").exchange(order);
    staged.attach_as("switches", &own_program(), attachment)?;
    staged.switch()?.commit().map(drop)
}

/// The programs of the test's name that links run.
pub(crate) fn tracepoint_links(world: &World) -> Vec<ProgId> {
    let kernel = world.kernel();
    let mut running = Vec::new();
    for id in kernel.ids(ObjectKind::Link).map_while(Result::ok) {
        let Ok(link) = kernel.link_by_id(skep::sys::abi::LinkId(id)) else { continue };
        let program = link.info().expect("it is open").prog_id;
        let name = kernel.prog_by_id(program).map(|program| program.name().to_owned());
        if name.is_ok_and(|name| name == own_program()) {
            running.push(program);
        }
    }
    running
}

/// Exactly the set's program is attached.
pub(crate) fn check_tracepoint(world: &World, what: &str) -> u64 {
    let set = world.set();
    let program = set.program(&own_program()).expect("it is there").info().unwrap().id;
    eventually(
        || tracepoint_links(world) == [program],
        || format!("{what}: {:?}, not {program}", tracepoint_links(world)),
    );
    assert_eq!(set.links().unwrap().len(), 1, "{what}");
    set.generation()
}

/// A link that cannot be exchanged is replaced when it is switched, not when it is committed, and goes back likewise.
pub(crate) fn links_are_replaced_when_they_are_switched(world: &World) {
    let kernel = world.kernel();
    for order in [Exchange::NewFirst, Exchange::OldFirst] {
        install_tracepoint(world, &kernel, order).expect("nothing is in the way");
        let old = tracepoint_links(world);
        let mut staged = world.begin().load(&Loader::new(&kernel), &tracepoint_version()).expect("it loads");
        let attachment = Attachment::raw_tracepoint("sched_switch").exchange(order);
        staged.attach_as("switches", &own_program(), attachment).unwrap();
        let switched = staged.switch().expect("it can be switched");
        let new = switched.object().program(&own_program()).unwrap().info().unwrap().id;
        eventually(
            || tracepoint_links(world) == [new],
            || format!("{order:?}: {:?}, not {new}", tracepoint_links(world)),
        );
        switched.roll_back().expect("it goes back");
        eventually(
            || tracepoint_links(world) == old,
            || format!("{order:?}: {:?}, not {old:?}", tracepoint_links(world)),
        );
        check_tracepoint(world, "rolled back");
    }
}

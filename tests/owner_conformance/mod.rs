//! Values that belong to control groups, tasks and inodes, from programs and from outside, and iterators over maps: on any kernel.

use std::os::fd::OwnedFd;

use skep::map::{CgroupStorage, InodeStorage, Map, TaskStorage};
use skep::sys::LinkFd;
use skep::sys::abi::{AttachType, Errno, MapFlags, MapType, UpdateFlags};
use skep::sys::request::{LinkCreate, LinkTarget, MapCreate};
use skep::{Kernel, Loader, Object, Spec};

use crate::support::time::eventually;
use crate::support::{chain, denied};

/// A kernel, and things of it that values can belong to.
pub(crate) trait Host {
    fn kernel(&self) -> &Kernel;
    /// Says what the kernel lacks.
    fn lacks(&self, test: &str, what: &str);
    /// A control group.
    fn group(&self) -> OwnedFd;
    /// The first thread of a process that is in that group.
    fn task(&self) -> (u32, OwnedFd);
    /// Lets a thread of that process enter the kernel.
    fn call(&self);
    /// A file, and the number of its inode.
    fn file(&self) -> (u64, OwnedFd);
    /// Lets somebody open the file anew.
    fn open(&self);
    /// UDP sockets with ports of their own.
    fn sockets(&self) -> [(u16, OwnedFd); 2];
}

/// A body, by what it does.
pub(crate) type Body = fn(&dyn Host);

crate::support::bodies! { ($) owner_conformance;
    groups_and_tasks: groups_and_tasks,
    inodes: inodes,
    elements_by_iterators: elements_by_iterators,
    sockets_by_iterators: sockets_by_iterators,
    values_by_iterators: values_by_iterators,
}

/// Some of the programs of `owners.c`, and the maps that they need; or why not.
fn load(host: &dyn Host, test: &str, program: &str, maps: &[&str]) -> Option<Object> {
    let mut spec = Spec::parse("owners", include_bytes!("../../testdata/run/owners.o")).unwrap();
    spec.programs.retain(|found| found.name == program);
    for map in spec.maps.iter_mut() {
        map.autocreate = map.name.starts_with('.') || maps.contains(&&*map.name);
    }
    match Loader::new(host.kernel()).load(&spec) {
        Ok(object) => Some(object),
        // Older kernels lack the kinds of maps, of iterators or of programs.
        Err(error) => {
            host.lacks(test, &chain(&error));
            None
        }
    }
}

const ANY: UpdateFlags = UpdateFlags::empty();

/// What a program keeps for a group and a task is seen from outside by their descriptors, and the other way round.
fn groups_and_tasks(host: &dyn Host) {
    let Some(object) = load(host, "groups_and_tasks", "count_calls", &["of_groups", "of_tasks"]) else {
        return;
    };
    let groups: CgroupStorage<u64> = object.map("of_groups").unwrap().typed().unwrap();
    let tasks: TaskStorage<u64> = object.map("of_tasks").unwrap().typed().unwrap();
    let (group, (pid, task)) = (host.group(), host.task());
    object.set_global("process", &pid).unwrap();
    let _link = match object.program("count_calls").unwrap().attach() {
        Ok(link) => link,
        Err(error) => return denied("groups_and_tasks", chain(&error)),
    };
    assert_eq!((groups.get(&group).unwrap(), tasks.get(&task).unwrap()), (None, None));
    // A program gets and removes nothing where somebody is interrupted on its CPU who is at such values: it is called again.
    let called = |todo: u32, seen: &dyn Fn() -> bool| {
        let call = || {
            object.set_global("todo", &todo).unwrap();
            host.call();
            object.set_global("todo", &0u32).unwrap();
            seen()
        };
        eventually(call, || format!("todo {todo} is not done"));
    };
    called(1, &|| groups.get(&group).unwrap().is_some() && tasks.get(&task).unwrap().is_some());
    let (of_group, of_task) = (groups.get(&group).unwrap().unwrap(), tasks.get(&task).unwrap().unwrap());
    assert!(of_group >= 1 && of_task >= 1, "{of_group} {of_task}");
    // What is written from outside is what the program goes on with.
    groups.insert(&group, &1000, UpdateFlags::EXIST).unwrap();
    called(1, &|| groups.get(&group).unwrap().unwrap() > 1000);
    // And a program can remove it, once.
    let removed = || object.global::<i64>("removed").unwrap();
    called(2, &|| groups.get(&group).unwrap().is_none());
    assert_eq!(removed(), 0);
    called(2, &|| removed() != 0 && removed() != i64::from(-Errno::EBUSY.0));
    assert_eq!(removed(), i64::from(-Errno::ENOENT.0));
    assert!(tasks.remove(&task).unwrap());
    assert_eq!(tasks.get(&task).unwrap(), None);
}

fn inodes(host: &dyn Host) {
    let Some(object) = load(host, "inodes", "count_opens", &["of_inodes"]) else { return };
    let inodes: InodeStorage<u64> = object.map("of_inodes").unwrap().typed().unwrap();
    let (number, file) = host.file();
    object.set_global("inode", &number).unwrap();
    let _link = match object.program("count_opens").unwrap().attach() {
        Ok(link) => link,
        // Security hooks may be refused, or BPF not be among the modules that decide.
        Err(error) => return host.lacks("inodes", &chain(&error)),
    };
    let todo = |todo: u32| {
        object.set_global("todo", &todo).unwrap();
        host.open();
    };
    assert_eq!(inodes.get(&file).unwrap(), None);
    todo(1);
    if inodes.get(&file).unwrap().is_none() {
        return host.lacks("inodes", "security hooks of programs are not called");
    }
    assert_eq!(inodes.get(&file).unwrap(), Some(1));
    inodes.insert(&file, &41, UpdateFlags::EXIST).unwrap();
    todo(1);
    assert_eq!(inodes.get(&file).unwrap(), Some(42));
    todo(2);
    assert_eq!(inodes.get(&file).unwrap(), None);
    assert_eq!(object.global::<i64>("removed").unwrap(), 0);
    inodes.insert(&file, &7, UpdateFlags::NOEXIST).unwrap();
    todo(1);
    assert_eq!(inodes.get(&file).unwrap(), Some(8));
}

/// What no row has.
const NONE: u32 = u32::MAX;

/// A row that a program writes: map, key, port, value.
type Row = [u32; 4];

/// A link of an iterator over a map.
fn link(object: &Object, program: &str, map: &Map) -> Result<LinkFd, Errno> {
    use std::os::fd::AsFd;

    let program = object.program(program).unwrap();
    let target = LinkTarget::Fd(map.as_fd());
    object.kernel().link_create(&LinkCreate::new(program.as_fd(), target, AttachType::TRACE_ITER))
}

fn rows(link: &LinkFd) -> Vec<Row> {
    use std::io::Read;

    let mut bytes = Vec::new();
    link.iterate().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() % 16, 0, "whole rows");
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    bytes.chunks(16).map(|row| [0, 4, 8, 12].map(|at| word(&row[at..at + 4]))).collect()
}

fn map(kernel: &Kernel, map_type: MapType, entries: u32) -> Map {
    Map::create(kernel, &MapCreate::new(map_type, 4, 4, entries)).unwrap()
}

/// Every element once, each with the value to write to; then once none, of the same map.
fn elements_by_iterators(host: &dyn Host) {
    let kernel = host.kernel();
    let Some(object) = load(host, "elements_by_iterators", "elements", &[]) else { return };
    let array = map(kernel, MapType::ARRAY, 3);
    for key in 0..3u32 {
        array.update(&key.to_ne_bytes(), &(10 * key).to_ne_bytes(), ANY).unwrap();
    }
    let id = array.info().unwrap().id.0;
    let end = [id, NONE, NONE, NONE];
    let run = link(&object, "elements", &array).unwrap();
    assert_eq!(rows(&run), [[id, 0, NONE, 0], [id, 1, NONE, 10], [id, 2, NONE, 20], end]);
    assert_eq!(rows(&run), [[id, 0, NONE, 1], [id, 1, NONE, 11], [id, 2, NONE, 21], end]);
    // The link holds the map.
    drop(array);
    assert_eq!(rows(&run).len(), 4);

    let hash = map(kernel, MapType::HASH, 8);
    let run = link(&object, "elements", &hash).unwrap();
    let id = hash.info().unwrap().id.0;
    assert_eq!(rows(&run), [[id, NONE, NONE, NONE]]);
    for key in 5..8u32 {
        hash.update(&key.to_ne_bytes(), &key.to_ne_bytes(), ANY).unwrap();
    }
    let mut found = rows(&run);
    assert_eq!(found.pop(), Some([id, NONE, NONE, NONE]));
    found.sort_unstable();
    assert_eq!(found, [[id, 5, NONE, 5], [id, 6, NONE, 6], [id, 7, NONE, 7]]);
    // Other kinds are not gone through.
    for map in [map(kernel, MapType::PROG_ARRAY, 1), map(kernel, MapType::SOCKMAP, 1)] {
        assert_eq!(link(&object, "elements", &map).err(), Some(Errno::EINVAL));
    }
}

/// Sockets by their keys; of arrays the empty slots too.
fn sockets_by_iterators(host: &dyn Host) {
    let kernel = host.kernel();
    let Some(object) = load(host, "sockets_by_iterators", "sockets", &[]) else { return };
    let [(one, first), (two, second)] = host.sockets();
    let put = |map: &Map, key: u32, socket: &OwnedFd| {
        use std::os::fd::AsFd;

        map.as_map_fd().update_fd(&key.to_ne_bytes(), socket.as_fd(), ANY)
    };
    let array = map(kernel, MapType::SOCKMAP, 3);
    put(&array, 0, &first).unwrap();
    put(&array, 2, &second).unwrap();
    let run = link(&object, "sockets", &array).unwrap();
    let id = array.info().unwrap().id.0;
    let (one, two) = (u32::from(one), u32::from(two));
    let end = [id, NONE, NONE, NONE];
    assert_eq!(rows(&run), [[id, 0, one, NONE], [id, 1, NONE, NONE], [id, 2, two, NONE], end]);
    array.delete(&0u32.to_ne_bytes()).unwrap();
    assert_eq!(rows(&run), [[id, 0, NONE, NONE], [id, 1, NONE, NONE], [id, 2, two, NONE], end]);

    let hash = map(kernel, MapType::SOCKHASH, 8);
    put(&hash, 70, &first).unwrap();
    put(&hash, 71, &second).unwrap();
    let run = link(&object, "sockets", &hash).unwrap();
    let id = hash.info().unwrap().id.0;
    let mut found = rows(&run);
    assert_eq!(found.pop(), Some([id, NONE, NONE, NONE]));
    found.sort_unstable();
    assert_eq!(found, [[id, 70, one, NONE], [id, 71, two, NONE]]);
    assert_eq!(link(&object, "sockets", &map(kernel, MapType::HASH, 1)).err(), Some(Errno::EINVAL));
}

/// The values of sockets, each with its socket, and to write to.
fn values_by_iterators(host: &dyn Host) {
    let kernel = host.kernel();
    let Some(object) = load(host, "values_by_iterators", "values", &[]) else { return };
    let [(one, first), (two, second)] = host.sockets();
    let map = storage(kernel);
    let values: skep::map::SkStorage<i32> = map.typed().unwrap();
    let run = link(&object, "values", &map).unwrap();
    let id = map.info().unwrap().id.0;
    let end = [id, NONE, NONE, NONE];
    assert_eq!(rows(&run), [end]);
    values.insert(&first, &1, ANY).unwrap();
    values.insert(&second, &2, ANY).unwrap();
    let mut found = rows(&run);
    assert_eq!(found.pop(), Some(end));
    found.sort_unstable_by_key(|row| row[3]);
    assert_eq!(found, [[id, NONE, u32::from(one), 1], [id, NONE, u32::from(two), 2]]);
    assert_eq!((values.get(&first).unwrap(), values.get(&second).unwrap()), (Some(101), Some(102)));
    assert!(values.remove(&first).unwrap());
    assert_eq!(rows(&run), [[id, NONE, u32::from(two), 102], end]);
}

/// A map of numbers that belong to sockets.
fn storage(kernel: &Kernel) -> Map {
    use std::os::fd::AsFd;

    let mut btf = skep::btf::BtfBuilder::new();
    let int = btf.add_int("int", 4, skep::btf::IntEncoding::SIGNED).unwrap();
    let btf = kernel.btf_load(btf.finish().unwrap().bytes(), None).unwrap();
    let mut request = MapCreate::new(MapType::SK_STORAGE, 4, 4, 0);
    request.flags = MapFlags::NO_PREALLOC;
    request.btf = Some(skep::sys::request::MapBtf { btf: btf.as_fd(), key_type: int.0, value_type: int.0 });
    Map::create(kernel, &request).unwrap()
}

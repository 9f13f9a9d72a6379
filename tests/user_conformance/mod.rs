//! What users without rights may do with objects of others, on any kernel.

use std::os::fd::AsFd;
use std::path::Path;

use skep::Kernel;
use skep::asm::{Assembler, Reg};
use skep::sys::abi::{Errno, MapType, OpenFlags, ProgType, UpdateFlags};
use skep::sys::request::{MapCreate, PinAttributes, ProgLoad};
use skep::sys::{Feature, ObjectKind};

use crate::support::skip;

/// What is done, which may not outlive the call.
pub(crate) type Act<'a> = &'a mut (dyn FnMut(&Kernel) + Send);

/// A kernel on which one can be somebody else.
pub(crate) trait Host {
    /// The kernel as root has it.
    fn kernel(&self) -> &Kernel;
    /// A path at which a bpffs can be mounted.
    fn place(&self) -> &Path;
    /// Does something as a user with these groups, the first one being that of what the user makes.
    fn as_user(&self, uid: u32, groups: &[u32], act: Act<'_>);
    /// Does something as somebody who has these capabilities only.
    fn with_capabilities(&self, capabilities: &[u32], act: Act<'_>);
}

/// Two users, and a group that the second is in too.
const OWNER: (u32, &[u32]) = (4001, &[4001]);
const OTHER: (u32, &[u32]) = (4002, &[4002, 4500]);
const GROUP: u32 = 4500;

/// What a user is answered.
fn by<T: Send>(
    host: &dyn Host,
    user: (u32, &[u32]),
    call: impl Fn(&Kernel) -> Result<T, Errno> + Sync,
) -> Result<T, Errno> {
    let mut answer = None;
    host.as_user(user.0, user.1, &mut |kernel| answer = Some(call(kernel)));
    answer.expect("it was called")
}

fn mode(attributes: Result<PinAttributes, Errno>) -> (u32, u32, u32) {
    let PinAttributes { mode, uid, gid } = attributes.unwrap();
    (mode, uid, gid)
}

/// Pins a map of one number.
fn pin(kernel: &Kernel, path: &Path) {
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap();
    map.update(&[0; 4], &7u64.to_ne_bytes(), UpdateFlags::empty()).unwrap();
    map.pin(path).unwrap();
}

/// A body, by what it does.
pub(crate) type Body = fn(&dyn Host);

crate::support::bodies! { ($) user_conformance;
    modes: modes,
    directories: directories,
    capabilities: capabilities,
    calls: calls,
}

/// Mounts a bpffs that everybody may search and write to.
fn mounted(host: &dyn Host) -> Option<&Path> {
    let files = host.kernel().backend();
    match files.mount_bpffs(host.place()) {
        Ok(()) => {}
        Err(errno) => {
            skip("users", format_args!("no bpffs can be mounted: {errno}"));
            return None;
        }
    }
    // Whoever mounts one says what everybody may do; that others' files stay is always so.
    assert_eq!(mode(files.pin_attributes(host.place())).0, 0o1700);
    files.set_pin_mode(host.place(), 0o1777).unwrap();
    Some(host.place())
}

/// Modes of directories and pins decide who gets at them.
fn modes(host: &dyn Host) {
    let Some(root) = mounted(host) else { return };
    let (kernel, files) = (host.kernel(), host.kernel().backend());
    let dir = root.join("dir");
    let map = dir.join("map");
    by(host, OWNER, |kernel| kernel.backend().create_pin_dir(&dir)).unwrap();
    assert_eq!(mode(files.pin_attributes(&dir)), (0o700, OWNER.0, OWNER.0));
    pin(kernel, &map);
    assert_eq!(mode(files.pin_attributes(&map)).0, 0o600);

    // The directory is the owner's, the pin is not.
    let open = |user, flags| by(host, user, |kernel| kernel.map_open_pinned(&map, flags).map(drop));
    let all = OpenFlags::empty();
    let everything = |flags: [OpenFlags; 3]| flags.map(|flags| (open(OWNER, flags), open(OTHER, flags)));
    let flags = [all, OpenFlags::RDONLY, OpenFlags::WRONLY];
    let no = Err(Errno::EACCES);
    if !answers_all(kernel) {
        assert_eq!(everything(flags), [(Err(Errno::EPERM), Err(Errno::EPERM)); 3]);
        return;
    }
    assert_eq!(everything(flags), [(no, no); 3]);
    let listed = |user| by(host, user, |kernel| kernel.backend().pin_dir_entries(&dir).map(|all| all.len()));
    assert_eq!((listed(OWNER), listed(OTHER)), (Ok(1), Err(Errno::EACCES)));
    let asked = |user| by(host, user, |kernel| kernel.backend().pin_attributes(&map).map(drop));
    assert_eq!((asked(OWNER), asked(OTHER)), (Ok(()), no));

    // Given to the owner, it can be opened there and by root.
    files.set_pin_owner(&map, Some(OWNER.0), None).unwrap();
    assert_eq!(everything(flags), [(Ok(()), no); 3]);
    // The owner lets others read, who still cannot get there.
    let change = |user, path: &Path, mode| by(host, user, |kernel| kernel.backend().set_pin_mode(path, mode));
    assert_eq!(change(OTHER, &map, 0o666), no);
    change(OWNER, &map, 0o644).unwrap();
    assert_eq!(open(OTHER, OpenFlags::RDONLY), no);
    change(OWNER, &dir, 0o711).unwrap();
    assert_eq!(everything(flags), [(Ok(()), no), (Ok(()), Ok(())), (Ok(()), no)]);
    assert_eq!(change(OTHER, &map, 0o666), Err(Errno::EPERM));
    assert_eq!((listed(OWNER), listed(OTHER)), (Ok(1), Err(Errno::EACCES)));
    // What is read-only stays so in the hands of who opened it.
    let written = by(host, OTHER, |kernel| {
        let map = kernel.map_open_pinned(&map, OpenFlags::RDONLY)?;
        let mut value = [0; 8];
        map.lookup(&[0; 4], &mut value, UpdateFlags::empty()).unwrap();
        assert_eq!(u64::from_ne_bytes(value), 7);
        Ok(map.update(&[0; 4], &value, UpdateFlags::empty()).map_err(|error| error.errno()))
    });
    assert_eq!(written, Ok(Err(Some(Errno::EPERM))));

    // A group, of which the owner is not; who is in it gets what it gets, though everybody else gets more.
    files.set_pin_owner(&map, None, Some(GROUP)).unwrap();
    change(OWNER, &map, 0o606).unwrap();
    assert_eq!(everything(flags), [(Ok(()), no); 3]);
    change(OWNER, &map, 0o020).unwrap();
    assert_eq!(everything(flags), [(no, no), (no, no), (no, Ok(()))]);
    let given = |user, uid, gid| by(host, user, |kernel| kernel.backend().set_pin_owner(&map, uid, gid));
    assert_eq!(given(OWNER, None, Some(GROUP)), Ok(()), "it is in that group already");
    assert_eq!(given(OWNER, None, Some(1)), Err(Errno::EPERM));
    assert_eq!(given(OWNER, Some(OTHER.0), None), Err(Errno::EPERM));
    assert_eq!(given(OWNER, Some(OWNER.0), Some(OWNER.0)), Ok(()));
    // Root is asked nothing.
    assert!(kernel.map_open_pinned(&map, all).is_ok());

    // Nothing beside a bpffs is changed.
    let elsewhere = Path::new("/dev/null");
    assert_eq!(files.set_pin_mode(elsewhere, 0o666), Err(Errno::EPERM));
    assert_eq!(files.set_pin_owner(elsewhere, Some(0), None), Err(Errno::EPERM));
    for path in [root.join("none"), Path::new("/skep/none").to_owned()] {
        assert_eq!(files.set_pin_mode(&path, 0o600), Err(Errno::ENOENT));
        assert_eq!(files.pin_attributes(&path), Err(Errno::ENOENT));
    }
}

/// Who may make, remove and rename what.
fn directories(host: &dyn Host) {
    let Some(root) = mounted(host) else { return };
    let files = host.kernel().backend();
    let at = |name: &str| root.join(name);
    let make = |user, name: &str| by(host, user, |kernel| kernel.backend().create_pin_dir(&at(name)));
    let rename =
        |user, from: &str, to: &str| by(host, user, |kernel| kernel.backend().rename_pin(&at(from), &at(to)));
    let remove = |user, name: &str| by(host, user, |kernel| kernel.backend().remove_pin_dir(&at(name)));
    let unpin = |user, name: &str| by(host, user, |kernel| kernel.backend().unpin(&at(name)));
    let link =
        |user, name: &str| by(host, user, |kernel| kernel.backend().symlink_pin("x".as_ref(), &at(name)));
    let no = Err(Errno::EACCES);

    make(OWNER, "own").unwrap();
    make(OTHER, "other").unwrap();
    pin(host.kernel(), &at("own/map"));
    // In a directory of somebody else nothing is made, found or removed.
    assert_eq!(make(OTHER, "own/x"), no);
    assert_eq!(make(OTHER, "own/map"), no);
    assert_eq!(link(OTHER, "own/x"), no);
    assert_eq!((unpin(OTHER, "own/map"), unpin(OTHER, "own/none")), (no, no));
    files.set_pin_mode(&at("own"), 0o755).unwrap();
    assert_eq!(make(OTHER, "own/x"), no);
    assert_eq!(make(OTHER, "own/map"), Err(Errno::EEXIST));
    assert_eq!((unpin(OTHER, "own/map"), unpin(OTHER, "own/none")), (no, Err(Errno::ENOENT)));
    assert_eq!(rename(OTHER, "own/map", "other/map"), no);
    // Whose the pin is does not matter to who may write to its directory.
    rename(OWNER, "own/map", "own/moved").unwrap();
    unpin(OWNER, "own/moved").unwrap();

    // In the root everybody writes, and nobody takes away what is somebody else's.
    assert_eq!(remove(OTHER, "own"), Err(Errno::EPERM));
    assert_eq!(rename(OTHER, "own", "mine"), Err(Errno::EPERM));
    assert_eq!(rename(OTHER, "other", "own"), Err(Errno::EPERM));
    link(OTHER, "link").unwrap();
    assert_eq!(unpin(OWNER, "link"), Err(Errno::EPERM));
    unpin(OTHER, "link").unwrap();

    // A directory that changes its place has to be one's own to write to.
    make(OTHER, "other/child").unwrap();
    files.set_pin_owner(&at("other/child"), Some(OWNER.0), None).unwrap();
    assert_eq!(rename(OTHER, "other/child", "other/named"), Ok(()));
    assert_eq!(rename(OTHER, "other/named", "moved"), no);
    files.set_pin_mode(&at("other/named"), 0o777).unwrap();
    assert_eq!(rename(OTHER, "other/named", "moved"), Ok(()));
    // And once it is there, it is somebody else's.
    assert_eq!(rename(OTHER, "moved", "again"), Err(Errno::EPERM));
    remove(OWNER, "moved").unwrap();

    // What is made in a directory with a group of its own is of that group.
    files.set_pin_owner(&at("own"), None, Some(GROUP)).unwrap();
    files.set_pin_mode(&at("own"), 0o2755).unwrap();
    make(OWNER, "own/child").unwrap();
    assert_eq!(mode(files.pin_attributes(&at("own/child"))), (0o2700, OWNER.0, GROUP));
    pin(host.kernel(), &at("own/map"));
    assert_eq!(mode(files.pin_attributes(&at("own/map"))).2, GROUP);

    // Locks and listings take the right to read.
    let lock = |user| by(host, user, |kernel| kernel.backend().lock_pin_dir(&at("own/child")).map(drop));
    assert_eq!((lock(OWNER), lock(OTHER)), (Ok(()), no));
    // Root is asked nothing.
    for name in ["own/map", "own/child", "own", "other"] {
        files.unpin(&at(name)).or_else(|_| files.remove_pin_dir(&at(name))).unwrap();
    }
}

/// Which capability stands for what.
fn capabilities(host: &dyn Host) {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;

    /// Whether there is: a hash, a map of sockets, a socket filter, an XDP program, one for tracepoints, types, ids, an object by
    /// its id.
    fn all(kernel: &Kernel) -> [bool; 8] {
        let load = |kind| {
            let insns = Assembler::new().mov64_imm(Reg::R0, 0).exit().finish().unwrap();
            kernel.prog_load(&ProgLoad::new(kind, &insns, "GPL"), None).map(drop)
        };
        let make = |kind| kernel.map_create(&MapCreate::new(kind, 4, 4, 1)).map(drop);
        let mut btf = skep::btf::BtfBuilder::new();
        btf.add_int("int", 4, skep::btf::IntEncoding::SIGNED).unwrap();
        let btf = btf.finish().unwrap();
        let answers = [
            make(MapType::HASH),
            make(MapType::SOCKMAP),
            load(ProgType::SOCKET_FILTER),
            load(ProgType::XDP),
            load(ProgType::RAW_TRACEPOINT),
            kernel.btf_load(btf.bytes(), None).map(drop),
            kernel.backend().next_id(ObjectKind::Map, 0).map(drop),
            kernel.map_by_id(skep::sys::abi::MapId(0), OpenFlags::empty()).map(drop),
        ];
        answers.map(|answer| match answer {
            Ok(()) | Err(Errno::ENOENT) => true,
            Err(Errno::EPERM) => false,
            Err(errno) => panic!("{errno}: {answers:?}"),
        })
    }

    let _one = host.kernel().map_create(&MapCreate::new(MapType::ARRAY, 4, 4, 1)).unwrap();
    let with = |capabilities: &[u32]| {
        let mut answers = [false; 8];
        host.with_capabilities(capabilities, &mut |kernel| answers = all(kernel));
        answers
    };
    if with(&[])[0] {
        skip("users", "this kernel lets everybody make maps");
        return;
    }
    let (y, n) = (true, false);
    assert_eq!(with(&[]), [n; 8]);
    assert_eq!(with(&[BPF]), [y, n, y, n, n, y, n, n]);
    assert_eq!(with(&[NET_ADMIN]), [n; 8]);
    assert_eq!(with(&[BPF, NET_ADMIN]), [y, y, y, y, n, y, n, n]);
    assert_eq!(with(&[BPF, PERFMON]), [y, n, y, n, y, y, n, n]);
    assert_eq!(with(&[SYS_ADMIN, NET_ADMIN]), [y; 8]);
    // What stands for everything does not for maps of the network, before Linux 6.9, when there were arenas.
    let all = host.kernel().has(Feature::MapType(MapType::ARENA)).is_supported();
    assert_eq!(with(&[SYS_ADMIN]), [y, all, y, y, y, y, y, y]);
}

/// Whether who may make nothing may still call (Linux 5.19, which has this helper).
fn answers_all(kernel: &Kernel) -> bool {
    kernel.has(Feature::Helper(ProgType::SOCKET_FILTER, 203)).is_supported()
}

/// What somebody else may do with a descriptor.
fn calls(host: &dyn Host) {
    let map = host.kernel().map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).unwrap();
    let mut refused = false;
    host.with_capabilities(&[], &mut |kernel| {
        refused = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1)).is_err();
    });
    if !refused {
        skip("users", "this kernel lets everybody make maps");
        return;
    }
    let by = |capabilities: &[u32]| {
        let mut answer = None;
        host.with_capabilities(capabilities, &mut |kernel| {
            let fd = map.as_fd().try_clone_to_owned().unwrap();
            answer = Some(kernel.map_from_fd(fd).and_then(|map| {
                let mut value = [0; 8];
                let looked = map.lookup(&[0; 4], &mut value, UpdateFlags::empty());
                looked.map_err(|error| error.errno().expect("of the kernel"))
            }));
        });
        answer.expect("it was called")
    };
    const BPF: u32 = 39;
    let answers = if answers_all(host.kernel()) { Ok(()) } else { Err(Errno::EPERM) };
    assert_eq!((by(&[]), by(&[BPF])), (answers, Ok(())));
}

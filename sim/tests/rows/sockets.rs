//! Maps of sockets, and values that belong to sockets, processes, files and cgroups.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrV4, SocketType, sockopt};
use skep_btf::{BtfBuilder, IntEncoding};
use skep_sys::abi::{MapFlags, MapType, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate};
use skep_sys::{Kernel, MapFd};

use super::keys;
use super::objects::raw;
use crate::bodies::{Numbers, Outcome, Script, create};

const NONE: MapFlags = MapFlags::empty();
const ANY: UpdateFlags = UpdateFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type, value) in [
        ("sockmap(val=4)", MapType::SOCKMAP, 4),
        ("sockmap(val=8)", MapType::SOCKMAP, 8),
        ("sockhash(val=4)", MapType::SOCKHASH, 4),
        ("sockhash(val=8)", MapType::SOCKHASH, 8),
    ] {
        socket_map(Script::new(kernel, subject, lines), map_type, value);
    }
    closed(Script::new(kernel, "sockmap", lines), MapType::SOCKMAP);
    closed(Script::new(kernel, "sockhash", lines), MapType::SOCKHASH);
    reuseport(Script::new(kernel, "reuseport_sockarray", lines));
    xsk(kernel, lines);
    cgroup_array(Script::new(kernel, "cgroup_array", lines));
    storages(kernel, lines);
    attached(Script::new(kernel, "cgroup_storage", lines));
}

fn tcp() -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

fn idle(kind: SocketType) -> OwnedFd {
    rustix::net::socket(AddressFamily::INET, kind, None).unwrap()
}

fn put(map: &MapFd, key: u32, socket: &impl AsFd, flags: u64) -> Result<(), skep_sys::MapError> {
    map.update_fd(&key.to_ne_bytes(), socket.as_fd(), UpdateFlags::from_bits_retain(flags))
}

/// What a lookup answers, the cookie of that socket by name.
fn cookie(map: &MapFd, key: u32, socket: &impl AsFd) -> String {
    let expected = sockopt::socket_cookie(socket).unwrap().to_ne_bytes();
    match Numbers(map).lookup(key) {
        Ok(found) if found == expected => "ok:<cookie>".to_owned(),
        other => other.text(),
    }
}

fn socket_map(mut s: Script<'_>, map_type: MapType, value: u32) {
    let map = create(s.kernel, map_type, [4, value, 2], NONE);
    let m = Numbers(&map);
    let (listener, client, server) = tcp();
    s.row("lookup empty", m.lookup(0));
    s.row("update established tcp", put(&map, 0, &client, 0));
    s.row("lookup", cookie(&map, 0, &client));
    s.row("update unconnected tcp", put(&map, 0, &idle(SocketType::STREAM), 0));
    s.row("update listening tcp", put(&map, 0, &listener, 0));
    s.row("update udp unbound", put(&map, 0, &idle(SocketType::DGRAM), 0));
    s.row("update non-socket fd", put(&map, 0, &map, 0));
    s.row("update bad fd", m.update(0, u32::MAX.into()));
    s.row("update NOEXIST present", put(&map, 0, &server, 1));
    s.row("update EXIST missing", put(&map, 0, &server, 2));
    s.row("update flags=3", put(&map, 0, &server, 3));
    s.row("update second", put(&map, 1, &client, 0));
    s.row("update key 2 (full/oob)", put(&map, 2, &client, 0));
    s.row("iterate", m.keys().0.len());
    s.row("delete", m.delete(0));
    s.row("delete missing", m.delete(0));
    s.row("delete key 9", m.delete(9));
    s.row("lookup_and_delete", m.take(0, 0));
}

/// Elements that go with their socket.
fn closed(mut s: Script<'_>, map_type: MapType) {
    let map = create(s.kernel, map_type, [4, 8, 2], NONE);
    let m = Numbers(&map);
    let (_listener, client, server) = tcp();
    s.row("update EXIST on missing (fresh map)", put(&map, 0, &client, 2));
    s.row("update ANY", put(&map, 0, &client, 0));
    s.row("next NULL", m.next(None));
    s.row("iterate idx only-set?", m.next(Some(0)));
    drop((client, server));
    for _ in 0..6000 {
        if m.lookup(0).is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    s.row("after socket close: lookup", m.lookup(0));
}

fn shared() -> OwnedFd {
    let socket = idle(SocketType::DGRAM);
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
}

fn reuseport(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::REUSEPORT_SOCKARRAY, [4, 8, 2], NONE);
    let m = Numbers(&map);
    let (socket, other) = (shared(), shared());
    let (_listener, client, _server) = tcp();
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.row("update udp REUSEPORT bound", put(&map, 0, &socket, 0));
    s.row("update udp no REUSEPORT", put(&map, 1, &plain, 0));
    s.row("update tcp established", put(&map, 1, &client, 0));
    s.row("update same sock second slot", put(&map, 1, &socket, 0));
    s.row("update NOEXIST present", put(&map, 0, &other, 1));
    s.row("update EXIST missing", put(&map, 1, &other, 2));
    s.row("lookup", cookie(&map, 0, &socket));
    s.row("lookup empty", m.lookup(1));
    s.row("idx>=max", put(&map, 2, &other, 0));
    s.row("delete", m.delete(0));
    s.row("delete empty", m.delete(0));
    s.row("iterate", keys(&map));
    s.row("lookup_and_delete", m.take(0, 0));
}

fn xsk(kernel: &Kernel, lines: &mut Vec<String>) {
    let map = create(kernel, MapType::XSKMAP, [4, 4, 4], NONE);
    let mut s = Script::new(kernel, "xskmap", lines);
    let m = Numbers(&map);
    let socket = || rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None);
    if let (Ok(first), Ok(second)) = (socket(), socket()) {
        s.row("update unbound xsk", put(&map, 0, &first, 0));
        s.row("update NOEXIST present", put(&map, 0, &first, 1));
        s.row("update EXIST missing", put(&map, 1, &first, 2));
        s.row("update flags=3", put(&map, 0, &first, 3));
        s.row("update a", put(&map, 0, &first, 0));
        s.row("update NOEXIST with other socket", put(&map, 0, &second, 1));
        s.row("update EXIST with other socket", put(&map, 0, &second, 2));
    }
    s.row("update non-xsk fd (map)", put(&map, 0, &map, 0));
    s.row("update udp socket", put(&map, 0, &idle(SocketType::DGRAM), 0));
    s.row("lookup", m.lookup(0));
    s.row("lookup empty", m.lookup(1));
    s.row("update idx>=max", put(&map, 9, &idle(SocketType::DGRAM), 0));
    s.row("delete", m.delete(0));
    s.row("delete empty", m.delete(0));
    s.row("delete>=max", m.delete(9));
    s.row("iterate", keys(&map));
    s.row("lookup_and_delete", m.take(0, 0));
}

/// A cgroup of that version; on a simulated kernel any directory is one of the second.
fn cgroup(kernel: &Kernel, kind: &str) -> Option<File> {
    if kind == "cgroup2" && kernel.backend().name() == "simulated" {
        return File::open(std::env::temp_dir()).ok();
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let path = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let path = fields.nth(1)?;
        (fields.next() == Some(kind)).then(|| PathBuf::from(path))
    })?;
    File::open(path).ok()
}

fn cgroup_array(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::CGROUP_ARRAY, [4, 4, 4], NONE);
    let m = Numbers(&map);
    let group = cgroup(s.kernel, "cgroup2");
    if let Some(group) = &group {
        s.row("update v2 cgroup fd", put(&map, 0, group, 0));
    }
    if let Some(old) = cgroup(s.kernel, "cgroup") {
        s.row("update v1 cgroup fd", put(&map, 0, &old, 0));
    }
    s.row("update fd=map", m.update(0, raw(&map)));
    s.row("update bad fd", m.update(0, u32::MAX.into()));
    s.row("update NOEXIST", m.update_with(0, raw(&map), 1));
    s.row("update idx>=max", m.update(9, raw(&map)));
    s.row("lookup", m.lookup(0));
    s.row("lookup empty", m.lookup(1));
    if group.is_some() {
        s.row("delete", m.delete(0));
    }
    s.row("delete empty", m.delete(0));
    s.row("next", keys(&map));
    s.row("lookup_and_delete", m.take(0, 0));
}

fn storages(kernel: &Kernel, lines: &mut Vec<String>) {
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap().0;
    let types = kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    let kinds: [(&'static str, MapType, Option<OwnedFd>); 4] = [
        ("sk_storage", MapType::SK_STORAGE, Some(UdpSocket::bind("127.0.0.1:0").unwrap().into())),
        ("task_storage", MapType::TASK_STORAGE, process()),
        ("inode_storage", MapType::INODE_STORAGE, Some(tempfile().into())),
        ("cgrp_storage", MapType::CGRP_STORAGE, cgroup(kernel, "cgroup2").map(OwnedFd::from)),
    ];
    for (subject, map_type, owner) in kinds {
        let Some(owner) = owner else { continue };
        let mut s = Script::new(kernel, subject, lines);
        let mut request = MapCreate::new(map_type, 4, 4, 0);
        request.flags = MapFlags::NO_PREALLOC;
        s.row("create without BTF", kernel.map_create(&request));
        request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
        let Ok(map) = kernel.map_create(&request) else { continue };
        let owner = owner.as_fd();
        let lookup = || {
            let mut value = vec![0; 4];
            map.lookup_by_fd(owner, &mut value, ANY).map(|()| value)
        };
        let update = |value: u32, flags| {
            map.update_by_fd(owner, &value.to_ne_bytes(), UpdateFlags::from_bits_retain(flags))
        };
        let number = Numbers(&map);
        s.row("lookup missing", lookup());
        s.row("delete missing", map.delete_by_fd(owner));
        s.row("update EXIST missing", update(7, 2));
        s.row("update ANY", update(7, 0));
        s.row("lookup", lookup());
        s.row("update NOEXIST present", update(7, 1));
        s.row("update EXIST present", update(7, 2));
        s.row("update flags=4", update(7, 4));
        s.row("update flags=3", update(7, 3));
        s.row("update bad fd", number.update(u32::MAX, 7));
        s.row("update wrong-kind fd (map)", map.update_by_fd(map.as_fd(), &[0; 4], ANY));
        s.row("lookup bad fd", number.lookup(u32::MAX));
        s.row("next_key", number.next(None));
        s.row("lookup_and_delete", number.take(raw(&owner) as u32, 0));
        s.row("delete", map.delete_by_fd(owner));
        s.row("delete again", map.delete_by_fd(owner));
        s.row("freeze", map.freeze());
    }
}

#[cfg(target_os = "linux")]
fn process() -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    pidfd_open(getpid(), PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn process() -> Option<OwnedFd> {
    None
}

fn tempfile() -> File {
    let path = std::env::temp_dir().join(format!("skep_rows_{}", std::process::id()));
    let file = File::create(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

/// Storage of attachments to cgroups, of which there are none.
fn attached(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::CGROUP_STORAGE, [8, 8, 0], NONE);
    let key = 1u64.to_ne_bytes();
    let update = |flags| map.update(&key, &[0; 8], UpdateFlags::from_bits_retain(flags));
    let mut next = [0; 8];
    s.row("next_key empty", map.next_key(None, &mut next));
    s.row("lookup missing", map.lookup(&key, &mut next, ANY));
    s.row("update missing", update(0));
    s.row("update NOEXIST", update(1));
    s.row("delete", map.delete(&key));
    s.row("lookup_and_delete", map.lookup_and_delete(&key, &mut next, ANY));
}

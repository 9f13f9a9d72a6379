//! Maps with types, names, ids, and tables of the kernel's own structures.

use std::os::fd::AsFd;

use skep_btf::{BtfBuilder, IntEncoding, Kind};
use skep_sys::abi::{MapFlags, MapId, MapType, OpenFlags};
use skep_sys::request::{MapBtf, MapCreate};
use skep_sys::{Kernel, ObjectKind};

use crate::bodies::{Numbers, Outcome, Script, create};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    types(kernel, lines);
    ids(Script::new(kernel, "bpf(2)", lines));
    struct_ops(Script::new(kernel, "struct_ops", lines));
}

fn types(kernel: &Kernel, lines: &mut Vec<String>) {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let long = builder.add_int("long", 8, IntEncoding::SIGNED).unwrap();
    let lock = builder.add_struct("bpf_spin_lock", 4).unwrap();
    builder.add_member("val", int, 0, 0).unwrap();
    let locked = builder.add_struct("locked", 8).unwrap();
    builder.add_member("lock", lock, 0, 0).unwrap();
    builder.add_member("x", int, 32, 0).unwrap();
    let key = builder.add_struct("prefix", 8).unwrap();
    builder.add_member("bits", int, 0, 0).unwrap();
    builder.add_member("address", int, 32, 0).unwrap();
    let btf = kernel.btf_load(builder.finish().unwrap().bytes(), None).unwrap();
    let with = |map_type, [key, value, max]: [u32; 3], [key_type, value_type]: [u32; 2], flags| {
        let mut request = MapCreate::new(map_type, key, value, max);
        request.flags = flags;
        request.btf = Some(MapBtf { btf: btf.as_fd(), key_type, value_type });
        kernel.map_create(&request)
    };
    let mut s = Script::new(kernel, "hash", lines);
    s.row("create btf value type size mismatch", with(MapType::HASH, [4, 4, 4], [int.0, long.0], NONE));
    s.row("create btf ok", with(MapType::HASH, [4, 8, 4], [int.0, long.0], NONE));
    s.row("create btf_fd with zero type ids", with(MapType::HASH, [4, 8, 4], [0, 0], NONE));
    s.row("create btf key id 99", with(MapType::HASH, [4, 8, 4], [99, long.0], NONE));
    let inner = create(kernel, MapType::ARRAY, [4, 8, 1], NONE);
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 4);
    request.inner_map = Some(inner.as_fd());
    s.row("create inner_map_fd=3", kernel.map_create(&request));
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 4);
    request.vmlinux_value_type_id = 1;
    s.row("create btf_vmlinux_value_type_id=1", kernel.map_create(&request));
    let rows = [
        ("prog_array", "create with btf key/value ids", MapType::PROG_ARRAY, [4, 4, 4], [int.0, int.0], NONE),
        ("ringbuf", "create with btf ids", MapType::RINGBUF, [0, 0, 4096], [int.0, int.0], NONE),
        ("queue", "create with btf value id only", MapType::QUEUE, [0, 8, 4], [0, long.0], NONE),
        ("lru_hash+spinlock", "create", MapType::LRU_HASH, [4, 8, 4], [int.0, locked.0], NONE),
        ("percpu_hash+spinlock", "create", MapType::PERCPU_HASH, [4, 8, 4], [int.0, locked.0], NONE),
        ("lpm+spinlock", "create", MapType::LPM_TRIE, [8, 8, 4], [key.0, locked.0], MapFlags::NO_PREALLOC),
    ];
    for (subject, label, map_type, shape, ids, flags) in rows {
        Script::new(kernel, subject, lines).row(label, with(map_type, shape, ids, flags));
    }
    for (subject, map_type) in [("hash+spinlock", MapType::HASH), ("array+spinlock", MapType::ARRAY)] {
        let mut s = Script::new(kernel, subject, lines);
        let map = with(map_type, [4, 8, 4], [int.0, locked.0], NONE).unwrap();
        let m = Numbers(&map);
        let value = |x: u32| u64::from_ne_bytes([[0xff; 4], x.to_ne_bytes()].concat().try_into().unwrap());
        s.row("create", with(map_type, [4, 8, 4], [int.0, locked.0], NONE));
        s.row("update ANY (lock bytes ff)", m.update(1, value(1)));
        s.row("lookup no flag (lock zeroed?)", m.lookup(1));
        s.row("lookup F_LOCK", m.lookup_with(1, 4));
        s.row("update F_LOCK", m.update_with(1, value(3), 4));
        s.row("update F_LOCK|EXIST", m.update_with(1, value(3), 6));
        s.row("update F_LOCK|NOEXIST present", m.update_with(1, value(3), 5));
        s.row("update F_LOCK|NOEXIST missing", m.update_with(2, value(3), 5));
        s.row("update F_LOCK missing key 3", m.update_with(3, value(9), 4));
        s.row("lookup", m.lookup(1));
        s.row("lookup_and_delete F_LOCK", m.take(3, 4));
        let mut request = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 1);
        request.inner_map = Some(map.as_fd());
        s.row("as inner map template", kernel.map_create(&request));
        s.row("freeze", map.freeze());
    }
}

fn ids(mut s: Script<'_>) {
    let kernel = s.kernel;
    let backend = kernel.backend();
    let new = || create(kernel, MapType::HASH, [4, 8, 4], NONE);
    let (first, second) = (new(), new());
    let (a, b) = (first.info().unwrap().id, second.info().unwrap().id);
    let by_id = |flags: u32| kernel.map_by_id(a, OpenFlags::from_bits_retain(flags));
    s.row("MAP_GET_FD_BY_ID ok", by_id(0));
    s.row("MAP_GET_FD_BY_ID missing", kernel.map_by_id(MapId(0x7fff_0000), OpenFlags::empty()));
    s.row("MAP_GET_FD_BY_ID id=0", kernel.map_by_id(MapId(0), OpenFlags::empty()));
    let read = by_id(8).unwrap();
    s.row("MAP_GET_FD_BY_ID open_flags=RDONLY then update", Numbers(&read).update(1, 1));
    s.row("MAP_GET_FD_BY_ID open_flags=RD|WR", by_id(24));
    s.row("MAP_GET_FD_BY_ID open_flags=1", by_id(1));
    let next = backend.next_id(ObjectKind::Map, u32::MAX).map(|id| id as usize);
    s.row("MAP_GET_NEXT_ID from 0xffffffff", next);
    s.row("MAP_GET_NEXT_ID from mid-1", backend.next_id(ObjectKind::Map, a.0 - 1) == Ok(a.0));
    s.row("PROG_GET_FD_BY_ID missing", kernel.prog_by_id(skep_sys::abi::ProgId(0x7fff_0000)));
    s.row("LINK_GET_FD_BY_ID missing", kernel.link_by_id(skep_sys::abi::LinkId(0x7fff_0000)));
    s.row("BTF_GET_FD_BY_ID missing", kernel.btf_by_id(skep_sys::abi::BtfObjectId(0x7fff_0000)));
    s.row("ids increase monotonically (2 creates)", a < b);
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    s.row("OBJ_GET_INFO stdin", kernel.map_from_fd(stdin));
    #[cfg(target_os = "linux")]
    {
        let flags = rustix::io::fcntl_getfd(&first).unwrap();
        s.row("map fd has FD_CLOEXEC", flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

/// A table of `struct tcp_congestion_ops`.
fn struct_ops(mut s: Script<'_>) {
    let kernel = s.kernel;
    let types = kernel.btf().ok();
    let table = types.as_ref().and_then(|types| {
        let id = types.find(b"bpf_struct_ops_tcp_congestion_ops", Kind::STRUCT)?;
        Some((id, types.resolve_size(id).ok()?))
    });
    let Some((table, size)) = table else { return };
    // The kernel demands types of the process too.
    let mut builder = BtfBuilder::new();
    builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let btf = kernel.btf_load(builder.finish().unwrap().bytes(), None).unwrap();
    let make = |value: u32, max, flags| {
        let mut request = MapCreate::new(MapType::STRUCT_OPS, 4, value, max);
        request.flags = flags;
        request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: 0, value_type: 0 });
        request.vmlinux_value_type_id = table.0;
        kernel.map_create(&request)
    };
    let created = make(size, 1, NONE);
    s.row("create max_entries=2", make(size, 2, NONE));
    s.row("create value_size-8", make(size - 8, 1, NONE));
    s.row("create LINK flag", make(size, 1, MapFlags::LINK));
    s.row("create tcp_congestion_ops value_size=256", created.as_ref().map(drop).map_err(|errno| *errno));
    let Ok(map) = created else { return };
    let m = Numbers(&map);
    let first = m.lookup(0).text();
    s.row("lookup key0", first[..10.min(first.len())].to_owned());
    s.row("lookup key1", m.lookup(1));
    s.row("update zero value", map.update(&[0; 4], &vec![0; size as usize], Default::default()));
    let flagged = skep_sys::abi::UpdateFlags::NOEXIST;
    s.row("update flags=1", map.update(&[0; 4], &vec![0; size as usize], flagged));
    s.row("delete key0", m.delete(0));
    s.row("next", m.next(None));
    s.row("next 0", m.next(Some(0)));
    s.row("freeze", map.freeze());
    s.row("lookup_and_delete", m.take(0, 0));
}

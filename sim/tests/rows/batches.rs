//! Many elements in one call.

use std::os::fd::AsFd;

use skep_btf::{BtfBuilder, IntEncoding};
use skep_sys::abi::{MapFlags, MapType, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate};
use skep_sys::{BatchCursor, BatchError, Kernel, MapFd};

use super::objects::raw;
use crate::bodies::{Numbers, Outcome, Script, create};

const NONE: MapFlags = MapFlags::empty();
const ANY: UpdateFlags = UpdateFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type, flags) in [
        ("hash", MapType::HASH, NONE),
        ("hash(NO_PREALLOC)", MapType::HASH, MapFlags::NO_PREALLOC),
        ("percpu_hash", MapType::PERCPU_HASH, NONE),
    ] {
        hash(Script::new(kernel, subject, lines), &create(kernel, map_type, [4, 8, 4], flags));
    }
    array(Script::new(kernel, "array", lines), &create(kernel, MapType::ARRAY, [4, 8, 4], NONE));
    array(
        Script::new(kernel, "percpu_array", lines),
        &create(kernel, MapType::PERCPU_ARRAY, [4, 8, 4], NONE),
    );
    cursors(Script::new(kernel, "array", lines));
    access(Script::new(kernel, "hash(RDONLY)", lines), MapFlags::RDONLY);
    access(Script::new(kernel, "hash(WRONLY)", lines), MapFlags::WRONLY);
    prefixes(Script::new(kernel, "lpm_trie", lines));
    of_maps(Script::new(kernel, "array_of_maps", lines), MapType::ARRAY_OF_MAPS);
    of_maps(Script::new(kernel, "hash_of_maps", lines), MapType::HASH_OF_MAPS);
    locks(kernel, lines);
    none(kernel, lines);
}

/// How many elements there were and how it ended. Where the kernel refuses the call as such, there is no number.
fn text(answer: Result<u32, BatchError>) -> String {
    match answer {
        Ok(done) => format!("ok {done}"),
        Err(BatchError { done, error }) => match error.text() {
            errno if ["ENOTSUPP", "EINVAL", "EPERM"].contains(&&*errno) => errno,
            errno => format!("{errno} {done}"),
        },
    }
}

/// Only how it ended.
fn end(answer: Result<u32, BatchError>) -> String {
    text(answer).split(' ').next().unwrap_or_default().to_owned()
}

fn keys(keys: &[u32]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_ne_bytes()).collect()
}

/// Room for that many elements, none for kinds without keys.
fn room(map: &MapFd, count: usize, flags: UpdateFlags) -> (Vec<u8>, Vec<u8>) {
    let count = if map.key_len() == 0 { 0 } else { count };
    (vec![0; map.key_len() * count], vec![0; map.value_len_with(flags) * count])
}

fn lookup(map: &MapFd, count: usize, flags: UpdateFlags) -> Result<u32, BatchError> {
    let (mut keys, mut values) = room(map, count, flags);
    map.lookup_batch(&mut BatchCursor::new(map), &mut keys, &mut values, flags)
}

fn take(map: &MapFd, count: usize) -> Result<u32, BatchError> {
    let (mut keys, mut values) = room(map, count, ANY);
    map.lookup_and_delete_batch(&mut BatchCursor::new(map), &mut keys, &mut values, ANY)
}

fn update(map: &MapFd, keys: &[u8], flags: u64) -> Result<u32, BatchError> {
    let flags = UpdateFlags::from_bits_retain(flags);
    let count = keys.len().checked_div(map.key_len()).unwrap_or(0);
    map.update_batch(keys, &vec![1; map.value_len_with(flags) * count], flags)
}

fn hash(mut s: Script<'_>, map: &MapFd) {
    let m = Numbers(map);
    for key in [1, 3, 4] {
        m.update(key, 1).unwrap();
    }
    s.row("UPDATE_BATCH 2", text(update(map, &keys(&[20, 21]), 0)));
    s.row("LOOKUP_BATCH cnt=64 (all)", text(lookup(map, 64, ANY)));
    s.row("LOOKUP_BATCH cnt=0", text(lookup(map, 0, ANY)));
    s.row("DELETE_BATCH present+missing", text(map.delete_batch(&keys(&[1, 99]))));
    s.row("LOOKUP_AND_DELETE_BATCH all", text(take(map, 64)));
    s.row("LOOKUP_BATCH on empty", text(lookup(map, 64, ANY)));
    s.row("UPDATE_BATCH elem_flags=NOEXIST", text(update(map, &keys(&[1, 2]), 1)));
    update(map, &keys(&[1]), 0).unwrap();
    s.row("UPDATE_BATCH NOEXIST new+present", text(update(map, &keys(&[2, 1]), 1)));
    s.row("UPDATE_BATCH elem_flags=8", text(update(map, &keys(&[1]), 8)));
    s.row("LOOKUP_BATCH elem_flags=1", text(lookup(map, 4, UpdateFlags::NOEXIST)));
    map.freeze().unwrap();
    s.row("UPDATE_BATCH after freeze", text(update(map, &keys(&[1]), 0)));
    s.row("DELETE_BATCH after freeze", text(map.delete_batch(&keys(&[1]))));
    s.row("LOOKUP_AND_DELETE_BATCH after freeze", text(take(map, 4)));
}

fn array(mut s: Script<'_>, map: &MapFd) {
    let hex = |bytes: &[u8]| bytes.to_vec().text().replace("ok:", "");
    let mut cursor = BatchCursor::new(map);
    let (mut found, mut values) = room(map, 2, ANY);
    let answer = text(map.lookup_batch(&mut cursor, &mut found, &mut values, ANY));
    let position = hex(cursor.position().unwrap_or_default());
    s.row("LOOKUP_BATCH 2 (keys,out_batch)", format!("{answer} {} {position}", hex(&found)));
    let (mut found, mut values) = room(map, 8, ANY);
    let answer = text(map.lookup_batch(&mut cursor, &mut found, &mut values, ANY));
    s.row("LOOKUP_BATCH rest cnt=8", format!("{answer} {}", hex(&found[..8])));
    s.row("UPDATE_BATCH idx0,idx9", text(update(map, &keys(&[0, 9]), 0)));
    s.row("DELETE_BATCH", text(map.delete_batch(&keys(&[0]))));
    s.row("LOOKUP_AND_DELETE_BATCH", text(take(map, 2)));
}

fn cursors(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::ARRAY, [4, 8, 10], NONE);
    s.row("UPDATE_BATCH elem_flags=NOEXIST", text(update(&map, &keys(&[1]), 1)));
    s.row("UPDATE_BATCH elem_flags=EXIST", text(update(&map, &keys(&[1]), 2)));
    s.row("LOOKUP_BATCH cnt=0", text(lookup(&map, 0, ANY)));
    s.row("LOOKUP_BATCH cnt==max", text(lookup(&map, 10, ANY)));
    let mut cursor = BatchCursor::new(&map);
    cursor.set_position(&99u32.to_ne_bytes());
    let (mut found, mut values) = room(&map, 10, ANY);
    let answer = map.lookup_batch(&mut cursor, &mut found, &mut values, ANY);
    s.row("LOOKUP_BATCH in_batch=99", text(answer));
}

fn access(mut s: Script<'_>, flags: MapFlags) {
    let map = create(s.kernel, MapType::HASH, [4, 8, 4], flags);
    s.row("UPDATE_BATCH", end(update(&map, &keys(&[1]), 0)));
    s.row("LOOKUP_BATCH", end(lookup(&map, 1, ANY)));
    s.row("LOOKUP_AND_DELETE_BATCH", end(take(&map, 1)));
    s.row("DELETE_BATCH", end(map.delete_batch(&keys(&[1]))));
}

fn prefixes(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::LPM_TRIE, [8, 8, 4], MapFlags::NO_PREALLOC);
    let key = |bits: u32, address: [u8; 4]| [bits.to_ne_bytes(), address].concat();
    for key in [key(8, [10, 0, 0, 0]), key(16, [10, 1, 0, 0]), key(0, [0; 4])] {
        map.update(&key, &[1; 8], ANY).unwrap();
    }
    s.row("LOOKUP_BATCH all", text(lookup(&map, 8, ANY)));
    s.row("DELETE_BATCH", text(map.delete_batch(&key(16, [10, 1, 0, 0]))));
    s.row("UPDATE_BATCH", text(update(&map, &key(16, [10, 1, 0, 0]), 0)));
    s.row("LOOKUP_AND_DELETE_BATCH", text(take(&map, 4)));
}

fn of_maps(mut s: Script<'_>, map_type: MapType) {
    let inner = create(s.kernel, MapType::ARRAY, [4, 8, 4], NONE);
    let mut request = MapCreate::new(map_type, 4, 4, 4);
    request.inner_map = Some(inner.as_fd());
    let map = s.kernel.map_create(&request).unwrap();
    if map_type == MapType::HASH_OF_MAPS {
        for key in [2, 9] {
            Numbers(&map).update(key, raw(&inner)).unwrap();
        }
    }
    let put = |key| map.update_batch(&keys(&[key]), &(raw(&inner) as u32).to_ne_bytes(), ANY);
    s.row("LOOKUP_BATCH", text(lookup(&map, 8, ANY)));
    s.row("UPDATE_BATCH", text(put(0)));
    s.row("DELETE_BATCH", text(map.delete_batch(&keys(&[0]))));
    s.row("LOOKUP_AND_DELETE_BATCH", text(take(&map, 8)));
}

fn locks(kernel: &Kernel, lines: &mut Vec<String>) {
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let lock = builder.add_struct("bpf_spin_lock", 4).unwrap();
    builder.add_member("val", int, 0, 0).unwrap();
    let locked = builder.add_struct("locked", 8).unwrap();
    builder.add_member("lock", lock, 0, 0).unwrap();
    builder.add_member("x", int, 32, 0).unwrap();
    let btf = kernel.btf_load(builder.finish().unwrap().bytes(), None).unwrap();
    for (subject, map_type) in [("hash+spinlock", MapType::HASH), ("array+spinlock", MapType::ARRAY)] {
        let mut request = MapCreate::new(map_type, 4, 8, 4);
        request.btf = Some(MapBtf { btf: btf.as_fd(), key_type: int.0, value_type: locked.0 });
        let map = kernel.map_create(&request).unwrap();
        for key in [1, 2] {
            Numbers(&map).update(key, 0).unwrap();
        }
        let mut s = Script::new(kernel, subject, lines);
        s.row("UPDATE_BATCH F_LOCK", text(update(&map, &keys(&[3]), 4)));
        s.row("LOOKUP_BATCH F_LOCK", text(lookup(&map, 8, UpdateFlags::LOCK)));
    }
}

/// Kinds that have no batches, all or some.
fn none(kernel: &Kernel, lines: &mut Vec<String>) {
    let kinds = [
        ("prog_array", MapType::PROG_ARRAY, [4, 4, 4], NONE),
        ("cgroup_array", MapType::CGROUP_ARRAY, [4, 4, 4], NONE),
        ("perf_event_array", MapType::PERF_EVENT_ARRAY, [4, 4, 4], NONE),
        ("devmap", MapType::DEVMAP, [4, 8, 4], NONE),
        ("devmap_hash", MapType::DEVMAP_HASH, [4, 8, 4], NONE),
        ("cpumap", MapType::CPUMAP, [4, 8, 2], NONE),
        ("xskmap", MapType::XSKMAP, [4, 4, 4], NONE),
        ("sockmap(val=4)", MapType::SOCKMAP, [4, 4, 2], NONE),
        ("sockmap(val=8)", MapType::SOCKMAP, [4, 8, 2], NONE),
        ("sockhash(val=4)", MapType::SOCKHASH, [4, 4, 2], NONE),
        ("sockhash(val=8)", MapType::SOCKHASH, [4, 8, 2], NONE),
        ("reuseport_sockarray", MapType::REUSEPORT_SOCKARRAY, [4, 8, 2], NONE),
        ("ringbuf", MapType::RINGBUF, [0, 0, 4096], NONE),
        ("user_ringbuf", MapType::USER_RINGBUF, [0, 0, 4096], NONE),
        ("arena", MapType::ARENA, [0, 0, 4], MapFlags::MMAPABLE),
        ("queue", MapType::QUEUE, [0, 8, 4], NONE),
        ("stack", MapType::STACK, [0, 8, 4], NONE),
        ("bloom_filter", MapType::BLOOM_FILTER, [0, 8, 4], NONE),
        ("cgroup_storage", MapType::CGROUP_STORAGE, [8, 8, 0], NONE),
    ];
    for (subject, map_type, [key, value, max], flags) in kinds {
        let mut request = MapCreate::new(map_type, key, value, max);
        request.flags = flags;
        let Ok(map) = kernel.map_create(&request) else { continue };
        let one = vec![0; map.key_len()];
        let mut s = Script::new(kernel, subject, lines);
        s.row("LOOKUP_BATCH", text(lookup(&map, 1, ANY)));
        s.row("LOOKUP_AND_DELETE_BATCH", text(take(&map, 1)));
        s.row("UPDATE_BATCH", text(update(&map, &one, 0)));
        s.row("DELETE_BATCH", text(map.delete_batch(&one)));
    }
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap().0;
    let types = kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    for (subject, map_type) in [
        ("sk_storage", MapType::SK_STORAGE),
        ("task_storage", MapType::TASK_STORAGE),
        ("inode_storage", MapType::INODE_STORAGE),
        ("cgrp_storage", MapType::CGRP_STORAGE),
    ] {
        let mut request = MapCreate::new(map_type, 4, 4, 0);
        request.flags = MapFlags::NO_PREALLOC;
        request.btf = Some(MapBtf { btf: types.as_fd(), key_type: int, value_type: int });
        let Ok(map) = kernel.map_create(&request) else { continue };
        let mut s = Script::new(kernel, subject, lines);
        s.row("LOOKUP_BATCH", text(lookup(&map, 1, ANY)));
        s.row("UPDATE_BATCH", text(update(&map, &[0; 4], 0)));
    }
}

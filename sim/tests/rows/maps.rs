//! Kinds with keys and values of bytes, queues, stacks, filters, and what is mapped into memory.

use std::os::fd::AsFd;

use skep_sys::abi::{MapFlags, MapType, UpdateFlags};
use skep_sys::request::MapCreate;
use skep_sys::{Kernel, MapFd};

use super::poll_events;
use crate::bodies::{Numbers, Outcome, Script, create, lacks};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type, flags) in [
        ("hash", MapType::HASH, NONE),
        ("hash(NO_PREALLOC)", MapType::HASH, MapFlags::NO_PREALLOC),
        ("percpu_hash", MapType::PERCPU_HASH, NONE),
        ("array", MapType::ARRAY, NONE),
        ("percpu_array", MapType::PERCPU_ARRAY, NONE),
    ] {
        flags_of_calls(Script::new(kernel, subject, lines), &create(kernel, map_type, [4, 8, 4], flags));
    }
    padding(kernel, lines);
    for (subject, map_type, flags) in [
        ("lru_hash", MapType::LRU_HASH, NONE),
        ("lru_percpu_hash", MapType::LRU_PERCPU_HASH, NONE),
        ("lru_hash(NO_COMMON)", MapType::LRU_HASH, MapFlags::NO_COMMON_LRU),
    ] {
        lru(Script::new(kernel, subject, lines), map_type, flags);
    }
    access(Script::new(kernel, "hash(RDONLY)", lines), MapFlags::RDONLY);
    access(Script::new(kernel, "hash(WRONLY)", lines), MapFlags::WRONLY);
    shared(kernel, lines);
    let mut s = Script::new(kernel, "lpm_trie", lines);
    s.row("create without NO_PREALLOC", kernel.map_create(&MapCreate::new(MapType::LPM_TRIE, 8, 8, 4)));
    s.row("iteration order", order_of_prefixes(kernel));
    rings(kernel, lines);
    let mut s = Script::new(kernel, "hash", lines);
    let hash = create(kernel, MapType::HASH, [4, 8, 4], NONE);
    s.row("poll()", poll_events(&hash));
    s.row("mmap", hash.mmap(0, 4096, false).map(drop));
    freeze_of_maps(kernel, lines);
    for (subject, map_type, flags) in FREEZABLE {
        let value = if subject == "type7" { 80 } else { 4 };
        let map = create(kernel, map_type, [4, value, 4], flags);
        Script::new(kernel, subject, lines).row("freeze", map.freeze());
    }
}

/// An array of maps, which needs one to be made after.
fn freeze_of_maps(kernel: &Kernel, lines: &mut Vec<String>) {
    let inner = create(kernel, MapType::ARRAY, [4, 4, 1], NONE);
    let mut request = MapCreate::new(MapType::ARRAY_OF_MAPS, 4, 4, 4);
    request.inner_map = Some(inner.as_fd());
    let map = kernel.map_create(&request).unwrap();
    Script::new(kernel, "type12", lines).row("freeze", map.freeze());
}

/// Kinds by number, as they were recorded.
const FREEZABLE: [(&str, MapType, MapFlags); 5] = [
    ("type3", MapType::PROG_ARRAY, NONE),
    ("type14", MapType::DEVMAP, NONE),
    ("type17", MapType::XSKMAP, NONE),
    ("type15", MapType::SOCKMAP, NONE),
    ("type7", MapType::STACK_TRACE, NONE),
];

/// Flags that no kind knows.
fn flags_of_calls(mut s: Script<'_>, map: &MapFd) {
    let m = Numbers(map);
    m.update(1, 1).unwrap();
    let unknown: &[u64] = if map.map_type().is_per_cpu() && map.key_len() == 0 { &[] } else { &[8, 16] };
    for &flags in unknown {
        let len = map.value_len_with(UpdateFlags::from_bits_retain(flags));
        let result = map.update(&[0; 4], &vec![1; len], UpdateFlags::from_bits_retain(flags));
        if flags == 8 || map.map_type() == MapType::HASH || map.map_type() == MapType::PERCPU_HASH {
            s.row(&format!("update flags={flags:#x}"), result);
        }
    }
    let flags = UpdateFlags::from_bits_retain(8);
    let mut value = vec![0; map.value_len_with(flags)];
    s.row("lookup flags=0x8", map.lookup(&1u32.to_ne_bytes(), &mut value, flags));
    if matches!(map.map_type(), MapType::HASH | MapType::PERCPU_HASH) {
        m.delete(1).unwrap();
        s.row("map empty after", m.next(None));
    }
}

/// The bytes between the values of two CPUs.
fn padding(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type) in
        [("percpu_hash", MapType::PERCPU_HASH), ("percpu_array", MapType::PERCPU_ARRAY)]
    {
        let mut s = Script::new(kernel, subject, lines);
        let map = create(kernel, map_type, [4, 5, 4], NONE);
        let cpus = map.values_per_element() as usize;
        let mut value: Vec<u8> = Vec::new();
        for cpu in 0..cpus as u8 {
            let first = [1, 2, 3, 4, 5].map(|byte| byte + cpu * 16);
            value.extend(first);
            value.extend([[0xaa, 0xbb, 0xcc], [0xdd, 0xee, 0xff]][usize::from(cpu % 2)]);
        }
        s.row("value_size=5: update 16B buffer", map.update(&[0; 4], &value, UpdateFlags::empty()));
        s.row("value_size=5: lookup 16B", Numbers(&map).lookup(0).map(|value| value[..16].to_vec()));
    }
}

fn lru(mut s: Script<'_>, map_type: MapType, flags: MapFlags) {
    for (count, max) in [(12, 4), (300, 100), (3000, 1000)] {
        let map = create(s.kernel, map_type, [4, 8, max], flags);
        let m = Numbers(&map);
        if max == 4 {
            let mut results: Vec<String> = (0..count).map(|key| m.update(key, 7).text()).collect();
            results.dedup();
            let left = (m.keys().0.len(), m.lookup(count - 1).is_ok());
            s.row(
                "insert 12 into max 4: errs / remaining / last present",
                format!("{} {} {}", results.join(","), left.0, left.1.text()),
            );
        }
        let entries = map.info().map(|info| info.max_entries as usize);
        s.row(&format!("info.max_entries for requested {max}"), entries);
    }
    let map = create(s.kernel, map_type, [4, 8, 4], flags);
    let m = Numbers(&map);
    if flags != NONE {
        s.row("update EXIST missing", m.update_with(1, 1, 2));
        s.row("lookup missing", m.lookup(1));
        s.row("delete missing", m.delete(1));
        s.row("F_LOCK lookup", m.lookup_with(1, 4));
        s.row("update flags=4", m.update_with(1, 1, 4));
    }
    let sevens = [7u64.to_ne_bytes(); 1].concat().repeat(map.values_per_element() as usize);
    map.update(&1u32.to_ne_bytes(), &sevens, UpdateFlags::empty()).unwrap();
    if flags != NONE {
        s.row("update NOEXIST present", m.update_with(1, 1, 1));
    }
    s.row("lookup_and_delete", m.take(1, 0).map(|value| value[..value.len().min(16)].to_vec()));
}

fn access(mut s: Script<'_>, flags: MapFlags) {
    let map = create(s.kernel, MapType::HASH, [4, 8, 4], flags);
    let m = Numbers(&map);
    s.row("update", m.update(1, 1));
    s.row("lookup", m.lookup(1));
    s.row("delete", m.delete(1));
    s.row("next_key", m.next(None));
    s.row("lookup_and_delete", m.take(1, 0));
    s.row("freeze", map.freeze());
}

fn shared(kernel: &Kernel, lines: &mut Vec<String>) {
    let map = create(kernel, MapType::ARRAY, [4, 6, 4], MapFlags::MMAPABLE);
    let mut s = Script::new(kernel, "array(MMAPABLE)", lines);
    map.update(&1u32.to_ne_bytes(), &[0x34, 0x12, 0, 0, 0, 0], UpdateFlags::empty()).unwrap();
    let view = map.mmap(0, 4096, true);
    let mut seen = vec![0; 8];
    if let Ok(view) = &view {
        view.read(8, &mut seen).unwrap();
    }
    s.row("mmap RW 4096", view.map(drop));
    s.row("mmap R 4096", map.mmap(0, 4096, false).map(drop));
    s.row("mmap sees update (elem stride 8)", seen.text().replace("ok:", ""));
    let plain = create(kernel, MapType::ARRAY, [4, 8, 4], NONE);
    Script::new(kernel, "array", lines).row("mmap RW 4096", plain.mmap(0, 4096, true).map(drop));
    let read = create(kernel, MapType::ARRAY, [4, 8, 4], MapFlags::MMAPABLE | MapFlags::RDONLY_PROG);
    let mut s = Script::new(kernel, "array(MMAPABLE|RDONLY_PROG)", lines);
    s.row("mmap RW", read.mmap(0, 4096, true).map(drop));
}

fn order_of_prefixes(kernel: &Kernel) -> String {
    let map = create(kernel, MapType::LPM_TRIE, [8, 8, 4], MapFlags::NO_PREALLOC);
    for (bits, address) in [(8, [10, 0, 0, 0]), (16, [10, 1, 0, 0]), (24, [10, 1, 2, 0]), (0, [0; 4])] {
        map.update(&[u32::to_ne_bytes(bits), address].concat(), &[0; 8], UpdateFlags::empty()).unwrap();
    }
    let mut order = Vec::new();
    let mut last: Option<[u8; 8]> = None;
    loop {
        let mut next = [0; 8];
        match map.next_key(last.as_ref().map(<[u8; 8]>::as_slice), &mut next) {
            Ok(()) => {
                let [a, b, c, d] = [next[4], next[5], next[6], next[7]];
                order.push(format!("{a}.{b}.{c}.{d}/{}", next[0]));
                last = Some(next);
            }
            Err(error) => {
                order.push(error.text());
                return order.join(" ");
            }
        }
    }
}

/// Rings and arenas, which are reached through memory.
fn rings(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type, max, flags) in [
        ("ringbuf", MapType::RINGBUF, 4096, NONE),
        ("user_ringbuf", MapType::USER_RINGBUF, 4096, NONE),
        ("arena", MapType::ARENA, 1, MapFlags::MMAPABLE),
    ] {
        if lacks(kernel, subject) {
            continue;
        }
        let mut request = MapCreate::new(map_type, 0, 0, max);
        request.flags = flags;
        // Arenas are the newest kind.
        let Ok(map) = kernel.map_create(&request) else { continue };
        let mut s = Script::new(kernel, subject, lines);
        let m = Numbers(&map);
        s.row("lookup key=NULL", m.lookup(0));
        s.row("update NULL key", m.update(0, 1));
        s.row("delete NULL", m.delete(0));
        s.row("next_key", m.next(None));
        for (mode, writable) in [("R", false), ("RW", true)] {
            for (offset, len) in [(0, 4096), (4096, 4096), (4096, 12288), (0, 12288), (0, 16384)] {
                let label = format!("mmap {mode} off={offset} len={len}");
                s.row(&label, map.mmap(offset, len, writable).map(drop));
            }
        }
        s.row("poll(0) empty", poll_events(&map));
        s.row("freeze", map.freeze());
    }
}

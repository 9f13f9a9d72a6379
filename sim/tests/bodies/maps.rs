//! Element operations of maps.

use std::os::fd::AsFd;

use skep_asm::{Assembler, Reg};
use skep_sys::abi::{AttachType, MapFlags, MapType, ProgType, UpdateFlags};
use skep_sys::request::{MapBtf, MapCreate, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};

use super::{Numbers, Outcome, Script, create, lacks};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    hash(Script::new(kernel, "hash", lines), MapType::HASH, NONE);
    hash(Script::new(kernel, "hash(NO_PREALLOC)", lines), MapType::HASH, MapFlags::NO_PREALLOC);
    hash(Script::new(kernel, "percpu_hash", lines), MapType::PERCPU_HASH, NONE);
    array(Script::new(kernel, "array", lines), MapType::ARRAY);
    array(Script::new(kernel, "percpu_array", lines), MapType::PERCPU_ARRAY);
    array(Script::new(kernel, "array(MMAPABLE)", lines), MapType::ARRAY);
    padding(kernel, lines);
    shared(Script::new(kernel, "array(MMAPABLE)", lines));
    lru(Script::new(kernel, "lru_hash", lines), MapType::LRU_HASH);
    lru(Script::new(kernel, "lru_percpu_hash", lines), MapType::LRU_PERCPU_HASH);
    queue(Script::new(kernel, "queue", lines), MapType::QUEUE);
    queue(Script::new(kernel, "stack", lines), MapType::STACK);
    lpm(Script::new(kernel, "lpm_trie", lines));
    bloom(Script::new(kernel, "bloom_filter", lines));
    access(Script::new(kernel, "hash(RDONLY)", lines), MapFlags::RDONLY);
    access(Script::new(kernel, "hash(WRONLY)", lines), MapFlags::WRONLY);
    prog_array(Script::new(kernel, "prog_array", lines));
    of_maps(Script::new(kernel, "array_of_maps", lines), MapType::ARRAY_OF_MAPS);
    of_maps(Script::new(kernel, "hash_of_maps", lines), MapType::HASH_OF_MAPS);
    devices(Script::new(kernel, "devmap", lines), MapType::DEVMAP);
    devices(Script::new(kernel, "devmap_hash", lines), MapType::DEVMAP_HASH);
    cpus(Script::new(kernel, "cpumap", lines));
    limited(kernel, lines);
    types(Script::new(kernel, "types", lines));
    names(Script::new(kernel, "any", lines));
    sizes(kernel, lines);
}

fn hash(mut s: Script<'_>, map_type: MapType, flags: MapFlags) {
    let map = create(s.kernel, map_type, [4, 8, 4], flags);
    let m = Numbers(&map);
    s.row("lookup missing", m.lookup(1));
    s.row("delete missing", m.delete(1));
    s.row("next_key empty (key=NULL)", m.next(None));
    s.row("next_key empty (key=1)", m.next(Some(1)));
    s.row("lookup_and_delete missing", m.take(1, 0));
    s.row("update EXIST on missing", m.update_with(1, 1, 2));
    s.row("update NOEXIST on missing", m.update_with(1, 2, 1));
    s.row("update NOEXIST on present", m.update_with(1, 3, 1));
    s.row("update ANY on present", m.update(1, 3));
    s.row("update EXIST on present", m.update_with(1, 4, 2));
    for flags in [3, 4, 5, 7, 1 << 32] {
        s.row(&format!("update flags={flags:#x}"), m.update_with(1, 5, flags));
    }
    s.row("lookup present", m.lookup(1).map(|value| value[..16.min(value.len())].to_vec()));
    for flags in [1, 2, 4] {
        s.row(&format!("lookup flags={flags:#x}"), m.lookup_with(1, flags));
    }
    for key in 2..5 {
        s.row(&format!("update key {key}"), m.update(key, u64::from(key) * 10));
    }
    s.row("update 5th of max 4", m.update(5, 50));
    s.row("update existing when full", m.update(4, 40));
    let (keys, end) = m.keys();
    s.row("iteration ends with", end);
    s.row("iterated key count", keys.len());
    s.row("next_key of missing key == first key", m.next(Some(99)).ok() == keys.first().cloned());
    s.row("present", m.take(2, 0).map(|value| value[..8].to_vec()));
    s.row("lookup after it", m.lookup(2));
    s.row("lookup_and_delete flags=1", m.take(3, 1));
    s.row("lookup_and_delete flags=4(F_LOCK)", m.take(3, 4));
    s.row("freeze", map.freeze());
    s.row("freeze again", map.freeze());
    s.row("update after freeze", m.update(3, 1));
    s.row("delete after freeze", m.delete(3));
    s.row("lookup after freeze", m.lookup(3).map(drop));
    s.row("lookup_and_delete after freeze", m.take(3, 0));
}

fn array(mut s: Script<'_>, map_type: MapType) {
    let flags = if s.subject.contains("MMAPABLE") { MapFlags::MMAPABLE } else { NONE };
    let map = create(s.kernel, map_type, [4, 8, 4], flags);
    let m = Numbers(&map);
    s.row("lookup idx0 fresh", m.lookup(0).map(|value| value[..16.min(value.len())].to_vec()));
    s.row("lookup idx>=max", m.lookup(4));
    s.row("update idx>=max", m.update(4, 1));
    s.row("update ANY", m.update(0, 1));
    s.row("update NOEXIST", m.update_with(0, 1, 1));
    s.row("update NOEXIST idx>=max", m.update_with(9, 1, 1));
    s.row("update EXIST", m.update_with(0, 2, 2));
    for flags in [3, 4, 5] {
        s.row(&format!("update flags={flags:#x}"), m.update_with(0, 1, flags));
    }
    for flags in [1, 4] {
        s.row(&format!("lookup flags={flags:#x}"), m.lookup_with(0, flags));
    }
    s.row("value", m.lookup(0).map(|value| value[..8].to_vec()));
    s.row("delete idx0", m.delete(0));
    s.row("delete idx>=max", m.delete(9));
    s.row("next NULL", m.next(None));
    s.row("next 0", m.next(Some(0)));
    s.row("next last(3)", m.next(Some(3)));
    s.row("next >=max (99)", m.next(Some(99)));
    s.row("next 0xffffffff", m.next(Some(u32::MAX)));
    s.row("lookup_and_delete", m.take(0, 0));
    if map_type == MapType::PERCPU_ARRAY || flags.is_empty() {
        s.row("mmap R 4096", map.mmap(0, 4096, false).map(drop));
    }
    s.row("freeze", map.freeze());
    s.row("update after freeze", m.update(0, 1));
    s.row("delete after freeze", m.delete(0));
}

/// What lies between the values of two CPUs is kept.
fn padding(kernel: &Kernel, lines: &mut Vec<String>) {
    for (subject, map_type) in
        [("percpu_hash", MapType::PERCPU_HASH), ("percpu_array", MapType::PERCPU_ARRAY)]
    {
        let mut s = Script::new(kernel, subject, lines);
        let map = create(kernel, map_type, [4, 5, 4], NONE);
        let value: Vec<u8> = (0..map.value_len()).map(|i| i as u8 + 1).collect();
        s.row("value_size=5: update", map.update(&[0; 4], &value, UpdateFlags::empty()));
        s.row("value_size=5: lookup is the same", Numbers(&map).lookup(0).is_ok_and(|found| found == value));
    }
}

fn shared(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::ARRAY, [4, 6, 4], MapFlags::MMAPABLE);
    let m = Numbers(&map);
    let update = |key: u32, value: [u8; 6]| map.update(&key.to_ne_bytes(), &value, UpdateFlags::empty());
    s.row("update", update(1, [1, 2, 3, 4, 5, 6]));
    let view = map.mmap(0, 4096, true).unwrap();
    let mut seen = vec![0; 8];
    view.read(8, &mut seen).unwrap();
    s.row("mmap sees update", seen);
    view.write(16, &[7; 6]).unwrap();
    s.row("lookup sees write", m.lookup(2));
    s.row("freeze while writable mmap", map.freeze());
    drop(view);
    s.row("freeze after munmap", map.freeze());
    s.row("mmap RW after freeze", map.mmap(0, 4096, true).map(drop));
    s.row("mmap R after freeze", map.mmap(0, 4096, false).map(drop));
    s.row("mmap larger than map (8192)", map.mmap(0, 8192, false).map(drop));
    let map = create(s.kernel, MapType::ARRAY, [4, 8, 4], MapFlags::MMAPABLE | MapFlags::RDONLY_PROG);
    s.row("mmap RW of RDONLY_PROG", map.mmap(0, 4096, true).map(drop));
}

fn lru(mut s: Script<'_>, map_type: MapType) {
    for max in [4_u32, 1000] {
        let map = create(s.kernel, map_type, [4, 8, max], NONE);
        let m = Numbers(&map);
        let all_ok = (0..3 * max).all(|key| m.update(key, 7).is_ok());
        s.row(&format!("insert {} into max {max}", 3 * max), all_ok);
        let (keys, end) = m.keys();
        s.row("at most max left", keys.len() <= max as usize);
        s.row("last present", m.lookup(3 * max - 1).is_ok());
        s.row("iteration ends with", end);
        s.row("info.max_entries", map.info().map(|info| info.max_entries as usize));
    }
    let map = create(s.kernel, map_type, [4, 8, 4], NONE);
    let m = Numbers(&map);
    s.row("lookup missing", m.lookup(1));
    s.row("delete missing", m.delete(1));
    s.row("update EXIST missing", m.update_with(1, 1, 2));
    s.row("update ANY", m.update(1, 7));
    s.row("update NOEXIST present", m.update_with(1, 1, 1));
    s.row("F_LOCK lookup", m.lookup_with(1, 4));
    s.row("update flags=4", m.update_with(1, 1, 4));
    s.row("taken", m.take(1, 0).map(|value| value[..8].to_vec()));
    s.row("lookup after it", m.lookup(1));
}

fn queue(mut s: Script<'_>, map_type: MapType) {
    let map = create(s.kernel, map_type, [0, 8, 2], NONE);
    let m = Numbers(&map);
    s.row("peek (lookup key=NULL) empty", m.lookup(0));
    s.row("pop (lookup_and_delete) empty", m.take(0, 0));
    s.row("push 1 (update key=NULL)", m.update(0, 1));
    s.row("push NOEXIST", m.update_with(0, 1, 1));
    s.row("push flags=4", m.update_with(0, 1, 4));
    s.row("push 2", m.update(0, 2));
    s.row("push 3 when full (max 2) ANY", m.update(0, 3));
    s.row("push 3 when full EXIST", m.update_with(0, 3, 2));
    s.row("peek", m.lookup(0));
    s.row("pop", m.take(0, 0));
    s.row("pop again", m.take(0, 0));
    s.row("pop flags=1", m.take(0, 1));
    s.row("pop flags=4", m.take(0, 4));
    s.row("delete key=NULL", m.delete(0));
    s.row("next_key", m.next(None));
    s.row("freeze", map.freeze());
    s.row("push after freeze", m.update(0, 1));
}

fn lpm(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::LPM_TRIE, [8, 8, 4], MapFlags::NO_PREALLOC);
    let key = |bits: u32, address: [u8; 4]| [bits.to_ne_bytes(), address].concat();
    let update = |bits, address, flags| {
        let value = u64::from(bits).to_ne_bytes();
        map.update(&key(bits, address), &value, UpdateFlags::from_bits_retain(flags))
    };
    let lookup = |bits, address| {
        let mut value = vec![0; 8];
        map.lookup(&key(bits, address), &mut value, UpdateFlags::empty()).map(|()| value)
    };
    let next = |after: Option<Vec<u8>>| {
        let mut next = vec![0; 8];
        map.next_key(after.as_deref(), &mut next).map(|()| next)
    };
    s.row("lookup empty", lookup(32, [10, 1, 2, 3]));
    s.row("next_key empty", next(None));
    s.row("update /33", update(33, [10, 0, 0, 0], 0));
    s.row("update /8", update(8, [10, 0, 0, 0], 0));
    s.row("update /8 (unmasked host bits, same prefix) NOEXIST", update(8, [10, 9, 9, 9], 1));
    s.row("update EXIST missing /16", update(16, [10, 1, 0, 0], 2));
    s.row("update /16", update(16, [10, 1, 0, 0], 0));
    s.row("update /24", update(24, [10, 1, 2, 0], 0));
    s.row("update flags=3", update(24, [10, 1, 2, 0], 3));
    s.row("update flags=4", update(24, [10, 1, 2, 0], 4));
    s.row("lookup 10.1.2.3/32", lookup(32, [10, 1, 2, 3]));
    s.row("lookup 10.1.9.9/32", lookup(32, [10, 1, 9, 9]));
    s.row("lookup 10.1.2.3/12 (prefixlen 12)", lookup(12, [10, 1, 2, 3]));
    s.row("lookup 11.0.0.0/32", lookup(32, [11, 0, 0, 0]));
    s.row("lookup prefixlen 33", lookup(33, [10, 1, 2, 3]));
    s.row("delete /33", map.delete(&key(33, [10, 0, 0, 0])));
    s.row("delete non-exact /20", map.delete(&key(20, [10, 1, 0, 0])));
    s.row("update /0", update(0, [0; 4], 0));
    s.row("update 5th of max 4", update(9, [10, 0, 0, 0], 0));
    s.row("update existing when full", update(24, [10, 1, 2, 0], 0));
    let mut order = Vec::new();
    while let Ok(key) = next(order.last().cloned()) {
        order.push(key);
    }
    let order: Vec<String> =
        order.iter().map(|key| format!("{}/{}", key[4..].to_vec().text(), key[0])).collect();
    s.row("iteration", order.join(" "));
    s.row("next_key of missing key", next(Some(key(24, [9, 9, 9, 0]))));
    s.row("next_key prefixlen 33", next(Some(key(33, [10, 0, 0, 0]))));
    s.row("delete /24", map.delete(&key(24, [10, 1, 2, 0])));
    s.row("delete again", map.delete(&key(24, [10, 1, 2, 0])));
    s.row(
        "lookup_and_delete",
        map.lookup_and_delete(&key(8, [10, 0, 0, 0]), &mut [0; 8], UpdateFlags::empty()),
    );
    s.row("freeze", map.freeze());
    s.row("update after freeze", update(8, [10, 0, 0, 0], 0));
}

fn bloom(mut s: Script<'_>) {
    if lacks(s.kernel, "bloom_filter") {
        return;
    }
    let map = create(s.kernel, MapType::BLOOM_FILTER, [0, 8, 8], NONE);
    let m = Numbers(&map);
    let contains = |value: u64| map.lookup(&[], &mut value.to_ne_bytes(), UpdateFlags::empty());
    s.row("lookup(value=1) empty", contains(1));
    s.row("push 1", m.update(0, 1));
    s.row("lookup(1)", contains(1));
    s.row("push flags=1", m.update_with(0, 1, 1));
    s.row("push flags=2", m.update_with(0, 1, 2));
    s.row("pop", m.take(0, 0));
    s.row("delete", m.delete(0));
    s.row("next_key", m.next(None));
    for extra in [0, 1, 15, 16] {
        let mut request = MapCreate::new(MapType::BLOOM_FILTER, 0, 8, 8);
        request.map_extra = extra;
        s.row(&format!("create map_extra={extra}"), s.kernel.map_create(&request));
    }
}

fn access(mut s: Script<'_>, flags: MapFlags) {
    let map = create(s.kernel, MapType::HASH, [4, 8, 4], flags);
    let m = Numbers(&map);
    s.row("update", m.update(1, 1));
    s.row("lookup", m.lookup(1));
    s.row("next_key", m.next(None));
    s.row("delete", m.delete(1));
    s.row("lookup_and_delete", m.take(1, 0));
    s.row("info.map_flags", map.info().map(|info| info.flags.bits() as usize));
    s.row("freeze", map.freeze());
}

pub(super) fn program(kernel: &Kernel, prog_type: ProgType) -> LoadedProgram {
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R0, 0).exit();
    let insns = asm.finish().unwrap();
    kernel.prog_load(&ProgLoad::new(prog_type, &insns, "GPL"), None).unwrap()
}

fn raw(fd: &impl AsFd) -> u64 {
    use std::os::fd::AsRawFd;
    fd.as_fd().as_raw_fd() as u64
}

fn prog_array(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::PROG_ARRAY, [4, 4, 4], NONE);
    let m = Numbers(&map);
    let (xdp, filter) = (program(s.kernel, ProgType::XDP), program(s.kernel, ProgType::SOCKET_FILTER));
    s.row("lookup empty slot", m.lookup(0));
    s.row("lookup idx>=max", m.lookup(9));
    s.row("update fd=bad(-1)", m.update(0, u32::MAX.into()));
    s.row("update fd=map fd", m.update(0, raw(&map)));
    s.row("update idx>=max", m.update(9, raw(&xdp)));
    s.row("update NOEXIST", m.update_with(0, raw(&xdp), 1));
    s.row("update EXIST", m.update_with(0, raw(&xdp), 2));
    s.row("update xdp prog ANY", m.update(0, raw(&xdp)));
    s.row("update other prog type (socket_filter) after xdp", m.update(1, raw(&filter)));
    let id = xdp.info().unwrap().id.0.to_ne_bytes().to_vec();
    s.row("lookup == prog id?", m.lookup(0).is_ok_and(|found| found == id));
    let (keys, end) = m.keys();
    s.row("iterated key count", keys.len());
    s.row("iteration ends with", end);
    s.row("delete set", m.delete(0));
    s.row("delete empty", m.delete(0));
    s.row("delete idx>=max", m.delete(9));
    s.row("lookup after delete", m.lookup(0));
    s.row("lookup_and_delete", m.take(0, 0));
    s.row("freeze", map.freeze());
    s.row("update after freeze", m.update(0, raw(&xdp)));
}

fn of_maps(mut s: Script<'_>, map_type: MapType) {
    let kernel = s.kernel;
    let array = |value, max, flags| create(kernel, MapType::ARRAY, [4, value, max], flags);
    let outer = |prototype: Option<&dyn Fn() -> std::os::fd::OwnedFd>| {
        let fd = prototype.map(|make| make());
        let mut request = MapCreate::new(map_type, 4, 4, 4);
        request.inner_map = fd.as_ref().map(AsFd::as_fd);
        kernel.map_create(&request)
    };
    let of = |map: &MapFd| map.as_fd().try_clone_to_owned().unwrap();
    let inner = array(8, 4, NONE);
    let xdp = program(kernel, ProgType::XDP);
    s.row("create inner_map_fd=prog fd", outer(Some(&|| xdp.as_fd().try_clone_to_owned().unwrap())));
    let stdin = || std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    s.row("create inner_map_fd=fd 0", outer(Some(&stdin)));
    let map = outer(Some(&|| of(&inner))).unwrap();
    s.row("create with inner=map-in-map", outer(Some(&|| of(&map))));
    let programs = create(kernel, MapType::PROG_ARRAY, [4, 4, 4], NONE);
    s.row("create with inner=prog_array", outer(Some(&|| of(&programs))));
    let ring = create(kernel, MapType::RINGBUF, [0, 0, 4096], NONE);
    s.row("create with inner=ringbuf", outer(Some(&|| of(&ring))));
    let m = Numbers(&map);
    s.row("lookup empty", m.lookup(0));
    s.row("update inner same shape", m.update(0, raw(&inner)));
    s.row("update inner bigger max_entries", m.update(1, raw(&array(8, 8, NONE))));
    s.row("update inner other value_size", m.update(1, raw(&array(4, 4, NONE))));
    s.row("update inner other type", m.update(1, raw(&create(kernel, MapType::HASH, [4, 8, 4], NONE))));
    s.row("update bad fd", m.update(1, u32::MAX.into()));
    s.row("update prog fd", m.update(1, raw(&xdp)));
    s.row("update NOEXIST present", m.update_with(0, raw(&inner), 1));
    s.row("update EXIST present", m.update_with(0, raw(&inner), 2));
    s.row("update EXIST missing(1)", m.update_with(1, raw(&inner), 2));
    s.row("update NOEXIST missing(2)", m.update_with(2, raw(&inner), 1));
    s.row("update flags=4", m.update_with(1, raw(&inner), 4));
    let id = inner.info().unwrap().id.0.to_ne_bytes().to_vec();
    s.row("lookup == inner map id", m.lookup(0).is_ok_and(|found| found == id));
    s.row("lookup idx 9", m.lookup(9));
    s.row("delete present", m.delete(0));
    s.row("delete missing", m.delete(0));
    s.row("delete idx9", m.delete(9));
    s.row("update idx9", m.update(9, raw(&inner)));
    s.row("iterated key count", m.keys().0.len());
    s.row("lookup_and_delete", m.take(9, 0));

    let hashes = outer(Some(&|| of(&create(kernel, MapType::HASH, [4, 8, 4], NONE)))).unwrap();
    let larger = create(kernel, MapType::HASH, [4, 8, 64], NONE);
    s.row("hash inner: other max_entries", Numbers(&hashes).update(0, raw(&larger)));
    let lazy = create(kernel, MapType::HASH, [4, 8, 4], MapFlags::NO_PREALLOC);
    s.row("hash inner: other flags (NO_PREALLOC)", Numbers(&hashes).update(0, raw(&lazy)));
    let flexible = outer(Some(&|| of(&array(8, 4, MapFlags::INNER_MAP)))).unwrap();
    let larger = array(8, 64, MapFlags::INNER_MAP);
    s.row("array INNER_MAP flag: other max_entries", Numbers(&flexible).update(0, raw(&larger)));
}

fn attaching(kernel: &Kernel, attach_type: AttachType) -> LoadedProgram {
    let insns = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish().unwrap();
    let mut request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
    request.expected_attach_type = attach_type;
    kernel.prog_load(&request, None).unwrap()
}

/// A value of a target and a program.
fn target(index: u32, fd: u64) -> u64 {
    let [a, b, c, d] = index.to_ne_bytes();
    let [e, f, g, h] = (fd as u32).to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn devices(mut s: Script<'_>, map_type: MapType) {
    let kernel = s.kernel;
    let map = create(kernel, map_type, [4, 8, 4], NONE);
    let m = Numbers(&map);
    let lo = kernel.backend().ifindex("lo".as_ref()).unwrap();
    let set = |key, index, fd, flags| m.update_with(key, target(index, fd), flags);
    s.row("info.map_flags", map.info().map(|info| info.flags.bits() as usize));
    s.row("lookup empty", m.lookup(0));
    s.row("update ifindex=1 prog=-1", set(0, lo, u64::MAX, 0));
    s.row("update ifindex=1 prog=0", set(0, lo, 0, 0));
    s.row("update ifindex=9999", set(1, 0x7fff_ff00, 0, 0));
    s.row("update ifindex=0", set(1, 0, 0, 0));
    let (plain, prog) = (program(kernel, ProgType::XDP), attaching(kernel, AttachType::XDP_DEVMAP));
    s.row("update prog=normal xdp fd", set(2, lo, raw(&plain), 0));
    s.row("update prog=map", set(2, lo, raw(&map), 0));
    s.row("update ifindex=0 with prog", set(2, 0, raw(&prog), 0));
    s.row("update prog=devmap prog", set(2, lo, raw(&prog), 0));
    let expected = target(lo, prog.info().unwrap().id.0.into()).to_ne_bytes().to_vec();
    s.row("lookup idx2 == (1, prog id)", m.lookup(2).is_ok_and(|found| found == expected));
    s.row("update NOEXIST present", set(2, lo, 0, 1));
    s.row("update EXIST", set(2, lo, 0, 2));
    s.row("update EXIST missing(3)", set(3, lo, 0, 2));
    s.row("update flags=3", set(3, lo, 0, 3));
    s.row("update flags=4", set(3, lo, 0, 4));
    s.row("update key 9", set(9, lo, 0, 0));
    s.row("update key 10", set(10, lo, 0, 0));
    s.row("lookup idx2", m.lookup(2));
    s.row("lookup key 77", m.lookup(77));
    s.row("delete present", m.delete(2));
    s.row("delete missing", m.delete(2));
    s.row("delete key 77", m.delete(77));
    s.row("iterated key count", m.keys().0.len());
    s.row("lookup_and_delete", m.take(0, 0));
    s.row("freeze", map.freeze());
    let small = create(kernel, map_type, [4, 4, 4], NONE);
    s.row("val4: update", Numbers(&small).update(1, lo.into()));
    s.row("val4: lookup", Numbers(&small).lookup(1));
}

fn cpus(mut s: Script<'_>) {
    let kernel = s.kernel;
    let map = create(kernel, MapType::CPUMAP, [4, 8, 2], NONE);
    let m = Numbers(&map);
    s.row("lookup empty", m.lookup(0));
    s.row("update qsize=192", m.update(0, target(192, 0)));
    s.row("lookup", m.lookup(0));
    s.row("update qsize=16385", m.update(0, target(16385, 0)));
    s.row("update qsize=0 (removes)", m.update(0, 0));
    s.row("lookup after qsize=0", m.lookup(0));
    s.row("update NOEXIST", m.update_with(0, target(192, 0), 1));
    s.row("update flags=3", m.update_with(0, target(192, 0), 3));
    s.row("update cpu>=max_entries", m.update(2, target(192, 0)));
    s.row("delete", m.delete(0));
    s.row("delete empty", m.delete(0));
    s.row("delete>=max", m.delete(9));
    s.row("iterated key count", m.keys().0.len());
    let (plain, prog) = (program(kernel, ProgType::XDP), attaching(kernel, AttachType::XDP_CPUMAP));
    s.row("update with plain xdp prog", m.update(0, target(192, raw(&plain))));
    s.row("update with XDP_CPUMAP prog", m.update(0, target(192, raw(&prog))));
    let expected = target(192, prog.info().unwrap().id.0.into()).to_ne_bytes().to_vec();
    s.row("lookup with prog", m.lookup(0).is_ok_and(|found| found == expected));
    s.row("lookup_and_delete", m.take(0, 0));
    let wide = create(kernel, MapType::CPUMAP, [4, 4, 64], NONE);
    s.row("update of no possible cpu", Numbers(&wide).update(63, 192));
}

/// Kinds that user space can do little with.
fn limited(kernel: &Kernel, lines: &mut Vec<String>) {
    let kinds = [
        ("ringbuf", MapType::RINGBUF, [0, 0, 4096], NONE),
        ("user_ringbuf", MapType::USER_RINGBUF, [0, 0, 4096], NONE),
        ("perf_event_array", MapType::PERF_EVENT_ARRAY, [4, 4, 4], NONE),
        ("stack_trace", MapType::STACK_TRACE, [4, 80, 4], NONE),
    ];
    for (subject, map_type, shape, flags) in kinds {
        if lacks(kernel, subject) {
            continue;
        }
        let mut s = Script::new(kernel, subject, lines);
        let map = create(kernel, map_type, shape, flags);
        let m = Numbers(&map);
        s.row("lookup key=NULL", m.lookup(0));
        s.row("update NULL key", m.update(0, 1));
        s.row("delete NULL", m.delete(0));
        s.row("next_key", m.next(None));
        if map_type != MapType::STACK_TRACE {
            s.row("take", m.take(0, 0));
        }
        s.row("freeze", map.freeze());
    }
}

/// BTF of a map: `int`, `long` and a structure with a spin lock and an `int`.
fn types(mut s: Script<'_>) {
    use skep_btf::{BtfBuilder, IntEncoding};

    let kernel = s.kernel;
    let mut builder = BtfBuilder::new();
    let int = builder.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let long = builder.add_int("long", 8, IntEncoding::SIGNED).unwrap();
    let lock = builder.add_struct("bpf_spin_lock", 4).unwrap();
    builder.add_member("val", int, 0, 0).unwrap();
    let locked = builder.add_struct("locked", 8).unwrap();
    builder.add_member("lock", lock, 0, 0).unwrap();
    builder.add_member("x", int, 32, 0).unwrap();
    let btf = kernel.btf_load(&builder.encode(skep_asm::Endian::NATIVE, false), None).unwrap();
    let with = |map_type, [key, value, max]: [u32; 3], [key_type, value_type]: [u32; 2], flags| {
        let mut request = MapCreate::new(map_type, key, value, max);
        request.flags = flags;
        request.btf = Some(MapBtf { btf: btf.as_fd(), key_type, value_type });
        kernel.map_create(&request)
    };
    s.row("hash", with(MapType::HASH, [4, 8, 4], [int.0, long.0], NONE));
    s.row("hash key size", with(MapType::HASH, [8, 8, 4], [int.0, long.0], NONE));
    s.row("hash value size", with(MapType::HASH, [4, 4, 4], [int.0, long.0], NONE));
    s.row("hash key id 99", with(MapType::HASH, [4, 8, 4], [99, long.0], NONE));
    s.row("hash zero ids", with(MapType::HASH, [4, 8, 4], [0, 0], NONE));
    s.row("hash without key", with(MapType::HASH, [4, 8, 4], [0, long.0], NONE));
    s.row("array of long keys", with(MapType::ARRAY, [4, 8, 4], [long.0, long.0], NONE));
    s.row("array without key", with(MapType::ARRAY, [4, 8, 1], [0, long.0], NONE));
    s.row("prog_array", with(MapType::PROG_ARRAY, [4, 4, 4], [int.0, int.0], NONE));
    s.row("queue with value only", with(MapType::QUEUE, [0, 8, 4], [0, long.0], NONE));
    s.row("ringbuf", with(MapType::RINGBUF, [0, 0, 4096], [int.0, int.0], NONE));
    s.row("lpm_trie", with(MapType::LPM_TRIE, [8, 8, 4], [long.0, long.0], MapFlags::NO_PREALLOC));
    let storage = |flags| with(MapType::TASK_STORAGE, [4, 4, 0], [int.0, int.0], flags);
    s.row("task_storage", storage(MapFlags::NO_PREALLOC));
    s.row("task_storage preallocated", storage(NONE));
    let info = with(MapType::HASH, [4, 8, 4], [int.0, long.0], NONE).unwrap().info().unwrap();
    s.row("info has types", info.btf_id == btf.info().unwrap().id && info.btf_key_type_id == int.0);

    for (name, map_type) in [("hash+spinlock", MapType::HASH), ("array+spinlock", MapType::ARRAY)] {
        let map = with(map_type, [4, 8, 4], [int.0, locked.0], NONE).unwrap();
        let m = Numbers(&map);
        let value = |x: u32| u64::from_ne_bytes([[0xff; 4], x.to_ne_bytes()].concat().try_into().unwrap());
        s.row(&format!("{name} update ANY (lock bytes ff)"), m.update(1, value(1)));
        s.row(&format!("{name} lookup no flag (lock zeroed?)"), m.lookup(1));
        s.row(&format!("{name} lookup F_LOCK"), m.lookup_with(1, 4));
        s.row(&format!("{name} update F_LOCK"), m.update_with(1, value(3), 4));
        s.row(&format!("{name} update F_LOCK|EXIST"), m.update_with(1, value(3), 6));
        s.row(&format!("{name} update F_LOCK|NOEXIST present"), m.update_with(1, value(3), 5));
        s.row(&format!("{name} update F_LOCK|NOEXIST missing"), m.update_with(2, value(3), 5));
        s.row(&format!("{name} lookup"), m.lookup(1));
        s.row(&format!("{name} freeze"), map.freeze());
    }
    s.row("lru_hash+spinlock", with(MapType::LRU_HASH, [4, 8, 4], [int.0, locked.0], NONE));
    s.row("percpu_hash+spinlock", with(MapType::PERCPU_HASH, [4, 8, 4], [int.0, locked.0], NONE));
}

fn names(mut s: Script<'_>) {
    for name in ["good_name.1", "bad-name", "bad name", "0123456789abcdef", "0123456789abcde", ""] {
        let mut request = MapCreate::new(MapType::ARRAY, 4, 4, 1);
        request.name = name;
        let map = s.kernel.map_create(&request);
        let kept = map.as_ref().is_ok_and(|map| map.info().unwrap().name == name);
        s.row(&format!("create name='{name}'"), map);
        s.row(&format!("info name='{name}'"), kept);
    }
}

fn sizes(kernel: &Kernel, lines: &mut Vec<String>) {
    let try_create = |map_type, [key, value, max]: [u32; 3], flags| {
        let mut request = MapCreate::new(map_type, key, value, max);
        request.flags = flags;
        kernel.map_create(&request)
    };
    let huge = [4, 8, u32::MAX];
    let mut s = Script::new(kernel, "hash", lines);
    s.row("create max_entries=2^32-1 prealloc", try_create(MapType::HASH, huge, NONE));
    s.row("create max_entries=2^32-1 NO_PREALLOC", try_create(MapType::HASH, huge, MapFlags::NO_PREALLOC));
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 4);
    request.flags = MapFlags::NUMA_NODE;
    request.numa_node = 99;
    s.row("create NUMA_NODE node 99", kernel.map_create(&request));
    request.flags = NONE;
    request.numa_node = 1;
    s.row("create numa_node=1 without flag", kernel.map_create(&request));
    request.ifindex = 9999;
    s.row("create map_ifindex=9999", kernel.map_create(&request));
    let mut request = MapCreate::new(MapType::HASH, 4, 8, 4);
    request.map_extra = 1;
    s.row("create map_extra=1", kernel.map_create(&request));
    let mut s = Script::new(kernel, "array", lines);
    s.row("create max_entries=2^32-1", try_create(MapType::ARRAY, huge, NONE));
}

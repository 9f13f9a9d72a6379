//! Maps of programs, maps, perf events, devices and CPUs.

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Reg};
use skep_sys::abi::{AttachType, MapFlags, MapType, PerfEventKind, ProgType};
use skep_sys::request::{MapCreate, PerfEventOpen, PerfTarget, ProgLoad};
use skep_sys::{Kernel, LoadedProgram, MapFd};

use super::keys;
use crate::bodies::{Numbers, Script, create};

const NONE: MapFlags = MapFlags::empty();

pub(super) fn all(kernel: &Kernel, lines: &mut Vec<String>) {
    prog_array(Script::new(kernel, "prog_array", lines));
    perf_event_array(Script::new(kernel, "perf_event_array", lines));
    of_maps(Script::new(kernel, "array_of_maps", lines), MapType::ARRAY_OF_MAPS);
    of_maps(Script::new(kernel, "hash_of_maps", lines), MapType::HASH_OF_MAPS);
    devices(Script::new(kernel, "devmap", lines), MapType::DEVMAP);
    devices(Script::new(kernel, "devmap_hash", lines), MapType::DEVMAP_HASH);
    cpus(Script::new(kernel, "cpumap", lines));
}

pub(super) fn raw(fd: &impl AsFd) -> u64 {
    fd.as_fd().as_raw_fd() as u64
}

fn xdp(kernel: &Kernel, attach_type: AttachType) -> LoadedProgram {
    let insns = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish().unwrap();
    let mut request = ProgLoad::new(ProgType::XDP, &insns, "GPL");
    request.expected_attach_type = attach_type;
    kernel.prog_load(&request, None).unwrap()
}

fn prog_array(mut s: Script<'_>) {
    let map = create(s.kernel, MapType::PROG_ARRAY, [4, 4, 4], NONE);
    s.row("iterate (all idx, set or not)", keys(&map));
}

fn perf_event_array(mut s: Script<'_>) {
    let kernel = s.kernel;
    let map = create(s.kernel, MapType::PERF_EVENT_ARRAY, [4, 4, 4], NONE);
    let m = Numbers(&map);
    s.row("update non-perf fd", m.update(0, raw(&map)));
    s.row("update bad fd", m.update(0, u32::MAX.into()));
    s.row("update NOEXIST", m.update_with(0, raw(&map), 1));
    s.row("update idx>=max", m.update(9, raw(&map)));
    s.row("lookup", m.lookup(0));
    s.row("lookup idx>=max", m.lookup(9));
    s.row("delete empty", m.delete(0));
    s.row("next", keys(&map));
    s.row("lookup_and_delete", m.take(0, 0));
    let open = || {
        let request = PerfEventOpen::new(PerfEventKind::BPF_OUTPUT, PerfTarget::Cpu(0));
        kernel.backend().perf_event_open(&request)
    };
    let Ok(event) = open() else { return };
    s.row("perf_event_open(BPF_OUTPUT)", open());
    s.row("update perf fd", m.update(0, raw(&event)));
    s.row("delete", m.delete(0));
    m.update(0, raw(&event)).unwrap();
    drop(map.try_clone().unwrap());
    s.row("delete after closing a dup (entries dropped on last map-file close only)", m.delete(0));
}

fn of_maps(mut s: Script<'_>, map_type: MapType) {
    let kernel = s.kernel;
    let prototype = create(kernel, MapType::ARRAY, [4, 8, 4], NONE);
    let of = |map: &MapFd| {
        let mut request = MapCreate::new(map_type, 4, 4, 4);
        request.inner_map = Some(map.as_fd());
        kernel.map_create(&request).unwrap()
    };
    let map = of(&prototype);
    if map_type == MapType::ARRAY_OF_MAPS {
        s.row("iterate", keys(&map));
    } else {
        for key in [0, 2, 9] {
            Numbers(&map).update(key, raw(&prototype)).unwrap();
        }
        s.row("iterate", Numbers(&map).keys().0.len());
    }
    let frozen = create(kernel, MapType::ARRAY, [4, 8, 4], NONE);
    frozen.freeze().unwrap();
    let put = Numbers(&of(&prototype)).update(0, raw(&frozen));
    s.row("inner frozen map insert", if put.is_ok() { "0 ok".to_owned() } else { format!("{put:?}") });
}

fn devices(mut s: Script<'_>, map_type: MapType) {
    let kernel = s.kernel;
    let lo = kernel.backend().ifindex("lo".as_ref()).unwrap();
    let map = create(kernel, map_type, [4, 8, 4], NONE);
    let flags = map.info().unwrap().flags.bits();
    s.row("info.map_flags", format!("{flags:#x}"));
    s.row("load xdp expected_attach=XDP_DEVMAP", xdp(kernel, AttachType::XDP_DEVMAP));
    if map_type == MapType::DEVMAP {
        s.row("iterate", keys(&map));
    }
    let device = u64::from(lo);
    if map_type == MapType::DEVMAP_HASH {
        // By bucket, of which there are as many as elements.
        let hash = create(kernel, map_type, [4, 8, 4], NONE);
        for key in [3u32, 0, 9] {
            let value = [lo.to_ne_bytes(), [0; 4]].concat();
            hash.update(&key.to_ne_bytes(), &value, Default::default()).unwrap();
        }
        s.row("iterate", keys(&hash));
    }
    // A value is a device and no program, wherever its bytes are written first to last.
    let value = [lo.to_ne_bytes(), [0; 4]].concat();
    map.update(&3u32.to_ne_bytes(), &value, Default::default()).unwrap();
    let again = map.update(&3u32.to_ne_bytes(), &value, skep_sys::abi::UpdateFlags::NOEXIST);
    s.row("update NOEXIST missing(3)", again);
    let small = create(kernel, map_type, [4, 4, 4], NONE);
    let m = Numbers(&small);
    s.row("val4: update ifindex 1", m.update(if map_type == MapType::DEVMAP { 1 } else { 0 }, device));
    if map_type == MapType::DEVMAP_HASH {
        for key in 1..6 {
            s.row(&format!("val4: fill key {key}"), m.update(key, device));
        }
    }
}

fn cpus(mut s: Script<'_>) {
    let kernel = s.kernel;
    let count = kernel.possible_cpus().unwrap();
    let map = create(kernel, MapType::CPUMAP, [4, 8, 2], NONE);
    s.row("iterate", keys(&map));
    let wide = create(kernel, MapType::CPUMAP, [4, 4, count + 6], NONE);
    s.row("max_entries 8 > possible cpus(2): update cpu 5", Numbers(&wide).update(count + 3, 192));
}

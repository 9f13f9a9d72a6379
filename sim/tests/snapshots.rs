//! Going back to what a simulated kernel was.

use std::path::{Path, PathBuf};

use skep_asm::{Assembler, Insn, Reg, Size};
use skep_sim::{RestoreError, SimKernel, Snapshot, Socket};
use skep_sys::abi::{AttachType, Errno, MapFlags, MapId, MapType, ProgType, RingFlags, UpdateFlags};
use skep_sys::request::{LinkCreate, LinkTarget, MapCreate, ProgLoad};
use skep_sys::ring::RingReader;
use skep_sys::{Kernel, LoadedProgram, MapFd, ObjectKind};
use std::os::fd::{AsFd, AsRawFd};

const ANY: UpdateFlags = UpdateFlags::empty();

fn create(kernel: &Kernel, map_type: MapType, key: u32, value: u32, max: u32) -> MapFd {
    let mut request = MapCreate::new(map_type, key, value, max);
    request.name = "m";
    if map_type == MapType::LPM_TRIE {
        request.flags = MapFlags::NO_PREALLOC;
    }
    kernel.map_create(&request).unwrap_or_else(|errno| panic!("{map_type}: {errno:?}"))
}

fn program(kernel: &Kernel) -> LoadedProgram {
    let insns: Vec<Insn> = Assembler::new().mov64_imm(Reg::R0, 2).exit().finish().unwrap();
    kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None).unwrap()
}

/// Everything that can be asked of a map's elements, in order.
fn contents(map: &MapFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let mut key: Option<Vec<u8>> = None;
    loop {
        let mut next = vec![0; map.shape().key_size as usize];
        if map.next_key(key.as_deref(), &mut next).is_err() {
            return all;
        }
        let mut value = vec![0; map.value_len()];
        if map.lookup(&next, &mut value, ANY).is_ok() {
            all.push((next.clone(), value));
        }
        key = Some(next);
    }
}

fn key(number: u32) -> [u8; 4] {
    number.to_ne_bytes()
}

#[test]
fn tables_are_what_they_were() {
    let kinds = [
        (MapType::HASH, 4, 12, 8),
        (MapType::LRU_HASH, 4, 8, 8),
        (MapType::PERCPU_HASH, 4, 8, 8),
        (MapType::LRU_PERCPU_HASH, 4, 8, 8),
        (MapType::ARRAY, 4, 12, 8),
        (MapType::PERCPU_ARRAY, 4, 8, 8),
        (MapType::LPM_TRIE, 8, 8, 8),
    ];
    for (kind, key_size, value_size, max) in kinds {
        let sim = SimKernel::new();
        let map = create(&Kernel::new(sim.clone()), kind, key_size, value_size, max);
        let key = |number: u32| match kind {
            MapType::LPM_TRIE => [32_u32.to_ne_bytes(), number.to_ne_bytes()].concat(),
            _ => number.to_ne_bytes().to_vec(),
        };
        let set =
            |number: u32, byte: u8| map.update(&key(number), &vec![byte; map.value_len()], ANY).unwrap();
        (0..5).for_each(|number| set(number, number as u8 + 1));
        let before = contents(&map);
        let snapshot = sim.snapshot();
        for _ in 0..2 {
            (3..8).for_each(|number| set(number, 0xee));
            let _ = map.delete(&key(0));
            assert_ne!(contents(&map), before, "{kind}");
            sim.restore(&snapshot).unwrap();
            assert_eq!(contents(&map), before, "{kind}");
        }
        // It goes on as it would have.
        set(6, 1);
        assert_eq!(
            contents(&map).iter().find(|(k, _)| *k == key(6)).unwrap().1,
            vec![1; map.value_len()],
            "{kind}"
        );
    }
}

#[test]
fn the_order_of_use_is_what_it_was() {
    let sim = SimKernel::new();
    let map = create(&Kernel::new(sim.clone()), MapType::LRU_HASH, 4, 4, 3);
    let set = |number| map.update(&key(number), &[0; 4], ANY).unwrap();
    [1, 2, 3, 1].into_iter().for_each(set);
    let snapshot = sim.snapshot();
    let evicted_by = |number| {
        let before = contents(&map);
        set(number);
        let after = contents(&map);
        before.into_iter().map(|(key, _)| key).find(|key| !after.iter().any(|(k, _)| k == key)).unwrap()
    };
    assert_eq!(evicted_by(4), key(2));
    assert_eq!(evicted_by(5), key(3));
    sim.restore(&snapshot).unwrap();
    assert_eq!(evicted_by(4), key(2));
}

#[test]
fn queues_stacks_and_filters_are_what_they_were() {
    for kind in [MapType::QUEUE, MapType::STACK] {
        let sim = SimKernel::new();
        let map = create(&Kernel::new(sim.clone()), kind, 0, 1, 4);
        [1, 2, 3].iter().for_each(|byte| map.update(&[], &[*byte], ANY).unwrap());
        let snapshot = sim.snapshot();
        let pop = || {
            let mut value = [0];
            map.lookup_and_delete(&[], &mut value, ANY).map(|()| value[0]).ok()
        };
        let all: Vec<u8> = std::iter::from_fn(pop).collect();
        sim.restore(&snapshot).unwrap();
        assert_eq!(std::iter::from_fn(pop).collect::<Vec<_>>(), all, "{kind}");
        assert_eq!(all.len(), 3);
    }
    let sim = SimKernel::new();
    let map = create(&Kernel::new(sim.clone()), MapType::BLOOM_FILTER, 0, 4, 4);
    let snapshot = sim.snapshot();
    map.update(&[], &[7; 4], ANY).unwrap();
    map.lookup(&[], &mut [7; 4], ANY).unwrap();
    sim.restore(&snapshot).unwrap();
    assert!(map.lookup(&[], &mut [7; 4], ANY).is_err());
}

#[test]
fn mapped_memory_is_written_in_place() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let mut request = MapCreate::new(MapType::ARRAY, 4, 8, 1);
    request.flags = MapFlags::MMAPABLE;
    let map = kernel.map_create(&request).unwrap();
    let memory = map.mmap(0, 4096, true).unwrap();
    memory.write(0, &[5; 8]).unwrap();
    let snapshot = sim.snapshot();
    memory.write(0, &[6; 8]).unwrap();
    assert_eq!(map.freeze().unwrap_err().errno(), Some(Errno::EBUSY));
    sim.restore(&snapshot).unwrap();
    let mut bytes = [0; 8];
    memory.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [5; 8]);
    // It is mapped as before: the kernel knows of the mapping.
    assert_eq!(map.freeze().unwrap_err().errno(), Some(Errno::EBUSY));
    memory.write(0, &[9; 8]).unwrap();
    assert_eq!(contents(&map)[0].1, [9; 8]);
    drop(memory);
    map.freeze().unwrap();
    assert!(map.update(&key(0), &[0; 8], ANY).is_err());
    sim.restore(&snapshot).unwrap();
    map.update(&key(0), &[0; 8], ANY).unwrap();
}

#[test]
fn pins_ids_and_links_are_what_they_were() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let backend = kernel.backend();
    let map = create(&kernel, MapType::ARRAY, 4, 4, 1);
    let kept = create(&kernel, MapType::ARRAY, 4, 4, 1);
    let xdp = program(&kernel);
    let link =
        kernel.link_create(&LinkCreate::new(xdp.as_fd(), LinkTarget::Ifindex(1), AttachType::XDP)).unwrap();
    backend.create_pin_dir(Path::new("/sys/fs/bpf/d")).unwrap();
    kept.pin("/sys/fs/bpf/d/kept").unwrap();
    kept.update(&key(0), &[4; 4], ANY).unwrap();
    drop(kept);
    let ids = |kind| kernel.ids(kind).collect::<Result<Vec<_>, _>>().unwrap();
    let all = || {
        let kinds = [ObjectKind::Map, ObjectKind::Program, ObjectKind::Btf, ObjectKind::Link];
        (kinds.map(ids), sim.pins(), sim.live())
    };
    let before = all();
    let snapshot = sim.snapshot();

    // What only a snapshot holds is not there.
    backend.unpin(Path::new("/sys/fs/bpf/d/kept")).unwrap();
    backend.remove_pin_dir(Path::new("/sys/fs/bpf/d")).unwrap();
    assert_eq!((ids(ObjectKind::Map), sim.live().maps), (vec![1], 1));
    link.detach().unwrap();
    let other = program(&kernel);
    let free =
        kernel.link_create(&LinkCreate::new(other.as_fd(), LinkTarget::Ifindex(1), AttachType::XDP)).unwrap();

    let refused = sim.restore(&snapshot).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "link (id 2), program `` (id 2) made after the snapshot and still open; drop the handles first"
    );
    drop((other, free));
    sim.restore(&snapshot).unwrap();
    assert_eq!(all(), before);
    assert_eq!(link.info().unwrap().prog_id, xdp.info().unwrap().id);
    let kept = kernel.map_open_pinned("/sys/fs/bpf/d/kept", Default::default()).unwrap();
    assert_eq!(contents(&kept)[0].1, [4; 4]);
    // Ids go on from where they were.
    let next = create(&kernel, MapType::ARRAY, 4, 4, 1);
    assert_eq!(next.info().unwrap().id.0, 3);
    drop((map, next, kept));

    // What was closed since does not come back of itself.
    sim.restore(&snapshot).unwrap();
    assert_eq!(ids(ObjectKind::Map), [2]);
}

#[test]
fn a_ring_and_its_reader() {
    let sim = SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let map = kernel.map_create(&MapCreate::new(MapType::RINGBUF, 0, 0, 4096)).unwrap();
    let submit = |byte: u8| sim.ring_output(&map, &[byte; 8], RingFlags::empty()).unwrap();
    let open = || RingReader::new(map.ring().unwrap()).unwrap();
    let read = |reader: &mut RingReader| {
        let mut all = Vec::new();
        while reader.look(map.as_fd()).unwrap() {
            all.push(reader.record()[0]);
            reader.advance();
        }
        reader.publish();
        all
    };
    submit(1);
    let unread: Snapshot = sim.snapshot();
    let mut reader = open();
    assert_eq!(read(&mut reader), [1]);
    submit(2);
    assert!(matches!(sim.restore(&unread), Err(RestoreError::Ring { .. })));
    let drained = {
        assert_eq!(read(&mut reader), [2]);
        sim.snapshot()
    };
    submit(3);
    sim.restore(&drained).unwrap();
    assert!(read(&mut reader).is_empty());
    submit(4);
    assert_eq!(read(&mut reader), [4]);
    drop(reader);
    sim.restore(&unread).unwrap();
    let mut reader = open();
    assert_eq!(read(&mut reader), [1]);
}

#[test]
fn time_goes_back_and_kernels_are_told_apart() {
    let sim = SimKernel::new();
    let snapshot = sim.snapshot();
    let before = sim.time();
    sim.advance(std::time::Duration::from_secs(1));
    sim.restore(&snapshot).unwrap();
    assert_eq!(sim.time(), before);
    assert_eq!(SimKernel::new().restore(&snapshot), Err(RestoreError::OtherKernel));
}

/// What follows from chance, what is in the network, and who may open a pin, are what they were.
#[test]
fn chance_sockets_and_modes_are_what_they_were() {
    let sim = SimKernel::builder().seed(5).build().unwrap();
    let kernel = Kernel::new(sim.clone());
    let map = create(&kernel, MapType::ARRAY, 4, 8, 1);
    let mut asm = Assembler::new();
    asm.call_helper(7).mov64_reg(Reg::R6, Reg::R0).ld_map_value(Reg::R1, map.as_fd().as_raw_fd(), 0);
    asm.stx(Size::DW, Reg::R1, 0, Reg::R6).mov64_imm(Reg::R0, 2).exit();
    let insns = asm.finish().unwrap();
    let draws = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &insns, "GPL"), None).unwrap();
    let link = kernel.link_create(&LinkCreate::new(draws.as_fd(), LinkTarget::Ifindex(1), AttachType::XDP));
    let link = link.unwrap();
    let draw = || {
        let ran = sim.receive("lo", &[0; 64]).unwrap().programs().len();
        (ran, contents(&map)[0].1.clone())
    };
    let socket = sim.add_socket(Socket::udp("127.0.0.1:9".parse().unwrap()));
    let fd = sim.open_socket(socket).unwrap();
    let sockets = create(&kernel, MapType::SOCKHASH, 4, 8, 8);
    sockets.update_fd(&key(1), fd.as_fd(), ANY).unwrap();
    let path = Path::new("/sys/fs/bpf/m");
    map.pin(path).unwrap();
    kernel.backend().set_pin_mode(path, 0o640).unwrap();
    let snapshot = sim.snapshot();
    let first = [draw(), draw(), draw()];
    assert!(first[0].0 == 1 && first[0] != first[1]);

    link.detach().unwrap();
    kernel.backend().set_pin_mode(path, 0o600).unwrap();
    sim.remove_socket(socket);
    let later = sim.add_socket(Socket::udp("127.0.0.1:10".parse().unwrap()));
    sim.restore(&snapshot).unwrap();
    assert_eq!([draw(), draw(), draw()], first);
    assert_eq!(kernel.backend().pin_attributes(path).unwrap().mode, 0o640);
    assert_eq!(contents(&sockets), [(key(1).to_vec(), socket.0.to_ne_bytes().to_vec())]);
    assert!(sim.socket(later).is_none());
    // Numbers go on from where they were.
    assert_eq!(sim.add_socket(Socket::udp("127.0.0.1:11".parse().unwrap())), later);
}

/// Many threads use one kernel at once, from all sides: nothing panics, waits for ever or is left behind.
#[test]
fn a_kernel_is_used_from_many_sides() {
    let sim = SimKernel::new();
    let calls = sim.log_calls();
    let pin = |number: u64| PathBuf::from(format!("/sys/fs/bpf/p{}", number % 4));
    let work = &|seed: u64| {
        let kernel = Kernel::new(sim.clone());
        let mut random = seed;
        let (mut maps, mut programs, mut links) = (Vec::<MapFd>::new(), Vec::new(), Vec::new());
        for _ in 0..400 {
            // As good as any (xorshift).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = random >> 32;
            match random % 16 {
                0 => maps.push(create(&kernel, MapType::HASH, 4, 8, 8)),
                1 => maps.push(kernel.map_create(&MapCreate::new(MapType::RINGBUF, 0, 0, 4096)).unwrap()),
                2 => programs.push(program(&kernel)),
                3 => links.extend(programs.last().and_then(|program: &LoadedProgram| {
                    let target = LinkTarget::Ifindex(1);
                    kernel.link_create(&LinkCreate::new(program.as_fd(), target, AttachType::XDP)).ok()
                })),
                4 => _ = links.pop(),
                5 => _ = programs.pop(),
                6 => _ = maps.pop(),
                7 => _ = maps.last().map(|map| map.pin(pin(number))),
                8 => _ = kernel.backend().unpin(&pin(number)),
                9 => _ = kernel.backend().rename_pin(&pin(number), &pin(number + 1)),
                10 => maps.extend(kernel.map_open_pinned(pin(number), Default::default())),
                11 => _ = sim.receive("lo", &[0; 64]).unwrap(),
                12 => kernel.ids(ObjectKind::Map).flatten().for_each(|id| {
                    _ = kernel.map_by_id(MapId(id), Default::default());
                }),
                13 => {
                    // It is refused where another thread has made something since.
                    let snapshot = sim.snapshot();
                    let _ = sim.restore(&snapshot);
                }
                14 => _ = (sim.live(), sim.advance(std::time::Duration::from_nanos(1))),
                _ => maps.iter().for_each(|map| {
                    let _ = map.update(&key(number as u32 % 16), &[1; 8], ANY);
                    let _ = sim.ring_output(map, &[1; 8], RingFlags::empty());
                }),
            }
            maps.truncate(16);
            programs.truncate(8);
        }
    };
    std::thread::scope(|scope| {
        (1..=4).for_each(|seed: u64| _ = scope.spawn(move || work(seed * 0x9e37_79b9)));
    });
    for path in sim.pins() {
        Kernel::new(sim.clone()).backend().unpin(&path).unwrap();
    }
    assert_eq!(sim.live(), Default::default());
    assert!(calls.text().lines().count() > 400);
}

//! Programs that try to use up the memory and the time of the machine.

#![allow(missing_docs)]

use std::os::fd::{AsFd, AsRawFd};

use skep_asm::{Assembler, Cond, Insn, Reg, Size};
use skep_btf::{BtfBuilder, IntEncoding, Linkage};
use skep_sim::{Builder, SimKernel};
use skep_sys::abi::{Errno, MapFlags, MapType, ProgType, UpdateFlags};
use skep_sys::request::{MapCreate, ProgLoad, Records, TestRun};
use skep_sys::{Kernel, MapFd};

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const SEND_SIGNAL: i32 = 109;
const PROBE_READ_KERNEL: i32 = 113;
const FOR_EACH_MAP_ELEM: i32 = 164;
const STRNCMP: i32 = 182;
/// What the values of maps may take here.
const MEMORY: usize = 16 << 20;

fn kernel(with: impl FnOnce(Builder) -> Builder) -> (SimKernel, Kernel) {
    let sim = with(SimKernel::builder().host_memory(MEMORY)).build().unwrap();
    (sim.clone(), Kernel::new(sim))
}

/// What a program returns, or what is wrong with it. What follows its first `exit` is a function of its own.
fn run(sim: &SimKernel, kernel: &Kernel, asm: &Assembler) -> Result<i32, String> {
    let code = asm.finish().unwrap();
    let mut load = ProgLoad::new(ProgType::RAW_TRACEPOINT, &code, "GPL");
    // Callbacks need types for their functions.
    let mut types = BtfBuilder::new();
    let int = types.add_int("int", 4, IntEncoding::SIGNED).unwrap();
    let proto = types.add_func_proto(int).unwrap();
    let mut records = Vec::new();
    let callback = code.iter().position(Insn::is_exit).unwrap() as u32 + 1;
    let places = [("entry", 0), ("each", callback)];
    for (name, at) in places.into_iter().filter(|(_, at)| *at < code.len() as u32) {
        records.extend(at.to_ne_bytes());
        records.extend(types.add_func(name, Linkage::STATIC, proto).unwrap().0.to_ne_bytes());
    }
    let types = kernel.btf_load(types.finish().unwrap().bytes(), None).unwrap();
    load.btf = Some(types.as_fd());
    load.func_info = Records { record_size: 8, bytes: &records };
    let program = kernel.prog_load(&load, None).unwrap();
    let result = program.test_run(&mut TestRun::default());
    match sim.last_fault() {
        Some(fault) => Err(fault.to_string()),
        None => Ok(result.unwrap().retval as i32),
    }
}

/// Does something with keys 0, `step`, 2 * `step` … in `r6` until it leaves with `done`. The key is at `r10 - 4`.
fn for_keys(asm: &mut Assembler, step: i32, with: impl FnOnce(&mut Assembler)) {
    asm.mov64_imm(Reg::R6, 0).label("next").stx(Size::W, Reg::R10, -4, Reg::R6);
    with(asm);
    asm.add64_imm(Reg::R6, step).ja("next").label("done").exit();
}

fn fd(map: &MapFd) -> i32 {
    map.as_fd().as_raw_fd()
}

#[test]
fn a_hash_is_not_filled_beyond_the_memory_there_is() {
    let (sim, kernel) = kernel(|builder| builder);
    let values = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 1 << 16, 1)).unwrap();
    for kind in [MapType::HASH, MapType::LRU_HASH, MapType::LPM_TRIE] {
        let mut create =
            MapCreate::new(kind, if kind == MapType::LPM_TRIE { 8 } else { 4 }, 1 << 16, 1 << 20);
        create.flags = if kind == MapType::LRU_HASH { create.flags } else { MapFlags::NO_PREALLOC };
        let map = kernel.map_create(&create).unwrap();
        let mut asm = Assembler::new();
        for_keys(&mut asm, 1, |asm| {
            // A trie's key is the length of the prefix, and then the rest.
            asm.st(Size::W, Reg::R10, -8, 32).ld_map_fd(Reg::R1, fd(&map));
            asm.mov64_reg(Reg::R2, Reg::R10);
            asm.add64_imm(Reg::R2, if kind == MapType::LPM_TRIE { -8 } else { -4 });
            asm.ld_map_value(Reg::R3, fd(&values), 0).mov64_imm(Reg::R4, 0).call_helper(UPDATE);
            asm.jmp64_imm(Cond::Ne, Reg::R0, 0, "done");
        });
        assert_eq!(run(&sim, &kernel, &asm), Ok(-Errno::ENOMEM.0), "{kind}");
        // What goes makes room.
        let key = first_key(&map);
        map.delete(&key).unwrap();
        map.update(&key, &[1; 1 << 16], UpdateFlags::empty()).unwrap();
    }
}

/// The first key of a map.
fn first_key(map: &MapFd) -> Vec<u8> {
    let mut key = vec![0; map.info().unwrap().key_size as usize];
    map.next_key(None, &mut key).unwrap();
    key
}

#[test]
fn elements_of_an_array_are_not_there_when_there_is_no_memory() {
    let (sim, kernel) = kernel(|builder| builder);
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 64, 1 << 27)).unwrap();
    let mut asm = Assembler::new();
    for_keys(&mut asm, 1 << 14, |asm| {
        asm.ld_map_fd(Reg::R1, fd(&map)).mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -4);
        asm.call_helper(LOOKUP)
            .jmp64_imm(Cond::Ne, Reg::R0, 0, "go_on")
            .mov64_reg(Reg::R0, Reg::R6)
            .ja("done");
        asm.label("go_on");
    });
    let last = run(&sim, &kernel, &asm).unwrap();
    assert!((1..=16 << 14).contains(&last), "{last}");
    // Those that are there can be written on.
    map.update(&0u32.to_ne_bytes(), &[1; 64], UpdateFlags::empty()).unwrap();
    // The memory is there again once the map is gone.
    drop(map);
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 64, 16)).unwrap();
    map.update(&0u32.to_ne_bytes(), &[1; 64], UpdateFlags::empty()).unwrap();
}

#[test]
fn going_through_a_huge_array_ends_with_the_budget() {
    let (sim, kernel) = kernel(|builder| builder.budget(200_000));
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 8, 1 << 30)).unwrap();
    let mut asm = Assembler::new();
    asm.ld_map_fd(Reg::R1, fd(&map)).ld_func(Reg::R2, "each").mov64_imm(Reg::R3, 0).mov64_imm(Reg::R4, 0);
    asm.call_helper(FOR_EACH_MAP_ELEM).exit();
    asm.label("each").mov64_imm(Reg::R0, 0).exit();
    let fault = run(&sim, &kernel, &asm).unwrap_err();
    assert!(fault.contains("200000 instructions"), "{fault}");
}

#[test]
fn what_is_kept_of_a_run_counts_as_work() {
    let (sim, kernel) = kernel(|builder| builder.budget(100_000));
    let mut asm = Assembler::new();
    for_keys(&mut asm, 1, |asm| {
        asm.mov64_imm(Reg::R1, 9).call_helper(SEND_SIGNAL).jmp64_imm(Cond::Eq, Reg::R0, 1, "done");
    });
    let fault = run(&sim, &kernel, &asm).unwrap_err();
    assert!(fault.contains("100000 instructions"), "{fault}");
}

/// What is wrong with a program that calls a helper 100 times on the value of an array, within 100,000 instructions.
fn hundred_times(value: &[u8], call: impl FnOnce(&mut Assembler, &MapFd)) -> Result<i32, String> {
    let (sim, kernel) = kernel(|builder| builder.budget(100_000));
    let map = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, value.len() as u32, 1)).unwrap();
    map.update(&0u32.to_ne_bytes(), value, UpdateFlags::empty()).unwrap();
    let mut asm = Assembler::new();
    asm.mov64_imm(Reg::R6, 0).label("next");
    call(&mut asm, &map);
    asm.add64_imm(Reg::R6, 1).jmp64_imm(Cond::Lt, Reg::R6, 100, "next").mov64_imm(Reg::R0, 0).exit();
    run(&sim, &kernel, &asm)
}

#[test]
fn long_copies_count_as_work() {
    let copy = |len: i32| {
        hundred_times(&[1; 1 << 16], |asm, map| {
            asm.ld_map_value(Reg::R1, fd(map), 0).mov64_imm(Reg::R2, len).mov64_reg(Reg::R3, Reg::R1);
            asm.call_helper(PROBE_READ_KERNEL);
        })
    };
    assert_eq!(copy(64), Ok(0));
    let fault = copy(1 << 16).unwrap_err();
    assert!(fault.contains("100000 instructions"), "{fault}");
}

#[test]
fn long_strings_count_as_work() {
    let compare = |len: i32| {
        hundred_times(&[1; 1 << 12], |asm, map| {
            asm.ld_map_value(Reg::R1, fd(map), 0).mov64_imm(Reg::R2, len).mov64_reg(Reg::R3, Reg::R1);
            asm.call_helper(STRNCMP);
        })
    };
    assert_eq!(compare(64), Ok(0));
    let fault = compare(1 << 12).unwrap_err();
    assert!(fault.contains("100000 instructions"), "{fault}");
}

#[test]
fn searches_in_a_trie_count_as_work() {
    const BYTES: usize = 256;
    let search = |lengths: u32| {
        let (sim, kernel) = kernel(|builder| builder.budget(100_000));
        let mut create = MapCreate::new(MapType::LPM_TRIE, 4 + BYTES as u32, 8, 1 << 12);
        create.flags = MapFlags::NO_PREALLOC;
        let trie = kernel.map_create(&create).unwrap();
        // A prefix of each length that holds none of what is looked for.
        for length in 1..=lengths {
            let mut key = [0; 4 + BYTES];
            key[..4].copy_from_slice(&length.to_ne_bytes());
            trie.update(&key, &[0; 8], UpdateFlags::empty()).unwrap();
        }
        let keys = kernel.map_create(&MapCreate::new(MapType::ARRAY, 4, 4 + BYTES as u32, 1)).unwrap();
        let wanted = [&(8 * BYTES as u32).to_ne_bytes()[..], &[0xff; BYTES]].concat();
        keys.update(&0u32.to_ne_bytes(), &wanted, UpdateFlags::empty()).unwrap();
        let mut asm = Assembler::new();
        asm.mov64_imm(Reg::R6, 0).label("next");
        asm.ld_map_fd(Reg::R1, fd(&trie)).ld_map_value(Reg::R2, fd(&keys), 0).call_helper(LOOKUP);
        asm.jmp64_imm(Cond::Ne, Reg::R0, 0, "done").add64_imm(Reg::R6, 1);
        asm.jmp64_imm(Cond::Lt, Reg::R6, 100, "next").mov64_imm(Reg::R0, 0).label("done").exit();
        run(&sim, &kernel, &asm)
    };
    assert_eq!(search(8), Ok(0));
    let fault = search(8 * BYTES as u32).unwrap_err();
    assert!(fault.contains("100000 instructions"), "{fault}");
}

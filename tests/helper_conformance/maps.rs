use std::os::fd::AsFd;

use skep::asm::{Reg, Size};
use skep::map::Map;
use skep::sys::abi::{Errno, MapFlags, MapType, ProgType, UpdateFlags};
use skep::sys::request::MapCreate;

use super::Arg::{Data, Func, Imm, Map as M, Stack};
use super::{Script, World, errno, has_helper, map};

const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const PUSH: i32 = 87;
const POP: i32 = 88;
const PEEK: i32 = 89;
const FOR_EACH: i32 = 164;
const LOOKUP_PERCPU: i32 = 195;

const ENOENT: u64 = errno(Errno::ENOENT);
const EEXIST: u64 = errno(Errno::EEXIST);
const E2BIG: u64 = errno(Errno::E2BIG);
const EINVAL: u64 = errno(Errno::EINVAL);
const NULL: u64 = u64::MAX;

pub(super) fn elements(world: &World<'_>) {
    for kind in [MapType::HASH, MapType::LRU_HASH] {
        let hash = map(world, kind, 4, 8, 2);
        let mut script = Script::new(world);
        let update = |script: &mut Script, key: u64, value: u64, flags: i64| {
            script.stack(-8, key).stack(-16, value);
            script.call(UPDATE, &[M(&hash), Stack(-8), Stack(-16), Imm(flags)]).note();
        };
        script.stack(-8, 7);
        script.call(LOOKUP, &[M(&hash), Stack(-8)]).note_target();
        script.call(DELETE, &[M(&hash), Stack(-8)]).note();
        update(&mut script, 7, 70, 2);
        update(&mut script, 7, 71, 0);
        update(&mut script, 7, 72, 1);
        update(&mut script, 7, 73, 2);
        update(&mut script, 7, 74, 3);
        update(&mut script, 7, 74, 4);
        script.call(LOOKUP, &[M(&hash), Stack(-8)]).note_target();
        update(&mut script, 8, 80, 1);
        script.call(DELETE, &[M(&hash), Stack(-8)]).note();
        script.call(DELETE, &[M(&hash), Stack(-8)]).note();
        let noted = script.exit(0).run_wide(world);
        assert_eq!(noted, [NULL, ENOENT, ENOENT, 0, EEXIST, 0, EINVAL, EINVAL, 73, 0, 0, ENOENT], "{kind}");
        assert_eq!(hash.lookup(&7u32.to_ne_bytes()).unwrap(), Some(73u64.to_ne_bytes().to_vec()));
    }

    // A full one, and one where values are written through the pointer.
    let hash = map(world, MapType::HASH, 4, 8, 1);
    hash.update(&1u32.to_ne_bytes(), &5u64.to_ne_bytes(), UpdateFlags::empty()).unwrap();
    let mut script = Script::new(world);
    script.stack(-8, 2).stack(-16, 0);
    script.call(UPDATE, &[M(&hash), Stack(-8), Stack(-16), Imm(0)]).note();
    script.stack(-8, 1).call(LOOKUP, &[M(&hash), Stack(-8)]);
    let asm = script.builder.asm();
    asm.jmp64_imm(skep::asm::Cond::Eq, Reg::R0, 0, "none").st(Size::DW, Reg::R0, 0, 6).label("none");
    assert_eq!(script.exit(0).run_wide(world), [E2BIG]);
    assert_eq!(hash.lookup(&1u32.to_ne_bytes()).unwrap(), Some(6u64.to_ne_bytes().to_vec()));

    let mut request = MapCreate::new(MapType::LPM_TRIE, 8, 8, 1);
    request.flags = MapFlags::NO_PREALLOC;
    let trie = Map::create(world.kernel, &request).unwrap();
    let mut script = Script::new(world);
    // Lengths of prefixes and addresses.
    let prefix = |length: u32, address: [u8; 4]| {
        let [a, b, c, d] = length.to_ne_bytes();
        let [e, f, g, h] = address;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    script.stack(-8, prefix(8, [10, 0, 0, 0])).stack(-16, 8);
    script.call(UPDATE, &[M(&trie), Stack(-8), Stack(-16), Imm(0)]).note();
    script.stack(-8, prefix(32, [10, 1, 2, 3])).call(LOOKUP, &[M(&trie), Stack(-8)]).note_target();
    script.stack(-8, prefix(32, [11, 1, 2, 3])).call(LOOKUP, &[M(&trie), Stack(-8)]).note_target();
    script.call(UPDATE, &[M(&trie), Stack(-8), Stack(-16), Imm(0)]).note();
    script.call(DELETE, &[M(&trie), Stack(-8)]).note();
    assert_eq!(script.exit(0).run_wide(world), [0, 8, NULL, errno(Errno::ENOSPC), ENOENT]);
}

pub(super) fn arrays(world: &World<'_>) {
    let array = map(world, MapType::ARRAY, 4, 8, 2);
    let mut script = Script::new(world);
    script.stack(-16, 9);
    for (key, flags) in [(0, 0), (0, 1), (1, 2), (1, 3), (2, 0), (2, 1)] {
        script.stack(-8, key);
        script.call(UPDATE, &[M(&array), Stack(-8), Stack(-16), Imm(flags)]).note();
    }
    script.call(LOOKUP, &[M(&array), Stack(-8)]).note_target();
    script.call(DELETE, &[M(&array), Stack(-8)]).note();
    script.stack(-8, 1);
    script.call(DELETE, &[M(&array), Stack(-8)]).note();
    script.call(LOOKUP, &[M(&array), Stack(-8)]).note_target();
    let noted = script.exit(0).run_wide(world);
    assert_eq!(noted, [0, EEXIST, 0, EINVAL, E2BIG, E2BIG, NULL, EINVAL, EINVAL, 9]);
}

pub(super) fn queues(world: &World<'_>) {
    for (kind, first, second) in [(MapType::QUEUE, 1, 2), (MapType::STACK, 2, 1)] {
        let queue = map(world, kind, 0, 8, 2);
        let mut script = Script::new(world);
        script.stack(-8, 77);
        script.call(PEEK, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        script.stack(-8, 77);
        script.call(POP, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        for (value, flags) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 3)] {
            script.stack(-8, value).call(PUSH, &[M(&queue), Stack(-8), Imm(flags)]).note();
        }
        script.call(PEEK, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        script.call(POP, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        script.call(POP, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        script.call(POP, &[M(&queue), Stack(-8)]).note().note_stack(-8);
        let noted = script.exit(0).run_wide(world);
        // What is asked for in vain is zero afterwards.
        let empty = [ENOENT, 0, ENOENT, 0];
        let pushed = [0, 0, E2BIG, EINVAL, EINVAL];
        let popped = [0, first, 0, first, 0, second, ENOENT, 0];
        assert_eq!(noted, [&empty[..], &pushed, &popped].concat(), "{kind}");
    }

    // With `BPF_EXIST` there is always room.
    let queue = map(world, MapType::QUEUE, 0, 8, 1);
    let mut script = Script::new(world);
    script.stack(-8, 1).call(PUSH, &[M(&queue), Stack(-8), Imm(2)]).note();
    script.stack(-8, 2).call(PUSH, &[M(&queue), Stack(-8), Imm(2)]).note();
    script.call(POP, &[M(&queue), Stack(-8)]).note().note_stack(-8);
    assert_eq!(script.exit(0).run_wide(world), [0, 0, 0, 2]);
}

pub(super) fn bloom_filters(world: &World<'_>) {
    if !has_helper(world, "bloom_filters", 178, ProgType::SOCKET_FILTER)
        || world.kernel.has(skep::sys::Feature::MapType(MapType::BLOOM_FILTER)).is_unsupported()
    {
        return;
    }
    let filter = map(world, MapType::BLOOM_FILTER, 0, 8, 16);
    let mut script = Script::new(world);
    // Not on the stack: Linux 7.2 believes that a look writes there, and refuses what it takes for unset.
    script.data(0, &5u64.to_ne_bytes());
    script.call(PEEK, &[M(&filter), Data(0)]).note();
    script.call(PUSH, &[M(&filter), Data(0), Imm(1)]).note();
    script.call(PUSH, &[M(&filter), Data(0), Imm(0)]).note();
    script.call(PEEK, &[M(&filter), Data(0)]).note();
    assert_eq!(script.exit(0).run_wide(world), [ENOENT, EINVAL, 0, 0]);
    assert_eq!(script.shared(0, 8), 5u64.to_ne_bytes());
}

pub(super) fn per_cpu(world: &World<'_>) {
    let cpus = world.kernel.possible_cpus().unwrap() as usize;
    for (kind, exists) in [(MapType::PERCPU_ARRAY, true), (MapType::PERCPU_HASH, false)] {
        let values = map(world, kind, 4, 8, 1);
        let mut script = Script::new(world);
        script.stack(-8, 0).stack(-16, 44);
        script.call(LOOKUP, &[M(&values), Stack(-8)]).note_target();
        script.call(UPDATE, &[M(&values), Stack(-8), Stack(-16), Imm(0)]).note();
        script.call(LOOKUP, &[M(&values), Stack(-8)]).note_target();
        assert_eq!(script.exit(0).run_wide(world), [if exists { 0 } else { NULL }, 0, 44], "{kind}");
        // It writes the value of its own CPU.
        let all = values.lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
        let all: Vec<u64> = all.chunks_exact(8).map(super::number).collect();
        assert_eq!((all.len(), all.iter().sum::<u64>()), (cpus, 44));

        if !has_helper(world, "per_cpu", LOOKUP_PERCPU, ProgType::SOCKET_FILTER) {
            continue;
        }
        let mut each = Vec::new();
        (0..cpus as u64).for_each(|cpu| each.extend((100 + cpu).to_ne_bytes()));
        values.update(&0u32.to_ne_bytes(), &each, UpdateFlags::empty()).unwrap();
        let mut script = Script::new(world);
        script.stack(-8, 0);
        for cpu in [0, cpus as i64 - 1, cpus as i64, 100_000] {
            script.call(LOOKUP_PERCPU, &[M(&values), Stack(-8), Imm(cpu)]).note_target();
        }
        assert_eq!(script.exit(0).run_wide(world), [100, 99 + cpus as u64, NULL, NULL], "{kind}");
    }
}

pub(super) fn inner_maps(world: &World<'_>) {
    let inner = map(world, MapType::ARRAY, 4, 8, 1);
    inner.update(&0u32.to_ne_bytes(), &12u64.to_ne_bytes(), UpdateFlags::empty()).unwrap();
    for kind in [MapType::ARRAY_OF_MAPS, MapType::HASH_OF_MAPS] {
        let mut request = MapCreate::new(kind, 4, 4, 2);
        request.inner_map = Some(inner.as_map_fd().as_fd());
        let outer = Map::create(world.kernel, &request).unwrap();
        outer.update_fd(&1u32.to_ne_bytes(), inner.as_map_fd(), UpdateFlags::empty()).unwrap();
        let mut script = Script::new(world);
        script.stack(-8, 0).call(LOOKUP, &[M(&outer), Stack(-8)]).note_if_set();
        script.stack(-8, 1).stack(-16, 0).call(LOOKUP, &[M(&outer), Stack(-8)]);
        let asm = script.builder.asm();
        asm.jmp64_imm(skep::asm::Cond::Eq, Reg::R0, 0, "no").mov64_reg(Reg::R1, Reg::R0);
        asm.mov64_reg(Reg::R2, Reg::R10).add64_imm(Reg::R2, -16).call_helper(LOOKUP).label("no");
        script.note_target();
        assert_eq!(script.exit(0).run_wide(world), [0, 12], "{kind}");
    }
}

pub(super) fn every_element(world: &World<'_>) {
    if !has_helper(world, "every_element", FOR_EACH, ProgType::SOCKET_FILTER) {
        return;
    }
    let array = map(world, MapType::ARRAY, 4, 8, 3);
    let hash = map(world, MapType::HASH, 4, 8, 3);
    for key in 0..3u32 {
        let value = u64::from(key + 1) * 10;
        array.update(&key.to_ne_bytes(), &value.to_ne_bytes(), UpdateFlags::empty()).unwrap();
        hash.update(&key.to_ne_bytes(), &value.to_ne_bytes(), UpdateFlags::empty()).unwrap();
    }
    let mut script = Script::new(world);
    // The context counts keys and values.
    for map in [&array, &hash] {
        script.stack(-8, 0);
        script.call(FOR_EACH, &[M(map), Func("sum"), Stack(-8), Imm(0)]).note().note_stack(-8);
    }
    script.call(FOR_EACH, &[M(&array), Func("stop"), Imm(0), Imm(0)]).note();
    script.call(FOR_EACH, &[M(&array), Func("stop"), Imm(0), Imm(1)]).note();
    script.call(FOR_EACH, &[M(&hash), Func("remove"), Imm(0), Imm(0)]).note();
    script.call(FOR_EACH, &[M(&hash), Func("remove"), Imm(0), Imm(0)]).note();
    script.exit(0);
    script.function("sum");
    let asm = script.builder.asm();
    asm.ldx(Size::DW, Reg::R0, Reg::R4, 0).ldx(Size::W, Reg::R1, Reg::R2, 0).ldx(
        Size::DW,
        Reg::R3,
        Reg::R3,
        0,
    );
    asm.add64_reg(Reg::R0, Reg::R1).add64_reg(Reg::R0, Reg::R3).stx(Size::DW, Reg::R4, 0, Reg::R0);
    script.exit(0);
    script.function("stop").exit(1);
    script.function("remove");
    script.builder.asm().call_helper(DELETE);
    script.exit(0);
    let noted = script.run_wide(world);
    assert_eq!(noted, [3, 63, 3, 63, 1, EINVAL, 3, 0]);
}

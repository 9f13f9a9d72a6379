//! Random operations on maps of every kind, on the running kernel and on the simulated one: both answer the same.
//!
//! A difference is made as short as it can be, and printed with its seed. `SKEP_FUZZ_SEED` and `SKEP_FUZZ_SEQUENCES` (of each
//! kind) make another or a longer run, and `SKEP_FUZZ_KIND` one of a single kind. Not compared is:
//!
//! - the order of hash tables, of which elements are compared as a set;
//! - which elements an LRU map drops: `lru_maps_keep_their_contract` says what is promised;
//! - whether a bloom filter claims to hold a value that it was not given;
//! - that perf events go with the descriptor of the map that they were set by: on the simulated kernel they go with the last;
//! - how many CPUs a kernel is built for, which bounds CPU maps;
//! - readiness of maps that are no rings: a simulated descriptor is never in error.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::print_stdout)]

mod ops;
#[path = "../../tests/support/kernel.rs"]
mod support;

use ops::generate::{KINDS, Maker, Random, doubtful, spec};
use ops::play::{NOT_HERE, make, play};
use ops::{Key, Op, Spec, Value};
use skep_btf::Kind;
use skep_sim::SimKernel;
use skep_sys::Kernel;
use skep_sys::abi::{MapFlags, MapType, UpdateFlags};
use skep_sys::request::MapCreate;

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
}

/// The running kernel, if it is one that the simulated kernel is made after.
fn linux(name: &str) -> Option<Kernel> {
    let kernel = support::linux(name)?;
    let skip = |reason: &str| support::skip(name, reason);
    // What came last into the kernel that the simulated one is like, and what came right after that.
    let has = |name: &str| kernel.btf().is_ok_and(|btf| btf.find(name.as_bytes(), Kind::STRUCT).is_some());
    if !has("bpf_task_work") || !has("bpf_res_spin_lock") {
        skip("this kernel has no bpf_task_work");
        return None;
    }
    let map = kernel.map_create(&MapCreate::new(MapType::PERCPU_ARRAY, 4, 8, 1)).unwrap();
    let one = UpdateFlags::from_bits_retain(8);
    if map.update(&[0; 4], &vec![0; map.value_len_with(one)], one).is_ok() {
        skip("this kernel takes BPF_F_CPU, the simulated one does not");
        return None;
    }
    Some(kernel)
}

fn simulated(kernel: &Kernel) -> Kernel {
    let cpus = kernel.possible_cpus().unwrap();
    Kernel::new(SimKernel::builder().cpus(cpus).build().unwrap())
}

/// The first place where both differ, if there is one: what was tried, and both answers.
fn difference(linux: &Kernel, sim: &Kernel, spec: &Spec, ops: &[Op]) -> Option<(usize, String, String)> {
    let (real, simulated) = (play(linux, spec, ops), play(sim, spec, ops));
    if real.0 == NOT_HERE || simulated.0 == NOT_HERE {
        return None;
    }
    if real.0 != simulated.0 {
        return Some((0, real.0, simulated.0));
    }
    let pairs = real.1.into_iter().zip(simulated.1).enumerate();
    let mut other = pairs.filter(|(_, (real, sim))| real != sim && real != NOT_HERE && sim != NOT_HERE);
    other.next().map(|(at, (real, sim))| (at, real, sim))
}

/// Leaves out what is not needed for a difference.
fn shrink(linux: &Kernel, sim: &Kernel, spec: &Spec, mut ops: Vec<Op>) -> Vec<Op> {
    if let Some((at, ..)) = difference(linux, sim, spec, &ops) {
        ops.truncate(at + 1);
    }
    let mut size = ops.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + size).min(ops.len()));
            if difference(linux, sim, spec, &fewer).is_some() {
                ops = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    ops
}

fn report(linux: &Kernel, sim: &Kernel, seed: u64, spec: &Spec, ops: Vec<Op>) -> String {
    let ops = shrink(linux, sim, spec, ops);
    let Some((at, real, simulated)) = difference(linux, sim, spec, &ops) else {
        return format!("seed {seed}: == {spec}: it came only once\n");
    };
    let mut text = format!("seed {seed}: == {spec}\n");
    for op in ops.get(..=at).unwrap_or_default() {
        text += &format!("    {op}\n");
    }
    text + &format!("  Linux: {real}\n  simulated: {simulated}\n")
}

#[test]
fn both_kernels_answer_the_same() {
    let Some(linux) = linux("both_kernels_answer_the_same") else { return };
    let seed = setting("SKEP_FUZZ_SEED", 0);
    let sequences = setting("SKEP_FUZZ_SEQUENCES", 16);
    let only = std::env::var("SKEP_FUZZ_KIND").ok();
    let mut found = Vec::new();
    let mut count = 0;
    for kind in KINDS {
        let name = kind.to_string();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let mut differ = 0;
        for sequence in 0..sequences {
            let own = seed.wrapping_add(sequence) ^ u64::from(kind.0) << 40;
            let mut random = Random::new(own);
            let spec = spec(kind, &mut random);
            let length = 10 + random.below(40) as usize;
            let ops = Maker::new(&spec, &mut random).ops(length);
            // Descriptors that are closed are noticed when there are many, so each sequence has a kernel of its own.
            let sim = simulated(&linux);
            count += ops.len();
            let Some(first) = difference(&linux, &sim, &spec, &ops) else { continue };
            // Memory that a kernel has not at hand for a moment makes no difference.
            if difference(&linux, &simulated(&linux), &spec, &ops).is_none() {
                println!("came only once: seed {own}: == {spec}: {first:?}");
            } else {
                found.push(report(&linux, &sim, seed.wrapping_add(sequence), &spec, ops));
                differ += 1;
                if differ == 3 {
                    break;
                }
            }
        }
    }
    println!("{count} operations");
    assert!(found.is_empty(), "{}", found.concat());
}

#[test]
fn both_kernels_make_the_same_maps() {
    let Some(linux) = linux("both_kernels_make_the_same_maps") else { return };
    let seed = setting("SKEP_FUZZ_SEED", 0);
    let mut found = Vec::new();
    for kind in KINDS {
        for at in 0..setting("SKEP_FUZZ_SEQUENCES", 16) * 2 {
            let spec = doubtful(kind, &mut Random::new(seed.wrapping_add(at) ^ u64::from(kind.0) << 40));
            let sim = simulated(&linux);
            let (real, simulated) = (make(&linux, &spec).0, make(&sim, &spec).0);
            if real != simulated && real != NOT_HERE && simulated != NOT_HERE {
                found.push(format!("== {spec}\n  Linux: {real}\n  simulated: {simulated}\n"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.concat());
}

#[test]
fn lru_maps_keep_their_contract() {
    let Some(linux) = linux("lru_maps_keep_their_contract") else { return };
    let sim = simulated(&linux);
    for kernel in [&linux, &sim] {
        for (kind, flags) in [
            (MapType::LRU_HASH, MapFlags::empty()),
            (MapType::LRU_HASH, MapFlags::NO_COMMON_LRU),
            (MapType::LRU_PERCPU_HASH, MapFlags::empty()),
        ] {
            for max in [1, 3, 10, 100] {
                contract(kernel, kind, flags, max);
            }
        }
    }
}

/// An update never fails, there are never more elements than the map may have, what was just written is there, and what is
/// there is what was written last.
fn contract(kernel: &Kernel, kind: MapType, flags: MapFlags, max: u32) {
    let mut spec = Spec::new(kind, 4, 8, max);
    spec.flags = flags;
    let (created, world) = make(kernel, &spec);
    assert_eq!(created, "ok", "{spec}");
    let mut world = world.expect("it was made");
    let mut random = Random::new(u64::from(max));
    let mut last = std::collections::BTreeMap::new();
    for step in 0..max * 5 {
        let key = Key::Bytes(random.below(max * 2).to_ne_bytes().to_vec());
        let name = key.to_string();
        assert_eq!(world.play(&Op::Update(key.clone(), Value::Bytes(step), 0)), "ok", "{spec}");
        let written = world.play(&Op::Lookup(key, 0));
        assert!(written.starts_with("ok:"), "{spec}: {written}");
        last.insert(name, written);
        let other = Key::Bytes(random.below(max * 2).to_ne_bytes().to_vec());
        let name = other.to_string();
        let found = world.play(&Op::Lookup(other, 0));
        assert!(found == "ENOENT" || last.get(&name) == Some(&found), "{spec}: {found}");
    }
    let keys = world.play(&Op::Keys);
    let entries = world.play(&Op::Info);
    let most: usize = entries.split(' ').nth(3).and_then(|number| number.parse().ok()).expect("a capacity");
    assert!(keys.split([',', ' ']).count() - 1 <= most, "{spec}: {keys}");
}

//! What typed views add to a call of the kernel, on a kernel that does nothing.
//!
//! ```sh
//! cargo bench --bench map_overhead
//! ```
//!
//! Direct calls of the backend and typed ones take turns, many times over, and the least time of each counts: what else the machine
//! does comes on top of both. The goal is at most 35 ns for a call, and no allocation. Measured on x86-64, two CPUs that were busy
//! with other work: 2 to 4 ns more for elements of hashes, 13 ns for an array's value of 64 bytes, which is zeroed first; no allocation.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/nothing/mod.rs"]
mod nothing;

use std::hint::black_box;
use std::time::Instant;

use skep::map::{Array, HashMap, Map, PerCpuHashMap};
use skep::sys::abi::{MapType, UpdateFlags};
use skep::sys::request::MapCreate;

const ANY: UpdateFlags = UpdateFlags::empty();
const ROUNDS: usize = 300;
const CALLS: u32 = 10_000;
const GOAL: f64 = 35.0;

fn main() {
    let kernel = nothing::kernel();
    let map = |map_type, value| Map::create(&kernel, &MapCreate::new(map_type, 4, value, 64)).unwrap();
    let backend = kernel.backend();
    println!("{:28} {:>10} {:>10} {:>10} {:>12}", "", "direct", "typed", "added", "allocations");

    let hash: HashMap<u32, u64> = map(MapType::HASH, 8).typed().unwrap();
    let fd = hash.as_map().as_map_fd();
    compare(
        "hash lookup",
        |key| {
            let mut value = [0; 8];
            backend.map_lookup(fd.as_map_ref(), &key.to_ne_bytes(), &mut value, 0).unwrap();
            u64::from_ne_bytes(value)
        },
        |key| hash.get(&key).unwrap().unwrap_or(0),
    );
    compare(
        "hash update",
        |key| {
            let answer = backend.map_update(fd.as_map_ref(), &key.to_ne_bytes(), &7u64.to_ne_bytes(), 0);
            u64::from(answer.is_ok())
        },
        |key| u64::from(hash.insert(&key, &7, ANY).is_ok()),
    );
    compare(
        "hash delete",
        |key| u64::from(backend.map_delete(fd.as_map_ref(), &key.to_ne_bytes()).is_ok()),
        |key| u64::from(hash.remove(&key).is_ok()),
    );

    let array: Array<[u64; 8]> = map(MapType::ARRAY, 64).typed().unwrap();
    let fd = array.as_map().as_map_fd();
    compare(
        "array lookup of 64 bytes",
        |index| {
            let mut value = [0u8; 64];
            backend.map_lookup(fd.as_map_ref(), &index.to_ne_bytes(), &mut value, 0).unwrap();
            u64::from(black_box(value)[0])
        },
        |index| black_box(array.get(index).unwrap().unwrap())[0],
    );

    let hash: PerCpuHashMap<u32, u64> = map(MapType::PERCPU_HASH, 8).typed().unwrap();
    let fd = hash.as_map().as_map_fd();
    let mut room = vec![0; fd.value_len()];
    let mut values = hash.zeroed_values();
    compare(
        "per-CPU lookup of 8 values",
        |key| {
            backend.map_lookup(fd.as_map_ref(), &key.to_ne_bytes(), &mut room, 0).unwrap();
            u64::from(room[0])
        },
        |key| {
            hash.get_into(&key, &mut values).unwrap();
            values.get(0).unwrap()
        },
    );
}

/// Prints the time of a call of each, and what the second adds.
fn compare(what: &str, mut direct: impl FnMut(u32) -> u64, mut typed: impl FnMut(u32) -> u64) {
    let (mut best_direct, mut best_typed) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        best_direct = best_direct.min(time(&mut direct));
        best_typed = best_typed.min(time(&mut typed));
    }
    let counted = allocation_counter::measure(|| {
        for key in 0..CALLS {
            black_box(typed(black_box(key)));
        }
    });
    let added = best_typed - best_direct;
    println!(
        "{what:28} {best_direct:>7.1} ns {best_typed:>7.1} ns {added:>7.1} ns {:>12}{}",
        counted.count_total,
        if added > GOAL || counted.count_total > 0 { "  MISSED" } else { "" }
    );
}

/// Nanoseconds of one call.
fn time(work: &mut impl FnMut(u32) -> u64) -> f64 {
    let start = Instant::now();
    for key in 0..CALLS {
        black_box(work(black_box(key)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

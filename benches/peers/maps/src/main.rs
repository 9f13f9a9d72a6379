//! Reads a hash of 100,000 elements in batches: by bare calls of bpf(2), through skep, through libbpf, and with skep one by one,
//! in turns. See `benches/peers/README.md`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use anyhow::{Result, ensure};
use skep::Kernel;
use skep::map::{HashMap, Map};
use skep::sys::abi::{MapType, UpdateFlags};
use skep::sys::request::MapCreate;

const ELEMENTS: u32 = 100_000;
/// Elements of a batch at most.
const BATCH: usize = 8192;
const LOOKUP_BATCH: libc::c_long = 24;

/// What `BPF_MAP_LOOKUP_BATCH` takes.
#[repr(C)]
#[derive(Default)]
struct Attr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The sum of all keys and values, by bare calls.
fn bare(map: BorrowedFd<'_>) -> Result<(u64, usize)> {
    let mut keys = vec![0u32; BATCH];
    let mut values = vec![0u64; BATCH];
    let (mut cursor, mut begun) = (0u32, false);
    let (mut sum, mut calls) = (0u64, 0);
    loop {
        let place = std::ptr::from_mut(&mut cursor).expose_provenance() as u64;
        let mut attr = Attr {
            in_batch: if begun { place } else { 0 },
            out_batch: place,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: BATCH as u32,
            map_fd: map.as_raw_fd().cast_unsigned(),
            ..Attr::default()
        };
        // SAFETY: keys, values and cursor are ours, for as many elements as are asked for, of the map's sizes.
        let answer =
            unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attr, size_of::<Attr>()) };
        let ended = answer < 0;
        let error = std::io::Error::last_os_error();
        ensure!(!ended || error.raw_os_error() == Some(libc::ENOENT), "bpf: {error}");
        begun = true;
        calls += 1;
        let count = attr.count as usize;
        for (key, value) in keys[..count].iter().zip(&values[..count]) {
            sum = sum.wrapping_add(u64::from(*key)).wrapping_add(*value);
        }
        if ended {
            return Ok((sum, calls));
        }
    }
}

fn by_skep(map: &HashMap<u32, u64>) -> Result<(u64, usize)> {
    let (mut sum, mut calls) = (0u64, 0);
    let mut batches = map.batches(BATCH);
    while let Some(batch) = batches.next_batch()? {
        for (key, value) in batch {
            sum = sum.wrapping_add(u64::from(*key)).wrapping_add(*value);
        }
        calls += 1;
    }
    Ok((sum, calls))
}

fn by_skep_iterator(map: &HashMap<u32, u64>) -> Result<(u64, usize)> {
    let mut sum = 0u64;
    for element in map.iter_batched(BATCH) {
        let (key, value) = element?;
        sum = sum.wrapping_add(u64::from(key)).wrapping_add(value);
    }
    Ok((sum, 0))
}

fn by_libbpf(map: BorrowedFd<'_>) -> Result<(u64, usize)> {
    let mut keys = vec![0u32; BATCH];
    let mut values = vec![0u64; BATCH];
    let (mut cursor, mut begun) = (0u32, false);
    let (mut sum, mut calls) = (0u64, 0);
    loop {
        let mut count = BATCH as u32;
        let place = (&raw mut cursor).cast();
        // SAFETY: as for the bare calls; no options are given.
        let answer = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                map.as_raw_fd(),
                if begun { place } else { std::ptr::null_mut() },
                place,
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        ensure!(answer == 0 || answer == -libc::ENOENT, "bpf_map_lookup_batch: {answer}");
        begun = true;
        calls += 1;
        let count = count as usize;
        for (key, value) in keys[..count].iter().zip(&values[..count]) {
            sum = sum.wrapping_add(u64::from(*key)).wrapping_add(*value);
        }
        if answer != 0 {
            return Ok((sum, calls));
        }
    }
}

fn one_by_one(map: &HashMap<u32, u64>) -> Result<(u64, usize)> {
    let mut sum = 0u64;
    for element in map {
        let (key, value) = element?;
        sum = sum.wrapping_add(u64::from(key)).wrapping_add(value);
    }
    Ok((sum, 2 * ELEMENTS as usize))
}

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let kernel = Kernel::linux();
    let map = Map::create(&kernel, &MapCreate::new(MapType::HASH, 4, 8, 2 * ELEMENTS))?;
    let hash: HashMap<u32, u64> = map.typed()?;
    let keys: Vec<u32> = (0..ELEMENTS).collect();
    let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) * 3).collect();
    hash.insert_many(&keys, &values, UpdateFlags::empty())?;
    let want: u64 = values.iter().sum::<u64>() + keys.iter().map(|key| u64::from(*key)).sum::<u64>();

    type Way<'a> = (&'a str, usize, Box<dyn Fn() -> Result<(u64, usize)> + 'a>);
    let ways: [Way<'_>; 5] = [
        ("bpf(2), batches", 1, Box::new(|| bare(map.as_fd()))),
        ("skep, batches", 1, Box::new(|| by_skep(&hash))),
        ("skep, iter_batched", 1, Box::new(|| by_skep_iterator(&hash))),
        ("libbpf, batches", 1, Box::new(|| by_libbpf(map.as_fd()))),
        ("skep, one by one", 10, Box::new(|| one_by_one(&hash))),
    ];
    let mut times: [Vec<u64>; 5] = Default::default();
    let mut calls = [0; 5];
    for round in 0..rounds {
        for place in 0..ways.len() {
            // Each comes first in its turn.
            let place = (place + round) % ways.len();
            let (name, every, work) = &ways[place];
            if round % every != 0 {
                continue;
            }
            let start = Instant::now();
            let (sum, made) = work()?;
            times[place].push(u64::try_from(start.elapsed().as_nanos())?);
            calls[place] = made;
            ensure!(sum == want, "{name} read something else");
        }
    }
    let (least, median): (Vec<u64>, Vec<u64>) = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            (times[0], times[times.len() / 2])
        })
        .unzip();
    println!("{ELEMENTS} elements in batches of {BATCH}, {rounds} rounds");
    println!("{:22} {:>12} {:>12} {:>8} {:>8} {:>8}", "", "least", "median", "ratio", "median", "calls");
    for (place, (name, ..)) in ways.iter().enumerate() {
        let ratio = |times: &[u64]| times[place] as f64 / times[0] as f64;
        println!(
            "{name:22} {:>9.1} us {:>9.1} us {:>8.3} {:>8.3} {:>8}",
            least[place] as f64 / 1e3,
            median[place] as f64 / 1e3,
            ratio(&least),
            ratio(&median),
            calls[place]
        );
    }
    Ok(())
}

//! The kernel's types: opening them and finding all candidates of 64 names and of one that is absent with skep, and
//! opening them with libbpf, in turns.

use std::time::Instant;

use anyhow::Context;
use loaders::heap::{self, Counting};
use loaders::numbers::{Series, ratio, us};
use skep::Kernel;
use skep::btf::{Btf, TypeId, essential_name};

#[global_allocator]
static HEAP: Counting = Counting;

const ROUNDS: usize = 200;
const NAMES: usize = 64;

fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let kernel = Kernel::linux();
    let btf = kernel.btf()?;
    let spread = spread(&btf)?;
    let mut names: Vec<&[u8]> = spread.iter().map(|(_, name)| &name[..]).collect();
    names.push(b"skep_names_nothing_like_this");
    let (types, size) = (btf.len(), btf.bytes().len());
    drop(btf);

    let (mut skep, mut open, mut libbpf) = (Series::default(), Series::default(), Series::default());
    let mut bytes = 0;
    let mut libbpf_bytes = 0;
    let mut count = 0;
    for _ in 0..rounds {
        let (found, peak) = heap::peak(|| -> anyhow::Result<_> {
            let start = Instant::now();
            let btf = Btf::parse(kernel.backend().kernel_btf()?)?;
            open.push(start.elapsed().as_nanos() as u64);
            let found = btf.candidates(&names)?;
            skep.push(start.elapsed().as_nanos() as u64);
            Ok(found)
        });
        let found = found?;
        bytes = bytes.max(peak);
        for ((id, _), ids) in spread.iter().zip(&found) {
            anyhow::ensure!(ids.contains(id), "a candidate is missing");
        }
        anyhow::ensure!(found.last().is_some_and(Vec::is_empty), "the absent name is there");
        count = found.iter().map(Vec::len).sum();

        let before = allocated();
        let start = Instant::now();
        // SAFETY: it takes nothing and gives a pointer that is freed below.
        let btf = unsafe { libbpf_sys::btf__load_vmlinux_btf() };
        libbpf.push(start.elapsed().as_nanos() as u64);
        libbpf_bytes = libbpf_bytes.max(allocated().saturating_sub(before));
        anyhow::ensure!(!btf.is_null(), "libbpf: {}", std::io::Error::last_os_error());
        // SAFETY: it came from libbpf and is not used again.
        unsafe { libbpf_sys::btf__free(btf) };
    }
    println!("{rounds} rounds of {types} types in {size} bytes; {count} candidates of {} names", names.len());
    println!("{:<28} {:>10} {:>10} {:>7}", "", "skep", "libbpf", "ratio");
    for (what, a, b) in [
        ("open and find, median us", skep.median(), libbpf.median()),
        ("open and find, min us", skep.min(), libbpf.min()),
        ("open alone, median us", open.median(), libbpf.median()),
    ] {
        println!("{what:<28} {:>10} {:>10} {:>7}", us(a), us(b), ratio(a, b));
    }
    println!("{:<28} {:>10} {:>10}", "heap, KiB", bytes / 1024, libbpf_bytes / 1024);
    Ok(())
}

/// Types with names of their own, evenly spread over those that can be candidates.
fn spread(btf: &Btf) -> anyhow::Result<Vec<(TypeId, Vec<u8>)>> {
    let usable = btf
        .types()
        .filter(|ty| !ty.kind().is_declaration() && !essential_name(ty.name_bytes()).is_empty())
        .map(|ty| (ty.id(), essential_name(ty.name_bytes()).to_vec()))
        .collect::<Vec<_>>();
    let step = usable.len() / NAMES;
    let mut spread: Vec<(TypeId, Vec<u8>)> = Vec::with_capacity(NAMES);
    for part in usable.chunks(step.max(1)).take(NAMES) {
        let new = part.iter().find(|(_, name)| spread.iter().all(|(_, other)| other != name));
        spread.push(new.context("too few names")?.clone());
    }
    Ok(spread)
}

/// Bytes that the C library's allocator has given out.
fn allocated() -> usize {
    // SAFETY: it takes nothing and answers by value.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

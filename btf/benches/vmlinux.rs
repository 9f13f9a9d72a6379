//! What it costs to open the running kernel's BTF and to find types in it.
//!
//! ```sh
//! cargo bench -p skep-btf --bench vmlinux
//! ```
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_btf::{Btf, Kind};

const PATH: &str = "/sys/kernel/btf/vmlinux";
const RUNS: usize = 50;
/// Names that are looked for at once, beside one that is absent.
const NAMES: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = match std::fs::read(PATH) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) => {
            println!("skipped: {PATH}: {error}");
            return Ok(());
        }
    };
    let btf = Btf::parse(bytes.clone())?;
    let structs: Vec<_> =
        btf.types().filter(|ty| ty.kind() == Kind::STRUCT && !ty.name_bytes().is_empty()).collect();
    let mut names: Vec<&[u8]> = structs
        .iter()
        .step_by((structs.len() / NAMES).max(1))
        .take(NAMES)
        .map(|ty| ty.name_bytes())
        .collect();
    names.push(b"no_such_type_in_any_kernel");
    println!("{} types in {} bytes, {} names", btf.len(), bytes.len(), names.len());

    measure("parse", || Btf::parse(bytes.clone()).map(|btf| btf.len()));
    measure("candidates of all names", || btf.candidates(&names).map(|found| found.len()));
    measure("both", || Btf::parse(bytes.clone())?.candidates(&names).map(|found| found.len()));
    measure("find a function that is absent", || Ok(btf.find(b"no_such_func", Kind::FUNC).map_or(0, |_| 1)));
    measure("check", || btf.check().map(|()| 0));
    Ok(())
}

/// Prints the least and the median time of a few runs.
fn measure(what: &str, mut run: impl FnMut() -> Result<usize, skep_btf::BtfError>) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box(run()).map_or_else(|error| panic!("{what}: {error}"), drop);
            start.elapsed()
        })
        .collect();
    times.sort();
    let (least, median) = (times[0], times[RUNS / 2]); // RUNS is not 0
    println!("{what:32} {least:>10.1?} least {median:>10.1?} median");
}

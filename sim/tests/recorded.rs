//! The simulated kernel answers what was recorded on Linux, of maps and operations that a seed made.

#![allow(missing_docs, clippy::print_stdout)]

mod ops;

use std::collections::BTreeMap;

use ops::play::{NOT_HERE, play};
use skep_sim::SimKernel;
use skep_sys::Kernel;

const RECORDED: &str = include_str!("../../testdata/golden/recorded_6.18.txt");
/// Of each kind at least so many rows hold.
const PERCENT: usize = 95;

#[test]
fn recorded_rows_hold() {
    let all = ops::read(RECORDED);
    let header = RECORDED.lines().next().expect("a header");
    let cpus = header.split(' ').find_map(|word| word.strip_prefix("cpus="));
    let cpus = cpus.and_then(|cpus| cpus.parse().ok()).expect("a number of CPUs");
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    let mut differ = Vec::new();
    for recorded in &all {
        let ops: Vec<ops::Op> = recorded.ops.iter().map(|(op, _)| op.clone()).collect();
        let sim = Kernel::new(SimKernel::builder().cpus(cpus).build().expect("a kernel"));
        let (created, results) = play(&sim, &recorded.spec, &ops);
        let tried = std::iter::once(("create".to_owned(), &recorded.created, created));
        let results =
            recorded.ops.iter().zip(results).map(|((op, expected), found)| (op.to_string(), expected, found));
        for (op, expected, found) in tried.chain(results) {
            if found == NOT_HERE || expected == NOT_HERE {
                continue;
            }
            let (holds, count) = counts.entry(recorded.spec.kind.to_string()).or_default();
            *count += 1;
            if found == *expected {
                *holds += 1;
            } else {
                differ.push(format!("== {}\n    {op}: {found}, and Linux {expected}", recorded.spec));
            }
        }
    }
    println!("{}", ops::table(&counts));
    let low: Vec<&String> =
        counts.iter().filter(|(_, (holds, all))| holds * 100 < all * PERCENT).map(|(kind, _)| kind).collect();
    assert!(low.is_empty(), "of these kinds too few hold: {low:?}\n{}", differ.join("\n"));
    assert!(differ.is_empty(), "these do not hold:\n{}", differ.join("\n"));
    assert!(counts.values().map(|(_, all)| all).sum::<usize>() > 5000);
}

#[test]
fn what_is_written_is_read_again() {
    let all = ops::read(RECORDED);
    let body = RECORDED.split_once('\n').expect("a header").1;
    assert_eq!(ops::write(&all), body);
}

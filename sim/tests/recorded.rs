//! The simulated kernel answers what was recorded on Linux, of maps and operations that a seed made.

#![allow(missing_docs, clippy::print_stdout)]

mod ops;

use std::collections::{BTreeMap, BTreeSet};

use ops::play::{NOT_HERE, play};
use skep_sim::SimKernel;
use skep_sys::{Backend, Kernel};

const RECORDED: &str = include_str!("../../testdata/golden/recorded_6.18.txt");
/// Of each kind at least so many rows hold.
const PERCENT: usize = 95;

/// What other kernels answer otherwise.
const OTHERS: &str = include_str!("../../testdata/golden/recorded_others.txt");
/// Rows of theirs that the simulated kernel answers otherwise: the version, the kind of map, what was tried, and why.
#[rustfmt::skip]
const KNOWN: &[(&str, &str, &str, &str)] = &[
    ("5.10", "inode_storage", "", "that kernel was started without the security module whose memory the values are in"),
    ("5.10", "lpm_trie", "", "flags that an element is there or not were not looked at; 6.1 and 6.12 got that in their stable releases"),
    ("5.10", "percpu_hash", "create", "values that no CPU has room for were found out when the memory was taken"),
    ("5.10", "lru_percpu_hash", "create", "values that no CPU has room for were found out when the memory was taken"),
    ("5.10", "cgroup_storage", "create", "the size of a value was looked at first"),
    ("5.10", "percpu_cgroup_storage", "create", "the size of a value was looked at first"),
    ("5.10", "sockmap", "", "maps took no sockets of Unix"),
    ("5.10", "sockhash", "", "maps took no sockets of Unix"),
    ("6.1", "sockmap", "", "maps took sockets of UDP that are not bound"),
    ("6.1", "sockhash", "", "maps took sockets of UDP that are not bound"),
];

/// How many CPUs the kernel had.
fn cpus() -> u32 {
    let header = RECORDED.lines().next().expect("a header");
    let cpus = header.split(' ').find_map(|word| word.strip_prefix("cpus="));
    cpus.and_then(|cpus| cpus.parse().ok()).expect("a number of CPUs")
}

/// What is otherwise on another kernel: results by map and operation, and maps that were not recorded.
#[derive(Default)]
struct Other<'a> {
    results: BTreeMap<(usize, usize), &'a str>,
    absent: BTreeSet<usize>,
}

fn others() -> Vec<(&'static str, Other<'static>)> {
    let mut others = Vec::new();
    for section in OTHERS.split("\n== ").skip(1) {
        let (version, rows) = section.split_once('\n').expect("a version and rows");
        let mut other = Other::default();
        for row in rows.lines().filter(|row| !row.is_empty()) {
            let (place, rest) = row.split_once(' ').expect("a place");
            match place.split_once('.') {
                Some((map, op)) => {
                    let (_, result) = rest.rsplit_once(" -> ").expect("a result");
                    other
                        .results
                        .insert((map.parse().expect("a number"), op.parse().expect("a number")), result);
                }
                None => drop(other.absent.insert(place.parse().expect("a number"))),
            }
        }
        others.push((version, other));
    }
    others
}

/// Plays what was recorded; counts what holds by kind, and answers what does not.
fn compare(
    build: impl Fn() -> SimKernel,
    other: &Other<'_>,
    mut known: impl FnMut(&str, &str) -> bool,
) -> (BTreeMap<String, (usize, usize)>, Vec<String>) {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    let mut differ = Vec::new();
    for (at, recorded) in ops::read(RECORDED).into_iter().enumerate() {
        if other.absent.contains(&at) {
            continue;
        }
        let expected = |op: usize, usual: &str| -> String {
            (*other.results.get(&(at, op)).unwrap_or(&usual)).to_owned()
        };
        let is_made = expected(0, &recorded.created) == "ok";
        let ops: Vec<ops::Op> = recorded.ops.iter().map(|(op, _)| op.clone()).collect();
        let (created, results) = play(&Kernel::new(build()), &recorded.spec, &ops);
        let mut rows = vec![("create".to_owned(), expected(0, &recorded.created), created)];
        // Where there was no map, nothing was recorded of it.
        if is_made {
            let tried = recorded.ops.iter().zip(results).enumerate();
            rows.extend(
                tried
                    .map(|(op, ((tried, usual), found))| (tried.to_string(), expected(op + 1, usual), found)),
            );
        }
        let kind = recorded.spec.kind.to_string();
        for (op, expected, found) in rows {
            if found == NOT_HERE || expected == NOT_HERE {
                continue;
            }
            let (holds, count) = counts.entry(kind.clone()).or_default();
            *count += 1;
            if found == expected {
                *holds += 1;
            } else if !known(&kind, &op) {
                differ.push(format!("== {}\n    {op}: {found}, and Linux {expected}", recorded.spec));
            }
        }
    }
    (counts, differ)
}

/// Kinds of which too few rows hold.
fn low(counts: &BTreeMap<String, (usize, usize)>) -> Vec<&String> {
    counts.iter().filter(|(_, (holds, all))| holds * 100 < all * PERCENT).map(|(kind, _)| kind).collect()
}

#[test]
fn recorded_rows_hold() {
    let build = || SimKernel::builder().cpus(cpus()).build().expect("a kernel");
    let (counts, differ) = compare(build, &Other::default(), |_, _| false);
    println!("{}", ops::table(&counts));
    let low = low(&counts);
    assert!(low.is_empty(), "of these kinds too few hold: {low:?}\n{}", differ.join("\n"));
    assert!(differ.is_empty(), "these do not hold:\n{}", differ.join("\n"));
    assert!(counts.values().map(|(_, all)| all).sum::<usize>() > 5000);
}

/// A kernel that is built like a release answers as that release did.
#[test]
fn rows_of_other_kernels_hold() {
    let others = others();
    assert_eq!(
        others.iter().map(|(version, _)| *version).collect::<Vec<_>>(),
        ["5.10", "6.1", "6.12", "7.2"]
    );
    let mut wrong = String::new();
    let mut stale: Vec<_> = KNOWN.iter().collect();
    for (version, other) in others {
        let (major, minor) = version.split_once('.').expect("two numbers");
        let (major, minor) = (major.parse().expect("a number"), minor.parse().expect("a number"));
        let build = || {
            let sim = SimKernel::builder().cpus(cpus()).linux(major, minor).build().expect("a kernel");
            // As root has it.
            let _ = sim.raise_memlock();
            sim
        };
        let is_known = |known: &(&str, &str, &str, &str), kind: &str, op: &str| {
            known.0 == version && known.1 == kind && op.starts_with(known.2)
        };
        let known = |kind: &str, op: &str| {
            stale.retain(|known| !is_known(known, kind, op));
            KNOWN.iter().any(|known| is_known(known, kind, op))
        };
        let (counts, differ) = compare(build, &other, known);
        let (holds, all) = counts.values().fold((0, 0), |sum, (holds, all)| (sum.0 + holds, sum.1 + all));
        println!("{version}: {holds} of {all} rows hold\n{}", ops::table(&counts));
        if !differ.is_empty() || holds * 100 < all * PERCENT {
            wrong += &format!("\n{version}: {holds} of {all}; these do not hold:\n{}\n", differ.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(stale.is_empty(), "these are known to differ, and do not: {stale:?}");
}

#[test]
fn what_is_written_is_read_again() {
    let all = ops::read(RECORDED);
    let body = RECORDED.split_once('\n').expect("a header").1;
    assert_eq!(ops::write(&all), body);
}

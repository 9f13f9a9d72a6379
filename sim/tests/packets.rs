//! Programs do to packets what they were seen to do on Linux 6.18.

#![allow(missing_docs)]

mod packet_bodies;

use skep_sys::Kernel;

const GOLDEN: &str = include_str!("../../testdata/golden/packets_6.18.txt");

#[test]
fn programs_on_packets() {
    let sim = skep_sim::SimKernel::new();
    let kernel = Kernel::new(sim.clone());
    let mut golden = std::collections::BTreeMap::new();
    for line in GOLDEN.lines() {
        let (name, _) = line.split_once(" | ").unwrap();
        golden.insert(name, line);
    }
    let (mut ran, mut different) = (0, Vec::new());
    for case in packet_bodies::all() {
        // What the kernel's verifier refuses was not recorded.
        let Some(expected) = golden.get(case.name.as_str()) else { continue };
        ran += 1;
        match case.load(&kernel).map(|prog| case.run(&prog)) {
            Some(found) if found == **expected => {}
            found => different.push(format!("{found:?}\n and Linux 6.18: {expected}")),
        }
    }
    assert!(different.is_empty(), "{} of {ran} differ:\n{}", different.len(), different.join("\n"));
    assert!(ran > 500, "{ran} cases");
}

/// Random programs that once did something else here, with what Linux 6.18 made of them.
#[test]
fn random_programs_on_packets() {
    let kernel = Kernel::new(skep_sim::SimKernel::new());
    for (seed, expected) in [
        // Room is taken away in a packet that was put into another one, and it stays one: no further header of that kind goes in front.
        (15518, "-366525330 119:"),
        // A header of UDP comes with the one of IP, and no packet is cut in front of that.
        (46888, "-314410590 136:"),
        (50081, "-945911392 1529:"),
        // What was cut in front of its network header has no bytes to take away.
        (70225, "1745918370 22:"),
        (83171, "1614533832 58:"),
        (87811, "-1161811647 49:"),
    ] {
        let case = packet_bodies::random(seed);
        let prog = case.load(&kernel).unwrap();
        let found = case.run(&prog);
        assert!(found.starts_with(&format!("random {seed} | {expected}")), "{found}");
    }
}

//! The same test gives the same result each time: nothing of a simulated kernel depends on time, addresses or chance
//! that does not follow from its seed.

use std::fmt::Write;

use skep::sim::SimKernel;
use skep::{Kernel, Loader, Spec};

const COUNTER: &[u8] = include_bytes!("../examples/packet_counter.bpf.o");
const BLOCKLIST: &[u8] = include_bytes!("../examples/blocklist.bpf.o");

/// Loads two real objects, sends packets through them, and writes down all that can be seen: every call of the kernel with
/// its result, what became of each packet, and what all maps hold.
fn everything(seed: u64) -> String {
    let sim = SimKernel::builder().seed(seed).interface("eth0", 7).build().unwrap();
    let calls = sim.log_calls();
    let kernel = Kernel::new(sim.clone());
    let mut seen = String::new();
    let mut spec = Spec::parse("packet_counter", COUNTER).unwrap();
    spec.set_global("sample_every", &3_u32).unwrap();
    let counter = Loader::new(&kernel).load(&spec).unwrap();
    let _on_lo = counter.program("count_packets").unwrap().attach_xdp("lo").unwrap();
    let blocklist = Loader::new(&kernel).load(&Spec::parse("blocklist", BLOCKLIST).unwrap()).unwrap();
    let blocking = blocklist.programs().next().unwrap();
    let _on_eth0 = blocking.attach_xdp("eth0").unwrap();
    for number in 0..200_u8 {
        let mut packet = [0; 80];
        (packet[12], packet[14], packet[23], packet[29]) = (0x08, 0x45, 6 + number % 12, number);
        for interface in ["lo", "eth0"] {
            let passage = sim.receive(interface, &packet).unwrap();
            writeln!(seen, "{interface} {number}: {}", passage.fate).unwrap();
        }
    }
    for object in [&counter, &blocklist] {
        for (name, map) in object.maps() {
            for key in map.keys().map_while(Result::ok) {
                writeln!(seen, "{name} {key:?}: {:?}", map.lookup(&key)).unwrap();
            }
        }
    }
    seen + &calls.text()
}

#[test]
fn a_seed_decides_everything() {
    let first = everything(7);
    assert!(first.lines().count() > 600, "{first}");
    assert_eq!(first, everything(7));
    assert_ne!(first, everything(8), "one packet in three is counted, chosen at random");
}

/// Whoever else is at it in the same process.
#[test]
fn other_kernels_decide_nothing() {
    let alone = everything(3);
    let together: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| everything(3))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(together.iter().all(|one| *one == alone));
}

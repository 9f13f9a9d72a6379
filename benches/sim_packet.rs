//! What a packet costs on the simulated kernel: a test run of the blocklist example's XDP program, which parses Ethernet and
//! IPv4, looks the sender up in two maps and counts. One test run for each packet, and many in one.
//!
//!     cargo bench --bench sim_packet
//!
//! The goal is 2 µs for a packet, all included: the call through the seam, the memory of the run, and the program.
//! Measured on x86-64, two CPUs that were busy with other work, when each run asked which file its descriptor is: 1.24 to 1.35 µs a test
//! run, 0.37 of it for that, and 0.20 to 0.31 µs a packet of many. A handle asks once now: 0.68 to 0.81 µs,
//! and 1.20 to 1.31 by the descriptor alone.

#![allow(clippy::print_stdout, reason = "benches print")]

use std::error::Error;
use std::os::fd::AsFd;
use std::time::Instant;

use skep::program::RunInput;
use skep::sim::SimKernel;
use skep::sys::request::TestRun;
use skep::{Kernel, Loader, Spec};

/// How often each is done, and in how many rounds, of which the fastest counts.
const RUNS: u32 = 20_000;
const ROUNDS: u32 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let mut packet = [0; 64];
    (packet[12], packet[14], packet[23], packet[29]) = (0x08, 0x45, 17, 7);
    for (name, object) in [
        ("packet_counter", &include_bytes!("../examples/packet_counter.bpf.o")[..]),
        ("blocklist", include_bytes!("../examples/blocklist.bpf.o")),
        ("flow_counter", include_bytes!("../examples/flow_counter.bpf.o")),
    ] {
        let kernel = Kernel::new(SimKernel::new());
        let object = Loader::new(&kernel).load(&Spec::parse(name, object)?)?;
        let program = object.programs().next().ok_or("the object has a program")?;
        let backend = kernel.backend();
        let (mut single, mut alone, mut known, mut repeated) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..RUNS {
                program.run(&RunInput::packet(&packet))?;
            }
            single = single.min(start.elapsed().as_secs_f64() / f64::from(RUNS));
            let start = Instant::now();
            for _ in 0..RUNS {
                let mut run = TestRun::default();
                run.data_in = &packet;
                backend.prog_test_run(program.as_fd(), &mut run).map_err(|(errno, _)| errno)?;
            }
            alone = alone.min(start.elapsed().as_secs_f64() / f64::from(RUNS));
            let start = Instant::now();
            for _ in 0..RUNS {
                let mut run = TestRun::default();
                run.data_in = &packet;
                program.loaded().test_run(&mut run).map_err(|(errno, _)| errno)?;
            }
            known = known.min(start.elapsed().as_secs_f64() / f64::from(RUNS));
            let start = Instant::now();
            program.run(&RunInput::packet(&packet).repeat(RUNS))?;
            repeated = repeated.min(start.elapsed().as_secs_f64() / f64::from(RUNS));
        }
        println!(
            "{name:<16}{:>8.0} ns a test run, {:>6.0} ns a packet of many; at the seam {:.0} ns, by the descriptor alone {:.0} ns",
            single * 1e9,
            repeated * 1e9,
            known * 1e9,
            alone * 1e9
        );
    }
    Ok(())
}

//! Counts the packets of each flow that a network interface receives: loads `flow_counter.bpf.o`, attaches it as XDP, takes what
//! was counted out of the map every second, many flows in one call, and prints the largest flows. On the loopback interface
//! it sends a few packets itself.
//!
//! Needs root and Linux 5.9 or newer. As root: `cargo run --example flow_counter -- eth0 --seconds 10`; with
//! `--kernel sim` it needs neither, and no packets come.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use skep::map::{MapError, PerCpuHashMap, PlainData};
use skep::{Kernel, Loader, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Flows that are taken out in one call.
const BATCH: usize = 4096;

/// Count the packets of each flow that a network interface receives.
#[derive(Parser)]
pub(crate) struct Args {
    /// The interface
    #[arg(default_value = "lo")]
    interface: String,
    /// How long to count
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// How many flows to show, largest first
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Where to load it
    #[arg(long, value_enum, default_value_t = Place::Linux)]
    kernel: Place,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds".into()),
    }
}

/// A kernel to load into.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Place {
    /// The running kernel
    Linux,
    /// A simulated kernel in this process, where no packets come
    Sim,
}

/// `struct flow` of `flow_counter.bpf.c`.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData,
)]
#[repr(C)]
pub(crate) struct Flow {
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
    pub(crate) source_port: [u8; 2],
    pub(crate) destination_port: [u8; 2],
    pub(crate) protocol: u8,
    pub(crate) unused: [u8; 3],
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => format!("ip {other}"),
        };
        write!(f, "{protocol:<8}")?;
        for (address, port) in [(self.source, self.source_port), (self.destination, self.destination_port)] {
            write!(f, "{:<16}{:<7}", Ipv4Addr::from(address), u16::from_be_bytes(port))?;
        }
        Ok(())
    }
}

/// `struct count` of `flow_counter.bpf.c`.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, PlainData,
)]
#[repr(C)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// What was counted so far.
#[derive(Default)]
pub(crate) struct Totals(pub(crate) HashMap<Flow, Count>);

impl Totals {
    /// Takes all flows out of the map and adds them up, over CPUs and over time.
    pub(crate) fn collect(&mut self, flows: &PerCpuHashMap<Flow, Count>) -> Result<usize, MapError> {
        let mut taken = 0;
        let mut batches = flows.drain_batches(BATCH);
        while let Some(batch) = batches.next_batch()? {
            taken += batch.len();
            for (flow, counts) in batch.iter() {
                let total = self.0.entry(*flow).or_default();
                for count in counts {
                    total.packets += count.packets;
                    total.bytes += count.bytes;
                }
            }
        }
        Ok(taken)
    }

    /// The flows with the most bytes.
    fn largest(&self, how_many: usize) -> Vec<(&Flow, &Count)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(flow, count)| (std::cmp::Reverse(count.bytes), flow.to_string()));
        all.truncate(how_many);
        all
    }
}

fn main() -> Result<()> {
    run(&Args::parse(), &mut std::io::stdout())
}

/// Counts, and writes what was counted.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let kernel = match args.kernel {
        Place::Linux => Kernel::linux(),
        Place::Sim => skep::sim::kernel(),
    };
    let spec = Spec::parse("flow_counter", include_bytes!("flow_counter.bpf.o"))?;
    let object = Loader::new(&kernel).load(&spec)?;
    write!(out, "{}", object.report())?;

    // Detached when it is dropped.
    let link = object.program("count_flows")?.attach_xdp(args.interface.as_str())?;
    writeln!(out, "attached to {} as link {}", args.interface, link.id()?)?;
    let flows = object.map("flows")?.typed()?;
    let mut totals = Totals::default();
    if args.kernel == Place::Sim {
        writeln!(out, "this kernel is simulated: no packets come, there are no flows")?;
    } else {
        if args.interface == "lo" {
            make_events().context("send packets to 127.0.0.1")?;
        }
        let end = Instant::now() + Duration::from_secs_f64(args.seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            std::thread::sleep(left.min(Duration::from_secs(1)));
            totals.collect(&flows)?;
        }
    }
    totals.collect(&flows)?;

    writeln!(out, "\n{:<8}{:<23}{:<23}{:>9} {:>12}", "", "FROM", "TO", "PACKETS", "BYTES")?;
    for (flow, count) in totals.largest(args.top) {
        writeln!(out, "{flow}{:>9} {:>12}", count.packets, count.bytes)?;
    }
    let (seen, other): (u64, u64) = (object.global("packets_seen")?, object.global("packets_not_ipv4")?);
    Ok(writeln!(out, "\n{} flows, {seen} packets seen, {other} of them not IPv4", totals.0.len())?)
}

/// Sends packets over the loopback interface: one flow with three packets, one with one.
fn make_events() -> std::io::Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    receiver.set_read_timeout(Some(Duration::from_secs(30)))?;
    let senders = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    for (sender, length) in [(0, 1), (0, 10), (0, 100), (1, 1000)] {
        senders[sender].send_to(&vec![0; length], receiver.local_addr()?)?;
        receiver.recv(&mut [0; 1000])?;
    }
    Ok(())
}

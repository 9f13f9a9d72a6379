//! Counts the packets that a network interface receives: loads `packet_counter.bpf.o`, attaches it as XDP, and prints
//! packets and bytes for each protocol.
//!
//! `cargo run --example packet_counter` needs nothing: the kernel is one that is simulated, and so are the packets. On the
//! running kernel it needs root and Linux 5.9 or newer: `cargo run --example packet_counter -- --kernel linux eth0 --seconds 10`.
//! On the loopback interface it sends a few packets itself.

use std::io::Write;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use skep::map::{PerCpuArray, PlainData};
use skep::sim::SimKernel;
use skep::{Kernel, Loader, Object, Spec};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Count the packets that a network interface receives.
#[derive(Parser)]
pub(crate) struct Args {
    /// The interface
    #[arg(default_value = "lo")]
    interface: String,
    /// How long to count
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Count one packet in so many, chosen at random
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    sample_every: u32,
    /// Where to load it
    #[arg(long, value_enum, default_value_t = Place::Sim)]
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
    /// A simulated kernel in this process
    Sim,
}

/// `struct count` of `packet_counter.bpf.c`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, PlainData)]
#[repr(C)]
struct Count {
    packets: u64,
    bytes: u64,
}

fn main() -> Result<()> {
    run(&Args::parse(), &mut std::io::stdout())
}

/// Counts, and writes what was counted.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let sim = SimKernel::new();
    let kernel = match args.kernel {
        Place::Linux => Kernel::linux(),
        Place::Sim => Kernel::new(sim.clone()),
    };
    // What the file says. A constant is set here: once loaded, it cannot be.
    let mut spec = Spec::parse("packet_counter", include_bytes!("packet_counter.bpf.o"))?;
    spec.set_global("sample_every", &args.sample_every)?;
    let object = Loader::new(&kernel).load(&spec)?;
    write!(out, "{}", object.report())?;

    // Detached when it is dropped.
    let link = object.program("count_packets")?.attach_xdp(args.interface.as_str())?;
    writeln!(out, "attached to {} as link {}", args.interface, link.id()?)?;
    if args.kernel == Place::Sim {
        for length in LENGTHS {
            let passage = sim.receive(&args.interface, &udp_packet(length))?;
            ensure!(!passage.is_dropped(), "the program lets packets pass: {}", passage.fate);
        }
    } else {
        if args.interface == "lo" {
            make_events().context("send packets to 127.0.0.1")?;
        }
        std::thread::sleep(Duration::from_secs_f64(args.seconds));
    }
    show(&object, out)
}

/// How much the packets carry that it sends itself.
const LENGTHS: [usize; 3] = [1, 10, 100];

/// An Ethernet frame with an IPv4 packet of UDP.
fn udp_packet(length: usize) -> Vec<u8> {
    let mut packet = vec![0; 42 + length];
    packet[12] = 0x08; // the protocol of the frame: IPv4
    packet[14] = 0x45; // its version, and its header's length in words
    packet[23] = 17; // UDP
    packet
}

/// Sends packets over the loopback interface, and sees that the program let them pass.
fn make_events() -> std::io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    for length in LENGTHS {
        socket.send_to(&vec![0; length], socket.local_addr()?)?;
        socket.recv(&mut [0; 100])?;
    }
    Ok(())
}

fn show(object: &Object, out: &mut impl Write) -> Result<()> {
    let per_protocol: PerCpuArray<Count> = object.map("per_protocol")?.typed()?;
    writeln!(out, "\n{:<10} {:>10} {:>12}", "PROTOCOL", "PACKETS", "BYTES")?;
    for (protocol, element) in per_protocol.iter().enumerate() {
        let mut sum = Count { packets: 0, bytes: 0 };
        for count in &element? {
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
        if sum.packets > 0 {
            writeln!(out, "{:<10} {:>10} {:>12}", name(protocol), sum.packets, sum.bytes)?;
        }
    }
    let (seen, skipped): (u64, u64) = (object.global("packets_seen")?, object.global("packets_skipped")?);
    Ok(writeln!(out, "\n{seen} packets seen, {skipped} not counted")?)
}

/// The name of an IP protocol; 255 is what the program takes for everything that is not IP.
fn name(protocol: usize) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        255 => "not ip".into(),
        other => format!("ip {other}"),
    }
}

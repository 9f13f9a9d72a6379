//! Blocks who sends too many packets: loads `blocklist.bpf.o`, attaches it as XDP, takes what it counted once per round,
//! and has it drop the packets of the loudest. On the loopback interface it sends a few too many itself.
//!
//! What decides is in `blocklist/service.rs` and is generic over its maps; `blocklist/tests.rs` tests it without a kernel,
//! in milliseconds: `cargo test --example blocklist`.
//!
//! Needs root and Linux 5.9 or newer. As root: `cargo run --example blocklist -- eth0 --rounds 60`; with `--kernel sim` it
//! needs neither, and no packets come.

#[path = "blocklist/service.rs"]
mod service;
#[cfg(test)]
#[path = "blocklist/tests.rs"]
mod tests;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use skep::map::traits::MapWrite;
use skep::map::{Array, Ipv4Prefix, LpmTrie, PerCpuHashMap};
use skep::ring::RingBuffer;
use skep::sys::abi::UpdateFlags;
use skep::{Kernel, Loader, Object, Spec};

use service::{Blocklist, Config, Count};

/// Block who sends too many packets to a network interface.
#[derive(Parser)]
pub(crate) struct Args {
    /// The interface
    #[arg(default_value = "lo")]
    interface: String,
    /// How many rounds to go on for
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long a round is, in seconds
    #[arg(long, default_value_t = 0.2, value_parser = seconds)]
    interval: f64,
    /// How many packets a source may send in a round
    #[arg(long, default_value_t = 200)]
    packets: u32,
    /// For how many rounds a source is blocked that sends more
    #[arg(long, default_value_t = 2)]
    block_for: u32,
    /// Of how many dropped packets one is reported
    #[arg(long, default_value_t = 1)]
    report_one_in: u32,
    /// A network that is never blocked
    #[arg(long, default_value = "127.0.0.0/16")]
    spare: Vec<Ipv4Prefix>,
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

const OBJECT: &[u8] = include_bytes!("blocklist.bpf.o");

/// Who sends too much on the loopback interface. It is not spared, and nobody else uses that address.
const LOUD: Ipv4Addr = Ipv4Addr::new(127, 7, 7, 7);

fn main() -> Result<()> {
    run(&Args::parse(), &mut std::io::stdout())
}

/// The service on maps of a kernel.
type OnKernel = Blocklist<Array<Config>, PerCpuHashMap<[u8; 4], Count>, LpmTrie<Ipv4Prefix, u64>, RingBuffer>;

/// The service on the maps of the loaded object.
fn service_of(object: &Object, config: Config) -> Result<OnKernel> {
    let configuration: Array<Config> = object.map("config")?.typed()?;
    configuration.insert(&0, &config, UpdateFlags::empty())?;
    Ok(Blocklist::new(
        configuration,
        object.map("seen")?.typed()?,
        object.map("blocked")?.typed()?,
        object.map("drops")?.typed()?,
    ))
}

/// Runs the service, and writes what it does.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<()> {
    let kernel = match args.kernel {
        Place::Linux => Kernel::linux(),
        Place::Sim => skep::sim::kernel(),
    };
    let object = Loader::new(&kernel).load(&Spec::parse("blocklist", OBJECT)?)?;
    let config = Config {
        packets_per_round: args.packets,
        rounds_blocked: args.block_for,
        report_one_in: args.report_one_in,
    };
    let mut service = service_of(&object, config)?.spare(args.spare.iter().copied());

    // Detached when it is dropped, and then nobody is blocked any more.
    let link = object.program("guard")?.attach_xdp(args.interface.as_str())?;
    writeln!(out, "attached to {} as link {}", args.interface, link.id()?)?;
    let loud = match (args.kernel, args.interface.as_str()) {
        (Place::Linux, "lo") => Some(Loud::new().context("open sockets on the loopback interface")?),
        _ => None,
    };
    for number in 1..=args.rounds {
        if let Some(loud) = &loud {
            loud.send(args.packets + 1).context("send packets to 127.0.0.1")?;
        }
        let end = Instant::now() + Duration::from_secs_f64(args.interval);
        let mut dropped = BTreeMap::<Ipv4Addr, u64>::new();
        loop {
            // Once more when the time is over, however late that is seen.
            let left = end.saturating_duration_since(Instant::now());
            for (source, bytes) in service.wait_for_drops(left)? {
                *dropped.entry(source).or_default() += bytes;
            }
            if left.is_zero() {
                break;
            }
        }
        for (source, bytes) in dropped {
            writeln!(out, "round {number}: {bytes} bytes of {source} dropped")?;
        }
        let round = service.end_round()?;
        for (source, packets) in round.blocked {
            writeln!(out, "round {number}: {source} sent {packets} packets and is blocked")?;
        }
        for source in round.no_room {
            writeln!(out, "round {number}: no room to block {source}")?;
        }
        for source in round.released {
            writeln!(out, "round {number}: {source} is blocked no longer")?;
        }
    }
    Ok(())
}

/// Sends packets over the loopback interface.
struct Loud {
    from: UdpSocket,
    to: UdpSocket,
}

impl Loud {
    fn new() -> std::io::Result<Loud> {
        Ok(Loud { from: UdpSocket::bind((LOUD, 0))?, to: UdpSocket::bind("127.0.0.1:0")? })
    }

    fn send(&self, packets: u32) -> std::io::Result<()> {
        for _ in 0..packets {
            self.from.send_to(b"!", self.to.local_addr()?)?;
        }
        Ok(())
    }
}

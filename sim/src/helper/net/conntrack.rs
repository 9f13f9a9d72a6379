//! Functions on connections that the network tracks (`nf_conntrack_bpf.c`).

use std::net::{IpAddr, SocketAddr};

use skep_sys::abi::Errno;

use super::check_context;
use crate::helper::{HelperFn, answer, refuse};
use crate::net::{Connection, ConnectionStatus, Translate, Tuple, Zone};
use crate::packet::{SkBuff, Xdp};
use crate::vm::{FaultKind, Trap, Vm};

pub(in crate::helper) const KFUNCS: &[(&str, HelperFn)] = &[
    ("bpf_xdp_ct_alloc", |vm, args| of_xdp(vm, args, allocate)),
    ("bpf_xdp_ct_lookup", |vm, args| of_xdp(vm, args, look_up)),
    ("bpf_skb_ct_alloc", |vm, args| of_skb(vm, args, allocate)),
    ("bpf_skb_ct_lookup", |vm, args| of_skb(vm, args, look_up)),
    ("bpf_ct_insert_entry", insert),
    ("bpf_ct_release", release),
    ("bpf_ct_set_timeout", set_timeout),
    ("bpf_ct_change_timeout", change_timeout),
    ("bpf_ct_set_status", |vm, [ct, status, ..]| set_status(vm, ct, status as u32, New::Yes)),
    ("bpf_ct_change_status", |vm, [ct, status, ..]| set_status(vm, ct, status as u32, New::No)),
    ("bpf_ct_set_nat_info", set_nat_info),
];

const WHAT: &str = "a connection";
const NEW: &str = "a connection that it made";
const RELEASE: &str = "bpf_ct_release";
const INSERT: &str = "bpf_ct_insert_entry";

/// Seconds that a connection stays that is given no timeout.
const TIMEOUT: u32 = 10;
/// Milliseconds above which a time is as long as one can be (`msecs_to_jiffies`).
const MILLISECONDS_MAX: u32 = i32::MAX as u32;

/// Whether a connection is one that is not in the table yet (`struct nf_conn___init`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum New {
    Yes,
    No,
}

type With = fn(&mut Vm, &Options, Tuple) -> Result<Result<u64, Errno>, Trap>;

/// `struct bpf_ct_opts`.
struct Options {
    address: u64,
    netns: i32,
    protocol: u8,
    zone: Zone,
    /// Whether they are as long as they are since there are zones.
    has_zone: bool,
}

fn of_xdp(vm: &mut Vm, args: [u64; 5], with: With) -> Result<u64, Trap> {
    let [context, ..] = args;
    check_context(vm, context)?;
    if vm.memory.context::<Xdp>().is_none() {
        return Err(FaultKind::NotA { what: "context of an XDP program", address: context }.into());
    }
    on_tuple(vm, args, with)
}

fn of_skb(vm: &mut Vm, args: [u64; 5], with: With) -> Result<u64, Trap> {
    let [context, ..] = args;
    check_context(vm, context)?;
    if vm.memory.context::<SkBuff>().is_none() {
        return Err(FaultKind::NotA { what: "socket buffer", address: context }.into());
    }
    on_tuple(vm, args, with)
}

/// Does something with the addresses and options that a program gives. What goes wrong is written into the options, and null
/// answered.
fn on_tuple(vm: &mut Vm, [_, tuple, tuple_len, opts, opts_len]: [u64; 5], with: With) -> Result<u64, Trap> {
    let bytes = if tuple == 0 { Vec::new() } else { vm.memory.bytes(tuple, tuple_len as u32 as usize)? };
    let done = match read_options(vm, tuple, opts, opts_len as u32)? {
        Ok(options) => match parse(&bytes, options.protocol) {
            // No other network namespace has an id here.
            Ok(_) if options.netns >= 0 => Err(Errno::ENONET),
            Ok(tuple) => {
                if options.has_zone {
                    vm.memory.write(opts.wrapping_add(12), &[options.zone.dir])?;
                }
                with(vm, &options, tuple)?
            }
            Err(errno) => Err(errno),
        },
        Err(errno) => Err(errno),
    };
    match done {
        Ok(address) => Ok(address),
        Err(errno) => {
            if opts != 0 {
                vm.memory.write(opts.wrapping_add(4), &(-errno.0).to_ne_bytes())?;
            }
            Ok(0)
        }
    }
}

fn read_options(vm: &mut Vm, tuple: u64, opts: u64, len: u32) -> Result<Result<Options, Errno>, Trap> {
    /// The length that there was before there were zones.
    const OLD: u32 = 12;
    const LEN: u32 = 16;
    /// `BPF_F_CURRENT_NETNS`.
    const CURRENT: i32 = -1;
    /// Zones count for both directions unless a program says otherwise.
    const BOTH: u8 = 3;

    if opts == 0 || tuple == 0 || len != LEN && len != OLD {
        return Ok(Err(Errno::EINVAL));
    }
    let mut bytes = [0; LEN as usize];
    let (given, _) = bytes.split_at_mut(len as usize);
    vm.memory.read(opts, given)?;
    let [n0, n1, n2, n3, _, _, _, _, protocol, _, z0, z1, dir, reserved @ ..] = bytes;
    let (netns, zone) = (i32::from_ne_bytes([n0, n1, n2, n3]), u16::from_ne_bytes([z0, z1]));
    let refused = if len == LEN { reserved != [0; 3] } else { zone != 0 };
    if refused || netns < CURRENT {
        return Ok(Err(Errno::EINVAL));
    }
    let dir = if dir == 0 { BOTH } else { dir };
    Ok(Ok(Options { address: opts, netns, protocol, zone: Zone { id: zone, dir }, has_zone: len == LEN }))
}

/// What packets from one address to another look like (`bpf_nf_ct_tuple_parse`).
fn parse(bytes: &[u8], protocol: u8) -> Result<Tuple, Errno> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;

    if protocol != TCP && protocol != UDP {
        return Err(Errno::EPROTO);
    }
    let half = match bytes.len() {
        12 => 4,
        36 => 16,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let (source, rest) = bytes.split_at(half); // of 12 or 36
    let (destination, ports) = rest.split_at(half); // of 8 or 20
    let (ports, _) = ports.as_chunks::<2>();
    let port = |at: usize| ports.get(at).map_or(0, |port| u16::from_be_bytes(*port));
    let end = |octets: &[u8], at: usize| address(octets).map(|ip| SocketAddr::new(ip, port(at)));
    match (end(source, 0), end(destination, 1)) {
        (Some(source), Some(destination)) => Ok(Tuple { protocol, source, destination }),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => octets.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(*octets)),
        _ => octets.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(*octets)),
    }
}

/// `bpf_xdp_ct_alloc(ctx, tuple, tuple__sz, opts, opts__sz)`.
fn allocate(vm: &mut Vm, options: &Options, tuple: Tuple) -> Result<Result<u64, Errno>, Trap> {
    let mut connection = Connection::udp(tuple.source, tuple.destination);
    connection.protocol = tuple.protocol;
    connection.status = ConnectionStatus::empty();
    (connection.zone, connection.zone_dir) = (options.zone.id, options.zone.dir);
    let id = vm.kernel.0.world().net.conntrack.allocate(connection, milliseconds(TIMEOUT * 1000)); // far below 2^32
    Ok(give(vm, id, NEW, INSERT))
}

/// `bpf_xdp_ct_lookup(ctx, tuple, tuple__sz, opts, opts__sz)`.
fn look_up(vm: &mut Vm, options: &Options, tuple: Tuple) -> Result<Result<u64, Errno>, Trap> {
    let now = vm.kernel.0.now();
    let found = vm.kernel.0.world().net.conntrack.look_up(&tuple, options.zone, now);
    let Some((id, reply)) = found else { return Ok(Err(Errno::ENOENT)) };
    vm.memory.write(options.address.wrapping_add(9), &[reply.into()])?;
    Ok(give(vm, id, WHAT, RELEASE))
}

/// Gives a program a connection that is held for it.
fn give(vm: &mut Vm, id: u64, what: &'static str, release: &'static str) -> Result<u64, Errno> {
    let address = vm.kernel.connection_address(id).ok_or(Errno::ENOMEM)?;
    vm.acquire(address, what, release, Some(drop_connection));
    Ok(address)
}

fn drop_connection(vm: &mut Vm, address: u64) {
    let mut world = vm.kernel.0.world();
    let id = world.net.conntrack.at(address).map(|(id, _)| id);
    if let Some(id) = id {
        world.net.conntrack.put(id);
    }
}

/// The connection that an argument is, which has to be in the table or not yet.
fn connection(vm: &Vm, address: u64, new: New) -> Result<u64, Trap> {
    let world = vm.kernel.0.world();
    let Some((id, entry)) = world.net.conntrack.at(address).filter(|(_, entry)| entry.held > 0) else {
        return Err(refuse(format!("{address:#x} is no connection that the program looked up or made")));
    };
    match (entry.is_confirmed(), new) {
        (true, New::Yes) => Err(refuse(
            "the connection is in the table already; bpf_ct_change_timeout and bpf_ct_change_status are for it",
        )),
        (false, New::No) => {
            Err(refuse("the connection is not in the table yet; call bpf_ct_insert_entry first"))
        }
        _ => Ok(id),
    }
}

/// `bpf_ct_insert_entry(nfct_i)`: the connection, or null.
fn insert(vm: &mut Vm, [ct, ..]: [u64; 5]) -> Result<u64, Trap> {
    let id = connection(vm, ct, New::Yes)?;
    vm.release(ct);
    let now = vm.kernel.0.now();
    let inserted = vm.kernel.0.world().net.conntrack.insert(id, now);
    if inserted.is_err() {
        vm.kernel.0.world().net.conntrack.put(id);
        return Ok(0);
    }
    vm.kernel.show_connection(id, false);
    vm.acquire(ct, WHAT, RELEASE, Some(drop_connection));
    Ok(ct)
}

/// `bpf_ct_release(nfct)`.
fn release(vm: &mut Vm, [ct, ..]: [u64; 5]) -> Result<u64, Trap> {
    let id = connection(vm, ct, New::No)?;
    if !vm.release(ct) {
        return Err(refuse(format!("the program has no reference to the connection at {ct:#x}")));
    }
    vm.kernel.0.world().net.conntrack.put(id);
    Ok(0)
}

/// Milliseconds as ticks, which are as long here.
fn milliseconds(time: u32) -> u32 {
    time.min(MILLISECONDS_MAX)
}

/// `bpf_ct_set_timeout(nfct_i, milliseconds)`.
fn set_timeout(vm: &mut Vm, [ct, time, ..]: [u64; 5]) -> Result<u64, Trap> {
    let id = connection(vm, ct, New::Yes)?;
    let now = vm.kernel.0.now();
    if let Some(entry) = vm.kernel.0.world().net.conntrack.get_mut(id) {
        entry.set_timeout(milliseconds(time as u32), now);
    }
    vm.kernel.show_connection(id, false);
    Ok(0)
}

/// `bpf_ct_change_timeout(nfct, milliseconds)`.
fn change_timeout(vm: &mut Vm, [ct, time, ..]: [u64; 5]) -> Result<u64, Trap> {
    let id = connection(vm, ct, New::No)?;
    let now = vm.kernel.0.now();
    let changed = match vm.kernel.0.world().net.conntrack.get_mut(id) {
        Some(entry) => entry.change_timeout(milliseconds(time as u32), now),
        None => Ok(()),
    };
    vm.kernel.show_connection(id, false);
    Ok(answer(changed))
}

/// `bpf_ct_set_status(nfct_i, status)` and `bpf_ct_change_status`.
fn set_status(vm: &mut Vm, ct: u64, status: u32, new: New) -> Result<u64, Trap> {
    let id = connection(vm, ct, new)?;
    let changed = match vm.kernel.0.world().net.conntrack.get_mut(id) {
        Some(entry) => entry.change_status(status),
        None => Ok(()),
    };
    vm.kernel.show_connection(id, false);
    Ok(answer(changed))
}

/// `bpf_ct_set_nat_info(nfct_i, addr, port, manip)`.
fn set_nat_info(vm: &mut Vm, [ct, at, port, manip, _]: [u64; 5]) -> Result<u64, Trap> {
    let id = connection(vm, ct, New::Yes)?;
    let mut octets = [0; 16];
    vm.memory.read(at, &mut octets)?;
    let what = match manip as u32 {
        0 => Translate::Source,
        1 => Translate::Destination,
        other => {
            let text = "it is neither NF_NAT_MANIP_SRC (0) nor NF_NAT_MANIP_DST (1)";
            return Err(refuse(format!("bpf_ct_set_nat_info is asked for {other}: {text}")));
        }
    };
    let port = if port as i32 > 0 { Some(port as u16) } else { None };
    let translated = {
        let mut world = vm.kernel.0.world();
        let conntrack = &mut world.net.conntrack;
        let is_four = conntrack.get(id).is_some_and(|entry| entry.connection.source.is_ipv4());
        let ip = if is_four { address(octets.get(..4).unwrap_or_default()) } else { address(&octets) };
        ip.map_or(Err(Errno::EINVAL), |ip| conntrack.translate(id, ip, port, what))
    };
    vm.kernel.show_connection(id, false);
    Ok(answer(translated))
}

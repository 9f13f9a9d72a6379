//! Helpers that ask for routes and sizes.

use std::net::IpAddr;

use skep_sys::abi::{Errno, ProgType};

use super::check_context;
use crate::helper::negative;
use crate::net::{AF_INET, AF_INET6, Net, RouteKind};
use crate::packet::{SkBuff, Xdp};
use crate::vm::{Trap, Vm};

/// `sizeof(struct bpf_fib_lookup)`.
const PARAMS: usize = 64;
/// Flags of `bpf_fib_lookup`.
const DIRECT: u64 = 1;
const OUTPUT: u64 = 1 << 1;
const SKIP_NEIGH: u64 = 1 << 2;
const TBID: u64 = 1 << 3;
const SRC: u64 = 1 << 4;
const MARK: u64 = 1 << 5;
/// Answers of `bpf_fib_lookup`.
const BLACKHOLE: u64 = 1;
const UNREACHABLE: u64 = 2;
const PROHIBIT: u64 = 3;
const NOT_FWDED: u64 = 4;
const FWD_DISABLED: u64 = 5;
const NO_NEIGH: u64 = 7;
const FRAG_NEEDED: u64 = 8;
const NO_SRC_ADDR: u64 = 9;

/// `struct bpf_fib_lookup`.
struct Params([u8; PARAMS]);

impl Params {
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.0.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn put_address(&mut self, at: usize, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(at, &address.octets()),
            IpAddr::V6(address) => self.put(at, &address.octets()),
        }
    }
}

/// `bpf_fib_lookup(ctx, params, len, flags)`: 0 and the next hop in `params`, or why there is none.
pub(super) fn lookup(vm: &mut Vm, [context, params, len, flags, _]: [u64; 5]) -> Result<u64, Trap> {
    check_context(vm, context)?;
    let len = len as u32 as usize;
    vm.memory.check(params, len, true)?;
    if len < PARAMS || flags & !(DIRECT | OUTPUT | SKIP_NEIGH | TBID | SRC | MARK) != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let mut given = Params([0; PARAMS]);
    vm.memory.read(params, &mut given.0)?;
    // How long the packet is, where the program does not say and it may be asked for.
    let packet = vm.memory.context::<SkBuff>().map(|context| {
        let skb = &context.skb;
        skb.buffer.end.saturating_sub(skb.network)
    });
    let answer = find(&vm.kernel.0.world().net, &mut given, flags, packet);
    vm.memory.write(params, &given.0)?;
    Ok(match answer {
        Ok(answer) => answer,
        Err(errno) => negative(errno),
    })
}

fn find(net: &Net, params: &mut Params, flags: u64, packet: Option<usize>) -> Result<u64, Errno> {
    let [family] = params.part(0);
    let destination: IpAddr = match u32::from(family) {
        AF_INET => IpAddr::from(params.part::<4>(32)),
        AF_INET6 => IpAddr::from(params.part::<16>(32)),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let ifindex = u32::from_ne_bytes(params.part(8));
    let device = net.interfaces.get(&ifindex).ok_or(Errno::ENODEV)?;
    if !device.forwarding {
        return Ok(FWD_DISABLED);
    }
    let table = (flags & (DIRECT | TBID) == DIRECT | TBID).then(|| u32::from_ne_bytes(params.part(48)));
    let Some(route) = net.route(table.filter(|table| *table != 0), destination) else { return Ok(NOT_FWDED) };
    match route.kind {
        RouteKind::Unicast => {}
        RouteKind::Local => return Ok(NOT_FWDED),
        RouteKind::Blackhole => return Ok(BLACKHOLE),
        RouteKind::Unreachable => return Ok(UNREACHABLE),
        RouteKind::Prohibit => return Ok(PROHIBIT),
    }
    let Some(out) = net.interfaces.get(&route.ifindex) else { return Ok(NOT_FWDED) };
    let total = u16::from_ne_bytes(params.part(6));
    let mtu = route.mtu.unwrap_or(out.mtu);
    let mtu_16 = (mtu as u16).to_ne_bytes(); // the field has 16 bits
    if total > 0 && u32::from(total) > mtu {
        params.put(6, &mtu_16);
        return Ok(FRAG_NEEDED);
    }
    let next = route.gateway.unwrap_or(destination);
    params.put(12, &route.metric.to_ne_bytes());
    params.put(8, &route.ifindex.to_ne_bytes());
    if flags & SRC != 0 {
        match route.source {
            Some(source) => params.put_address(16, source),
            None => return Ok(NO_SRC_ADDR),
        }
    }
    if route.gateway.is_some() {
        if next.is_ipv6() && destination.is_ipv4() {
            params.put(0, &[AF_INET6 as u8]); // 10
        }
        params.put_address(32, next);
    }
    if flags & SKIP_NEIGH == 0 {
        let Some(mac) = net.neighbours.get(&(route.ifindex, next)) else { return Ok(NO_NEIGH) };
        params.put(58, mac);
        params.put(52, &out.mac);
    }
    params.put(48, &[0; 4]);
    if total > 0 {
        params.put(6, &mtu_16);
    } else if let Some(packet) = packet {
        params.put(6, &(out.mtu as u16).to_ne_bytes()); // the field has 16 bits
        if packet > out.mtu as usize {
            return Ok(FRAG_NEEDED);
        }
    }
    Ok(0)
}

/// `bpf_check_mtu(ctx, ifindex, mtu_len, len_diff, flags)`: 0 when the packet fits, 1 when it is too long, 2 when its parts
/// are.
pub(super) fn check_mtu(
    vm: &mut Vm,
    [context, ifindex, mtu_len, diff, flags]: [u64; 5],
) -> Result<u64, Trap> {
    const SEGS: u64 = 1;

    check_context(vm, context)?;
    let mut bytes = [0; 4];
    vm.memory.read(mtu_len, &mut bytes)?;
    let (given, diff) = (i64::from(u32::from_ne_bytes(bytes)), i64::from(diff as i32));
    let xdp = vm.prog().prog_type == ProgType::XDP;
    if flags & !SEGS != 0 || xdp && flags != 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let (own, segments) = if let Some(xdp) = vm.memory.context::<Xdp>() {
        ((xdp.ingress_ifindex, xdp.len()), false)
    } else if let Some(context) = vm.memory.context::<SkBuff>() {
        ((context.skb.ifindex, context.skb.buffer.len()), context.skb.gso_size > 0)
    } else {
        ((1, 0), false)
    };
    if flags & SEGS != 0 && given > 0 {
        return Ok(negative(Errno::EINVAL));
    }
    let ifindex = if ifindex as u32 == 0 { own.0 } else { ifindex as u32 };
    let mtu = vm.kernel.0.world().net.interfaces.get(&ifindex).map(|device| device.mtu);
    let Some(mtu) = mtu else { return Ok(negative(Errno::ENODEV)) };
    // The length that is given is that of the network layer, that of the packet includes the link header.
    let len = if given > 0 { given + 14 + diff } else { own.1 as i64 + diff };
    vm.memory.write(mtu_len, &mtu.to_ne_bytes())?;
    if len <= i64::from(mtu) + 14 || segments && given == 0 && flags & SEGS == 0 {
        return Ok(0);
    }
    Ok(1)
}

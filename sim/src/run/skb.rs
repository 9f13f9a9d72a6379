//! Test runs of programs that see socket buffers (`bpf_prog_test_run_skb`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use skep_sys::abi::{Errno, TestRunFlags};
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome, double, is_zero, put, word};
use super::once;
use crate::kernel::SimKernel;
use crate::net::{AF_INET, AF_INET6, Socket};
use crate::packet::flow::Flow;
use crate::packet::skb::{Checksum, ETH_IPV4, ETH_IPV6, packet_type};
use crate::packet::xdp::ETH_LEN;
use crate::packet::{Rules, SkBuff, Skb};
use crate::prog::Prog;
use crate::vm::Vm;

/// The longest packet that one page holds, beside the room that is kept on both sides.
pub(super) const LEN_MAX: usize = 4096 - 64 - 320;
/// `sizeof(struct __sk_buff)`.
const CONTEXT: usize = 192;
/// The most that a packet may have been before it was cut up (`GSO_LEGACY_MAX_SIZE`, `GSO_MAX_SEGS`).
const GSO_LEN_MAX: u32 = 65536;
const GSO_SEGS_MAX: u32 = 65535;
/// Regions of memory after which a run begins with new ones.
const REGIONS: usize = 4096;

pub(super) fn skb(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
) -> Result<(), Errno> {
    if !TestRunFlags::SKB_CHECKSUM_COMPLETE.contains(run.flags)
        || run.cpu != 0
        || run.batch_size != 0
        || !(ETH_LEN..=LEN_MAX).contains(&run.data_in.len())
    {
        return Err(Errno::EINVAL);
    }
    let mut context = finish::context(run, CONTEXT)?;
    let rules = Rules::of(prog.prog_type);
    let mut vm = Vm::new(kernel, prog, 0);
    let no_memory = |_| Errno::ENOMEM;
    let mut skb = Skb::received(&mut vm.memory, run.data_in).map_err(no_memory)?;
    let ifindex = context.as_ref().map_or(0, |context| word(context, 40));
    if ifindex > 1 {
        let world = kernel.0.world();
        let device = world.net.interfaces.get(&ifindex).ok_or(Errno::ENODEV)?;
        skb.ifindex = ifindex;
        skb.pkt_type = packet_type(run.data_in, device.mac);
    }
    let least = match skb.protocol {
        ETH_IPV4 => 20,
        ETH_IPV6 => 40,
        _ => 0,
    };
    if skb.buffer.len() < least {
        return Err(Errno::EINVAL);
    }
    let socket = dummy_socket(&skb, run.data_in);
    if rules.has_link_header() {
        skb.show_link_header(&mut vm.memory);
    }
    if let Some(context) = &context {
        set(&mut skb, context)?;
    } else {
        // Only a context makes the kernel think of it.
        skb.wire_len = 0;
    }
    if run.flags.contains(TestRunFlags::SKB_CHECKSUM_COMPLETE) {
        skb.checksum = Checksum::Complete;
        skb.csum = skb.sum(&vm.memory);
    }
    if rules == Rules::Filter {
        // Such programs load from the packet, and have no pointers into it.
        skb.buffer.protect(&mut vm.memory);
    }
    let cookie = kernel.0.world().net.add_socket(socket.clone()).0;
    skb.socket = Some(cookie);
    let ran = repeat(kernel, prog, run.repeat, &mut vm, skb, rules, &socket);
    kernel.0.world().net.remove_socket(cookie);
    let (skb, outcome) = ran?;

    let frame = if rules.has_link_header() {
        skb.buffer.bytes(&vm.memory).to_vec()
    } else {
        // The kernel puts a header of zeros where there was one.
        [&[0; ETH_LEN], skb.buffer.bytes(&vm.memory)].concat()
    };
    if run.flags.contains(TestRunFlags::SKB_CHECKSUM_COMPLETE) && !skb.has_sum(&vm.memory) {
        return Err(Errno::EBADMSG);
    }
    if let Some(context) = &mut context {
        get(&skb, context);
    }
    skb.buffer.show(&mut vm.memory);
    finish::packet(run, result, &frame, &[], outcome)?;
    finish::context_out(run, result, context.as_deref())
}

/// Runs the program as often as asked. The packet is not made new in between.
fn repeat(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    times: u32,
    vm: &mut Vm,
    skb: Skb,
    rules: Rules,
    socket: &Socket,
) -> Result<(Skb, Outcome), Errno> {
    let no_memory = |_| Errno::ENOMEM;
    let mut outcome = Outcome { runs: times.max(1), ..Outcome::default() };
    let cookie = skb.socket.unwrap_or_default();
    let mut address = start(vm, SkBuff::new(skb, rules), cookie, socket)?;
    for _ in 0..outcome.runs {
        if vm.memory.regions() > REGIONS {
            let mut next = Vm::new(kernel, prog, 0);
            let mut skb = vm.memory.take_context::<SkBuff>().ok_or(Errno::EFAULT)?.skb;
            skb.buffer.migrate(&mut vm.memory, &mut next.memory).map_err(no_memory)?;
            address = start(&mut next, SkBuff::new(skb, rules), cookie, socket)?;
            *vm = next;
        }
        outcome.retval = once(vm, prog, address)? as u32;
        outcome.instructions = outcome.instructions.saturating_add(vm.executed());
    }
    let skb = vm.memory.take_context::<SkBuff>().ok_or(Errno::EFAULT)?.skb;
    Ok((skb, outcome))
}

/// Puts a context into the memory of a run. Answers its address.
fn start(vm: &mut Vm, mut context: SkBuff, cookie: u64, socket: &Socket) -> Result<u64, Errno> {
    let no_memory = |_| Errno::ENOMEM;
    let address = vm.socket_address(cookie).map_err(no_memory)?;
    context.set_socket(address, socket);
    vm.memory.add_context(Box::new(context)).map_err(no_memory)
}

/// The socket that the kernel makes for a test run, with the addresses of the packet.
fn dummy_socket(skb: &Skb, frame: &[u8]) -> Socket {
    let none = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let mut socket = Socket::tcp(none);
    (socket.protocol, socket.kind, socket.tcp) = (0, 0, Default::default());
    socket.family = match skb.protocol {
        ETH_IPV4 => AF_INET,
        ETH_IPV6 => AF_INET6,
        _ => 0,
    };
    if let Some(flow) = Flow::of(skb.protocol, frame.get(ETH_LEN..)) {
        let address = |ip: IpAddr| SocketAddr::new(ip, 0);
        socket.local = address(flow.source);
        socket.remote = Some(address(flow.destination));
    }
    socket
}

/// Takes over what a test may say of a packet (`convert___skb_to_skb`).
fn set(skb: &mut Skb, context: &[u8]) -> Result<(), Errno> {
    // Fields that have to be zero: those between mark, priority, ingress_ifindex, ifindex, cb, tstamp, wire_len, gso_segs,
    // gso_size and hwtstamp.
    for range in [0..8, 12..32, 44..48, 68..152, 168..176, 180..184] {
        if !is_zero(context.get(range).unwrap_or_default()) {
            return Err(Errno::EINVAL);
        }
    }
    skb.mark = word(context, 8);
    skb.priority = word(context, 32);
    skb.ingress_ifindex = word(context, 36);
    skb.tstamp = double(context, 152);
    if let Some(cb) = context.get(48..).and_then(|bytes| bytes.first_chunk()) {
        skb.cb = *cb;
    }
    let (wire_len, segs, size) = (word(context, 160), word(context, 164), word(context, 176));
    skb.wire_len = match wire_len {
        0 => skb.len32(),
        len if len < skb.len32() || len > GSO_LEN_MAX => return Err(Errno::EINVAL),
        len => len,
    };
    if segs > GSO_SEGS_MAX {
        return Err(Errno::EINVAL);
    }
    (skb.gso_segs, skb.gso_size) = (segs as u16, size as u16); // the kernel's fields have 16 bits
    skb.hwtstamp = double(context, 184);
    Ok(())
}

/// Writes what the packet is like now (`convert_skb_to___skb`).
fn get(skb: &Skb, context: &mut [u8]) {
    put(context, 8, &skb.mark.to_ne_bytes());
    put(context, 32, &skb.priority.to_ne_bytes());
    put(context, 36, &skb.ingress_ifindex.to_ne_bytes());
    put(context, 40, &skb.ifindex.to_ne_bytes());
    put(context, 48, &skb.cb);
    put(context, 152, &skb.tstamp.to_ne_bytes());
    put(context, 160, &skb.wire_len.to_ne_bytes());
    put(context, 164, &u32::from(skb.gso_segs).to_ne_bytes());
    put(context, 184, &skb.hwtstamp.to_ne_bytes());
}

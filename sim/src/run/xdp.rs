//! Test runs of XDP programs (`bpf_prog_test_run_xdp`).

use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, TestRunFlags};
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome, put, word};
use super::once;
use crate::kernel::SimKernel;
use crate::packet::Xdp;
use crate::packet::xdp::{ETH_LEN, FRAME, HEADROOM, TAILROOM, bad_meta};
use crate::prog::Prog;
use crate::vm::Vm;

/// `sizeof(struct xdp_md)`.
const CONTEXT: usize = 24;
/// Most parts of a packet after the first (`MAX_SKB_FRAGS`).
const FRAGS_MAX: usize = 17;
/// Most frames of a batch (`TEST_XDP_MAX_BATCH`).
const BATCH_MAX: u32 = 256;
/// Regions of memory after which a run begins with new ones.
const REGIONS: usize = 4096;

pub(super) fn xdp(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
) -> Result<(), Errno> {
    let live = run.flags.contains(TestRunFlags::XDP_LIVE_FRAMES);
    if matches!(prog.expected_attach_type, AttachType::XDP_DEVMAP | AttachType::XDP_CPUMAP)
        || prog.device.is_some()
        || !TestRunFlags::XDP_LIVE_FRAMES.contains(run.flags)
        || !live && run.batch_size != 0
    {
        return Err(Errno::EINVAL);
    }
    if live && run.batch_size > BATCH_MAX {
        return Err(Errno::E2BIG);
    }
    let mut context = finish::context(run, CONTEXT)?;
    let len = run.data_in.len();
    let (mut meta, mut linear) = (0, len);
    if let Some(context) = &context {
        let [data, data_end, data_meta] = [0, 4, 8].map(|at| word(context, at) as usize);
        if data_meta != 0 || data_end > len || data > data_end {
            return Err(Errno::EINVAL);
        }
        if live && (!run.data_out.is_empty() || !run.ctx_out.is_empty()) {
            return Err(Errno::EINVAL);
        }
        (meta, linear) = (data, data_end);
    }
    if bad_meta(meta) || meta > HEADROOM - 40 {
        return Err(Errno::EINVAL);
    }
    let headroom = HEADROOM - meta; // checked just now
    linear = linear.min(FRAME - headroom - TAILROOM);
    if live && len > linear || len < ETH_LEN + meta {
        return Err(Errno::EINVAL);
    }
    let (first, mut rest) = run.data_in.split_at(linear); // not more than there is
    let mut frags = Vec::new();
    while !rest.is_empty() {
        if frags.len() == FRAGS_MAX {
            return Err(Errno::ENOMEM);
        }
        let (part, after) = rest.split_at(rest.len().min(FRAME)); // not more than there is
        frags.push(part.to_vec());
        rest = after;
    }
    let device = match &context {
        Some(context) => receiving(kernel, context)?,
        None => (1, 0),
    };
    if live {
        return super::live::frames(kernel, prog, run, result, first, meta, device);
    }
    let make = |vm: &mut Vm| -> Result<Xdp, Errno> {
        let mut xdp = Xdp::new(&mut vm.memory, headroom, meta, first).map_err(|_| Errno::ENOMEM)?;
        (xdp.ingress_ifindex, xdp.rx_queue) = device;
        Ok(xdp)
    };
    let mut vm = Vm::new(kernel, prog, 0);
    let mut packet = make(&mut vm)?;
    packet.frags = frags;
    let (packet, outcome) = repeat(kernel, prog, run.repeat, &mut vm, packet)?;
    if let Some(context) = &mut context {
        let (buffer, size) = (&packet.buffer, |len: usize| u32::try_from(len).unwrap_or(u32::MAX));
        put(context, 0, &size(buffer.data - buffer.meta).to_ne_bytes()); // metadata is before the packet
        put(context, 4, &size(buffer.end - buffer.meta).to_ne_bytes());
    }
    finish::packet(run, result, packet.buffer.with_meta(&vm.memory), &packet.frags, outcome)?;
    finish::context_out(run, result, context.as_deref())
}

/// The device and queue that a packet comes in by (`xdp_convert_md_to_buff`).
fn receiving(kernel: &SimKernel, context: &[u8]) -> Result<(u32, u32), Errno> {
    let [ifindex, queue, egress] = [12, 16, 20].map(|at| word(context, at));
    if egress != 0 || ifindex == 0 && queue != 0 {
        return Err(Errno::EINVAL);
    }
    if ifindex == 0 {
        return Ok((1, 0));
    }
    let world = kernel.0.world();
    let device = world.net.interfaces.get(&ifindex).ok_or(Errno::ENODEV)?;
    if queue >= device.rx_queues { Err(Errno::EINVAL) } else { Ok((ifindex, queue)) }
}

/// Runs the program as often as asked. The packet is not made new in between.
fn repeat(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    times: u32,
    vm: &mut Vm,
    packet: Xdp,
) -> Result<(Box<Xdp>, Outcome), Errno> {
    let no_memory = |_| Errno::ENOMEM;
    let mut outcome = Outcome { runs: times.max(1), ..Outcome::default() };
    let mut address = vm.memory.add_context(Box::new(packet)).map_err(no_memory)?;
    for _ in 0..outcome.runs {
        if vm.memory.regions() > REGIONS {
            let mut next = Vm::new(kernel, prog, 0);
            let mut packet = vm.memory.take_context::<Xdp>().ok_or(Errno::EFAULT)?;
            packet.buffer.migrate(&mut vm.memory, &mut next.memory).map_err(no_memory)?;
            address = next.memory.add_context(packet).map_err(no_memory)?;
            *vm = next;
        }
        outcome.retval = once(vm, prog, address)? as u32;
        outcome.instructions = outcome.instructions.saturating_add(vm.executed());
    }
    let packet = vm.memory.take_context::<Xdp>().ok_or(Errno::EFAULT)?;
    Ok((packet, outcome))
}

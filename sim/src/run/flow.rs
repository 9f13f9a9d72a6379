//! Test runs of flow dissectors (`bpf_prog_test_run_flow_dissector`).

use std::sync::Arc;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome, is_zero, word};
use super::{check_plain, once};
use crate::kernel::SimKernel;
use crate::packet::xdp::{ETH_LEN, FRAME};
use crate::packet::{Rules, SkBuff, Skb};
use crate::prog::Prog;
use crate::vm::{Vm, What};

/// `sizeof(struct bpf_flow_keys)`.
const KEYS: usize = 56;
/// Offset of `flags` in it.
const FLAGS: usize = 48;

pub(super) fn flow(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
) -> Result<(), Errno> {
    check_plain(run)?;
    if !(ETH_LEN..=FRAME).contains(&run.data_in.len()) {
        return Err(Errno::EINVAL);
    }
    let context = finish::context(run, KEYS)?;
    let mut flags = 0;
    if let Some(context) = &context {
        let rest = [0..FLAGS, FLAGS + 4..KEYS];
        if !rest.into_iter().all(|range| is_zero(context.get(range).unwrap_or_default())) {
            return Err(Errno::EINVAL);
        }
        flags = word(context, FLAGS);
    }
    let no_memory = |_| Errno::ENOMEM;
    let mut outcome = Outcome { runs: run.repeat.max(1), ..Outcome::default() };
    let mut keys = Vec::new();
    let mut vm = Vm::new(kernel, prog, 0);
    for _ in 0..outcome.runs {
        if vm.memory.regions() > 256 {
            vm = Vm::new(kernel, prog, 0);
        }
        let mut skb = Skb::received(&mut vm.memory, run.data_in).map_err(no_memory)?;
        skb.show_link_header(&mut vm.memory);
        skb.buffer.protect(&mut vm.memory);
        let len = run.data_in.len() as u16; // at most a page
        let first = first_keys(run.data_in, flags);
        let place = vm.own(What::Other("the flow keys"), first, true).map_err(no_memory)?;
        let mut context = SkBuff::new(skb, Rules::FlowDissector);
        context.flow_keys = place;
        let address = vm.memory.add_context(Box::new(context)).map_err(no_memory)?;
        outcome.retval = once(&mut vm, prog, address)? as u32;
        outcome.instructions = outcome.instructions.saturating_add(vm.executed());
        keys = vm.memory.bytes(place, KEYS).map_err(no_memory)?;
        clamp(&mut keys, len);
    }
    finish::packet(run, result, &keys, &[], outcome)?;
    finish::context_out(run, result, context.as_deref())
}

/// What a dissector starts with: both offsets after the link header, and the EtherType.
fn first_keys(frame: &[u8], flags: u32) -> Vec<u8> {
    let mut keys = vec![0; KEYS];
    let offset = (ETH_LEN as u16).to_ne_bytes(); // 14
    finish::put(&mut keys, 0, &offset);
    finish::put(&mut keys, 2, &offset);
    finish::put(&mut keys, 10, frame.get(12..14).unwrap_or_default());
    finish::put(&mut keys, FLAGS, &flags.to_ne_bytes());
    keys
}

/// Keeps the offsets inside of the packet and in order, as the kernel does with what a dissector answers.
fn clamp(keys: &mut [u8], len: u16) {
    let offset = |keys: &[u8], at: usize| {
        keys.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u16::from_ne_bytes(*bytes))
    };
    let network = offset(keys, 0).clamp(ETH_LEN as u16, len); // the packet is never shorter
    let transport = offset(keys, 2).clamp(network, len);
    finish::put(keys, 0, &network.to_ne_bytes());
    finish::put(keys, 2, &transport.to_ne_bytes());
}

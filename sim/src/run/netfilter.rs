//! Test runs of netfilter programs (`bpf_prog_test_run_nf`).

use std::sync::Arc;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome, is_zero};
use super::skb::LEN_MAX;
use super::{check_plain, once};
use crate::kernel::SimKernel;
use crate::packet::skb::{ETH_IPV4, ETH_IPV6};
use crate::packet::xdp::ETH_LEN;
use crate::packet::{Skb, netfilter_context};
use crate::prog::Prog;
use crate::vm::Vm;

/// `sizeof(struct nf_hook_state)`.
const CONTEXT: usize = 48;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Index of the device that packets of test runs are at.
const LOOPBACK: u32 = 1;
/// Number of the hook for packets that leave.
const LOCAL_OUT: u8 = 3;

pub(super) fn netfilter(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
) -> Result<(), Errno> {
    check_plain(run)?;
    if !(20..=LEN_MAX).contains(&run.data_in.len()) {
        return Err(Errno::EINVAL);
    }
    let (mut hook, mut family) = (LOCAL_OUT, IPV4);
    if let Some(context) = finish::context(run, CONTEXT)? {
        // Devices, socket and namespace are the kernel's to say.
        if !is_zero(context.get(8..).unwrap_or_default()) {
            return Err(Errno::EINVAL);
        }
        (hook, family) = (context.first().copied().unwrap_or(0), context.get(1).copied().unwrap_or(0));
        if !matches!(family, IPV4 | IPV6) {
            return Err(Errno::EINVAL);
        }
    }
    let no_memory = |_| Errno::ENOMEM;
    let mut vm = Vm::new(kernel, prog, 0);
    let mut skb = Skb::received(&mut vm.memory, run.data_in).map_err(no_memory)?;
    if hook == LOCAL_OUT {
        // What is given is the packet as it is, whatever it begins with.
        skb.show_link_header(&mut vm.memory);
        (skb.network, skb.ifindex) = (skb.buffer.data, 0);
        skb.protocol = if family == IPV4 { ETH_IPV4 } else { ETH_IPV6 };
    } else {
        let least = match skb.protocol {
            ETH_IPV4 if family == IPV4 => 20,
            ETH_IPV6 if family == IPV6 => 40,
            ETH_IPV4 | ETH_IPV6 => return Err(Errno::EINVAL),
            _ => return Err(Errno::EPROTO),
        };
        if run.data_in.len() < ETH_LEN + least {
            return Err(Errno::EINVAL);
        }
    }
    // Devices are told of only where a context was given, which is looked at as one of packets that leave.
    let devices = if run.ctx_in.is_empty() && run.ctx.is_empty() { (0, 0) } else { (0, LOOPBACK) };
    let address = netfilter_context(&mut vm, skb, hook, family, devices).map_err(no_memory)?;
    let mut outcome = Outcome { runs: run.repeat.max(1), ..Outcome::default() };
    for _ in 0..outcome.runs {
        outcome.retval = once(&mut vm, prog, address)? as u32;
        outcome.instructions = outcome.instructions.saturating_add(vm.executed());
    }
    finish::packet(run, result, &[], &[], outcome)
}

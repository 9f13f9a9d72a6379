//! Test runs of programs that choose sockets (`bpf_prog_test_run_sk_lookup`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome, is_zero, put, word};
use super::{check_plain, once};
use crate::kernel::SimKernel;
use crate::net::{AF_INET, AF_INET6};
use crate::packet::SkLookup;
use crate::prog::Prog;
use crate::vm::Vm;

/// `sizeof(struct bpf_sk_lookup)`.
const CONTEXT: usize = 72;
/// The verdict of a program that has no objection.
const PASS: u32 = 1;

pub(super) fn lookup(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
) -> Result<(), Errno> {
    check_plain(run)?;
    if !run.data_in.is_empty() || !run.data_out.is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut context = finish::context(run, CONTEXT)?.ok_or(Errno::EINVAL)?;
    if !is_zero(context.get(..8).unwrap_or_default()) || !is_zero(context.get(64..).unwrap_or_default()) {
        return Err(Errno::EINVAL);
    }
    let port = u16::try_from(word(&context, 60)).map_err(|_| Errno::ERANGE)?;
    let chunk = |at: usize| context.get(at..).unwrap_or_default();
    let remote_port = chunk(36).first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
    let family = word(&context, 8) & 0xffff;
    let address = |four: usize, six: usize| -> Result<IpAddr, Errno> {
        match family {
            AF_INET => {
                Ok(chunk(four).first_chunk().map_or(Ipv4Addr::UNSPECIFIED, |a: &[u8; 4]| (*a).into()).into())
            }
            AF_INET6 => {
                Ok(chunk(six).first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |a: &[u8; 16]| (*a).into()).into())
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    };
    let first = SkLookup {
        family,
        protocol: word(&context, 12) & 0xffff,
        remote: (address(16, 20)?, remote_port),
        local: (address(40, 44)?, port),
        ingress_ifindex: 0,
        selected: None,
        selected_address: 0,
        no_reuseport: false,
    };
    let mut outcome = Outcome { runs: run.repeat.max(1), ..Outcome::default() };
    let mut selected = None;
    for _ in 0..outcome.runs {
        let mut vm = Vm::new(kernel, prog, 0);
        let at = vm.memory.add_context(Box::new(first.clone())).map_err(|_| Errno::ENOMEM)?;
        let verdict = once(&mut vm, prog, at)? as u32;
        selected =
            vm.memory.context::<SkLookup>().and_then(|c| c.selected.map(|cookie| (cookie, c.no_reuseport)));
        outcome.retval = u32::from(verdict == PASS);
        selected = selected.filter(|_| verdict == PASS);
        outcome.instructions = outcome.instructions.saturating_add(vm.executed());
    }
    if let Some((cookie, no_reuseport)) = selected {
        let shares = kernel.0.world().net.socket(cookie).is_some_and(|socket| socket.reuse_port);
        if shares && !no_reuseport {
            return Err(Errno::EOPNOTSUPP);
        }
        put(&mut context, 0, &cookie.to_ne_bytes());
    }
    finish::packet(run, result, &[], &[], outcome)?;
    finish::context_out(run, result, Some(&context))
}

//! Running programs for `BPF_PROG_TEST_RUN`, with the rules that the kernel has for each type.

mod bytes;
mod finish;
mod flow;
mod live;
mod lookup;
mod netfilter;
mod skb;
mod xdp;

use std::sync::Arc;

use skep_sys::abi::{Errno, ProgType};
use skep_sys::request::{TestRun, TestRunResult};

use crate::kernel::SimKernel;
use crate::prog::Prog;
use crate::vm::{Fault, Vm};

/// Runs a program as asked. What is answered beside an errno is what the kernel has written by then.
pub(crate) fn test_run(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
) -> Result<TestRunResult, (Errno, TestRunResult)> {
    let mut untouched = TestRunResult::default();
    // The room that was given, where a kernel has not written the length of the packet in its place.
    untouched.data_size_out = u32::try_from(run.data_out.len()).unwrap_or(u32::MAX);
    let fail = |errno| (errno, untouched);
    match prog.prog_type {
        ProgType::RAW_TRACEPOINT => bytes::raw_tracepoint(kernel, prog, run).map_err(fail),
        ProgType::SYSCALL => bytes::syscall(kernel, prog, run).map_err(fail),
        ProgType::XDP => packet(run, untouched, |run, result| xdp::xdp(kernel, prog, run, result)),
        ProgType::SOCKET_FILTER
        | ProgType::SCHED_CLS
        | ProgType::SCHED_ACT
        | ProgType::CGROUP_SKB
        | ProgType::LWT_IN
        | ProgType::LWT_OUT
        | ProgType::LWT_XMIT => packet(run, untouched, |run, result| skb::skb(kernel, prog, run, result)),
        ProgType::FLOW_DISSECTOR => {
            packet(run, untouched, |run, result| flow::flow(kernel, prog, run, result))
        }
        ProgType::SK_LOOKUP => {
            packet(run, untouched, |run, result| lookup::lookup(kernel, prog, run, result))
        }
        ProgType::NETFILTER => {
            packet(run, untouched, |run, result| netfilter::netfilter(kernel, prog, run, result))
        }
        _ if prog.can_be_tested() => Err(fail(Errno::ENOSYS)),
        _ => Err(fail(Errno::ENOTSUPP)),
    }
}

/// A test run that may fail after it has written a part of its answer.
fn packet(
    run: &mut TestRun<'_>,
    untouched: TestRunResult,
    with: impl FnOnce(&mut TestRun<'_>, &mut TestRunResult) -> Result<(), Errno>,
) -> Result<TestRunResult, (Errno, TestRunResult)> {
    let mut result = untouched;
    match with(run, &mut result) {
        Ok(()) => Ok(result),
        Err(errno) => Err((errno, result)),
    }
}

/// Runs a program once and notes its fault. `EFAULT` stands for one, since a kernel has no errno for that.
pub(crate) fn once(vm: &mut Vm, prog: &Arc<Prog>, context: u64) -> Result<u64, Errno> {
    vm.run(prog, context).map_err(|fault| note(vm, fault))
}

fn note(vm: &Vm, fault: Box<Fault>) -> Errno {
    vm.kernel.0.world().faults.add(*fault);
    Errno::EFAULT
}

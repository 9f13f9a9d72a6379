//! Running programs for `BPF_PROG_TEST_RUN`, with the rules that the kernel has for each type.

mod bytes;
mod finish;
mod flow;
mod live;
mod lookup;
mod netfilter;
mod skb;
#[cfg(test)]
mod tests;
mod xdp;

use std::sync::Arc;

use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{TestRun, TestRunResult};

use crate::event::{FunctionCall, Scene};
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
        ProgType::TRACING => tracing(kernel, prog, run).map_err(fail),
        // Only those of a kernel's own table for tests can be run by themselves, and here it is not.
        ProgType::STRUCT_OPS => Err(fail(Errno::EOPNOTSUPP)),
        _ if prog.can_be_tested() => Err(fail(Errno::ENOSYS)),
        _ => Err(fail(Errno::ENOTSUPP)),
    }
}

/// `EINVAL` for what only some kinds of programs are run with: flags, on a CPU, in batches.
fn check_plain(run: &TestRun<'_>) -> Result<(), Errno> {
    let plain = run.flags.is_empty() && run.cpu == 0 && run.batch_size == 0;
    if plain { Ok(()) } else { Err(Errno::EINVAL) }
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

/// `bpf_prog_test_run_tracing`: calls the functions that a kernel has for it, so that what is attached there runs. Which
/// program is asked for does not matter beyond its kind.
fn tracing(kernel: &SimKernel, prog: &Prog, run: &TestRun<'_>) -> Result<TestRunResult, Errno> {
    /// Arguments and result of `bpf_fentry_test1` to 6.
    const CALLS: [(&str, &[u64], i64); 6] = [
        ("bpf_fentry_test1", &[1], 2),
        ("bpf_fentry_test2", &[2, 3], 5),
        ("bpf_fentry_test3", &[4, 5, 6], 15),
        ("bpf_fentry_test4", &[7, 8, 9, 10], 34),
        ("bpf_fentry_test5", &[11, 12, 13, 14, 15], 65),
        ("bpf_fentry_test6", &[16, 17, 18, 19, 20, 21], 111),
    ];

    /// Arguments after the first two and result of the functions whose return value is modified.
    const RETURNS: [(&str, &[u64], i64); 2] =
        [("bpf_modify_return_test", &[], 4), ("bpf_modify_return_test2", &[3, 4, 5, 6, 7], 29)];

    check_plain(run)?;
    let mut result = TestRunResult::default();
    let call = |name: &str, args: &[u64], returns: i64| {
        let call = args.iter().fold(FunctionCall::new(name), |call, arg| call.arg(*arg));
        // Whatever types the kernel has: these functions are there for test runs.
        kernel.fire(call.returns(returns).in_scene(&Scene::default())).map_err(|_| Errno::EFAULT)
    };
    match prog.expected_attach_type {
        AttachType::TRACE_FENTRY | AttachType::TRACE_FEXIT | AttachType::TRACE_FSESSION => {
            for (name, args, returns) in CALLS {
                if call(name, args, returns)?.returned != returns {
                    return Err(Errno::EFAULT);
                }
            }
        }
        AttachType::MODIFY_RETURN => {
            let mut side_effects = 0;
            let mut returned = 0;
            // Both add 1 to the number that their second argument points to, when they run.
            for (name, rest, returns) in RETURNS {
                let number = kernel.memory().put(&2_i32.to_ne_bytes());
                let args = [&[1, number], rest].concat();
                let outcome = call(name, &args, returns)?;
                side_effects += u32::from(!outcome.skipped);
                returned += outcome.returned;
            }
            result.retval = side_effects << 16 | u32::from(returned as u16);
        }
        _ => return Err(Errno::EFAULT),
    }
    Ok(result)
}

/// Runs a program once and notes its fault. `EFAULT` stands for one, since a kernel has no errno for that.
pub(crate) fn once(vm: &mut Vm, prog: &Arc<Prog>, context: u64) -> Result<u64, Errno> {
    vm.run(prog, context).map_err(|fault| note(vm, fault))
}

fn note(vm: &Vm, fault: Box<Fault>) -> Errno {
    vm.kernel.0.world().faults.add(*fault);
    Errno::EFAULT
}

//! Running programs for `BPF_PROG_TEST_RUN`, with the rules that the kernel has for each type.

mod bytes;

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
        _ if prog.can_be_tested() => Err(fail(Errno::ENOSYS)),
        _ => Err(fail(Errno::ENOTSUPP)),
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

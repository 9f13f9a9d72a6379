//! Programs whose context is plain bytes.

use std::sync::Arc;

use skep_sys::abi::{Errno, TestRunFlags};
use skep_sys::request::{TestRun, TestRunResult};

use super::{check_plain, note};
use crate::kernel::SimKernel;
use crate::prog::Prog;
use crate::vm::{FaultKind, Vm, What};

/// Most arguments of a tracepoint (`MAX_BPF_FUNC_ARGS`).
const ARGS_MAX: usize = 12;
/// Most bytes of a context (`U16_MAX`).
const CTX_MAX: usize = 0xffff;

/// `EINVAL` for what only runs on packets have: data, a context that comes back, repetition.
fn check_bytes(run: &TestRun<'_>) -> Result<(), Errno> {
    let plain = run.data_in.is_empty() && run.data_out.is_empty() && run.ctx_out.is_empty();
    if plain && run.repeat == 0 && run.batch_size == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `bpf_prog_test_run_raw_tp`.
pub(super) fn raw_tracepoint(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
) -> Result<TestRunResult, Errno> {
    check_bytes(run)?;
    if run.ctx_in.len() > ARGS_MAX * 8 || !TestRunFlags::RUN_ON_CPU.contains(run.flags) {
        return Err(Errno::EINVAL);
    }
    let on_cpu = run.flags.contains(TestRunFlags::RUN_ON_CPU);
    if !on_cpu && run.cpu != 0 {
        return Err(Errno::EINVAL);
    }
    if run.cpu >= kernel.0.config().cpus {
        return Err(Errno::ENXIO);
    }
    let mut vm = Vm::new(kernel, prog, run.cpu);
    let context = vm.own(What::Context, run.ctx_in.to_vec(), false).map_err(|_| Errno::ENOMEM)?;
    let mut result = TestRunResult::default();
    result.retval = run_with(&mut vm, prog, context, run.ctx_in.len())? as u32;
    Ok(result)
}

/// `bpf_prog_test_run_syscall`.
pub(super) fn syscall(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
) -> Result<TestRunResult, Errno> {
    check_bytes(run)?;
    check_plain(run)?;
    let bytes = if run.ctx.is_empty() { run.ctx_in } else { &*run.ctx };
    if bytes.len() > CTX_MAX {
        return Err(Errno::EINVAL);
    }
    let len = bytes.len();
    let mut vm = Vm::new(kernel, prog, 0);
    let context = vm.own(What::Context, bytes.to_vec(), true).map_err(|_| Errno::ENOMEM)?;
    let mut result = TestRunResult::default();
    result.retval = run_with(&mut vm, prog, context, len)? as u32;
    // The bytes that were given are written over.
    if !run.ctx.is_empty() {
        vm.memory.read(context, run.ctx).map_err(|_| Errno::EFAULT)?;
    }
    Ok(result)
}

/// Runs a program whose context has so many bytes. A kernel knows from the verifier how much of it a program reads or writes,
/// and refuses a context that is shorter; here that is found out when the program gets there.
fn run_with(vm: &mut Vm, prog: &Arc<Prog>, context: u64, len: usize) -> Result<u64, Errno> {
    vm.run(prog, context).map_err(|fault| {
        let behind = match fault.kind {
            FaultKind::Access { address, len: access, .. } => {
                let at = address.wrapping_sub(context);
                at < CTX_MAX as u64 && at + access as u64 > len as u64
            }
            _ => false,
        };
        let errno = note(vm, fault);
        if behind { Errno::EINVAL } else { errno }
    })
}

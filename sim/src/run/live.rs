//! Test runs of XDP programs on frames that go on through the network (`BPF_F_TEST_XDP_LIVE_FRAMES`).

use std::sync::Arc;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome};
use super::once;
use crate::kernel::SimKernel;
use crate::packet::Xdp;
use crate::prog::Prog;
use crate::vm::Vm;

/// Frames that are made one by one.
#[allow(clippy::too_many_arguments, reason = "what the caller has found out, once")]
pub(super) fn frames(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
    frame: &[u8],
    meta: usize,
    headroom: usize,
    device: (u32, u32),
) -> Result<(), Errno> {
    let outcome = Outcome { runs: run.repeat.max(1), ..Outcome::default() };
    for _ in 0..outcome.runs {
        let no_memory = |_| Errno::ENOMEM;
        let mut vm = Vm::new(kernel, prog, 0);
        let mut xdp = Xdp::new(&mut vm.memory, headroom, meta, frame).map_err(no_memory)?;
        (xdp.ingress_ifindex, xdp.rx_queue) = device;
        let address = vm.memory.add_context(Box::new(xdp)).map_err(no_memory)?;
        once(&mut vm, prog, address)?;
    }
    finish::packet(run, result, frame, &[], outcome)
}

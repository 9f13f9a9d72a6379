//! Test runs of XDP programs on frames that go on through the network (`BPF_F_TEST_XDP_LIVE_FRAMES`).

use std::sync::Arc;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

use super::finish::{self, Outcome};
use crate::event::EventError;
use crate::kernel::SimKernel;
use crate::prog::Prog;

/// Frames that are made one by one and go where the program says: into the stack, out of the device again, or elsewhere.
pub(super) fn frames(
    kernel: &SimKernel,
    prog: &Arc<Prog>,
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
    frame: &[u8],
    meta: usize,
    device: (u32, u32),
) -> Result<(), Errno> {
    let outcome = Outcome { runs: run.repeat.max(1), ..Outcome::default() };
    for _ in 0..outcome.runs {
        match kernel.live_frame(prog, frame, meta, device) {
            Ok(()) => {}
            Err(EventError::Errno { errno, .. }) => return Err(errno),
            Err(_) => return Err(Errno::EFAULT),
        }
    }
    finish::packet(run, result, frame, &[], outcome)
}

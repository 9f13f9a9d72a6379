//! What all test runs that take packets have in common: contexts in and out, and how results are written.

use std::time::Duration;

use skep_sys::abi::Errno;
use skep_sys::request::{TestRun, TestRunResult};

/// What came of the runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) retval: u32,
    /// Of all runs together.
    pub(super) instructions: u64,
    pub(super) runs: u32,
}

impl Outcome {
    /// The mean time of a run. Here an instruction takes a nanosecond, so that it is the same each time.
    fn duration(self) -> u32 {
        let mean = Duration::from_nanos(self.instructions / u64::from(self.runs.max(1)));
        u32::try_from(mean.as_nanos()).unwrap_or(u32::MAX)
    }
}

/// The context that was given, with zeros up to the length of the kernel's, if one is needed at all (`bpf_ctx_init`).
pub(super) fn context(run: &TestRun<'_>, size: usize) -> Result<Option<Vec<u8>>, Errno> {
    if run.ctx_in.is_empty() && run.ctx_out.is_empty() {
        return Ok(None);
    }
    if run.ctx_in.get(size..).is_some_and(|tail| tail.iter().any(|byte| *byte != 0)) {
        return Err(Errno::E2BIG);
    }
    let mut context = run.ctx_in.to_vec();
    context.resize(size, 0);
    Ok(Some(context))
}

/// Writes the packet and what came of it (`bpf_test_finish`). `rest` are the parts of the packet after the first.
pub(super) fn packet(
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
    first: &[u8],
    rest: &[Vec<u8>],
    outcome: Outcome,
) -> Result<(), Errno> {
    let parts: usize = rest.iter().map(Vec::len).sum();
    let size = first.len() + parts;
    let room = run.data_out.len();
    let mut fits = true;
    if room > 0 {
        let copied = size.min(room);
        fits = copied == size;
        // The kernel counts the room for the first part from the end: what does not hold the others gets nothing at all.
        let Some(linear) = copied.checked_sub(parts) else { return Err(Errno::ENOSPC) };
        copy(run.data_out, 0, first.get(..linear).unwrap_or(first));
        let mut at = linear;
        for part in rest {
            let count = part.len().min(copied.saturating_sub(at));
            copy(run.data_out, at, part.get(..count).unwrap_or_default());
            at += count;
        }
    }
    result.data_size_out = u32::try_from(size).unwrap_or(u32::MAX);
    result.retval = outcome.retval;
    result.duration_ns = outcome.duration();
    if fits { Ok(()) } else { Err(Errno::ENOSPC) }
}

/// Writes the context (`bpf_ctx_finish`).
pub(super) fn context_out(
    run: &mut TestRun<'_>,
    result: &mut TestRunResult,
    context: Option<&[u8]>,
) -> Result<(), Errno> {
    let Some(context) = context.filter(|_| !run.ctx_out.is_empty()) else { return Ok(()) };
    let count = context.len().min(run.ctx_out.len());
    copy(run.ctx_out, 0, context.get(..count).unwrap_or_default());
    result.ctx_size_out = u32::try_from(context.len()).unwrap_or(u32::MAX);
    if count == context.len() { Ok(()) } else { Err(Errno::ENOSPC) }
}

fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    if let Some(to) = to.get_mut(at..at + from.len()) {
        to.copy_from_slice(from);
    }
}

/// Whether bytes are all zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The word at an offset of a context.
pub(super) fn word(context: &[u8], at: usize) -> u32 {
    context.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u32::from_ne_bytes(*word))
}

/// The double word at an offset of a context.
pub(super) fn double(context: &[u8], at: usize) -> u64 {
    context.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// Writes at an offset of a context.
pub(super) fn put(context: &mut [u8], at: usize, bytes: &[u8]) {
    copy(context, at, bytes);
}

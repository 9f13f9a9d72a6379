//! What programs print.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use skep_sys::abi::Errno;

use crate::kernel::SimKernel;
use crate::vm::Vm;

/// Lines that are kept.
const LINES_MAX: usize = 1 << 16;
/// Bytes of a stream that are kept (`BPF_STREAM_MAX_CAPACITY`).
const STREAM_MAX: usize = 100_000;

/// A line that a program printed with `bpf_trace_printk`, as [`SimKernel::trace`] answers it. Printed, it has the form of a
/// line of `trace_pipe`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceLine {
    /// Name of the task that the program ran in.
    pub comm: String,
    /// Its id.
    pub pid: u32,
    /// The CPU.
    pub cpu: u32,
    /// When, since boot.
    pub time: Duration,
    /// Name of the program.
    pub program: String,
    /// The text, with the newline that the program may have given it.
    pub text: String,
}

impl TraceLine {
    pub(crate) fn new(vm: &Vm, text: String) -> TraceLine {
        let (pid, comm) = vm.current(|task| (task.pid(), task.name()));
        let time = Duration::from_nanos(vm.kernel.0.now());
        TraceLine { comm, pid, cpu: vm.cpu, time, program: vm.prog().name().to_owned(), text }
    }
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceLine { comm, pid, cpu, time, text, .. } = self;
        let (seconds, micros) = (time.as_secs(), time.subsec_micros());
        write!(f, "{comm:>16}-{pid:<7} [{cpu:03}] ..... {seconds:5}.{micros:06}: bpf_trace_printk: {text}")
    }
}

/// The last lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(VecDeque<TraceLine>);

impl Trace {
    pub(crate) fn add(&mut self, line: TraceLine) {
        if self.0.len() >= LINES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

/// What programs printed into their streams, by program and stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(BTreeMap<(u32, u32), VecDeque<u8>>);

impl Streams {
    /// Adds bytes; `ENOSPC` when there is no room for them.
    pub(crate) fn add(&mut self, program: u32, stream: u32, bytes: &[u8]) -> Result<(), Errno> {
        let there = self.0.entry((program, stream)).or_default();
        if there.len() + bytes.len() > STREAM_MAX {
            return Err(Errno::ENOSPC);
        }
        there.extend(bytes);
        Ok(())
    }

    /// Takes bytes out.
    pub(crate) fn take(&mut self, program: u32, stream: u32, to: &mut [u8]) -> usize {
        let Some(there) = self.0.get_mut(&(program, stream)) else { return 0 };
        let count = there.len().min(to.len());
        to.iter_mut().zip(there.drain(..count)).for_each(|(to, byte)| *to = byte);
        count
    }
}

impl SimKernel {
    /// What programs printed with `bpf_trace_printk` and `bpf_trace_vprintk` (`bpf_printk` in C): the last lines, oldest
    /// first, 65536 at most.
    ///
    /// ```
    /// use skep_asm::{Assembler, Reg, Size};
    /// use skep_sim::SimKernel;
    /// use skep_sys::abi::ProgType;
    /// use skep_sys::request::{ProgLoad, TestRun};
    /// use skep_sys::Kernel;
    ///
    /// let sim = SimKernel::new();
    /// let kernel = Kernel::new(sim.clone());
    /// let mut asm = Assembler::new();
    /// // "n %d" and its NUL, on the stack.
    /// asm.ld_imm64(Reg::R1, u64::from_le_bytes(*b"n %d\0\0\0\0")).stx(Size::DW, Reg::R10, -8, Reg::R1);
    /// asm.mov64_reg(Reg::R1, Reg::R10).add64_imm(Reg::R1, -8).mov64_imm(Reg::R2, 5).mov64_imm(Reg::R3, 42);
    /// asm.call_helper(6).exit();
    /// let program = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &asm.finish()?, "GPL"), None)?;
    /// let result = program.test_run(&mut TestRun::default()).unwrap();
    /// assert_eq!(result.retval, 4);
    /// assert_eq!(sim.trace()[0].text, "n 42");
    /// assert!(sim.trace()[0].to_string().ends_with(" [000] .....     1.000000: bpf_trace_printk: n 42"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trace(&self) -> Vec<TraceLine> {
        self.0.world().trace.0.iter().cloned().collect()
    }

    /// As [`trace`](SimKernel::trace), and forgets the lines.
    pub fn take_trace(&self) -> Vec<TraceLine> {
        std::mem::take(&mut self.0.world().trace.0).into()
    }
}

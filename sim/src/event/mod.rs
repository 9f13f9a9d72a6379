//! Events: what happens in a simulated kernel, and which programs run because of it.
//!
//! An event is a value with what it has to say; [`SimKernel::fire`] lets it happen. The programs that are attached to its
//! place run in Linux's order, which [`SimKernel::fire`] names, and the outcome tells what each did.

mod argument;
mod attach;
mod call;
mod device;
mod group;
mod known;
mod layout;
mod lsm;
mod option;
mod outcome;
mod packet;
mod perf;
mod registers;
mod road;
mod scene;
mod section;
mod site;
mod sock_ops;
mod socket;
mod socket_life;
mod stream;
mod syscall;
mod syscalls;
mod sysctl;
mod table;
mod tcp;
mod tracepoint;
mod unix;
mod uprobe;
mod usdt;

pub use argument::Argument;
pub use attach::{AttachError, AttachPoint};
pub(crate) use attach::{Code, Point, PointKind};
pub use call::{CallOutcome, FunctionCall};
pub use device::{DeviceAccess, DeviceOutcome};
pub(crate) use known::{Named, near};
pub use lsm::{Lsm, LsmOutcome};
pub use option::{OptionCall, OptionOutcome};
pub use outcome::{EventError, Run, Runs, TraceEffect};
pub use packet::{Fate, Passage, Receive, Transmit, Verdict};
pub use perf::PerfSample;
pub use registers::Registers;
pub(crate) use scene::{Scene, run_prog};
pub(crate) use site::{Branch, Site};
pub use sock_ops::{SockOp, SockOpsRun};
pub use socket::{SocketCall, SocketOutcome};
pub use socket_life::{SocketCreate, SocketCreated, SocketRelease, SocketReleased};
pub use stream::{Moved, ReceiveBytes, SendBytes, StreamOutcome};
pub use syscall::{Syscall, SyscallOutcome};
pub use sysctl::{Sysctl, SysctlOutcome};
pub use table::TableCall;
pub use tcp::{TcpEvent, TcpOutcome};
pub use tracepoint::{RawTracepoint, Tracepoint};
pub use unix::{UnixCall, UnixOutcome};
pub use uprobe::{Uprobe, UprobeOutcome};

use crate::kernel::SimKernel;

/// Something that happens in a simulated kernel. Given to [`SimKernel::fire`].
///
/// A test can make events of its own from others: one that fires what a file system does when a file is removed, say.
pub trait Event {
    /// What is known afterwards.
    type Outcome;

    /// Lets it happen.
    ///
    /// # Errors
    /// When the event cannot happen in this kernel as it was described. Where each program is on its own, as in tracing, one
    /// that faults is no error and the outcome tells of it; where the outcome depends on it, it is [`EventError::Fault`].
    fn happen(self, kernel: &SimKernel) -> Result<Self::Outcome, EventError>;
}

impl SimKernel {
    /// Lets an event happen: the programs that are attached to its place run. The first one that was attached comes first at
    /// tracepoints and at returns of kprobes; the last one at kprobes, uprobes and their returns, `fentry`, `fexit`,
    /// `fmod_ret` and security hooks, as Linux keeps them; those of devices and control groups as their links say.
    ///
    /// ```
    /// use skep_sim::{RawTracepoint, SimKernel};
    /// # use skep_sys::{Kernel, abi::ProgType, request::ProgLoad};
    ///
    /// let sim = SimKernel::new();
    /// # let kernel = Kernel::new(sim.clone());
    /// # let insns = skep_asm::Assembler::new().mov64_imm(skep_asm::Reg::R0, 2).exit().finish()?;
    /// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::RAW_TRACEPOINT, &insns, "GPL"), None)?;
    /// let link = kernel.raw_tracepoint_open(&prog, Some("sched_switch"), 0)?;
    /// let runs = sim.fire(RawTracepoint::new("sched_switch").arg(false))?;
    /// assert_eq!(runs.ok()?.values(), [2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// At a place where nothing is attached no program runs, and that is no error. It is one ([`EventError::Unknown`]) when
    /// nothing knows the place: neither the kernel's types or symbols, nor a program that is or was attached to it. So a name with
    /// a letter too many does not pass for an event that nobody waits for.
    ///
    /// # Errors
    /// When the event cannot happen in this kernel as it was described.
    pub fn fire<E: Event>(&self, event: E) -> Result<E::Outcome, EventError> {
        event.happen(self)
    }
}

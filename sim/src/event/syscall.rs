//! System calls.

use super::Event;
use super::call::{CallOutcome, FunctionCall};
use super::known::near;
use super::outcome::{EventError, Runs};
use super::registers::Registers;
use super::scene::{Scene, arguments, scene};
use super::syscalls::{self, number};
use super::tracepoint::{RawTracepoint, Tracepoint};
use crate::kernel::SimKernel;

/// A system call of a process, with everything that it passes: the raw tracepoint `sys_enter`, the tracepoint
/// `syscalls/sys_enter_NAME`, the kernel's function `__x64_sys_NAME` ([`FunctionCall`]), `sys_exit` and
/// `syscalls/sys_exit_NAME`.
///
/// ```
/// # let sim = skep_sim::SimKernel::new();
/// use skep_sim::Syscall;
///
/// sim.process_memory(1000).write(0x5000, b"/etc/passwd\0")?;
/// let call = sim.fire(Syscall::new("openat").arg(-100).arg(0x5000).arg(0).returns(3))?;
/// assert_eq!(call.returned, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Syscall {
    name: String,
    number: Option<u64>,
    args: Vec<u64>,
    returns: i64,
    scene: Scene,
}

/// What a system call did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct SyscallOutcome {
    /// The programs that ran, in order.
    pub runs: Runs,
    /// What the process gets.
    pub returned: i64,
    /// Whether a program kept the kernel's function from running.
    pub skipped: bool,
}

scene!(Syscall);
arguments!(Syscall);

impl Syscall {
    /// The call of that name, which returns 0.
    pub fn new(name: impl Into<String>) -> Syscall {
        Syscall { name: name.into(), number: None, args: Vec::new(), returns: 0, scene: Scene::default() }
    }

    /// Its number, for one that is not known by its name.
    pub fn number(mut self, number: u64) -> Syscall {
        self.number = Some(number);
        self
    }

    /// What it returns: a negative errno when it fails.
    pub fn returns(mut self, value: impl Into<super::Argument>) -> Syscall {
        self.returns = value.into().0.cast_signed();
        self
    }
}

fn no_syscall(name: &str) -> EventError {
    EventError::NoSyscall { name: name.to_owned(), near: near(name, syscalls::names().map(str::to_owned)) }
}

impl Event for Syscall {
    type Outcome = SyscallOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<SyscallOutcome, EventError> {
        let Syscall { name, number: given, args, returns, scene } = self;
        scene.check(kernel)?;
        let number = given.or_else(|| number(&name));
        let number = number.ok_or_else(|| no_syscall(&name))?;
        let mut regs = Registers::default();
        regs.set_syscall(number, &args);
        let address = kernel.memory().put(&regs.bytes());
        let mut runs = Vec::new();

        let raw = RawTracepoint::new("sys_enter").arg(address).arg(number);
        runs.extend(raw.in_scene(&scene).happen(kernel)?.0);
        let tracepoint =
            |event: String| Tracepoint::new("syscalls", event).in_scene(&scene).field("__syscall_nr", number);
        let mut enter = tracepoint(format!("sys_enter_{name}"));
        for (i, arg) in args.iter().take(6).enumerate() {
            enter = enter.field(format!("args[{i}]"), *arg);
        }
        runs.extend(enter.happen(kernel)?.0);
        runs.extend(
            Tracepoint::for_all(&scene, "raw_syscalls", "sys_enter", number, &args).happen(kernel)?.0,
        );

        let prefix = if kernel.0.config().syscall_wrapper { "__x64_sys_" } else { "sys_" };
        let mut call = FunctionCall::new(format!("{prefix}{name}")).in_scene(&scene).returns(returns);
        call = if kernel.0.config().syscall_wrapper { call.arg(address) } else { call.args(args) };
        let CallOutcome { runs: of_function, returned, skipped } = call.happen(kernel)?;
        runs.extend(of_function.0);

        regs.set_returned(returned.cast_unsigned());
        let _ = kernel.memory().write(address, &regs.bytes()); // where it was put
        let raw = RawTracepoint::new("sys_exit").arg(address).arg(returned);
        runs.extend(raw.in_scene(&scene).happen(kernel)?.0);
        let exit = tracepoint(format!("sys_exit_{name}")).field("ret", returned);
        runs.extend(exit.happen(kernel)?.0);
        let exit =
            Tracepoint::for_all(&scene, "raw_syscalls", "sys_exit", number, &[returned.cast_unsigned()]);
        runs.extend(exit.happen(kernel)?.0);
        Ok(SyscallOutcome { runs: Runs(runs), returned, skipped })
    }
}

impl Tracepoint {
    /// One of the tracepoints that all system calls pass: `struct trace_event_raw_sys_enter`, `..._exit`.
    fn for_all(scene: &Scene, category: &str, name: &str, number: u64, values: &[u64]) -> Tracepoint {
        let mut record = vec![0; 8];
        record.extend(number.to_ne_bytes());
        let mut values = values.to_vec();
        values.resize(6, 0);
        record.extend(super::scene::words(&values));
        Tracepoint::new(category, name).in_scene(scene).bytes(record)
    }
}

//! Calls of functions of programs and libraries: uprobes, and USDT.

use super::Event;
use super::attach::{Code, PointKind};
use super::call::points;
use super::known::{self, Named};
use super::outcome::{EventError, Runs, TraceEffect};
use super::registers::Registers;
use super::scene::{Scene, arguments, run_link, scene};
use super::site::{Session, Site};
use super::usdt;
use crate::kernel::SimKernel;
use crate::vm::{Vm, What};

/// A call of a function of a program or library: what is attached to its start runs, then what is attached to its end.
///
/// The programs find strings and structs that arguments point to in the [memory of the
/// process](SimKernel::process_memory).
///
/// ```
/// use skep_sim::{AttachPoint, SimKernel, Uprobe};
/// # use skep_sys::{Kernel, abi::ProgType, request::ProgLoad};
///
/// let sim = SimKernel::new();
/// # let kernel = Kernel::new(sim.clone());
/// # let insns = skep_asm::Assembler::new()
/// #     .ldx(skep_asm::Size::DW, skep_asm::Reg::R0, skep_asm::Reg::R1, 80).exit().finish()?;
/// # let prog = kernel.prog_load(&ProgLoad::new(ProgType::KPROBE, &insns, "GPL"), None)?;
/// // A program that returns what the function does that it is attached to.
/// let link = sim.attach(&prog, AttachPoint::uretprobe("/bin/bash", "readline"))?;
/// sim.process_memory(1000).write(0x5000, b"ls -l\0")?;
/// let call = sim.fire(Uprobe::new("/bin/bash", "readline").arg(0x4000).returns(0x5000))?;
/// assert_eq!(call.runs.ok()?.values(), [0x5000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Uprobe {
    path: String,
    what: Where,
    args: Vec<u64>,
    returns: Option<u64>,
    address: u64,
    regs: Registers,
    scene: Scene,
}

#[derive(Clone, Debug)]
enum Where {
    Function { name: String, offset: u64 },
    Usdt { provider: String, name: String },
}

/// What a call of a function of a process did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct UprobeOutcome {
    /// The programs that ran, in order.
    pub runs: Runs,
    /// Whether a program kept the function from running.
    pub skipped: bool,
}

scene!(Uprobe);
arguments!(Uprobe);

/// Where functions of programs are, when the event does not say.
const ADDRESS: u64 = 0x40_1000;

impl Uprobe {
    fn with(path: String, what: Where) -> Uprobe {
        Uprobe {
            path,
            what,
            args: Vec::new(),
            returns: None,
            address: ADDRESS,
            regs: Registers::default(),
            scene: Scene::default(),
        }
    }

    /// A call of a function of the file at a path, as programs name both when they attach.
    pub fn new(path: impl Into<String>, function: impl Into<String>) -> Uprobe {
        Self::with(path.into(), Where::Function { name: function.into(), offset: 0 })
    }

    /// The place at an offset inside of a function, or with an empty name in the file.
    pub fn at(path: impl Into<String>, function: impl Into<String>, offset: u64) -> Uprobe {
        Self::with(path.into(), Where::Function { name: function.into(), offset })
    }

    /// A tracepoint of a program or library (USDT). With [arguments](Uprobe::arg), programs that were built with libbpf's
    /// `usdt.bpf.h` get these, as if a loader had read where they are from the file. Without any, they are where the program's
    /// own map says, which mostly is in [registers](Uprobe::registers).
    pub fn usdt(path: impl Into<String>, provider: impl Into<String>, name: impl Into<String>) -> Uprobe {
        Self::with(path.into(), Where::Usdt { provider: provider.into(), name: name.into() })
    }

    /// Lets the function return: what is attached to its end runs too.
    pub fn returns(mut self, value: impl Into<super::Argument>) -> Uprobe {
        self.returns = Some(value.into().0);
        self
    }

    /// Where the function is in the process.
    pub fn address(mut self, address: u64) -> Uprobe {
        self.address = address;
        self
    }

    /// What the registers hold that have no arguments.
    pub fn registers(mut self, regs: Registers) -> Uprobe {
        self.regs = regs;
        self
    }
}

impl Event for Uprobe {
    type Outcome = UprobeOutcome;

    fn happen(self, kernel: &SimKernel) -> Result<UprobeOutcome, EventError> {
        self.scene.check(kernel)?;
        let mut regs = self.regs.clone();
        regs.set_args(&self.args);
        if regs.ip() == 0 {
            regs.set_ip(self.address);
        }
        let process = {
            let world = kernel.0.world();
            let pid = self.scene.task.unwrap_or_else(|| world.tasks.current(self.scene.cpu));
            world.tasks.get(pid).map(|task| task.tgid())
        };
        let is_here = |code: &Code, name: &str, offset: u64| {
            code.path == self.path
                && code.function == name
                && code.offset == offset
                && (code.process.is_none() || code.process == process)
        };
        let mut runs = Vec::new();
        let mut sessions = Vec::<(u32, Session)>::new();
        let mut probe = |regs: &Registers, at_return: bool, at: &dyn Fn(&PointKind) -> Option<bool>| {
            // The latest one comes first, at both ends.
            for (link, (cookie, is_session)) in points(kernel, at).into_iter().rev() {
                let before =
                    sessions.iter().find(|(id, _)| *id == link.id).map(|(_, session)| session.cookie);
                // One that has not gone on at the start does not run at the end.
                if is_session && at_return && before.is_none() {
                    continue;
                }
                let cookie = match &self.what {
                    Where::Usdt { .. } if !self.args.is_empty() => {
                        usdt::describe(kernel, &link, cookie, &self.args, regs).unwrap_or(cookie)
                    }
                    _ => cookie,
                };
                let mut site = Site { cookie, func_ip: self.address, ..self.scene.site(kernel, None) };
                site.session =
                    is_session.then_some(Session { at_return, cookie: before.unwrap_or(0), address: None });
                if site.user_stack.is_empty() {
                    site.user_stack = [self.address].into();
                }
                let bytes = regs.bytes();
                let context = |vm: &mut Vm| vm.own(What::Context, bytes, false);
                let (run, site) = run_link(kernel, &link, self.scene.cpu, site, context);
                if let Some(session) = site.session.filter(|_| !at_return && run.result == Ok(0)) {
                    sessions.push((link.id, session));
                }
                runs.push(run);
            }
        };
        probe(&regs, false, &|kind| match (kind, &self.what) {
            (PointKind::Uprobe(code), Where::Function { name, offset }) => {
                is_here(code, name, *offset).then_some(false)
            }
            (PointKind::UprobeSession(code), Where::Function { name, offset }) => {
                is_here(code, name, *offset).then_some(true)
            }
            (PointKind::Usdt { path, provider, name }, Where::Usdt { provider: by, name: called }) => {
                (*path == self.path && provider == by && name == called).then_some(false)
            }
            _ => None,
        });
        if let Some(value) = self.returns {
            regs.set_returned(value);
            probe(&regs, true, &|kind| match (kind, &self.what) {
                (PointKind::Uretprobe(code), Where::Function { name, offset }) => {
                    is_here(code, name, *offset).then_some(false)
                }
                (PointKind::UprobeSession(code), Where::Function { name, offset }) => {
                    is_here(code, name, *offset).then_some(true)
                }
                _ => None,
            });
        }
        if runs.is_empty() {
            let place = match &self.what {
                Where::Function { name, .. } => Named::user(&self.path, name),
                Where::Usdt { provider, name } => Named::usdt(&self.path, provider, name),
            };
            known::check(kernel, &self.scene, place)?;
        }
        let runs = Runs(runs);
        let skipped = runs.effects().any(|effect| matches!(effect, TraceEffect::Override { .. }));
        Ok(UprobeOutcome { runs, skipped })
    }
}

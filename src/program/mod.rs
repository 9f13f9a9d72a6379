//! Loaded programs: build, open, run, inspect, dump, pin, attach.
//!
//! A [`Program`] comes from an object ([`Object::program`](crate::Object::program)), from instructions that were put
//! together here ([`ProgramBuilder`]), or is one that is in the kernel already ([`Program::by_id`],
//! [`Program::open_pinned`], [`Program::from_fd`], [`query`](crate::query)).
//!
//! ```
//! use skep::asm::{Reg, Size};
//! use skep::map::{Array, Map};
//! use skep::program::{Program, ProgramBuilder};
//! use skep::sys::abi::{MapType, ProgType};
//! use skep::sys::request::MapCreate;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kernel = skep::sim::kernel();
//! let seen = Map::create(&kernel, &MapCreate::new(MapType::ARRAY, 4, 8, 1))?;
//!
//! let mut builder = ProgramBuilder::new(ProgType::XDP, "GPL");
//! builder.name("count");
//! builder.load_map_value(Reg::R1, &seen, 0);
//! builder.asm().ldx(Size::DW, Reg::R2, Reg::R1, 0).add64_imm(Reg::R2, 1).stx(Size::DW, Reg::R1, 0, Reg::R2);
//! builder.asm().mov64_imm(Reg::R0, 2).exit(); // XDP_PASS
//! let program = builder.load(&kernel)?;
//!
//! program.pin("/sys/fs/bpf/count")?;
//! let same = Program::open_pinned(&kernel, "/sys/fs/bpf/count")?;
//! assert_eq!(same.info()?.id, program.info()?.id);
//! assert_eq!(same.name(), "count");
//! # let _: Array<u64> = seen.typed()?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod context;
mod dump;
mod open;
mod run;
mod stats;
mod stream;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use skep_link::xdp::Interface;
use skep_link::{Link, raw_tracepoint, tracing, xdp};
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{ProgInfo, TestRun, TestRunResult};
use skep_sys::{Kernel, LoadedProgram};

use crate::error::Error;
use crate::load::pins;
use crate::load::program::Taken;
use crate::map::Map;
use crate::reloc::ProgramPlan;
use crate::spec::{AutoAttach, ProgramIndex};

pub use builder::{BuildError, ProgramBuilder};
pub(crate) use open::opened;

pub use context::{FlowKeys, NfHookState, SkBuff, SkLookup, XdpMd};
pub use dump::{Jited, JitedFunction, JitedLine, Xlated, XlatedEntry, XlatedLine};
pub use run::{RunInput, RunOutput};
pub use stats::{ProgramStats, enable_stats};
pub use stream::StreamReader;

/// A program in a kernel.
///
/// Dropping it closes its descriptor; the program lives on while it is attached, pinned or held elsewhere.
#[derive(Debug)]
pub struct Program {
    name: String,
    origin: Origin,
    attach_type: AttachType,
    instructions: usize,
    loaded: LoadedProgram,
    log: String,
}

/// What is known of a program beside what the kernel knows.
#[derive(Clone, Debug, Default)]
struct Origin {
    /// Which program of its object it is.
    index: Option<ProgramIndex>,
    section: String,
    attach_to: Option<String>,
    auto_attach: AutoAttach,
}

impl Program {
    pub(crate) fn new(plan: &ProgramPlan, taken: Taken) -> Self {
        let origin = Origin {
            index: Some(plan.program),
            section: plan.section.clone(),
            attach_to: plan.attach_to.clone(),
            auto_attach: plan.auto_attach,
        };
        Program {
            name: plan.name.clone(),
            origin,
            attach_type: taken.attach_type,
            instructions: plan.insns.len(),
            loaded: taken.program,
            log: taken.log,
        }
    }

    /// Name: as its object or builder has it, or as the kernel reports it for an opened program. The kernel keeps the
    /// first 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which program of the object it is.
    pub(crate) fn index(&self) -> Option<ProgramIndex> {
        self.origin.index
    }

    /// Section that it was in; empty for a program that is not of an object.
    pub fn section(&self) -> &str {
        &self.origin.section
    }

    /// Kind.
    pub fn prog_type(&self) -> ProgType {
        self.loaded.prog_type()
    }

    /// Attach type that it was verified for; 0 for kinds without one, and for an opened program, of which the kernel does
    /// not tell it.
    pub fn attach_type(&self) -> AttachType {
        self.attach_type
    }

    /// How many instructions it was loaded with, sub-programs included. Of an opened program it is how many the verifier
    /// left, 0 where the kernel does not show them.
    pub fn instruction_count(&self) -> usize {
        self.instructions
    }

    /// The verifier's log, when [`Loader::log_level`](crate::Loader::log_level) or [`ProgramBuilder::log_level`] asked
    /// for it.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// The kernel that it lives in.
    pub fn kernel(&self) -> &Kernel {
        self.loaded.kernel()
    }

    /// The handle that the [`link`](crate::link) functions take.
    pub fn loaded(&self) -> &LoadedProgram {
        &self.loaded
    }

    /// What the kernel says of it (`BPF_OBJ_GET_INFO_BY_FD`, Linux 4.13).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn info(&self) -> Result<ProgInfo, Error> {
        self.loaded.info().map_err(|source| self.failed("ask the kernel about it", source))
    }

    /// Runs it in the kernel with buffers of the caller's (`BPF_PROG_TEST_RUN`, Linux 4.12), as the system call does.
    /// [`run`](Self::run) is for everyone who can spare an allocation.
    ///
    /// # Errors
    ///
    /// When the kernel cannot run this kind of program, or not with this input.
    pub fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestRunResult, Error> {
        self.loaded.test_run(run).map_err(|(source, _)| self.failed("run it", source))
    }

    /// Makes it keep a map alive that its instructions do not mention, as one that tells something of it
    /// (`BPF_PROG_BIND_MAP`, Linux 5.10).
    ///
    /// # Errors
    ///
    /// When the map is another kernel's ([`Errno::EXDEV`]), or the kernel refuses.
    pub fn bind_map(&self, map: &Map) -> Result<(), Error> {
        self.loaded
            .bind_map(map.as_map_fd())
            .map_err(|source| self.failed(format!("bind map {} to it", map.label()), source))
    }

    /// Pins it at a path on a bpffs (`BPF_OBJ_PIN`, Linux 4.4).
    ///
    /// # Errors
    ///
    /// When the path is taken or not on a bpffs.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        self.loaded.pin(path).map_err(|source| {
            let hint = pins::hint(self.loaded.kernel(), path, source);
            self.failed(format!("pin it at {}{hint}", path.display()), source)
        })
    }

    /// Removes its pin from a path. What else is pinned there, another program included, stays.
    ///
    /// # Errors
    ///
    /// When something else or nothing is pinned there, or the kernel refuses. Kernels before 4.13, whose programs have no
    /// ids, do not tell one program from another.
    pub fn unpin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let failed =
            |hint: &str, source| self.failed(format!("remove its pin at {}{hint}", path.display()), source);
        let there =
            self.kernel().prog_open_pinned(path).and_then(|there| there.info()).map_err(|source| {
                let hint = match source {
                    Errno::ENOENT => " (nothing is pinned there)",
                    Errno::EINVAL => " (something else is pinned there)",
                    _ => "",
                };
                failed(hint, source)
            })?;
        if there.id != self.info()?.id {
            return Err(failed(&format!(" (program `{}` is pinned there)", there.name), Errno::EINVAL));
        }
        self.kernel().backend().unpin(path).map_err(|source| failed("", source))
    }

    /// A second handle of the same program.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Program, Error> {
        let loaded = self.loaded.try_clone().map_err(|source| self.failed("duplicate its handle", source))?;
        Ok(Program {
            name: self.name.clone(),
            origin: self.origin.clone(),
            attach_type: self.attach_type,
            instructions: self.instructions,
            loaded,
            log: self.log.clone(),
        })
    }

    /// Attaches it to what its section name says, such as `tp_btf/sched_process_exec`, or what its builder was told, or
    /// what it was bound to when it was loaded.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttachable`] when nothing says it, [`Error::Attach`] when the kernel refuses.
    pub fn attach(&self) -> Result<Link, Error> {
        match (self.origin.auto_attach, self.origin.attach_to.as_deref()) {
            (AutoAttach::Trace | AutoAttach::Lsm, _) => {
                tracing::attach(&self.loaded, tracing::Options::new())
                    .map_err(|source| self.attach_failed(source))
            }
            (AutoAttach::RawTracepoint, Some(name)) if !name.is_empty() => {
                raw_tracepoint::attach(&self.loaded, name).map_err(|source| self.attach_failed(source))
            }
            (AutoAttach::None, _) if self.prog_type() == ProgType::XDP => {
                Err(self.not_attachable("nothing names an interface for it: use attach_xdp"))
            }
            (AutoAttach::None, _) => Err(self.not_attachable("nothing names what it is to attach to")),
            (AutoAttach::RawTracepoint, _) => {
                Err(self
                    .not_attachable("nothing names a tracepoint for it: use link::raw_tracepoint::attach"))
            }
            _ => Err(self.not_attachable(
                "this version attaches XDP, raw tracepoints and BTF tracing; in a simulated kernel `SimKernel::attach` attaches others",
            )),
        }
    }

    /// Attaches an XDP program to a network interface, given by name or index (Linux 5.9).
    ///
    /// # Errors
    ///
    /// When there is no such interface, another program is attached to it, or the kernel refuses.
    pub fn attach_xdp(&self, interface: impl Into<Interface>) -> Result<Link, Error> {
        xdp::attach(&self.loaded, xdp::Options::new(interface)).map_err(|source| self.attach_failed(source))
    }

    fn failed(&self, step: impl Into<String>, source: Errno) -> Error {
        Error::Program { program: self.name.clone(), step: step.into(), source }
    }

    fn attach_failed(&self, source: skep_link::LinkError) -> Error {
        Error::Attach { program: self.name.clone(), source: Box::new(source) }
    }

    fn not_attachable(&self, reason: &str) -> Error {
        Error::NotAttachable {
            program: self.name.clone(),
            section: self.origin.section.clone(),
            reason: reason.to_owned(),
        }
    }
}

impl AsRef<LoadedProgram> for Program {
    fn as_ref(&self) -> &LoadedProgram {
        &self.loaded
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.loaded.as_fd()
    }
}

impl From<Program> for LoadedProgram {
    fn from(program: Program) -> LoadedProgram {
        program.loaded
    }
}

impl From<Program> for OwnedFd {
    fn from(program: Program) -> OwnedFd {
        program.loaded.into()
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Program>();
};

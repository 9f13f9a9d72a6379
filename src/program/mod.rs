//! Loaded programs: run, inspect, pin, attach.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use skep_link::xdp::Interface;
use skep_link::{Link, raw_tracepoint, tracing, xdp};
use skep_sys::LoadedProgram;
use skep_sys::abi::{AttachType, Errno, ProgType};
use skep_sys::request::{ProgInfo, TestRun, TestRunResult};

use crate::error::Error;
use crate::reloc::ProgramPlan;
use crate::spec::{AutoAttach, ProgramIndex};

/// A loaded program of an object.
///
/// Dropping it closes its descriptor; the program lives on while it is attached, pinned or held elsewhere.
#[derive(Debug)]
pub struct Program {
    name: String,
    index: ProgramIndex,
    section: String,
    attach_to: Option<String>,
    auto_attach: AutoAttach,
    attach_type: AttachType,
    instructions: usize,
    loaded: LoadedProgram,
    log: String,
}

impl Program {
    pub(crate) fn new(plan: &ProgramPlan, loaded: LoadedProgram, log: String) -> Self {
        Program {
            name: plan.name.clone(),
            index: plan.program,
            section: plan.section.clone(),
            attach_to: plan.attach_to.clone(),
            auto_attach: plan.auto_attach,
            attach_type: plan.attach_type,
            instructions: plan.insns.len(),
            loaded,
            log,
        }
    }

    /// Name in the object. The kernel keeps its first 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which program of the object it is.
    pub(crate) fn index(&self) -> ProgramIndex {
        self.index
    }

    /// Section that it was in.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Kind.
    pub fn prog_type(&self) -> ProgType {
        self.loaded.prog_type()
    }

    /// Attach type that it was verified for; 0 for kinds without one.
    pub fn attach_type(&self) -> AttachType {
        self.attach_type
    }

    /// How many instructions it was loaded with, sub-programs included.
    pub fn instruction_count(&self) -> usize {
        self.instructions
    }

    /// The verifier's log, when [`Loader::log_level`](crate::Loader::log_level) asked for it.
    pub fn log(&self) -> &str {
        &self.log
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

    /// Runs it once in the kernel, with a packet or context (`BPF_PROG_TEST_RUN`, Linux 4.12).
    ///
    /// # Errors
    ///
    /// When the kernel cannot run this kind of program, or not with this input.
    pub fn test_run(&self, run: &mut TestRun<'_>) -> Result<TestRunResult, Error> {
        self.loaded.test_run(run).map_err(|(source, _)| self.failed("run it", source))
    }

    /// Pins it at a path on a bpffs (`BPF_OBJ_PIN`, Linux 4.4).
    ///
    /// # Errors
    ///
    /// When the path is taken or not on a bpffs.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        self.loaded.pin(path).map_err(|source| {
            let hint = match source {
                Errno::EPERM => " (it is not on a bpffs, holds a dot, or the process lacks the right)",
                Errno::EEXIST => " (the path is taken)",
                Errno::ENOENT => " (the directory does not exist)",
                _ => "",
            };
            self.failed(format!("pin it at {}{hint}", path.display()), source)
        })
    }

    /// Attaches it to what its section name says, such as `tp_btf/sched_process_exec`.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttachable`] when the section name does not say it, [`Error::Attach`] when the kernel refuses.
    pub fn attach(&self) -> Result<Link, Error> {
        match (self.auto_attach, self.attach_to.as_deref()) {
            (AutoAttach::Trace | AutoAttach::Lsm, _) => {
                tracing::attach(&self.loaded, tracing::Options::new())
                    .map_err(|source| self.attach_failed(source))
            }
            (AutoAttach::RawTracepoint, Some(name)) if !name.is_empty() => {
                raw_tracepoint::attach(&self.loaded, name).map_err(|source| self.attach_failed(source))
            }
            (AutoAttach::None, _) if self.prog_type() == ProgType::XDP => {
                Err(self.not_attachable("a section of XDP names no interface: use attach_xdp"))
            }
            (AutoAttach::None, _) => Err(self.not_attachable("its section names nothing to attach to")),
            (AutoAttach::RawTracepoint, _) => {
                Err(self.not_attachable("its section names no tracepoint: use link::raw_tracepoint::attach"))
            }
            _ => Err(self.not_attachable("this version attaches XDP, raw tracepoints and BTF tracing")),
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
            section: self.section.clone(),
            reason: reason.to_owned(),
        }
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.loaded.as_fd()
    }
}

//! A simulated kernel: everything that a BPF loader asks of one, in the process and without privilege.
//!
//! [`SimKernel`] is a [`Backend`](skep_sys::Backend) like the Linux one. Descriptors are real and counted, ids grow,
//! maps answer with the errno that Linux 6.18 answers with, pins live in a bpffs in memory, BTF and programs are
//! checked for their structure, links attach and detach. A service's unit tests load their real object with it:
//!
//! ```
//! use skep_sys::abi::{MapType, UpdateFlags};
//! use skep_sys::request::MapCreate;
//!
//! let kernel = skep_sim::kernel();
//! let map = kernel.map_create(&MapCreate::new(MapType::HASH, 4, 8, 16))?;
//! map.update(&1u32.to_ne_bytes(), &7u64.to_ne_bytes(), UpdateFlags::empty())?;
//! let mut value = [0; 8];
//! map.lookup(&1u32.to_ne_bytes(), &mut value, UpdateFlags::empty())?;
//! assert_eq!(u64::from_ne_bytes(value), 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Users of skep have it as `skep::sim`, and give it to the same `Loader` as the running kernel.
//!
//! # From a description to an outcome
//!
//! 1. *Describe the kernel*: [`SimKernel::new`], or [`SimKernel::builder`] for types, CPUs, devices, symbols, the features of
//!    an old release ([`Builder::linux`]) and helpers of the test's own ([`Builder::helper`]). A [`SimKernel`] is a handle;
//!    a clone of it goes into [`Kernel::new`](skep_sys::Kernel::new), and the test keeps one.
//! 2. *Load* through that [`Kernel`](skep_sys::Kernel), as on Linux.
//! 3. *Say what is there*: tasks ([`SimKernel::add_task`]), sockets and devices ([`SimKernel::add_socket`],
//!    [`SimKernel::add_interface`]), control groups ([`SimKernel::add_cgroup`]), memory by the kernel's types
//!    ([`SimKernel::memory`]).
//! 4. *Attach, and let something happen*: [`SimKernel::fire`] with one of the events below, [`SimKernel::advance`] for the
//!    clock, or a test run, which needs no attaching.
//! 5. *Look*: the event's outcome, the maps, [`SimKernel::effects`] on the network, [`SimKernel::trace`] for what was
//!    printed, [`SimKernel::coverage`], and [`SimKernel::last_fault`] when a program was stopped.
//!
//! Programs run in an interpreter that checks every access. One that does what it must not is stopped, and the fault tells
//! where in its source and what its registers held. [`Debugger`] stops where a test says.
//!
//! ```
//! use std::os::fd::AsFd;
//!
//! use skep_asm::{Assembler, Reg};
//! use skep_sim::{Fate, SimKernel};
//! use skep_sys::Kernel;
//! use skep_sys::abi::{AttachType, ProgType};
//! use skep_sys::request::{LinkCreate, LinkTarget, ProgLoad};
//!
//! let sim = SimKernel::builder().interface("eth0", 2).build()?;
//! let kernel = Kernel::new(sim.clone());
//! let drop_all = Assembler::new().mov64_imm(Reg::R0, 1).exit().finish()?; // XDP_DROP
//! let program = kernel.prog_load(&ProgLoad::new(ProgType::XDP, &drop_all, "GPL"), None)?;
//! let _link = kernel.link_create(&LinkCreate::new(program.as_fd(), LinkTarget::Ifindex(2), AttachType::XDP))?;
//!
//! let passage = sim.receive("eth0", &[0; 64])?;
//! assert!(matches!(passage.fate, Fate::Dropped { .. }), "{:?}", passage.fate);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Events
//!
//! | what happens | event |
//! |---|---|
//! | a device receives or sends a packet | [`Receive`], [`Transmit`] |
//! | a socket is made, used, configured, closed | [`SocketCreate`], [`SocketCall`], [`UnixCall`], [`OptionCall`], [`SocketRelease`] |
//! | something happens to a TCP connection; bytes go through sockets | [`TcpEvent`], [`SendBytes`], [`ReceiveBytes`] |
//! | a setting is read or written, a device opened | [`Sysctl`], [`DeviceAccess`] |
//! | a function of the kernel is called, a security hook asked | [`FunctionCall`], [`Lsm`] |
//! | a tracepoint is passed, a system call made | [`Tracepoint`], [`RawTracepoint`], [`Syscall`] |
//! | a function of a process is called, a perf event samples | [`Uprobe`], [`PerfSample`] |
//! | the kernel calls a table of programs (`struct_ops`) | [`TableCall`] |
//!
//! # Tests that need more
//!
//! - [`SimKernel::snapshot`] and [`SimKernel::restore`]: go back to a moment.
//! - [`Builder::fail`]: the n-th call of a kind fails, with any errno. [`Builder::memory_limit`]: memory runs out.
//! - [`SimKernel::as_user`]: the same kernel for someone with fewer rights.
//! - [`Builder::budget`] and [`Builder::host_memory`]: what programs of strangers may take.
//! - [`BareMap`]: a map without a kernel.
//!
//! # What it is not
//! - The verifier's analysis of data flow: a program that reads what it never wrote loads here and not on Linux.
//! - Concurrency, timing, and the order in which a real hash table is iterated: here it is that of insertion.
//! - What happens by itself. Tasks, sockets, memory of the kernel and of processes are there as far as a test describes them, and
//!   programs that are attached run when a test lets something happen ([`SimKernel::fire`]).

#![forbid(unsafe_code)]

mod attach;
mod backend;
mod bare;
mod bpffs;
mod btf;
mod builder;
mod calls;
mod event;
mod fd;
mod features;
mod given;
mod helper;
mod image;
mod iter;
mod kernel;
mod link;
mod log;
mod map;
mod name;
mod net;
mod object;
mod outside;
mod owners;
mod packet;
mod perf;
mod prog;
mod releases;
mod ring;
mod run;
mod snapshot;
mod sockets;
mod symbols;
mod tables;
mod user;
mod vm;
mod watch;
mod words;
mod world;

pub use bare::BareMap;
pub use builder::Builder;
pub use event::{
    Argument, AttachError, AttachPoint, CallOutcome, DeviceAccess, DeviceOutcome, Event, EventError, Fate,
    FunctionCall, Lsm, LsmOutcome, Moved, OptionCall, OptionOutcome, Passage, PerfSample, RawTracepoint,
    Receive, ReceiveBytes, Registers, Run, Runs, SendBytes, SockOp, SockOpsRun, SocketCall, SocketCreate,
    SocketCreated, SocketOutcome, SocketRelease, SocketReleased, StreamOutcome, Syscall, SyscallOutcome,
    Sysctl, SysctlOutcome, TableCall, TcpEvent, TcpOutcome, TraceEffect, Tracepoint, Transmit, UnixCall,
    UnixOutcome, Uprobe, UprobeOutcome, Verdict,
};
pub use features::Features;
pub use helper::{HelperCall, HelperMap};
pub use image::{FieldValue, ImageError, KernelMemory, KernelObject, ProcessMemory};
pub use kernel::{Live, SimKernel};
pub use net::{
    Connection, ConnectionId, ConnectionStatus, Destination, Dropper, Effect, Interface, Route, RouteKind,
    Socket, SocketId, TcpState, XdpHints,
};
pub use ring::{RingQuery, RingRecord};
pub use snapshot::{RestoreError, Snapshot};
pub use user::{Capability, User};
pub use vm::{Fault, FaultKind, SourceLine};
pub use watch::{
    BranchCoverage, Coverage, Debugger, FrameView, Halted, LineCoverage, ProgramCoverage, Session, Stop,
    TraceStep,
};
pub use world::{Task, TraceLine};

/// A simulated kernel with everything at its default, behind the handle that the rest of skep takes.
///
/// To look into it later, or to change its defaults, start from [`SimKernel::new`] or [`SimKernel::builder`] and
/// give a clone of it to [`Kernel::new`](skep_sys::Kernel::new).
pub fn kernel() -> skep_sys::Kernel {
    skep_sys::Kernel::new(SimKernel::new())
}

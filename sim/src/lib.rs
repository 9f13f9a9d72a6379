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
//! Programs run in an interpreter that checks every access. One that does what it must not is stopped, and
//! [`SimKernel::last_fault`] tells where in its source and what its registers held.
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
mod world;

pub use bare::BareMap;
pub use builder::Builder;
pub use event::{
    Argument, AttachPoint, CallOutcome, DeviceAccess, DeviceOutcome, Event, EventError, Fate, FunctionCall,
    Lsm, LsmOutcome, Moved, OptionCall, OptionOutcome, Passage, PerfSample, RawTracepoint, Receive,
    ReceiveBytes, Registers, Run, Runs, SendBytes, SockOp, SockOpsRun, SocketCall, SocketCreate,
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
    Socket, SocketId, TcpState,
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

//! skep loads eBPF object files: into the running Linux kernel, or into a simulated one in the process.
//!
//! # Stages
//!
//! 1. [`Spec`]: what a file says ([`Spec::open`], [`Spec::parse`]). Plain data, the same on every machine. Change it
//!    before going on: set a global variable, resize a map, leave a program out.
//! 2. [`Plan`](reloc::Plan): what a kernel will be asked ([`Spec::relocate`]), with every CO-RE decision. Made for any
//!    [`Target`](reloc::Target): a live kernel, or only its BTF. The next stage makes it by itself; make one to look
//!    at it.
//! 3. [`Object`]: loaded ([`Loader::load`]). Its [maps](Object::map), [programs](Object::program) and
//!    [global variables](Object::global), and a [report](Object::report) of what was adapted to the kernel. A load that
//!    fails leaves nothing behind.
//! 4. [`Link`](link::Link): attached ([`Program::attach`], [`Program::attach_xdp`], or a function of [`link`]), until it
//!    is dropped or, when pinned, until the pin is removed.
//!
//! A [`Kernel`] is a value: [`Kernel::linux`] is the running one; [`sim::kernel`] and [`sim::SimKernel`] are simulated
//! ones, for tests without root.
//!
//! ```
//! use skep::btf::Btf;
//! use skep::map::HashMap;
//! use skep::reloc::BtfTarget;
//! use skep::sim::SimKernel;
//! use skep::sys::abi::UpdateFlags;
//! use skep::{Kernel, Loader, Spec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // 1. What the file says.
//! let mut spec = Spec::open("examples/exec_watch.bpf.o")?;
//! spec.set_global("only_uid", &1000u32)?;
//! spec.map_mut("by_name").ok_or("no such map")?.max_entries = 64;
//!
//! // 2. What a kernel with these types will be asked.
//! let types = std::fs::read("testdata/btf/6.12.btf")?;
//! let plan = spec.relocate(&BtfTarget::new(Btf::parse(types.clone())?))?;
//! let program = plan.program("watch_exec").ok_or("no such program")?;
//! assert_eq!(program.decisions.len(), 6);
//! println!("{plan}");
//!
//! // 3. Loaded: here into a kernel with those types in this process.
//! let kernel = Kernel::new(SimKernel::builder().btf(types).build()?);
//! let object = Loader::new(&kernel).load(&spec)?;
//! let by_name: HashMap<[u8; 16], u64> = object.map("by_name")?.typed()?;
//! by_name.insert(b"true\0\0\0\0\0\0\0\0\0\0\0\0", &3, UpdateFlags::empty())?;
//! assert_eq!(by_name.iter().count(), 1);
//! assert_eq!(object.global::<u64>("executions")?, 0);
//!
//! // 4. Attached to what the section name says: tp_btf/sched_process_exec.
//! let link = object.program("watch_exec")?.attach()?;
//! link.pin("/sys/fs/bpf/watch_exec")?;
//! # Ok(())
//! # }
//! ```
//!
//! # When something fails
//!
//! [`Error`] says what was being done to what; its [`kind`](Error::kind) is for deciding, its sources say why, and
//! [`verifier_log`](Error::verifier_log) is the whole log of a program that the kernel refused. Print it with its
//! sources, as `anyhow` does.
//!
//! # More
//!
//! | to | look at |
//! |---|---|
//! | read and write maps | [`map`]: a typed view for each kind; its [traits](map::traits) to be mocked, and [maps in memory](map::memory) |
//! | hear of events | [`ring`] buffers, [`perf`] buffers; [`poll`] waits for both |
//! | build, run and look into programs | [`program`] |
//! | attach them | [`link`] |
//! | keep state and links over restarts and upgrades | [`pinned`], [`bpffs`], `handover` |
//! | see what is in a kernel | [`query`], [`symbols`] |
//! | know what a load will do, without a kernel | [`reloc`] |
//! | test without root | [`sim`] |
//! | put another kernel behind it all | [`sys`] |
//! | read the formats | [`btf`], [`asm`] |
//!
//! The repository's `examples/` are whole programs to start from; [`architecture`] says how skep is built and why.

// What derives make names this crate from outside.
#[cfg(test)]
extern crate self as skep;

pub mod bpffs;
mod error;
#[cfg(target_os = "linux")]
pub mod handover;
pub mod load;
pub mod map;
pub mod perf;
pub mod pinned;
pub mod poll;
pub mod program;
pub mod query;
pub mod reloc;
pub mod ring;
pub mod spec;
pub mod symbols;

pub use skep_asm as asm;
pub use skep_btf as btf;
pub use skep_link as link;
pub use skep_sim as sim;
pub use skep_sys as sys;

pub use error::{Error, ErrorKind};
pub use load::{GlobalView, LoadReport, Loader, Object};
pub use program::Program;
pub use skep_sys::Kernel;
pub use spec::Spec;

#[cfg(doc)]
#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

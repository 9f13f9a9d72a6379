//! Names of addresses: of the kernel, and of processes.
//!
//! What a program notes of a stack are addresses ([`StackTraces`](crate::map::StackTraces)). A [`Symbolizer`] finds what
//! they are in: functions of the kernel and its modules by `/proc/kallsyms`, those of a process by its mappings and the
//! symbol tables of the files that are mapped.
//!
//! ```
//! use skep::sim::SimKernel;
//! use skep::symbols::Symbolizer;
//!
//! let table = "ffffffff81000000 T _stext\nffffffff81000100 t tcp_v4_rcv\nffffffffc0000000 t nft_do_chain\t[nf_tables]\n";
//! let kernel = skep::Kernel::new(SimKernel::builder().symbols(table).build()?);
//! let symbolizer = Symbolizer::new(&kernel);
//! let text = |address| Ok::<_, skep::symbols::SymbolError>(symbolizer.kernel(address)?.map(|s| s.to_string()));
//! assert_eq!(text(0xffff_ffff_8100_0112)?.as_deref(), Some("tcp_v4_rcv+0x12"));
//! assert_eq!(text(0xffff_ffff_c000_0004)?.as_deref(), Some("nft_do_chain+0x4 [nf_tables]"));
//! assert_eq!(text(0x1000)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod elf;
mod kernel;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skep_sys::Kernel;
use skep_sys::abi::Errno;
use skep_sys::request::ProcessFile;

use crate::map::{StackFrame, StackTrace};
use elf::Functions;
use kernel::KernelSymbols;
use process::{Mapping, Mappings};

/// How many processes' mappings, and how many files' functions, are remembered.
const REMEMBERED: usize = 256;

/// What an address is in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbol {
    /// Name of the function, as the table has it: mangled where the compiler mangles. None when the file that the address
    /// is in has no function there.
    pub name: Option<String>,
    /// Bytes from the beginning of the function; without a name, from the beginning of the file.
    pub offset: u64,
    /// What the function is of.
    pub of: SymbolOwner,
}

/// What a function is of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymbolOwner {
    /// The kernel itself.
    Kernel,
    /// A module of the kernel. The compiled BPF programs are in one that is called `bpf`.
    Module(String),
    /// A file that is mapped into a process, by its path as that process sees it. `[vdso]` and the like are no files.
    File(PathBuf),
}

/// As tools print stacks: `tcp_v4_rcv+0x12`, `nft_do_chain+0x4 [nf_tables]`, `main+0x1a (/usr/bin/cat)`.
impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}+{:#x}", self.offset)?,
            None => write!(f, "{:#x}", self.offset)?,
        }
        match &self.of {
            SymbolOwner::Kernel => Ok(()),
            SymbolOwner::Module(module) => write!(f, " [{module}]"),
            SymbolOwner::File(path) => write!(f, " ({})", path.display()),
        }
    }
}

/// Why the tables that names come from cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    /// The kernel's symbols cannot be read.
    #[error("cannot read the kernel's symbols (/proc/kallsyms)")]
    Kernel(#[source] Errno),
    /// The kernel hides their addresses.
    #[error(
        "the kernel hides the addresses of its symbols: lower kernel.kptr_restrict, or run with CAP_SYSLOG"
    )]
    Hidden,
    /// The mappings of a process cannot be read.
    #[error("cannot read the mappings of process {pid}{}", gone(*errno))]
    Process {
        /// The process.
        pid: u32,
        /// What the kernel answered: [`Errno::ENOENT`] when there is no such process.
        #[source]
        errno: Errno,
    },
}

fn gone(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ESRCH => ": there is no such process any more",
        Errno::EACCES | Errno::EPERM => ": that needs CAP_SYS_PTRACE, or to be of the same user",
        _ => "",
    }
}

/// Finds the names of addresses.
///
/// Tables are read when they are first needed, and kept. A process's mappings are read again when an address is in none of
/// them, so that libraries that were loaded meanwhile are found; what came to the kernel meanwhile (modules, BPF programs)
/// is found after [`forget_kernel`](Symbolizer::forget_kernel). It may be used from several threads.
#[derive(Debug)]
pub struct Symbolizer {
    kernel: Kernel,
    symbols: Mutex<Option<Arc<KernelSymbols>>>,
    processes: Mutex<BTreeMap<u32, Arc<Mappings>>>,
    /// By what is mapped: device, inode and path.
    files: Mutex<BTreeMap<process::FileId, Arc<Functions>>>,
}

impl Symbolizer {
    /// Names of addresses of this kernel, and of processes that it runs. Nothing is read yet.
    pub fn new(kernel: &Kernel) -> Symbolizer {
        Symbolizer {
            kernel: kernel.clone(),
            symbols: Mutex::default(),
            processes: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// What an address of the kernel is in; none when it is before all its functions.
    ///
    /// # Errors
    /// [`SymbolError::Kernel`], [`SymbolError::Hidden`].
    pub fn kernel(&self, address: u64) -> Result<Option<Symbol>, SymbolError> {
        Ok(self.kernel_symbols()?.find(address))
    }

    /// What an address of a process is in; none when nothing is mapped there, or no file.
    ///
    /// A file whose functions cannot be read (it is gone, or no ELF file, or has no symbols) gives a symbol without a name.
    ///
    /// # Errors
    /// [`SymbolError::Process`].
    pub fn process(&self, pid: u32, address: u64) -> Result<Option<Symbol>, SymbolError> {
        let known = lock(&self.processes).get(&pid).cloned();
        let mut mapping = known.as_ref().and_then(|known| known.find(address));
        let fresh;
        if mapping.is_none() {
            fresh = Arc::new(self.read_mappings(pid)?);
            remember(&self.processes, pid, &fresh);
            mapping = fresh.find(address);
        }
        let Some(mapping) = mapping else { return Ok(None) };
        let at = mapping.file_offset(address);
        let found = self.functions(pid, mapping).find(at);
        Ok(Some(in_file(found, at, &mapping.path)))
    }

    /// What is at an offset of an ELF file, as this process sees it: for the frames of a [`StackTrace`] that have build
    /// ids instead of addresses. None when the file cannot be read as such.
    pub fn file(&self, path: impl AsRef<Path>, offset: u64) -> Option<Symbol> {
        let path = path.as_ref();
        let id = process::FileId { device: String::new(), inode: 0, path: path.to_owned() };
        let known = lock(&self.files).get(&id).cloned();
        let functions = match known {
            Some(known) => known,
            None => {
                let read = Arc::new(Functions::read(std::fs::File::open(path).ok()?)?);
                remember(&self.files, id, &read);
                read
            }
        };
        Some(in_file(functions.find(offset), offset, path))
    }

    /// The addresses of a stack of the kernel, the innermost first, each with what it is in.
    ///
    /// All but the first are where calls return to. What made the call is before that, so they are looked up one byte
    /// earlier: a call can be the last instruction of a function. Frames with build ids are left out.
    ///
    /// # Errors
    /// As [`kernel`](Symbolizer::kernel).
    pub fn kernel_stack(&self, trace: &StackTrace) -> Result<Vec<(u64, Option<Symbol>)>, SymbolError> {
        stack(trace, |address| self.kernel(address))
    }

    /// The addresses of a stack of a process, as [`kernel_stack`](Symbolizer::kernel_stack) gives those of the kernel.
    ///
    /// # Errors
    /// As [`process`](Symbolizer::process).
    pub fn process_stack(
        &self,
        pid: u32,
        trace: &StackTrace,
    ) -> Result<Vec<(u64, Option<Symbol>)>, SymbolError> {
        stack(trace, |address| self.process(pid, address))
    }

    /// Forgets the kernel's symbols: the next address reads them again.
    pub fn forget_kernel(&self) {
        *lock(&self.symbols) = None;
    }

    /// Forgets the mappings of a process, whose number may be another's soon.
    pub fn forget_process(&self, pid: u32) {
        lock(&self.processes).remove(&pid);
    }

    fn kernel_symbols(&self) -> Result<Arc<KernelSymbols>, SymbolError> {
        let mut symbols = lock(&self.symbols);
        if let Some(known) = &*symbols {
            return Ok(known.clone());
        }
        let text = self.kernel.backend().symbols().map_err(SymbolError::Kernel)?;
        let read = Arc::new(KernelSymbols::read(text)?);
        *symbols = Some(read.clone());
        Ok(read)
    }

    fn read_mappings(&self, pid: u32) -> Result<Mappings, SymbolError> {
        let failed = |errno| SymbolError::Process { pid, errno };
        let text = self.kernel.backend().process_maps(pid).map_err(failed)?;
        Mappings::read(text).map_err(failed)
    }

    fn functions(&self, pid: u32, mapping: &Mapping) -> Arc<Functions> {
        let id = mapping.file_id();
        if let Some(known) = lock(&self.files).get(&id) {
            return known.clone();
        }
        let request = ProcessFile { pid, start: mapping.start, end: mapping.end, path: &mapping.path };
        let file = self.kernel.backend().process_file(&request).ok();
        let read = Arc::new(file.and_then(Functions::read).unwrap_or_default());
        remember(&self.files, id, &read);
        read
    }
}

fn in_file(found: Option<(String, u64)>, at: u64, path: &Path) -> Symbol {
    let of = SymbolOwner::File(path.to_owned());
    match found {
        Some((name, offset)) => Symbol { name: Some(name), offset, of },
        None => Symbol { name: None, offset: at, of },
    }
}

fn stack(
    trace: &StackTrace,
    find: impl Fn(u64) -> Result<Option<Symbol>, SymbolError>,
) -> Result<Vec<(u64, Option<Symbol>)>, SymbolError> {
    let addresses = trace.frames().filter_map(|frame| match frame {
        StackFrame::Address(address) => Some(address),
        StackFrame::BuildId { .. } => None,
    });
    let mut names = Vec::new();
    for (nth, address) in addresses.enumerate() {
        let back = u64::from(nth > 0).min(address);
        let mut symbol = find(address - back)?; // it is at most the address
        if let Some(symbol) = &mut symbol {
            symbol.offset = symbol.offset.saturating_add(back);
        }
        names.push((address, symbol));
    }
    Ok(names)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what was read; all of before goes when it is too much.
fn remember<K: Ord, V>(known: &Mutex<BTreeMap<K, Arc<V>>>, key: K, value: &Arc<V>) {
    let mut known = lock(known);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, value.clone());
}

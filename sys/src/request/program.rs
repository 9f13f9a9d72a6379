use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use skep_asm::Insn;

use crate::abi::{AttachType, ProgFlags, ProgType, TestRunFlags};

/// `BPF_PROG_LOAD`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgLoad<'a> {
    /// Kind of the program.
    pub prog_type: ProgType,
    /// Instructions, with every descriptor in place.
    pub insns: &'a [Insn],
    /// License, without a NUL.
    pub license: &'a str,
    /// Name of at most [`OBJ_NAME_MAX`](crate::abi::OBJ_NAME_MAX) bytes; empty for none (Linux 4.15).
    pub name: &'a str,
    /// Attach type that the verifier assumes (Linux 4.17); [`AttachType(0)`](AttachType) when the kind has none.
    pub expected_attach_type: AttachType,
    /// Load flags.
    pub flags: ProgFlags,
    /// Kernel version that old kernels require of kprobes.
    pub kern_version: u32,
    /// Network device for an offloaded program.
    pub ifindex: u32,
    /// Loaded BTF that `func_info` and `line_info` refer to.
    pub btf: Option<BorrowedFd<'a>>,
    /// Function records, offsets in instructions.
    pub func_info: Records<'a>,
    /// Line records, offsets in instructions.
    pub line_info: Records<'a>,
    /// What the program attaches to, for kinds that say so at load.
    pub attach: AttachTarget<'a>,
    /// BTF objects of modules whose functions are called; a call's `off` field is an index here. Slot 0 is not used.
    pub fd_array: &'a [Option<BorrowedFd<'a>>],
    /// Token that the right comes from (Linux 6.9). [`Kernel`](crate::Kernel) puts its own here.
    pub token: Option<BorrowedFd<'a>>,
    /// Where a kernel that refuses the records with `E2BIG` says how much of each it knows.
    pub known_records: Option<&'a KnownRecords>,
}

impl<'a> ProgLoad<'a> {
    /// A program with no name, no flags and no BTF.
    pub fn new(prog_type: ProgType, insns: &'a [Insn], license: &'a str) -> Self {
        ProgLoad {
            prog_type,
            insns,
            license,
            name: "",
            expected_attach_type: AttachType(0),
            flags: ProgFlags::empty(),
            kern_version: 0,
            ifindex: 0,
            btf: None,
            func_info: Records::default(),
            line_info: Records::default(),
            attach: AttachTarget::None,
            fd_array: &[],
            token: None,
            known_records: None,
        }
    }
}

/// How much of a record a kernel knows, in bytes; 0 where it did not say. What lies behind has to be zero.
#[derive(Clone, Debug, Default)]
pub struct KnownRecords {
    /// Of function records.
    pub func_info: Cell<u32>,
    /// Of line records.
    pub line_info: Cell<u32>,
}

/// A table of fixed-size records in the byte order of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Records<'a> {
    /// Size of one record in bytes.
    pub record_size: u32,
    /// The records, one after the other.
    pub bytes: &'a [u8],
}

impl Records<'_> {
    /// Number of whole records.
    pub fn count(&self) -> usize {
        self.bytes.len().checked_div(self.record_size as usize).unwrap_or(0)
    }
}

/// What a program is bound to when it is loaded.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum AttachTarget<'a> {
    /// Nothing.
    #[default]
    None,
    /// A type of the kernel's BTF (`attach_btf_id`), or of a module's (`attach_btf_obj_fd`).
    KernelType {
        /// Type id.
        type_id: u32,
        /// BTF of the module, none for vmlinux.
        module: Option<BorrowedFd<'a>>,
    },
    /// A function of another program (`attach_prog_fd`).
    Program {
        /// The other program.
        prog: BorrowedFd<'a>,
        /// Type id of the function in that program's BTF.
        type_id: u32,
    },
}

/// Where the kernel writes its log.
#[derive(Clone, Debug, Default)]
pub struct LogBuffer {
    /// `log_level`: 1 for branches, 2 for all, 4 for statistics, or-ed.
    pub level: u32,
    /// The buffer; its length is what the kernel may fill. After the call it holds the text and a NUL.
    pub bytes: Vec<u8>,
    /// Length that the whole log needs, when the kernel says so (Linux 6.4); else 0.
    pub true_size: u32,
}

impl LogBuffer {
    /// An empty log buffer of `size` bytes.
    pub fn new(level: u32, size: usize) -> Self {
        LogBuffer { level, bytes: vec![0; size], true_size: 0 }
    }

    /// The text up to its NUL. Bytes that are not UTF-8 (a log can be cut inside a character) are replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.bytes.iter().position(|&b| b == 0).unwrap_or(self.bytes.len());
        String::from_utf8_lossy(self.bytes.get(..end).unwrap_or_default())
    }
}

/// `BPF_PROG_TEST_RUN`.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TestRun<'a> {
    /// Packet, for kinds that take one.
    pub data_in: &'a [u8],
    /// Where the packet is written afterwards.
    pub data_out: &'a mut [u8],
    /// Context, for kinds that take one.
    pub ctx_in: &'a [u8],
    /// Where the context is written afterwards.
    pub ctx_out: &'a mut [u8],
    /// Context that is read and then written in place, as programs of kind
    /// [`SYSCALL`](crate::abi::ProgType::SYSCALL) take it; instead of `ctx_in` and `ctx_out`.
    pub ctx: &'a mut [u8],
    /// How often to run; 0 is once.
    pub repeat: u32,
    /// Flags.
    pub flags: TestRunFlags,
    /// CPU to run on, with `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// Frames per batch, with `BPF_F_TEST_XDP_LIVE_FRAMES`.
    pub batch_size: u32,
    pub(crate) key: Option<ProgKey>,
}

impl TestRun<'_> {
    /// What the backend said in an earlier run that it knows the program by.
    pub fn key(&self) -> Option<&ProgKey> {
        self.key.as_ref()
    }

    /// Says by what the backend knows the program: [`LoadedProgram::test_run`](crate::LoadedProgram::test_run) gives it back in each
    /// further run.
    pub fn set_key(&mut self, key: ProgKey) {
        self.key = Some(key);
    }
}

/// What a backend knows a program by beside its descriptor: whatever it likes. A handle keeps it for as long as it owns the
/// descriptor, so that a backend for which finding out what a descriptor is costs more than the call needs to do it only once.
///
/// It must not keep the program alive, which goes with its last descriptor.
#[derive(Clone)]
pub struct ProgKey(Arc<dyn Any + Send + Sync>);

impl ProgKey {
    /// A key that holds something of the backend's.
    pub fn new(known: impl Any + Send + Sync) -> ProgKey {
        ProgKey(Arc::new(known))
    }

    /// What it holds, if that is a `T`.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for ProgKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgKey")
    }
}

/// What a test run answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestRunResult {
    /// The program's return value.
    pub retval: u32,
    /// Mean time of a run in nanoseconds.
    pub duration_ns: u32,
    /// Length of the packet afterwards, also when `data_out` was shorter.
    pub data_size_out: u32,
    /// Length of the context afterwards.
    pub ctx_size_out: u32,
}

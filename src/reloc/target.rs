//! The kernel that a plan is made for, as far as making it needs one.

use std::fmt::Debug;

use skep_btf::Btf;

/// Answers what relocation asks about a kernel: a running one, a simulated one, or one that is only described.
///
/// Answers are asked for only when an object needs them, so a load reads no kernel type that it does not use.
pub trait Target: Debug {
    /// The kernel's own types.
    ///
    /// # Errors
    ///
    /// When the kernel has none, or they cannot be read.
    fn btf(&self) -> Result<Btf, TargetError>;

    /// The types of loaded modules, each split over the kernel's own. None where it is not known.
    ///
    /// # Errors
    ///
    /// When they cannot be listed. A module whose types cannot be read is left out.
    fn modules(&self) -> Result<&[ModuleTypes], TargetError> {
        Ok(&[])
    }

    /// The types of the program whose function `program` attaches to, when it attaches to one: for `freplace`, and for
    /// tracing of programs.
    ///
    /// # Errors
    ///
    /// When that program's types cannot be read.
    fn program_types(&self, program: &str) -> Result<Option<Btf>, TargetError> {
        let _ = program;
        Ok(None)
    }

    /// Whether [`modules`](Self::modules) are all that there are, so that a module which is not among them is not
    /// loaded.
    fn knows_modules(&self) -> bool {
        true
    }

    /// The kernel's configuration, as `CONFIG_…=…` lines.
    ///
    /// # Errors
    ///
    /// When there is no `/boot/config-…` or `/proc/config.gz`, or it cannot be read.
    fn kconfig(&self) -> Result<String, TargetError> {
        Err(TargetError::unknown("kernel configuration"))
    }

    /// The kernel's version as `KERNEL_VERSION(a, b, c)`.
    ///
    /// # Errors
    ///
    /// When it is not known.
    fn version_code(&self) -> Result<u32, TargetError> {
        Err(TargetError::unknown("kernel version"))
    }

    /// Addresses of kernel symbols (`/proc/kallsyms`), in the order of `names`; none for those that are not there.
    ///
    /// # Errors
    ///
    /// When the symbols cannot be read, or one of `names` has two addresses.
    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        let _ = names;
        Err(TargetError::unknown("kernel symbols"))
    }

    /// Size of a page in bytes.
    fn page_size(&self) -> u32 {
        4096
    }

    /// Whether the kernel has a feature that a plan depends on.
    ///
    /// # Errors
    ///
    /// When it cannot be found out.
    fn has(&self, feature: ConfigFeature) -> Result<bool, TargetError> {
        let _ = feature;
        Err(TargetError::unknown("kernel feature"))
    }
}

/// The types of a module.
#[derive(Clone, Debug)]
pub struct ModuleTypes {
    /// Its name.
    pub name: String,
    /// Its types, split over the kernel's own.
    pub btf: Btf,
}

/// A feature of the kernel that a plan depends on: objects ask for it by an extern, or something is placed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigFeature {
    /// `LINUX_HAS_BPF_COOKIE`: perf events carry a cookie (Linux 5.15).
    BpfCookie,
    /// `LINUX_HAS_SYSCALL_WRAPPER`: system calls are entered through an architecture's wrapper.
    SyscallWrapper,
    /// Loads of addresses inside of map values take offsets of 512 MiB and more, so that the variables of an arena can be
    /// at its end. Where it is not known they are at its start, which every kernel takes.
    FullRangeOffset,
}

/// Why a target cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
#[non_exhaustive]
pub struct TargetError {
    /// What was asked for.
    pub what: &'static str,
    /// Why there is no answer.
    pub reason: String,
    unknown: bool,
    /// Whether the kernel knows and does not say, for lack of a right: what may be missing is taken for missing then.
    pub withheld: bool,
}

impl TargetError {
    /// An answer that is missing, and why.
    pub fn new(what: &'static str, reason: impl Into<String>) -> Self {
        TargetError { what, reason: reason.into(), unknown: false, withheld: false }
    }

    /// An answer that the kernel keeps to itself, and which right it asks for.
    pub fn withheld(what: &'static str, reason: impl Into<String>) -> Self {
        TargetError { withheld: true, ..TargetError::new(what, reason) }
    }

    /// An answer that this target does not hold, being a description that leaves it out. Relocation goes on without
    /// it where it can, and says so in [`Plan::unknown`](super::Plan::unknown).
    pub fn unknown(what: &'static str) -> Self {
        TargetError { unknown: true, ..TargetError::new(what, "not known of this target") }
    }

    /// Whether the target is one that holds no such answer, rather than one that failed to give it.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }
}

//! What a kernel can do, found out by trying.
//!
//! Every probe is a call or two through the backend, so that it works on simulated kernels too. Versions are never
//! compared: distributions take features back to old kernels, and configurations leave them out of new ones.

mod btf;
mod map;
mod program;

use std::fmt;

use crate::abi::{Errno, MapType, ProgType};
use crate::kernel::Kernel;

/// Something that a kernel may be able to do.
///
/// The versions are those of the first mainline release with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Feature {
    /// Names of programs and maps (Linux 4.15).
    ProgName,
    /// Loads of addresses inside of array values (Linux 5.2).
    GlobalData,
    /// BTF at all (Linux 4.18).
    Btf,
    /// BTF of functions (Linux 5.0).
    BtfFunc,
    /// BTF of functions with global linkage (Linux 5.6).
    BtfGlobalFunc,
    /// BTF of variables and data sections (Linux 5.2).
    BtfDatasec,
    /// BTF of floating-point numbers (Linux 5.13).
    BtfFloat,
    /// BTF of tags on declarations (Linux 5.16).
    BtfDeclTag,
    /// BTF of tags on types (Linux 5.17).
    BtfTypeTag,
    /// BTF of 64-bit enumerations (Linux 6.0).
    BtfEnum64,
    /// BTF of data sections whose names start with a question mark (Linux 6.9).
    BtfQmarkDatasec,
    /// BTF with a section that says how long records of each kind are.
    BtfLayout,
    /// Arrays that user space can map (Linux 5.5).
    ArrayMmap,
    /// The attach type is checked when a program is loaded (Linux 4.17).
    ExpectedAttachType,
    /// Separate helpers for reading kernel and user memory (Linux 5.5).
    ProbeReadKernel,
    /// Programs can be made to keep a map alive (Linux 5.10).
    ProgBindMap,
    /// BTF of modules, known by name (Linux 5.11).
    ModuleBtf,
    /// Links to perf events (Linux 5.15).
    PerfLink,
    /// Memory is charged to the control group instead of `RLIMIT_MEMLOCK` (Linux 5.11).
    MemcgAccount,
    /// Attach cookies (Linux 5.15).
    BpfCookie,
    /// One link for many places in a program or library, which can be told to be for one process (Linux 6.6; before 6.10
    /// that meant one thread, and such a kernel counts as one without).
    UprobeMultiLink,
    /// Arguments of global functions can be tagged as the context (Linux 6.8).
    ArgCtxTag,
    /// Offsets of 512 MiB and more in loads of addresses inside of map values.
    LdImm64FullRangeOff,
    /// Many elements of a map in one call (Linux 5.6).
    MapBatch,
    /// Updates and lookups of one CPU's value, and updates of all with one value (Linux 7.0).
    CpuFlags,
    /// Maps of a kind.
    MapType(MapType),
    /// Programs of a kind.
    ProgType(ProgType),
    /// A helper, by its number, in programs of a kind. Cannot be told for the kinds `tracing`, `ext`, `lsm` and
    /// `struct_ops`, where it depends on what the program attaches to.
    Helper(ProgType, u32),
}

/// What a probe found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// The kernel can do it.
    Supported,
    /// The kernel cannot do it.
    Unsupported,
    /// The kernel gave an answer that says neither.
    Unknown(Inconclusive),
}

/// Why a probe found out nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Inconclusive {
    /// What the probe tried.
    pub trying: &'static str,
    /// What the kernel answered: often [`Errno::EPERM`].
    pub errno: Errno,
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.trying, self.errno)
    }
}

impl Probe {
    /// Whether the kernel certainly can do it.
    pub fn is_supported(self) -> bool {
        self == Probe::Supported
    }

    /// Whether the kernel certainly cannot do it.
    pub fn is_unsupported(self) -> bool {
        self == Probe::Unsupported
    }

    fn unknown(trying: &'static str, errno: Errno) -> Probe {
        Probe::Unknown(Inconclusive { trying, errno })
    }

    fn is_conclusive(self) -> bool {
        !matches!(self, Probe::Unknown(_))
    }

    /// This answer if it is conclusive and says no, only as far as `control` says that nothing else was in the way.
    fn unless(self, control: impl FnOnce() -> Result<(), Inconclusive>) -> Probe {
        match self {
            Probe::Unsupported => match control() {
                Ok(()) => Probe::Unsupported,
                Err(reason) => Probe::Unknown(reason),
            },
            other => other,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Supported => f.write_str("supported"),
            Probe::Unsupported => f.write_str("unsupported"),
            Probe::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}

impl Kernel {
    /// Whether the kernel can do something. Asked when first needed, and remembered once the answer is conclusive.
    ///
    /// A probe makes short-lived maps, programs or BTF objects. A missing right is never taken for a missing feature.
    pub fn has(&self, feature: Feature) -> Probe {
        if let Some(known) = self.known_feature(feature) {
            return known;
        }
        // Not under a lock: a probe may ask for another one, and two threads that ask at once get the same answer.
        let probe = run(self, feature);
        if probe.is_conclusive() {
            self.remember_feature(feature, probe);
        }
        probe
    }
}

fn run(kernel: &Kernel, feature: Feature) -> Probe {
    match feature {
        Feature::ProgName => program::name(kernel),
        Feature::GlobalData => program::global_data(kernel),
        Feature::Btf => btf::plain(kernel),
        Feature::BtfFunc => btf::with(kernel, btf::func),
        Feature::BtfGlobalFunc => btf::with(kernel, btf::global_func),
        Feature::BtfDatasec => btf::with(kernel, btf::datasec),
        Feature::BtfFloat => btf::with(kernel, btf::float),
        Feature::BtfDeclTag => btf::with(kernel, btf::decl_tag),
        Feature::BtfTypeTag => btf::with(kernel, btf::type_tag),
        Feature::BtfEnum64 => btf::with(kernel, btf::enum64),
        Feature::BtfQmarkDatasec => btf::with(kernel, btf::qmark_datasec),
        Feature::BtfLayout => btf::layout(kernel),
        Feature::ArrayMmap => map::mmapable(kernel),
        Feature::ExpectedAttachType => program::expected_attach_type(kernel),
        Feature::ProbeReadKernel => program::probe_read_kernel(kernel),
        Feature::ProgBindMap => program::bind_map(kernel),
        Feature::ModuleBtf => btf::names(kernel),
        Feature::PerfLink => program::perf_link(kernel),
        Feature::MemcgAccount => program::memcg_account(kernel),
        Feature::BpfCookie => program::cookie(kernel),
        Feature::UprobeMultiLink => program::uprobe_multi_link(kernel),
        Feature::ArgCtxTag => program::arg_ctx_tag(kernel),
        Feature::LdImm64FullRangeOff => program::full_range_off(kernel),
        Feature::MapBatch => map::batch(kernel),
        Feature::CpuFlags => map::cpu_flags(kernel),
        Feature::MapType(map_type) => map::kind(kernel, map_type),
        Feature::ProgType(prog_type) => program::kind(kernel, prog_type),
        Feature::Helper(prog_type, helper) => program::helper(kernel, prog_type, helper),
    }
}

/// What an attempt says that can only fail for want of the feature, or for a reason that has nothing to do with it.
///
/// `EINVAL` and `E2BIG` are how a kernel refuses an attribute, a flag or a kind that it does not know; the others say
/// that it knows but was built or configured without.
fn attempt<T>(trying: &'static str, result: Result<T, Errno>) -> Probe {
    match result {
        Ok(_) => Probe::Supported,
        Err(Errno::EINVAL | Errno::E2BIG | Errno::EOPNOTSUPP | Errno::ENOTSUPP | Errno::ENOSYS) => {
            Probe::Unsupported
        }
        Err(errno) => Probe::unknown(trying, errno),
    }
}

/// An attempt that has to succeed for another to say anything.
fn control<T>(trying: &'static str, result: Result<T, Errno>) -> Result<(), Inconclusive> {
    result.map(drop).map_err(|errno| Inconclusive { trying, errno })
}

#[cfg(test)]
mod tests;

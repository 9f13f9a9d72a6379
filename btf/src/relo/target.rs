//! Where the types to relocate for are searched.

use std::sync::Arc;

use super::error::TargetError;
use crate::{Btf, BtfError, TypeId};

/// BTF of a kernel module, split from that of vmlinux.
#[derive(Debug, Clone)]
pub struct TargetModule {
    /// Name of the module.
    pub name: Arc<str>,
    /// Its BTF.
    pub btf: Btf,
}

/// Where a [`Resolver`](super::Resolver) gets the BTF of its target, when and as far as it needs it.
///
/// A [`Btf`] is a source by itself: it stands for all of the target, as a BTF given instead of the running kernel's
/// does in libbpf (`btf_custom_path`).
pub trait CandidateSource {
    /// BTF of vmlinux, or what stands for it. Asked for once, and not at all when no relocation needs a target.
    ///
    /// # Errors
    /// When there is none; relocations that need it then fail with this.
    fn vmlinux(&mut self) -> Result<Btf, TargetError>;

    /// BTF of the loaded modules, in the order of their ids. Asked for once, and only when vmlinux lacks a type: a
    /// type of vmlinux hides those of the same name in modules. A module whose BTF cannot be read is left out.
    ///
    /// # Errors
    /// When the modules cannot be listed; relocations of types that vmlinux lacks then fail with this.
    fn modules(&mut self) -> Result<Vec<TargetModule>, TargetError> {
        Ok(Vec::new())
    }
}

impl CandidateSource for Btf {
    fn vmlinux(&mut self) -> Result<Btf, TargetError> {
        Ok(self.clone())
    }
}

impl<S: CandidateSource + ?Sized> CandidateSource for &mut S {
    fn vmlinux(&mut self) -> Result<Btf, TargetError> {
        (**self).vmlinux()
    }

    fn modules(&mut self) -> Result<Vec<TargetModule>, TargetError> {
        (**self).modules()
    }
}

/// A target whose BTF is all there already.
#[derive(Debug, Clone)]
pub struct Targets {
    /// BTF of vmlinux.
    pub vmlinux: Btf,
    /// BTF of the modules, in the order of their ids.
    pub modules: Vec<TargetModule>,
}

impl CandidateSource for Targets {
    fn vmlinux(&mut self) -> Result<Btf, TargetError> {
        Ok(self.vmlinux.clone())
    }

    fn modules(&mut self) -> Result<Vec<TargetModule>, TargetError> {
        Ok(self.modules.clone())
    }
}

/// A type of the target with the essential name and kind of a type of the object.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Candidate {
    /// Its id.
    pub id: TypeId,
    /// The BTF that it is in.
    pub btf: Btf,
    /// The module that the BTF is of; `None` for vmlinux.
    pub module: Option<Arc<str>>,
}

/// A module that was not searched because its BTF is malformed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SkippedModule {
    /// Its name.
    pub name: Arc<str>,
    /// What is wrong with it.
    pub error: BtfError,
}

//! A live kernel as the target of relocation.

use std::cell::OnceCell;
use std::io::BufReader;
use std::sync::Arc;

use skep_btf::Btf;
use skep_sys::abi::{BtfObjectId, Errno};
use skep_sys::{BtfFd, Feature, Kernel, KernelBtfError, LoadedProgram, ObjectKind, Probe};

use crate::reloc::{ConfigFeature, ModuleTypes, Target, TargetError, kallsyms, kconfig};

/// A live kernel, asked only for what an object needs.
#[derive(Debug)]
pub struct KernelTarget {
    kernel: Kernel,
    types: Option<Btf>,
    modules: OnceCell<Modules>,
    programs: Vec<(String, Arc<LoadedProgram>)>,
}

#[derive(Debug)]
struct Modules {
    types: Vec<ModuleTypes>,
    fds: Vec<BtfFd>,
}

impl KernelTarget {
    /// The kernel as it is.
    pub fn new(kernel: &Kernel) -> Self {
        KernelTarget { kernel: kernel.clone(), types: None, modules: OnceCell::new(), programs: Vec::new() }
    }

    /// The kernel with other types than it says it has (`btf_custom_path`): for kernels without BTF.
    pub fn with_types(kernel: &Kernel, types: Btf) -> Self {
        KernelTarget { types: Some(types), ..KernelTarget::new(kernel) }
    }

    /// The kernel with what programs attach to, by their names.
    pub(crate) fn with_programs(mut self, programs: Vec<(String, Arc<LoadedProgram>)>) -> Self {
        self.programs = programs;
        self
    }

    /// The program whose function a program attaches to.
    pub(super) fn attach_program(&self, program: &str) -> Option<&LoadedProgram> {
        // What was said last counts.
        let found = self.programs.iter().rev().find(|(name, _)| name == program);
        found.map(|(_, program)| program.as_ref())
    }

    /// The loaded BTF of a module that relocation found.
    pub(super) fn module_fd(&self, name: &str) -> Option<&BtfFd> {
        let modules = self.modules.get()?;
        let at = modules.types.iter().position(|module| module.name == name)?;
        modules.fds.get(at)
    }

    fn read_modules(&self) -> Result<Modules, TargetError> {
        let fail = |errno: Errno| TargetError::new("types of modules", errno.to_string());
        let base = self.btf()?;
        let mut modules = Modules { types: Vec::new(), fds: Vec::new() };
        for id in self.kernel.ids(ObjectKind::Btf) {
            let id = match id {
                Ok(id) => id,
                // Without the right to list them there are none to use.
                Err(Errno::EPERM | Errno::EINVAL | Errno::ENOSYS) => break,
                Err(errno) => return Err(fail(errno)),
            };
            let fd = match self.kernel.btf_by_id(BtfObjectId(id)) {
                Ok(fd) => fd,
                Err(Errno::ENOENT) => continue,
                Err(Errno::EPERM) => break,
                Err(errno) => return Err(fail(errno)),
            };
            let info = fd.info().map_err(fail)?;
            if !info.kernel || info.name == "vmlinux" {
                continue;
            }
            // A module whose types do not fit the kernel's is of no use, and no reason to fail.
            let Ok(bytes) = fd.bytes() else { continue };
            let Ok(btf) = Btf::parse_split(bytes, &base) else { continue };
            modules.types.push(ModuleTypes { name: info.name, btf });
            modules.fds.push(fd);
        }
        Ok(modules)
    }
}

fn why_no_types(error: &KernelBtfError) -> String {
    match error {
        KernelBtfError::Unavailable(Errno::ESRCH | Errno::ENOENT) => {
            "it has none: it was built without CONFIG_DEBUG_INFO_BTF, so give them with Loader::kernel_types"
                .to_owned()
        }
        KernelBtfError::Unavailable(errno) => format!("{error}: {errno}"),
        KernelBtfError::Malformed(source) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

impl Target for KernelTarget {
    fn btf(&self) -> Result<Btf, TargetError> {
        match &self.types {
            Some(types) => Ok(types.clone()),
            None => self
                .kernel
                .btf()
                .map_err(|error| TargetError::new("types of the kernel", why_no_types(&error))),
        }
    }

    fn modules(&self) -> Result<&[ModuleTypes], TargetError> {
        if self.types.is_some() {
            return Ok(&[]);
        }
        if self.modules.get().is_none() {
            // Nobody else can have set it meanwhile: the cell is not shared between threads.
            let _ = self.modules.set(self.read_modules()?);
        }
        Ok(self.modules.get().map_or(&[], |modules| &modules.types))
    }

    fn program_types(&self, program: &str) -> Result<Option<Btf>, TargetError> {
        let Some(other) = self.attach_program(program) else { return Ok(None) };
        let fail = |reason: String| TargetError::new("types of the program to attach to", reason);
        let info = other.info().map_err(|errno| fail(errno.to_string()))?;
        if info.btf_id.0 == 0 {
            return Err(fail(format!("program `{}` was loaded without any", info.name)));
        }
        let bytes = self.kernel.btf_by_id(info.btf_id).and_then(|btf| btf.bytes());
        let bytes = bytes.map_err(|errno| fail(errno.to_string()))?;
        Btf::parse(bytes).map(Some).map_err(|error| fail(error.to_string()))
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        let what = "kernel configuration";
        let unreadable = |error: std::io::Error| TargetError::new(what, error.to_string());
        let source = self.kernel.backend().config().map_err(|errno| {
            TargetError::new(
                what,
                format!("neither /boot/config-RELEASE nor /proc/config.gz can be read: {errno}"),
            )
        })?;
        kconfig::read(BufReader::new(source)).map_err(unreadable)
    }

    fn version_code(&self) -> Result<u32, TargetError> {
        self.kernel.version_code().map_err(|errno| TargetError::new("kernel version", errno.to_string()))
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        let what = "kernel symbols";
        let source = self
            .kernel
            .backend()
            .symbols()
            .map_err(|errno| TargetError::new(what, format!("/proc/kallsyms cannot be read: {errno}")))?;
        kallsyms::find(BufReader::new(source), names)
    }

    fn page_size(&self) -> u32 {
        self.kernel.page_size()
    }

    fn has(&self, feature: ConfigFeature) -> Result<bool, TargetError> {
        let failed = |reason: String| TargetError::new("kernel feature", reason);
        let probe = |feature| match self.kernel.has(feature) {
            Probe::Supported => Ok(true),
            Probe::Unsupported => Ok(false),
            other => Err(failed(format!("{other:?}"))),
        };
        match feature {
            ConfigFeature::BpfCookie => probe(Feature::BpfCookie),
            ConfigFeature::FullRangeOffset => probe(Feature::LdImm64FullRangeOff),
            ConfigFeature::SyscallWrapper => {
                self.kernel.backend().has_syscall_wrapper().map_err(|errno| failed(errno.to_string()))
            }
        }
    }
}

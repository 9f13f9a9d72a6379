//! A kernel that is not here: its types, and as much more of it as is known.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache, ReadRef, elf};
use skep_btf::{Btf, Kind};

use super::{ConfigFeature, ModuleTypes, Target, TargetError, kallsyms, kconfig};

/// Longest types of a kernel that are read. Those of the largest kernels have a tenth of it.
const BTF_MAX: u64 = 256 << 20;
/// Features of which a BTF's functions tell.
const SYSCALLS: [&[u8]; 5] =
    [b"__x64_sys_bpf", b"__arm64_sys_bpf", b"__s390x_sys_bpf", b"__riscv_sys_bpf", b"__se_sys_bpf"];

/// A kernel that is described: by its BTF, and by its modules, configuration, version, symbols and features as far as
/// they are known.
///
/// What is not described is not known, which is no failure: the plan for such a target says in
/// [`Plan::unknown`](super::Plan::unknown) what it would have to know.
///
/// ```
/// use skep::Spec;
/// use skep::reloc::BtfTarget;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = BtfTarget::open("testdata/btf/6.12.btf")?
///     .with_kconfig("# Linux/x86 6.12.107 Kernel Configuration\nCONFIG_HZ=250\n")?;
/// let plan = Spec::open("testdata/core_errors.o")?.relocate(&target)?;
/// let program = plan.program("missing_field").ok_or("no such program")?;
/// let poisoned = plan.poisoned(program);
/// assert!(poisoned[0].reach.is_reached());
/// let line = plan.btf.as_ref().and_then(|btf| program.source_line(btf, poisoned[0].insn));
/// println!("{} at {:?}", poisoned[0], line);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BtfTarget {
    btf: Btf,
    modules: Vec<ModuleTypes>,
    kconfig: Option<String>,
    version: Option<u32>,
    symbols: Option<Vec<u8>>,
    features: Vec<(ConfigFeature, bool)>,
}

impl BtfTarget {
    /// The kernel with these types, of which nothing else is known.
    pub fn new(btf: Btf) -> Self {
        BtfTarget {
            btf,
            modules: Vec::new(),
            kconfig: None,
            version: None,
            symbols: None,
            features: Vec::new(),
        }
    }

    /// The kernel whose types a file holds: raw BTF (`/sys/kernel/btf/vmlinux`), or an ELF file with a `.BTF` section
    /// (`vmlinux`, not a compressed `vmlinuz`). Of an ELF file only that section is read.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds no BTF.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TargetError> {
        let fail = |reason: String| TargetError::new("types of the kernel", reason);
        Ok(BtfTarget::new(Btf::parse(read_btf(path.as_ref()).map_err(fail)?).map_err(|error| {
            let split = "they may be those of a module, which need the kernel's beside them";
            fail(format!("{error} ({split})"))
        })?))
    }

    /// Adds a module with its types, which are split over the kernel's own.
    pub fn with_module(mut self, name: impl Into<String>, types: Btf) -> Self {
        self.modules.push(ModuleTypes { name: name.into(), btf: types });
        self
    }

    /// Adds a module whose types a file holds: raw split BTF (`/sys/kernel/btf/nf_nat`), or the module itself
    /// (`nf_nat.ko`, not compressed). It goes by the file's name up to the first dot.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its types are not split over this kernel's.
    pub fn open_module(self, path: impl AsRef<Path>) -> Result<Self, TargetError> {
        let path = path.as_ref();
        let fail = |reason: String| TargetError::new("types of a module", reason);
        let bytes = read_btf(path).map_err(fail)?;
        let types = Btf::parse_split(bytes, &self.btf).map_err(|error| fail(error.to_string()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').next().unwrap_or_default().replace('-', "_");
        Ok(self.with_module(name, types))
    }

    /// Describes its configuration: the bytes of a `.config` or `/boot/config-…`, or of `/proc/config.gz`. The version
    /// that the text begins with is taken too, unless one is given.
    ///
    /// # Errors
    ///
    /// When they are compressed and damaged, or hold no `CONFIG_…` line.
    pub fn with_kconfig(mut self, bytes: impl AsRef<[u8]>) -> Result<Self, TargetError> {
        let fail = |reason: String| TargetError::new("kernel configuration", reason);
        let text = kconfig::read(bytes.as_ref()).map_err(|error| fail(error.to_string()))?;
        if !text.lines().any(|line| line.starts_with("CONFIG_")) {
            return Err(fail("no line of it sets a CONFIG_… value: is it another file?".into()));
        }
        self.kconfig = Some(text);
        Ok(self)
    }

    /// Describes its version, as `KERNEL_VERSION(a, b, c)`.
    pub fn with_version_code(mut self, code: u32) -> Self {
        self.version = Some(code);
        self
    }

    /// Describes its version by text such as `6.12.107` or `5.10.0-32-amd64`.
    ///
    /// # Errors
    ///
    /// When the text does not begin with two numbers.
    pub fn with_version(self, text: &str) -> Result<Self, TargetError> {
        let code = kconfig::version_code(text).ok_or_else(|| {
            TargetError::new("kernel version", format!("`{text}` is none: write it as 6.12 or 6.12.107"))
        })?;
        Ok(self.with_version_code(code))
    }

    /// Describes its symbols: the text of `/proc/kallsyms` or `System.map`.
    pub fn with_symbols(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.symbols = Some(text.into());
        self
    }

    /// Describes a feature. Without, what the types show of it counts.
    pub fn with_feature(mut self, feature: ConfigFeature, there: bool) -> Self {
        self.features.retain(|(known, _)| *known != feature);
        self.features.push((feature, there));
        self
    }
}

impl Target for BtfTarget {
    fn btf(&self) -> Result<Btf, TargetError> {
        Ok(self.btf.clone())
    }

    fn modules(&self) -> Result<&[ModuleTypes], TargetError> {
        Ok(&self.modules)
    }

    fn knows_modules(&self) -> bool {
        !self.modules.is_empty()
    }

    fn kconfig(&self) -> Result<String, TargetError> {
        self.kconfig.clone().ok_or(TargetError::unknown("kernel configuration"))
    }

    fn version_code(&self) -> Result<u32, TargetError> {
        self.version
            .or_else(|| self.kconfig.as_deref().and_then(kconfig::version_of))
            .ok_or(TargetError::unknown("kernel version"))
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        let text = self.symbols.as_deref().ok_or(TargetError::unknown("kernel symbols"))?;
        kallsyms::find(text, names)
    }

    fn has(&self, feature: ConfigFeature) -> Result<bool, TargetError> {
        let described = self.features.iter().find(|(known, _)| *known == feature).map(|(_, there)| *there);
        let seen = || match feature {
            ConfigFeature::BpfCookie => has_helper(&self.btf, b"BPF_FUNC_get_attach_cookie"),
            ConfigFeature::FullRangeOffset => None,
            // Types of functions may be left out of BTF, so that their absence means nothing.
            ConfigFeature::SyscallWrapper => {
                SYSCALLS.iter().any(|name| self.btf.find(name, Kind::FUNC).is_some()).then_some(true)
            }
        };
        described.or_else(seen).ok_or(TargetError::unknown("kernel feature"))
    }
}

/// Whether a kernel has a helper, by the enumeration of all of them; none when its types lack that.
fn has_helper(btf: &Btf, name: &[u8]) -> Option<bool> {
    let id = btf.find(b"bpf_func_id", Kind::ENUM)?;
    Some(btf.ty(id).ok()?.enumerators().any(|enumerator| enumerator.name_bytes() == name))
}

/// The BTF in a file: all of it, or the `.BTF` section of an ELF file.
fn read_btf(path: &Path) -> Result<Vec<u8>, String> {
    let in_file = |reason: String| format!("{}: {reason}", path.display());
    let mut file = File::open(path).map_err(|error| in_file(error.to_string()))?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(|error| in_file(error.to_string()))?;
    match magic.as_slice() {
        [0x7f, b'E', b'L', b'F'] => {
            let cache = ReadCache::new(file);
            section(&cache).map_err(in_file)
        }
        [0x9f, 0xeb, ..] | [0xeb, 0x9f, ..] => {
            file.take(BTF_MAX).read_to_end(&mut magic).map_err(|error| in_file(error.to_string()))?;
            Ok(magic)
        }
        _ => Err(in_file(
            "it is neither BTF nor an ELF file with a .BTF section; unpack it first if it is compressed"
                .into(),
        )),
    }
}

fn section<'data>(data: impl ReadRef<'data>) -> Result<Vec<u8>, String> {
    let class = data.read_bytes_at(4, 1).map_err(|()| "it is cut off")?;
    match class {
        [class] if *class == elf::ELFCLASS32.0 => section_of::<elf::FileHeader32<Endianness>, _>(data),
        _ => section_of::<elf::FileHeader64<Endianness>, _>(data),
    }
}

fn section_of<'data, Elf: FileHeader<Endian = Endianness>, R: ReadRef<'data>>(
    data: R,
) -> Result<Vec<u8>, String> {
    let damaged = |error: object::Error| error.to_string();
    let header = Elf::parse(data).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let sections = header.sections(endian, data).map_err(damaged)?;
    let (_, section) = sections.section_by_name(endian, b".BTF").ok_or(
        "it has no .BTF section: was it built with CONFIG_DEBUG_INFO_BTF, and is it the uncompressed vmlinux?",
    )?;
    let size: u64 = section.sh_size(endian).into();
    if size > BTF_MAX {
        return Err(format!("its .BTF section is longer than {BTF_MAX} bytes"));
    }
    Ok(section.data(endian, data).map_err(damaged)?.to_vec())
}
